"""Plans for the next slots, with the departures that are announced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.protocol import Solution
from mec_gym.core import arrays
from mec_gym.core.types import IntArray
from mec_gym.pipeline_training.exact import best_way
from mec_gym.pipeline_training.model import Decision, State
from mec_gym.pipeline_training.scenario import Scenario, Slot


@dataclass(frozen=True, slots=True)
class LookAheadSolver:
    """Plays the first of the plans that are best for the next slots, as it expects them.

    It expects speeds and rates to stay as they are. Devices leave when it is announced, and
    nobody returns. After the last of these slots nothing counts, so with few of them moving
    seems dear.

    Attributes:
        scenario: The parameters of the problem.
        horizon: The number of slots that are planned, the one at hand included.
    """

    scenario: Scenario
    horizon: int

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        axes = state.place.ndim - 1
        slots, states = arrays.join_axes(slot, axes), arrays.join_axes(state, axes)
        plans = [
            self._first(arrays.at(slots, i), place, int(left))
            for i, (place, left) in enumerate(zip(states.place, states.slots_left, strict=True))
        ]
        plan = np.stack(plans).reshape(state.place.shape)
        return Solution(decision=Decision(place=plan), evaluations=self.horizon)

    def _first(self, slot: Slot, place: IntArray, left: int) -> IntArray:
        expected = expected_slots(slot, self.scenario, max(1, min(self.horizon, left)))
        return np.asarray(best_way(expected, place, self.scenario)[1][0])


def expected_slots(slot: Slot, scenario: Scenario, count: int) -> Slot:
    """Return the next slots as one must expect them, fields (count, ...).

    Args:
        slot: The slot at hand, fields without batch axes.
        scenario: The parameters.
        count: The number of slots, the one at hand included.
    """
    wide = arrays.map_arrays(lambda a: np.broadcast_to(a, (count, *a.shape)), slot)
    later = np.arange(count)[:, None]
    stays = (slot.leaves > later) | (slot.leaves > scenario.notice)
    fields = {**arrays.as_dict(wide), "present": slot.present & stays}
    return arrays.from_dict(Slot, fields)
