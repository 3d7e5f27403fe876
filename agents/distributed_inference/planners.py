"""Planners of distributed inference: they plan the blocks to come and place the current one.

All of them believe that the network stays as it is in this round. But for the exhaustive one, they
avoid places that a battery cannot pay for.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """Plan each device's fastest way as if it were alone, and return the first places, (..., N).

    Args:
        h: The blocks that are planned for, and what they meet.
        slot: The round, its fields of shape (..., N, ...).
        state: The state before the round, its fields of shape (..., N).
        scenario: The parameters of the problem.
        may_move: Which moves from place to place are allowed, (M + 1, M + 1); None for all.
    """
    place, move = step_costs(all_devices(h), scenario)
    if may_move is not None:
        move = np.where(may_move, move, 1e6)
    place = mask_first_place(place, affordable(slot, state, scenario))
    plan, _ = viterbi(place, move, state.place)
    return Solution(decision=Decision(place=plan[..., 0]), evaluations=1)


@dataclass(frozen=True, slots=True)
class ViterbiSolver:
    """Plans each device's fastest way as if it were alone, which is exact without contention.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of rounds, fields (...); every round is planned anew."""
        h = horizon_as_seen(slot, self.scenario.blocks)
        return first_places_alone(h, slot, state, self.scenario)


@dataclass(frozen=True, slots=True)
class CoordinateDescentSolver:
    """Plans all devices together, anew in every round: the most that a planner can know.

    Attributes:
        scenario: The parameters of the problem.
        sweeps: Largest number of rounds through all devices; more of them find better plans.
        deadlines: Whether it plans for the reward, penalties of late tasks included, or for
            the sum of delays only.
    """

    scenario: Scenario
    sweeps: int = 8
    deadlines: bool = False

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of rounds, fields (...)."""
        s = self.scenario
        h = horizon_as_seen(slot, s.blocks)
        allowed = affordable(slot, state, s)
        plan = coordinate_descent(h, s, state.place, sweeps=self.sweeps, allowed=allowed)
        if self.deadlines:
            plan = descend_on_cost(
                h, s, state.place, plan, state.delay, slot.deadline, self.sweeps, allowed
            )
        return Solution(decision=Decision(place=plan[..., 0]), evaluations=self.sweeps * s.devices)


@dataclass(frozen=True, slots=True)
class ExhaustiveSolver:
    """Tries all joint plans in every round and takes the best one; for small cases.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of rounds, fields (...); batteries are not looked at.

        Raises:
            ValueError: There are more joint plans than exhaustive search takes.
        """
        s = self.scenario
        h = horizon_as_seen(slot, s.blocks)
        plan, _ = exhaustive(h, s, state.place, state.delay, slot.deadline)
        plans = (s.servers + 1) ** (s.devices * s.blocks)
        return Solution(decision=Decision(place=plan[..., 0]), evaluations=plans)
