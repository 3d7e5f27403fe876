"""Stale weights: by hand, against stages that pass each other messages, and on real images."""

from collections import deque
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from mec_gym.learning.perceptron import Perceptron
from train.reproduce.pipeline_training import staleness
from train.reproduce.pipeline_training.staleness import (
    FIVE_LAYERS,
    VARIANTS,
    Setting,
    accuracies,
    learn,
    updates_until,
)

NET = Perceptron((6, 5, 4, 7, 3, 4))


def minibatches(net, count, size=8, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((size, net.sizes[0])), rng.integers(net.sizes[-1], size=size))
        for _ in range(count)
    ]


def start(net):
    return np.random.default_rng(1).normal(scale=0.7, size=net.parameters)


def final(variant, setting, given=None):
    *_, last = learn(variant, setting, start(setting.net), given or minibatches(setting.net, 12))
    return last


def test_stages_have_equal_numbers_of_layers():
    ends = [0, *(layer.stop for layer in NET.layers)]

    def layers(stages):
        parts = Setting(net=NET, stages=stages).parts
        assert parts[0].start == 0 and all(a.stop == b.start for a, b in pairwise(parts))
        return [(ends.index(part.start), ends.index(part.stop)) for part in parts]

    assert layers(1) == [(0, 5)]
    assert layers(2) == [(0, 3), (3, 5)]
    assert layers(3) == [(0, 2), (2, 4), (4, 5)]
    assert layers(5) == [(n, n + 1) for n in range(5)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stages", 0),
        ("stages", 6),
        ("stages", 1.5),
        ("rate", 0.0),
        ("rate", float("nan")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("batch", 0),
    ],
)
def test_bad_settings(name, value):
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        Setting(**{name: value})


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"variant.*'stale'"):
        accuracies("stale")
    for name in ("seeds", "updates"):
        with pytest.raises(ValueError, match=f"{name}.*0"):
            accuracies("flush", **{name: 0})


@pytest.fixture
def half_squares(monkeypatch):
    """Half the square of the error in place of cross-entropy: numbers that a hand can compute."""
    monkeypatch.setattr(staleness, "cross_entropy", lambda out, label: (None, out - label))


@pytest.mark.parametrize(
    ("variant", "second"),
    [
        # h = 0.6, 0.72, out = 1.916, slopes 0.916, 2.5648, 4.36016
        ("flush", [13.08048, 4.36016, 1.53888, 2.5648, 0.65952, 0.916]),
        # h = 3, 6 by the old weights, out = 2.8 * 6 - 0.1 = 16.7, slopes 15.7, 43.96, 43.96 * 2
        ("stash", [263.76, 87.92, 131.88, 43.96, 94.2, 15.7]),
        # the last slope is passed down by the new weight, 43.96 * 1.7
        ("no-stash", [224.196, 74.732, 131.88, 43.96, 94.2, 15.7]),
        # the forward pass is before the first update: there is nothing to predict from
        ("predicted", [224.196, 74.732, 131.88, 43.96, 94.2, 15.7]),
    ],
)
def test_two_updates_by_hand(half_squares, variant, second):
    """Three layers of one neuron; the first two are stage 0."""
    setting = Setting(net=Perceptron((1, 1, 1, 1)), stages=2, rate=0.1)
    weights = np.array([1.0, 0, 2, 0, 3, 0])
    given = [(np.array([[1.0]]), np.array([[5.0]])), (np.array([[3.0]]), np.array([[1.0]]))]
    after = list(learn(variant, setting, weights, given))
    # h = 1, 2, out = 6, slopes 1, 3, 6
    np.testing.assert_allclose(after[0], [0.4, -0.6, 1.7, -0.3, 2.8, -0.1], rtol=1e-14)
    np.testing.assert_allclose(after[1], after[0] - 0.1 * np.array(second), rtol=1e-13)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_one_stage_is_never_stale(momentum):
    setting = Setting(net=NET, stages=1, momentum=momentum)
    expected = final("flush", setting)
    for variant in VARIANTS:
        np.testing.assert_array_equal(final(variant, setting), expected)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_variants_differ_as_soon_as_they_can(momentum):
    def distinct(stages):
        setting = Setting(net=Perceptron(NET.sizes[: stages + 1]), stages=stages, momentum=momentum)
        return len({final(variant, setting).tobytes() for variant in VARIANTS})

    # With two stages of one layer each, no slope is passed down by a stale weight.
    assert distinct(2) == 3 and distinct(3) == distinct(5) == 4


