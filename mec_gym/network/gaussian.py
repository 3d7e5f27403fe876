"""Gaussian noise, white and correlated, in single precision.

Drawing limits how fast environments with channels run, and normal numbers are most of it.
"""

from __future__ import annotations

import math

import numpy as np

from mec_gym.core.types import Float32Array, FloatArray

MOST_SPREAD = 3.0
"""Standard deviations that a logarithm of a device's speed or rate is at most from its mean."""


def white_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32Array:
    """Draw independent standard normal numbers [BoxMuller1958].

    Whole arrays of logarithms, sines and cosines take 4 ns per number, and numpy's own
    ``standard_normal`` takes 10 ns (``benchmarks``, part ``distributed_inference``).

    Args:
        rng: The source of every draw.
        shape: The shape of the result.
    """
    count = math.prod(shape)
    half = -(-count // 2)
    uniform = rng.random((2, half), dtype=np.float32)
    radius, angle = uniform
    np.subtract(1.0, radius, out=radius)  # in (0, 1]: its logarithm is finite
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= 2.0 * math.pi
    noise = np.empty((2, half), dtype=np.float32)
    np.multiply(radius, np.cos(angle), out=noise[0])
    np.multiply(radius, np.sin(angle, out=angle), out=noise[1])
    return noise.reshape(-1)[:count].reshape(shape)


def bounded_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Draw independent standard normal numbers; those beyond ``MOST_SPREAD`` are cut off.

    Args:
        rng: The source of every draw.
        shape: The shape of the result.
    """
    return np.clip(white_noise(rng, shape), -MOST_SPREAD, MOST_SPREAD).astype(np.float64)


def correlate(noise: Float32Array, memory: float) -> Float32Array:
    """Turn white noise into a stationary autoregressive process along the first axis.

    The process is x_t = memory x_{t-1} + sqrt(1 - memory^2) w_t with x_0 = w_0. Every pass adds
    what lies twice as far back as in the pass before, so T steps take log2(T) passes.

    Args:
        noise: The white noise w, (T, ...); it is overwritten by x.
        memory: The correlation of x one step apart, in [0, 1].

    Returns:
        The array ``noise`` itself.
    """
    noise[1:] *= math.sqrt(1.0 - memory**2)
    back, factor = 1, memory
    while back < len(noise):
        noise[back:] += np.float32(factor) * noise[:-back]
        back, factor = 2 * back, factor * factor
    return noise
