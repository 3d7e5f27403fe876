"""Parameters of distributed inference, and nature's part of its episodes.

Seed 002 is a patent of Chongqing University (2024); its formulas are read with the paper
it goes with: Li et al., "Distributed DNN Inference with Fine-grained Model Partitioning in
Mobile Edge Computing Networks", IEEE TMC 2024, doi 10.1109/TMC.2024.3357874.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import fraction, non_negative, numbers, positive, positive_int
from mec_gym.core.presets import Preset
from mec_gym.core.types import Float32Array, FloatArray, IntArray, RealArray
from mec_gym.dnn.blocks import cut_chain
from mec_gym.dnn.graph import LayerGraph, load_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.network.gaussian import correlate, white_noise
from mec_gym.network.plane import Plane
from mec_gym.network.radio import NEAREST_M, SLOPE_DB, Radio

D = TypeVar("D", bound=np.generic)

MEGA, GIGA = 1e6, 1e9
MOST_SPREAD = 3.0  # standard deviations that the log of a load is at most from its mean


@dataclass(frozen=True, slots=True)
class Slot:
    """One round. A trace is a Slot with leading axes (n, T).

    The chain of a task is told from the current block on: entry 0 is the block that is
    placed in this round, entries beyond the last block are 0. The wide fields of a trace are
    of single precision; what is computed from them is not.
    """

    bits: RealArray  # (..., N, K + 1) bit into the current block, the next, ..., the result
    work: RealArray  # (..., N, K) FLOP of the current block, the next, ...
    blocks_left: FloatArray  # (...) blocks still to place, the current one included
    active: npt.NDArray[np.bool_]  # (..., N) whether the device has a task in this period
    deadline: FloatArray  # (..., N) s, rho, of the whole task
    uplink: RealArray  # (..., N, M) bit/s, v, if a device has a station's band to itself
    downlink: RealArray  # (..., N, M) bit/s
    load: FloatArray  # (..., M) tenants besides ours, each with an equal share of a server
    device_rate: FloatArray  # (..., N) FLOP/s, mu
    server_rate: FloatArray  # (..., M) FLOP/s, C


@dataclass(frozen=True, slots=True)
class Channel:
    """A wireless channel that changes from round to round.

    Attributes:
        plane: Where stations stand and devices walk.
        uplink: Link budget of a device.
        downlink: Link budget of a station.
        shadowing_db: Standard deviation of log-normal shadowing, dB (3GPP TR 36.942: 10).
        shadowing_memory: Correlation of shadowing one round apart.
        round_s: Time between two rounds, s: the pace at which the network changes, whatever
            blocks take.
        slowest: Rates are never below this, bit/s.
        fastest: Nor above this: the highest modulation and coding.
    """

    plane: Plane = Plane()
    uplink: Radio = Radio(bandwidth_hz=20e6)
    downlink: Radio = Radio(transmit_power_dbm=43.0, bandwidth_hz=20e6)
    shadowing_db: float = 8.0
    shadowing_memory: float = 0.8
    round_s: float = 0.5
    slowest: float = 0.2 * MEGA
    fastest: float = 100 * MEGA

    def __post_init__(self) -> None:
        for name, kind in (("plane", Plane), ("uplink", Radio), ("downlink", Radio)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}")
        non_negative("shadowing_db", self.shadowing_db)
        fraction("shadowing_memory", self.shadowing_memory)
        for name in ("round_s", "slowest", "fastest"):
            positive(name, getattr(self, name))
        if self.slowest > self.fastest:
            raise ValueError(f"slowest must be at most fastest, got {self.slowest}, {self.fastest}")

    def sample(
        self, rng: np.random.Generator, n: int, devices: int, stations: int, rounds: int
    ) -> tuple[Float32Array, Float32Array]:
        """Rates up and down, (n, T, N, M) bit/s: path loss, shadowing, Shannon.

        In single precision and time first: drawing is what limits how fast environments run.
        """
        place = self.plane.walk(rng, (n, devices), rounds, self.round_s)[..., None]
        station = self.plane.stations(stations).astype(np.float32)
        squared = place[:, 0] - station[:, 0]  # (T, n, N, M)
        squared *= squared
        other = place[:, 1] - station[:, 1]
        other *= other
        squared += other
        np.maximum(squared, NEAREST_M**2, out=squared)
        shadow = correlate(white_noise(rng, squared.shape), self.shadowing_memory)
        # Radio.snr on a log scale, written for the square of the distance.
        snr_at = math.log(float(self.uplink.snr(NEAREST_M)))
        np.log(squared, out=squared)
        squared -= math.log(NEAREST_M**2)
        squared *= -SLOPE_DB / 20.0
        shadow *= self.shadowing_db / 10.0 * math.log(10.0)
        squared += shadow
        squared += snr_at
        snr = np.exp(squared, out=squared)
        stronger = self.downlink.snr(NEAREST_M) / self.uplink.snr(NEAREST_M)
        np.multiply(snr, float(stronger), out=other)
        return self._rate(snr, self.uplink), self._rate(other, self.downlink)

    def _rate(self, snr: Float32Array, radio: Radio) -> Float32Array:
        """Shannon's rate (n, T, ...) for ratios (T, n, ...), which are overwritten."""
        snr += 1.0
        rate = np.log(snr, out=snr)
        rate *= radio.bandwidth_hz / math.log(2.0)
        np.clip(rate, self.slowest, self.fastest, out=rate)
        return np.ascontiguousarray(np.swapaxes(rate, 0, 1))


