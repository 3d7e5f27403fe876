"""What a joule is worth on a drive: the value of the battery, by a stochastic program.

The tasks of a drive are taken to be independent and equally distributed (see
:func:`independent_tasks`), and T_ct to be known when a task is decided. So the value of m tasks
depends on the battery alone, and :mod:`mec_gym.training_offload.program` fits it on tasks of its
own. Values are returns: sums of -T / D_m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.seeds import tuning_generator
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.program import Choices, fit_values
from mec_gym.training_offload.scenario import Scenario, Slot

UNITS = 16_000
"""The units that a full battery is divided into."""
BELOW = 1.0 - 1e-9
"""A factor that makes sure that an energy is rounded down."""
_FITTED_ON = 4_000
"""Tasks that the value is fitted on."""
_CORRELATION = 1e-3
"""Tasks count as independent if speed and place one slot apart are correlated by less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryValue:
    """The value of the battery for each number of tasks to come.

    Attributes:
        unit: One unit of the battery, J.
        nodes: For m = 1 ... T tasks, the units at which the value was computed.
        values: What can be expected of m tasks, for each number of units, (T + 1, UNITS + 1).
    """

    unit: float
    nodes: tuple[IntArray, ...]
    values: FloatArray

    def units(self, battery: FloatArray) -> IntArray:
        """The whole units in a battery (...) J, (...)."""
        whole = np.floor(battery / self.unit / BELOW).astype(np.int64)
        return np.clip(whole, 0, self.values.shape[1] - 1)

    def of(self, tasks: IntArray, battery: FloatArray) -> FloatArray:
        """The value of so many tasks to come (...) with a battery (...) J, (...)."""
        return np.asarray(self.values[tasks, self.units(battery)])


def independent_tasks(scenario: Scenario) -> bool:
    """Whether the tasks of an episode are independent, or all but independent.

    Sizes and rates always are. On a road, what a drive's speed and place say about those one slot
    later fades: the speeds of ``drive`` are correlated by 3e-4, its places by less than 1e-6.
    """
    road = scenario.road
    if road is None:
        return True
    steps = math.floor(scenario.slot_s / road.step_s)
    a = road.memory
    if a**steps >= _CORRELATION or a == 1.0:
        return False
    # The variance of the way that is made in a slot, a sum of correlated speeds.
    sums = steps * (1.0 + a) / (1.0 - a) - 2.0 * a * (1.0 - a**steps) / (1.0 - a) ** 2
    spread = road.speed_std * road.step_s * math.sqrt(max(sums, 0.0)) / road.cell_m
    return math.exp(-2.0 * (math.pi * spread) ** 2) < _CORRELATION


def draw_tasks(scenario: Scenario, part: int, count: int) -> Slot:
    """Draw tasks that nobody else plays, fields (count, ...), each one as the scenario draws it.

    Their sizes are stratified: each of ``count`` equal parts of the range holds one. A size is
    drawn apart from everything else of its task, so a mean over the tasks is as unbiased as one
    over independent tasks; it is only more exact.

    Args:
        scenario: The parameters.
        part: The number of the generator, see :func:`mec_gym.core.seeds.tuning_generator`.
        count: The number of tasks.
    """
    rng = tuning_generator(part)
    trace = scenario.sample(rng, -(-count // scenario.horizon))
    tasks = arrays.at(arrays.join_axes(trace, 2), slice(count))
    low, high = scenario.work
    place = (rng.permutation(count) + rng.uniform(size=count)) / count
    return replace(tasks, work=low + (high - low) * place)


def offered(spend: IntArray, cost: FloatArray) -> Choices:
    """The choices (n, L) that no other is at least as good as, dearer ones last.

    Dropping the task, which spends nothing and costs 1, is added.
    """
    spend = np.concatenate([np.zeros_like(spend[:, :1]), spend], axis=-1)
    cost = np.concatenate([np.ones_like(cost[:, :1]), cost], axis=-1)
    order = np.lexsort((cost, spend), axis=-1)
    spend = np.take_along_axis(spend, order, axis=-1)
    cost = np.take_along_axis(cost, order, axis=-1)
    before = np.minimum.accumulate(cost, axis=-1)[:, :-1]
    kept = cost < np.concatenate([np.full_like(cost[:, :1], np.inf), before], axis=-1)
    order = np.argsort(~kept, axis=-1, kind="stable")[:, : kept.sum(axis=-1).max()]
    kept = np.take_along_axis(kept, order, axis=-1)
    return Choices(
        spend=np.where(kept, np.take_along_axis(spend, order, axis=-1), 0),
        cost=np.where(kept, np.take_along_axis(cost, order, axis=-1), np.inf),
    )


def corner_choices(tasks: Slot, scenario: Scenario, unit: float) -> Choices:
    """The corners of the frontiers of tasks (n, ...), energies rounded down, fields (n, L)."""
    corners = SlotFrontier(tasks, scenario).corners()
    useful = corners.delay < scenario.deadline
    energy = np.where(useful, corners.energy, 0.0)
    cost = np.where(useful, corners.delay / scenario.deadline, np.inf)
    return offered(np.floor(energy * BELOW / unit).astype(np.int64), cost)


@lru_cache(maxsize=4)
def fit_battery_value(scenario: Scenario) -> BatteryValue:
    """Fit the value of the battery, in a second or two for 30 tasks."""
    energies = (scenario.device_energy, scenario.energy_per_offloaded_bit)
    most = scenario.work[1] * max(energies)
    # More than the dearest splits of all tasks is worth no more.
    battery = min(scenario.battery, scenario.horizon * most)
    unit = battery / UNITS
    nodes = tuple(
        _nodes(battery, unit, scenario.work[1] * min(energies), most, tasks)
        for tasks in range(1, scenario.horizon + 1)
    )
    choices = corner_choices(draw_tasks(scenario, 1, _FITTED_ON), scenario, unit)
    alike = np.full(_FITTED_ON, 1.0 / _FITTED_ON)
    return BatteryValue(unit=unit, nodes=nodes, values=fit_values(choices, alike, nodes, UNITS))


def _nodes(battery: float, unit: float, cheap: float, dear: float, tasks: int) -> IntArray:
    """The units at which the value of so many tasks is computed.

    Of the last tasks, one jumps from dropped to done where the battery can just pay for its
    cheapest split, which spends up to ``cheap``. Interpolation across these jumps would ruin the
    value, so every unit is a node there. Between there and the dearest split of a task they are
    a hundredth of it apart, and further up a hundredth of the battery.
    """
    levels = [np.arange(0.0, battery, battery / 100), np.array([battery])]
    if tasks < 3:
        levels.append(np.arange(0.0, min(cheap, battery), unit))
    if tasks < 8:
        levels.append(np.arange(0.0, min(dear, battery), dear / 100))
    return np.unique(np.rint(np.concatenate(levels) / unit).astype(np.int64))
