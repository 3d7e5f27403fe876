"""Parameters of the early-exit problem, and nature's part of its episodes.

The problem is that of [Ding2025] (DAPDEE), which builds on [Hu2019] (DADS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import check_fields, numbers
from mec_gym.core.presets import Preset
from mec_gym.core.types import FloatArray
from mec_gym.dnn.devices import EDGE_SERVER, RASPBERRY_PI_4, AnyDevice
from mec_gym.dnn.graph import LayerGraph, load_graph
from mec_gym.dnn.zoo import resolve
from mec_gym.early_exit.optima import Rates
from mec_gym.early_exit.table import PartitionTable, partition_table
from mec_gym.network.bandwidth import (
    CAT1,
    G3,
    G4,
    WIFI,
    MeasuredBandwidth,
    Regimes,
    ornstein_uhlenbeck,
)
from mec_gym.network.tandem import RateCurve
from mec_gym.network.technologies import LTE, LTE_CAT1, UMTS, WLAN, RadioTechnology

LIGHT, HEAVY = (5.0,), (30.0,)  # frames/s: a few pictures per second, and video
CHANGING = Regimes((CAT1, G3, G4, WIFI), dwell_s=4.0, memory_s=2.0)
LOAD_DEVIATIONS = 2.5  # loads stay within so many standard deviations of their median


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One frame and what it meets. A trace is a Slot with leading axes (n, T).

    ``arrival`` and ``uplink`` are what the simulator knows beyond the agent. In a trace the
    uplink is that of the whole episode, (n, 1, 3, T).
    """

    bandwidth: FloatArray  # (...) bit/s, the bandwidth B of the uplink when the frame arrives
    round_trip: FloatArray  # (...) s, the round-trip time of the technology in use
    base_power: FloatArray  # (...) W, the power of its radio at a rate of 0
    joule_per_bit: FloatArray  # (...) J/bit, how much that power grows with the rate
    device_speed: FloatArray  # (...) share of the device that other programs leave, (0, 1)
    edge_speed: FloatArray  # (...) the same of the edge server
    arrival_rate: FloatArray  # (...) frames/s at present
    interval: FloatArray  # (...) s until the next frame; hidden
    deadline: FloatArray  # (...) s after the frame's arrival, T_deadline
    priority: FloatArray  # (...) P_task, which is 1 if the frame is urgent
    arrival: FloatArray  # (...) s from the begin of the episode; hidden
    uplink: FloatArray  # (..., 3, C): s, the bits sent until then, bit/s from then on; hidden


def uplink_of(arrival: FloatArray, rate: FloatArray) -> FloatArray:
    """The field ``uplink`` of a link that has the rates (..., C) bit/s from (..., C) s on."""
    curve = RateCurve.of(arrival, rate)
    return np.stack([curve.time, curve.bits, curve.rate], axis=-2)


def curve_of(slot: Slot) -> RateCurve:
    """The rate of the uplink of slots (...), fields (..., C)."""
    uplink = slot.uplink
    return RateCurve(time=uplink[..., 0, :], bits=uplink[..., 1, :], rate=uplink[..., 2, :])


def gaps_before(interval: FloatArray) -> FloatArray:
    """The time since the frame before, (n, T) s; 0 for the first one."""
    return np.concatenate([np.zeros((len(interval), 1)), interval[:, :-1]], axis=-1)


def arrivals(interval: FloatArray) -> FloatArray:
    """When frames arrive, given the time from each until the next, (n, T) s -> (n, T) s."""
    return np.cumsum(gaps_before(interval), axis=-1)


def follow_bandwidth(trace: Slot) -> Slot:
    """A trace whose arrivals follow its intervals, and whose uplink follows its bandwidths.

    It makes a trace whole that was drawn by a scenario and then changed by hand.

    Args:
        trace: Fields (n, T); its ``arrival`` and ``uplink`` do not matter.
    """
    arrival = arrivals(trace.interval)
    return replace(trace, arrival=arrival, uplink=uplink_of(arrival, trace.bandwidth)[:, None])


