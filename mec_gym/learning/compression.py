"""What is left of a model's update when fewer bits of it are sent, and how many bits that takes.

All functions broadcast over leading axes. What comes of an update in a stack equals, bit for bit,
what comes of it alone. Bits are counted as a share of sending all P weights with 32 bits each.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from mec_gym.core.checks import non_negative, positive_int
from mec_gym.core.types import RealArray
from mec_gym.learning.perceptron import Perceptron

BITS_PER_WEIGHT = 32


def top_k(update: RealArray, share: float) -> RealArray:
    """Keep the largest entries of each update and make the others 0, (..., P).

    Args:
        update: The updates, (..., P).
        share: How much of P is kept, rounded up to whole entries, in (0, 1]. Of entries of one
            magnitude, the first are kept.

    Raises:
        ValueError: The share is not in (0, 1].
    """
    parameters = update.shape[-1]
    kept = _entries(parameters, share)
    magnitude = np.abs(update)
    least = np.partition(magnitude, parameters - kept, axis=-1)[..., parameters - kept, None]
    larger, equal = magnitude > least, magnitude == least
    room = kept - larger.sum(axis=-1, keepdims=True)
    return np.where(larger | (equal & (equal.cumsum(axis=-1) <= room)), update, 0)


def top_k_bits(parameters: int, share: float) -> float:
    """Return which share of the bits :func:`top_k` sends, at most 1.

    An entry takes 32 bits and its index in addition. Where that is more than sending all P
    weights, zeros and all, these are sent.

    Args:
        parameters: P, the number of weights.
        share: How much of P is kept, in (0, 1].

    Raises:
        ValueError: The share is not in (0, 1], or P is not a whole number of at least 1.
    """
    positive_int("parameters", parameters)
    return min(1.0, _entries(parameters, share) * _cost_of_entry(parameters))


def significant(
    update: RealArray, weights: RealArray, threshold: float
) -> tuple[RealArray, RealArray]:
    """Keep the entries that change their weight by much [Hsieh2017].

    An entry is significant if its magnitude is more than ``threshold`` times that of its weight.
    The other entries become 0. Where so many are significant that they and their indices would
    take more bits than the whole update, the whole update is sent.

    Args:
        update: The updates, (..., P).
        weights: The weights that they change, (..., P).
        threshold: What share of a weight is significant; 0 keeps all entries but zeros.

    Returns:
        What is sent, (..., P), and its share of the bits, (...), at most 1.

    Raises:
        ValueError: The threshold is negative.
    """
    non_negative("threshold", threshold)
    kept = np.abs(update) > threshold * np.abs(weights)
    bits = kept.sum(axis=-1) * _cost_of_entry(kept.shape[-1])
    whole = bits >= 1
    return np.where(kept | whole[..., None], update, 0), np.where(whole, 1.0, bits)


def low_rank(update: RealArray, network: Perceptron, rank: int) -> RealArray:
    """Replace the matrix of each layer by the best one of a given rank, (..., P) [Konecny2016].

    The best one, in the sum of squared differences, has the largest singular values only. Biases
    stay as they are, and so does a matrix that has no higher rank anyway, or that has diverged.
    In the paper, clients train one of two factors and the other one is random; here they train
    the whole matrix, and send factors of it.

    Args:
        update: The updates, (..., P).
        network: Whose weights they change.
        rank: The rank of the matrices that are sent.

    Raises:
        ValueError: The rank is not a whole number of at least 1, or an update is another
            network's.
    """
    positive_int("rank", rank)
    sent = np.array(update, order="C")
    for matrix, _ in network.matrices(sent):
        if rank < min(matrix.shape[-2:]):
            finite = np.isfinite(matrix).all(axis=(-2, -1), keepdims=True)
            left, values, right = np.linalg.svd(np.where(finite, matrix, 0), full_matrices=False)
            best = (left[..., :rank] * values[..., None, :rank]) @ right[..., :rank, :]
            np.copyto(matrix, best, where=finite)
    return sent


def low_rank_bits(network: Perceptron, rank: int) -> float:
    """Return which share of the bits :func:`low_rank` sends, at most 1.

    Per layer these are rank x (inputs + outputs) numbers of both factors, or inputs x outputs of
    the matrix if that is less, and the biases.

    Args:
        network: Whose weights they are.
        rank: The rank of the matrices that are sent.

    Raises:
        ValueError: The rank is not a whole number of at least 1.
    """
    positive_int("rank", rank)
    numbers = sum(
        min(rank * (inputs + outputs), inputs * outputs) + outputs
        for inputs, outputs in pairwise(network.sizes)
    )
    return numbers / network.parameters


def _entries(parameters: int, share: float) -> int:
    """Return how many of P entries a share is, rounded up."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share!r}")
    # 0.07 x 100 is a little more than 7 in floats, but 7 are meant.
    return max(1, math.ceil(round(share * parameters, 6)))


def _cost_of_entry(parameters: int) -> float:
    """Return the bits of one of P entries, index included, as a share of the bits of all."""
    index = (parameters - 1).bit_length()  # the logarithm to base 2, rounded up
    return (BITS_PER_WEIGHT + index) / (BITS_PER_WEIGHT * parameters)
