"""Rules of distributed inference: fixed places, greedy ones, and Neurosurgeon's split.

All of them believe that the network stays as it is in this round. But for the two rules of fixed
places, they avoid places that a battery cannot pay for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.distributed_inference.planners import first_places_alone
from agents.protocol import Solution
from mec_gym.core import arrays
from mec_gym.distributed_inference.exact import (
    mask_first_place,
    step_costs,
    viterbi,
)
from mec_gym.distributed_inference.horizon import (
    Demand,
    all_devices,
    demand_of,
    first_round,
    horizon_as_seen,
    take_devices,
)
from mec_gym.distributed_inference.model import Decision, State, affordable
from mec_gym.distributed_inference.scenario import Scenario, Slot


@dataclass(frozen=True, slots=True)
class FixedPlaceSolver:
    """Leaves everything on the devices, or sends it to the station that a device hears best.

    Attributes:
        on_edge: Whether blocks are sent to the edge: to the station of the highest uplink rate
            at the moment when the first block of a task is placed; later blocks stay there.
    """

    on_edge: bool

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of rounds, fields (...)."""
        place = np.zeros_like(state.place)
        if self.on_edge:
            nearest = slot.uplink.argmax(axis=-1) + 1
            place = np.where(state.place > 0, state.place, nearest)
        return Solution(decision=Decision(place=place), evaluations=0)


@dataclass(frozen=True, slots=True)
class GreedyBlockSolver:
    """Places each block where it is done soonest, blind to other devices and to later blocks.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of rounds, fields (...)."""
        s = self.scenario
        h = all_devices(first_round(horizon_as_seen(slot, s.blocks)))
        return first_places_alone(*step_costs(h, s), slot, state, s)


@dataclass(frozen=True, slots=True)
class SequentialGreedySolver:
    """Places one device after the other where its block costs all devices together least.

    That cost is the marginal social cost of this round, given the devices that have chosen;
    the solver is blind to later blocks.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of rounds, fields (...)."""
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
        return Solution(decision=Decision(place=plan[..., 0]), evaluations=s.devices)


@dataclass(frozen=True, slots=True)
class SplitSolver:
    """Neurosurgeon [Kang2017] for each device: it splits once, then stays on one server.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of rounds, fields (...); a task that has left its device stays put."""
        s = self.scenario
        # Only the move from the device to a server is allowed.
        stay = np.eye(s.servers + 1, dtype=np.bool_)
        stay[0, :] = True
        place, move = step_costs(all_devices(horizon_as_seen(slot, s.blocks)), s)
        return first_places_alone(place, np.where(stay, move, 1e6), slot, state, s)
