"""Parameters of the training-offload problem, and nature's part of its episodes.

Seed 000 is Chen, Jiang & Feng, "Research on Training Acceleration for Deep Learning
Models Based on End-Edge-Cloud Collaboration in Mobile Scenarios" (2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from mec_gym.core.checks import (
    fraction,
    non_negative,
    numbers,
    one_of,
    positive,
    positive_int,
)
from mec_gym.core.presets import Preset
from mec_gym.core.types import FloatArray
from mec_gym.network.mobility import Road
from mec_gym.network.radio import Radio

Variant = Literal["finish", "split", "literal"]
VARIANTS: tuple[str, ...] = get_args(Variant)

MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Slot:
    """One task and the network it meets. A trace is a Slot with leading axes (n, T).

    The region axis (2) holds the servers at hand and those of the next region; the
    server axis (S) the servers of a region.
    """

    work: FloatArray  # (...) bit, W
    connection_time: FloatArray  # (...) s until region 0 is left, T_ct; hidden on a drive
    connection_estimate: FloatArray  # (...) s, what the vehicle believes of it
    position: FloatArray  # (...) m into the cell, as measured; 0 without a road
    speed: FloatArray  # (...) m/s, as measured; 0 without a road
    uplink: FloatArray  # (..., 2, S) bit/s, V_R^u
    downlink: FloatArray  # (..., 2, S) bit/s, V_R^d
    compute: FloatArray  # (..., 2, S) bit/s trained, V_C


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    The defaults are the paper's section 4 and what the design calibrated to it: device
    1 GHz at 1900 cycle/byte, cloud 10 GHz (Chen, Liang & Dong, INFOCOM 2017, seed 000's
    reference [16]), cloud link 4 Mbit/s (calibrated to figures 4 and 5), result ratio
    and energies per bit (the same reference), backhaul and hand-over (assumed).

    Attributes:
        variant: Reading of equation (11): what becomes of work not yet trained when the
            vehicle leaves. ``finish``: server i finishes, results move. ``split``: the
            rest moves to j and is trained there. ``literal``: as printed, the rest is
            never trained.
        horizon: Tasks an episode, T.
        work: Range of a task's size, bit (U[low, high]).
        connection_time: Range of T_ct, s (U[low, high]); used without a road.
        road: Mobility that yields T_ct; None draws it from ``connection_time``.
        radio: Link budget that shapes the rate over a cell; None: the same everywhere.
        slot_s: Time between two tasks on a road, s; at least the deadline, so that
            tasks never overlap.
        deadline: D_m, s; a task that misses it is dropped.
        battery: Energy for the whole episode, J; E_th of equation (18) with one task.
        server_uplink: V_R^u of each server of a region, bit/s.
        server_downlink: V_R^d, bit/s.
        server_compute: V_C, bit/s.
        link_spread: Log-standard deviation of a server's rate about its class, limited
            to two deviations; 0: none. Median 1.
        compute_spread: The same for computing.
        device_compute: V_Cl, bit/s.
        cloud_compute: V_Cc, bit/s.
        cloud_uplink: V_Rc^u, bit/s.
        cloud_downlink: V_Rc^d, bit/s.
        result_ratio: rho, size of results over size of work.
        device_energy: P_Cl, J/bit trained.
        radio_energy: P_Rl, J/bit sent or received.
        backhaul: R_ij, bit/s.
        handover_s: T_HO, s.

    Raises:
        ValueError: A rate that is not positive, a number that is not finite, rho outside
            [0, 1], T_ct that may be 0, ranges upside down, unequal numbers of servers.
    """

    variant: Variant = "finish"
    horizon: int = 1
    work: tuple[float, float] = (50 * MEGA, 350 * MEGA)
    connection_time: tuple[float, float] = (5.0, 30.0)
    road: Road | None = None
    radio: Radio | None = None
    slot_s: float = 180.0
    deadline: float = 180.0
    battery: float = 1000.0
    server_uplink: tuple[float, ...] = (15 * MEGA, 13 * MEGA, 12.5 * MEGA)
    server_downlink: tuple[float, ...] = (15 * MEGA, 13 * MEGA, 12.5 * MEGA)
    server_compute: tuple[float, ...] = (13.4 * MEGA, 11.6 * MEGA, 11.2 * MEGA)
    link_spread: float = 0.0
    compute_spread: float = 0.0
    device_compute: float = 4.2105 * MEGA
    cloud_compute: float = 42.105 * MEGA
    cloud_uplink: float = 4 * MEGA
    cloud_downlink: float = 4 * MEGA
    result_ratio: float = 0.1
    device_energy: float = 0.325 / MEGA
    radio_energy: float = 0.142 / MEGA
    backhaul: float = 100 * MEGA
    handover_s: float = 0.5

    def __post_init__(self) -> None:
        one_of("variant", self.variant, VARIANTS)
        positive_int("horizon", self.horizon)
        for name in ("work", "connection_time"):
            low, high = numbers(name, getattr(self, name), 2)
            if low > high:
                raise ValueError(f"{name} must be (low, high) with low <= high, got {low, high}")
            object.__setattr__(self, name, (low, high))
        servers = len(numbers("server_uplink", self.server_uplink))
        for name in ("server_uplink", "server_downlink", "server_compute"):
            object.__setattr__(self, name, numbers(name, getattr(self, name), servers))
        for name, kind in (("road", Road), ("radio", Radio)):
            if not isinstance(getattr(self, name), (kind, type(None))):
                raise ValueError(
                    f"{name} must be a {kind.__name__} or None, got {getattr(self, name)!r}"
                )
        for name in (
            "slot_s", "deadline", "battery", "device_compute", "cloud_compute", "cloud_uplink",
            "cloud_downlink", "backhaul",
        ):  # fmt: skip
            positive(name, getattr(self, name))
        for name in (
            "link_spread", "compute_spread", "device_energy", "radio_energy", "handover_s",
        ):  # fmt: skip
            non_negative(name, getattr(self, name))
        fraction("result_ratio", self.result_ratio)
        for name in ("link_spread", "compute_spread"):
            if getattr(self, name) > 5:
                raise ValueError(f"{name} must be at most 5, got {getattr(self, name)!r}")
        if self.horizon > 1 and self.slot_s < self.deadline:
            raise ValueError(
                f"slot_s must be at least the deadline ({self.deadline} s), got {self.slot_s}"
            )
        if self.radio is not None and self.road is None:
            raise ValueError("radio needs a road: set road, or radio=None")

    @property
    def servers(self) -> int:
        """S, servers of a region."""
        return len(self.server_uplink)

    @property
    def cloud_seconds_per_bit(self) -> float:
        """Time to send, train and return one bit through the cloud: (3) and (7), s/bit."""
        return (
            1.0 / self.cloud_uplink
            + self.result_ratio / self.cloud_downlink
            + 1.0 / self.cloud_compute
        )

    @property
    def energy_per_offloaded_bit(self) -> float:
        """P_Rl (1 + rho) of (14), J/bit."""
        return self.radio_energy * (1.0 + self.result_ratio)

    @property
    def longest_connection_s(self) -> float:
        """The largest T_ct, or estimate of it, that an episode can hold, s."""
        return self.connection_time[1] if self.road is None else self.road.longest_connection_s

    @property
    def largest_rate(self) -> float:
        """The largest rate that an episode can hold, bit/s."""
        profile = 1.0 if self.radio is None else float(_rate_profile(self)[1].max())
        link = max(*self.server_uplink, *self.server_downlink) * profile
        return max(
            link * math.exp(2 * self.link_spread),
            max(self.server_compute) * math.exp(2 * self.compute_spread),
        )

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...)."""
        shape = (n, self.horizon)
        work = rng.uniform(*self.work, size=shape)
        factor = np.ones((*shape, 2, 1))
        if self.road is None:
            connection_time = rng.uniform(*self.connection_time, size=shape)
            estimate, position, speed = connection_time, np.zeros(shape), np.zeros(shape)
        else:
            drive = self.road.drive(rng, n, self.horizon, self.slot_s)
            position, speed, estimate = self.road.measure(rng, drive)
            # The measured place may be the border; what is planned with is never 0.
            estimate = np.maximum(estimate, 1e-3)
            connection_time = drive.connection_time
            if self.radio is not None:
                grid, ahead = _rate_profile(self)
                factor[..., 0, 0] = np.interp(drive.position, grid, ahead)
        full = (*shape, 2, self.servers)
        link = factor * _spread(rng, self.link_spread, full)
        compute = _spread(rng, self.compute_spread, full)
        return Slot(
            work,
            connection_time,
            estimate,
            position,
            speed,
            link * np.array(self.server_uplink),
            link * np.array(self.server_downlink),
            compute * np.array(self.server_compute),
        )


def _spread(rng: np.random.Generator, spread: float, shape: tuple[int, ...]) -> FloatArray:
    if spread == 0:
        return np.ones(shape)
    factor = rng.standard_normal(shape)
    np.clip(factor, -2.0, 2.0, out=factor)
    factor *= spread
    return np.exp(factor, out=factor)


@lru_cache(maxsize=32)
def _rate_profile(scenario: Scenario) -> tuple[FloatArray, FloatArray]:
    """Mean rate over the rest of a cell, relative to the mean over the whole cell.

    A class's rate is what it gives on average over a cell. From a place on, the vehicle
    gets the Shannon rate averaged over the road still ahead in this cell.

    Returns:
        Places (m into the cell) and factors, each (65,).
    """
    assert scenario.road is not None and scenario.radio is not None
    grid = np.linspace(0.0, scenario.road.cell_m, 65)
    rate = scenario.radio.rate(scenario.road.station_distance(grid))
    pieces = (rate[1:] + rate[:-1]) / 2 * np.diff(grid)
    ahead = np.append(np.cumsum(pieces[::-1])[::-1], 0.0)
    mean = ahead[:-1] / (grid[-1] - grid[:-1])
    return grid, np.append(mean, rate[-1]) / mean[0]


def _drive(
    variant: Variant = "finish", battery: float = 1000.0, instruments: bool = True
) -> Scenario:
    road = Road() if instruments else Road(memory=1.0, position_error_m=0.0, speed_error=0.0)
    return Scenario(
        variant=variant,
        horizon=30,
        battery=battery,
        road=road,
        radio=Radio(),
        link_spread=0.2,
        compute_spread=0.2,
        backhaul=15 * MEGA,
        handover_s=2.0,
    )


PAPER_PRESETS: dict[str, Preset[Scenario]] = {
    "paper": Preset(Scenario, "section 4 of the paper; server i finishes what it received"),
    "paper-split": Preset(lambda: Scenario(variant="split"), "the rest moves to server j"),
    "paper-literal": Preset(
        lambda: Scenario(variant="literal"), "equation (11) as printed: the rest is never trained"
    ),
}

DRIVE_PRESETS: dict[str, Preset[Scenario]] = {
    "drive": Preset(_drive, "30 tasks on one battery of 1000 J, connection time estimated"),
    "drive-split": Preset(lambda: _drive("split"), "drive; the rest moves to server j"),
    "drive-ample": Preset(
        lambda: _drive(battery=2500.0), "drive with a battery that hardly ever binds"
    ),
    "drive-steady": Preset(
        lambda: _drive(instruments=False), "drive at constant speed, measured without error"
    ),
}

PRESETS: dict[str, Preset[Scenario]] = {**DRIVE_PRESETS, **PAPER_PRESETS}
