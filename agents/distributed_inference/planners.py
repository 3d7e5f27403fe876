"""Planners of distributed inference: they plan the blocks to come and place the current one.

All of them believe that the network stays as it is in this round. But for the exhaustive one, they
avoid places that a battery cannot pay for.
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.protocol import Solution
from mec_gym.core.types import FloatArray
from mec_gym.distributed_inference.descent import coordinate_descent, descend_on_cost
from mec_gym.distributed_inference.exact import (
    exhaustive,
    mask_first_place,
    step_costs_when_due,
    viterbi,
)
from mec_gym.distributed_inference.horizon import (
    all_devices,
    horizon_as_seen,
)
from mec_gym.distributed_inference.model import Decision, State, affordable
from mec_gym.distributed_inference.scenario import Scenario, Slot


def first_places_alone(
    place: FloatArray, move: FloatArray, slot: Slot, state: State, scenario: Scenario
) -> Solution:
    """Plan each device's best way as if it were alone, and return the first places, (..., N).

    Args:
        place: Cost of the places, (..., N, K', M + 1).
        move: Cost of the moves from the place before to the next, (..., N, K', M + 1, M + 1).
        slot: The round, its fields of shape (..., N, ...).
        state: The state before the round, its fields of shape (..., N).
        scenario: The parameters of the problem.
    """
    place = mask_first_place(place, affordable(slot, state, scenario))
    plan, _ = viterbi(place, move, state.place)
    return Solution(decision=Decision(place=plan[..., 0]), evaluations=1)


@dataclass(frozen=True, slots=True)
class ViterbiSolver:
    """Plans each device's best way as if it were alone, which is exact without contention.

    That is the fastest way if the whole task has the deadline, and the one that costs least if
    each block has one.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of rounds, fields (...); every round is planned anew."""
        h = all_devices(horizon_as_seen(slot, self.scenario.blocks))
        costs = step_costs_when_due(h, self.scenario)
        return first_places_alone(*costs, slot, state, self.scenario)


@dataclass(frozen=True, slots=True)
class CoordinateDescentSolver:
    """Plans all devices together, anew in every round: the most that a planner can know.

    Attributes:
        scenario: The parameters of the problem.
        sweeps: Largest number of rounds through all devices; more of them find better plans.
        deadlines: Whether it plans for the reward, penalties of what is late included, or for
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
            plan = descend_on_cost(h, s, state.place, plan, state.delay, self.sweeps, allowed)
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
        plan, _ = exhaustive(h, s, state.place, state.delay)
        plans = (s.servers + 1) ** (s.devices * s.blocks)
        return Solution(decision=Decision(place=plan[..., 0]), evaluations=plans)
