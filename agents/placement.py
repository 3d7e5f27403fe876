"""Distributed inference: planners and rules that place the current block of every device.

All believe that the network stays as it is in this round. Where a battery cannot pay for a
place, planners avoid it; the two rules of fixed places do not look.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.protocol import Solution
from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, IntArray
from mec_gym.distributed_inference.descent import coordinate_descent, descend_on_cost
from mec_gym.distributed_inference.exact import (
    exhaustive,
    joint_costs,
    mask_first_place,
    plan_alone,
    step_costs,
    viterbi,
)
from mec_gym.distributed_inference.horizon import (
    Demand,
    Horizon,
    all_devices,
    demand_of,
    first_round,
    horizon_as_seen,
    horizon_of_trace,
    take_devices,
)
from mec_gym.distributed_inference.model import Decision, State, affordable
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Scenario, Slot


class FixedPlaceSolver:
    """Everything on the devices, or each device's blocks on the station it hears best.

    Args:
        on_edge: On the nearest edge: the station of the highest uplink rate at the moment a
            task's first block is placed; later blocks stay.
    """

    def __init__(self, on_edge: bool) -> None:
        self.on_edge = on_edge

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        if not self.on_edge:
            return Solution(Decision(place=np.zeros_like(state.place)), 0)
        nearest = slot.uplink.argmax(axis=-1) + 1
        return Solution(Decision(place=np.where(state.place > 0, state.place, nearest)), 0)


def _alone(
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


class GreedyBlockSolver:
    """Each device's current block where it is done soonest, blind to others and to later blocks.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        s = self.scenario
        return _alone(first_round(horizon_as_seen(slot, s.blocks)), slot, state, s)


class SequentialGreedySolver:
    """One device after the other, its current block where that costs all together least.

    Marginal social cost of this round, given the devices that have chosen; blind to later
    blocks.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        s = self.scenario
        h = first_round(horizon_as_seen(slot, s.blocks))
        allowed = affordable(slot, state, s)
        zero = np.zeros(h.load.shape)
        others = Demand(**{name: zero.copy() for name in arrays.field_names(Demand)})
        plan = np.zeros((*state.place.shape, 1), dtype=np.int64)
        for n in range(s.devices):
            shared = others if s.contention else None
            place, move = step_costs(take_devices(h, n), s, shared)
            start = state.place[..., n]
            plan[..., n, :] = viterbi(mask_first_place(place, allowed[..., n, :]), move, start)[0]
            mine = demand_of(h, n, plan, state.place, s)
            others = arrays.map_arrays(np.add, others, mine)
        return Solution(Decision(place=plan[..., 0]), s.devices)


class SplitSolver:
    """Neurosurgeon (Kang et al. 2017) for each device: one split, then one server to the end.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...): a device that has left home stays where it is."""
        s = self.scenario
        # Once away nothing moves any more: all other moves are ruled out.
        stay = np.eye(s.servers + 1, dtype=np.bool_)
        stay[0, :] = True
        return _alone(horizon_as_seen(slot, s.blocks), slot, state, s, stay)


class ViterbiSolver:
    """Each device's fastest plan as if it were alone: exact without contention.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...), anew in every round."""
        return _alone(horizon_as_seen(slot, self.scenario.blocks), slot, state, self.scenario)


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


def clairvoyant_plan(problem: DistributedInference, trace: Slot) -> IntArray:
    """Coordinate descent on the true trace: the reference for what foresight is worth.

    Blind to batteries. The best of descents on the reward from four beginnings, two of them
    the ends of descents on the sum of delays; not always the optimum (from which it was 0 to
    4 % away on instances small enough to try everything).

    Args:
        problem: What is played.
        trace: Fields (n, T, ...).

    Returns:
        Places (n, T, N).
    """
    s = problem.scenario
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=np.int64)
    shape = (*home.shape, s.blocks)
    best_alone = plan_alone(h, s, home)[0]
    beginnings = (
        coordinate_descent(h, s, home, plan=best_alone),
        coordinate_descent(h, s, home, plan=np.zeros(shape, dtype=np.int64)),
        best_alone,
        np.random.default_rng(0).integers(s.servers + 1, size=shape),
    )
    deadline = trace.deadline[:, :: s.blocks]
    spent = np.zeros(deadline.shape)
    plans = np.stack([descend_on_cost(h, s, home, p, spent, deadline) for p in beginnings])
    best = joint_costs(h, s, home, plans, spent, deadline)[0].argmin(axis=0)
    plan = np.take_along_axis(plans, best[None, ..., None, None], axis=0)[0]  # (n, J, N, K)
    rounds: IntArray = np.swapaxes(plan, -1, -2).reshape(len(plan), s.rounds, s.devices)
    return rounds


class ClairvoyantAgent:
    """Plays :func:`clairvoyant_plan` of the episodes that it has been shown beforehand.

    Args:
        problem: The problem played.
    """

    def __init__(self, problem: DistributedInference) -> None:
        self.problem = problem
        self._plan: IntArray | None = None

    def foresee(self, trace: Slot) -> None:
        """Plan for the episodes of a trace, fields (n, T, ...)."""
        self._plan = clairvoyant_plan(self.problem, trace)

    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions for observations (n, observation); ``state`` is the round.

        Raises:
            ValueError: It has not been shown these episodes.
        """
        batch = np.shape(observation)[:-1]
        if self._plan is None or math.prod(batch) != len(self._plan):
            raise ValueError("agent must foresee the episodes that it plays, and has not")
        t = 0 if state is None else state
        return self._plan[:, t].reshape(*batch, -1), t + 1
