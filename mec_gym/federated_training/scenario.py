"""Parameters of federated training, and nature's part of its episodes.

A server and clients of unequal speed, which come and go, train one model together, as
[Wang2023] describes it in sections 2.1.1 and 2.2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from mec_gym.core.checks import check_fields, check_unused
from mec_gym.core.presets import Preset
from mec_gym.core.types import BoolArray, Float32Array, FloatArray, IntArray
from mec_gym.federated_training import fleet
from mec_gym.learning.compression import low_rank_bits, top_k_bits
from mec_gym.learning.hashing import KeyArray
from mec_gym.learning.images import Split
from mec_gym.learning.partition import Kind, Partition, most_images, partition
from mec_gym.learning.perceptron import Perceptron
from mec_gym.learning.task import task_images, task_network, training_cost
from mec_gym.network.gaussian import bounded_noise

Late = Literal["keep", "drop"]
Merge = Literal["average", "mix", "elastic"]
Staleness = Literal["none", "power", "inverse", "exponential"]
Payload = Literal["weights", "top-k", "significant", "low-rank"]
Availability = Literal["always", "churn", "hours"]
Goal = Literal["error", "target"]
MergeWeights = Literal["samples", "equal"]

MEGA, GIGA = 1e6, 1e9
MOST_CHANGES = 10_000  # of who is present, and of what is asked for, per episode
MOST_NUMBERS = 10**7  # numbers that describe an episode or its state, which have to fit into memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What nature adds to one decision. A trace is a Slot with leading axes (n, T) or (n, 1).

    Tables run over the K bins of time of ``Scenario.bin_s`` seconds, since it is up to the agent
    how long a step takes; the last bin holds on. N is the number of clients, P that of weights.
    """

    jitter: FloatArray  # (..., N) factor of the work of a job that begins now
    key: KeyArray  # (...) uint64, from which the order of a job's minibatches follows
    present: BoolArray  # (..., N, K) whether the client can be reached; whole episode
    speed: FloatArray  # (..., N, K) FLOP/s; whole episode
    uplink: FloatArray  # (..., N, K) bit/s; whole episode
    downlink: FloatArray  # (..., N) bit/s; whole episode
    own: IntArray  # (..., N, most) numbers of the images that a client holds; whole episode
    samples: IntArray  # (..., N) how many of them there are; whole episode
    gain: Float32Array  # (..., N) factor of a client's pixels; whole episode
    initial: Float32Array  # (..., P) weights of the model to begin with; whole episode
    demand: FloatArray  # (..., K or 1, classes) what share of requests is of a class; whole episode


