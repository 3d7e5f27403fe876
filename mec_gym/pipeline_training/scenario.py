"""Parameters of pipeline training, and nature's part of its episodes.

Devices that come and go train one network together, as [Wang2023] describes it in section
2.2.2: the network is cut into stages, one per device, and minibatches pass through them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import LARGEST, check_fields, in_order, numbers, positive
from mec_gym.core.presets import Preset
from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.dnn.blocks import Blocks, cut_chain
from mec_gym.dnn.graph import LayerGraph, load_graph
from mec_gym.dnn.zoo import resolve
from mec_gym.network.gaussian import correlate, white_noise

Schedule = Literal["1f1b", "gpipe"]

MEGA, GIGA = 1e6, 1e9
MOST_NUMBERS = 10**7  # numbers that describe an episode, which have to fit into memory
MOST_SPREAD = 3.0  # standard deviations that the logarithm of a rate is at most from its mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One slot of time and the fleet in it. A trace is a Slot with leading axes (n, T).

    Rates of devices that are absent are not used, nor is the diagonal of ``link``.
    """

    present: BoolArray  # (..., M) whether the device takes part in this slot
    speed: FloatArray  # (..., M) FLOP/s
    link: FloatArray  # (..., M, M) bit/s, from the first device to the second
    store: FloatArray  # (..., M) bit/s, from where checkpoints lie
    seen: FloatArray  # (..., M) slots before this one in which the device was present
    departures: FloatArray  # (..., M) how often the device has left up to now
    leaves: FloatArray  # (..., M) slots until it leaves, at most ``notice`` + 1; 0 if absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The logarithms of factors of median 1: one per episode plus one that varies by slot."""

    mean: FloatArray  # (n, 1, ...)
    spread: float  # of the noise
    noise: npt.NDArray[np.floating[Any]]  # (n, T, ...) standard normal, correlated, not cut off

    def factors(self) -> FloatArray:
        """The factors, (n, T, ...)."""
        varying = self.spread * np.clip(self.noise, -MOST_SPREAD, MOST_SPREAD)
        return np.asarray(np.exp(self.mean + varying))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """What nature knows of episodes that their trace does not show."""

    stay: FloatArray  # (n, M) the mean stay of each device, slots; infinite if nobody leaves
    brought: BoolArray  # (n, M) whether the device was given its only stay, see ``Scenario.stay``
    speed: Rates  # of (n, T, M)
    link: Rates  # of (n, T, M, M)
    store: Rates  # of (n, T, M)


