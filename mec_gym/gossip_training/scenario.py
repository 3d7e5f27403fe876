"""Parameters of gossip training, and nature's part of its episodes.

Devices of unequal speed train one model together without a server, as [Wang2023] describes it in
section 2.1.2: in every round each of them trains, and averages what it listens to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from mec_gym.core.checks import check_fields, check_unused
from mec_gym.core.presets import Preset
from mec_gym.core.types import Float32Array, FloatArray, IntArray
from mec_gym.gossip_training.graphs import Graph, edges_of
from mec_gym.learning.compression import BITS_PER_WEIGHT, top_k_bits
from mec_gym.learning.hashing import KeyArray
from mec_gym.learning.images import Split
from mec_gym.learning.partition import Kind, Partition, class_shares, most_images, partition
from mec_gym.learning.perceptron import Perceptron
from mec_gym.learning.task import task_images, task_network, training_cost
from mec_gym.network.gaussian import bounded_noise

Mixing = Literal["uniform", "metropolis", "push-sum"]
Payload = Literal["weights", "choco", "segments", "class-logits", "shared-logits"]

MEGA, GIGA = 1e6, 1e9
MOST_NUMBERS = 10**7  # numbers that describe an episode or its state, which have to fit into memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What nature adds to one round. A trace is a Slot with leading axes (n, T) or (n, 1).

    All clocks are the devices' own, so nature is told by round.
    """

    compute_s: FloatArray  # (..., N) s that a device trains in this round
    rate: FloatArray  # (..., N) bit/s at which it sends in this round
    key: KeyArray  # (...) uint64, from which the order of minibatches follows
    own: IntArray  # (..., N, most) numbers of the images that a device holds; whole episode
    samples: IntArray  # (..., N) how many of them there are; whole episode
    apart: FloatArray  # (..., N, N) by how much shares of classes differ, 0 to 1; whole episode
    initial: Float32Array  # (..., P) weights of all models at the beginning; whole episode