@dataclass(frozen=True)
class Scenario:
    """Everything that does not change during an episode, in SI units.

    Attributes:
        clients: The number of clients, N.
        at_once: The largest number of clients that train at the same time, m.
        quorum: The server merges as soon as so many updates have arrived, K, at most m.
        deadline: The server waits no longer than this, s; None waits for the quorum.
        late: What becomes of clients that have not answered by then: ``"keep"`` lets them go on,
            so that they arrive stale; ``"drop"`` forgets them.
        merge: How updates become part of the model. ``"average"``: their mean, weighted by
            samples, is added (FedAvg [McMahan2017]); ``"mix"``: the model moves towards one
            client's weights after the other [Xie2020]; ``"elastic"``: likewise, but each client
            goes on from weights of its own, which move towards the model [Zhang2015].
        merge_weights: Whether a client counts by its ``"samples"``, or all are ``"equal"``
            (virtual clients [HsuT2020]).
        server_rate: The factor of what is merged, eta [Hsu2019].
        server_momentum: The server's momentum, in [0, 1) [Hsu2019].
        look_ahead: Whether clients begin from where momentum will have carried the model
            [Hakimi2020].
        normalise: Whether an update is divided by the steps that it took, so that clients
            with many steps do not outweigh others (FedNova [WangJ2020]).
        staleness: How an update of staleness tau (the number of merges since it began) weighs:
            ``"power"``: (1 + tau)^-a [Xie2020]; ``"inverse"``: 1 / max(tau, 1) [ZhangW2016];
            ``"exponential"``: exp(-a tau) [Chan2014]; ``"none"``: 1.
        staleness_power: The parameter a.
        max_staleness: Updates that are staler are thrown away [Wu2021].
        local_steps: The number of minibatches that a client trains on per job, E.
        batch: The number of images per minibatch, B.
        rate: The clients' learning rate.
        pull: FedProx's mu, by which clients are held near the weights that they began from
            [LiT2020].
        control_variates: Whether clients correct their gradients as in SCAFFOLD [Karimireddy2020];
            they receive twice as much for it.
        importance: Whether images weigh by how common their class is among all against among
            the client's (FedIR [HsuT2020]).
        control_steps: Whether the agent also says how many steps each client takes.
        payload: What clients send: all ``"weights"``; the ``"top-k"`` entries of the update;
            ``"significant"`` entries only (Gaia [Hsieh2017]); or a ``"low-rank"`` update
            [Konecny2016]. The clock charges what is sent, and only that is merged.
        payload_share: The share of entries that top-k keeps.
        payload_threshold: The relative change from which an entry is significant.
        payload_rank: The rank of a low-rank update.
        images: ``"digits"``, or the path of an ``.npz`` file of one's own with ``images`` (n, ...)
            and ``labels`` (n,).
        hidden: The number of hidden neurons of the perceptron that is trained.
        partition: How images are spread over clients: ``"iid"``; ``"dirichlet"``, by class shares
            drawn from a Dirichlet distribution [Hsu2019]; ``"shards"`` of few classes
            [McMahan2017].
        alpha: The parameter of the Dirichlet distribution per class; small means that clients see
            few classes. The alpha of [Hsu2019] is this times the number of classes.
        classes_each: The number of shards per client.
        size_spread: Standard deviation of the logarithm of the number of a client's images.
        feature_spread: The same for the factor of a client's pixels.
        shared: The number of images that all clients hold [Zhao2018].
        growth_s: The time in which a client's images become known, s; None if all are known from
            the beginning [ChenY2020].
        growth_from: The share of its images that a client knows at the beginning.
        sliding: Whether the known images are a window that slides, instead of one that widens.
        forward_flop: Work of the forward pass of one image that is charged, FLOP; the backward
            pass costs twice as much.
        model_bits: Size of the model that is charged, bit.
        server_s: The time that the server takes to merge what has arrived, s, or to find that all
            of it is too stale.
        idle_s: The time that passes if nobody trains, s.
        speed: The median speed of clients, FLOP/s.
        speed_spread: Standard deviation of the logarithm of a client's mean speed.
        load_spread: The same for the load that varies the speed from bin to bin.
        load_memory: Correlation of loads in consecutive bins, in [0, 1].
        uplink: The median rate from a client to the server, bit/s.
        downlink: The median rate from the server to a client, bit/s.
        rate_spread: Standard deviation of the logarithms of a client's mean rates.
        fading: The same for how the uplink varies from bin to bin.
        jitter: The same for how the work of one job varies.
        availability: ``"always"``; ``"churn"``: clients come and go, with exponential stays;
            ``"hours"``: regular hours.
        on_s: The mean stay of a client, s; for regular hours, their length.
        off_s: The mean absence, s; for regular hours, the time between them.
        phase_by_class: Whether regular hours depend on the class that a client holds most of.
        drift_s: The time after which other classes are asked for, s; None asks for all of them as
            often as they are among the validation images.
        drift_classes: The number of classes that are asked for at a time.
        timetable: Whether observations say when each client will leave.
        privileged: Whether observations show the clients' shares of classes.
        goal: ``"error"``: the mean error over the budget counts; ``"target"``: the time until the
            model is good enough.
        target: The accuracy that is good enough, as the mean of three evaluations.
        budget_s: The length of an episode, s.
        bin_s: The length of a bin of time, s.
        decisions: The largest number of decisions per episode, T.
        compute_w: The power of a client that computes, W.
        send_w: The power of a client that sends, W.

    Raises:
        ValueError: A parameter lies outside its range, or differs from its default although the
            others make no use of it; the message names it.
    """

    clients: int = 30
    at_once: int = 10
    quorum: int = 3
    deadline: float | None = None
    late: Late = "keep"
    merge: Merge = "average"
    merge_weights: MergeWeights = "samples"
    server_rate: float = 1.0
    server_momentum: float = 0.0
    look_ahead: bool = False
    normalise: bool = False
    staleness: Staleness = "power"
    staleness_power: float = 0.5
    max_staleness: int = 20
    local_steps: int = 10
    batch: int = 16
    rate: float = 0.1
    pull: float = 0.0
    control_variates: bool = False
    importance: bool = False
    control_steps: bool = False
    payload: Payload = "weights"
    payload_share: float = 0.1
    payload_threshold: float = 0.01
    payload_rank: int = 2
    images: str = "digits"
    hidden: int = 32
    partition: Kind = "dirichlet"
    alpha: float = 0.1
    classes_each: int = 2
    size_spread: float = 0.5
    feature_spread: float = 0.0
    shared: int = 0
    growth_s: float | None = None
    growth_from: float = 0.2
    sliding: bool = False
    forward_flop: float = 0.1 * GIGA
    model_bits: float = 32 * MEGA
    server_s: float = 0.05
    idle_s: float = 30.0
    speed: float = 2 * GIGA
    speed_spread: float = 1.0
    load_spread: float = 0.0
    load_memory: float = 0.9
    uplink: float = 4 * MEGA
    downlink: float = 16 * MEGA
    rate_spread: float = 0.7
    fading: float = 0.3
    jitter: float = 0.2
    availability: Availability = "always"
    on_s: float = 300.0
    off_s: float = 300.0
    phase_by_class: bool = False
    drift_s: float | None = None
    drift_classes: int = 5
    timetable: bool = False
    privileged: bool = False
    goal: Goal = "error"
    target: float = 0.9
    budget_s: float = 4000.0
    bin_s: float = 20.0
    decisions: int = 500
    compute_w: float = 3.0
    send_w: float = 1.2

    def __post_init__(self) -> None:
        check_fields(
            self,
            kinds={"images": (str,)},
            choices={
                "late": get_args(Late),
                "merge": get_args(Merge),
                "merge_weights": get_args(MergeWeights),
                "staleness": get_args(Staleness),
                "payload": get_args(Payload),
                "partition": get_args(Kind),
                "availability": get_args(Availability),
                "goal": get_args(Goal),
            },
            switches=(
                "look_ahead",
                "normalise",
                "control_variates",
                "importance",
                "control_steps",
                "sliding",
                "phase_by_class",
                "timetable",
                "privileged",
            ),
            positive_int=(
                "clients",
                "at_once",
                "quorum",
                "local_steps",
                "batch",
                "payload_rank",
                "hidden",
                "classes_each",
                "drift_classes",
                "decisions",
            ),
            positive=(
                "rate",
                "server_rate",
                "payload_share",
                "alpha",
                "growth_from",
                "forward_flop",
                "model_bits",
                "idle_s",
                "speed",
                "uplink",
                "downlink",
                "on_s",
                "off_s",
                "target",
                "budget_s",
                "bin_s",
                *(n for n in ("deadline", "growth_s", "drift_s") if getattr(self, n) is not None),
            ),
            non_negative=(
                "server_momentum",
                "staleness_power",
                "max_staleness",
                "pull",
                "payload_threshold",
                "size_spread",
                "feature_spread",
                "shared",
                "server_s",
                "speed_spread",
                "load_spread",
                "rate_spread",
                "fading",
                "jitter",
                "compute_w",
                "send_w",
            ),
            fraction=("load_memory",),
            at_most={
                "clients": 10_000,
                "at_once": "clients",
                "quorum": "at_once",
                "server_momentum": 0.999,
                "staleness_power": 100.0,
                "rate": 100.0,
                "server_rate": 100.0,
                "pull": 1e6,
                "payload_share": 1.0,
                "growth_from": 1.0,
                "target": 1.0,
                "local_steps": 1000,
                "batch": 10_000,
                "hidden": 1000,
                "bin_s": "budget_s",
                "decisions": 100_000,
                **dict.fromkeys(
                    (
                        "size_spread",
                        "feature_spread",
                        "speed_spread",
                        "load_spread",
                        "rate_spread",
                        "fading",
                        "jitter",
                    ),
                    3.0,
                ),
            },
        )
        for name in ("max_staleness", "shared"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
        classes = self.network.sizes[-1]
        if self.drift_s is not None and self.drift_classes > classes:
            raise ValueError(
                f"drift_classes must be at most {classes}, the number of classes, got "
                f"{self.drift_classes!r}"
            )
        most = max(map(min, pairwise(self.network.sizes)))
        if self.payload == "low-rank" and self.payload_rank > most:
            raise ValueError(
                f"payload_rank must be at most {most}, the largest rank of a layer, got "
                f"{self.payload_rank!r}"
            )
        self._partition(np.random.default_rng(0), 0)  # it checks its parameters
        self._check_combinations()
        tables = self.clients * (3 * self.bins + self.most + self.decisions)
        weights = self.network.parameters * (self.at_once + self.memory_rows + 4)
        for count, what in (
            (tables, "clients * (3 * budget_s / bin_s + images per client + decisions)"),
            (weights, "the weights of the models that are on their way or remembered"),
        ):
            if count > MOST_NUMBERS:
                raise ValueError(f"{what} must be at most {MOST_NUMBERS:g} numbers, got {count}")

    def _check_combinations(self) -> None:
        check_unused(
            self,
            (
                (
                    'merge is "average"',
                    self.merge == "average",
                    ("merge_weights", "server_momentum", "normalise", "control_variates"),
                ),
                ("server_momentum is above 0", self.server_momentum > 0, ("look_ahead",)),
                (
                    'late is "keep"',
                    self.late == "keep",
                    ("staleness", "staleness_power", "max_staleness"),
                ),
                (
                    'staleness is "power" or "exponential"',
                    self.staleness in ("power", "exponential"),
                    ("staleness_power",),
                ),
                ('payload is "top-k"', self.payload == "top-k", ("payload_share",)),
                (
                    'payload is "significant"',
                    self.payload == "significant",
                    ("payload_threshold",),
                ),
                ('payload is "low-rank"', self.payload == "low-rank", ("payload_rank",)),
                ('partition is "dirichlet"', self.partition == "dirichlet", ("alpha",)),
                ('partition is "shards"', self.partition == "shards", ("classes_each",)),
                ("growth_s is given", self.growth_s is not None, ("growth_from", "sliding")),
                ("load_spread is above 0", self.load_spread > 0, ("load_memory",)),
                (
                    'availability is "churn" or "hours"',
                    self.availability != "always",
                    ("on_s", "off_s", "timetable"),
                ),
                ('availability is "hours"', self.availability == "hours", ("phase_by_class",)),
                ("drift_s is given", self.drift_s is not None, ("drift_classes",)),
                ('goal is "target"', self.goal == "target", ("target",)),
            ),
        )
        # Nobody comes or goes, and nothing else is asked for, within a bin.
        least = max(self.bin_s, self.budget_s / MOST_CHANGES)
        changing = () if self.availability == "always" else ("on_s", "off_s")
        for name in (*changing, "drift_s"):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(
                    f"{name} must be at least {least:g}, the larger one of bin_s and "
                    f"budget_s / {MOST_CHANGES}, got {value!r}"
                )

    @cached_property
    def data(self) -> Split:
        """The images, in single precision as they are trained on."""
        return task_images(self.images)

    @cached_property
    def network(self) -> Perceptron:
        """The network that is trained."""
        return task_network(self.data, self.hidden)

    @cached_property
    def class_shares(self) -> FloatArray:
        """How common each class is among the images that are learnt from, (classes,)."""
        counts = np.bincount(self.data.learn.labels, minlength=self.network.sizes[-1])
        return np.asarray(counts / counts.sum())

    @cached_property
    def usual_demand(self) -> FloatArray:
        """How common each class is among the validation images, (classes,)."""
        labels = self.data.validate.labels
        return np.asarray(np.bincount(labels, minlength=self.network.sizes[-1]) / len(labels))

    @property
    def bins(self) -> int:
        """The number of bins of time, K."""
        return math.ceil(self.budget_s / self.bin_s)

    @property
    def most(self) -> int:
        """The length of a row of images."""
        images = len(self.data.learn.labels)
        return most_images(images, self.clients, self.size_spread, self.shared)

    @property
    def usual_samples(self) -> float:
        """The mean number of images per client, which observations are scaled by."""
        return self.shared + (len(self.data.learn.labels) - self.shared) / self.clients

    @property
    def memory_rows(self) -> int:
        """How many models are remembered for clients: one for each, or none."""
        return self.clients if self.control_variates or self.merge == "elastic" else 0

    @property
    def job_flop(self) -> float:
        """The work of a job without jitter: forward and backward passes, FLOP."""
        return 3.0 * self.forward_flop * self.local_steps * self.batch

    @property
    def download_bits(self) -> float:
        """What a client receives, bit: the model, and with SCAFFOLD the server's control variates.

        The client's own need not be sent: the server computes them from the update.
        """
        return self.model_bits * (2.0 if self.control_variates else 1.0)

    @property
    def upload_bits(self) -> float:
        """What a client sends, bit; with ``"significant"`` entries only, the most that it sends."""
        share = 1.0
        if self.payload == "top-k":
            share = top_k_bits(self.network.parameters, self.payload_share)
        elif self.payload == "low-rank":
            share = low_rank_bits(self.network, self.payload_rank)
        return self.model_bits * share

    @property
    def compute_scale(self) -> float:
        """The time that a usual client computes, which observations are scaled by, s."""
        return self.job_flop / self.speed

    @property
    def link_scale(self) -> float:
        """The time that a usual client sends and receives, which observations are scaled by, s."""
        return self.download_bits / self.downlink + self.upload_bits / self.uplink

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...) or (n, 1, ...)."""
        who, shares = self.clients, self._partition(rng, n)
        initial = np.stack([self.network.initial(rng) for _ in range(n)])
        gain = np.exp(self.feature_spread * bounded_noise(rng, (n, who)))
        jitter = np.exp(self.jitter * bounded_noise(rng, (n, self.decisions, who)))
        key = rng.integers(0, 2**64, size=(n, self.decisions), dtype=np.uint64)
        return Slot(
            jitter=jitter,
            key=key,
            present=fleet.presence(self, rng, shares.own, shares.samples)[:, None],
            speed=fleet.speeds(self, rng, n)[:, None],
            uplink=fleet.uplinks(self, rng, n)[:, None],
            downlink=fleet.downlinks(self, rng, n)[:, None],
            own=shares.own[:, None],
            samples=shares.samples[:, None],
            gain=gain.astype(np.float32)[:, None],
            initial=initial.astype(np.float32)[:, None],
            demand=fleet.demand(self, rng, n)[:, None],
        )

    def _partition(self, rng: np.random.Generator, n: int) -> Partition:
        return partition(
            self.data.learn.labels,
            self.clients,
            rng,
            n,
            kind=self.partition,
            alpha=self.alpha * self.network.sizes[-1],
            classes_each=self.classes_each,
            size_spread=self.size_spread,
            shared=self.shared,
        )


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
    "semi-async": Preset(
        Scenario, "30 clients, 10 at once; the first 3 to arrive are merged, others arrive stale"
    ),
    "sync": Preset(
        lambda: Scenario(quorum=10, late="drop", decisions=200),
        "FedAvg: the server waits for all of up to 10 clients",
    ),
    "async": Preset(
        lambda: Scenario(quorum=1, merge="mix", server_rate=0.6, decisions=2500),
        "FedAsync: every arrival is mixed in at once",
    ),
    "iid": Preset(lambda: Scenario(partition="iid"), "semi-async, but all clients see all classes"),
    "churn": Preset(
        lambda: Scenario(availability="churn"),
        "semi-async with clients that stay and are away for 300 s on average",
    ),
    "hours": Preset(
        lambda: Scenario(availability="hours", on_s=600.0, off_s=600.0, phase_by_class=True),
        "semi-async with regular hours that depend on what a client sees",
    ),
    "drift": Preset(
        lambda: Scenario(drift_s=500.0), "semi-async; every 500 s other classes are asked for"
    ),
    "growing": Preset(
        lambda: Scenario(growth_s=4000.0), "semi-async; clients gather their images on the way"
    ),
    "tiny": Preset(
        lambda: Scenario(
            clients=8, at_once=3, quorum=2, local_steps=3, batch=8, decisions=10, budget_s=200.0
        ),
        "8 clients, 3 at once, 10 decisions",
    ),
}
