"""Parameters of distributed inference, and nature's part of its episodes.

The problem is that of [Li2024], a patent of Chongqing University; its formulas are read
together with the paper that it belongs to: Li et al., "Distributed DNN Inference with
Fine-grained Model Partitioning in Mobile Edge Computing Networks", IEEE TMC 2024,
doi 10.1109/TMC.2024.3357874.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import check_fields
from mec_gym.core.presets import Preset
from mec_gym.core.types import BoolArray, Float32Array, FloatArray, IntArray, RealArray
from mec_gym.dnn.blocks import cut_chain
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.zoo import resolve
from mec_gym.network.gaussian import correlate, white_noise
from mec_gym.network.plane import Plane
from mec_gym.network.radio import NEAREST_M, SLOPE_DB, Radio

D = TypeVar("D", bound=np.generic)

MEGA, GIGA = 1e6, 1e9
MOST_NUMBERS = 10**7  # numbers that describe an episode, which have to fit into memory
MOST_SPREAD = 3.0  # standard deviations that the log of a load is at most from its mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One round. A trace is a Slot whose fields have the leading axes (n, T).

    Each round holds the chain of a task from the current block on: entry 0 is the block
    that is placed in this round, and entries beyond the last block are 0. The large fields of
    a trace are of single precision; what is computed from them is of double precision.
    """

    bits: RealArray  # (..., N, K + 1) bit into the current block, the next, ..., the result
    work: RealArray  # (..., N, K) FLOP of the current block, the next, ...
    blocks_left: FloatArray  # (...) blocks still to place, the current one included
    active: BoolArray  # (..., N) whether the device has a task in this period
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
        plane: The area in which stations stand and devices walk.
        uplink: Link budget of a device.
        downlink: Link budget of a station.
        shadowing_db: Standard deviation of log-normal shadowing, dB (3GPP TR 36.942: 10), at most
            30. With 0 the distance alone decides.
        shadowing_memory: Correlation of the shadowing of two consecutive rounds, in [0, 1].
        round_s: Time between two rounds, s. It is the pace at which the network changes,
            however long the blocks take.
        slowest: The least rate, bit/s; slower links are given this rate.
        fastest: The largest rate, bit/s: that of the highest modulation and coding scheme.

    Raises:
        ValueError: A parameter lies outside its range.
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
        check_fields(
            self,
            positive=("round_s", "slowest", "fastest"),
            non_negative=("shadowing_db",),
            fraction=("shadowing_memory",),
            at_most={"shadowing_db": 30},
            kinds={"plane": (Plane,), "uplink": (Radio,), "downlink": (Radio,)},
        )
        if self.slowest > self.fastest:
            raise ValueError(f"slowest must be at most fastest, got {self.slowest}, {self.fastest}")

    def sample(
        self, rng: np.random.Generator, n: int, devices: int, stations: int, rounds: int
    ) -> tuple[Float32Array, Float32Array]:
        """Draw the rates of n episodes from path loss, shadowing and Shannon's formula.

        Args:
            rng: The generator.
            n: The number of episodes.
            devices: The number of devices, N.
            stations: The number of base stations, M.
            rounds: The number of rounds of an episode, T.

        Returns:
            The rates up and down, (n, T, N, M) bit/s.
        """
        # In single precision and time first: drawing limits how fast environments run.
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
        """Return Shannon's rates (n, T, ...) for ratios (T, n, ...), which are overwritten."""
        snr += 1.0
        rate = np.log(snr, out=snr)
        rate *= radio.bandwidth_hz / math.log(2.0)
        np.clip(rate, self.slowest, self.fastest, out=rate)
        return np.ascontiguousarray(np.swapaxes(rate, 0, 1))


@dataclass(frozen=True, slots=True)
class ConstantChannel:
    """The channel of [Li2024]: rates drawn once per episode, the same in both directions.

    Attributes:
        rate: Range (low, high) of v[n, m], bit/s, drawn uniformly.

    Raises:
        ValueError: The range is not two positive numbers in order.
    """

    rate: tuple[float, float] = (5 * MEGA, 50 * MEGA)

    def __post_init__(self) -> None:
        check_fields(self, ranges=("rate",))

    @property
    def fastest(self) -> float:
        """The largest rate that an episode can hold, bit/s."""
        return self.rate[1]

    def sample(
        self, rng: np.random.Generator, n: int, devices: int, stations: int, rounds: int
    ) -> tuple[Float32Array, Float32Array]:
        """Draw the rates of n episodes, as :meth:`Channel.sample` does."""
        rate = rng.uniform(*self.rate, size=(n, 1, devices, stations)).astype(np.float32)
        wide = np.broadcast_to(rate, (n, rounds, devices, stations))
        return wide, wide


