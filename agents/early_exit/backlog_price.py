"""Early exit with prices of backlog and energy, which stand for what later frames lose."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

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

STEEPNESS = 4.0
"""The price of energy grows with the scarcity of the battery to this power. With 4 it reacts soon
enough that the battery lasts, and lets the drain follow the networks."""


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


def scarcity(frames: npt.NDArray[Any], battery: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """How much faster the battery is drained than the frames pass, (...).

    It is 1 at the start, and above 1 if at this pace the battery will be empty before the last
    frame.

    Args:
        frames: The share of the frames that is left, (...).
        battery: The share of the battery that is left, (...).
    """
    return np.asarray(frames / np.maximum(battery, 1e-6))


class BacklogPriceSolver:
    """The decision of least cost + backlog prices * backlog + energy price * energy.

    The backlog is the one to be expected at the next arrival. The price of energy is multiplied
    by :func:`scarcity` to the power ``STEEPNESS``. This is one step of look-ahead with a linear
    value of the three backlogs and of the battery. At prices of 0 the decision is the slot's
    optimum.

    Args:
        scenario: The parameters.
        price: The cost of a second of backlog at device, link and edge, 1/s, and of a joule from
            the battery, 1/J: (4,) for all instances or (..., 4) for each of them. Higher prices
            leave shorter queues and a fuller battery to the frames that follow.
    """

    def __init__(self, scenario: Scenario, price: npt.ArrayLike) -> None:
        self.scenario = scenario
        self.price = np.asarray(price, dtype=np.float64)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        decisions, free, cost, energy = try_all(slot, state, self.scenario)
        rate = np.asarray(slot.arrival_rate)[..., None, None]
        later = backlog_at_next_arrival(free, rate)
        total = cost + (self.price[..., None, :3] * later).sum(axis=-1)
        frames = state.frames_left / self.scenario.horizon
        battery = state.battery / self.scenario.battery
        per_joule = self.price[..., 3] * scarcity(frames, battery) ** STEEPNESS
        total += per_joule[..., None] * energy
        return Solution(arrays.at(decisions, total.argmin(axis=-1)), cost.shape[-1])


# A run asks twice of one problem: for its head, and for the rule beside it.
@lru_cache(maxsize=4)
def tune_prices(problem: EarlyExitPartition, episodes: int = 64) -> tuple[float, ...]:
    """The four prices that do best on average over episodes of their own.

    First a price of backlog for all stages and a price of energy are chosen together from a
    grid; then each of the four prices is changed in turn where that helps.

    Args:
        problem: The problem that is played.
        episodes: The number of episodes that every price is tried on. More of them take longer
            and find prices that do well on other episodes too.

    Returns:
        The prices of backlog at device, link and edge, 1/s, and of energy, 1/J.
    """
    trace = tuning_episodes(problem, episodes)
    tried: dict[tuple[float, ...], float] = {}

    def mean_return(price: tuple[float, ...]) -> float:
        if price not in tried:
            agent = SolverAgent(problem, BacklogPriceSolver(problem.scenario, price))
            tried[price] = float(rollout(problem, agent, trace).returns.mean())
        return tried[price]

    grid = product((0.0, 1.0, 3.0, 10.0), (0.0, 0.1, 0.3, 1.0, 3.0))
    prices: list[tuple[float, ...]] = [(b, b, b, energy) for b, energy in grid]
    best = max(prices, key=mean_return)
    for place, factor in product(range(4), (0.0, 0.6, 1.7)):
        changed = tuple(p * factor if k == place else p for k, p in enumerate(best))
        best = max(best, changed, key=mean_return)
    return best
