"""Devices that walk about in a square with base stations on a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mec_gym.core.checks import check_fields, positive_int
from mec_gym.core.types import Float32Array, FloatArray
from mec_gym.network.gaussian import correlate, white_noise


@dataclass(frozen=True, slots=True)
class Plane:
    """A square, stations on a regular grid, devices in Gauss-Markov motion.

    Each component of the velocity is v' = a v + std sqrt(1 - a^2) w with w ~ N(0, 1)
    ([Camp2002] eq. (1) with mean 0), and it is constant for a step. Devices are reflected at the
    border.

    Attributes:
        side_m: The side of the square, m.
        speed_std: The standard deviation of each component of the velocity, m/s.
        memory: The correlation a of velocities one step apart, in [0, 1].

    Raises:
        ValueError: A parameter is out of its range; the message names it.
    """

    side_m: float = 600.0
    speed_std: float = 5.0
    memory: float = 0.9

    def __post_init__(self) -> None:
        check_fields(self, positive=("side_m",), non_negative=("speed_std",), fraction=("memory",))

    def stations(self, count: int) -> FloatArray:
        """The places of the stations, (count, 2) m: rows of equal height, evenly filled."""
        positive_int("stations", count)
        rows = max(1, round(math.sqrt(count)))
        per_row = [count // rows + (row < count % rows) for row in range(rows)]
        places = [
            ((column + 0.5) / width * self.side_m, (row + 0.5) / rows * self.side_m)
            for row, width in enumerate(per_row)
            for column in range(width)
        ]
        return np.array(places)

    def walk(
        self, rng: np.random.Generator, shape: tuple[int, ...], steps: int, step_s: float
    ) -> Float32Array:
        """Draw paths that are stationary from the start.

        They are in single precision and time is the first axis, for drawing limits how fast
        environments run.

        Args:
            rng: The source of every draw.
            shape: The shape of the batch of devices.
            steps: The number of moments.
            step_s: The time between two moments, s.

        Returns:
            The coordinates x and y, (steps, 2, *shape) m.
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
