"""The exact optimum of one slot, and the clairvoyant bound of an episode.

The two objectives of [Ding2025], for light and for heavy load, are in ``lookup.py``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.types import FloatArray
from mec_gym.early_exit import model
from mec_gym.early_exit.model import Decision, State
from mec_gym.early_exit.scenario import Scenario, Slot

_CHUNK = 1 << 15  # how many numbers are worked on at a time, so that they stay in the cache
_COARSE = 12  # levels of backlog on which each stage and each price of energy is tried
# The price of energy, 1/J, is searched for from 1 on by these factors, one after the other.
_PRICE_STEPS = (1.0, 4.0, 0.25, 2.0, 0.5, 1.4, 0.7)
_TICKS = 2000  # how many ticks the ruler has that backlogs are read on
_ROUNDING = 1e-12  # relative; every comparison errs on the side of the bound


def all_decisions(scenario: Scenario) -> Decision:
    """All A decisions that there are, ordered by exit and device work; fields (A,)."""
    sizes = scenario.table.sizes
    return Decision(
        exit=np.repeat(np.arange(len(sizes)), sizes),
        partition=np.concatenate([np.arange(s) for s in sizes]),
    )


def try_all(
    slot: Slot, state: State, scenario: Scenario
) -> tuple[Decision, FloatArray, FloatArray, FloatArray]:
    """What every decision would lead to.

    Args:
        slot: Fields (...).
        state: Fields (...).
        scenario: The parameters.

    Returns:
        All decisions, fields (A,); when each stage is free after each of them, (..., A, 3) s
        from now; what each costs, its negative reward, (..., A); and the energy that each takes
        from the battery, (..., A) J.
    """
    decisions = all_decisions(scenario)
    wide = arrays.map_arrays(lambda a: np.expand_dims(a, -1), state)
    wide = replace(wide, backlog=np.expand_dims(state.backlog, -2))
    slot = arrays.map_arrays(lambda a: np.expand_dims(a, -1), slot)
    free, outcome = model.serve(slot, wide, decisions, scenario)
    cost = outcome.accuracy_cost + outcome.latency_cost + outcome.miss_cost + outcome.energy_cost
    return decisions, free, cost, outcome.energy_j


def slot_optimum(slot: Slot, state: State, scenario: Scenario) -> tuple[Decision, FloatArray]:
    """The decision that earns most in a slot, waiting in the queues included.

    It is blind to the frames to come.

    Args:
        slot: Fields (...).
        state: Fields (...).
        scenario: The parameters.

    Returns:
        The decision (...) and its reward (...).
    """
    decisions, _, cost, _ = try_all(slot, state, scenario)
    best = cost.argmin(axis=-1)
    reward = -np.take_along_axis(cost, best[..., None], axis=-1)[..., 0]
    return arrays.at(decisions, best), reward


def episode_bound(trace: Slot, scenario: Scenario, levels: int = 64) -> FloatArray:
    """An upper bound on the return of any policy, clairvoyant or not.

    The problem is relaxed to one queue. At one of the three stages frames wait as they do in
    the problem, and at the other two they never wait. The battery is not a limit but has a
    price (a Lagrange multiplier): every joule is paid for, and the price of the full battery is
    given back. A frame may be dropped at will. Dynamic programming backward over the backlog of
    that stage solves the relaxed problem on a grid, where every backlog is rounded down to the
    next level. Each stage and each price gives a bound, and the least one counts. All stages
    are tried on a coarse grid at no price, then several prices at each episode's best stage,
    and its best price on a fine grid too.

    This is a bound for the following reason. Let a policy play, and let the relaxed problem
    take the same decisions and drop what the policy drops. By induction its backlog is never
    larger: a smaller backlog and no other queues finish each frame no later, and free the
    stage no later. So each frame that was served may be served, with no larger cost of
    latency, miss or energy. By the same argument the relaxed value does not increase with the
    backlog, so rounding a backlog down does not lower it. The maximum over all decisions is no
    less than the value of these. No policy spends more than the battery holds, so what it is
    given back is no less than what it pays, whatever the price.

    Args:
        trace: Fields (n, T).
        scenario: The parameters.
        levels: The number of levels of the fine grid of backlogs. More of them take longer
            and by and large give a tighter bound.

    Returns:
        The bound of each episode, (n,).
    """
    free = np.zeros(len(trace.bandwidth))
    coarse = np.stack([_in_chunks(trace, scenario, stage, _COARSE, free) for stage in range(3)])
    bounds, chosen = coarse.min(axis=0), coarse.argmin(axis=0)
    for stage in range(3):
        rows = np.flatnonzero(chosen == stage)
        part = arrays.at(trace, rows)
        price, least = np.ones(len(rows)), np.full(len(rows), np.inf)
        for step in _PRICE_STEPS:
            found = _in_chunks(part, scenario, stage, _COARSE, price * step)
            price = np.where(found < least, price * step, price)
            least = np.minimum(least, found)
        price = np.where(least < bounds[rows], price, 0.0)
        fine = _in_chunks(part, scenario, stage, levels, price)
        bounds[rows] = np.minimum.reduce([bounds[rows], least, fine])
    return np.asarray(bounds)


def _in_chunks(
    trace: Slot, scenario: Scenario, stage: int, levels: int, energy_price: FloatArray
) -> FloatArray:
    """The values of :func:`_one_queue` for any number of episodes, (n,)."""
    n = len(trace.bandwidth)
    chunk = max(1, _CHUNK // (levels * int(scenario.table.sizes.sum())))
    values = np.empty(n)
    for begin in range(0, n, chunk):
        rows = slice(begin, begin + chunk)
        part = arrays.at(trace, rows)
        values[rows] = _one_queue(part, scenario, stage, levels, energy_price[rows])
    return values


def _one_queue(
    trace: Slot, scenario: Scenario, stage: int, levels: int, energy_price: FloatArray
) -> FloatArray:
    """The value of the relaxed problem with a queue at one stage only, (n,).

    Args:
        trace: Fields (n, T).
        scenario: The parameters.
        stage: The stage at which frames wait.
        levels: The number of levels of the grid.
        energy_price: The price of a joule, (n,).
    """
    n, horizon = trace.bandwidth.shape
    decisions = all_decisions(scenario)
    cost = scenario.table.cost[decisions.exit, decisions.partition]  # (A, 3)
    works = cost[:, stage] > 0
    timeout = scenario.timeout_s
    # Levels lie denser near 0, on the ticks of a ruler that is read without searching.
    level = np.unique((_TICKS * np.linspace(0.0, 1.0, levels) ** 2).astype(np.int64))
    grid = level * (timeout / _TICKS)
    level_below = np.searchsorted(level, np.arange(_TICKS + 1), side="right") - 1
    per_tick = _TICKS / timeout * (1.0 - _ROUNDING)
    rows = np.arange(n)[:, None] * (_TICKS + 1)
    wrong = scenario.accuracy_weight * (1.0 - scenario.accuracy[decisions.exit])
    value = np.zeros((n, len(grid)))

    for t in reversed(range(horizon)):
        slot = arrays.at(trace, (slice(None), t, None))  # (n, 1)
        service = model.service_times(cost, slot)  # (n, A, 3)
        trip = model.round_trip_times(cost, slot)  # (n, A)
        spent = model.energy(cost, service[..., 1], trip, slot, scenario)
        fixed = wrong + (scenario.energy_weight + energy_price[:, None]) * spent
        per_second = scenario.latency_weight * slot.priority / slot.deadline
        miss = scenario.miss_weight * slot.priority
        # Rounding must not turn a frame that is just in time into one that is late.
        in_time = slot.deadline * (1.0 + _ROUNDING)
        served = timeout * (1.0 + _ROUNDING)
        value_at = value.take(level_below, axis=1).ravel()  # (n * ticks)

        # Of the decisions that do not touch the queue, and a drop, only the best one matters.
        latency = service[:, ~works].sum(axis=-1) + trip[:, ~works]
        others = fixed[:, ~works] + per_second * latency + miss * (latency > in_time)
        others[latency > served] = np.inf
        others = np.concatenate(
            [others, scenario.accuracy_weight + per_second * timeout + miss], axis=1
        )
        tick = np.maximum((grid - slot.interval) * per_tick, 0.0).astype(np.int64)
        best = value_at[rows + tick] - others.min(axis=1)[:, None]

        # Work at the queue begins when it is ready and the stage is free, (n, W, levels).
        busy = service[:, works]
        own, after = busy[..., stage], busy[..., stage + 1 :].sum(axis=-1)
        before = busy[..., :stage].sum(axis=-1)
        if stage < 2:
            after += trip[:, works]
        else:
            before += trip[:, works]
        begin = np.maximum(before[..., None], grid)
        rest = own + after
        total = begin * per_second[..., None]
        total += (fixed[:, works] + per_second * rest)[..., None]
        total += (begin > (in_time - rest)[..., None]) * miss[..., None]
        np.copyto(total, np.inf, where=begin > (served - rest)[..., None])
        begin += (own - slot.interval)[..., None]
        begin *= per_tick
        np.clip(begin, 0.0, _TICKS, out=begin)
        np.subtract(value_at[rows[..., None] + begin.astype(np.int64)], total, out=total)
        value = np.maximum(best, total.max(axis=1, initial=-np.inf))
    return np.asarray(value[:, 0] + energy_price * scenario.battery)
