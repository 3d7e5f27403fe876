"""Optimal placement: Viterbi for one device, exhaustive search for all, and the bound."""

from __future__ import annotations

import math

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.distributed_inference.horizon import (
    Demand,
    Horizon,
    all_devices,
    horizon_of_trace,
    joint_delays,
    unharmed,
)
from mec_gym.distributed_inference.model import failure_cost, home_energy, lateness_cost
from mec_gym.distributed_inference.scenario import Scenario, Slot

MOST_PLANS = 2_000_000
"""Exhaustive search tries at most so many joint plans."""


def step_costs(
    h: Horizon, scenario: Scenario, others: Demand | None = None
) -> tuple[FloatArray, FloatArray]:
    """Compute the seconds that each placement of each block costs all devices together.

    This is the marginal social cost: beside its own delay, [Li2024] eq. (3), (5) and (6), a
    device slows down the others at the server and in the band that it shares. Without
    others it is the device's own delay if it shares only with the other tenants.

    Args:
        h: The horizon of one device, fields (..., K', ...).
        scenario: The parameters.
        others: What the other devices ask of the servers, fields (..., K', M); nothing if
            None.

    Returns:
        The cost of the places, (..., K', M + 1) s, and of the moves from the place before
        (first axis) to the next, (..., K', M + 1, M + 1) s.
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


def step_costs_when_due(
    h: Horizon, scenario: Scenario, others: Demand | None = None
) -> tuple[FloatArray, FloatArray]:
    """Compute the costs of :func:`step_costs`, and of late blocks if each has a deadline.

    The penalty of a block, [Li2024] eq. (12), depends on its own delay alone, so it is a cost of
    the move to its place. Without contention the path that costs least is then the exact
    optimum of the reward. If the whole task has the deadline, the costs are those of
    :func:`step_costs`: the least delay is then the optimum without contention.

    Args:
        h: The horizon of one device, fields (..., K', ...).
        scenario: The parameters.
        others: As in :func:`step_costs`; nothing if None.

    Returns:
        The cost of the places, (..., K', M + 1) s, and of the moves from the place before
        (first axis) to the next, (..., K', M + 1, M + 1) s. A penalty counts as the seconds
        that cost as much.
    """
    place, move = step_costs(h, scenario, others)
    if scenario.deadline_of == "task":
        return place, move
    own = (place, move) if others is None else step_costs(h, scenario, unharmed(others))
    delay = own[0][..., None, :] + own[1]
    late = lateness_cost(delay, h.deadline[..., None, None, None], scenario)
    return place, move + late / scenario.latency_weight


def viterbi(place: FloatArray, move: FloatArray, start: IntArray) -> tuple[IntArray, FloatArray]:
    """Find the cheapest path through the places, block by block.

    Args:
        place: Cost of the places, (..., K', P).
        move: Cost of the moves from the place before to the next, (..., K', P, P).
        start: Where the block before ran, (...).

    Returns:
        The places, (..., K'), and their cost, (...).
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


def mask_first_place(place: FloatArray, allowed: BoolArray | None) -> FloatArray:
    """Rule out the places that the first block may not take.

    Args:
        place: Cost of the places, (..., K', M + 1).
        allowed: Whether the first block may take a place, (..., M + 1); None allows all.

    Returns:
        The costs with those of forbidden places raised beyond all others.
    """
    if allowed is None:
        return place
    place = place.copy()
    # Large, not infinite: if nothing is allowed, something must be chosen all the same.
    place[..., 0, :] += np.where(allowed, 0.0, 1e6)
    return place


def plan_alone(h: Horizon, scenario: Scenario, start: IntArray) -> tuple[IntArray, FloatArray]:
    """Find each device's best plan if it had every server and band to itself.

    This is the exact optimum without contention: the fastest plan if the whole task has the
    deadline, else the cheapest one. With contention its cost is a lower bound, for contention
    only slows.

    Args:
        h: The horizon, fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).

    Returns:
        The places, (..., N, K'), and their costs by :func:`step_costs_when_due`, (..., N) s:
        the delays, if the whole task has the deadline.
    """
    return viterbi(*step_costs_when_due(all_devices(h), scenario), start)


def task_costs(delay: FloatArray, deadline: FloatArray, scenario: Scenario) -> FloatArray:
    """Compute what finished tasks cost, [Li2024] eq. (11): beta D + penalty.

    Args:
        delay: Delay of the tasks, D, (...) s.
        deadline: Their deadline, (...) s.
        scenario: The parameters.

    Returns:
        The cost, (...).
    """
    late = lateness_cost(delay, deadline, scenario)
    return np.asarray(scenario.latency_weight * delay + late)


def joint_costs(
    h: Horizon,
    scenario: Scenario,
    start: IntArray,
    plan: IntArray,
    spent: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Compute what the tasks cost all together under joint plans.

    Args:
        h: The horizon, fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).
        plan: Places, (..., N, K').
        spent: What the tasks have taken so far, (..., N) s.

    Returns:
        Their cost, [Li2024] eq. (11), (...), penalties of earlier blocks left out; and the
        delays that deadlines are for: those of the tasks, ``spent`` included, (..., N, 1) s, or
        those of the blocks, (..., N, K') s.
    """
    blocks = joint_delays(h, plan, start, scenario)
    delay = spent + blocks.sum(axis=-1)
    if scenario.deadline_of == "block":
        late = lateness_cost(blocks, h.deadline[..., None], scenario).sum(axis=-1)
        costs, taken = scenario.latency_weight * delay + late, blocks
    else:
        costs, taken = task_costs(delay, h.deadline, scenario), delay[..., None]
    return np.where(h.active, costs, 0.0).sum(axis=-1), taken


def exhaustive(
    h: Horizon, scenario: Scenario, start: IntArray, spent: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Find the best of all joint plans, the optimum of what is left of the tasks.

    It is for small cases only, and it ignores the batteries.

    Args:
        h: The horizon, fields (..., N, ...).
        scenario: The parameters.
        start: Where each device's block before ran, (..., N).
        spent: What the tasks have taken so far, (..., N) s.

    Returns:
        The places, (..., N, K'), and what the tasks then cost together, [Li2024] eq. (11),
        (...).

    Raises:
        ValueError: There are more than ``MOST_PLANS`` joint plans.
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
        cost, _ = joint_costs(h, scenario, start, tried, spent)
        index = cost.argmin(axis=0)[None]
        least = np.take_along_axis(cost, index, axis=0)[0]
        found = np.take_along_axis(tried, index[..., None, None], axis=0)[0]
        better = least < best
        plan = np.where(better[..., None, None], found, plan)
        best = np.where(better, least, best)
    return plan, best


def episode_bound(trace: Slot, scenario: Scenario) -> FloatArray:
    """Compute an upper bound on the return of any policy, clairvoyant or not.

    Each task is done as cheaply as it could be if its device had every server and band to
    itself. Contention makes no block faster, and the cost grows with the delay, so no policy
    pays less. Where a battery may run empty, a task (or a block, if each has a deadline) may
    instead cost what giving it up costs, if that is less. Without contention, and where
    batteries last, the bound is the optimum.

    Args:
        trace: Fields (n, T, ...).
        scenario: The parameters.

    Returns:
        The bound, (n,).
    """
    h = horizon_of_trace(trace, scenario)
    home = np.zeros(h.active.shape, dtype=np.int64)
    nothing = np.zeros(h.active.shape)
    blocks_left = scenario.blocks if scenario.deadline_of == "task" else 1.0
    seconds, penalty = failure_cost(nothing, h.deadline, blocks_left, scenario)
    given_up = scenario.latency_weight * seconds + penalty
    given_up = np.where(may_run_empty(trace, scenario)[:, None, :], given_up, np.inf)
    if scenario.deadline_of == "block":
        place, move = step_costs_when_due(all_devices(h), scenario)
        each = scenario.latency_weight * (place[..., None, :] + move)
        each = np.minimum(each, given_up[..., None, None, None])
        _, cost = viterbi(np.zeros_like(place), each, home)
    else:
        _, delay = plan_alone(h, scenario, home)
        cost = np.minimum(task_costs(delay, h.deadline, scenario), given_up)
    return -np.asarray(np.where(h.active, cost, 0.0).sum(axis=(1, 2)))


def may_run_empty(trace: Slot, scenario: Scenario) -> BoolArray:
    """Tell which devices' batteries may not last, whatever is decided, (n, N).

    It adds up the most that each block can draw: at home, or sent to the station that is heard
    worst while all devices send there.

    Args:
        trace: Fields (n, T, ...).
        scenario: The parameters.
    """
    sharers = scenario.devices if scenario.contention else 1
    send_s = sharers * trace.bits[..., 0].astype(np.float64) / trace.uplink.min(axis=-1)
    at_home = home_energy(trace, trace.work[..., 0].astype(np.float64))
    most = np.maximum(at_home, scenario.transmit_power * send_s)
    return np.asarray(np.where(trace.active, most, 0.0).sum(axis=1) > scenario.battery)