@dataclass(frozen=True, slots=True)
class RandomNetworks:
    """The networks of the experiment in [Li2024]: chains that are drawn anew for each task.

    Attributes:
        bits: Range (low, high) of the bits into a block and of the result, bit, drawn
            uniformly.
        work: Range (low, high) of a block's work, FLOP, drawn uniformly.

    Raises:
        ValueError: A range is not two positive numbers in order.
    """

    bits: tuple[float, float] = (0.5 * MEGA, 8 * MEGA)
    work: tuple[float, float] = (0.1 * GIGA, 4 * GIGA)

    def __post_init__(self) -> None:
        check_fields(self, ranges=("bits", "work"))


@dataclass(frozen=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    Attributes:
        devices: The number of devices, N.
        servers: The number of servers, M; one stands at each base station.
        blocks: The number of blocks that each network is cut into, K.
        tasks: The number of tasks of a device per episode, J. An episode has J K rounds.
        networks: What is inferred: profiles of ``mec_gym.dnn.zoo`` by name, JSON profiles by
            path or LayerGraphs, one of which is drawn per task and cut into K blocks; or
            random chains.
        channel: How the rates between devices and stations are drawn.
        contention: Whether the blocks of a round share servers and bands.
        background: Mean number of other tenants of a server (but for the cut at
            ``MOST_SPREAD``). With 0 there are none; more of them make servers slower.
        background_spread: Standard deviation of the log of their number, at most 10.
        background_memory: Correlation of that log in two consecutive rounds, in [0, 1].
        device_rate: Range (low, high) of mu, FLOP/s, drawn uniformly per episode.
        server_rate: Range (low, high) of C, FLOP/s, drawn uniformly per episode.
        backhaul: Rate v[m, m'] between two servers, bit/s.
        return_result: Whether the result of a task has to go back to the device.
        deadline_factor: Range (low, high) of the factor, drawn uniformly per task, that the
            time of the task on its device alone is multiplied by to give the deadline rho.
            Smaller factors are harder to meet.
        idle: Probability that a device has no task in a period, in [0, 1).
        battery: Energy of a device at the start, J.
        harvest: Energy that a device gains in each round, J.
        energy_coefficient: tau of [Li2024] eq. (7), J per FLOP and (FLOP/s)^2.
        transmit_power: P of [Li2024] eq. (8), W: what a device draws while it sends, its
            amplifier included. What it radiates is a parameter of the channel.
        latency_weight: beta of [Li2024] eq. (11), 1/s: the cost of one second of delay.
        late_weight: Cost of a task that is late by its whole deadline, lambda. Lateness
            counts up to twice the deadline, so no task costs more than twice this.
        miss_cost: Fixed cost of a missed deadline.

    Raises:
        ValueError: A parameter lies outside its range, or a network cannot be cut into K
            blocks.
    """

    devices: int = 5
    servers: int = 3
    blocks: int = 8
    tasks: int = 4
    networks: tuple[str | LayerGraph, ...] | RandomNetworks = (
        "alexnet",
        "vgg16",
        "resnet18",
        "googlenet",
    )
    channel: Channel | ConstantChannel = Channel()
    contention: bool = True
    background: float = 1.0
    background_spread: float = 0.7
    background_memory: float = 0.9
    device_rate: tuple[float, float] = (10 * GIGA, 30 * GIGA)
    server_rate: tuple[float, float] = (150 * GIGA, 450 * GIGA)
    backhaul: float = 1000 * MEGA
    return_result: bool = True
    deadline_factor: tuple[float, float] = (0.3, 0.9)
    idle: float = 0.1
    battery: float = 20.0
    harvest: float = 0.0
    energy_coefficient: float = 5e-31
    transmit_power: float = 1.0
    latency_weight: float = 1.0
    late_weight: float = 0.5
    miss_cost: float = 0.5

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive=("backhaul", "battery", "latency_weight"),
            non_negative=(
                "background",
                "background_spread",
                "harvest",
                "energy_coefficient",
                "transmit_power",
                "late_weight",
                "miss_cost",
            ),
            fraction=("background_memory", "idle"),
            positive_int=("devices", "servers", "blocks", "tasks"),
            ranges=("device_rate", "server_rate", "deadline_factor"),
            switches=("contention", "return_result"),
            kinds={"channel": (Channel, ConstantChannel)},
            at_most={"background_spread": 10},
        )
        if self.idle == 1:
            raise ValueError(f"idle must be below 1 or nobody would have a task, got {self.idle!r}")
        numbers = self.rounds * self.devices * 2 * (self.blocks + self.servers)
        if numbers > MOST_NUMBERS:
            raise ValueError(
                f"devices * tasks * blocks * 2 (blocks + servers), the numbers that describe an "
                f"episode, must be at most {MOST_NUMBERS:g}, got {numbers} with devices = "
                f"{self.devices}, tasks = {self.tasks}, blocks = {self.blocks}, servers = "
                f"{self.servers}"
            )
        _ = self._tables  # it checks the networks

    @cached_property
    def _tables(self) -> tuple[FloatArray, FloatArray]:
        return _tables(self.networks, self.blocks)

    @property
    def table_bits(self) -> FloatArray:
        """Bits into the blocks of each network and of its result, (networks, K + 1)."""
        return self._tables[0]

    @property
    def table_work(self) -> FloatArray:
        """Work of the blocks of each network, (networks, K) FLOP."""
        return self._tables[1]

    @property
    def rounds(self) -> int:
        """The number of rounds of an episode, T = J K."""
        return self.tasks * self.blocks

    @property
    def largest(self) -> tuple[float, float]:
        """The most bits into a block, and the most FLOP of a block, of any episode."""
        if isinstance(self.networks, RandomNetworks):
            return self.networks.bits[1], self.networks.work[1]
        return float(self.table_bits.max()), float(self.table_work.max())

    @property
    def longest_deadline(self) -> float:
        """The longest deadline of any episode, s."""
        if isinstance(self.networks, RandomNetworks):
            work = self.networks.work[1] * self.blocks
        else:
            work = float(self.table_work.sum(axis=1).max())
        return self.deadline_factor[1] * work / self.device_rate[0]

    @property
    def largest_load(self) -> float:
        """The largest number of other tenants of a server of any episode."""
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
        factor = rng.uniform(*self.deadline_factor, size=per_task)
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
            deadline=every_round(factor * work.sum(axis=-1)[network] / device_rate),
            uplink=uplink,
            downlink=downlink,
            load=self._load(rng, n),
            device_rate=wide(device_rate),
            server_rate=wide(server_rate),
        )

    def _as_seen(self, chains: FloatArray, network: IntArray) -> Float32Array:
        """Return what the rounds see of the tasks' chains, (n, J K, N, length).

        Args:
            chains: One chain per network, (networks, length).
            network: The network of each task, (n, J, N).
        """
        n, _, devices = network.shape
        k, length = self.blocks, chains.shape[-1]
        padded = np.zeros((len(chains), k + length - 1), dtype=np.float32)
        padded[:, :length] = chains
        rolled = np.lib.stride_tricks.sliding_window_view(padded, length, axis=-1)
        index = network[:, :, None] * k + np.arange(k)[:, None]
        seen = rolled.reshape(-1, length).take(index, axis=0)
        return seen.reshape(n, self.rounds, devices, length)

    def _load(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw the background loads of n episodes, (n, T, M)."""
        shape = (n, self.rounds, self.servers)
        if self.background == 0:
            return np.zeros(shape)
        noise = white_noise(rng, (self.rounds, n, self.servers))
        correlate(noise, self.background_memory)
        np.clip(noise, -MOST_SPREAD, MOST_SPREAD, out=noise)
        spread = self.background_spread
        load = self.background * np.exp(spread * noise.astype(np.float64) - spread**2 / 2)
        return np.ascontiguousarray(np.swapaxes(load, 0, 1))


def _tables(
    networks: tuple[str | LayerGraph, ...] | RandomNetworks, blocks: int
) -> tuple[FloatArray, FloatArray]:
    """Cut the networks into blocks; return their bits and work as ``Scenario`` keeps them."""
    if isinstance(networks, RandomNetworks):
        return np.zeros((0, blocks + 1)), np.zeros((0, blocks))
    if not isinstance(networks, (tuple, list)):
        raise ValueError(f"networks must be a tuple or RandomNetworks, got {networks!r}")
    if not networks:
        raise ValueError(f"networks must hold at least one network, got {networks!r}")
    found = []
    for network in networks:
        try:
            graph = resolve(network)
        except (ValueError, OSError) as error:
            raise ValueError(f"networks: {error}") from error
        found.append(cut_chain(graph.at_exit(len(graph.exits) - 1), blocks))
    return np.stack([b.bits for b in found]), np.stack([b.work for b in found])


def patent(devices: int = 10, servers: int = 4, blocks: int = 10) -> Scenario:
    """Return the problem of [Li2024] to the letter.

    There is no contention and no background load, results stay where they are computed, and
    batteries never run out.

    Args:
        devices: The number of devices, N.
        servers: The number of servers, M.
        blocks: The number of blocks of each network, K.
    """
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