@dataclass(frozen=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    Attributes:
        network: The name of a profile of ``mec_gym.dnn.zoo``, the path of a JSON profile, or a
            LayerGraph. Every exit needs a measured accuracy.
        device: The device, which runs the layers before the cut.
        edge: The edge server, which runs the rest.
        bandwidth: How the bandwidth of the uplink changes.
        technologies: The radio technology of each network of ``bandwidth``; one alone holds for
            all of them.
        horizon: The number of frames per episode, T, at most 100 000.
        arrival_rates: The rates at which frames arrive, frames/s. A rate lasts for
            ``arrival_frames`` frames on average, then another one follows. The time between two
            frames is exponentially distributed.
        arrival_frames: The mean number of frames that an arrival rate lasts, at least 1.
        device_load: The median share of the device that other programs take, in (0, 1).
        edge_load: The median share of the edge server that other programs take, in (0, 1).
        load_spread: The standard deviation of the logit of a load, at most 3.
        load_memory_s: The correlation time of a load, s.
        deadline: The range (low, high) that T_deadline is drawn from uniformly, s.
        urgent_share: The probability that a frame is urgent (P_task = 1).
        normal_priority: P_task of the frames that are not urgent, in [0, 1].
        timeout_s: A frame that would take longer than this is not started, s. It must be at
            least the longest deadline.
        battery: The energy that the device has for a whole episode, J.
        accuracy_weight: The cost of a wrong answer.
        latency_weight: The cost of a latency that is as long as the deadline.
        miss_weight: The cost of a missed deadline.
        energy_weight: The cost of a joule, 1/J.
        candidates: The largest number of partitions per exit to choose among, K.
        under_way: The largest number of frames that may be on their way to the edge server, the
            device's queue included. A frame that would be one more is not started.

    Raises:
        ValueError: A parameter is outside its range, there is no such profile, the profile is
            of another version or lacks accuracies, or ``candidates`` is too small for the
            network.
    """

    network: str | LayerGraph = "mobilenetv2-digits"
    device: AnyDevice = RASPBERRY_PI_4
    edge: AnyDevice = EDGE_SERVER
    bandwidth: Regimes | MeasuredBandwidth = CHANGING
    technologies: tuple[RadioTechnology, ...] = (LTE_CAT1, UMTS, LTE, WLAN)
    horizon: int = 100
    arrival_rates: tuple[float, ...] = LIGHT + HEAVY
    arrival_frames: float = 25.0
    device_load: float = 0.2
    edge_load: float = 0.3
    load_spread: float = 0.8
    load_memory_s: float = 2.0
    deadline: tuple[float, float] = (0.05, 0.25)
    urgent_share: float = 0.2
    normal_priority: float = 0.5
    timeout_s: float = 1.0
    battery: float = 8.0
    accuracy_weight: float = 10.0
    latency_weight: float = 0.2
    miss_weight: float = 1.0
    energy_weight: float = 0.05
    candidates: int = 32
    under_way: int = 16

    def __post_init__(self) -> None:
        check_fields(
            self,
            kinds={
                "device": get_args(AnyDevice),
                "edge": get_args(AnyDevice),
                "bandwidth": (Regimes, MeasuredBandwidth),
            },
            positive_int=("horizon", "candidates", "under_way"),
            positive=("arrival_frames", "timeout_s", "battery", "accuracy_weight"),
            non_negative=(
                "load_spread",
                "load_memory_s",
                "latency_weight",
                "miss_weight",
                "energy_weight",
            ),
            fraction=("device_load", "edge_load", "urgent_share", "normal_priority"),
            ranges=("deadline",),
            at_most={"load_spread": 3.0, "horizon": 100_000},
        )
        object.__setattr__(self, "arrival_rates", numbers("arrival_rates", self.arrival_rates))
        object.__setattr__(self, "technologies", self._checked_technologies())
        for name in ("device_load", "edge_load"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), got {getattr(self, name)!r}")
        if self.arrival_frames < 1:
            raise ValueError(f"arrival_frames must be at least 1, got {self.arrival_frames!r}")
        if self.timeout_s < self.deadline[1]:
            raise ValueError(
                f"timeout_s must be at least the longest deadline ({self.deadline[1]} s), "
                f"got {self.timeout_s}"
            )
        _ = self.accuracy, self.table  # they check the network

    @cached_property
    def graph(self) -> LayerGraph:
        """The network, as its profile describes it."""
        return resolve(self.network)

    @cached_property
    def table(self) -> PartitionTable:
        """The partitions of the network that there are to choose among."""
        return partition_table(
            self.graph,
            self.device,
            self.edge,
            self.rates,
            int(self.candidates),
        )

    @cached_property
    def accuracy(self) -> FloatArray:
        """The measured accuracy of each exit, (N,)."""
        accuracy = self.graph.accuracies
        accuracy.flags.writeable = False
        return accuracy

    def _checked_technologies(self) -> tuple[RadioTechnology, ...]:
        networks = len(self.bandwidth.means) if isinstance(self.bandwidth, Regimes) else 1
        given = self.technologies
        if not isinstance(given, Sequence) or not all(
            isinstance(one, RadioTechnology) for one in given
        ):
            raise ValueError(f"technologies must hold objects of RadioTechnology, got {given!r}")
        if len(given) not in (1, networks):
            count = "1" if networks == 1 else f"1 or {networks}"
            raise ValueError(
                f"technologies must hold {count}, because bandwidth has so many networks, got "
                f"{len(given)}: {', '.join(one.name for one in given)}"
            )
        return tuple(given)

    @property
    def exits(self) -> int:
        """The number of the network's exits, N."""
        return len(self.graph.exits)

    @property
    def slowest(self) -> tuple[float, float]:
        """The smallest speeds of device and edge that an episode can hold, as shares."""
        return self._speeds(LOAD_DEVIATIONS)

    @property
    def rates(self) -> Rates:
        """The ranges of device speed, bandwidth in bit/s and edge speed of an episode."""
        device, edge = zip(self.slowest, self._speeds(-LOAD_DEVIATIONS), strict=True)
        return device, (self.bandwidth.lowest, self.bandwidth.highest), edge

    def _speeds(self, deviations: float) -> tuple[float, float]:
        """The speeds of device and edge at loads so far above their median."""
        loads = np.array([self.device_load, self.edge_load])
        device, edge = _speed(loads, deviations * self.load_spread)
        return float(device), float(edge)

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T)."""
        shape = (n, self.horizon)
        rates = np.array(self.arrival_rates)
        regime = rng.integers(len(rates), size=(n, 1))
        if len(rates) > 1:
            shift = rng.integers(1, len(rates), size=shape)
            shift *= rng.random(shape) < 1.0 / self.arrival_frames
            regime = (regime + np.cumsum(shift, axis=-1)) % len(rates)
        arrival_rate = np.broadcast_to(rates[regime], shape).copy()
        interval = rng.exponential(size=shape) / arrival_rate
        gaps = gaps_before(interval)
        time = np.cumsum(gaps, axis=-1)  # sums never go back in time, however they are rounded
        noise = ornstein_uhlenbeck(rng, gaps, [self.load_memory_s, self.load_memory_s])
        logit = self.load_spread * np.clip(noise, -LOAD_DEVIATIONS, LOAD_DEVIATIONS)
        speed = _speed(np.array([self.device_load, self.edge_load]), logit)
        radios = np.array(
            [(r.round_trip_s, r.base_power_w, r.joule_per_bit) for r in self.technologies]
        ).T.copy()
        if isinstance(self.bandwidth, Regimes):
            bandwidth, network = self.bandwidth.sample_networks(rng, time)
            sent_at = bandwidth
        else:
            bandwidth, sent_at = self.bandwidth.sample_gaps(rng, time)
            network = np.zeros(shape, dtype=np.int64)
        if len(self.technologies) == 1:
            network = np.zeros(shape, dtype=np.int64)
        return Slot(
            bandwidth=bandwidth,
            round_trip=radios[0].take(network),
            base_power=radios[1].take(network),
            joule_per_bit=radios[2].take(network),
            device_speed=speed[..., 0].copy(),
            edge_speed=speed[..., 1].copy(),
            arrival_rate=arrival_rate,
            interval=interval,
            deadline=rng.uniform(*self.deadline, size=shape),
            priority=np.where(rng.random(shape) < self.urgent_share, 1.0, self.normal_priority),
            arrival=time,
            uplink=uplink_of(time, sent_at)[:, None],
        )


def _speed(median_load: FloatArray, logit: npt.ArrayLike) -> FloatArray:
    """The share that a load leaves, 1 - sigmoid(logit of the median load + ``logit``)."""
    return np.asarray(1.0 / (1.0 + median_load / (1.0 - median_load) * np.exp(logit)))


_NETWORKS = {
    "cat1": ("CAT1", CAT1, LTE_CAT1),
    "3g": ("3G", G3, UMTS),
    "4g": ("4G", G4, LTE),
    "wifi": ("WiFi", WIFI, WLAN),
}


def _presets() -> dict[str, Preset[Scenario]]:
    loads = {"light": LIGHT, "heavy": HEAVY}
    presets = {
        "mixed": Preset(Scenario, "networks and arrival rates change: CAT1, 3G, 4G, WiFi"),
    }
    for load, rates in loads.items():
        presets[f"mixed-{load}"] = Preset(
            lambda rates=rates: Scenario(arrival_rates=rates),  # type: ignore[misc]
            f"networks change, {rates[0]:g} frames/s",
        )
    for name, (title, mean, radio) in _NETWORKS.items():
        for load, rates in loads.items():
            presets[f"{name}-{load}"] = Preset(
                lambda mean=mean, radio=radio, rates=rates: Scenario(  # type: ignore[misc]
                    bandwidth=replace(CHANGING, means=(mean,)),
                    technologies=(radio,),
                    arrival_rates=rates,
                ),
                f"{title}, {mean / 1e6:g} Mbit/s, {rates[0]:g} frames/s",
            )
    return presets


PRESETS = _presets()


def from_csv(
    path: str | Path,
    scenario: Scenario | None = None,
    unit: str | None = None,
    max_gap: float | str = 5.0,
) -> Scenario:
    """A scenario with a measured uplink, whose radio is that of LTE.

    Args:
        path: A CSV file of time and bandwidth.
        scenario: What all else is taken from; by default the default scenario.
        unit: Unit of the bandwidth, such as ``kbit/s``, if no heading names it.
        max_gap: A step that is longer than this many median steps is an error.

    Raises:
        ValueError: See :meth:`MeasuredBandwidth.from_csv`.
    """
    try:
        gap = float(max_gap)
    except ValueError as error:
        raise ValueError(f"max_gap must be a number, got {max_gap!r}") from error
    measured = MeasuredBandwidth.from_csv(path, gap, unit)
    return replace(scenario or Scenario(), bandwidth=measured, technologies=(LTE,))


def from_profile(path: str | Path, scenario: Scenario | None = None) -> Scenario:
    """A scenario with another network.

    Args:
        path: A JSON profile of the network, with accuracies.
        scenario: What all else is taken from; by default the default scenario.
    """
    return replace(scenario or Scenario(), network=load_graph(path))
