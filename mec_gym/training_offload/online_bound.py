r"""What no policy can expect on a drive: information relaxation with penalties [Brown2010].

**The bound.** Let every task be known beforehand, but let knowing it be paid for: with m tasks
left and b in the battery, J_m(b, task at hand) - E[J_m(b, task)] is taken off the return, where J
is any function, see :mod:`mec_gym.training_offload.program`. For a policy that does not know the
future, the battery with m tasks left depends on earlier tasks alone, and the task at hand is
independent of those. So what it pays is 0 in expectation, and

    E[return of the policy] = E[return - paid] <= E[max over all decisions of (return - paid)].

The maximum within is a deterministic dynamic program per drive. If J is that of the true value,
the maximum is the value of the best online policy in *every* drive; the worse J is, the higher
lies the bound, but it stays one.

**The relaxed problem.** The maximum is taken over a battery of whole units. Each task offers
levels of energy e_1 < e_2 < ...; choosing level k spends e_k rounded down to units, and takes the
least delay that any split has that spends less than e_(k+1). So whatever split a policy plays,
there is a level that costs the battery no more and has no longer a delay, and a drop spends
nothing. Its decisions are therefore possible in the relaxed problem, too, and earn as much or
more there, with a battery that is known from the past alone. So a bound on the relaxed problem
is one on the true problem. In the relaxed problem T_ct is known when a task is decided. On the
road it is not, so even the best policy stays somewhat below the bound.

**Means.** J comes from one sample of tasks, E[J] from another one, and the drives on which the
maximum is taken are a third. The mean over a sample in place of E[J] is 0 off in expectation, and
as the maximum is convex in it, this can raise the expectation of the bound only. ``se`` holds both
the error of these means, to first order along an evenly spent battery, and that of the drives.

**Assumed.** Tasks are independent and equally distributed. See
:func:`mec_gym.training_offload.battery_value.independent_tasks` for how far this is so; where it
is not (``drive-steady``), there is no bound. Nor is there one for ``literal``, whose frontier
leaves out single points, nor for a single task, whose T_ct is known: its bound is the optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.online import OnlineBound
from mec_gym.core.seeds import tuning_generator
from mec_gym.core.types import FloatArray
from mec_gym.training_offload.battery_value import (
    BELOW,
    UNITS,
    BatteryValue,
    corner_choices,
    draw_tasks,
    fit_battery_value,
    independent_tasks,
    offered,
)
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.model import Outcome
from mec_gym.training_offload.program import (
    Choices,
    expected_values,
    penalised_optimum,
    stage_values,
)
from mec_gym.training_offload.scenario import Scenario, Slot

LONGEST = 200
"""Episodes of more tasks have no online bound, because computing it would take too long."""
_MEANS_OF = 16_000
"""Tasks that the means of J are taken over."""
_DRIVES = 40
"""Drives that the maximum is taken over."""
_LEVELS = 40
"""Evenly spaced levels of energy per task, besides those at the corners that are likely best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surplus:
    """How much better than usual a task is: J - E[J] at any battery.

    Attributes:
        scenario: The parameters.
        value: The value of the battery, from which J follows.
        means: For m = 1 ... T tasks left, E[J_m] at each node.
    """

    scenario: Scenario
    value: BatteryValue
    means: tuple[FloatArray, ...]

    def at_nodes(self, tasks: Slot, left: int) -> FloatArray:
        """The surplus of tasks (n,), each with so many left, at all nodes, (n, N)."""
        nodes, after = self.value.nodes[left - 1], self.value.values[left - 1]
        choices = corner_choices(tasks, self.scenario, self.value.unit)
        return stage_values(after, choices, nodes) - self.means[left - 1]

    def luck(self, trace: Slot, outcomes: Outcome) -> FloatArray:
        """The sum of the surplus of all tasks (n, T) at the batteries that met them, (n,)."""
        scenario, horizon = self.scenario, self.scenario.horizon
        spent = np.cumsum(outcomes.energy_j, axis=1) - outcomes.energy_j
        battery = self.value.units(scenario.battery - spent)
        total = np.zeros(len(battery))
        for t in range(horizon):
            left = horizon - t
            nodes, now = self.value.nodes[left - 1], battery[:, t]
            # Between two nodes, J is interpolated, as its mean is.
            above = np.clip(np.searchsorted(nodes, now), 1, len(nodes) - 1)
            ends = np.stack([nodes[above - 1], nodes[above]], axis=-1)
            share = (now - ends[:, 0]) / (ends[:, 1] - ends[:, 0])
            choices = corner_choices(arrays.slot_at(trace, t), scenario, self.value.unit)
            low, high = stage_values(self.value.values[left - 1], choices, ends).T
            total += low + share * (high - low) - np.interp(now, nodes, self.means[left - 1])
        return total


