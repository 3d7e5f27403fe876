"""Random numbers that are a function of a key: every minibatch of an episode in eight bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import FloatArray, IntArray

KeyArray = npt.NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""The step of SplitMix64's counter, 2**64 divided by the golden ratio."""

_ROUNDS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT = np.uint64(31)
_BELOW_53_BITS = np.uint64(11)


def mix(x: KeyArray) -> KeyArray:
    """Return SplitMix64's finaliser of 64-bit numbers, in the same shape [Steele2014].

    It is one to one, and each bit of the input flips each bit of the output about half of the
    time. So numbers that follow each other come out as if drawn at random.

    Args:
        x: Any 64-bit numbers; products wrap around.
    """
    mixed = np.array(x, dtype=np.uint64)
    _mix(mixed)
    return mixed


def _mix(x: KeyArray) -> None:
    """Do so in place, since new arrays take longer than the arithmetic."""
    shifted = np.empty_like(x)
    for shift, factor in _ROUNDS:
        np.right_shift(x, shift, out=shifted)
        np.bitwise_xor(x, shifted, out=x)
        np.multiply(x, factor, out=x)
    np.right_shift(x, _LAST_SHIFT, out=shifted)
    np.bitwise_xor(x, shifted, out=x)


def draw_indices(
    key: npt.ArrayLike, client: npt.ArrayLike, count: int, samples: npt.ArrayLike
) -> IntArray:
    """Return which of its images a client learns from, one after the other, (..., count).

    Images are drawn with replacement. They depend on nothing but the arguments of their own row,
    and the first ones stay the same if more are drawn.

    With the counter's step g, the client's key is key' = mix(key + (client + 1) g), and the
    c-th index is floor(samples u), where u in [0, 1) is made of the top 53 bits of
    mix(key' + c g), c = 1, 2, ..., count.

    Args:
        key: The keys, 64-bit numbers (...).
        client: Which client draws, (...), from 0 on.
        count: How many indices are drawn.
        samples: How many images the client has, (...), at least 1.
    """
    keys = np.asarray(key, dtype=np.uint64)
    numbers = np.asarray(client).astype(np.uint64) + np.uint64(1)
    counter = np.arange(1, count + 1, dtype=np.uint64) * GAMMA
    with np.errstate(over="ignore"):  # numpy warns of a scalar that wraps, not of an array
        own = mix(keys + numbers * GAMMA)
    bits = own[..., None] + counter
    _mix(bits)
    bits >>= _BELOW_53_BITS
    # The product with u < 1 is rounded, but never up to the number of samples.
    scaled: FloatArray = bits * 2.0**-53 * np.asarray(samples)[..., None]
    return scaled.astype(np.int64)
