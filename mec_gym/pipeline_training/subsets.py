"""The pipeline of the least steady period on unequal devices, by a program over their subsets.

Every device has at most one stage, and a stage is a run of consecutive blocks. In the steady state
a pipeline finishes one microbatch per period, and the period is the time of whatever is busy
longest per microbatch: a device with its stage, or a link. With F(j, S, v) the least period of
blocks 0 to j on exactly the devices S, the last stage being on v:

    F(j, S + v, v) = min over i < j, u in S of
                     max(F(i, S, u), a_i max(1 / B_uv, 1 / B_vu), C(i+1..j) / s_v).

Here a_i is what block i sends to the next one and C the work of a stage. Where a link is one
medium for both directions, an activation and its gradient follow each other, and its share is
2 a_i / B_uv, as in [Harlap2018]. Here links are full duplex and directed: the activation goes from
u to v while the gradient of another microbatch, which is as large, comes back from v to u. So the
slower direction alone counts.
"""

from __future__ import annotations

import math

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray

MOST_DEVICES = 12
"""The program takes at most so many devices: it visits 2^M subsets."""

_MOST_ENTRIES = 1_000_000
"""The table of periods has at most so many entries, or one instance; instances take turns."""


def least_period(
    work: FloatArray, bits: FloatArray, speed: FloatArray, link: FloatArray, present: BoolArray
) -> tuple[FloatArray, IntArray]:
    """Find the placement of blocks on devices whose pipeline has the least steady period.

    Of the placements with the least period, one with the fewest stages is returned: it fills and
    empties fastest.

    Args:
        work: Work of the blocks per microbatch, forward and backward together, (..., L) FLOP.
        bits: What goes into each block per microbatch, and out of the last one, (..., L + 1) bit.
            Neither the first nor the last entry is sent between devices.
        speed: Speed of the devices, (..., M) FLOP/s. A device of speed 0 is not used.
        link: Rate from each device (first axis) to each other one, (..., M, M) bit/s; the
            diagonal does not count. A link of rate 0 is not used.
        present: Whether a device is there, (..., M).

    Returns:
        The period, (...) s, and the device of each block, (..., L). Where no placement is
        possible, as where nobody is present, the period is infinite and the devices are -1.

    Raises:
        ValueError: There are more than :data:`MOST_DEVICES` devices, or shapes do not fit.
    """
    devices, blocks = speed.shape[-1], work.shape[-1]
    if devices > MOST_DEVICES:
        raise ValueError(
            f"devices must be at most {MOST_DEVICES} for the program over subsets, got {devices}"
        )
    _check_last_axes("bits", bits, (blocks + 1,))
    _check_last_axes("link", link, (devices, devices))
    _check_last_axes("present", present, (devices,))
    batch = np.broadcast_shapes(
        work.shape[:-1], bits.shape[:-1], speed.shape[:-1], link.shape[:-2], present.shape[:-1]
    )
    stage = _stage_seconds(work, np.where(present, speed, 0.0))
    sent = _link_seconds(bits, link)
    instances = math.prod(batch)
    stage, sent = (
        np.broadcast_to(a, (*batch, *a.shape[-3:])).reshape(instances, *a.shape[-3:])
        for a in (stage, sent)
    )
    least = np.empty(instances)
    place = np.empty((instances, blocks), dtype=np.int64)
    at_once = max(1, _MOST_ENTRIES // (2**devices * devices * blocks))
    for begin in range(0, instances, at_once):
        part = slice(begin, begin + at_once)
        period = _periods(stage[part], sent[part])
        least[part], place[part] = _best_placement(period, stage[part], sent[part])
    return least.reshape(batch), place.reshape(*batch, blocks)


def _check_last_axes(name: str, array: FloatArray | BoolArray, expected: tuple[int, ...]) -> None:
    if array.shape[-len(expected) :] != expected:
        raise ValueError(f"the last axes of {name} must be {expected}, got {array.shape}")


def _stage_seconds(work: FloatArray, speed: FloatArray) -> FloatArray:
    """Time of blocks i to j on device v, (..., M, L, L) s by v, i and j; infinite if j < i."""
    blocks = work.shape[-1]
    ordered = np.triu(np.ones((blocks, blocks), dtype=bool))
    total = np.where(ordered, work[..., None, :], 0.0).cumsum(axis=-1)[..., None, :, :]
    rate = speed[..., :, None, None]
    seconds = np.full(np.broadcast_shapes(total.shape, rate.shape), np.inf)
    return np.asarray(np.divide(total, rate, out=seconds, where=ordered & (rate > 0)))


def _link_seconds(bits: FloatArray, link: FloatArray) -> FloatArray:
    """Time of the slower direction at a cut, (..., M, M, L - 1) s by u, v and cut."""
    rate = np.minimum(link, np.swapaxes(link, -1, -2))[..., None]
    cut = bits[..., None, None, 1:-1]
    seconds = np.full(np.broadcast_shapes(cut.shape, rate.shape), np.inf)
    return np.asarray(np.divide(cut, rate, out=seconds, where=rate > 0))


def _periods(stage: FloatArray, sent: FloatArray) -> FloatArray:
    """Least period of blocks 0 to j on exactly a subset, the last stage on v.

    Args:
        stage: By :func:`_stage_seconds`, (B, M, L, L) s.
        sent: By :func:`_link_seconds`, (B, M, M, L - 1) s.

    Returns:
        The periods, (2^M, B, M, L) s by subset (its devices are the bits that are set), v and j.
    """
    _, devices, blocks, _ = stage.shape
    period = np.full((2**devices, *stage.shape[:3]), np.inf)
    for v in range(devices):
        period[1 << v, :, v] = stage[:, v, 0]
    if blocks == 1:
        return period
    for subset in range(1, 2**devices):
        before = period[subset][:, :, None, :-1]  # (B, u, 1, i)
        arrived = np.maximum(before, sent).min(axis=1)[..., None]  # (B, v, i, 1)
        joined = np.maximum(arrived, stage[:, :, 1:]).min(axis=2)  # (B, v, j)
        for v in range(devices):
            if not subset >> v & 1:
                period[subset | 1 << v, :, v] = joined[:, v]
    return period


def _best_placement(
    period: FloatArray, stage: FloatArray, sent: FloatArray
) -> tuple[FloatArray, IntArray]:
    """Read the best placement off the periods, from the last stage back to the first one.

    Args:
        period: By :func:`_periods`, (2^M, B, M, L) s.
        stage: By :func:`_stage_seconds`, (B, M, L, L) s.
        sent: By :func:`_link_seconds`, (B, M, M, L - 1) s.

    Returns:
        The least period, (B) s, and the device of each block, (B, L); -1 where it is infinite.
    """
    batch, devices, blocks, _ = stage.shape
    rows, index = np.arange(batch), np.arange(blocks)
    fewest_first = np.array(sorted(range(2**devices), key=lambda subset: bin(subset).count("1")))
    ends = np.moveaxis(period[fewest_first, ..., -1], 1, 0).reshape(batch, -1)
    best = ends.argmin(axis=-1)
    least = ends[rows, best]
    subset, v = fewest_first[best // devices], best % devices
    last = np.full(batch, blocks - 1)
    place = np.full((batch, blocks), -1)
    open_ = np.isfinite(least)
    while open_.any():
        rest = subset & ~(1 << v)
        if blocks > 1:
            through = np.maximum(period[rest, rows][:, :, :-1], sent[rows, :, v])
            through = np.maximum(through, stage[rows, v, 1:, last][:, None, :]).reshape(batch, -1)
            u, i = np.divmod(through.argmin(axis=-1), blocks - 1)
        else:
            u, i = v, last
        first = np.where(rest == 0, 0, i + 1)
        mine = open_[:, None] & (first[:, None] <= index) & (index <= last[:, None])
        place = np.where(mine, v[:, None], place)
        open_ &= rest != 0
        subset, v, last = rest, u, first - 1
    return least, place
