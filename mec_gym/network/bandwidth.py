"""Bandwidth over time: networks that come and go, or a measured trace."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import non_negative, numbers, positive
from mec_gym.core.types import FloatArray

CAT1, G3, G4, WIFI = 0.13e6, 1.10e6, 5.85e6, 18.88e6
"""Mean uplink rates of networks in use, bit/s: DADS (Hu et al., INFOCOM 2019), table I."""


def ornstein_uhlenbeck(
    rng: np.random.Generator, gaps: FloatArray, memory_s: npt.ArrayLike
) -> FloatArray:
    """Stationary, correlated N(0, 1) noise at irregular times.

    The exact discretisation of dx = -x/m dt + sqrt(2/m) dW: correlation exp(-gap / m).

    Args:
        rng: Source of every draw.
        gaps: Time since the moment before, (n, T) s; the first one does not matter.
        memory_s: Correlation times m of C independent series, (C,) s; 0: white noise.

    Returns:
        (n, T, C).
    """
    memory = np.asarray(memory_s, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        keep = np.where(memory > 0, np.exp(-gaps[..., None] / memory), 0.0)
    noise = rng.standard_normal(keep.shape)
    noise[:, 1:] *= np.sqrt(1.0 - keep[:, 1:] ** 2)
    for t in range(1, noise.shape[1]):
        noise[:, t] += keep[:, t] * noise[:, t - 1]
    return noise


@dataclass(frozen=True, slots=True)
class Regimes:
    """A device that is now in one network, now in another.

    It stays in a network for an exponentially distributed time and then changes to any
    other with equal probability. Within a network the logarithm of the rate wanders as an
    Ornstein-Uhlenbeck process, limited to two deviations.

    Attributes:
        means: Median rate of each network, bit/s.
        dwell_s: Mean stay in a network, s.
        spread: Standard deviation of the log of the rate within a network.
        memory_s: Correlation time of the rate within a network, s.

    Raises:
        ValueError: A rate or time that is not positive, a negative spread.
    """

    means: tuple[float, ...]
    dwell_s: float = 20.0
    spread: float = 0.3
    memory_s: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", numbers("means", self.means))
        positive("dwell_s", self.dwell_s)
        non_negative("spread", self.spread)
        non_negative("memory_s", self.memory_s)
        if self.spread > 2:
            raise ValueError(f"spread must be at most 2, got {self.spread!r}")

    @property
    def lowest(self) -> float:
        """No episode holds less, bit/s."""
        return float(min(self.means) * np.exp(-2 * self.spread))

    @property
    def highest(self) -> float:
        """No episode holds more, bit/s."""
        return float(max(self.means) * np.exp(2 * self.spread))

    def sample(self, rng: np.random.Generator, time: FloatArray) -> FloatArray:
        """Rates at the given times, (n, T) s -> (n, T) bit/s."""
        gaps = np.diff(time, axis=-1, prepend=time[:, :1])
        count = len(self.means)
        regime = rng.integers(count, size=(len(time), 1))
        if count > 1:
            # Probability of another network after a gap, changes there and back included.
            other = (1.0 - 1.0 / count) * (
                1.0 - np.exp(-gaps * count / ((count - 1) * self.dwell_s))
            )
            shift = rng.integers(1, count, size=time.shape)
            shift *= rng.random(time.shape) < other
            regime = (regime + np.cumsum(shift, axis=-1)) % count
        noise = ornstein_uhlenbeck(rng, gaps, [self.memory_s])[..., 0]
        rate = np.array(self.means)[regime] * np.exp(self.spread * np.clip(noise, -2.0, 2.0))
        return np.asarray(np.clip(rate, self.lowest, self.highest))


@dataclass(frozen=True, slots=True)
class MeasuredBandwidth:
    """A measured trace, constant between its moments, entered at a random moment.

    After its end it begins anew; it is taken to last one median step beyond the last moment.

    Attributes:
        time: Moments, s, increasing.
        rate: From each moment on, bit/s.
        max_gap: A step longer than this many median steps is a gap in the trace.

    Raises:
        ValueError: Times that do not increase or are not finite, gaps, rates that are not
            positive.
    """

    time: tuple[float, ...]
    rate: tuple[float, ...]
    max_gap: float = 5.0

    def __post_init__(self) -> None:
        positive("max_gap", self.max_gap)
        if len(self.time) < 2 or len(self.time) != len(self.rate):
            raise ValueError(
                f"time and rate must hold the same number of at least 2 values, "
                f"got {len(self.time)} and {len(self.rate)}"
            )
        object.__setattr__(self, "rate", numbers("rate", self.rate))
        if not np.isfinite(self.time).all():
            row = int(np.argmin(np.isfinite(self.time)))
            raise ValueError(f"time must be finite, got {self.time[row]!r}")
        steps = np.diff(self.time)
        if not (steps > 0).all():
            row = int(np.argmin(steps > 0))
            raise ValueError(
                f"time must increase, got {self.time[row]!r} and then {self.time[row + 1]!r}"
            )
        if steps.max() > self.max_gap * np.median(steps):
            row = int(np.argmax(steps))
            raise ValueError(
                f"time must have no gaps: {steps[row]:g} s between {self.time[row]:g} and "
                f"{self.time[row + 1]:g} are more than max_gap = {self.max_gap:g} median steps "
                f"of {np.median(steps):g} s"
            )
        object.__setattr__(self, "time", tuple(float(t) for t in self.time))

    @classmethod
    def from_csv(cls, path: str | Path, max_gap: float = 5.0) -> MeasuredBandwidth:
        """Read two columns: time (s) and bandwidth (bit/s); a line of headings may come first.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A missing, non-numeric, negative or zero value, times that do not
                increase: names the line. A gap: names its times. No text file.
        """
        time: list[float] = []
        rate: list[float] = []
        for line, (moment, bandwidth) in _rows(Path(path)):
            if bandwidth <= 0:
                raise ValueError(
                    f"{path}, line {line}: bandwidth must be positive, got {bandwidth}"
                )
            if time and moment <= time[-1]:
                raise ValueError(
                    f"{path}, line {line}: time must increase, got {time[-1]} and then {moment}"
                )
            time.append(moment)
            rate.append(bandwidth)
        try:
            return cls(tuple(time), tuple(rate), max_gap)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def lowest(self) -> float:
        """No episode holds less, bit/s."""
        return min(self.rate)

    @property
    def highest(self) -> float:
        """No episode holds more, bit/s."""
        return max(self.rate)

    def sample(self, rng: np.random.Generator, time: FloatArray) -> FloatArray:
        """Rates at the given times, (n, T) s -> (n, T) bit/s."""
        moments = np.array(self.time) - self.time[0]
        duration = moments[-1] + np.median(np.diff(moments))
        begin = rng.uniform(0.0, duration, size=(len(time), 1))
        place = np.searchsorted(moments, np.mod(begin + time, duration), side="right") - 1
        return np.asarray(np.array(self.rate)[place])


def _rows(path: Path) -> Iterator[tuple[int, tuple[float, float]]]:
    """The numbers of a CSV file of two columns, with the number of their line."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            rows = list(csv.reader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not a CSV file: {error}") from error
    for line, row in enumerate(rows, 1):
        if not row:
            continue
        try:
            moment, bandwidth = (float(cell) for cell in row)
            if not np.isfinite([moment, bandwidth]).all():
                raise ValueError
        except ValueError:
            # Headings: words, where every later line has numbers.
            if line == 1 and len(row) == 2 and all(map(_is_word, row)):
                continue
            raise ValueError(
                f"{path}, line {line} must be two numbers (time in s, bandwidth in bit/s), "
                f"got {','.join(row)!r}"
            ) from None
        yield line, (moment, bandwidth)


def _is_word(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return bool(cell.strip())
    return False
