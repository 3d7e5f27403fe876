"""The exact optimum of the task at hand, blind to the tasks to come."""

from __future__ import annotations

from agents.protocol import Solution
from mec_gym.training_offload.exact import FLOAT32_MARGIN, Resources, SlotFrontier
from mec_gym.training_offload.model import State
from mec_gym.training_offload.scenario import Scenario, Slot


class ExactSolver:
    """The closed form of [Chen2025] eq. (16)-(21) under what is left of the battery.

    With one task this is the optimum. With several it does what an ideal search for the paper's
    problem does: it spends the battery as if every task were the last.

    Args:
        scenario: The parameters.
        resources: What may be used besides the device. Without the edge this is the end-cloud
            scheme of [Chen2025], without the cloud its end-edge scheme; without both, everything
            stays on the device.
        margin: The relative distance that is kept from hand-overs and from the energy limit.
    """

    def __init__(
        self,
        scenario: Scenario,
        resources: Resources = Resources(),
        margin: float = FLOAT32_MARGIN,
    ) -> None:
        self.scenario = scenario
        self.resources = resources
        self.margin = margin

    def solve(self, slot: Slot, state: State) -> Solution:
        """The split of least delay that the battery can pay, else the cheapest one."""
        frontier = SlotFrontier(slot, self.scenario, self.resources, self.margin)
        return Solution(decision=frontier.best(state.battery)[1], evaluations=0)