class Stage:
    """One device: it knows its own layers and what its neighbours send it, and no version."""

    def __init__(self, number, count, layers, variant, setting):
        self.number, self.layers, self.variant, self.setting = number, layers, variant, setting
        self.smooth = [np.zeros_like(a) for a in layers]
        self.warm_up, self.first, self.last = count - number, number == 0, number == count - 1
        self.later = number // 2
        self.ahead = self.later + count - 1 - number
        self.forwards, self.backwards, self.kept = 0, 0, {}

    def wants_forward(self):
        return self.forwards < self.warm_up or self.forwards - self.backwards < self.warm_up

    def predicted(self, steps):
        pairs = zip(self.layers, self.smooth, strict=True)
        return [a - self.setting.rate * steps * v for a, v in pairs]

    def forward(self, value):
        predicts = self.variant == "predicted"
        # The first minibatches meet the untouched weights; there is nothing to predict from.
        layers = self.predicted(self.ahead) if predicts else [a.copy() for a in self.layers]
        inputs = []
        for index in range(0, len(layers), 2):
            if not (self.first and index == 0):
                value = np.where(value > 0, value, 0)
            inputs.append(value)
            value = value @ layers[index] + layers[index + 1]
        self.kept[self.forwards] = layers, inputs
        self.forwards += 1
        return value

    def backward(self, slopes):
        stashed, inputs = self.kept.pop(self.backwards)
        layers = {
            "stash": stashed,
            "no-stash": self.layers,
            "predicted": self.predicted(self.later),
        }
        layers, gradients = layers[self.variant], [None] * len(self.layers)
        for index in reversed(range(0, len(layers), 2)):
            below = inputs[index // 2]
            gradients[index] = np.einsum("bi,bo->io", below, slopes)
            gradients[index + 1] = np.einsum("bo->o", slopes)
            slopes = np.einsum("bo,io->bi", slopes, layers[index])
            if not (self.first and index == 0):
                slopes = np.where(below > 0, slopes, 0)
        momentum = self.setting.momentum
        for index, g in enumerate(gradients):
            self.smooth[index] = momentum * self.smooth[index] + (1 - momentum) * g
            self.layers[index] = self.layers[index] - self.setting.rate * self.smooth[index]
        self.backwards += 1
        return slopes


def messages(variant, setting, weights, given, order):
    """Stages that pass each other messages, each one forth and one back in turn, until all is done.

    Args:
        order: In which order the stages are asked whether they can go on; it must not matter.
    """
    net, count = setting.net, setting.stages
    arrays = [a.copy() for pair in net.matrices(weights) for a in pair]
    cuts = np.array_split(np.arange(len(net.layers)), count)
    stages = [
        Stage(s, count, arrays[2 * cut[0] : 2 * cut[-1] + 2], variant, setting)
        for s, cut in enumerate(cuts)
    ]
    down = [deque() for _ in range(count)]
    up = [deque() for _ in range(count)]
    down[0].extend(images for images, _ in given)
    while any(stage.backwards < len(given) for stage in stages):
        for s in order:
            stage = stages[s]
            # A stage keeps to its order and waits, unless no minibatch is left to take forth.
            if stage.forwards < len(given) and stage.wants_forward():
                if not down[s]:
                    continue
                value = stage.forward(down[s].popleft())
                if not stage.last:
                    down[s + 1].append(value)
                    continue
                labels = given[stage.forwards - 1][1]
                share = np.exp(value) / np.exp(value).sum(axis=1, keepdims=True)
                up[s].append((share - np.eye(net.sizes[-1])[labels]) / len(labels))
            elif up[s]:
                slopes = stage.backward(up[s].popleft())
                if s:
                    up[s - 1].append(slopes)
    return np.concatenate([a.ravel() for stage in stages for a in stage.layers])


@pytest.mark.parametrize("variant", ["stash", "no-stash", "predicted"])
@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_equals_stages_that_pass_messages(variant, stages, momentum):
    setting = Setting(net=NET, stages=stages, momentum=momentum, rate=0.05)
    given = minibatches(NET, 15)
    orders = range(stages), range(stages)[::-1]
    expected = [messages(variant, setting, start(NET), given, order) for order in orders]
    np.testing.assert_array_equal(*expected)
    np.testing.assert_allclose(final(variant, setting, given), expected[0], rtol=1e-9)


class Steady(Perceptron):
    """Its gradient is always the same, and it remembers by which weights it was asked."""

    asked = []  # noqa: RUF012

    def forward(self, weights, images):
        self.asked.append([weights.copy()])
        return super().forward(weights, images)

    def backward(self, weights, values, slopes):
        self.asked[-1].append(weights.copy())
        return np.arange(1.0, self.parameters + 1)


def test_predictions_come_true_where_the_gradient_stays():
    net = Steady(NET.sizes)
    setting = Setting(net=net, stages=5, rate=0.01)
    weights = NET.initial(np.random.default_rng(2))
    versions = [weights, *learn("predicted", setting, weights, minibatches(NET, 20))]
    for number in range(5, 16):
        for s, part in enumerate(setting.parts):
            # When minibatch m leaves stage 0, stage s has seen it and floor(s / 2) later ones.
            expected = versions[number + s // 2][part]
            for asked in net.asked[number]:
                np.testing.assert_allclose(asked[part], expected, rtol=1e-9)


def test_flush_is_gradient_descent_as_torch_has_it():
    """A stack of two models, 100 steps."""
    net = Perceptron((64, 32, 10))
    weights = np.stack([net.initial(np.random.default_rng(seed)) for seed in (1, 2)])
    given = [minibatches(net, 100, seed=seed) for seed in (3, 4)]
    both = [
        tuple(np.stack(pair) for pair in zip(*pairs, strict=True))
        for pairs in zip(*given, strict=True)
    ]
    *_, ours = learn("flush", Setting(net=net, stages=2), weights, both)
    for number in range(2):
        layers = [
            torch.tensor(a, requires_grad=True) for p in net.matrices(weights[number]) for a in p
        ]
        optimiser = torch.optim.SGD(layers, lr=0.1)
        for images, labels in given[number]:
            hidden = torch.relu(torch.tensor(images) @ layers[0] + layers[1])
            loss = functional.cross_entropy(hidden @ layers[2] + layers[3], torch.tensor(labels))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        theirs = np.concatenate([a.detach().numpy().ravel() for a in layers])
        np.testing.assert_allclose(ours[number], theirs, rtol=0, atol=1e-11)


def test_seeds_do_not_depend_on_each_other():
    setting = Setting(net=Perceptron((64, 16, 8, 10)), stages=3, batch=8)
    both = accuracies("stash", setting, seeds=2, updates=30)
    assert both.shape == (2, 30) and not np.array_equal(*both)
    np.testing.assert_array_equal(accuracies("stash", setting, seeds=1, updates=30)[0], both[0])


def test_a_small_network_learns():
    setting = Setting(net=Perceptron((64, 32, 10)), stages=2, rate=0.3)
    for variant in VARIANTS:
        accuracy = accuracies(variant, setting, seeds=2, updates=150)
        assert (accuracy[:, 0] < 0.5).all() and (updates_until(accuracy) < 150).all()
        assert (accuracy[:, -10:] > 0.88).all()


def test_a_run_that_diverges_is_told_as_such():
    accuracy = accuracies("predicted", Setting(rate=0.5), seeds=3, updates=60)
    # Either weights are no longer finite, or all neurons have died, and one class is all that is
    # answered. Which of them comes first is a matter of rounding.
    assert (accuracy[:, 0] > 0).all()
    assert 0.0 in accuracy[:, -1] and set(accuracy[:, -1]) <= {0.0, 0.1}


def test_updates_until():
    accuracy = np.array([[0.1, 0.9, 0.8, 0.95], [0.1, 0.2, 0.3, 0.4], [0.9, 0.1, 0.1, 0.1]])
    assert updates_until(accuracy).tolist() == [2, np.inf, 1]
    assert updates_until(accuracy, 0.95).tolist() == [4, np.inf, np.inf]


@pytest.mark.slow
def test_what_staleness_costs():
    """Medians of five seeds: 110, 295, 320 updates; with momentum 122, 537 and, predicted, 269."""
    assert Setting() == Setting(net=FIVE_LAYERS, stages=5, rate=0.1, momentum=0.0, batch=32)

    def median(variant, momentum):
        runs = updates_until(accuracies(variant, Setting(momentum=momentum), updates=800))
        return np.median(runs)

    flush, stash, no_stash = (median(v, 0.0) for v in ("flush", "stash", "no-stash"))
    assert 90 <= flush <= 130 and 250 <= stash <= 340 and 270 <= no_stash <= 370
    flush, stash, predicted = (median(v, 0.9) for v in ("flush", "stash", "predicted"))
    assert 1.5 * flush < predicted < stash / 1.5
