"""Which partitions of a front are best for light or for heavy load at rates in a range."""

from __future__ import annotations

from itertools import product

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray

Rates = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""The smallest and the largest device speed, bandwidth in bit/s and edge speed."""

_BANDWIDTHS, _SPEEDS = 64, 5  # how many of each are tried for light load
_ROUNDING = 1e-12  # relative


def light_optima(cost: FloatArray, rates: Rates) -> IntArray:
    """The partitions that are best for light load, least Td + Tt + Te.

    They are looked for at 64 bandwidths and 5 speeds of device and of edge, evenly spaced on a
    log scale. Between these rates another partition may be better by a little.

    Args:
        cost: The costs of a front, (F, 3).
        rates: The ranges of the rates.

    Returns:
        Indices of ``cost``, in order.
    """
    return _best_on_grid(cost, rates, np.add)


def heavy_optima(cost: FloatArray, rates: Rates) -> IntArray:
    """Partitions of which one is best for heavy load, least max(Td, Tt, Te), at any rates.

    The answer is exact, for the following reason. Let t be the slowest stage of a partition at
    the fastest rates. The best chance of that partition is at the rates at which no stage takes
    longer than t and each is as slow as that and its range allow: slower stages would not
    lengthen its own slowest stage, but those of others. There another partition is slower only
    if it has more to do than this one at some stage, and that stage may take longer than t. If
    some other partition is not slower even there, this one is not needed. Partitions are taken
    away as long as that holds, most of them beside those that are best on a grid of rates.

    Args:
        cost: The costs of a front, (F, 3).
        rates: The ranges of the rates.

    Returns:
        Indices of ``cost``, in order.
    """
    slowest, fastest = np.array(rates).T
    least = (cost / fastest).max(axis=1) * (1.0 + _ROUNDING)
    longest = cost / slowest

    def beats(these: IntArray, others: IntArray) -> BoolArray:
        """Whether these can be better than all others at some rates, (these,)."""
        more = cost[others] > cost[these, None]
        more &= longest[others] > least[these, None, None]
        return np.asarray(more.any(axis=-1).all(axis=-1))

    core = _best_on_grid(cost, rates, np.maximum)
    rest = np.setdiff1d(np.arange(len(cost)), core)
    kept = np.union1d(core, rest[beats(rest, core)])
    for index in kept:
        others = kept[kept != index]
        if not beats(np.array([index]), others)[0]:
            kept = others
    return kept


def _best_on_grid(cost: FloatArray, rates: Rates, join: np.ufunc) -> IntArray:
    """The partitions with the least sum or largest stage, as ``join`` says, on a grid of rates."""
    device, bandwidth, edge = (
        np.geomspace(*limits, count)
        for limits, count in zip(rates, (_SPEEDS, _BANDWIDTHS, _SPEEDS), strict=True)
    )
    link = cost[:, 1] / bandwidth[:, None]
    found: set[int] = set()
    for d, e in product(device, edge):
        there = join(cost[:, 0] / d, cost[:, 2] / e)
        found |= set(join(there, link).argmin(axis=1).tolist())
    return np.array(sorted(found), dtype=np.int64)
