"""Joint plans by local search: each device in turn takes its best plan, given the others'.

Both searches end in local optima; neither promises the best joint plan.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.distributed_inference.exact import (
    joint_costs,
    mask_first_place,
    step_costs,
    step_costs_when_due,
    viterbi,
)
from mec_gym.distributed_inference.horizon import (
    Demand,
    Horizon,
    all_devices,
    demand_of,
    demand_per_device,
    places_before,
    take_devices,
    unharmed,
)
from mec_gym.distributed_inference.scenario import Scenario

NEAR = 0.1
"""A deadline is near if the delay differs from it by less than this share of it."""


def coordinate_descent(
    h: Horizon,
    scenario: Scenario,
    start: IntArray,
    plan: IntArray | None = None,
    sweeps: int = 8,
    allowed: BoolArray | None = None,
) -> IntArray:
    """Find joint plans of little total delay, whatever the deadlines.

    Each device in turn takes the best plan given those of the others. Its cost counts what
    it does to the others, so every change lowers the total delay, and the descent ends in a
    plan that no single device can improve.

    Args:
        h: The horizon, fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).
        plan: The plan to begin with, (..., N, K'); by default each device's plan alone, which
            without contention is the optimum.
        sweeps: The largest number of passes through all devices; more take longer and may
            find better plans.
        allowed: Whether the first block may take a place, (..., N, M + 1); None allows all.

    Returns:
        The places, (..., N, K').
    """
    if plan is None or not scenario.contention:
        place, move = step_costs(all_devices(h), scenario)
        plan = viterbi(mask_first_place(place, allowed), move, start)[0]
    if not scenario.contention:
        return plan
    plan = plan.copy()
    each = demand_per_device(h, plan, start, scenario)
    total = arrays.map_arrays(lambda a: a.sum(axis=-3), each)
    for _ in range(sweeps):
        changed = False
        for n in range(plan.shape[-2]):
            others = arrays.map_arrays(lambda a, b, n=n: a - b[..., n, :, :], total, each)
            place, move = step_costs(take_devices(h, n), scenario, others)
            place = mask_first_place(place, None if allowed is None else allowed[..., n, :])
            best, cost = viterbi(place, move, start[..., n])
            now = _path_cost(place, move, plan[..., n, :], start[..., n])
            better = cost < now - 1e-9 * np.abs(now)
            if not better.any():
                continue
            changed = True
            plan[..., n, :] = np.where(better[..., None], best, plan[..., n, :])
            own = demand_of(h, n, plan, start, scenario)
            total = arrays.map_arrays(np.add, others, own)
            _store(each, n, own)
        if not changed:
            break
    return plan


def descend_on_cost(
    h: Horizon,
    scenario: Scenario,
    start: IntArray,
    plan: IntArray,
    spent: FloatArray,
    sweeps: int = 4,
    allowed: BoolArray | None = None,
) -> IntArray:
    """Find joint plans that cost less than a given one, penalties included.

    Each device in turn is offered four plans and takes the one with which all tasks together
    cost least: the plan it has, its best plan if the others' delays count as much as they
    matter to the reward, its best plan if they do not count, and everything at home. If each
    block has a deadline, its best plans count the device's own late blocks, too. Without
    contention there are no others to count.

    Args:
        h: The horizon, fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).
        plan: The plan to begin with, (..., N, K').
        spent: What the tasks have taken so far, (..., N) s.
        sweeps: The largest number of passes through all devices; more take longer and may
            find better plans.
        allowed: Whether the first block may take a place, (..., N, M + 1); None allows all.

    Returns:
        The places, (..., N, K').
    """
    deadline = np.broadcast_to(h.deadline, plan.shape[:-1])[..., None]
    plan = plan.copy()

    def cost(plans: IntArray) -> tuple[FloatArray, FloatArray]:
        return joint_costs(h, scenario, start, plans, spent)

    now, taken = cost(plan)
    each = demand_per_device(h, plan, start, scenario)
    for _ in range(sweeps):
        before = now
        for n in range(plan.shape[-2]):
            mask = None if allowed is None else allowed[..., n, :]
            beliefs: tuple[Demand | None, ...] = (None,)
            if scenario.contention:
                others = _demand_of_others(each, n, _seconds_value(taken, deadline, scenario))
                beliefs = (others, unharmed(others))
            offers = [plan]
            for believed in beliefs:
                place, move = step_costs_when_due(take_devices(h, n), scenario, believed)
                offer = plan.copy()
                offer[..., n, :] = viterbi(mask_first_place(place, mask), move, start[..., n])[0]
                offers.append(offer)
            home = plan.copy()
            home[..., n, :] = 0 if mask is None else np.where(mask[..., :1], 0, plan[..., n, :])
            offers.append(home)
            known = (now, taken)  # of the plan it has
            costs, delays = zip(known, *(cost(offer) for offer in offers[1:]), strict=True)
            best = np.argmin(np.stack(costs), axis=0)
            choose = best[None, ..., None]
            plan = np.take_along_axis(np.stack(offers), choose[..., None], axis=0)[0]
            taken = np.take_along_axis(np.stack(delays), choose[..., None], axis=0)[0]
            now = np.take_along_axis(np.stack(costs), best[None], axis=0)[0]
            _store(each, n, demand_of(h, n, plan, start, scenario))
        if np.all(now >= before - 1e-12):
            break
    return plan


def _seconds_value(delay: FloatArray, deadline: FloatArray, scenario: Scenario) -> FloatArray:
    """Return what one more second of each task's or block's delay costs, (..., N, 1 or K') 1/s.

    It is the slope of [Li2024] eq. (11). The step at the deadline counts as a slope, too, for
    delays that are ``NEAR`` it.
    """
    off = (delay - deadline) / deadline
    value = scenario.latency_weight + np.where(
        np.abs(off) < NEAR, scenario.miss_cost / (NEAR * deadline), 0.0
    )
    return np.asarray(value + np.where(off > 0, scenario.late_weight / deadline, 0.0))


def _demand_of_others(each: Demand, n: int, seconds_value: FloatArray) -> Demand:
    """Return what all devices but n ask for, fields (..., K', M).

    Their work and seconds are weighed by what a second of theirs is worth, relative to a
    second of device n; their numbers of blocks and transfers are not weighed.
    """
    weight = (seconds_value / seconds_value[..., n, None, :])[..., None]
    weighed = replace(
        each,
        work=each.work * weight,
        upload_s=each.upload_s * weight,
        download_s=each.download_s * weight,
    )
    return arrays.map_arrays(lambda a: a.sum(axis=-3) - a[..., n, :, :], weighed)


def _store(each: Demand, n: int, own: Demand) -> None:
    """Write what device n asks for now, fields (..., K', M), into that of all devices."""
    for name in arrays.field_names(Demand):
        getattr(each, name)[..., n, :, :] = getattr(own, name)


def _path_cost(place: FloatArray, move: FloatArray, path: IntArray, start: IntArray) -> FloatArray:
    """Add up the costs of places and moves along paths (..., K'), (...)."""
    before = places_before(path, start)
    total = np.take_along_axis(place, path[..., None], axis=-1)[..., 0]
    rows = np.take_along_axis(move, before[..., None, None], axis=-2)[..., 0, :]
    total = total + np.take_along_axis(rows, path[..., None], axis=-1)[..., 0]
    return np.asarray(total.sum(axis=-1))
