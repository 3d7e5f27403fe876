"""Exits: the joint loss, learning for real, the same again from a seed, shipped accuracies."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from multi_exit import TwoExits
from slow import slow_except
from torch import nn

from mec_gym.dnn.exits import ExitSettings, ExitTraining, initialised, joint_loss, train_exits
from mec_gym.dnn.images import Images, digits
from mec_gym.dnn.zoo import NETWORKS, build, load_profile

FAST = ExitSettings(epochs=6, batch_size=32, learning_rate=1e-2)
MARGIN = 0.01
"""No earlier exit of a shipped profile is better than the deepest by more: 3 of 360 images."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images():
    return digits()


@pytest.fixture(scope="module")
def few(images):
    """A batch or two, so that an epoch takes no time."""
    return dataclasses.replace(
        images, train=images.train[:100], train_labels=images.train_labels[:100]
    )


def weights(training):
    return torch.cat([p.detach().ravel() for p in training.module.state_dict().values()]).numpy()


def started(images, settings=FAST, seed=0):
    return ExitTraining(initialised(TwoExits, seed), images, settings, seed)


def run(training, steps=None):
    while not training.done if steps is None else training.steps < steps:
        training.step()
    return training


def test_joint_loss_by_hand():
    # Cross-entropies: of even logits ln 2; of a lead of ln 3, ln(4/3) if right and ln 4 if wrong.
    even = torch.zeros(2, 2)
    sure = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    labels = torch.tensor([0, 1])
    early, late = math.log(2), (math.log(4 / 3) + math.log(4)) / 2
    loss = joint_loss([even, sure], labels, [1.0, 4.0])
    assert loss.item() == pytest.approx((early + 4 * late) / 5, rel=1e-6)
    assert joint_loss([sure, even], labels, [1.0, 4.0]).item() == pytest.approx(
        (late + 4 * early) / 5, rel=1e-6
    )
    # Weights count against each other, not by their size.
    assert joint_loss([even, sure], labels, [10.0, 40.0]).item() == pytest.approx(loss.item())
    with pytest.raises(ValueError):
        joint_loss([even, sure], labels, [1.0])


def test_every_exit_teaches_what_it_reads(few):
    """The gradient of the joint loss is the weighted mean of the exits' own gradients."""
    module = initialised(TwoExits, 3).eval()
    x = torch.from_numpy(few.train[:8]).float() / 255
    y = torch.from_numpy(few.train_labels[:8])

    def gradient(given):
        module.zero_grad()
        joint_loss(module(x), y, given).backward()
        return [None if p.grad is None else p.grad.clone() for p in module.first.parameters()]

    both, early, late = gradient([1.0, 3.0]), gradient([1.0, 1e-30]), gradient([1e-30, 1.0])
    for joint, one, other in zip(both, early, late, strict=True):
        assert one.abs().max() > 1e-6 and other.abs().max() > 1e-6
        torch.testing.assert_close(joint, (one + 3 * other) / 4, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_learns_the_digits(images):
    before = started(images).accuracies()
    training = run(started(images))
    early, late = training.accuracies("test")
    assert max(before) < 0.4
    assert early > 0.7 and late > 0.95
    first, last = training.history[0], training.history[-1]
    assert last["loss"] < first["loss"] / 2
    assert [row["epoch"] for row in training.history] == [1, 2, 3, 4, 5, 6]
    assert (last["test_accuracy/exit1"], last["test_accuracy/exit2"]) == (early, late)
    assert last["loss"] == pytest.approx((last["loss/exit1"] + last["loss/exit2"]) / 2, rel=1e-5)
    # Some images are left for another epoch.
    assert training.steps == 6 * (1437 // 32)


def test_an_accuracy_is_a_count_of_images(images):
    """Against the plain definition, image by image."""
    training = run(started(images), 40)
    mean = images.train.mean((0, 2, 3)) / 255
    spread = (images.train / 255).std((0, 2, 3))
    x = (images.test / 255 - mean[:, None, None]) / spread[:, None, None]
    right = np.zeros(2)
    training.module.eval()
    with torch.no_grad():
        for image, label in zip(torch.tensor(x).float(), images.test_labels, strict=True):
            right += [int(one.argmax() == label) for one in training.module(image[None])]
    np.testing.assert_allclose(training.accuracies("test"), right / 360, atol=1 / 360)
    assert 0.3 < right[1] / 360 < 1


def test_same_seed_same_weights(few):
    settings = dataclasses.replace(FAST, epochs=2)
    first = weights(run(started(few, settings)))
    torch.manual_seed(99)
    rand = torch.rand(3)
    torch.manual_seed(99)
    np.testing.assert_array_equal(weights(run(started(few, settings))), first)
    # Its random numbers are its own.
    torch.testing.assert_close(torch.rand(3), rand, rtol=0, atol=0)
    assert not np.array_equal(weights(run(started(few, settings, seed=1))), first)


@pytest.mark.parametrize("stop", slow_except([1, 3, 4, 5], 4))
def test_restored_equals_uninterrupted(few, stop, tmp_path):
    """Three steps an epoch: stopped in one, at its end, and at the beginning of the next."""
    settings = dataclasses.replace(FAST, epochs=3)
    whole = run(started(few, settings))
    torch.save(run(started(few, settings), stop).state(), tmp_path / "state.pt")
    torch.manual_seed(stop)
    second = started(few, settings)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.steps == stop
    run(second)
    np.testing.assert_array_equal(weights(second), weights(whole))
    assert second.history == whole.history


def test_learning_rate_rises_and_falls(few):
    training = started(few, dataclasses.replace(FAST, epochs=10))
    rates = []
    while not training.done:
        training.step()
        rates.append(training._optimiser.param_groups[0]["lr"])
    assert rates[:3] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2])
    assert rates[3] == pytest.approx(1e-2) and rates[-1] < 1e-4
    # 27 steps down: a third of the way the cosine is 1/2, two thirds -1/2.
    assert rates[3 + 9] == pytest.approx(1e-2 * 3 / 4) and rates[3 + 18] == pytest.approx(1e-2 / 4)


