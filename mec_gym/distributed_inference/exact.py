"""Optimal placement: Viterbi for one device, coordinate descent for all, and the bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.distributed_inference.model import block_delays, failure_cost, lateness_cost
from mec_gym.distributed_inference.scenario import RealArray, Scenario, Slot

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
D = TypeVar("D", bound=np.generic)

MOST_PLANS = 2_000_000
"""Most joint plans that exhaustive search tries."""
NEAR = 0.3
"""A deadline is near within this share of it."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """The blocks that are still to place, and the network as it is believed to be then.

    K' rounds from now on; entries of blocks beyond the last are 0.
    """

    bits: RealArray  # (..., N, K') bit into each block
    result: RealArray  # (..., N) bit of the result
    work: RealArray  # (..., N, K') FLOP
    uplink: RealArray  # (..., N, K', M) bit/s
    downlink: RealArray  # (..., N, K', M) bit/s
    load: FloatArray  # (..., K', M) tenants
    device_rate: FloatArray  # (..., N) FLOP/s
    server_rate: FloatArray  # (..., M) FLOP/s
    blocks: IntArray  # (...) how many there are
    active: BoolArray  # (..., N)


def frozen(slot: Slot, blocks: int) -> Horizon:
    """As an agent believes it: the network of this round stays as it is.

    Args:
        slot: Fields (...).
        blocks: K, the length of the chains.
    """

    def ahead(a: npt.NDArray[D], axis: int) -> npt.NDArray[D]:
        return np.repeat(np.expand_dims(a, axis), blocks, axis=axis)

    slot = _double(slot)
    left = np.rint(np.asarray(slot.blocks_left)).astype(np.int64)
    index = np.broadcast_to(left[..., None, None], (*slot.active.shape, 1))
    return Horizon(
        bits=slot.bits[..., :blocks],
        result=np.take_along_axis(slot.bits, index, axis=-1)[..., 0],
        work=slot.work,
        uplink=ahead(slot.uplink, -2),
        downlink=ahead(slot.downlink, -2),
        load=ahead(slot.load, -2),
        device_rate=slot.device_rate,
        server_rate=slot.server_rate,
        blocks=left,
        active=slot.active,
    )


def _double(slot: Slot) -> Slot:
    """The wide fields in double precision, for sums that are compared."""

    def double(a: npt.NDArray[np.floating]) -> FloatArray:
        return a.astype(np.float64, copy=False)

    return replace(
        slot,
        bits=double(slot.bits),
        work=double(slot.work),
        uplink=double(slot.uplink),
        downlink=double(slot.downlink),
    )


def of_tasks(trace: Slot, scenario: Scenario) -> Horizon:
    """As it will be: the first round of each task of a trace, fields (n, J, ...)."""
    n, k = len(trace.load), scenario.blocks

    def by_task(a: npt.NDArray[D]) -> npt.NDArray[D]:
        return a.reshape(n, scenario.tasks, k, *a.shape[2:])

    trace = _double(trace)
    first = arrays.map_arrays(lambda a: by_task(a)[:, :, 0], trace)
    return Horizon(
        bits=first.bits[..., :k],
        result=first.bits[..., k],
        work=first.work,
        uplink=np.moveaxis(by_task(trace.uplink), 2, -2),
        downlink=np.moveaxis(by_task(trace.downlink), 2, -2),
        load=by_task(trace.load),
        device_rate=first.device_rate,
        server_rate=first.server_rate,
        blocks=np.full((n, scenario.tasks), k),
        active=first.active,
    )


@dataclass(frozen=True, slots=True)
class Others:
    """What the other devices do in each round at each server, fields (..., K', M)."""

    runs: FloatArray  # blocks they run there
    work: FloatArray  # FLOP of these blocks
    uploads: FloatArray  # uploads to it
    upload_s: FloatArray  # s, what these would take with the band to each of them alone
    downloads: FloatArray  # downloads from it, results included
    download_s: FloatArray  # s, likewise


def one_device(h: Horizon, index: int) -> Horizon:
    """One device's own view: without the axis N, fields (..., K', ...)."""
    return Horizon(
        bits=h.bits[..., index, :],
        result=h.result[..., index],
        work=h.work[..., index, :],
        uplink=h.uplink[..., index, :, :],
        downlink=h.downlink[..., index, :, :],
        load=h.load,
        device_rate=h.device_rate[..., index],
        server_rate=h.server_rate,
        blocks=h.blocks,
        active=h.active[..., index],
    )


def all_devices(h: Horizon) -> Horizon:
    """Every device's own view: N is one more batch axis, of the shared fields of length 1."""
    return Horizon(
        bits=h.bits,
        result=h.result,
        work=h.work,
        uplink=h.uplink,
        downlink=h.downlink,
        load=h.load[..., None, :, :],
        device_rate=h.device_rate,
        server_rate=h.server_rate[..., None, :],
        blocks=np.asarray(h.blocks)[..., None],
        active=h.active,
    )


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


def what_all_do(h: Horizon, plan: IntArray, start: IntArray, scenario: Scenario) -> Others:
    """Sums over the devices of plans (..., N, K'), fields (..., N, K', M) one a device."""
    servers = np.arange(1, scenario.servers + 1)
    before = np.concatenate(
        [np.broadcast_to(start, plan.shape[:-1])[..., None], plan[..., :-1]], -1
    )
    exists = np.arange(plan.shape[-1]) < np.asarray(h.blocks)[..., None, None]
    works = (h.active[..., None] & exists)[..., None]  # (..., N, K', 1)
    there, was_there = plan[..., None] == servers, before[..., None] == servers
    at_home, was_home = (plan == 0)[..., None], (before == 0)[..., None]
    last = np.arange(plan.shape[-1]) == np.asarray(h.blocks)[..., None, None] - 1
    runs = works & there
    uploads = runs & was_home
    fetches = works & was_there & at_home
    returns = runs & (last & scenario.return_result)[..., None]
    bits = h.bits[..., None]
    return Others(
        runs=runs.astype(np.float64),
        work=np.where(runs, h.work[..., None], 0.0),
        uploads=uploads.astype(np.float64),
        upload_s=np.where(uploads, bits / h.uplink, 0.0),
        downloads=fetches.astype(np.float64) + returns,
        download_s=np.where(fetches, bits / h.downlink, 0.0)
        + np.where(returns, h.result[..., None, None] / h.downlink, 0.0),
    )


def joint_delays(h: Horizon, plan: IntArray, start: IntArray, scenario: Scenario) -> FloatArray:
    """Each device's delay under joint plans (..., N, K'), contention included, (..., N) s.

    Round by round by :func:`~mec_gym.distributed_inference.model.block_delays`.
    """
    rounds = np.arange(plan.shape[-1])
    left = np.asarray(h.blocks)[..., None] - rounds  # (..., K')
    works = h.active[..., None, :] & (left > 0)[..., None]
    places = np.swapaxes(plan, -1, -2)  # (..., K', N)
    first = np.broadcast_to(start, plan.shape[:-1])[..., None, :]
    before = np.concatenate([first, places[..., :-1, :]], axis=-2)

    def by_round(a: npt.NDArray[D]) -> npt.NDArray[D]:
        return np.swapaxes(a, h.active.ndim - 1, h.active.ndim)  # (..., N, K', ...)

    after = np.concatenate([h.bits[..., 1:], h.result[..., None]], axis=-1)
    after = np.where((left == 1)[..., None, :], h.result[..., None], after)
    slots = Slot(
        bits=by_round(np.stack([h.bits, after], axis=-1)),
        work=by_round(h.work[..., None]),
        blocks_left=left.astype(np.float64),
        active=h.active[..., None, :],
        deadline=np.ones_like(h.device_rate)[..., None, :],
        uplink=by_round(h.uplink),
        downlink=by_round(h.downlink),
        load=h.load,
        device_rate=h.device_rate[..., None, :],
        server_rate=h.server_rate[..., None, :],
    )
    parts = block_delays(slots, before, places, works, scenario)
    return np.asarray((parts.local + parts.edge + parts.upload + parts.other).sum(axis=-2))


def total_delay(h: Horizon, plan: IntArray, start: IntArray, scenario: Scenario) -> FloatArray:
    """Sum of all devices' delays under joint plans (..., N, K'), (...) s."""
    return np.asarray(joint_delays(h, plan, start, scenario).sum(axis=-1))


def task_costs(delay: FloatArray, deadline: FloatArray, scenario: Scenario) -> FloatArray:
    """What finished tasks cost, (11): beta D + penalty, (...)."""
    late = lateness_cost(delay, deadline, scenario)
    return np.asarray(scenario.latency_weight * delay + late)


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
        delay = spent + joint_delays(h, tried, start, scenario)
        cost = np.where(h.active, task_costs(delay, deadline, scenario), 0.0).sum(axis=-1)
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
        delay = spent + joint_delays(h, plans, start, scenario)
        costs = np.where(h.active, task_costs(delay, deadline, scenario), 0.0)
        return costs.sum(axis=-1), delay

    now, delay = cost(plan)
    for _ in range(sweeps):
        before = now
        for n in range(plan.shape[-2]):
            off = (delay - deadline) / deadline
            price = scenario.latency_weight + np.where(
                np.abs(off) < NEAR, scenario.miss_cost / (NEAR * deadline), 0.0
            )
            price = price + np.where(off > 0, scenario.late_weight / deadline, 0.0)
            each = what_all_do(h, plan, start, scenario)
            weight = (price / price[..., n, None])[..., None, None]
            each = replace(
                each,
                work=each.work * weight,
                upload_s=each.upload_s * weight,
                download_s=each.download_s * weight,
            )
            others = arrays.map_arrays(lambda a, n=n: a.sum(axis=-3) - a[..., n, :, :], each)
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
            costs, delays = zip(*(cost(offer) for offer in offers), strict=True)
            best = np.argmin(np.stack(costs), axis=0)
            choose = best[None, ..., None]
            plan = np.take_along_axis(np.stack(offers), choose[..., None], axis=0)[0]
            delay = np.take_along_axis(np.stack(delays), choose, axis=0)[0]
            now = np.take_along_axis(np.stack(costs), best[None], axis=0)[0]
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
            view = one_device(h, n)
            place, move = step_costs(view, scenario, others)
            mask = None if allowed is None else allowed[..., n, :]
            best, cost = viterbi(forbid(place, mask), move, start[..., n])
            now = _path_cost(forbid(place, mask), move, plan[..., n, :], start[..., n])
            better = cost < now - 1e-9 * np.abs(now)
            if not better.any():
                continue
            changed = True
            plan[..., n, :] = np.where(better[..., None], best, plan[..., n, :])
            mine = what_all_do(
                only_device(h, n),
                plan[..., n : n + 1, :],
                start[..., n : n + 1],
                scenario,
            )
            for name in arrays.field_names(Others):
                new = getattr(mine, name)[..., 0, :, :]
                getattr(every, name)[...] = getattr(others, name) + new
                getattr(each, name)[..., n, :, :] = new
        if not changed:
            break
    return plan


def only_device(h: Horizon, n: int) -> Horizon:
    """The horizon of device n alone, the axis N kept."""
    view = one_device(h, n)
    return Horizon(
        bits=view.bits[..., None, :],
        result=view.result[..., None],
        work=view.work[..., None, :],
        uplink=view.uplink[..., None, :, :],
        downlink=view.downlink[..., None, :, :],
        load=h.load,
        device_rate=view.device_rate[..., None],
        server_rate=h.server_rate,
        blocks=h.blocks,
        active=view.active[..., None],
    )


def forbid(place: FloatArray, allowed: BoolArray | None) -> FloatArray:
    """Costs of places (..., K', M + 1) that rule out what the first block may not take."""
    if allowed is None:
        return place
    place = place.copy()
    # Large, not infinite: if nothing is allowed, something must be chosen all the same.
    place[..., 0, :] += np.where(allowed, 0.0, 1e6)
    return place


def _path_cost(place: FloatArray, move: FloatArray, path: IntArray, start: IntArray) -> FloatArray:
    before = np.concatenate(
        [np.broadcast_to(start, path.shape[:-1])[..., None], path[..., :-1]], -1
    )
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
    beta = scenario.latency_weight
    done = beta * delay + lateness_cost(delay, deadline, scenario)
    seconds, penalty = failure_cost(np.zeros_like(delay), deadline, scenario)
    cost = np.where(h.active, np.minimum(done, beta * seconds + penalty), 0.0)
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
    slot = _double(slot)
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
    slot = _double(slot)
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
