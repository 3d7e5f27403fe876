"""How devices average what they listen to.

Models are added one after the other in a fixed order, so that what comes of an environment does
not depend on which others are in the batch, bit for bit.
"""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import BoolArray, Float32Array, FloatArray, IntArray


def mixing_weights(heard: BoolArray, mixing: str) -> FloatArray:
    """Return how much of model j goes into model i, (..., N, N).

    ``"uniform"``: 1 / (1 + number heard). ``"metropolis"``: 1 / (1 + the larger of the numbers of
    others that i and j listen to), and the rest is i's own [XiaoBoyd2004]. ``"push-sum"``: j gives
    1 / (1 + number of its listeners) to each of them and to itself, so that columns add up to 1
    [Nedic2016].

    Args:
        heard: Whether i listens to j, (..., N, N).
        mixing: The kind.
    """
    size = heard.shape[-1]
    itself = np.eye(size, dtype=np.bool_)
    number = heard.sum(axis=-1)
    if mixing == "push-sum":
        given = 1.0 / (1.0 + heard.sum(axis=-2))
        return np.where(heard | itself, given[..., None, :], 0.0)
    if mixing == "uniform":
        taken = 1.0 / (1.0 + number)
        return np.where(heard | itself, taken[..., :, None], 0.0)
    larger = np.maximum(number[..., :, None], number[..., None, :])
    others = np.where(heard, 1.0 / (1.0 + larger), 0.0)
    rest = 1.0 - others.sum(axis=-1)
    return np.asarray(others + np.where(itself, rest[..., :, None], 0.0))


def without_own(shares: FloatArray) -> FloatArray:
    """Return shares (..., N, N) with zeros on the diagonal."""
    return np.asarray(shares * ~np.eye(shares.shape[-1], dtype=np.bool_))


def own_part(shares: FloatArray) -> Float32Array:
    """Return the diagonal of shares (..., N, N) as a column, (..., N, 1)."""
    return np.diagonal(shares, axis1=-2, axis2=-1)[..., None].astype(np.float32)


def mixed(shares: FloatArray, models: Float32Array) -> Float32Array:
    """Return the sum over j of shares (Z, N, N) times models (Z, N, ...), in the order of j.

    Only models whose share is not 0 are read, as most devices listen to few others.
    """
    used = shares != 0
    order = np.argsort(~used, axis=-1, kind="stable")
    total = np.zeros_like(models)
    row = np.arange(len(shares))[:, None]
    for turn in range(int(used.sum(axis=-1).max(initial=0))):
        j = order[..., turn]
        share = np.take_along_axis(shares, j[..., None], axis=-1)[..., 0].astype(models.dtype)
        total += share.reshape(*share.shape, *(1,) * (models.ndim - 2)) * models[row, j]
    return total


def by_segments(
    models: Float32Array, heard: BoolArray, segments: int, turn: IntArray
) -> Float32Array:
    """Average each segment with those speakers that it is taken from, (Z, N, P) [HuC2019].

    In round t, the k-th of those whom a device listens to gives it segment k + t, counted round.

    Args:
        models: The devices' models, (Z, N, P).
        heard: Whether i listens to j, (Z, N, N).
        segments: The number of segments of a model.
        turn: The number of the round, t, (Z,).
    """
    given = (np.cumsum(heard, axis=-1) - 1 + turn[:, None, None]) % segments
    edges = np.linspace(0, models.shape[-1], segments + 1).astype(np.int64)
    result = models.copy()
    for segment in range(segments):
        part = slice(edges[segment], edges[segment + 1])
        shares = mixing_weights(heard & (given == segment), "uniform")
        sent = models[..., part]
        result[..., part] = own_part(shares) * sent + mixed(without_own(shares), sent)
    return result
