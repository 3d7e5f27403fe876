"""Frames in a row of stages: a device, a link whose rate changes, and an edge server.

Every stage serves one frame at a time, in the order in which frames become ready for it, as the
queue of a real sender does. Frames and breakpoints of a rate lie along the last axis; every
axis before it is broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import BoolArray, FloatArray, IntArray

_FEW = 1 << 15  # up to so many comparisons, comparing with all entries is faster than by halves


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCurve:
    """The rate of a link over time, constant between C moments.

    The first rate holds from the first moment on, the last one for ever. A rate of 0 is an
    outage. :meth:`of` makes a curve from moments and rates.
    """

    time: FloatArray  # (..., C) s, the moments at which the rate changes, not decreasing
    bits: FloatArray  # (..., C) bits that can be sent from the first moment until each of them
    rate: FloatArray  # (..., C) bit/s from each moment until the next

    @classmethod
    def of(cls, time: npt.ArrayLike, rate: npt.ArrayLike) -> RateCurve:
        """A curve from its moments, (..., C) s, and the rates from then on, (..., C) bit/s.

        Raises:
            ValueError: Moments decrease, or a rate is negative or not finite.
        """
        time, rate = np.broadcast_arrays(
            np.asarray(time, dtype=np.float64), np.asarray(rate, dtype=np.float64)
        )
        steps = np.diff(time, axis=-1)
        if (steps < 0).any() or not np.isfinite(time).all():
            raise ValueError(f"time must be finite and not decrease, got {time}")
        if not (np.isfinite(rate) & (rate >= 0)).all():
            raise ValueError(f"rate must be finite and not negative, got {rate}")
        bits = np.zeros(time.shape)
        np.cumsum(rate[..., :-1] * steps, axis=-1, out=bits[..., 1:])
        return cls(time=time, bits=bits, rate=rate)

    def place(self, moment: FloatArray) -> IntArray:
        """Which of the C rates holds at some moments, (..., N) s -> (..., N)."""
        return _place(self.time, moment, "right")

    def bits_until(self, moment: FloatArray) -> FloatArray:
        """The bits that can be sent until some moments, (..., N) s -> (..., N).

        A moment must not be before the first one of the curve.
        """
        at = _index(self.time, self.place(moment))
        until: FloatArray = self.bits[at] + (moment - self.time[at]) * self.rate[at]
        return until

    def when(self, bits: FloatArray) -> FloatArray:
        """The moments at which so many bits have been sent, (..., N) -> (..., N) s.

        It is the first such moment, and infinite if the link never sends so many.
        """
        at = _index(self.bits, _place(self.bits, bits, "left"))
        rate, after = self.rate[at], bits - self.bits[at]
        # In an outage, what is left never ends (x / 0), but what has been sent when it begins needs
        # no more time (0 / 0).
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.fmax(after / rate, 0.0)
        moment: FloatArray = self.time[at] + needed
        return moment


def _place(ordered: FloatArray, value: FloatArray, side: str) -> IntArray:
    """np.searchsorted(ordered, value, side) - 1 along the last axes, at least 0, (..., N)."""
    count = ordered.shape[-1]
    if count == 1:
        return np.zeros((1,) * np.ndim(value), dtype=np.int64)
    if ordered.ndim == 1:
        found = ordered.searchsorted(value, side=side)  # type: ignore[call-overload]
        place: IntArray = np.maximum(found - 1, 0)
        return place
    shape = (*np.broadcast_shapes(ordered.shape[:-1], value.shape[:-1]), value.shape[-1])
    if count * value.size <= _FEW:
        # The place is before the first later entry that is beyond, or else the last one.
        beyond = np.ones((*shape, count), dtype=np.bool_)
        compare = np.greater if side == "right" else np.greater_equal
        compare(ordered[..., None, 1:], value[..., None], out=beyond[..., :-1])
        return np.asarray(beyond.argmax(axis=-1))
    reached = np.less_equal if side == "right" else np.less
    place = np.zeros(shape, dtype=np.int64)
    rows = _index(ordered, place)[:-1]
    while count > 1:
        half = count // 2
        further = place + half
        place += half * reached(ordered[(*rows, further)], value)
        count -= half
    return place


def _index(curve: FloatArray, place: IntArray) -> tuple[Any, ...]:
    """The index of the entries of a curve (..., C), or one of its shape, at places (..., N)."""
    if curve.ndim > 1 and curve.shape[-1] == 1:
        return (...,)
    return _along_last(curve.shape[:-1], place)


def serve_by_readiness(
    ready: FloatArray, work: FloatArray, free: npt.ArrayLike = 0.0, curve: RateCurve | None = None
) -> tuple[FloatArray, FloatArray]:
    """When one stage starts and finishes each of N frames; who is ready first comes first.

    Frames that are ready at the same moment are served in the order in which they are given. A
    frame without work skips the stage, and starts and finishes when it is ready.

    This is Lindley's recursion over the frames by readiness, finish = max(ready, free) + work.
    On a link it is made in the number of bits that can be sent until then, in which a transfer
    takes what it has to send, whatever the rate does. It is computed frame by frame, so that
    nobody's times depend, not even by a rounding, on frames that do not delay him.

    Args:
        ready: When the frames become ready for the stage, (..., N) s.
        work: What there is to do for each, (..., N) s, or bits if a curve is given.
        free: When the stage is free for the first of them, (...) s.
        curve: The rate of a link, fields (..., C); it must not begin after any other moment.

    Returns:
        When each frame starts and finishes, (..., N) s and (..., N) s; infinite after the end
        of a link that sends no more.
    """
    free = np.asarray(free, dtype=np.float64)
    shape = np.broadcast_shapes(ready.shape, work.shape, (*free.shape, 1))
    if curve is not None:
        shape = np.broadcast_shapes(shape, (*curve.time.shape[:-1], 1))
    ready, work = np.broadcast_to(ready, shape), np.broadcast_to(work, shape)
    works = work > 0
    if not shape[-1]:
        start = finish = ready
    elif shape[-1] == 1:
        start, finish = _in_turn(ready, work, works, free, curve)
    else:
        order = np.argsort(np.where(works, ready, -np.inf), axis=-1, kind="stable")
        places = _along_last(order.shape[:-1], order)
        begins, ends = _in_turn(ready[places], work[places], works[places], free, curve)
        start, finish = np.empty(shape), np.empty(shape)
        start[places], finish[places] = begins, ends
    return np.where(works, start, ready), np.where(works, finish, ready)


def _along_last(lead: tuple[int, ...], place: IntArray) -> tuple[IntArray, ...]:
    """Places along the last axis, (..., N), as indices of all axes; those before are ``lead``."""
    if len(lead) == 1:
        return np.arange(lead[0])[:, None], place
    axes = np.ogrid[tuple(slice(n) for n in lead)] if lead else ()
    return (*(axis[..., None] for axis in axes), place)


def _in_turn(
    ready: FloatArray,
    work: FloatArray,
    works: BoolArray,
    free: FloatArray,
    curve: RateCurve | None,
) -> tuple[FloatArray, FloatArray]:
    """Start and finish of frames that are served in this order, those without work first."""
    count = ready.shape[-1]
    ends = np.empty(ready.shape)
    last: FloatArray = free
    begins = ready
    if curve is not None:
        begins = curve.bits_until(np.where(works, ready, curve.time[..., :1]))
        last = curve.bits_until(np.maximum(free[..., None], curve.time[..., :1]))[..., 0]
    for frame in range(count):
        end = np.maximum(begins[..., frame], last) + work[..., frame]
        last = np.where(works[..., frame], end, last)
        ends[..., frame] = last
    if curve is not None:
        ends = curve.when(ends)
    before = np.empty(ready.shape)
    before[..., 0] = free
    before[..., 1:] = np.where(works[..., :-1], ends[..., :-1], before[..., :1])
    start = np.maximum(ready, before)
    # Few bits, and a sum of many, may round to an end just before the start.
    return start, np.maximum(ends, start) if curve is not None else ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """When each of N frames starts and finishes every stage; (..., N) s.

    A frame that skips a stage starts and finishes it at the moment at which it is ready for it.
    """

    device_start: FloatArray
    device_finish: FloatArray
    link_start: FloatArray
    link_finish: FloatArray  # the last bit has left the device
    edge_ready: FloatArray  # the edge has the frame, one round trip later if anything is sent
    edge_start: FloatArray
    edge_finish: FloatArray  # the answer is there


def travel(
    arrival: FloatArray,
    device_s: FloatArray,
    bits: FloatArray,
    edge_s: FloatArray,
    curve: RateCurve,
    round_trip: npt.ArrayLike = 0.0,
) -> Journey:
    """The way of N frames through a device, a link and an edge server that are idle at first.

    Args:
        arrival: When the frames arrive at the device, (..., N) s; they are served there in the
            order in which they arrive.
        device_s: The work on the device, (..., N) s.
        bits: What is sent, (..., N) bits.
        edge_s: The work on the edge server, (..., N) s.
        curve: The rate of the link, fields (..., C), from the first arrival on or earlier.
        round_trip: What a frame that is sent pays for once, (..., N) s or one for all. The link
            is not busy during it, because the bits of other frames may be under way.
    """
    idle = -np.inf
    device_start, device_finish = serve_by_readiness(arrival, device_s, idle)
    link_start, link_finish = serve_by_readiness(device_finish, bits, idle, curve)
    edge_ready = link_finish + np.where(bits > 0, round_trip, 0.0)
    edge_start, edge_finish = serve_by_readiness(edge_ready, edge_s, idle)
    return Journey(
        device_start=device_start,
        device_finish=device_finish,
        link_start=link_start,
        link_finish=link_finish,
        edge_ready=edge_ready,
        edge_start=edge_start,
        edge_finish=edge_finish,
    )
