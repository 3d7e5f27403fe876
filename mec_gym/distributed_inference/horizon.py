"""What is still to place, what plans demand of the servers, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, FloatArray, IntArray, RealArray
from mec_gym.distributed_inference.model import block_delays
from mec_gym.distributed_inference.scenario import Scenario, Slot

D = TypeVar("D", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The blocks that are still to place, and the network as it is believed to be then.

    A horizon covers K' rounds from now on; entries of blocks beyond the last are 0.
    """

    bits: RealArray  # (..., N, K') bit into each block
    result: RealArray  # (..., N) bit of the result
    work: RealArray  # (..., N, K') FLOP
    uplink: RealArray  # (..., N, K', M) bit/s
    downlink: RealArray  # (..., N, K', M) bit/s
    load: FloatArray  # (..., K', M) tenants
    device_rate: FloatArray  # (..., N) FLOP/s
    server_rate: FloatArray  # (..., M) FLOP/s
    deadline: FloatArray  # (..., N) s, of the task or of each block, as the scenario says
    blocks: IntArray  # (...) blocks that are still to place
    active: BoolArray  # (..., N)


def horizon_as_seen(slot: Slot, blocks: int) -> Horizon:
    """Return what an agent believes: the network of this round stays as it is.

    Args:
        slot: The round, fields (...).
        blocks: The length of the chains, K.

    Returns:
        The horizon, fields (...), with K' = K.
    """

    def ahead(a: npt.NDArray[D], axis: int) -> npt.NDArray[D]:
        return np.repeat(np.expand_dims(a, axis), blocks, axis=axis)

    slot = in_double(slot)
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
        deadline=slot.deadline,
        blocks=left,
        active=slot.active,
    )


def in_double(slot: Slot) -> Slot:
    """Return a slot whose large fields are of double precision, for sums that are compared."""

    def double(a: npt.NDArray[np.floating]) -> FloatArray:
        return a.astype(np.float64, copy=False)

    return replace(
        slot,
        bits=double(slot.bits),
        work=double(slot.work),
        uplink=double(slot.uplink),
        downlink=double(slot.downlink),
    )


