"""A rule that spreads a battery over the tasks of a drive by a price of energy."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from agents.protocol import Solution
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.core.seeds import tuning_episodes
from mec_gym.training_offload.exact import FLOAT32_MARGIN, SlotFrontier
from mec_gym.training_offload.model import State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario, Slot


class EnergyPriceSolver:
    """The split that minimises delay + price * energy, with one energy price for all tasks.

    This is the answer to the Lagrangian relaxation of the battery (see
    ``mec_gym.training_offload.exact.total_delay_bound``), with a price that is fixed beforehand
    instead of one per episode.

    Args:
        scenario: The parameters.
        price: The energy price, s/J: one for all tasks, or one per task (...). A higher price
            saves more energy and takes longer; with 0 the split is the fastest one.
    """

    def __init__(self, scenario: Scenario, price: float | npt.NDArray[np.float64]) -> None:
        self.scenario = scenario
        self.price = np.asarray(price)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve every task of a batch, fields (...), by a split that the battery can pay for."""
        frontier = SlotFrontier(slot, self.scenario, margin=FLOAT32_MARGIN)
        corners = frontier.corners()
        limit = state.battery * (1.0 - FLOAT32_MARGIN)
        too_dear = np.isfinite(corners.delay) & (corners.energy > limit[..., None])
        ruled_out = too_dear | (corners.delay > self.scenario.deadline)
        energy = np.where(ruled_out, 0.0, corners.energy)
        cost = np.where(ruled_out, np.inf, corners.delay + self.price[..., None] * energy)
        choice = cost.argmin(axis=-1)
        decision = frontier.decide(corners, choice)
        if too_dear.any():
            # Between two corners, the split that spends just what is left may be better.
            split, at_limit = frontier.best(limit)
            best = np.take_along_axis(cost, choice[..., None], axis=-1)[..., 0]
            # Where nothing is affordable, both are infinite, and the cheapest split is taken.
            spend_all = ~(best < split.delay + self.price * split.energy)
            decision = arrays.where(spend_all, at_limit, decision)
        return Solution(decision=decision, evaluations=0)


# A run asks twice of one problem: for its head, and for the rule beside it.
@lru_cache(maxsize=4)
def tune_energy_price(problem: TrainingOffload, episodes: int = 128) -> float:
    """The energy price with the highest mean return over episodes that nobody else plays.

    Args:
        problem: The problem that is played.
        episodes: The number of episodes that every price of a grid is tried on.

    Returns:
        The energy price, s/J.
    """
    trace = tuning_episodes(problem, episodes)

    def cost(price: float) -> float:
        agent = SolverAgent(problem, EnergyPriceSolver(problem.scenario, price))
        return -float(rollout(problem, agent, trace).returns.mean())

    def best_of(prices: npt.NDArray[np.float64]) -> float:
        return float(min(prices, key=cost))

    coarse = best_of(np.concatenate([[0.0], np.geomspace(0.01, 10.0, 13)]))
    if coarse == 0.0:
        return 0.0
    return best_of(coarse * np.geomspace(0.6, 1 / 0.6, 9))
