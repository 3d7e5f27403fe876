"""The path loss of a radio link and the rate that it carries, in SI units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import decibels, positive
from mec_gym.core.types import FloatArray

SLOPE_DB = 37.6  # dB of path loss per decade of distance
NEAREST_M = 35.0  # m, the smallest distance of the path-loss model


def path_loss_db(distance_m: npt.ArrayLike) -> FloatArray:
    """The path loss of a macro cell at 2 GHz, (...) m -> (...) dB.

    It is 128.1 + 37.6 log10(d / km), [TR36942] section 4.5.2, with the base antenna 15 m above the
    roofs. Below 35 m, the smallest distance of the model, the loss of 35 m is used.
    """
    distance_km = np.maximum(np.asarray(distance_m, dtype=np.float64), NEAREST_M) / 1000.0
    return np.asarray(128.1 + SLOPE_DB * np.log10(distance_km))


def noise_power_dbm(bandwidth_hz: float, noise_figure_db: float) -> float:
    """The thermal noise over a band, -174 dBm/Hz (kT at 290 K) plus the receiver's figure, dBm."""
    return float(-174.0 + 10.0 * np.log10(bandwidth_hz) + noise_figure_db)


def shannon_rate(bandwidth_hz: npt.ArrayLike, snr: npt.ArrayLike) -> FloatArray:
    """The capacity B log2(1 + SNR) of [Shannon1948], (...) bit/s; SNR is a ratio, not dB."""
    return np.asarray(bandwidth_hz, dtype=np.float64) * np.log2(1.0 + np.asarray(snr))


@dataclass(frozen=True, slots=True)
class Radio:
    """A link budget; the defaults are those of an LTE uplink, [TR36942] section 4.

    Attributes:
        transmit_power_dbm: The power of the sender, dBm; 0.2 W by default.
        bandwidth_hz: The width of the band, Hz.
        noise_figure_db: The noise figure of the receiver, dB: 5 at a base station, 9 at a
            terminal [TR36942].
        antenna_gain_dbi: The gain of both antennas together, cables included, dBi: 15 of the
            base station and 0 of the terminal [TR36942].

    Raises:
        ValueError: A power or figure is not in [-100, 100], or the band is not wider than 0.
    """

    transmit_power_dbm: float = 23.0
    bandwidth_hz: float = 3e6
    noise_figure_db: float = 5.0
    antenna_gain_dbi: float = 15.0

    def __post_init__(self) -> None:
        positive("bandwidth_hz", self.bandwidth_hz)
        for name in ("transmit_power_dbm", "noise_figure_db", "antenna_gain_dbi"):
            decibels(name, getattr(self, name))

    def snr(self, distance_m: npt.ArrayLike) -> FloatArray:
        """The signal-to-noise ratio at a distance, (...) m -> (...), a ratio and not dB."""
        noise = noise_power_dbm(self.bandwidth_hz, self.noise_figure_db)
        sent = self.transmit_power_dbm + self.antenna_gain_dbi
        snr_db = sent - path_loss_db(distance_m) - noise
        return np.asarray(10.0 ** (snr_db / 10.0))

    def rate(self, distance_m: npt.ArrayLike) -> FloatArray:
        """The Shannon rate at a distance, (...) m -> (...) bit/s."""
        return shannon_rate(self.bandwidth_hz, self.snr(distance_m))
