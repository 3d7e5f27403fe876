"""Parameters of the training-offload problem of [Chen2025], and nature's part of its episodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from mec_gym.core.checks import check_fields, numbers
from mec_gym.core.presets import Preset
from mec_gym.core.types import FloatArray
from mec_gym.network.mobility import Road
from mec_gym.network.radio import Radio

Variant = Literal["finish", "split", "literal"]
VARIANTS: tuple[str, ...] = get_args(Variant)

MEGA = 1e6
MOST_STEPS = 10**6  # speeds of a drive, which have to fit into memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One task and the network that it meets. A trace is a Slot with leading axes (n, T).

    The region axis (2) holds the region that the vehicle is in and the next one. The server
    axis (S) holds the servers of a region.
    """

    work: FloatArray  # (...) bit, W
    connection_time: FloatArray  # (...) s until region 0 is left, T_ct; hidden on a drive
    connection_estimate: FloatArray  # (...) s, the vehicle's own estimate of it
    position: FloatArray  # (...) m into the cell, as measured; 0 without a road
    speed: FloatArray  # (...) m/s, as measured; 0 without a road
    uplink: FloatArray  # (..., 2, S) bit/s, V_R^u
    downlink: FloatArray  # (..., 2, S) bit/s, V_R^d
    compute: FloatArray  # (..., 2, S) bit/s trained, V_C


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    The defaults are those of [Chen2025] section 4, as far as it gives them. The device (1 GHz
    at 1900 cycles per byte), the cloud (10 GHz), the result ratio and the energies per bit are
    those of [ChenLiangDong2017], its reference [16]. The cloud link is calibrated to its figures
    4 and 5, and backhaul and hand-over time are assumed.

    Attributes:
        variant: The reading of [Chen2025] eq. (11): what becomes of work that is not trained
            yet when the vehicle leaves. ``finish``: server i finishes it and the results move.
            ``split``: the rest moves to server j and is trained there. ``literal``: as printed,
            the rest is never trained.
        horizon: The number of tasks per episode, T, at most 100 000.
        work: Smallest and largest size W of a task, bit; sizes are drawn uniformly.
        connection_time: Shortest and longest connection time T_ct, s; times are drawn
            uniformly. It is used without a road only.
        road: The mobility that determines T_ct; None draws T_ct from ``connection_time``.
        radio: The link budget that determines how the rate changes over a cell; with None it
            is the same everywhere.
        slot_s: The time between two tasks on a road, s. It is at least the deadline, so that
            tasks never overlap.
        deadline: D_m, s. A task that misses it is dropped.
        battery: The energy for the whole episode, J; with one task it is E_th of eq. (18).
        server_uplink: V_R^u of each server of a region, bit/s.
        server_downlink: V_R^d of each server of a region, bit/s.
        server_compute: V_C of each server of a region, bits trained per second.
        link_spread: The link rates of every server and task are multiplied by a random factor
            of median 1; this is the standard deviation of its logarithm, which is limited to
            two deviations. 0 turns it off.
        compute_spread: The same for the computing rates.
        device_compute: V_Cl, bits trained per second.
        cloud_compute: V_Cc, bits trained per second.
        cloud_uplink: V_Rc^u, bit/s.
        cloud_downlink: V_Rc^d, bit/s.
        result_ratio: rho, the size of the results divided by the size of the work.
        device_energy: P_Cl, J per bit trained on the device.
        radio_energy: P_Rl, J per bit sent or received by the device.
        backhaul: R_ij, bit/s.
        handover_s: T_HO, s.

    Raises:
        ValueError: A parameter is out of its range, or two do not fit together; the message
            names it.
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
        check_fields(
            self,
            choices={"variant": VARIANTS},
            positive_int=("horizon",),
            ranges=("work", "connection_time"),
            kinds={"road": (Road, type(None)), "radio": (Radio, type(None))},
            positive=(
                "slot_s",
                "deadline",
                "battery",
                "device_compute",
                "cloud_compute",
                "cloud_uplink",
                "cloud_downlink",
                "backhaul",
            ),
            non_negative=(
                "link_spread",
                "compute_spread",
                "device_energy",
                "radio_energy",
                "handover_s",
            ),
            fraction=("result_ratio",),
            at_most={"link_spread": 5.0, "compute_spread": 5.0, "horizon": 100_000},
        )
        servers = len(numbers("server_uplink", self.server_uplink))
        for name in ("server_uplink", "server_downlink", "server_compute"):
            object.__setattr__(self, name, numbers(name, getattr(self, name), servers))
        if self.horizon > 1 and self.slot_s < self.deadline:
            raise ValueError(
                f"slot_s must be at least the deadline ({self.deadline} s), got {self.slot_s}"
            )
        if self.road is not None:
            steps = (self.horizon * self.slot_s + self.longest_connection_s) / self.road.step_s
            if steps > MOST_STEPS:
                raise ValueError(
                    f"horizon * slot_s / road.step_s, the speeds of a drive, must be at most "
                    f"{MOST_STEPS:g}, got {steps:g} with horizon = {self.horizon}, slot_s = "
                    f"{self.slot_s:g}, road.step_s = {self.road.step_s:g}, road.min_speed = "
                    f"{self.road.min_speed:g}"
                )
        if self.radio is not None and self.road is None:
            raise ValueError("radio needs a road: set road, or radio=None")

    @property
    def servers(self) -> int:
        """The number of servers per region, S."""
        return len(self.server_uplink)

    @property
    def cloud_seconds_per_bit(self) -> float:
        """The time to send, train and return one bit in the cloud, eq. (3) + (7), s/bit."""
        return (
            1.0 / self.cloud_uplink
            + self.result_ratio / self.cloud_downlink
            + 1.0 / self.cloud_compute
        )

    @property
    def energy_per_offloaded_bit(self) -> float:
        """The energy to send one bit and to receive its results, eq. (14), J/bit."""
        return self.radio_energy * (1.0 + self.result_ratio)

    @property
    def longest_connection_s(self) -> float:
        """The longest T_ct, or estimate of it, that can occur in an episode, s."""
        return self.connection_time[1] if self.road is None else self.road.longest_connection_s

    @property
    def largest_rate(self) -> float:
        """The highest rate that can occur in an episode, bit/s."""
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
            # The measured place may be the border, but an estimate of 0 could not be planned with.
            estimate = np.maximum(estimate, 1e-3)
            connection_time = drive.connection_time
            if self.radio is not None:
                grid, ahead = _rate_profile(self)
                factor[..., 0, 0] = np.interp(drive.position, grid, ahead)
        full = (*shape, 2, self.servers)
        link = factor * _spread(rng, self.link_spread, full)
        compute = _spread(rng, self.compute_spread, full)
        return Slot(
            work=work,
            connection_time=connection_time,
            connection_estimate=estimate,
            position=position,
            speed=speed,
            uplink=link * np.array(self.server_uplink),
            downlink=link * np.array(self.server_downlink),
            compute=compute * np.array(self.server_compute),
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
    """The mean rate over the rest of a cell, relative to the mean over the whole cell.

    The rate of a server is its average over a cell. From a place on, the vehicle gets the
    Shannon rate averaged over the road that is still ahead of it in this cell.

    Returns:
        Places (m into the cell) and factors, each (65,).
    """
    assert scenario.road is not None and scenario.radio is not None
    grid = np.linspace(0.0, scenario.road.cell_m, 65)
    rate = scenario.radio.rate(scenario.road.station_distance(grid))
    if not (rate > 0).all():
        raise ValueError(
            f"radio must carry something everywhere in the cell, got {scenario.radio} with "
            f"road.cell_m = {scenario.road.cell_m:g}, road.offset_m = {scenario.road.offset_m:g}"
        )
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
        # The shape of the rate over a cell; version 0 leaves the antenna's gain out.
        radio=Radio(noise_figure_db=9.0, antenna_gain_dbi=0.0),
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
