"""Gaussian noise, white and correlated, in single precision.

Drawing is what limits how fast environments with channels run, and normal numbers are most
of it.
"""

from __future__ import annotations

import math

import numpy as np

from mec_gym.core.types import Float32Array


def white_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32Array:
    """Independent standard normal numbers (Box & Muller 1958).

    Whole arrays of logarithms, sines and cosines take 4 ns a number; numpy's own
    ``standard_normal`` takes 10 (``benchmarks``, part
    ``distributed_inference``).

    Args:
        rng: Source of every draw.
        shape: Of the result.
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


def correlate(noise: Float32Array, memory: float) -> Float32Array:
    """Turn white noise into a stationary autoregressive process along the first axis.

    x_t = memory x_{t-1} + sqrt(1 - memory^2) w_t, x_0 = w_0, in place. Every pass adds what
    lies twice as far back as the last one did, so T steps take log2(T) passes.

    Args:
        noise: w, (T, ...).
        memory: Correlation one step apart, in [0, 1].
    """
    noise[1:] *= math.sqrt(1.0 - memory**2)
    back, factor = 1, memory
    while back < len(noise):
        noise[back:] += np.float32(factor) * noise[:-back]
        back, factor = 2 * back, factor * factor
    return noise