def test_it_learns_in_training_mode_and_measures_in_evaluation_mode(few):
    training = started(few)
    training.step()
    assert training.module.training
    assert training.module.first[1].num_batches_tracked == 1
    before = weights(training)
    assert training.accuracies() == training.accuracies()
    assert not training.module.training
    np.testing.assert_array_equal(weights(training), before)


def test_every_epoch_has_its_own_order(few):
    training = run(started(few), 1)
    first = training._order
    second = run(training, 4)._order
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(100))
    assert first.tolist() != second.tolist()


def test_weight_decay_shrinks_weights(few):
    def size(decay):
        return np.abs(weights(run(started(few, dataclasses.replace(FAST, weight_decay=decay)))))

    assert size(10.0).mean() < 0.8 * size(0.0).mean()


def test_shifts_and_mirrors():
    pixels = np.arange(1, 1 + 2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    labels = np.zeros(2, dtype=np.int64)
    moving = Images(
        name="n", about="a", classes=10, shift=2, flip=True,
        train=pixels, train_labels=labels, test=pixels, test_labels=labels,
    )  # fmt: skip
    module = nn.Sequential(nn.Flatten(), nn.Linear(60, 10))
    training = ExitTraining(module, moving, dataclasses.replace(FAST, batch_size=1))
    found = set()
    for _ in range(400):
        for before, after in zip(pixels, training._moved(torch.from_numpy(pixels)), strict=True):
            for flipped in (False, True):
                image = after.numpy()[:, :, ::-1] if flipped else after.numpy()
                for down in range(-2, 3):
                    for right in range(-2, 3):
                        expected = np.zeros_like(before)
                        height, width = 4 - abs(down), 5 - abs(right)
                        y, x, v, u = max(down, 0), max(right, 0), max(-down, 0), max(-right, 0)
                        expected[:, y : y + height, x : x + width] = before[
                            :, v : v + height, u : u + width
                        ]
                        if np.array_equal(image, expected):
                            found.add((flipped, down, right))
    # Every one of the fifty moves, and each image was one of them.
    assert len(found) == 50


def test_bad_input(few):
    module = TwoExits()
    for settings, message in (
        ({"loss_weights": (1.0, 2.0, 3.0)}, r"loss_weights .*\(1\.0, 2\.0, 3\.0\)"),
        ({"batch_size": 101}, r"batch_size .*got 101"),
    ):
        with pytest.raises(ValueError, match=message):
            ExitTraining(module, few, dataclasses.replace(FAST, **settings))
    for settings, message in (
        ({"epochs": 0}, r"epochs .*got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"learning_rate": -1.0}, r"learning_rate .*got -1.0"),
        ({"weight_decay": -0.1}, r"weight_decay .*got -0.1"),
        ({"loss_weights": (1.0, 0.0)}, r"loss_weights\[1\] .*got 0.0"),
        ({"loss_weights": ()}, "loss_weights must hold numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            ExitSettings(**settings)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        ExitTraining(module, few, FAST, seed=-1)
    seven = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7))
    with pytest.raises(ValueError, match=r"logits \(n, 10\) .* gave \[\(2, 7\)\]"):
        ExitTraining(seven, few, FAST)


def changed(forward):
    """TwoExits with another forward."""
    return type("Changed", (TwoExits,), {"forward": forward})()


def deepest_first(self, x):
    x = self.first(x)
    return self.late(self.second(x)), self.early(x)


def one_in_training(self, x):
    x = self.first(x)
    early, late = self.early(x), self.late(self.second(x))
    return late if self.training else (early, late)


def none_in_evaluation(self, x):
    x = self.first(x)
    return [self.early(x), self.late(self.second(x))][: 2 if self.training else 1]


def by_content(self, x):
    x = self.first(x)
    return (self.early(x),) if x.max() > 1e9 else (self.early(x), self.late(self.second(x)))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (deepest_first, r"earliest to the deepest.*\[1, 0\]"),
        (one_in_training, r"same exits .*\[\(2, 10\)\] and \[\(2, 10\), \(2, 10\)\]"),
        (none_in_evaluation, r"same exits .*\[\(2, 10\), \(2, 10\)\] and \[\(2, 10\)\]"),
        (by_content, r"Changed cannot be traced.*content"),
    ],
)
def test_what_would_fail_in_the_end_is_refused_before_training(few, forward, message):
    module = changed(forward)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        ExitTraining(module, few, FAST)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_loss_that_is_lost_is_told(few):
    training = started(few, dataclasses.replace(FAST, learning_rate=1e18))
    with pytest.raises(ValueError, match=r"learning_rate must be smaller than 1e\+18: the loss is"):
        run(training)


