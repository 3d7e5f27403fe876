"""When devices have trained, and when they have what they listen to."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray


def uplinks_free(
    clock: FloatArray,
    compute_s: FloatArray,
    rate: FloatArray,
    heard: BoolArray,
    bits: FloatArray | float,
    overlap: bool,
    free: FloatArray,
) -> FloatArray:
    """Compute when devices have sent to all who listen, (..., N) s; those unheard stay as they are.

    Device j begins to send when it has trained, t_j + c_j, or, where sending overlaps with
    training [Assran2019], at t_j; but not before its uplink has sent what came before. Then it
    sends b_j / rate_j, where b_j is what all its listeners get together: they share its uplink.

    Args:
        clock: The devices' clocks, t_j, (..., N) s.
        compute_s: How long they train, c_j, (..., N) s.
        rate: At what rate they send, (..., N) bit/s.
        heard: Whether i listens to j, (..., N, N).
        bits: What j sends to i, (..., N, N) or the same for all, bit.
        overlap: Whether sending overlaps with training.
        free: When each uplink is free, (..., N) s.
    """
    load = np.where(heard, bits, 0.0).sum(axis=-2)
    begin = np.maximum(clock if overlap else clock + compute_s, free)
    return np.where(heard.any(axis=-2), begin + load / rate, free)


def arrivals(
    clock: FloatArray, compute_s: FloatArray, heard: BoolArray, sent: FloatArray
) -> FloatArray:
    """Compute when each device has trained and has all that it listens to, (..., N) s.

    Args:
        clock: The devices' clocks, (..., N) s.
        compute_s: How long they train, (..., N) s.
        heard: Whether i listens to j, (..., N, N).
        sent: When those who are heard have sent, (..., N) s.
    """
    latest = np.where(heard, sent[..., None, :], -np.inf).max(axis=-1)
    return np.asarray(np.maximum(clock + compute_s, latest))


def reduced(
    clock: FloatArray,
    compute_s: FloatArray,
    rate: FloatArray,
    active: BoolArray,
    bits: float,
    free: FloatArray,
) -> FloatArray:
    """Compute when a ring all-reduce of all active devices ends, (...) s [Luehr2016].

    All begin when the last one has trained, and all uplinks are free; each of N sends
    2 (N - 1) / N of the model, at the rate of the slowest.

    Args:
        clock: The devices' clocks, (..., N) s.
        compute_s: How long they train, (..., N) s.
        rate: At what rate they send, (..., N) bit/s.
        active: Who takes part, (..., N).
        bits: Size of what is averaged.
        free: When each uplink is free, (..., N) s.
    """
    ready = np.where(active, np.maximum(clock + compute_s, free), -np.inf).max(axis=-1)
    slowest = np.where(active, rate, np.inf).min(axis=-1)
    count = active.sum(axis=-1)
    return np.asarray(ready + 2.0 * (count - 1) / np.maximum(count, 1) * bits / slowest)
