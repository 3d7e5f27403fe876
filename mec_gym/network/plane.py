"""Devices that walk about in a square with base stations on a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mec_gym.core.checks import fraction, non_negative, positive, positive_int
from mec_gym.core.types import Float32Array, FloatArray
from mec_gym.network.gaussian import correlate, white_noise


@dataclass(frozen=True, slots=True)
class Plane:
    """A square, stations on a regular grid, devices in Gauss-Markov motion.

    Each component of the velocity is v' = a v + std sqrt(1 - a^2) w, w ~ N(0, 1) (Camp,
    Boleng & Davies 2002, eq. 1 with mean 0), constant for a step. Devices are reflected at
    the border.

    Attributes:
        side_m: Of the square, m.
        speed_std: Standard deviation of each component of the velocity, m/s.
        memory: a, correlation of velocities one step apart.

    Raises:
        ValueError: A side that is not positive, a memory outside [0, 1].
    """

    side_m: float = 600.0
    speed_std: float = 5.0
    memory: float = 0.9

    def __post_init__(self) -> None:
        positive("side_m", self.side_m)
        non_negative("speed_std", self.speed_std)
        fraction("memory", self.memory)

    def stations(self, count: int) -> FloatArray:
        """Places of the stations, (count, 2) m: rows of equal height, evenly filled."""
        positive_int("stations", count)
        rows = max(1, round(math.sqrt(count)))
        per_row = [len(part) for part in np.array_split(np.arange(count), rows)]
        places = [
            ((column + 0.5) / width * self.side_m, (row + 0.5) / rows * self.side_m)
            for row, width in enumerate(per_row)
            for column in range(width)
        ]
        return np.array(places)

    def walk(
        self, rng: np.random.Generator, shape: tuple[int, ...], steps: int, step_s: float
    ) -> Float32Array:
        """Sample paths, stationary from the start.

        In single precision and time first: drawing is what limits how fast environments run.

        Args:
            rng: Source of every draw.
            shape: Of the batch of devices.
            steps: Moments looked at.
            step_s: Time between two of them, s.

        Returns:
            Coordinates x and y, (steps, 2, *shape) m.
        """
        side = np.float32(self.side_m)
        place = np.empty((steps, 2, *shape), dtype=np.float32)
        place[0] = rng.random((2, *shape), dtype=np.float32) * side
        velocity = white_noise(rng, (steps - 1, 2, *shape))
        correlate(velocity, self.memory)
        np.multiply(velocity, self.speed_std * step_s, out=place[1:], casting="same_kind")
        np.cumsum(place, axis=0, out=place)
        # Reflection: fold the plane onto the square, x -> |x - 2 side round(x / (2 side))|.
        folds = place / (2.0 * side)
        np.rint(folds, out=folds)
        folds *= 2.0 * side
        place -= folds
        return np.abs(place, out=place)