@dataclass(frozen=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    A minibatch consists of ``microbatches`` microbatches of ``samples`` samples. The backward
    pass of a block costs twice its forward pass.

    Attributes:
        network: The network that is trained: a profile of the zoo, the path of a profile
            (``.json``), or a ``LayerGraph``; of several exits, the last one is trained.
        blocks: The number of blocks that it is cut into, L.
        weight_factor: The factor that the network's weights are multiplied by, for networks that
            are heavier to move but otherwise alike.
        devices: The number of devices, M.
        schedule: ``"1f1b"``: one forward, one backward, with a flush [Narayanan2021];
            ``"gpipe"``: all forward, then all backward [Huang2019]. 1F1B keeps fewer
            activations, but hides less of transfers that take about as long as a pass.
        microbatches: The number of microbatches per minibatch, Q.
        samples: The number of samples per microbatch.
        horizon: The number of slots per episode, T.
        slot_s: The length of a slot, s.
        state_copies: What moves with a block, as a multiple of its weights: 2 for weights and
            momentum, and 0 if moving is to be free. In memory, gradients come on top of it.
        restart_s: The time that it takes to start again after blocks have moved, s.
        memory: The memory for training, bit: of all devices, or several numbers for one each. What
            a stage needs beyond it is fetched from the store anew in each pass of each
            microbatch, which makes such plans very slow. None sets no limit.
        speed: The median speed of the devices, FLOP/s; several numbers give each device its own.
        speed_spread: Standard deviation of the logarithm of a device's mean speed, which is
            drawn per episode.
        load_spread: The same for the load that varies the speed from slot to slot.
        link: The median rate between two devices, bit/s.
        link_spread: Standard deviation of the logarithm of a link's mean rate, which is drawn
            per episode and direction.
        store: The median rate at which a device reads from the store, bit/s.
        store_spread: The same as ``link_spread``, for the store.
        fading: Standard deviation of the logarithm by which links and the store vary from slot
            to slot.
        memory_of_load: Correlation of loads and of fading in two consecutive slots, in [0, 1].
        stay: Range (low, high) of a device's mean stay, slots. It is drawn per episode and
            device, uniformly on a logarithmic scale, and is not observed; how often a device has
            left is. Stays are geometric. Each device is present at least once per episode. None
            lets all devices stay for ever.
        away: The mean time for which a device is away, slots; it is geometric, too.
        notice: The number of slots ahead for which departures are announced; 0 announces none.

    Raises:
        ValueError: A parameter lies outside its range, or the network cannot be cut into L
            blocks; the message names it.
    """

    network: str | LayerGraph = "resnet18"
    blocks: int = 6
    weight_factor: float = 1.0
    devices: int = 4
    schedule: Schedule = "1f1b"
    microbatches: int = 8
    samples: int = 4
    horizon: int = 60
    slot_s: float = 60.0
    state_copies: float = 2.0
    restart_s: float = 5.0
    memory: float | tuple[float, ...] | None = None
    speed: float | tuple[float, ...] = 50 * GIGA
    speed_spread: float = 0.6
    load_spread: float = 0.35
    link: float = 150 * MEGA
    link_spread: float = 0.5
    store: float = 30 * MEGA
    store_spread: float = 0.3
    fading: float = 0.2
    memory_of_load: float = 0.9
    stay: tuple[float, float] | None = (6.0, 60.0)
    away: float = 6.0
    notice: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            choices={"schedule": get_args(Schedule)},
            positive_int=("blocks", "devices", "microbatches", "samples", "horizon"),
            positive=(
                "weight_factor",
                "slot_s",
                "link",
                "store",
                "away",
            ),
            non_negative=(
                "state_copies",
                "restart_s",
                "speed_spread",
                "load_spread",
                "link_spread",
                "store_spread",
                "fading",
                "notice",
            ),
            fraction=("memory_of_load",),
            at_most={
                "devices": 64,
                "microbatches": 1024,
                "speed_spread": 3.0,
                "load_spread": 3.0,
                "link_spread": 3.0,
                "store_spread": 3.0,
                "fading": 3.0,
            },
        )
        if isinstance(self.notice, bool) or not isinstance(self.notice, int):
            raise ValueError(f"notice must be a whole number of at least 0, got {self.notice!r}")
        if isinstance(self.speed, (int, float, np.number)):
            positive("speed", self.speed)
            object.__setattr__(self, "speed", float(self.speed))  # JSON knows none of numpy's
        else:
            object.__setattr__(self, "speed", numbers("speed", self.speed, self.devices))
        if isinstance(self.memory, (int, float, np.number)):
            positive("memory", self.memory)
            object.__setattr__(self, "memory", float(self.memory))
        elif self.memory is not None:
            object.__setattr__(self, "memory", numbers("memory", self.memory, self.devices))
        if self.stay is not None:
            object.__setattr__(self, "stay", in_order("stay", self.stay))
            if self.stay[0] < 1:
                raise ValueError(f"stay must be at least 1 slot, got {self.stay}")
            if self.away < 1:
                raise ValueError(f"away must be at least 1 slot, got {self.away!r}")
        count = self.horizon * self.devices * (self.devices + 6)
        if count > MOST_NUMBERS:
            raise ValueError(
                f"horizon * devices * (devices + 6), the numbers that describe an episode, must "
                f"be at most {MOST_NUMBERS:g}, got {count} with horizon = {self.horizon}, devices "
                f"= {self.devices}"
            )
        _ = self.chain  # it checks the network

    @cached_property
    def work_before(self) -> FloatArray:
        """The work of all blocks before each one, and of all, (L + 1,) FLOP per sample."""
        return _sums_before(self.chain.work)

    @cached_property
    def weights_before(self) -> FloatArray:
        """The weights of all blocks before each one, and of all, (L + 1,) bit."""
        return _sums_before(self.chain.weights)

    @cached_property
    def outputs_before(self) -> FloatArray:
        """The outputs of all blocks before each one, and of all, (L + 1,) bit per sample."""
        return _sums_before(self.chain.outputs)

    @cached_property
    def chain(self) -> Blocks:
        """The network as L blocks, per sample."""
        try:
            graph = resolve(self.network)
            cut = cut_chain(graph.at_exit(len(graph.exits) - 1), self.blocks, even=True)
        except (ValueError, OSError) as error:
            raise ValueError(f"network: {error}") from error
        if not cut.work.sum() > 0:
            raise ValueError(f"network must compute something, {graph.name} has 0 FLOP")
        tables = [layer.name for layer in graph.layers if "embedding" in layer.operation]
        if tables:
            raise ValueError(
                f"network must not hold embeddings, got {', '.join(tables)} in {graph.name}: a "
                "sample reads a few of their rows, so a profile does not tell what has to be moved"
            )
        weights = cut.weights * self.weight_factor
        if weights.sum() > LARGEST:
            raise ValueError(
                f"weight_factor must leave weights of at most {LARGEST:g} bit, got "
                f"{self.weight_factor!r}, which makes {weights.sum():g}"
            )
        return Blocks(bits=cut.bits, work=cut.work, weights=weights, outputs=cut.outputs)

    @cached_property
    def microbatch_work(self) -> FloatArray:
        """What each block computes per microbatch, forward and backward together, (L,) FLOP."""
        return 3.0 * self.samples * self.chain.work

    @cached_property
    def microbatch_bits(self) -> FloatArray:
        """What goes into each block per microbatch, and out of the last one, (L + 1,) bit."""
        return self.samples * self.chain.bits

    @property
    def memory_limits(self) -> FloatArray:
        """The memory of each device, (M,) bit; infinite without a limit."""
        return np.full(self.devices, np.inf if self.memory is None else self.memory)

    @cached_property
    def speed_scale(self) -> float:
        """A usual speed, which observations are scaled by, FLOP/s."""
        return float(np.median(self.speed))

    @property
    def sample_work(self) -> float:
        """What the forward and the backward pass of one sample compute, FLOP."""
        return 3.0 * float(self.chain.work.sum())

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...)."""
        return self.draw(rng, n)[0]

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Slot, Hidden]:
        """Draw n episodes, and what nature knows of them."""
        shape = (n, self.horizon, self.devices)
        present, stay, brought = self._presence(rng, n)
        hidden = Hidden(
            stay=stay,
            brought=brought,
            speed=_rates(rng, self.speed_spread, self.load_spread, shape, self),
            link=_rates(rng, self.link_spread, self.fading, (*shape, self.devices), self),
            store=_rates(rng, self.store_spread, self.fading, shape, self),
        )
        seen, departures, leaves = history(present, self.notice)
        rates = self.rates(hidden.speed, hidden.link, hidden.store)
        slot = Slot(present=present, seen=seen, departures=departures, leaves=leaves, **rates)
        return slot, hidden

    def rates(self, speed: Rates, link: Rates, store: Rates) -> dict[str, FloatArray]:
        """The rates of slots (n, T, ...) by name, each its median times a factor."""
        usual = np.asarray(self.speed, dtype=np.float64)
        itself = np.eye(self.devices, dtype=np.bool_)
        return {
            "speed": usual * speed.factors(),
            "link": np.where(itself, 0.0, self.link * link.factors()),
            "store": self.store * store.factors(),
        }

    def _presence(
        self, rng: np.random.Generator, n: int
    ) -> tuple[BoolArray, FloatArray, BoolArray]:
        """Draw who is present, (n, T, M): two-state Markov chains, stationary from the start.

        The mean stay of each device is returned, too, and who was given its only stay, (n, M).
        """
        shape = (n, self.horizon, self.devices)
        if self.stay is None:
            all_stay = np.full((n, self.devices), np.inf)
            return np.ones(shape, dtype=np.bool_), all_stay, np.zeros(all_stay.shape, np.bool_)
        low, high = np.log(self.stay)
        stay = np.exp(low + (high - low) * rng.random((n, self.devices)))
        dice = rng.random((self.horizon, n, self.devices))
        present = np.empty(dice.shape, dtype=np.bool_)
        present[0] = dice[0] < stay / (stay + self.away)
        for t in range(1, self.horizon):
            changes = dice[t] < np.where(present[t - 1], 1.0 / stay, 1.0 / self.away)
            present[t] = present[t - 1] ^ changes
        brought = np.logical_not(present.any(axis=0))
        self._let_come(rng, present, stay, brought)
        return np.ascontiguousarray(np.swapaxes(present, 0, 1)), stay, brought

    def _let_come(
        self, rng: np.random.Generator, present: BoolArray, stay: FloatArray, brought: BoolArray
    ) -> None:
        """Give devices that would be away for a whole episode one stay, from some slot on."""
        episodes, devices = np.nonzero(brought)
        if not len(episodes):
            return
        comes = rng.integers(self.horizon, size=len(episodes))
        stays = rng.geometric(1.0 / stay[episodes, devices])
        t = np.arange(self.horizon)[:, None]
        present[:, episodes, devices] = (comes <= t) & (t < comes + stays)