def has_online_bound(scenario: Scenario) -> bool:
    """Whether a scenario has an online bound; this module's docstring says which have none."""
    return (
        2 <= scenario.horizon <= LONGEST
        and scenario.variant != "literal"
        and independent_tasks(scenario)
    )


@lru_cache(maxsize=4)
def online_bound(scenario: Scenario) -> OnlineBound | None:
    """The bound on the expected return of every policy that does not know the future.

    This module's docstring proves it and says what is assumed.

    Args:
        scenario: The parameters.

    Returns:
        The bound; None where tasks depend on each other, for ``literal``, and for episodes of one
        task or of more than 200.
    """
    if not has_online_bound(scenario):
        return None
    value = fit_battery_value(scenario)
    tasks = draw_tasks(scenario, 2, _MEANS_OF)
    choices = corner_choices(tasks, scenario, value.unit)
    alike = np.full(_MEANS_OF, 1.0 / _MEANS_OF)
    after = value.values[:-1]
    surplus = _Surplus(
        scenario=scenario,
        value=value,
        means=tuple(
            expected_values(after_m, choices, alike, nodes)
            for after_m, nodes in zip(after, value.nodes, strict=True)
        ),
    )
    trace = scenario.sample(tuning_generator(3), _DRIVES)
    best = penalised_optimum(
        relaxed_choices(trace, scenario, value),
        [
            surplus.at_nodes(arrays.slot_at(trace, scenario.horizon - left), left)
            for left in range(1, scenario.horizon + 1)
        ],
        value.nodes,
        UNITS,
    )
    # The error of the means: each task counts with its J at every stage. What its size
    # explains is no error, because sizes are stratified.
    evenly = np.arange(1, scenario.horizon + 1) * UNITS // scenario.horizon
    weight = sum(
        stage_values(after_m, choices, np.array([units]))[:, 0]
        for after_m, units in zip(after, evenly, strict=True)
    )
    size = tasks.work / scenario.work[1]
    unexplained = weight - np.polyval(np.polyfit(size, weight, 3), size)
    variance = best.var(ddof=1) / _DRIVES + unexplained.var() / _MEANS_OF
    return OnlineBound(mean=float(best.mean()), se=float(np.sqrt(variance)), luck=surplus.luck)


def relaxed_choices(trace: Slot, scenario: Scenario, value: BatteryValue) -> Choices:
    """Choices that are at least as good as every split of the tasks of drives, fields (n, T, L).

    Which levels of energy are offered decides how tight the bound is, not whether it holds.

    Args:
        trace: The drives, fields (n, T, ...).
        scenario: The parameters.
        value: The value of the battery, whose units are used.
    """
    tasks = arrays.join_axes(trace, 2)
    frontier = SlotFrontier(tasks, scenario)
    corners = frontier.corners()
    fastest = corners.delay.argmin(axis=-1)[:, None]
    least = np.where(np.isfinite(corners.delay), corners.energy, np.inf).min(axis=-1)[:, None]
    most = np.take_along_axis(corners.energy, fastest, axis=-1)
    evenly = least + (most - least) * np.linspace(0.0, 1.0, _LEVELS)
    levels = np.concatenate([evenly, *_likely_levels(frontier, value)], axis=-1)
    levels = np.sort(np.clip(levels, least, most), axis=-1) * BELOW
    delays = [frontier.best(limit)[0].delay for limit in levels[:, 1:].T]
    delay = np.stack([*delays, frontier.best()[0].delay], axis=-1)
    cost = np.where(delay < scenario.deadline, delay / scenario.deadline, np.inf)
    found = offered(np.floor(levels / value.unit).astype(np.int64), cost)
    return arrays.map_arrays(lambda a: a.reshape(-1, scenario.horizon, a.shape[-1]), found)


def _likely_levels(frontier: SlotFrontier, value: BatteryValue) -> list[FloatArray]:
    """Energies at and around the corners that are best at likely prices of energy, (n, ...)."""
    corners, scenario = frontier.corners(), frontier.scenario
    useful = corners.delay < scenario.deadline
    delay = np.where(useful, corners.delay / scenario.deadline, np.inf)
    energy = np.where(useful, corners.energy, 0.0)
    half = value.values[scenario.horizon // 2]
    usual = (half[UNITS * 3 // 5] - half[UNITS * 2 // 5]) / (UNITS / 5 * value.unit)
    found = []
    for price in (usual / 2, usual, usual * 2):
        best = (delay + price * energy).argmin(axis=-1)[:, None]
        at = np.take_along_axis(energy, best, axis=-1)
        found.append(at + value.unit * np.array([-9.0, -3.0, -1.0, 0.0, 1.0, 3.0, 9.0]))
    return found
