"""A vehicle on a road lined with base stations: how long does it stay connected?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import fraction, non_negative, positive
from mec_gym.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Drive:
    """Where a vehicle was at given times. Fields (n, T).

    Attributes:
        position: Metres into the cell it is in, 0 <= position < cell_m.
        speed: m/s at that time.
        connection_time: Seconds until it leaves the cell, > 0.
    """

    position: FloatArray
    speed: FloatArray
    connection_time: FloatArray


@dataclass(frozen=True, slots=True)
class Road:
    """A straight road, cut into equal cells with a base station beside each centre.

    The speed is a Gauss-Markov process (Liang & Haas 1999; Camp, Boleng & Davies 2002,
    eq. 1): v' = a v + (1 - a) mean + std sqrt(1 - a^2) w with w ~ N(0, 1), kept between
    the limits, constant for ``step_s`` at a time. The defaults (assumed) are a city's main
    road: 54 km/h on average, stop and go, satellite positions blurred by buildings.

    Attributes:
        cell_m: Length of road that one station covers, m.
        offset_m: Distance of a station from the road, m.
        mean_speed: m/s.
        speed_std: Standard deviation of the speed, m/s.
        memory: a, correlation of speeds one step apart; 1 is a constant speed.
        min_speed: m/s, above 0, so that every cell is left in finite time.
        max_speed: m/s.
        step_s: s.
        position_error_m: Standard deviation of the measured position, m.
        speed_error: Standard deviation of the measured speed, m/s.
    """

    cell_m: float = 500.0
    offset_m: float = 50.0
    mean_speed: float = 15.0
    speed_std: float = 5.0
    memory: float = 0.64
    min_speed: float = 3.0
    max_speed: float = 30.0
    step_s: float = 10.0
    position_error_m: float = 30.0
    speed_error: float = 2.0

    def __post_init__(self) -> None:
        for name in ("cell_m", "mean_speed", "min_speed", "max_speed", "step_s"):
            positive(name, getattr(self, name))
        for name in ("offset_m", "speed_std", "position_error_m", "speed_error"):
            non_negative(name, getattr(self, name))
        fraction("memory", self.memory)
        if not self.min_speed <= self.mean_speed <= self.max_speed:
            raise ValueError(
                f"mean_speed must be in [min_speed, max_speed] = "
                f"[{self.min_speed}, {self.max_speed}], got {self.mean_speed}"
            )

    @property
    def longest_connection_s(self) -> float:
        """Time to cross a whole cell at the lowest speed, s."""
        return self.cell_m / self.min_speed

    def speeds(self, rng: np.random.Generator, n: int, steps: int) -> FloatArray:
        """N sample paths of the speed, stationary from the start, (n, steps) m/s."""
        # scipy.signal takes most of a second to load: not before a drive is wanted.
        from scipy.signal import lfilter

        a = self.memory
        noise = rng.standard_normal((n, steps))
        noise[:, 1:] *= math.sqrt(1.0 - a * a)
        speed: FloatArray = lfilter([1.0], [1.0, -a], noise, axis=-1)
        speed *= self.speed_std
        speed += self.mean_speed
        np.maximum(speed, self.min_speed, out=speed)
        return np.minimum(speed, self.max_speed, out=speed)

    def drive(self, rng: np.random.Generator, n: int, horizon: int, slot_s: float) -> Drive:
        """N drives, seen every ``slot_s`` seconds, ``horizon`` times.

        A drive begins at a uniformly drawn place within its first cell.

        Args:
            rng: Source of every draw.
            n: Number of drives.
            horizon: T.
            slot_s: Time between two looks, s.
        """
        last = (horizon - 1) * slot_s + self.longest_connection_s
        steps = math.ceil(last / self.step_s) + 1
        place = np.empty((n, steps + 1))
        place[:, 0] = rng.uniform(0.0, self.cell_m, size=n)
        speed = self.speeds(rng, n, steps)
        np.multiply(speed, self.step_s, out=place[:, 1:])
        np.cumsum(place, axis=-1, out=place)

        time = np.arange(horizon) * slot_s
        step = np.floor(time / self.step_s).astype(np.int64)
        now_speed = speed[:, step]
        now = place[:, step] + now_speed * (time - step * self.step_s)
        position = np.mod(now, self.cell_m)
        border = now - position + self.cell_m
        # The step during which each border is crossed.
        after = np.stack([np.searchsorted(p, b) for p, b in zip(place, border, strict=True)]) - 1
        leaving = after * self.step_s + (
            border - np.take_along_axis(place, after, -1)
        ) / np.take_along_axis(speed, after, -1)
        # Rounding may put a vehicle on the border itself; it is then just about to leave.
        return Drive(position, now_speed, np.maximum(leaving - time, 1e-6))

    def measure(
        self, rng: np.random.Generator, drive: Drive
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What the vehicle's own instruments say of a drive.

        Returns:
            Position in the cell (m), speed (m/s) and the connection time these promise
            if the speed stays (s), each (n, T). Position errors end at the cell's
            borders, speed errors at the limits.
        """
        shape = drive.position.shape
        position = drive.position + self.position_error_m * rng.standard_normal(shape)
        position = np.clip(position, 0.0, self.cell_m)
        speed = drive.speed + self.speed_error * rng.standard_normal(shape)
        speed = np.clip(speed, self.min_speed, self.max_speed)
        return position, speed, (self.cell_m - position) / speed

    def station_distance(self, position: npt.ArrayLike) -> FloatArray:
        """Distance in metres from a place in a cell to the cell's station."""
        return np.hypot(np.asarray(position) - self.cell_m / 2.0, self.offset_m)
