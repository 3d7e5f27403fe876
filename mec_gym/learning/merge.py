"""How a server makes one model of what clients send.

Rows are added one after the other, in a fixed order. So what comes of a model does not depend on
who else is in the batch, bit for bit.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import BoolArray, IntArray, RealArray

D = TypeVar("D", bound=np.floating[Any])


def staleness_weight(staleness: IntArray, kind: str, power: float) -> RealArray:
    """Compute the weight of updates that were begun some merges ago.

    Args:
        staleness: The number of merges since the update was begun, tau.
        kind: ``"power"``: (1 + tau)^-a [Xie2020]; ``"inverse"``: 1 / max(tau, 1) [ZhangW2016];
            ``"exponential"``: exp(-a tau) [Chan2014]; ``"none"``: 1.
        power: The parameter a.

    Raises:
        ValueError: The kind is unknown.
    """
    tau = np.asarray(staleness, dtype=np.float64)
    if kind == "power":
        return np.asarray((1.0 + tau) ** -power)
    if kind == "inverse":
        return np.asarray(1.0 / np.maximum(tau, 1.0))
    if kind == "exponential":
        return np.asarray(np.exp(-power * tau))
    if kind == "none":
        return np.ones_like(tau)
    raise ValueError(f"kind must be power, inverse, exponential or none, got {kind!r}")


def weighted_sum(updates: npt.NDArray[D], factors: RealArray) -> npt.NDArray[D]:
    """Return the sum of updates (..., m, P), each times its factor (..., m); (..., P)."""
    total = np.zeros_like(updates[..., 0, :])
    for row in range(updates.shape[-2]):
        total += factors[..., row, None].astype(updates.dtype) * updates[..., row, :]
    return total


def average_factors(counts: RealArray, weights: RealArray, steps: RealArray | None) -> RealArray:
    """Compute the factors by which updates are added up, (..., m).

    They are n_i s_i / sum n_i [McMahan2017]. FedNova divides every update by its own number of
    steps and multiplies the sum by the mean number of steps, which is weighted likewise
    [WangJ2020] eq. (6).

    Args:
        counts: What clients count by, n_i, (..., m); 0 for those that are not merged.
        weights: The weights of staleness, s_i, (..., m).
        steps: The number of steps of each update, (..., m), for FedNova; otherwise None.
    """
    total = counts.sum(axis=-1, keepdims=True)
    share = counts / np.where(total > 0, total, 1.0)
    factors = share * weights
    if steps is not None:
        mean = (share * steps).sum(axis=-1, keepdims=True)
        factors = factors * mean / np.where(counts > 0, steps, 1.0)
    return np.asarray(factors)


def mix(
    weights: npt.NDArray[D], sent: npt.NDArray[D], factors: RealArray, order: IntArray
) -> tuple[npt.NDArray[D], npt.NDArray[D]]:
    """Move a model towards one client's weights after the other [Xie2020].

    Args:
        weights: The model, (..., P).
        sent: The weights that clients send, (..., m, P).
        factors: How far it moves towards each, (..., m); 0 for those that are not merged.
        order: The order in which they arrive, (..., m).

    Returns:
        The model afterwards, (..., P), and by how much each client moved it, (..., m, P).
    """
    now, moves = weights.copy(), np.zeros_like(sent)
    for turn in range(sent.shape[-2]):
        row = order[..., turn, None]
        factor = np.take_along_axis(factors, row, axis=-1).astype(sent.dtype)
        theirs = np.take_along_axis(sent, row[..., None], axis=-2)[..., 0, :]
        move = factor * (theirs - now)
        now += move
        np.put_along_axis(moves, row[..., None], move[..., None, :], axis=-2)
    return now, moves


def with_momentum(
    momentum: RealArray, update: RealArray, decay: float, merged: BoolArray
) -> RealArray:
    """Return the server's momentum after an update, (..., P) [Hsu2019].

    Args:
        momentum: The momentum before, (..., P).
        update: What was merged, (..., P).
        decay: The factor of the momentum before.
        merged: Whether anything was merged, (...); elsewhere momentum stays.
    """
    return np.where(merged[..., None], np.float32(decay) * momentum + update, momentum)
