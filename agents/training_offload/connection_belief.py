"""What can be believed of a hidden connection time, given all that is seen of it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mec_gym.core.types import FloatArray
from mec_gym.training_offload.battery_value import draw_tasks
from mec_gym.training_offload.scenario import Scenario, Slot

if TYPE_CHECKING:
    from scipy.spatial import KDTree

_TASKS = 100_000
"""Tasks that are looked through."""
_NEAREST = 128
"""Those of them that look most like the task at hand."""
_POINTS = 16
"""Of these, the evenly spaced quantiles that are kept."""


class ConnectionBelief:
    """Equally likely connection times of a task: those of the tasks that look most like it.

    What is compared is what the true place in the cell shows in: the measured place, the measured
    speed, and the links to the servers of this cell, which are faster the closer their station
    is. Up- and downlink of a server share one random factor, so a server is one observation. Each
    is weighed by its error. The T_ct of a task that looks alike is scaled by the ratio of both
    estimates, each plus the time that the error of the place stands for; so a T_ct that is
    measured without error stays exact.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        if scenario.road is None:
            return
        self._tree, self._tasks = _reference(scenario)
        self._error = scenario.road.position_error_m / scenario.road.mean_speed

    def connection_times(self, slot: Slot) -> FloatArray:
        """Equally likely times of tasks (...), in ascending order, (..., Q) s; Q is 1 if known."""
        if self.scenario.road is None:
            return np.asarray(slot.connection_time)[..., None]
        _, nearest = self._tree.query(_features(slot, self.scenario), k=_NEAREST)
        ratio = self._tasks.connection_time / (self._tasks.connection_estimate + self._error)
        ratios = np.sort(ratio[nearest], axis=-1)
        middle = _NEAREST // _POINTS // 2
        kept: FloatArray = ratios[..., middle :: _NEAREST // _POINTS]
        return kept * (slot.connection_estimate + self._error)[..., None]


@lru_cache(maxsize=4)
def _reference(scenario: Scenario) -> tuple[KDTree, Slot]:
    """Tasks that nobody plays, and a tree of what is compared of them."""
    from scipy.spatial import KDTree  # takes most of a second to load

    tasks = draw_tasks(scenario, 4, _TASKS)
    return KDTree(_features(tasks, scenario)), tasks


def _features(slot: Slot, scenario: Scenario) -> FloatArray:
    """Everything that is compared, in units of its error, (..., 3)."""
    road = scenario.road
    assert road is not None
    # An error of 0 would let nothing else count.
    place = max(road.position_error_m, road.cell_m / 100)
    speed = max(road.speed_error, road.max_speed / 100)
    link = max(scenario.link_spread, 0.05) / math.sqrt(scenario.servers)
    rates = np.log(slot.uplink[..., 0, :] / np.array(scenario.server_uplink)).mean(axis=-1)
    return np.stack([slot.position / place, slot.speed / speed, rates / link], axis=-1)
