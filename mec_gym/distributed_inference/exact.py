"""Optimal placement: Viterbi for one device, coordinate descent for all, and the bound."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.distributed_inference.horizon import (
    Horizon,
    Others,
    all_devices,
    in_double,
    joint_delays,
    of_tasks,
    one_device,
    places_before,
    what_all_do,
    what_one_does,
)
from mec_gym.distributed_inference.model import failure_cost, lateness_cost
from mec_gym.distributed_inference.scenario import Scenario, Slot

MOST_PLANS = 2_000_000
"""Most joint plans that exhaustive search tries."""
NEAR = 0.3
"""A deadline is near within this share of it."""


def step_costs(
    h: Horizon, scenario: Scenario, others: Others | None = None
) -> tuple[FloatArray, FloatArray]:
    """Seconds that each placement of each block costs all devices together.

    Beside its own delay, (3), (5) and (6), a device slows down the others at the server
    and in the band that it shares: the marginal social cost. Without others it is the
    device's own delay with every server and band to itself but for the other tenants.

    Args:
        h: A device's own view, fields (..., K', ...).
        scenario: The parameters.
        others: What the others do; None: nothing.

    Returns:
        Cost of the places, (..., K', M + 1) s, and of the moves from the place before (first
        axis) to the next, (..., K', M + 1, M + 1) s.
    """
    rounds = h.work.shape[-1]
    places = scenario.servers + 1
    last = np.arange(rounds) == np.asarray(h.blocks)[..., None] - 1  # (..., K')
    returned = np.where(last & scenario.return_result, h.result[..., None], 0.0)
    share = 1.0 + h.load
    download = returned[..., None] / h.downlink
    fetch = h.bits[..., None] / h.downlink
    send = h.bits[..., None] / h.uplink
    edge = share * h.work[..., None]
    if others is not None:
        edge = edge + others.runs * h.work[..., None] + others.work
        send = send * (1.0 + others.uploads) + others.upload_s
        fetch = fetch * (1.0 + others.downloads) + others.download_s
        download = download * (1.0 + others.downloads) + np.where(
            returned[..., None] > 0, others.download_s, 0.0
        )
    place = np.empty((*edge.shape[:-1], places))
    place[..., 0] = h.work / h.device_rate[..., None]
    place[..., 1:] = edge / h.server_rate[..., None, :] + download
    move = np.empty((*edge.shape[:-1], places, places))
    move[..., 1:, 1:] = (h.bits / scenario.backhaul)[..., None, None]
    move[..., 0, 1:] = send
    move[..., 1:, 0] = fetch
    diagonal = np.arange(places)
    move[..., diagonal, diagonal] = 0.0
    return place, move


def viterbi(place: FloatArray, move: FloatArray, start: IntArray) -> tuple[IntArray, FloatArray]:
    """The cheapest path through the places, block by block.

    Args:
        place: Cost of the places, (..., K', P).
        move: Cost of the moves, (..., K', P, P).
        start: Where the block before ran, (...).

    Returns:
        Places (..., K') and their cost (...).
    """
    rounds, places = place.shape[-2:]
    batch = place.shape[:-2]
    index = np.broadcast_to(start, batch)[..., None, None]
    first = np.take_along_axis(move[..., 0, :, :], index, axis=-2)[..., 0, :]
    cost = first + place[..., 0, :]
    came_from = np.empty((*batch, rounds, places), dtype=np.int64)
    for b in range(1, rounds):
        through = cost[..., :, None] + move[..., b, :, :]
        came_from[..., b, :] = through.argmin(axis=-2)
        cost = through.min(axis=-2) + place[..., b, :]
    path = np.empty((*batch, rounds), dtype=np.int64)
    path[..., -1] = cost.argmin(axis=-1)
    for b in range(rounds - 1, 0, -1):
        path[..., b - 1] = np.take_along_axis(came_from[..., b, :], path[..., b, None], axis=-1)[
            ..., 0
        ]
    return path, cost.min(axis=-1)


def alone(h: Horizon, scenario: Scenario, start: IntArray) -> tuple[IntArray, FloatArray]:
    """Each device's fastest plan if it had every server and band to itself.

    The exact optimum without contention; with it a lower bound, for contention only slows.

    Args:
        h: Fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).

    Returns:
        Places (..., N, K') and delays (..., N) s.
    """
    return viterbi(*step_costs(all_devices(h), scenario), start)


def task_costs(delay: FloatArray, deadline: FloatArray, scenario: Scenario) -> FloatArray:
    """What finished tasks cost, (11): beta D + penalty, (...)."""
    late = lateness_cost(delay, deadline, scenario)
    return np.asarray(scenario.latency_weight * delay + late)


def joint_costs(
    h: Horizon,
    scenario: Scenario,
    start: IntArray,
    plan: IntArray,
    spent: FloatArray,
    deadline: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """What the tasks cost all together under joint plans (..., N, K').

    Returns:
        Their cost (11), (...), and delays, ``spent`` (..., N) s included, (..., N) s.
    """
    delay = spent + joint_delays(h, plan, start, scenario)
    costs = np.where(h.active, task_costs(delay, deadline, scenario), 0.0)
    return costs.sum(axis=-1), delay


def exhaustive(
    h: Horizon, scenario: Scenario, start: IntArray, spent: FloatArray, deadline: FloatArray
) -> tuple[IntArray, FloatArray]:
    """The best of all joint plans, for small cases: the optimum of what is left of the tasks.

    Batteries are not looked at.

    Args:
        h: Fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).
        spent: What the tasks have taken already, (..., N) s.
        deadline: (..., N) s.

    Returns:
        Places (..., N, K'), and what the tasks then cost together, (11), (...).

    Raises:
        ValueError: More than ``MOST_PLANS`` joint plans.
    """
    devices, rounds = h.work.shape[-2:]
    places, choices = scenario.servers + 1, devices * rounds
    count = places**choices
    if count > MOST_PLANS:
        raise ValueError(
            f"exhaustive search takes at most {MOST_PLANS} joint plans, got "
            f"{places}^({devices} * {rounds}) = {float(count):.3g}"
        )
    batch = h.active.shape[:-1]
    best = np.full(batch, np.inf)
    plan = np.zeros((*batch, devices, rounds), dtype=np.int64)
    part = max(1, MOST_PLANS // (choices * max(1, math.prod(batch))))
    for first in range(0, count, part):
        codes = np.arange(first, min(first + part, count))
        digits = codes[:, None] // places ** np.arange(choices) % places
        tried = digits.reshape(len(codes), *(1 for _ in batch), devices, rounds)
        tried = np.broadcast_to(tried, (len(codes), *batch, devices, rounds))
        cost, _ = joint_costs(h, scenario, start, tried, spent, deadline)
        index = cost.argmin(axis=0)[None]
        least = np.take_along_axis(cost, index, axis=0)[0]
        found = np.take_along_axis(tried, index[..., None, None], axis=0)[0]
        better = least < best
        plan = np.where(better[..., None, None], found, plan)
        best = np.where(better, least, best)
    return plan, best


def descend_on_cost(
    h: Horizon,
    scenario: Scenario,
    start: IntArray,
    plan: IntArray,
    spent: FloatArray,
    deadline: FloatArray,
    sweeps: int = 4,
    allowed: BoolArray | None = None,
) -> IntArray:
    """Joint plans of less cost than a given one, penalties of late tasks included.

    Each device in turn is offered plans and takes the one with which all together pay least:
    its best plan if others' delays count as much as they matter to the reward, if they do
    not count, everything at home, or the plan it has. What a second of a device's delay
    matters is its price in (11): more where the deadline is near, or missed.

    Args:
        h: Fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).
        plan: Where to begin, (..., N, K').
        spent: What the tasks have taken already, (..., N) s.
        deadline: (..., N) s.
        sweeps: Rounds through all devices, at the most.
        allowed: Places that the first block may take, (..., N, M + 1).

    Returns:
        Places (..., N, K').
    """
    deadline = np.broadcast_to(deadline, plan.shape[:-1])
    plan = plan.copy()

    def cost(plans: IntArray) -> tuple[FloatArray, FloatArray]:
        return joint_costs(h, scenario, start, plans, spent, deadline)

    now, delay = cost(plan)
    each = what_all_do(h, plan, start, scenario)
    for _ in range(sweeps):
        before = now
        for n in range(plan.shape[-2]):
            off = (delay - deadline) / deadline
            price = scenario.latency_weight + np.where(
                np.abs(off) < NEAR, scenario.miss_cost / (NEAR * deadline), 0.0
            )
            price = price + np.where(off > 0, scenario.late_weight / deadline, 0.0)
            weight = (price / price[..., n, None])[..., None, None]
            weighed = replace(
                each,
                work=each.work * weight,
                upload_s=each.upload_s * weight,
                download_s=each.download_s * weight,
            )
            others = arrays.map_arrays(lambda a, n=n: a.sum(axis=-3) - a[..., n, :, :], weighed)
            zero = np.zeros_like(others.work)
            selfish = replace(others, work=zero, upload_s=zero, download_s=zero)
            mask = None if allowed is None else allowed[..., n, :]
            offers = [plan]
            for believed in (others, selfish):
                place, move = step_costs(one_device(h, n), scenario, believed)
                offer = plan.copy()
                offer[..., n, :] = viterbi(forbid(place, mask), move, start[..., n])[0]
                offers.append(offer)
            home = plan.copy()
            home[..., n, :] = 0 if mask is None else np.where(mask[..., :1], 0, plan[..., n, :])
            offers.append(home)
            known = (now, delay)  # of the plan it has
            costs, delays = zip(known, *(cost(offer) for offer in offers[1:]), strict=True)
            best = np.argmin(np.stack(costs), axis=0)
            choose = best[None, ..., None]
            plan = np.take_along_axis(np.stack(offers), choose[..., None], axis=0)[0]
            delay = np.take_along_axis(np.stack(delays), choose, axis=0)[0]
            now = np.take_along_axis(np.stack(costs), best[None], axis=0)[0]
            _put(each, n, what_one_does(h, n, plan, start, scenario))
        if np.all(now >= before - 1e-12):
            break
    return plan


def coordinate_descent(
    h: Horizon,
    scenario: Scenario,
    start: IntArray,
    plan: IntArray | None = None,
    sweeps: int = 8,
    allowed: BoolArray | None = None,
) -> IntArray:
    """Joint plans: each device in turn takes the best one given those of the others.

    Its cost counts what it does to the others, so every change lowers the total delay, and
    the descent ends in a plan that no single device can improve.

    Args:
        h: Fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).
        plan: Where to begin, (..., N, K'); by default each device's plan alone, which
            without contention is the optimum.
        sweeps: Rounds through all devices, at the most.
        allowed: Places that the first block may take, (..., N, M + 1).

    Returns:
        Places (..., N, K').
    """
    if plan is None or not scenario.contention:
        place, move = step_costs(all_devices(h), scenario)
        plan = viterbi(forbid(place, allowed), move, start)[0]
    if not scenario.contention:
        return plan
    plan = plan.copy()
    each = what_all_do(h, plan, start, scenario)
    every = arrays.map_arrays(lambda a: a.sum(axis=-3), each)
    for _ in range(sweeps):
        changed = False
        for n in range(plan.shape[-2]):
            others = arrays.map_arrays(lambda a, b, n=n: a - b[..., n, :, :], every, each)
            place, move = step_costs(one_device(h, n), scenario, others)
            mask = None if allowed is None else allowed[..., n, :]
            best, cost = viterbi(forbid(place, mask), move, start[..., n])
            now = _path_cost(forbid(place, mask), move, plan[..., n, :], start[..., n])
            better = cost < now - 1e-9 * np.abs(now)
            if not better.any():
                continue
            changed = True
            plan[..., n, :] = np.where(better[..., None], best, plan[..., n, :])
            mine = what_one_does(h, n, plan, start, scenario)
            every = arrays.map_arrays(np.add, others, mine)
            _put(each, n, mine)
        if not changed:
            break
    return plan


def _put(each: Others, n: int, mine: Others) -> None:
    """Write down what device n does now, fields (..., N, K', M)."""
    for name in arrays.field_names(Others):
        getattr(each, name)[..., n, :, :] = getattr(mine, name)


def forbid(place: FloatArray, allowed: BoolArray | None) -> FloatArray:
    """Costs of places (..., K', M + 1) that rule out what the first block may not take."""
    if allowed is None:
        return place
    place = place.copy()
    # Large, not infinite: if nothing is allowed, something must be chosen all the same.
    place[..., 0, :] += np.where(allowed, 0.0, 1e6)
    return place


def _path_cost(place: FloatArray, move: FloatArray, path: IntArray, start: IntArray) -> FloatArray:
    before = places_before(path, start)
    total = np.take_along_axis(place, path[..., None], axis=-1)[..., 0]
    rows = np.take_along_axis(move, before[..., None, None], axis=-2)[..., 0, :]
    total = total + np.take_along_axis(rows, path[..., None], axis=-1)[..., 0]
    return np.asarray(total.sum(axis=-1))


def episode_bound(trace: Slot, scenario: Scenario) -> FloatArray:
    """An upper bound on the return of any policy, clairvoyant or not.

    Each task is done as fast as it could be if its device had every server and band to
    itself, or given up at once if that costs less; batteries never run out. With contention
    no block is faster than alone, and cost grows with delay, so no policy pays less.

    Args:
        trace: Fields (n, T, ...).
        scenario: The parameters.

    Returns:
        (n,).
    """
    h = of_tasks(trace, scenario)
    start = np.zeros(h.active.shape, dtype=np.int64)
    _, delay = alone(h, scenario, start)
    deadline = trace.deadline[:, :: scenario.blocks]
    done = task_costs(delay, deadline, scenario)
    seconds, penalty = failure_cost(np.zeros_like(delay), deadline, scenario)
    given_up = scenario.latency_weight * seconds + penalty
    cost = np.where(h.active, np.minimum(done, given_up), 0.0)
    return -np.asarray(cost.sum(axis=(1, 2)))


def delay_now(slot: Slot, before: IntArray, scenario: Scenario) -> FloatArray:
    """What the current block takes at each place, (..., N, M + 1) s, if nobody shares with it.

    Transfer (5) and computing (3), (6); other tenants share the server. A result is not
    counted.

    Args:
        slot: Fields (...).
        before: Place of the block before, (..., N).
        scenario: The parameters.
    """
    slot = in_double(slot)
    bits, work = slot.bits[..., 0], slot.work[..., 0]
    was_home = before == 0
    index = np.maximum(before - 1, 0)[..., None]
    fetch = bits / np.take_along_axis(slot.downlink, index, axis=-1)[..., 0]
    move = np.where(
        was_home[..., None], bits[..., None] / slot.uplink, (bits / scenario.backhaul)[..., None]
    )
    stays = before[..., None] == np.arange(1, scenario.servers + 1)
    now = np.empty((*before.shape, scenario.servers + 1))
    now[..., 0] = work / slot.device_rate + np.where(was_home, 0.0, fetch)
    share = (1.0 + slot.load) / slot.server_rate
    now[..., 1:] = work[..., None] * share[..., None, :] + np.where(stays, 0.0, move)
    return now


def look_ahead(
    slot: Slot, scenario: Scenario, crowd: FloatArray | float = 0.0, blocks: int | None = None
) -> FloatArray:
    """The least delay of what comes after the current block, for each place of it.

    As if each device were alone (but for ``crowd``) and the network stayed as it is: the
    dynamic program of :func:`viterbi`, from the last block back. A move costs the same
    between any two servers, so it takes O(K M) instead of O(K M^2).

    Args:
        slot: Fields (...).
        scenario: The parameters.
        crowd: Blocks of others that each server is believed to run, (..., M).
        blocks: How many blocks to look ahead; by default to the end of the task.

    Returns:
        (..., N, M + 1) s, the result's return included if it is in sight.
    """
    slot = in_double(slot)
    share = ((1.0 + slot.load + crowd) / slot.server_rate)[..., None, :]  # s/FLOP
    home_share = 1.0 / slot.device_rate
    send, fetch = 1.0 / slot.uplink, 1.0 / slot.downlink  # s/bit
    result = np.asarray(slot.blocks_left)[..., None]  # which of the bits are the result's
    home, edge = np.zeros(slot.bits.shape[:-1]), np.zeros(slot.uplink.shape)
    last = scenario.blocks if blocks is None else min(blocks, scenario.blocks)
    for b in range(last, 0, -1):
        bits = slot.bits[..., b, None]
        if b < scenario.blocks:  # then what follows from running block b there
            home = home + slot.work[..., b] * home_share
            edge = edge + slot.work[..., b, None] * share
        moved = edge.min(axis=-1, keepdims=True) + bits / scenario.backhaul
        fetched = bits * fetch
        from_home = np.minimum(home, (bits * send + edge).min(axis=-1))
        from_edge = np.minimum(np.minimum(edge, moved), fetched + home[..., None])
        over = result == b
        home = np.where(over, 0.0, from_home)
        returned = fetched if scenario.return_result else 0.0
        edge = np.where(over[..., None], returned, from_edge)
    return np.concatenate([home[..., None], edge], axis=-1)