@dataclass(frozen=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    Attributes:
        devices: The number of devices, N.
        graph: Who may listen to whom: ``"complete"``, ``"ring"``, ``"torus"``, ``"geometric"`` or
            ``"one-sided"``, see :func:`~mec_gym.gossip_training.graphs.edges_of`.
        radius: The distance within which devices hear each other, of ``"geometric"`` graphs.
        rounds: The largest number of rounds per episode, T.
        budget_s: The time of every device's own clock, s.
        mixing: How a device averages: ``"uniform"`` over itself and those that it listens to;
            ``"metropolis"``, by how many others each of two devices listens to; ``"push-sum"``, in
            which every speaker divides itself among its listeners and itself, so that directed
            graphs keep the mean [Nedic2016].
        overlap: Whether devices send the model that they begin the round with, so that sending
            hides behind training; what they learn meanwhile is added [Lian2017] [Assran2019].
        payload: What a speaker sends: ``"weights"``, its model; ``"choco"``, the compressed
            difference to the copy of it that others hold [Koloskova2019]; ``"segments"``, one
            segment of its model [HuC2019]; ``"class-logits"``, the mean logits of its images of
            each class, which listeners learn from beside the labels [Jeong2018];
            ``"shared-logits"``, its logits of the images that all devices hold [Anil2018].
        payload_share: The share of entries that ``"choco"`` sends.
        choco_step: How far a device moves towards the copies of those that it listens to.
        segments: The number of segments of a model, of ``"segments"``.
        local_steps: The number of minibatches per round, E.
        batch: The number of images per minibatch, B.
        learning_rate: The learning rate.
        images: ``"digits"``, or the path of an ``.npz`` file of one's own.
        hidden: The number of hidden neurons of the perceptron that is trained.
        partition: How images are spread over devices, see ``mec_gym.learning.partition``.
        alpha: The parameter of the Dirichlet distribution per class.
        classes_each: The number of shards per device.
        size_spread: Standard deviation of the logarithm of the number of a device's images.
        shared: The number of images that all devices hold.
        privileged: Whether the agent sees how far apart devices are in what they hold.
        forward_flop: Work of the forward pass of one image that is charged, FLOP.
        model_bits: Size of the model that is charged, bit; logits are charged as they are, with
            32 bits each.
        speed: The median speed of devices, FLOP/s.
        speed_spread: Standard deviation of the logarithm of a device's mean speed.
        rate: The median rate at which devices send, bit/s.
        rate_spread: Standard deviation of the logarithm of a device's mean rate.
        jitter: The same for how work and rates vary from round to round.

    Raises:
        ValueError: A parameter lies outside its range, or differs from its default although the
            others make no use of it; the message names it.
    """

    devices: int = 16
    graph: Graph = "ring"
    radius: float = 0.5
    rounds: int = 200
    budget_s: float = 2000.0
    mixing: Mixing = "uniform"
    overlap: bool = False
    payload: Payload = "weights"
    payload_share: float = 0.1
    choco_step: float = 0.3
    segments: int = 4
    local_steps: int = 5
    batch: int = 16
    learning_rate: float = 0.1
    images: str = "digits"
    hidden: int = 32
    partition: Kind = "dirichlet"
    alpha: float = 0.1
    classes_each: int = 2
    size_spread: float = 0.0
    shared: int = 0
    privileged: bool = False
    forward_flop: float = 0.1 * GIGA
    model_bits: float = 32 * MEGA
    speed: float = 2 * GIGA
    speed_spread: float = 0.0
    rate: float = 16 * MEGA
    rate_spread: float = 0.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        check_fields(
            self,
            kinds={"images": (str,)},
            choices={
                "graph": get_args(Graph),
                "mixing": get_args(Mixing),
                "payload": get_args(Payload),
                "partition": get_args(Kind),
            },
            switches=("overlap", "privileged"),
            positive_int=(
                "devices",
                "rounds",
                "segments",
                "local_steps",
                "batch",
                "hidden",
                "classes_each",
            ),
            positive=(
                "radius",
                "budget_s",
                "payload_share",
                "choco_step",
                "learning_rate",
                "alpha",
                "forward_flop",
                "model_bits",
                "speed",
                "rate",
            ),
            non_negative=("shared", "size_spread", "speed_spread", "rate_spread", "jitter"),
            at_most={
                "devices": 1000,
                "alpha": 1e6,
                "payload_share": 1.0,
                "choco_step": 1.0,
                "learning_rate": 100.0,
                "local_steps": 1000,
                "batch": 10_000,
                "hidden": 1000,
                "rounds": 100_000,
                "segments": 1000,
                **dict.fromkeys(("size_spread", "speed_spread", "rate_spread", "jitter"), 3.0),
            },
        )
        _ = self.edges
        left = len(self.data.learn.labels) - self.shared
        if 0 < left < self.devices:
            raise ValueError(f"devices must be at most the {left} images left, got {self.devices}")
        self._partition(np.random.default_rng(0), 0)  # it checks its parameters
        self._check_combinations()
        weights = (self.network.parameters + self.hidden) * self.devices * 4
        nature = self.devices * (2 * self.rounds + self.most + self.devices)
        for count, what in (
            (weights, "the weights of all devices' models"),
            (math.prod(self.taught_shape), "what all devices are taught"),
            (nature, "devices * (2 * rounds + images per device + devices)"),
        ):
            if count > MOST_NUMBERS:
                raise ValueError(f"{what} must be at most {MOST_NUMBERS:g} numbers, got {count}")

    def _check_combinations(self) -> None:
        check_unused(
            self,
            (
                ('graph is "geometric"', self.graph == "geometric", ("radius",)),
                ('payload is "choco"', self.payload == "choco", ("payload_share", "choco_step")),
                ('payload is "segments"', self.payload == "segments", ("segments",)),
                ('partition is "dirichlet"', self.partition == "dirichlet", ("alpha",)),
                ('partition is "shards"', self.partition == "shards", ("classes_each",)),
            ),
        )
        if self.payload != "weights":
            allowed = ("uniform", "metropolis") if self.payload == "choco" else ("uniform",)
            if self.mixing not in allowed:
                raise ValueError(
                    f'mixing must be {" or ".join(allowed)} with payload = "{self.payload}", got '
                    f"{self.mixing!r}"
                )
        if self.overlap and self.payload not in ("weights", "segments"):
            raise ValueError(f'overlap must be False with payload = "{self.payload}", got True')
        if self.payload == "shared-logits" and not self.shared:
            raise ValueError('shared must be at least 1 with payload = "shared-logits", got 0')
        if self.segments > self.network.parameters:
            raise ValueError(
                f"segments must be at most {self.network.parameters}, the number of weights, got "
                f"{self.segments!r}"
            )

    @cached_property
    def edges(self) -> IntArray:
        """Who may listen to whom, (E, 2): listener, speaker."""
        return edges_of(self.graph, self.devices, self.radius)

    @cached_property
    def data(self) -> Split:
        """The images, in single precision as they are trained on."""
        return task_images(self.images)

    @cached_property
    def network(self) -> Perceptron:
        """The network that is trained."""
        return task_network(self.data, self.hidden)

    @property
    def most(self) -> int:
        """The length of a row of images."""
        images = len(self.data.learn.labels)
        return most_images(images, self.devices, self.size_spread, self.shared)

    @property
    def masses(self) -> int:
        """The number of masses that push-sum keeps: one per device, or none."""
        return self.devices if self.mixing == "push-sum" else 0

    @property
    def copied_edges(self) -> int:
        """The number of edges over which copies are kept up to date, E or none."""
        return len(self.edges) if self.payload == "choco" else 0

    @property
    def logits(self) -> bool:
        """Whether devices send logits instead of models."""
        return self.payload in ("class-logits", "shared-logits")

    @property
    def taught_shape(self) -> tuple[int, int, int]:
        """The shape of what all devices are taught: devices or none, rows, classes."""
        classes = self.network.sizes[-1]
        rows = self.shared if self.payload == "shared-logits" else classes
        return (self.devices, rows, classes) if self.logits else (0, classes, classes)

    @property
    def round_flop(self) -> float:
        """The work of a round without jitter, FLOP."""
        return 3.0 * self.forward_flop * self.local_steps * self.batch

    @property
    def sent_bits(self) -> float:
        """What a speaker sends to one listener, bit; of ``"choco"``, one update."""
        if self.logits:
            _, rows, classes = self.taught_shape
            return float(BITS_PER_WEIGHT * rows * classes)
        if self.payload == "choco":
            return self.model_bits * top_k_bits(self.network.parameters, self.payload_share)
        return self.model_bits / (self.segments if self.payload == "segments" else 1)

    @property
    def reduced_bits(self) -> float:
        """What an all-reduce averages, bit: models, or logits."""
        return self.sent_bits if self.logits else self.model_bits

    @property
    def usual_s(self) -> float:
        """The time that a usual device trains per round, which observations are scaled by, s."""
        return self.round_flop / self.speed

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...) or (n, 1, ...)."""
        who, shares = self.devices, self._partition(rng, n)
        initial = np.stack([self.network.initial(rng) for _ in range(n)])
        speed = self.speed * np.exp(self.speed_spread * bounded_noise(rng, (n, 1, who)))
        rate = self.rate * np.exp(self.rate_spread * bounded_noise(rng, (n, 1, who)))
        shape = (n, self.rounds, who)
        compute_s = self.round_flop / speed * np.exp(self.jitter * bounded_noise(rng, shape))
        held = class_shares(
            self.data.learn.labels, shares.own, shares.samples, self.network.sizes[-1]
        )
        return Slot(
            compute_s=compute_s,
            rate=rate * np.exp(self.jitter * bounded_noise(rng, shape)),
            key=rng.integers(0, 2**64, size=(n, self.rounds), dtype=np.uint64),
            own=shares.own[:, None],
            samples=shares.samples[:, None],
            apart=apart(held)[:, None],
            initial=initial.astype(np.float32)[:, None],
        )

    def _partition(self, rng: np.random.Generator, n: int) -> Partition:
        return partition(
            self.data.learn.labels,
            self.devices,
            rng,
            n,
            kind=self.partition,
            alpha=self.alpha * self.network.sizes[-1],
            classes_each=self.classes_each,
            size_spread=self.size_spread,
            shared=self.shared,
        )


def apart(held: FloatArray) -> FloatArray:
    """Return half the sum of differences of two devices' shares of classes, (..., N, N), 0 to 1.

    Args:
        held: The shares of classes that devices hold, (..., N, classes).
    """
    difference = np.abs(held[..., :, None, :] - held[..., None, :, :])
    return np.asarray(np.minimum(0.5 * difference.sum(axis=-1), 1.0))  # sums may be rounded up


def from_images(path: str | Path, scenario: Scenario | None = None) -> Scenario:
    """Make a scenario in which the user's own images are learnt.

    Args:
        path: An ``.npz`` file with ``images`` (n, ...) and ``labels`` (n,).
        scenario: What all else is taken from; by default the default scenario.
    """
    return replace(scenario or Scenario(), images=str(path))


def from_profile(path: str | Path, scenario: Scenario | None = None) -> Scenario:
    """Make a scenario whose clock charges what another network costs.

    Args:
        path: A JSON profile of the network, as ``mec-gym profile`` writes it; of several exits, the
            last one counts.
        scenario: What all else is taken from; by default the default scenario.

    Raises:
        ValueError: The file is no profile, or the network has no work or no weights.
    """
    work, bits = training_cost(path)
    return replace(scenario or Scenario(), forward_flop=work, model_bits=bits)


PRESETS: dict[str, Preset[Scenario]] = {
    "unequal": Preset(
        lambda: Scenario(
            graph="complete", alpha=1.0, speed_spread=1.0, rate_spread=0.7, rounds=400
        ),
        "16 devices of unequal speed, which see most classes; everybody may listen to everybody",
    ),
    "ring": Preset(Scenario, "16 equal devices on a ring, which see few classes each"),
    "complete": Preset(
        lambda: Scenario(graph="complete"), "ring, but everybody may listen to everybody"
    ),
    "tiny": Preset(
        lambda: Scenario(devices=4, rounds=8, budget_s=100.0, local_steps=2, batch=8, hidden=8),
        "4 devices, 8 rounds",
    ),
}