def test_a_profile_with_measured_accuracies(few):
    module = initialised(TwoExits, 0)
    settings = dataclasses.replace(FAST, epochs=1, loss_weights=(1.0, 2.0))
    graph = train_exits(module, few, settings, seed=4, name="two")
    training = ExitTraining(module, few, settings, seed=4)
    assert graph.name == "two"
    assert tuple(graph.accuracies) == training.accuracies("test")
    # 8 x 8 outputs of 3 x 25 weights each in 8 channels; two a multiply-accumulate.
    assert graph.flops.max() == 2 * 64 * 8 * 75 + 0
    told = graph.provenance["training"]
    assert told["train_accuracy"] == list(training.accuracies("train"))
    assert (told["train_images"], told["test_images"], told["seed"]) == (100, 360, 4)
    assert (told["epochs"], told["loss_weights"]) == (1, [1.0, 2.0])
    assert told["versions"]["torch"] == torch.__version__.split("+")[0] or told["versions"]["torch"]


def test_one_exit_is_enough(few):
    module = initialised(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)), 0)
    training = run(ExitTraining(module, few, dataclasses.replace(FAST, learning_rate=1e-3)))
    assert training.exits == 1 and training.accuracies("train")[0] > 0.8


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_accuracies(name, images):
    graph = load_profile(f"{name}-digits")
    *early, deepest = graph.accuracies
    assert deepest > 0.97
    assert all(accuracy <= deepest + MARGIN for accuracy in early)
    # An exit costs less than those behind it.
    costs = [graph.at_exit(n).flops.sum() for n in range(len(graph.exits))]
    assert costs == sorted(costs)
    told = graph.provenance["training"]
    assert told["data_set"] == "digits" and "80 : 20" in told["data"]
    assert (told["train_images"], told["test_images"]) == (1437, 360)
    # A share of 360 images.
    np.testing.assert_allclose(graph.accuracies * 360, np.rint(graph.accuracies * 360), atol=1e-9)
    assert told["epochs"] >= 1 and told["optimiser"].startswith("AdamW")
    assert set(told["versions"]) == {"python", "torch", "numpy", "scikit-learn"}
    command = graph.provenance["command"]
    assert command.startswith(f"mec-gym exits --network {name} --epochs {told['epochs']} ")
    assert f"--seed {told['seed']} --threads {told['threads']}" in command
    assert len(graph.exits) == len(told["loss_weights"]) == len(told["train_accuracy"])


@pytest.mark.parametrize("name", slow_except(NETWORKS, "alexnet"))
def test_shipped_profiles_are_of_the_networks_of_the_zoo(name):
    """Rebuilt and profiled now, each layer is as it was shipped."""
    from mec_gym.dnn.profile import profile

    shipped = load_profile(f"{name}-digits")
    module = initialised(lambda: build(name, 10, 32, 3, True), 0).eval()
    now = profile(module, torch.zeros(1, 3, 32, 32), name=shipped.name)
    assert now.layers == shipped.layers and now.links == shipped.links
    assert [e.layer for e in now.exits] == [e.layer for e in shipped.exits]


@pytest.mark.slow  # test_learns_the_digits shows nearly the same in a fraction of the time
def test_a_network_of_the_zoo_learns(images):
    """AlexNet, the cheapest to train, on some of the images."""
    few = dataclasses.replace(
        images,
        train=images.train[:320],
        train_labels=images.train_labels[:320],
        test=images.test[:100],
        test_labels=images.test_labels[:100],
    )
    module = initialised(lambda: build("alexnet", 10, 32, 3, True), 0)
    training = ExitTraining(module, few, ExitSettings(epochs=3, batch_size=16))
    assert max(training.accuracies()) < 0.3
    run(training)
    early, middle, _ = training.accuracies()
    assert early > 0.5 and middle > 0.8
    losses = [row["loss/exit3"] for row in training.history]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 1.8