def history(present: BoolArray, notice: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute what a Slot says of the past and of announced departures.

    Args:
        present: Who is present, (n, T, M).
        notice: The number of slots ahead for which departures are announced.

    Returns:
        ``seen``, ``departures`` and ``leaves`` of :class:`Slot`, each (n, T, M). Nobody leaves at
        the end of the episode.
    """
    here = present.astype(np.float64)
    seen = np.cumsum(here, axis=1) - here
    left = present[:, :-1] & ~present[:, 1:]
    departures = np.zeros(present.shape)
    departures[:, 1:] = np.cumsum(left, axis=1)
    leaves = np.empty(present.shape)
    leaves[:, -1] = here[:, -1] * (notice + 1)
    for t in range(present.shape[1] - 2, -1, -1):
        leaves[:, t] = here[:, t] * np.minimum(leaves[:, t + 1] + 1, notice + 1)
    return seen, departures, leaves


def _sums_before(blocks: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], np.cumsum(blocks)])


def _rates(
    rng: np.random.Generator,
    spread: float,
    change: float,
    shape: tuple[int, ...],
    scenario: Scenario,
) -> Rates:
    """Draw factors of median 1, (n, T, ...): one per episode times one that varies by slot."""
    n, horizon, *rest = shape
    mean = np.zeros((n, 1, *rest))
    noise = np.zeros((horizon, n, *rest), dtype=np.float32)
    if spread:
        own = rng.standard_normal(mean.shape)
        mean = spread * np.clip(own, -MOST_SPREAD, MOST_SPREAD)
    if change:
        noise = correlate(white_noise(rng, noise.shape), scenario.memory_of_load)
    return Rates(mean=mean, spread=change, noise=np.swapaxes(noise, 0, 1))


def from_profile(path: str | Path, scenario: Scenario | None = None) -> Scenario:
    """Make a scenario with another network.

    Args:
        path: A JSON profile of the network.
        scenario: What all else is taken from; by default the default scenario.
    """
    return replace(scenario or Scenario(), network=load_graph(path))


PRESETS: dict[str, Preset[Scenario]] = {
    "default": Preset(
        Scenario, "ResNet18 in 6 blocks on 4 devices that stay 6 to 60 slots on average"
    ),
    "heavy": Preset(
        lambda: Scenario(weight_factor=3.0, stay=(4.0, 60.0)),
        "weights three times as heavy to move, stays from 4 slots on",
    ),
    "stable": Preset(lambda: Scenario(stay=None), "default, but nobody leaves"),
    "timetable": Preset(
        lambda: Scenario(horizon=30, notice=30), "30 slots; all departures are announced"
    ),
    "tiny": Preset(
        lambda: Scenario(network="mobilenetv2", blocks=3, devices=2, horizon=8, microbatches=2),
        "MobileNetV2 in 3 blocks on 2 devices, 8 slots",
    ),
}
