"""A vehicle on a road lined with base stations: how long does it stay connected?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import check_fields
from mec_gym.core.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """Where a vehicle was at given times, fields (n, T).

    Attributes:
        position: The way that it has made in its cell, m, 0 <= position < cell_m.
        speed: Its speed, m/s.
        connection_time: The time until it leaves the cell, s, > 0.
    """

    position: FloatArray
    speed: FloatArray
    connection_time: FloatArray


@dataclass(frozen=True, slots=True)
class Road:
    """A straight road, cut into equal cells with a base station beside the centre of each.

    The speed is a Gauss-Markov process ([LiangHaas1999], [Camp2002] eq. (1)): v' = a v + (1 - a)
    mean + std sqrt(1 - a^2) w with w ~ N(0, 1). It is kept between the limits and is constant for
    ``step_s`` at a time. The defaults are assumed: a main road of a city, 54 km/h on average,
    stop and go, and satellite positions that buildings blur.

    Attributes:
        cell_m: The length of road that one station covers, m.
        offset_m: The distance of a station from the road, m.
        mean_speed: The mean speed, m/s.
        speed_std: The standard deviation of the speed, m/s.
        memory: The correlation a of speeds one step apart, in [0, 1]; with 1 the speed is
            constant.
        min_speed: The lowest speed, m/s; above 0, so that every cell is left in finite time.
        max_speed: The highest speed, m/s.
        step_s: The time for which the speed is constant, s.
        position_error_m: The standard deviation of the measured position, m.
        speed_error: The standard deviation of the measured speed, m/s.

    Raises:
        ValueError: A parameter is out of its range; the message names it.
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
        check_fields(
            self,
            positive=("cell_m", "mean_speed", "min_speed", "max_speed", "step_s"),
            non_negative=("offset_m", "speed_std", "position_error_m", "speed_error"),
            fraction=("memory",),
        )
        if not self.min_speed <= self.mean_speed <= self.max_speed:
            raise ValueError(
                f"mean_speed must be in [min_speed, max_speed] = "
                f"[{self.min_speed}, {self.max_speed}], got {self.mean_speed}"
            )

    @property
    def longest_connection_s(self) -> float:
        """The time to cross a whole cell at the lowest speed, s."""
        return self.cell_m / self.min_speed

    def speeds(self, rng: np.random.Generator, n: int, steps: int) -> FloatArray:
        """Draw paths of the speed that are stationary from the start.

        Args:
            rng: The source of every draw.
            n: The number of paths.
            steps: The number of steps per path.

        Returns:
            The speed in each step, (n, steps) m/s.
        """
        # scipy.signal takes most of a second to load, so it is loaded for the first drive only.
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
        """Draw drives, each seen every ``slot_s`` seconds.

        A drive begins at a uniformly drawn place in its first cell.

        Args:
            rng: The source of every draw.
            n: The number of drives.
            horizon: How often each drive is seen, T.
            slot_s: The time between two moments at which it is seen, s.
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
        return Drive(
            position=position,
            speed=now_speed,
            connection_time=np.maximum(leaving - time, 1e-6),
        )

    def measure(
        self, rng: np.random.Generator, drive: Drive
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Draw what the vehicle's own instruments say about a drive.

        Args:
            rng: The source of every draw.
            drive: The true drive.

        Returns:
            The position in the cell (m), the speed (m/s) and the connection time that follows
            from them if the speed does not change (s), each (n, T). The measured position stays
            in the cell, and the measured speed stays between the limits.
        """
        shape = drive.position.shape
        position = drive.position + self.position_error_m * rng.standard_normal(shape)
        position = np.clip(position, 0.0, self.cell_m)
        speed = drive.speed + self.speed_error * rng.standard_normal(shape)
        speed = np.clip(speed, self.min_speed, self.max_speed)
        return position, speed, (self.cell_m - position) / speed

    def station_distance(self, position: npt.ArrayLike) -> FloatArray:
        """The distance from a place in a cell to the station of that cell, (...) m -> (...) m."""
        return np.hypot(np.asarray(position) - self.cell_m / 2.0, self.offset_m)
