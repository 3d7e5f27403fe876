"""Devices that walk about in a square with base stations on a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import fraction, non_negative, positive, positive_int

FloatArray = npt.NDArray[np.float64]


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
    ) -> FloatArray:
        """Sample paths, stationary from the start.

        Args:
            rng: Source of every draw.
            shape: Of the batch of devices.
            steps: Moments looked at.
            step_s: Time between two of them, s.

        Returns:
            Places (*shape, steps, 2) m.
        """
        place = np.empty((*shape, steps, 2))
        place[..., 0, :] = rng.uniform(0.0, self.side_m, size=(*shape, 2))
        velocity = rng.standard_normal((*shape, steps, 2))
        velocity[..., 1:, :] *= math.sqrt(1.0 - self.memory**2)
        for t in range(1, steps):
            velocity[..., t, :] += self.memory * velocity[..., t - 1, :]
        place[..., 1:, :] = velocity[..., :-1, :] * (self.speed_std * step_s)
        np.cumsum(place, axis=-2, out=place)
        # Reflection: unfold the square, fold it back.
        np.mod(place, 2.0 * self.side_m, out=place)
        return np.asarray(self.side_m - np.abs(place - self.side_m))