def horizon_of_trace(trace: Slot, scenario: Scenario) -> Horizon:
    """Return what the tasks of a trace will meet, each seen from its first round.

    Args:
        trace: Fields (n, T, ...).
        scenario: The parameters.

    Returns:
        The horizon, fields (n, J, ...), with K' = K.
    """
    n, k = len(trace.load), scenario.blocks

    def by_task(a: npt.NDArray[D]) -> npt.NDArray[D]:
        return a.reshape(n, scenario.tasks, k, *a.shape[2:])

    trace = in_double(trace)
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
        deadline=first.deadline,
        blocks=np.full((n, scenario.tasks), k),
        active=first.active,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What devices ask of each server and its station in each round, fields (..., K', M)."""

    runs: FloatArray  # blocks that run there
    work: FloatArray  # FLOP of these blocks
    uploads: FloatArray  # uploads to it
    upload_s: FloatArray  # s that these would take if each had the band to itself
    downloads: FloatArray  # downloads from it, results included
    download_s: FloatArray  # s that these would take if each had the band to itself


def unharmed(others: Demand) -> Demand:
    """Return what others ask of the servers as if no block of ours slowed them down."""
    zero = np.zeros_like(others.work)
    return replace(others, work=zero, upload_s=zero, download_s=zero)


def take_devices(h: Horizon, index: int | slice) -> Horizon:
    """Return the view of some devices.

    Args:
        h: The horizon, fields (..., N, ...).
        index: One device, whose view is without the axis N, fields (..., K', ...); or a slice
            of devices.
    """
    return replace(
        h,
        bits=h.bits[..., index, :],
        result=h.result[..., index],
        work=h.work[..., index, :],
        uplink=h.uplink[..., index, :, :],
        downlink=h.downlink[..., index, :, :],
        device_rate=h.device_rate[..., index],
        deadline=h.deadline[..., index],
        active=h.active[..., index],
    )


def all_devices(h: Horizon) -> Horizon:
    """Return every device's own view: N becomes a batch axis, of length 1 in shared fields."""
    return replace(
        h,
        load=h.load[..., None, :, :],
        server_rate=h.server_rate[..., None, :],
        blocks=np.asarray(h.blocks)[..., None],
    )


def first_round(h: Horizon) -> Horizon:
    """Return the horizon of the current block alone; its result counts if it is the last."""
    return replace(
        h,
        bits=h.bits[..., :1],
        work=h.work[..., :1],
        uplink=h.uplink[..., :1, :],
        downlink=h.downlink[..., :1, :],
        load=h.load[..., :1, :],
    )


def places_before(plan: IntArray, start: IntArray) -> IntArray:
    """Return where the block before each block of a plan ran.

    Args:
        plan: Places, (..., K').
        start: Where the block before the first one ran, (...).

    Returns:
        Places, (..., K').
    """
    first = np.broadcast_to(start, plan.shape[:-1])[..., None]
    return np.concatenate([first, plan[..., :-1]], axis=-1)


def demand_per_device(h: Horizon, plan: IntArray, start: IntArray, scenario: Scenario) -> Demand:
    """Compute what each device asks of the servers under joint plans.

    Args:
        h: The horizon, fields (..., N, ...).
        plan: Places, (..., N, K').
        start: Where each device's block before ran, (..., N).
        scenario: The parameters.

    Returns:
        The demand of each device, fields (..., N, K', M).
    """
    servers = np.arange(1, scenario.servers + 1)
    before = places_before(plan, start)
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
    return Demand(
        runs=runs.astype(np.float64),
        work=np.where(runs, h.work[..., None], 0.0),
        uploads=uploads.astype(np.float64),
        upload_s=np.where(uploads, bits / h.uplink, 0.0),
        downloads=fetches.astype(np.float64) + returns,
        download_s=np.where(fetches, bits / h.downlink, 0.0)
        + np.where(returns, h.result[..., None, None] / h.downlink, 0.0),
    )


def demand_of(
    h: Horizon, device: int, plan: IntArray, start: IntArray, scenario: Scenario
) -> Demand:
    """Compute what one device asks of the servers under joint plans.

    Args:
        h: The horizon, fields (..., N, ...).
        device: The device, from 0.
        plan: Places, (..., N, K').
        start: Where each device's block before ran, (..., N).
        scenario: The parameters.

    Returns:
        Its demand, fields (..., K', M).
    """
    one = slice(device, device + 1)
    found = demand_per_device(take_devices(h, one), plan[..., one, :], start[..., one], scenario)
    return arrays.map_arrays(lambda a: a[..., 0, :, :], found)


def joint_delays(h: Horizon, plan: IntArray, start: IntArray, scenario: Scenario) -> FloatArray:
    """Compute the delay of each device's blocks under joint plans, contention included.

    It is that of :func:`~mec_gym.distributed_inference.model.block_delays`, round by round.

    Args:
        h: The horizon, fields (..., N, ...).
        plan: Places, (..., N, K').
        start: Where each device's block before ran, (..., N).
        scenario: The parameters.

    Returns:
        The delays, (..., N, K') s; 0 for blocks beyond the last.
    """
    rounds = np.arange(plan.shape[-1])
    left = np.asarray(h.blocks)[..., None] - rounds  # (..., K')
    works = h.active[..., None, :] & (left > 0)[..., None]
    places = np.swapaxes(plan, -1, -2)  # (..., K', N)
    before = np.swapaxes(places_before(plan, start), -1, -2)

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
        compute_power=np.ones_like(h.device_rate)[..., None, :],
        server_rate=h.server_rate[..., None, :],
    )
    parts = block_delays(slots, before, places, works, scenario)
    return np.swapaxes(parts.local + parts.edge + parts.upload + parts.other, -1, -2)
