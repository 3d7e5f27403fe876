"""Joint training of a network's exits, and their measured accuracy."""

from __future__ import annotations

import copy
import math
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mec_gym.core.checks import (
    non_negative,
    numbers,
    positive,
    positive_int,
    reason_of,
    seed_number,
)
from mec_gym.core.types import ByteArray, FloatArray
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.images import Images
from mec_gym.dnn.profile import profile
from mec_gym.dnn.profile.tensors import kinds_of

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises, at the beginning."""
_TEST_BATCH = 250


@dataclass(frozen=True)
class ExitSettings:
    """How the exits are trained: with AdamW, a warm-up, then a cosine down to 0.

    Attributes:
        epochs: Passes over the training images. More take longer and fit better, until the
            network begins to know the training images by heart.
        batch_size: Images per step; those that do not fill a batch at the end of an epoch are
            left out of it. Smaller batches give more and noisier steps per epoch.
        learning_rate: Highest learning rate, after the warm-up. Lower it if the loss jumps or
            is lost, raise it if the loss falls slowly.
        weight_decay: Weight decay of AdamW. Raise it if the network does well on its training
            images only.
        loss_weights: Weight of each exit's loss, shallow to deep; by default they are equal.
            Give an exit more to make it better at the cost of the others.

    Raises:
        ValueError: A number is out of range.
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    loss_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        positive_int("epochs", self.epochs)
        positive_int("batch_size", self.batch_size)
        positive("learning_rate", self.learning_rate)
        non_negative("weight_decay", self.weight_decay)
        if self.loss_weights is not None:
            numbers("loss_weights", self.loss_weights)


