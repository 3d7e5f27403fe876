"""Rules of pipeline training that look at the slot at hand only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.protocol import Solution
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.pipeline_training.exact import plan_shares, slot_optimum
from mec_gym.pipeline_training.model import NOWHERE, Decision, State, valid_plan
from mec_gym.pipeline_training.plans import all_plans
from mec_gym.pipeline_training.scenario import Scenario, Slot
from mec_gym.pipeline_training.subsets import least_period


def best_plans(values: FloatArray, scenario: Scenario) -> IntArray:
    """Return the plan of the largest value, (..., L).

    Args:
        values: A value for every plan, (..., P).
        scenario: The parameters.
    """
    return np.asarray(all_plans(scenario.blocks, scenario.devices).place[values.argmax(axis=-1)])


@dataclass(frozen=True, slots=True)
class KeepSolver:
    """Keeps every block where it is; blocks whose device has left join the block before them.

    At first, everything is on the fastest device.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        plan = valid_plan(slot.present, slot.speed, state.place)
        return Solution(decision=Decision(place=plan), evaluations=0)


@dataclass(frozen=True, slots=True)
class SingleDeviceSolver:
    """Trains everything on the fastest device, without a pipeline.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        # Where nothing is asked for, everything goes to the fastest device.
        plan = valid_plan(slot.present, slot.speed, np.full_like(state.place, NOWHERE))
        return Solution(decision=Decision(place=plan), evaluations=0)


@dataclass(frozen=True, slots=True)
class ReplanSolver:
    """Takes the fastest plan of every slot, whatever moving costs.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        shares = plan_shares(slot, self.scenario)
        plan = best_plans(shares, self.scenario)
        return Solution(decision=Decision(place=plan), evaluations=shares.shape[-1])


@dataclass(frozen=True, slots=True)
class MyopicSolver:
    """Takes the plan that earns most in the slot at hand, moving included.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        count = len(all_plans(self.scenario.blocks, self.scenario.devices).place)
        return Solution(slot_optimum(slot, state, self.scenario)[0], evaluations=count)


@dataclass(frozen=True, slots=True)
class BalancedSolver:
    """Takes the plan of least period of every slot, by the dynamic program over subsets.

    The period is what counts for a pipeline that is never flushed. The program is exact for it
    where there are too many plans to try.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        s = self.scenario
        work, bits = s.microbatch_work, s.microbatch_bits
        _, plan = least_period(work, bits, slot.speed, slot.link, slot.present)
        return Solution(decision=Decision(place=plan), evaluations=1)
