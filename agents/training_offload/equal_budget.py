"""A rule that spreads a battery evenly over the tasks of a drive."""

from __future__ import annotations

import numpy as np

from agents.protocol import Solution
from mec_gym.training_offload.exact import FLOAT32_MARGIN, SlotFrontier
from mec_gym.training_offload.model import State
from mec_gym.training_offload.scenario import Scenario, Slot


class EqualBudgetSolver:
    """The fastest split that spends at most battery / tasks left; if none does, the cheapest.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve every task of a batch, fields (...)."""
        frontier = SlotFrontier(slot, self.scenario, margin=FLOAT32_MARGIN)
        budget = state.battery / np.maximum(state.tasks_left, 1.0)
        return Solution(decision=frontier.best(budget)[1], evaluations=0)
