"""What a pipeline that never waits does to learning: a real perceptron learns real images.

A pipeline without flushes has several minibatches under way. Between the forward and the backward
pass of one of them through a stage, others change the weights there. Four ways are compared:

* ``flush``: weights change only when the pipeline is empty [Huang2019], so nothing is stale;
* ``stash``: the backward pass takes the weights of the forward pass [Harlap2018];
* ``no-stash``: the backward pass takes the weights as they are by then, so that what comes out
  is no gradient;
* ``predicted``: both passes take the weights that are expected for the moment when the minibatch
  will be done, SpecTrain [ChenYangCheng2018].

Updates are counted here, not seconds: a flush costs time, staleness costs updates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mec_gym.core.checks import one_of, positive, positive_int
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.learning.images import Split, digits
from mec_gym.learning.perceptron import Perceptron, cross_entropy

Variant = Literal["flush", "stash", "no-stash", "predicted"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
FIVE_LAYERS = Perceptron((64, 32, 32, 32, 32, 10))
TARGET = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How the perceptron learns, in a pipeline of stages.

    Attributes:
        net: The perceptron.
        stages: Number of stages, from 1 to the number of layers.
        rate: The learning rate.
        momentum: The share of the smoothed gradient that stays at an update, in [0, 1).
        batch: Number of images in a minibatch.

    Raises:
        ValueError: A value is out of range.
    """

    net: Perceptron = FIVE_LAYERS
    stages: int = 5
    rate: float = 0.1
    momentum: float = 0.0
    batch: int = 32

    def __post_init__(self) -> None:
        layers = len(self.net.layers)
        positive_int("stages", self.stages)
        if self.stages > layers:
            raise ValueError(
                f"stages must be at most {layers}, the number of layers, got {self.stages!r}"
            )
        positive("rate", self.rate)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum!r}")
        positive_int("batch", self.batch)

    @property
    def parts(self) -> list[slice]:
        """Where the weights of each stage lie; stages have layers as equal in number as can be."""
        layers = np.array_split(np.arange(len(self.net.layers)), self.stages)
        ends = [self.net.layers[numbers[-1]].stop for numbers in layers]
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def learn(
    variant: Variant,
    setting: Setting,
    weights: FloatArray,
    minibatches: Iterable[tuple[FloatArray, IntArray]],
) -> Iterator[FloatArray]:
    """Yield the weights after each update, (..., P).

    Stage s of S, counted from 0, takes S - s minibatches forth and then always one back and one
    forth (1F1B). At the forward pass of minibatch m, its weights have seen S - 1 - s updates fewer
    than the m updates that they have seen at the backward pass (m counts from 0, and of the first
    minibatches there are fewer). With stash this is [Harlap2018] section 3.4: the gradient at
    w_1^(t-n+1), ..., w_n^(t), n = S.

    Weights change by the smoothed gradient: v <- momentum v + (1 - momentum) g, w <- w - rate v;
    without momentum this is plain gradient descent. Prediction takes v to stay as it is, so that
    s more updates lead to w - rate s v [ChenYangCheng2018]. It aims at when the minibatch
    leaves the pipeline, at stage 0. From the backward pass at stage s until then, floor(s / 2)
    more updates happen, as every other operation of a stage is one: so the forward pass looks
    S - 1 - s + floor(s / 2) updates ahead, and the backward pass floor(s / 2). As far as the
    prediction holds, a minibatch meets weights of one version everywhere (vertical sync).

    Args:
        variant: How the pipeline copes with weights that change.
        setting: The perceptron, the pipeline and how it learns.
        weights: The weights to begin with, (..., P).
        minibatches: Images (..., B, pixels) and labels (..., B) of one update after the other.
    """
    one_of("variant", variant, VARIANTS)
    history = deque([(weights, np.zeros_like(weights))], maxlen=setting.stages)
    for images, labels in minibatches:
        weights, smooth = history[-1]
        forth, back = weights.copy(), weights.copy()
        for s, part in enumerate(setting.parts):
            age = 0 if variant == "flush" else min(setting.stages - 1 - s, len(history) - 1)
            old_weights, old_smooth = history[-1 - age]
            forth[..., part] = old_weights[..., part]
            if variant == "stash":
                back[..., part] = forth[..., part]
            elif variant == "predicted":
                later = s // 2
                forth[..., part] -= setting.rate * (age + later) * old_smooth[..., part]
                back[..., part] -= setting.rate * later * smooth[..., part]
        values = setting.net.forward(forth, images)
        _, slopes = cross_entropy(values[-1], labels)
        gradient = setting.net.backward(back, values, slopes)
        smooth = setting.momentum * smooth + (1 - setting.momentum) * gradient
        history.append((weights - setting.rate * smooth, smooth))
        yield history[-1][0]


def accuracies(
    variant: Variant,
    setting: Setting | None = None,
    *,
    seeds: int = 5,
    updates: int = 1000,
    data: Split | None = None,
) -> FloatArray:
    """Return the validation accuracy after each update, (seeds, updates).

    Initial weights and minibatches depend on the seed only, so that variants can be compared
    seed by seed. The accuracy of a run that has diverged is 0.

    Args:
        variant: How the pipeline copes with weights that change.
        setting: The perceptron, the pipeline and how it learns.
        seeds: Number of runs; their seeds are 0, 1, ...
        updates: Number of updates.
        data: The images; by default the digits.
    """
    positive_int("seeds", seeds)
    positive_int("updates", updates)
    setting = setting or Setting()
    known, unseen, _ = data or digits()
    generators = [np.random.default_rng(seed) for seed in range(seeds)]
    initial = np.stack([setting.net.initial(rng) for rng in generators])

    def minibatches() -> Iterator[tuple[FloatArray, IntArray]]:
        for _ in range(updates):
            drawn = [rng.integers(len(known.labels), size=setting.batch) for rng in generators]
            yield known.images[drawn], known.labels[drawn]

    curve = []
    # A rate that is too large for so much staleness is a result, no error.
    with np.errstate(over="ignore", invalid="ignore"):
        for weights in learn(variant, setting, initial, minibatches()):
            share = setting.net.accuracy(weights, *unseen)
            curve.append(np.where(np.isfinite(weights).all(axis=-1), share, 0.0))
    return np.stack(curve, axis=-1)


def updates_until(accuracy: FloatArray, target: float = TARGET) -> FloatArray:
    """Return the number of updates until the target is reached first, (...); infinite if never.

    Args:
        accuracy: The accuracy after each update, (..., updates).
        target: The accuracy that must be reached.
    """
    reached = accuracy >= target
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1) + 1.0, np.inf)
