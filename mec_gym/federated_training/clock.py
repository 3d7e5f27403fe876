"""When a job is done, by tables of rates over time."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray


def bin_of(time: FloatArray, bin_s: float, bins: int) -> IntArray:
    """Return the bin of time that a time lies in; the last one holds on.

    Bin k begins at k * bin_s as floats are multiplied, so that whoever leaves at that moment is
    absent in it. A quotient alone may be rounded to the wrong side of the edge.
    """
    found = np.floor(time / bin_s)
    found += (found + 1) * bin_s <= time
    found -= found * bin_s > time
    return np.minimum(found, bins - 1).astype(np.int64)


def finish(rate: FloatArray, begin: FloatArray, amount: FloatArray, bin_s: float) -> FloatArray:
    """Compute when an amount has passed through a rate that changes from bin to bin.

    Args:
        rate: The rate in each bin, (J, K) per s; the last one holds on.
        begin: When it begins, (J,) s.
        amount: What has to pass, (J,).
        bin_s: The length of a bin, s.

    Returns:
        The time at which the integral of the rate since ``begin`` equals the amount, (J,) s.
    """
    rows, bins = np.arange(len(rate)), rate.shape[-1]
    passed = np.zeros((len(rate), bins + 1))  # since time 0, at the beginning of each bin
    np.cumsum(rate * bin_s, axis=-1, out=passed[:, 1:])
    first = bin_of(begin, bin_s, bins)
    goal = passed[rows, first] + rate[rows, first] * (begin - first * bin_s) + amount
    last = np.minimum((passed[:, 1:] <= goal[:, None]).sum(axis=-1), bins - 1)
    return np.asarray(last * bin_s + (goal - passed[rows, last]) / rate[rows, last])


def leaving(present: BoolArray, now: FloatArray, bin_s: float) -> FloatArray:
    """Return when clients that are present now will next be absent, (J,) s; inf if never.

    Args:
        present: Who is present in each bin, (J, K).
        now: The time, (J,) s.
        bin_s: The length of a bin, s.
    """
    bins = present.shape[-1]
    later = np.arange(bins) > bin_of(now, bin_s, bins)[:, None]
    absent = later & ~present
    return np.where(absent.any(axis=-1), absent.argmax(axis=-1) * bin_s, np.inf)
