"""Early exit with a backlog price: it stands for what a frame costs those that come after it."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from agents.protocol import Solution
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.core.seeds import tuning_episodes
from mec_gym.core.types import FloatArray
from mec_gym.early_exit.exact import try_all
from mec_gym.early_exit.model import State
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario, Slot


def backlog_at_next_arrival(free: FloatArray, rate: npt.ArrayLike) -> FloatArray:
    """The expected backlog when the next frame comes, (...) s.

    The time I until then is Exp(rate), so E[max(free - I, 0)] = free - (1 - exp(-rate free)) /
    rate.

    Args:
        free: When a stage is free, (...) s from now.
        rate: The arrival rate, (...) frames/s.
    """
    rate = np.maximum(rate, 1e-9)
    return np.asarray(free + np.expm1(-rate * free) / rate)


class BacklogPriceSolver:
    """The decision that minimises cost + backlog price * expected backlog at the next arrival.

    This is one step of look-ahead with a linear value of the three backlogs. At a price of 0
    the decision is the slot's optimum.

    Args:
        scenario: The parameters.
        price: The cost of a second of backlog at device, link and edge, 1/s: (3,) for all
            instances or (..., 3) for each of them. A higher price leaves shorter queues to the
            frames that follow.
    """

    def __init__(self, scenario: Scenario, price: npt.ArrayLike) -> None:
        self.scenario = scenario
        self.price = np.asarray(price, dtype=np.float64)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        decisions, free, cost = try_all(slot, state, self.scenario)
        rate = np.asarray(slot.arrival_rate)[..., None, None]
        later = backlog_at_next_arrival(free, rate)
        total = cost + (self.price[..., None, :] * later).sum(axis=-1)
        return Solution(arrays.at(decisions, total.argmin(axis=-1)), cost.shape[-1])


# A run asks twice of one problem: for its head, and for the rule beside it.
@lru_cache(maxsize=4)
def tune_backlog_price(problem: EarlyExitPartition, episodes: int = 64) -> tuple[float, ...]:
    """The three backlog prices that do best on average over episodes of their own.

    First one price for all stages is chosen from a grid; then each stage's price is changed in
    turn where that helps.

    Args:
        problem: The problem that is played.
        episodes: The number of episodes that every price is tried on. More of them take longer
            and find prices that do well on other episodes too.

    Returns:
        The prices of device, link and edge, 1/s.
    """
    trace = tuning_episodes(problem, episodes)

    def mean_return(price: tuple[float, ...]) -> float:
        agent = SolverAgent(problem, BacklogPriceSolver(problem.scenario, price))
        return float(rollout(problem, agent, trace).returns.mean())

    tried = {(p,) * 3: mean_return((p,) * 3) for p in (0.0, *np.geomspace(0.1, 30.0, 8))}
    best = max(tried, key=lambda p: tried[p])
    for stage, factor in product(range(3), (0.0, 0.4, 2.5)):
        price = tuple(p * factor if s == stage else p for s, p in enumerate(best))
        if price not in tried:
            tried[price] = mean_return(price)
        if tried[price] > tried[best]:
            best = price
    return tuple(float(p) for p in best)
