"""Bandwidth over time, from networks that come and go or from a measured trace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import check_fields, non_negative, numbers, positive
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.network.recordings import read_recording
from mec_gym.network.tandem import RateCurve

CAT1, G3, G4, WIFI = 0.13e6, 1.10e6, 5.85e6, 18.88e6
"""Mean uplink rates of networks in use, [Hu2019] table I, bit/s."""


def ornstein_uhlenbeck(
    rng: np.random.Generator, gaps: FloatArray, memory_s: npt.ArrayLike
) -> FloatArray:
    """Draw stationary, correlated N(0, 1) noise at irregular times.

    This is the exact discretisation of dx = -x/m dt + sqrt(2/m) dW: the correlation over a gap
    is exp(-gap / m).

    Args:
        rng: The source of every draw.
        gaps: The time since the moment before, (n, T) s; the first one does not matter.
        memory_s: The correlation times m of C independent series, (C,) s; with 0 a series is
            white noise.

    Returns:
        The noise, (n, T, C).
    """
    memory = np.asarray(memory_s, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        keep = np.where(memory > 0, np.exp(-gaps[..., None] / memory), 0.0)
    noise = rng.standard_normal(keep.shape)
    noise[:, 1:] *= np.sqrt(1.0 - keep[:, 1:] ** 2)
    # The numbers of a moment stand side by side here, which makes the recursion twice as fast.
    keep, series = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (keep, noise))
    for before, factor, now in zip(series, keep[1:], series[1:], strict=False):
        now += factor * before
    return np.ascontiguousarray(series.swapaxes(0, 1))


@dataclass(frozen=True, slots=True)
class Regimes:
    """The rate of a device that changes from one network to another.

    The device stays in a network for an exponentially distributed time and then changes to any
    other network with equal probability. Within a network the logarithm of the rate is an
    Ornstein-Uhlenbeck process, limited to two deviations.

    Attributes:
        means: The median rate of each network, bit/s.
        dwell_s: The mean time in a network, s.
        spread: The standard deviation of the logarithm of the rate within a network, at most 2.
        memory_s: The correlation time of the rate within a network, s.

    Raises:
        ValueError: A parameter is out of its range; the message names it.
    """

    means: tuple[float, ...]
    dwell_s: float = 20.0
    spread: float = 0.3
    memory_s: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", numbers("means", self.means))
        check_fields(
            self,
            positive=("dwell_s",),
            non_negative=("spread", "memory_s"),
            at_most={"spread": 2.0},
        )

    @property
    def lowest(self) -> float:
        """The lowest rate that can occur, bit/s."""
        return float(min(self.means) * np.exp(-2 * self.spread))

    @property
    def highest(self) -> float:
        """The highest rate that can occur, bit/s."""
        return float(max(self.means) * np.exp(2 * self.spread))

    def sample(self, rng: np.random.Generator, time: FloatArray) -> FloatArray:
        """Draw the rates at given times, (n, T) s -> (n, T) bit/s."""
        return self.sample_networks(rng, time)[0]

    def sample_networks(
        self, rng: np.random.Generator, time: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """Draw the rates and the networks at given times.

        Args:
            rng: The source of every draw.
            time: The times, (n, T) s.

        Returns:
            The rates in bit/s, (n, T), and which network each belongs to, as indices of
            ``means``, (n, T).
        """
        gaps = np.diff(time, axis=-1, prepend=time[:, :1])
        count = len(self.means)
        regime = rng.integers(count, size=(len(time), 1))
        if count > 1:
            # The probability of another network after a gap; a change there and back is none.
            other = (1.0 - 1.0 / count) * (
                1.0 - np.exp(-gaps * count / ((count - 1) * self.dwell_s))
            )
            shift = rng.integers(1, count, size=time.shape)
            shift *= rng.random(time.shape) < other
            regime = (regime + np.cumsum(shift, axis=-1)) % count
        noise = ornstein_uhlenbeck(rng, gaps, [self.memory_s])[..., 0]
        regime = np.broadcast_to(regime, time.shape)
        rate = np.array(self.means)[regime] * np.exp(self.spread * np.clip(noise, -2.0, 2.0))
        return np.asarray(np.clip(rate, self.lowest, self.highest)), regime


@dataclass(frozen=True, slots=True)
class MeasuredBandwidth:
    """A measured trace of the rate that is entered at a random moment.

    The rate is constant between the moments of the trace. After its end the trace begins anew,
    and it is taken to last for one median step after the last moment.

    A rate of 0 is an outage, in which the link waits. What comes during an outage is sent in
    the first step after it: its rate is the mean from its arrival to the end of that step.

    Attributes:
        time: The moments in increasing order, s.
        rate: The rate from each moment on, bit/s.
        max_gap: A step that is longer than this many median steps counts as a gap in the trace,
            which is an error.

    Raises:
        ValueError: Times do not increase or are not finite, there is a gap, a rate is negative,
            or all are 0.
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
        for index, value in enumerate(self.rate):
            non_negative(f"rate[{index}]", value)
        object.__setattr__(self, "rate", tuple(float(value) for value in self.rate))
        if not any(self.rate):
            raise ValueError("rate must not be 0 throughout")
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
                f"of {np.median(steps):g} s; a larger max_gap takes the rate before it as lasting"
            )
        object.__setattr__(self, "time", tuple(float(t) for t in self.time))

    @classmethod
    def from_csv(
        cls, path: str | Path, max_gap: float = 5.0, unit: str | None = None
    ) -> MeasuredBandwidth:
        """Read a CSV file of two columns, time and bandwidth.

        Args:
            path: The file; its first line may hold headings. They may name the units, as in
                ``time_ms,throughput (Mbit/s)``; otherwise they are s and bit/s.
            max_gap: A step that is longer than this many median steps is an error.
            unit: Unit of the bandwidth, such as ``kbit/s`` or ``MB/s``, if no heading names it.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no CSV file, a heading is not clear about the unit, a value is
                missing or no number that is possible, times do not increase, or there is a gap.
                The message names the line or the times.
        """
        time, rate = read_recording(Path(path), unit)
        try:
            return cls(time, rate, max_gap)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def lowest(self) -> float:
        """The lowest rate that can occur, bit/s."""
        return float(self.rate_after(np.array(self.time) - self.time[0]).min())

    @property
    def highest(self) -> float:
        """The highest rate that can occur, bit/s."""
        return max(self.rate)

    def sample(self, rng: np.random.Generator, time: FloatArray) -> FloatArray:
        """Draw the rates at given times, (n, T) s -> (n, T) bit/s."""
        return self.sample_gaps(rng, time)[0]

    def sample_gaps(
        self, rng: np.random.Generator, time: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Draw the rates at given times, and the mean rates between them.

        Args:
            rng: The source of every draw.
            time: The times, (n, T) s.

        Returns:
            The rates at these times, (n, T) bit/s, which are never 0; and the mean rate from
            each of them until the next, (n, T) bit/s, which is 0 if an outage lasts that long.
            After the last time it is the rate at that time.
        """
        begin = rng.uniform(0.0, self._duration, size=(len(time), 1))
        rounds, moment = np.divmod(begin + time, self._duration)
        rate = self.rate_after(moment)
        begins = np.append(np.array(self.time) - self.time[0], self._duration)
        period = RateCurve.of(begins, (*self.rate, 0.0))
        gaps = np.diff(time, axis=-1)
        # Of the bits within one period, so that many of them do not cost digits.
        sent = np.diff(period.bits_until(moment), axis=-1)
        sent += np.diff(rounds, axis=-1) * period.bits[-1]
        mean = rate.copy()
        np.divide(sent, gaps, out=mean[:, :-1], where=gaps > 0)
        return rate, np.maximum(mean, 0.0)

    @property
    def _duration(self) -> float:
        return float(self.time[-1] - self.time[0] + np.median(np.diff(self.time)))

    def rate_after(self, moment: FloatArray) -> FloatArray:
        """The rate at moments of the trace, counted from its begin; in an outage, the mean.

        The last rate holds after the end.

        Args:
            moment: The moments, (...) s.
        """
        begins = np.array(self.time) - self.time[0]
        place = np.searchsorted(begins, moment, side="right") - 1
        rate = np.array(self.rate)
        if rate.all():
            return np.asarray(rate[place])
        # The step, at this or a later place, in which something is sent; perhaps a round later.
        sends = np.flatnonzero(rate)
        sends = np.append(sends, sends[0] + len(rate))
        step = sends[np.searchsorted(sends, place)]
        rounds, step = np.divmod(step, len(rate))
        ends = np.append(begins[1:], self._duration)
        end = ends[step] + rounds * self._duration
        sent = rate[step] * (ends - begins)[step]
        # In an outage the end is later than the moment; elsewhere it may be the same.
        found = np.array(rate[place], dtype=np.float64)
        return np.divide(sent, end - moment, out=found, where=found == 0)
