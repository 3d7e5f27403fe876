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
from typing import Literal, TypeVar, get_args

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

DeadlineOf = Literal["task", "block"]

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
    deadline: FloatArray  # (..., N) s, rho, of the task or of each block, as the scenario says
    uplink: RealArray  # (..., N, M) bit/s, v, if a device has a station's band to itself
    downlink: RealArray  # (..., N, M) bit/s
    load: FloatArray  # (..., M) tenants besides ours, each with an equal share of a server
    device_rate: FloatArray  # (..., N) FLOP/s, mu
    compute_power: FloatArray  # (..., N) W while the device computes, tau mu^3
    server_rate: FloatArray  # (..., M) FLOP/s, C


@dataclass(frozen=True, slots=True)
class Channel:
    """A wireless channel that changes from round to round; by default that of an LTE macro cell.

    Stations have no sectors here, and devices do not disturb each other's uplinks.

    Attributes:
        plane: The area in which stations stand and devices walk; by default as much room as
            three stations have, see :func:`plane_of`.
        uplink: Link budget from a device to a station: 23 dBm, and at the station a noise
            figure of 5 dB [TR36942].
        downlink: Link budget from a station to a device: 46 dBm at 20 MHz, and at the device a
            noise figure of 9 dB [TR36942].
        interference: Whether stations disturb each other's downlinks. Each of them sends all the
            time then, as in the downlink simulations of [TR36942].
        penetration_db: Loss through the walls of buildings, dB: 20 in case 1 of [TR36814],
            annex A.2.1.1.
        shadowing_db: Standard deviation of log-normal shadowing, dB: 8 in case 1 of [TR36814]; at
            most 30. With 0 the distance alone decides.
        shadowing_memory: Correlation of the shadowing of two consecutive rounds, in [0, 1]. It
            is exp(-d / d0) by default: devices move d = 3.1 m per round on average, and the
            shadowing of [TR36814] is correlated over d0 = 50 m.
        attenuation: The share of Shannon's capacity that is reached, in [0, 1]: 0.6 of
            [TR36942], annex A.
        most_bits_per_hz: The largest rate per band, bit/s/Hz: 4.4 of [TR36942], annex A, which
            is reached at 22 dB. (The annex gives these two numbers for downlinks. For uplinks
            it gives 0.4 and 2.0, as the first terminals sent no 64-QAM; later ones do.)
        round_s: Time between two rounds, s. It is the pace at which the network changes,
            however long the blocks take.
        slowest: The least rate, bit/s; slower links are given this rate, so that every transfer
            ends. By default it is the rate at -10 dB, below which [TR36942] has no throughput.

    Raises:
        ValueError: A parameter lies outside its range.
    """

    plane: Plane = Plane(side_m=806.0)
    uplink: Radio = Radio(bandwidth_hz=20e6)
    downlink: Radio = Radio(transmit_power_dbm=46.0, bandwidth_hz=20e6, noise_figure_db=9.0)
    interference: bool = True
    penetration_db: float = 20.0
    shadowing_db: float = 8.0
    shadowing_memory: float = 0.94
    attenuation: float = 0.6
    most_bits_per_hz: float = 4.4
    round_s: float = 0.5
    slowest: float = 1.65 * MEGA

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive=("attenuation", "most_bits_per_hz", "round_s", "slowest"),
            non_negative=("penetration_db", "shadowing_db"),
            fraction=("attenuation", "shadowing_memory"),
            at_most={"penetration_db": 100, "shadowing_db": 30},
            switches=("interference",),
            kinds={"plane": (Plane,), "uplink": (Radio,), "downlink": (Radio,)},
        )
        for radio in (self.uplink, self.downlink):
            highest = self.most_bits_per_hz * radio.bandwidth_hz
            if self.slowest > highest:
                raise ValueError(
                    "slowest must be at most most_bits_per_hz * bandwidth_hz = "
                    f"{highest:g}, got {self.slowest!r}"
                )

    @property
    def fastest(self) -> float:
        """The largest rate that an episode can hold, bit/s."""
        return self.most_bits_per_hz * max(self.uplink.bandwidth_hz, self.downlink.bandwidth_hz)

    def sample(
        self, rng: np.random.Generator, n: int, devices: int, stations: int, rounds: int
    ) -> tuple[Float32Array, Float32Array]:
        """Draw the rates of n episodes from path loss and shadowing.

        The rate is B min(attenuation log2(1 + SNR), most_bits_per_hz): the capacity of
        [Shannon1948], attenuated and truncated as in [TR36942], annex A.

        Args:
            rng: The generator.
            n: The number of episodes.
            devices: The number of devices, N.
            stations: The number of base stations, M.
            rounds: The number of rounds of an episode, T.

        Returns:
            The rates up and down, (n, T, N, M) bit/s.
        """
        # In single precision and stations first: drawing limits how fast environments run, and
        # numpy is slow where the last axis is short.
        place = self.plane.walk(rng, (n, devices), rounds, self.round_s)
        station = self.plane.stations(stations).astype(np.float32)[..., None, None, None]
        squared = place[:, 0] - station[:, 0]  # (M, T, n, N)
        squared *= squared
        other = place[:, 1] - station[:, 1]
        other *= other
        squared += other
        np.maximum(squared, NEAREST_M**2, out=squared)
        noise = white_noise(rng, (rounds, n, devices, stations))
        shadow = correlate(noise, self.shadowing_memory)
        # Radio.snr on a log scale, written for the square of the distance.
        nepers = math.log(10.0) / 10.0  # of a decibel
        nearest = float(self.uplink.snr(NEAREST_M))
        snr_at = math.log(nearest) - self.penetration_db * nepers
        np.log(squared, out=squared)
        squared -= math.log(NEAREST_M**2)
        squared *= -SLOPE_DB / 20.0
        shadow *= self.shadowing_db * nepers
        squared += np.moveaxis(shadow, -1, 0)
        squared += snr_at
        snr = np.exp(squared, out=squared)
        stronger = float(self.downlink.snr(NEAREST_M)) / nearest
        np.multiply(snr, stronger, out=other)
        if self.interference:
            total = other[0] + np.float32(1.0)  # of noise
            for one in other[1:]:
                total += one
            # So that rounding leaves some of it where one station drowns all others; no ratio
            # exceeds 60 dB then, far beyond the one of the largest rate.
            total *= 1.0 + 1e-6
            other /= total - other
        return self._rate(snr, self.uplink), self._rate(other, self.downlink)

    def _rate(self, snr: Float32Array, radio: Radio) -> Float32Array:
        """Return the rates (n, T, N, M) of ratios (M, T, n, N), which are overwritten."""
        snr += 1.0
        rate = np.log(snr, out=snr)
        rate *= self.attenuation * radio.bandwidth_hz / math.log(2.0)
        np.clip(rate, self.slowest, self.most_bits_per_hz * radio.bandwidth_hz, out=rate)
        return np.swapaxes(np.stack(list(rate), axis=-1), 0, 1)


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
        input_share: Size of a network's input as it is sent, as a share of the profile's. The
            profiles of the zoo have 32 bits per value, but images have 8.
        deadline_of: What the deadline rho is for: ``"task"``, the whole task; or ``"block"``,
            each of its blocks, as [Li2024] has it.
        deadline_factor: Range (low, high) of the factor, drawn uniformly per task, that the
            time of the task on its device alone is multiplied by to give its deadline. Each
            block tolerates a K-th of that. Smaller factors are harder to meet.
        idle: Probability that a device has no task in a period, in [0, 1).
        battery: Energy of a device at the start, J.
        harvest: Energy that a device gains in each round, J.
        compute_power: Range (low, high) of the power that a device draws while it computes,
            W, drawn uniformly per episode and device. It gives the device's tau of [Li2024]
            eq. (7) as power / mu^3. A Raspberry Pi 4 draws 3.7 W more than idle
            (``mec_gym.dnn.devices``).
        transmit_power: P of [Li2024] eq. (8), W: what a device draws while it sends, its
            amplifier included. What it radiates is a parameter of the channel.
        latency_weight: beta of [Li2024] eq. (11), 1/s: the cost of one second of delay.
        late_weight: Cost of being late by a whole deadline, lambda. Lateness counts up to
            twice the deadline, so no deadline costs more than twice this.
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
    input_share: float = 0.25
    deadline_of: DeadlineOf = "task"
    deadline_factor: tuple[float, float] = (0.3, 0.9)
    idle: float = 0.1
    battery: float = 20.0
    harvest: float = 0.0
    compute_power: tuple[float, float] = (2.0, 5.0)
    transmit_power: float = 1.0
    latency_weight: float = 1.0
    late_weight: float = 0.5
    miss_cost: float = 0.5

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive=("backhaul", "battery", "input_share", "latency_weight"),
            non_negative=(
                "background",
                "background_spread",
                "harvest",
                "transmit_power",
                "late_weight",
                "miss_cost",
            ),
            fraction=("background_memory", "idle"),
            positive_int=("devices", "servers", "blocks", "tasks"),
            ranges=("device_rate", "server_rate", "deadline_factor", "compute_power"),
            switches=("contention", "return_result"),
            kinds={"channel": (Channel, ConstantChannel)},
            choices={"deadline_of": get_args(DeadlineOf)},
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
        bits, work = _tables(self.networks, self.blocks)
        bits[:, 0] *= self.input_share
        return bits, work

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
        return self.deadline_factor[1] * work / self.device_rate[0] / self.deadlines_per_task

    @property
    def deadlines_per_task(self) -> int:
        """The number of deadlines of a task: 1, or one for each of its blocks."""
        return self.blocks if self.deadline_of == "block" else 1

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
        compute_power = rng.uniform(*self.compute_power, size=(n, 1, self.devices))
        factor = rng.uniform(*self.deadline_factor, size=per_task) / self.deadlines_per_task
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
            compute_power=wide(compute_power),
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
        return np.swapaxes(load, 0, 1)


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


