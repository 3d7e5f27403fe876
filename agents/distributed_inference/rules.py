"""Rules of distributed inference: fixed places, greedy ones, and Neurosurgeon's split.

All believe that the network stays as it is in this round. Where a battery cannot pay for a place,
they avoid it, but for the two rules of fixed places, which do not look.
"""

from __future__ import annotations

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
    demand_of,
    first_round,
    horizon_as_seen,
    take_devices,
)
from mec_gym.distributed_inference.model import Decision, State, affordable
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
        return first_places_alone(first_round(horizon_as_seen(slot, s.blocks)), slot, state, s)


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
        return first_places_alone(horizon_as_seen(slot, s.blocks), slot, state, s, stay)