def initialised(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return what ``build`` returns, with the random weights of a seed.

    Torch's global generator is left as it was.

    Args:
        build: Makes the module.
        seed: Seed of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def joint_loss(
    logits: Sequence[torch.Tensor], labels: torch.Tensor, weights: Sequence[float]
) -> torch.Tensor:
    """Return the weighted mean of the exits' cross-entropies, so that one descent teaches all.

    This is BranchyNet's joint optimisation [Teerapittayanon2016] section III. There it is a
    weighted sum; here it is divided by the sum of the weights, so that these do not change
    how large a step is.

    Args:
        logits: The logits of each exit, (n, classes).
        labels: The right classes, whole numbers, (n,).
        weights: The weight of each exit.

    Returns:
        The loss, a scalar, nat.
    """
    losses = [functional.cross_entropy(one, labels) for one in logits]
    pairs = zip(weights, losses, strict=True)
    return torch.stack([weight * loss for weight, loss in pairs]).sum() / sum(weights)


class ExitTraining:
    """The joint training of a network's exits, one batch after the other.

    It owns its random numbers (order, shifts, mirroring, dropout): the same seed, the same
    module and the same number of threads give the same weights, bit for bit, whatever else is
    drawn meanwhile. :meth:`state` holds everything, also in the middle of an epoch.

    Args:
        module: The network. It takes images (n, channels, height, width) and returns a tuple
            of logits, (n, classes) each, from the earliest exit to the deepest. It is trained
            in place.
        images: The images that it learns from and is tested on.
        settings: How it is trained.
        seed: Seed of the order of the images, their shifts, mirroring and dropout; for that of
            the weights see :func:`initialised`.

    Attributes:
        steps: Batches learnt from so far.
        history: One row of figures for each epoch that has ended.

    Raises:
        ValueError: The module takes or returns other shapes than said above, returns others in
            training than in evaluation, has the deepest exit not last or cannot be profiled; a
            batch would hold more images than there are, or there is not one loss weight per exit.
    """

    def __init__(
        self,
        module: nn.Module,
        images: Images,
        settings: ExitSettings | None = None,
        seed: int = 0,
    ) -> None:
        seed_number("seed", seed)
        self.module = module
        self.images = images
        self.settings = settings = settings or ExitSettings()
        self.seed = seed
        self.steps = 0
        self.history: list[dict[str, float]] = []
        if settings.batch_size > len(images.train):
            raise ValueError(
                f"batch_size must be at most {len(images.train)}, the images to train on, got "
                f"{settings.batch_size}"
            )
        mean, spread = _moments(images.train)
        self._mean = torch.tensor(mean[:, None, None], dtype=torch.float32)
        self._spread = torch.tensor(spread[:, None, None], dtype=torch.float32)
        self._train = torch.from_numpy(images.train)
        self._labels = torch.from_numpy(images.train_labels)
        self.exits = self._count_exits()
        self._check_profile()
        given = settings.loss_weights or (1.0,) * self.exits
        if len(given) != self.exits:
            raise ValueError(
                f"loss_weights must hold {self.exits} numbers, one per exit, got {given!r}"
            )
        self.loss_weights = given
        self._optimiser = torch.optim.AdamW(
            module.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._random = torch.Generator().manual_seed(seed).get_state()
        self._order = torch.empty(0, dtype=torch.int64)
        self._losses: list[list[float]] = []

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch."""
        return len(self._train) // self.settings.batch_size

    @property
    def total_steps(self) -> int:
        """Batches in the whole training."""
        return self.settings.epochs * self.steps_per_epoch

    @property
    def done(self) -> bool:
        """Whether all epochs have ended."""
        return self.steps >= self.total_steps

    def step(self) -> None:
        """Learn from one batch; after the last one of an epoch, add a row to the history.

        Raises:
            ValueError: The loss is no longer finite.
        """
        place = self.steps % self.steps_per_epoch
        size = self.settings.batch_size
        rate = self._learning_rate()
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            if place == 0:
                self._order = torch.randperm(len(self._train))
                self._losses = []
            chosen = self._order[place * size : (place + 1) * size]
            batch = self._normalised(self._moved(self._train[chosen]))
            labels = self._labels[chosen]
            self.module.train()
            logits = self._answers(batch)
            self._random = torch.get_rng_state()
        loss = joint_loss(logits, labels, self.loss_weights)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        each = [float(functional.cross_entropy(one.detach(), labels)) for one in logits]
        if not math.isfinite(loss.item()):
            raise ValueError(
                f"learning_rate must be smaller than {self.settings.learning_rate!r}: the loss is "
                f"{loss.item()} after {self.steps} steps"
            )
        self._losses.append([loss.item(), *each])
        self.steps += 1
        if self.steps % self.steps_per_epoch == 0:
            self._end_epoch(rate)

    def accuracies(self, part: Literal["train", "test"] = "test") -> tuple[float, ...]:
        """Return the share of images, unchanged, that each exit gets right, (exits,).

        Args:
            part: Whether the images to learn from or those to test on are asked for.
        """
        images = torch.from_numpy(getattr(self.images, part))
        labels = torch.from_numpy(getattr(self.images, f"{part}_labels"))
        right = torch.zeros(self.exits, dtype=torch.int64)
        self.module.eval()
        with torch.no_grad():
            for start in range(0, len(images), _TEST_BATCH):
                batch = self._normalised(images[start : start + _TEST_BATCH])
                answers = torch.stack([one.argmax(1) for one in self._answers(batch)])
                right += (answers == labels[start : start + _TEST_BATCH]).sum(1)
        return tuple(int(count) / len(images) for count in right)

    def graph(self, name: str | None = None) -> LayerGraph:
        """Profile the network, with each exit's test accuracy and where it comes from.

        The accuracy is that of the last weights: no epoch is picked by looking at the test.

        Args:
            name: Name of the network; by default its class.

        Raises:
            ValueError: The module cannot be profiled.
        """
        accuracies = self.accuracies("test")
        graph = self._profile(name)
        return replace(
            graph,
            exits=tuple(
                replace(one, accuracy=accuracy)
                for one, accuracy in zip(graph.exits, accuracies, strict=True)
            ),
            provenance={**graph.provenance, "training": self._provenance()},
        )

    def state(self) -> dict[str, Any]:
        """Return all that a training consists of: tensors, numbers, lists and dictionaries."""
        return {
            "module": self.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "random": self._random,
            "order": self._order,
            "losses": self._losses,
            "steps": self.steps,
            "history": self.history,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state` was called, bit for bit.

        Args:
            state: What :meth:`state` returned.

        Raises:
            KeyError: Parts of the state are missing.
            RuntimeError: The state is that of another network.
        """
        self.module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._random = state["random"]
        self._order = state["order"]
        self._losses = [list(row) for row in state["losses"]]
        self.steps = state["steps"]
        self.history = [dict(row) for row in state["history"]]

    def _learning_rate(self) -> float:
        rising = max(1, round(WARM_UP * self.total_steps))
        if self.steps < rising:
            share = (self.steps + 1) / rising
        else:
            past = (self.steps - rising) / (self.total_steps - rising)
            share = (1 + math.cos(math.pi * past)) / 2
        return self.settings.learning_rate * share

    def _end_epoch(self, rate: float) -> None:
        joint, *each = torch.tensor(self._losses, dtype=torch.float64).mean(0).tolist()
        row = {"epoch": self.steps // self.steps_per_epoch, "learning_rate": rate, "loss": joint}
        row |= {f"loss/exit{n}": loss for n, loss in enumerate(each, 1)}
        row |= {f"test_accuracy/exit{n}": share for n, share in enumerate(self.accuracies(), 1)}
        self.history.append(row)

    def _moved(self, batch: torch.Tensor) -> torch.Tensor:
        """Shift and mirror each image of a batch at random, as the data set allows."""
        shift, (count, channels, height, width) = self.images.shift, batch.shape
        if shift:
            padded = functional.pad(batch, (shift,) * 4)
            down, right = torch.randint(2 * shift + 1, (2, count, 1))
            rows = (down + torch.arange(height))[:, None, :, None]
            columns = (right + torch.arange(width))[:, None, None, :]
            each = torch.arange(count)[:, None, None, None]
            batch = padded[each, torch.arange(channels)[:, None, None], rows, columns]
        if self.images.flip:
            mirrored = torch.rand(count, 1, 1, 1) < 0.5
            batch = torch.where(mirrored, batch.flip(3), batch)
        return batch

    def _normalised(self, batch: torch.Tensor) -> torch.Tensor:
        return (batch.float() / 255 - self._mean) / self._spread

    def _answers(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.module(batch)
        return (found,) if isinstance(found, torch.Tensor) else tuple(found)

    def _count_exits(self) -> int:
        self.module.eval()
        images = self._normalised(self._train[:2])
        found = _run(self.module, images)
        wanted = (min(2, len(self._train)), self.images.classes)
        answers = [found] if isinstance(found, torch.Tensor) else found
        fits = isinstance(answers, (list, tuple)) and len(answers) > 0
        if not fits or any(getattr(one, "shape", None) != wanted for one in answers):
            got = [tuple(getattr(one, "shape", ())) for one in answers] if fits else type(found)
            raise ValueError(
                f"module must return logits (n, {self.images.classes}) for every exit, from two "
                f"images it gave {got}"
            )
        # A copy: what it learns of two images, as batch normalisation does, is forgotten.
        trained = _run(copy.deepcopy(self.module).train(), images)
        other = [trained] if isinstance(trained, torch.Tensor) else trained
        if not isinstance(other, (list, tuple)) or kinds_of(other) != kinds_of(answers):
            raise ValueError(
                "module must return the same exits in training and in evaluation, it gave "
                f"{_shapes(other)} and {_shapes(answers)}"
            )
        return len(answers)

    def _check_profile(self) -> None:
        """Find out now, and not after the training, whether there will be a profile."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be counted is named in the end
            graph = self._profile()
        order = graph.provenance.get("outputs")
        if order is not None:
            raise ValueError(
                "module must return its exits from the earliest to the deepest; of its outputs "
                f"0 to {len(order) - 1} the order is {order}"
            )
        if len(graph.exits) != self.exits:
            raise ValueError(
                f"module must return {self.exits} exits, {len(graph.exits)} are traced"
            )

    def _profile(self, name: str | None = None) -> LayerGraph:
        example = torch.zeros(1, *self.images.train.shape[1:])
        return profile(self.module, example, name=name)

    def _provenance(self) -> dict[str, Any]:
        images, settings = self.images, self.settings
        moved = [f"shifts by up to {images.shift} pixels"] if images.shift else []
        moved += ["mirroring"] if images.flip else []
        return {
            "data_set": images.name,
            "data": images.about,
            "train_images": len(images.train),
            "test_images": len(images.test),
            "accuracy": "share of the test images, after the last epoch",
            "train_accuracy": list(self.accuracies("train")),
            "augmentation": " and ".join(moved) or "none",
            "epochs": self.steps // self.steps_per_epoch,
            "batch_size": settings.batch_size,
            "optimiser": (
                f"AdamW, learning rate {settings.learning_rate:g}, {WARM_UP:.0%} of the steps "
                f"warm-up, then cosine to 0; weight decay {settings.weight_decay:g}"
            ),
            "loss": "weighted mean of the exits' cross-entropies",
            "loss_weights": list(self.loss_weights),
            "seed": self.seed,
            "threads": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
            },
        }


def _run(module: nn.Module, images: torch.Tensor) -> Any:
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return module(images)
    except Exception as error:  # whatever the user's own forward raises
        raise ValueError(
            f"module must take images of shape {tuple(images.shape)}, it failed: {reason_of(error)}"
        ) from error


def _shapes(answers: Any) -> list[tuple[int, ...]]:
    return [tuple(shape) for shape, _ in kinds_of(answers)]


def _moments(images: ByteArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation per channel, bytes taken as 0 to 1, (channels,) each."""
    # From counts: a large data set as floating-point numbers would fill the memory.
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(images, 1, 0)]
    shares = np.stack(counts) / counts[0].sum()
    levels = np.arange(256) / 255
    mean = shares @ levels
    return mean, np.sqrt(np.maximum(shares @ levels**2 - mean**2, 1e-12))


def train_exits(
    module: nn.Module,
    images: Images,
    settings: ExitSettings | None = None,
    seed: int = 0,
    name: str | None = None,
) -> LayerGraph:
    """Train a network's exits jointly and measure them; see :class:`ExitTraining`.

    Args:
        module: The network, which returns a tuple of logits; it is trained in place.
        images: The images that it learns from and is tested on.
        settings: How it is trained.
        seed: Seed of the training.
        name: Name of the network; by default its class.

    Returns:
        The network's profile with measured accuracies.

    Raises:
        ValueError: See :class:`ExitTraining`.
    """
    training = ExitTraining(module, images, settings, seed)
    while not training.done:
        training.step()
    return training.graph(name)
