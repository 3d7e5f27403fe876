"""Planners of distributed inference: they place the current block of every device, and plan on.

All believe that the network stays as it is in this round, and avoid places that a battery cannot
pay for.
"""

from __future__ import annotations

import numpy as np

from agents.protocol import Solution
from mec_gym.core.types import BoolArray
from mec_gym.distributed_inference.descent import coordinate_descent, descend_on_cost
from mec_gym.distributed_inference.exact import (
    exhaustive,
    mask_first_place,
    step_costs,
    viterbi,
)
from mec_gym.distributed_inference.horizon import (
    Horizon,
    all_devices,
    horizon_as_seen,
)
from mec_gym.distributed_inference.model import Decision, State, affordable
from mec_gym.distributed_inference.scenario import Scenario, Slot


def first_places_alone(
    h: Horizon, slot: Slot, state: State, scenario: Scenario, may_move: BoolArray | None = None
) -> Solution:
    """The first places of each device's fastest plan alone, fields (..., N, ...).

    Args:
        h: What the plan is made for.
        slot: The round.
        state: Before it.
        scenario: The parameters.
        may_move: Which moves there are, (M + 1, M + 1); None: all.
    """
    place, move = step_costs(all_devices(h), scenario)
    if may_move is not None:
        move = np.where(may_move, move, 1e6)
    place = mask_first_place(place, affordable(slot, state, scenario))
    return Solution(Decision(place=viterbi(place, move, state.place)[0][..., 0]), 1)


class ViterbiSolver:
    """Each device's fastest plan as if it were alone: exact without contention.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...), anew in every round."""
        return first_places_alone(
            horizon_as_seen(slot, self.scenario.blocks), slot, state, self.scenario
        )


class CoordinateDescentSolver:
    """All devices' plans together, planned anew in every round: what a planner can know.

    Args:
        scenario: The parameters.
        sweeps: Rounds through all devices, at the most.
        deadlines: Whether it plans for the reward, penalties of late tasks included, or for
            the sum of delays only.
    """

    def __init__(self, scenario: Scenario, sweeps: int = 8, deadlines: bool = False) -> None:
        self.scenario = scenario
        self.sweeps = sweeps
        self.deadlines = deadlines

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        s = self.scenario
        h = horizon_as_seen(slot, s.blocks)
        allowed = affordable(slot, state, s)
        plan = coordinate_descent(h, s, state.place, sweeps=self.sweeps, allowed=allowed)
        if self.deadlines:
            plan = descend_on_cost(
                h, s, state.place, plan, state.delay, slot.deadline, self.sweeps, allowed
            )
        return Solution(Decision(place=plan[..., 0]), self.sweeps * s.devices)


class ExhaustiveSolver:
    """The best of all joint plans if the network stays as it is, in every round; for small cases.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...); batteries are not looked at.

        Raises:
            ValueError: More joint plans than exhaustive search takes.
        """
        s = self.scenario
        h = horizon_as_seen(slot, s.blocks)
        plan, _ = exhaustive(h, s, state.place, state.delay, slot.deadline)
        return Solution(Decision(place=plan[..., 0]), (s.servers + 1) ** (s.devices * s.blocks))
