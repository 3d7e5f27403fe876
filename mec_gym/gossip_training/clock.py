"""When devices have trained, and when they have what they listen to."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray


def arrivals(
    clock: FloatArray,
    compute_s: FloatArray,
    rate: FloatArray,
    heard: BoolArray,
    bits: FloatArray | float,
    overlap: bool,
) -> FloatArray:
    """Compute when each device has trained and has all that it listens to, (..., N) s.

    sent_i = t_i + c_i, and t_i <- max(sent_i, max over j heard by i of sent_j + b_j / rate_j),
    where b_j is what j sends to all its listeners together: they share its uplink. Where sending
    overlaps with training, the model of the round before is on its way from t_j on [Assran2019].

    Args:
        clock: The devices' clocks, t_i, (..., N) s.
        compute_s: How long they train, c_i, (..., N) s.
        rate: At what rate they send, (..., N) bit/s.
        heard: Whether i listens to j, (..., N, N).
        bits: What j sends to i, (..., N, N) or the same for all, bit.
        overlap: Whether sending overlaps with training.
    """
    trained = clock + compute_s
    load = np.where(heard, bits, 0.0).sum(axis=-2)
    sent = (clock if overlap else trained) + load / rate
    latest = np.where(heard, sent[..., None, :], -np.inf).max(axis=-1)
    return np.asarray(np.maximum(trained, latest))


def reduced(
    clock: FloatArray, compute_s: FloatArray, rate: FloatArray, active: BoolArray, bits: float
) -> FloatArray:
    """Compute when a ring all-reduce of all active devices ends, (...) s [Luehr2016].

    All begin when the last one has trained; each of N sends 2 (N - 1) / N of the model, at the
    rate of the slowest.

    Args:
        clock: The devices' clocks, (..., N) s.
        compute_s: How long they train, (..., N) s.
        rate: At what rate they send, (..., N) bit/s.
        active: Who takes part, (..., N).
        bits: Size of what is averaged.
    """
    trained = np.where(active, clock + compute_s, -np.inf).max(axis=-1)
    slowest = np.where(active, rate, np.inf).min(axis=-1)
    count = active.sum(axis=-1)
    return np.asarray(trained + 2.0 * (count - 1) / np.maximum(count, 1) * bits / slowest)