@dataclass(frozen=True, slots=True)
class ConstantChannel:
    """Rates drawn once an episode, the same both ways: the patent's network.

    Attributes:
        rate: Range of v[n, m], bit/s (U[low, high]).
    """

    rate: tuple[float, float] = (5 * MEGA, 50 * MEGA)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", _range("rate", self.rate))

    @property
    def fastest(self) -> float:
        """No episode holds more, bit/s."""
        return self.rate[1]

    def sample(
        self, rng: np.random.Generator, n: int, devices: int, stations: int, rounds: int
    ) -> tuple[Float32Array, Float32Array]:
        """Rates up and down, (n, T, N, M) bit/s."""
        rate = rng.uniform(*self.rate, size=(n, 1, devices, stations)).astype(np.float32)
        wide = np.broadcast_to(rate, (n, rounds, devices, stations))
        return wide, wide


@dataclass(frozen=True, slots=True)
class RandomNetworks:
    """Chains drawn anew for each task, for the patent's experiment.

    Attributes:
        bits: Range of the bits into a block and of the result, bit (U).
        work: Range of a block's work, FLOP (U).
    """

    bits: tuple[float, float] = (0.5 * MEGA, 8 * MEGA)
    work: tuple[float, float] = (0.1 * GIGA, 4 * GIGA)

    def __post_init__(self) -> None:
        for name in ("bits", "work"):
            object.__setattr__(self, name, _range(name, getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    Attributes:
        devices: N.
        servers: M, one at each base station.
        blocks: K, blocks of each network.
        tasks: J, tasks of a device an episode; an episode has J K rounds.
        networks: What is inferred: profiles of ``mec_gym.dnn.zoo`` by name, JSON profiles by
            path or LayerGraphs, one of them a task, cut into K blocks; or random chains.
        channel: Rates between devices and stations.
        contention: Servers and bands are shared among the blocks of a round.
        background: Mean number of other tenants of a server (but for the cut at
            ``MOST_SPREAD``); 0: none.
        background_spread: Standard deviation of the log of their number.
        background_memory: Correlation of that log one round apart.
        device_rate: Range of mu, FLOP/s (U, drawn an episode).
        server_rate: Range of C, FLOP/s (U, drawn an episode).
        backhaul: v[m, m'] between servers, bit/s.
        return_result: The result of a task goes back to the device.
        deadline: Range of rho, as a multiple of the task's time on the device alone (U).
        idle: Probability that a device has no task in a period.
        battery: Energy of a device at the start, J.
        harvest: Energy that a device gains in each round, J.
        energy_coefficient: tau of (7), J per FLOP and (FLOP/s)^2.
        transmit_power: P of (8), W: what a device draws while it sends, amplifier included;
            what it radiates is the channel's affair.
        latency_weight: beta of (11), 1/s.
        late_weight: Cost of a task that is late by its whole deadline, lambda; of a task
            later than twice that, no more than twice this.
        miss_cost: Cost of a missed deadline, fixed.

    Raises:
        ValueError: A parameter outside its range, a network that cannot be cut into K.
    """

    devices: int = 5
    servers: int = 3
    blocks: int = 8
    tasks: int = 4
    networks: tuple[str | LayerGraph, ...] | RandomNetworks = (
        "alexnet", "vgg16", "resnet18", "googlenet",
    )  # fmt: skip
    channel: Channel | ConstantChannel = Channel()
    contention: bool = True
    background: float = 1.0
    background_spread: float = 0.7
    background_memory: float = 0.9
    device_rate: tuple[float, float] = (10 * GIGA, 30 * GIGA)
    server_rate: tuple[float, float] = (150 * GIGA, 450 * GIGA)
    backhaul: float = 1000 * MEGA
    return_result: bool = True
    deadline: tuple[float, float] = (0.3, 0.9)
    idle: float = 0.1
    battery: float = 20.0
    harvest: float = 0.0
    energy_coefficient: float = 5e-31
    transmit_power: float = 1.0
    latency_weight: float = 1.0
    late_weight: float = 0.5
    miss_cost: float = 0.5
    table_bits: FloatArray = field(init=False, repr=False, compare=False)  # (networks, K + 1)
    table_work: FloatArray = field(init=False, repr=False, compare=False)  # (networks, K)

    def __post_init__(self) -> None:
        for name in ("devices", "servers", "blocks", "tasks"):
            positive_int(name, getattr(self, name))
        if not isinstance(self.channel, (Channel, ConstantChannel)):
            raise ValueError(f"channel must be a Channel or ConstantChannel, got {self.channel!r}")
        for name in ("device_rate", "server_rate", "deadline"):
            object.__setattr__(self, name, _range(name, getattr(self, name)))
        for name in ("backhaul", "battery", "latency_weight"):
            positive(name, getattr(self, name))
        for name in (
            "background", "background_spread", "harvest", "energy_coefficient", "transmit_power",
            "late_weight", "miss_cost",
        ):  # fmt: skip
            non_negative(name, getattr(self, name))
        for name in ("background_memory", "idle"):
            fraction(name, getattr(self, name))
        for name in ("contention", "return_result"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.background_spread > 10:
            raise ValueError(f"background_spread must be at most 10, got {self.background_spread}")
        if self.idle == 1:
            raise ValueError("idle must be below 1, got 1: nobody would ever have a task")
        bits, work = _tables(self.networks, self.blocks)
        object.__setattr__(self, "table_bits", bits)
        object.__setattr__(self, "table_work", work)

    @property
    def rounds(self) -> int:
        """T = J K."""
        return self.tasks * self.blocks

    @property
    def largest(self) -> tuple[float, float]:
        """Most bits into a block, and most work of a block, that an episode can hold."""
        if isinstance(self.networks, RandomNetworks):
            return self.networks.bits[1], self.networks.work[1]
        return float(self.table_bits.max()), float(self.table_work.max())

    @property
    def longest_deadline(self) -> float:
        """The longest deadline that an episode can hold, s."""
        if isinstance(self.networks, RandomNetworks):
            work = self.networks.work[1] * self.blocks
        else:
            work = float(self.table_work.sum(axis=1).max())
        return self.deadline[1] * work / self.device_rate[0]

    @property
    def largest_load(self) -> float:
        """The largest background load that an episode can hold."""
        return self.background * math.exp(MOST_SPREAD * self.background_spread)

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...)."""
        per_task = (n, self.tasks, self.devices)
        bits, work = self.table_bits, self.table_work
        if isinstance(self.networks, RandomNetworks):
            network = np.arange(math.prod(per_task)).reshape(per_task)
            bits = rng.uniform(*self.networks.bits, size=(network.size, self.blocks + 1))
            work = rng.uniform(*self.networks.work, size=(network.size, self.blocks))
        else:
            network = rng.integers(len(bits), size=per_task)
        device_rate = rng.uniform(*self.device_rate, size=(n, 1, self.devices))
        server_rate = rng.uniform(*self.server_rate, size=(n, 1, self.servers))
        tightness = rng.uniform(*self.deadline, size=per_task)
        active = rng.random(per_task) >= self.idle
        uplink, downlink = self.channel.sample(rng, n, self.devices, self.servers, self.rounds)

        def every_round(a: npt.NDArray[D]) -> npt.NDArray[D]:
            return np.repeat(a, self.blocks, axis=1)

        def wide(a: FloatArray) -> FloatArray:
            return np.broadcast_to(a, (n, self.rounds, a.shape[-1]))

        return Slot(
            bits=self._as_seen(bits, network),
            work=self._as_seen(work, network),
            blocks_left=np.tile(np.arange(self.blocks, 0, -1.0), (n, self.tasks)),
            active=every_round(active),
            deadline=every_round(tightness * work.sum(axis=-1)[network] / device_rate),
            uplink=uplink,
            downlink=downlink,
            load=self._load(rng, n),
            device_rate=wide(device_rate),
            server_rate=wide(server_rate),
        )

    def _as_seen(self, chains: FloatArray, network: IntArray) -> Float32Array:
        """Chains (networks, length) of tasks (n, J, N) as rounds see them, (n, J K, N, length)."""
        n, _, devices = network.shape
        k, length = self.blocks, chains.shape[-1]
        padded = np.zeros((len(chains), k + length - 1), dtype=np.float32)
        padded[:, :length] = chains
        rolled = np.lib.stride_tricks.sliding_window_view(padded, length, axis=-1)
        index = network[:, :, None] * k + np.arange(k)[:, None]
        seen = rolled.reshape(-1, length).take(index, axis=0)
        return seen.reshape(n, self.rounds, devices, length)

    def _load(self, rng: np.random.Generator, n: int) -> FloatArray:
        shape = (n, self.rounds, self.servers)
        if self.background == 0:
            return np.zeros(shape)
        noise = white_noise(rng, (self.rounds, n, self.servers))
        correlate(noise, self.background_memory)
        np.clip(noise, -MOST_SPREAD, MOST_SPREAD, out=noise)
        spread = self.background_spread
        load = self.background * np.exp(spread * noise.astype(np.float64) - spread**2 / 2)
        return np.ascontiguousarray(np.swapaxes(load, 0, 1))


def _range(name: str, values: tuple[float, float]) -> tuple[float, float]:
    low, high = numbers(name, values, 2)
    if low > high:
        raise ValueError(f"{name} must be (low, high) with low <= high, got {low, high}")
    return low, high


def _tables(
    networks: tuple[str | LayerGraph, ...] | RandomNetworks, blocks: int
) -> tuple[FloatArray, FloatArray]:
    if isinstance(networks, RandomNetworks):
        return np.zeros((0, blocks + 1)), np.zeros((0, blocks))
    if not isinstance(networks, (tuple, list)):
        raise ValueError(f"networks must be a tuple or RandomNetworks, got {networks!r}")
    if not networks:
        raise ValueError(f"networks must hold at least one network, got {networks!r}")
    for network in networks:
        if not isinstance(network, (str, LayerGraph)):
            raise ValueError(f"networks must be names, paths or LayerGraphs, got {network!r}")
    found = []
    for network in networks:
        if isinstance(network, str):
            try:
                own = network.endswith(".json")
                network = load_graph(network) if own else load_profile(network)
            except (ValueError, OSError) as error:
                raise ValueError(f"networks: {error}") from error
        found.append(cut_chain(network.at_exit(len(network.exits) - 1), blocks))
    return np.stack([b.bits for b in found]), np.stack([b.work for b in found])


def patent(devices: int = 10, servers: int = 4, blocks: int = 10) -> Scenario:
    """The patent's problem, literally: no contention, nothing else going on, no return."""
    return Scenario(
        devices=devices,
        servers=servers,
        blocks=blocks,
        tasks=1,
        networks=RandomNetworks(),
        channel=ConstantChannel(),
        contention=False,
        background=0.0,
        return_result=False,
        idle=0.0,
        battery=1e6,
    )


PRESETS: dict[str, Preset[Scenario]] = {
    "small": Preset(Scenario, "5 devices, 3 servers, 8 blocks; all share and move"),
    "campus": Preset(lambda: Scenario(devices=20, servers=5), "20 devices, 5 servers"),
    "city": Preset(
        lambda: Scenario(devices=100, servers=20, channel=Channel(plane=Plane(side_m=1500.0))),
        "100 devices, 20 servers",
    ),
    "patent": Preset(patent, "the patent: no contention, constant channel, random networks"),
}