SITE_DISTANCE_M = 500.0
"""Distance of neighbouring stations, m: case 1 of [TR36814], annex A.2.1.1."""


def plane_of(servers: int) -> Plane:
    """Return a square with as much room per station as cells have in [TR36814], case 1.

    Stations on a hexagonal grid of distance D have D^2 sqrt(3) / 2 each.

    Args:
        servers: The number of stations, M.
    """
    return Plane(side_m=float(round(SITE_DISTANCE_M * math.sqrt(servers * math.sqrt(3.0) / 2.0))))


def macro_cells(devices: int, servers: int) -> Scenario:
    """Return the default scenario in another size: as much room per station, and the rest alike.

    Args:
        devices: The number of devices, N.
        servers: The number of servers, M.
    """
    return Scenario(devices=devices, servers=servers, channel=Channel(plane=plane_of(servers)))


def patent(devices: int = 10, servers: int = 4, blocks: int = 10) -> Scenario:
    """Return the problem of [Li2024] to the letter.

    Each block has a deadline, there is no contention and no background load, results stay
    where they are computed, and batteries never run out.

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
        deadline_of="block",
        idle=0.0,
        battery=1e6,
    )


PRESETS: dict[str, Preset[Scenario]] = {
    "small": Preset(Scenario, "5 devices, 3 servers, 8 blocks; all share and move"),
    "campus": Preset(lambda: macro_cells(20, 5), "20 devices, 5 servers"),
    "city": Preset(lambda: macro_cells(100, 20), "100 devices, 20 servers"),
    "patent": Preset(patent, "the patent: a deadline per block, no contention, constant channel"),
}
