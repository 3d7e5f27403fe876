"""Parameters of gossip training, and nature's part of its episodes.

Devices of unequal speed train one model together without a server, as [Wang2023] describes it in
section 2.1.2: in every round each of them trains, and averages what it listens to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from mec_gym.core.checks import check_fields
from mec_gym.core.presets import Preset
from mec_gym.core.types import Float32Array, FloatArray, IntArray
from mec_gym.gossip_training.graphs import Graph, edges_of
from mec_gym.learning.compression import top_k_bits
from mec_gym.learning.hashing import KeyArray
from mec_gym.learning.images import Labelled, Split, digits, load_images
from mec_gym.learning.partition import Kind, Partition, most_images, partition
from mec_gym.learning.perceptron import Perceptron
from mec_gym.network.gaussian import white_noise

Mixing = Literal["uniform", "metropolis", "push-sum"]
Payload = Literal["weights", "choco", "segments"]

MEGA, GIGA = 1e6, 1e9
MOST_NUMBERS = 10**7  # numbers that describe an episode or its state, which have to fit into memory
MOST_SPREAD = 3.0  # standard deviations that a logarithm is at most from its mean


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
    initial: Float32Array  # (..., P) weights of all models at the beginning; whole episode


@dataclass(frozen=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    Attributes:
        devices: The number of devices, N.
        graph: Who may listen to whom: ``"complete"``, ``"ring"``, ``"torus"`` or ``"geometric"``.
        radius: The distance within which devices hear each other, of ``"geometric"`` graphs.
        rounds: The largest number of rounds per episode, T.
        budget_s: The time of every device's own clock, s.
        mixing: How a device averages: ``"uniform"`` over itself and those that it listens to;
            ``"metropolis"``, by how many others each of two devices listens to; ``"push-sum"``, in
            which every speaker divides itself among its listeners and itself, so that directed
            graphs keep the mean [Nedic2016].
        overlap: Whether devices send the model of the round before, so that sending hides behind
            training [Assran2019].
        payload: ``"weights"``; ``"choco"``: compressed differences to copies that others hold
            [Koloskova2019]; ``"segments"``: one segment of the model per speaker [HuC2019].
        payload_share: The share of entries that ``"choco"`` sends.
        choco_step: How far a device moves towards the copies of those that it listens to.
        segments: The number of segments of a model.
        local_steps: The number of minibatches per round, E.
        batch: The number of images per minibatch, B.
        learning_rate: The learning rate.
        images: ``"digits"``, or the path of an ``.npz`` file of one's own.
        hidden: The number of hidden neurons of the perceptron that is trained.
        partition: How images are spread over devices, see ``mec_gym.learning.partition``.
        alpha: The parameter of the Dirichlet distribution per class.
        classes_each: The number of shards per device.
        size_spread: Standard deviation of the logarithm of the number of a device's images.
        forward_flop: Work of the forward pass of one image that is charged, FLOP.
        model_bits: Size of the model that is charged, bit.
        speed: The median speed of devices, FLOP/s.
        speed_spread: Standard deviation of the logarithm of a device's mean speed.
        rate: The median rate at which devices send, bit/s.
        rate_spread: Standard deviation of the logarithm of a device's mean rate.
        jitter: The same for how work and rates vary from round to round.

    Raises:
        ValueError: A parameter lies outside its range; the message names it.
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
            switches=("overlap",),
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
            non_negative=("size_spread", "speed_spread", "rate_spread", "jitter"),
            at_most={
                "devices": 1000,
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
        self._partition(np.random.default_rng(0), 0)  # it checks its parameters

    @cached_property
    def edges(self) -> IntArray:
        """Who may listen to whom, (E, 2): listener, speaker."""
        return edges_of(self.graph, self.devices, self.radius)

    @cached_property
    def data(self) -> Split:
        """The images, in single precision as they are trained on."""
        split = digits() if self.images == "digits" else load_images(self.images)
        return Split(*(Labelled(part.images.astype(np.float32), part.labels) for part in split))

    @cached_property
    def network(self) -> Perceptron:
        """The network that is trained."""
        learn = self.data.learn
        classes = max(int(part.labels.max()) for part in self.data) + 1
        return Perceptron((learn.images.shape[1], self.hidden, classes))

    @property
    def most(self) -> int:
        """The length of a row of images."""
        return most_images(len(self.data.learn.labels), self.devices, self.size_spread, 0)

    @property
    def round_flop(self) -> float:
        """The work of a round without jitter, FLOP."""
        return 3.0 * self.forward_flop * self.local_steps * self.batch

    @property
    def sent_bits(self) -> float:
        """What a speaker sends to one listener, bit."""
        if self.payload == "choco":
            return self.model_bits * top_k_bits(self.network.parameters, self.payload_share)
        return self.model_bits / (self.segments if self.payload == "segments" else 1)

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...) or (n, 1, ...)."""
        shares, who = self._partition(rng, n), self.devices
        initial = np.stack([self.network.initial(rng) for _ in range(n)])
        speed = self.speed * np.exp(self.speed_spread * _normal(rng, (n, 1, who)))
        rate = self.rate * np.exp(self.rate_spread * _normal(rng, (n, 1, who)))
        key = rng.integers(0, 2**64, size=(n, self.rounds), dtype=np.uint64)
        shape = (n, self.rounds, who)
        return Slot(
            compute_s=self.round_flop / speed * np.exp(self.jitter * _normal(rng, shape)),
            rate=rate * np.exp(self.jitter * _normal(rng, shape)),
            key=key,
            own=shares.own[:, None],
            samples=shares.samples[:, None],
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
            shared=0,
        )


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    drawn = np.clip(white_noise(rng, shape), -MOST_SPREAD, MOST_SPREAD)
    return drawn.astype(np.float64)


PRESETS: dict[str, Preset[Scenario]] = {
    "ring": Preset(Scenario, "16 equal devices on a ring, which see few classes each"),
    "complete": Preset(
        lambda: Scenario(graph="complete"), "ring, but everybody may listen to everybody"
    ),
    "unequal": Preset(
        lambda: Scenario(graph="complete", partition="iid", speed_spread=1.0, rate_spread=0.7),
        "complete, with devices of unequal speed and alike images",
    ),
    "tiny": Preset(
        lambda: Scenario(devices=4, rounds=8, budget_s=100.0, local_steps=2, batch=8, hidden=8),
        "4 devices, 8 rounds",
    ),
}
