"""Local training: against torch's SGD, and a stack against its models, bit for bit."""

import itertools

import numpy as np
import pytest
import torch
from slow import slow_except
from torch.nn import functional

from mec_gym.learning import sgd
from mec_gym.learning.images import Labelled
from mec_gym.learning.perceptron import Perceptron
from mec_gym.learning.sgd import train

NET = Perceptron((9, 7, 4))
DEEP = Perceptron((9, 5, 6, 4))
RATE = 0.3


def world(net, models, steps, batch, seed=0, dtype=np.float32):
    """Images of which a class is a direction, weights, and which images are drawn."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=60)
    images = np.clip(rng.normal(0.4, 0.3, (60, 9)) + 0.5 * np.eye(4, 9)[labels], 0, 1)
    start = rng.normal(scale=0.4, size=(models, net.parameters))
    index = rng.integers(60, size=(models, steps, batch))
    return Labelled(images.astype(dtype), labels), start.astype(dtype), index


def options(net, models, seed=3, dtype=np.float32):
    """Every option at once; none is symmetric in the models."""
    rng = np.random.default_rng(seed)
    return {
        "pull": 0.2,
        "correction": rng.normal(scale=0.1, size=(models, net.parameters)).astype(dtype),
        "gain": rng.lognormal(0, 0.5, models).astype(dtype),
        "class_weights": rng.lognormal(0, 0.6, (models, 4)).astype(dtype),
    }


def taught(models, steps, batch, rows=6, seed=4, dtype=np.float32):
    """What models are taught; a third of the rows teach nothing, and a third of the images."""
    rng = np.random.default_rng(seed)
    soft = rng.dirichlet(np.ones(4), size=(models, rows))
    soft[:, ::3] = 0
    row = rng.integers(-rows // 2, rows, size=(models, steps, batch))
    return {"soft": soft.astype(dtype), "soft_row": np.maximum(row, -1)}


def by_torch(
    net, start, data, index, steps, *, pull=0.0, correction=None, gain=None, weights=None,
    soft=None, soft_row=None,
):  # fmt: skip
    """Train one model with torch.optim.SGD, in double precision; its weights and its losses."""
    parameters, sizes = [], []
    for matrix, biases in net.matrices(start.astype(np.float64)):
        for array in (matrix, biases):
            parameters.append(torch.tensor(array.copy(), requires_grad=True))
            sizes.append(array.size)
    first = [p.detach().clone() for p in parameters]
    added = None
    if correction is not None:
        parts = np.split(correction.astype(np.float64), np.cumsum(sizes)[:-1])
        added = [torch.tensor(a).reshape(p.shape) for a, p in zip(parts, parameters, strict=True)]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    losses = []
    for number, chosen in enumerate(index[:steps]):
        values = torch.tensor(data.images[chosen].astype(np.float64))
        if gain is not None:
            values = torch.clamp(values * float(gain), max=1.0)
        labels = torch.tensor(data.labels[chosen])
        for k in range(0, len(parameters), 2):
            if k:
                values = torch.relu(values)
            values = values @ parameters[k] + parameters[k + 1]
        each = functional.cross_entropy(values, labels, reduction="none")
        losses.append(each.detach().numpy())
        loss = each.mean()
        if weights is not None:
            loss = functional.cross_entropy(
                values, labels, weight=torch.tensor(weights.astype(np.float64))
            )
        if soft is not None:
            share = np.ones(len(chosen)) if weights is None else weights[data.labels[chosen]]
            for logits, row, part in zip(values, soft_row[number], share, strict=True):
                if row >= 0 and soft[row].any():
                    wanted = torch.tensor(soft[row].astype(np.float64))
                    part = float(part) / float(share.sum())
                    loss = loss + part * functional.cross_entropy(logits, wanted)
        pairs = list(zip(parameters, first, strict=True))
        loss = loss + pull / 2 * sum(((p - f) ** 2).sum() for p, f in pairs)
        if added is not None:  # a linear term has a constant gradient
            loss = loss + sum((p * a).sum() for p, a in zip(parameters, added, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    flat = np.concatenate([p.detach().numpy().ravel() for p in parameters])
    return flat, np.concatenate(losses)


CASES = {
    "plain": (),
    "FedProx": ("pull",),
    "SCAFFOLD": ("correction",),
    "gain": ("gain",),
    "class weights": ("class_weights",),
    "soft targets": ("soft", "soft_row"),
    "all": ("pull", "correction", "gain", "class_weights", "soft", "soft_row"),
}


@pytest.mark.parametrize(
    ("case", "net"),
    slow_except(itertools.product(CASES, (NET, DEEP)), ("all", NET), ("soft targets", NET)),
)
def test_equals_torch_over_100_steps(case, net):
    names = CASES[case]
    data, start, index = world(net, 4, 100, 3)
    steps = np.array([37, 100, 1, 64])
    every = {**options(net, 4), **taught(4, 100, 3)}
    chosen = {name: every[name] for name in names}
    trained, loss = train(net, start, data, index, rate=RATE, steps=steps, **chosen)
    assert trained.dtype == np.float32
    plain, _ = train(net, start, data, index, rate=RATE, steps=steps)
    assert bool(names) == (not np.allclose(trained, plain, atol=1e-3))
    for j in range(4):
        mine = {n: v if n == "pull" else v[j] for n, v in chosen.items()}
        mine["weights"] = mine.pop("class_weights", None)
        expected, losses = by_torch(net, start[j], data, index[j], steps[j], **mine)
        np.testing.assert_allclose(trained[j], expected, rtol=0, atol=1e-5)
        assert loss[j] == pytest.approx(np.sqrt(np.mean(losses**2)), rel=1e-5)
        assert np.abs(expected - start[j]).max() > 0.01


def test_double_precision_stays_so():
    data, start, index = world(NET, 2, 100, 5, dtype=np.float64)
    trained, _ = train(NET, start, data, index, rate=RATE)
    assert trained.dtype == np.float64
    for j in range(2):
        expected, _ = by_torch(NET, start[j], data, index[j], 100)
        np.testing.assert_allclose(trained[j], expected, rtol=0, atol=1e-12)


def test_one_step_by_hand():
    """One input, two classes, weights (0, ln 3) without biases: class 1 has 3 / 4 at pixel 1."""
    net = Perceptron((1, 2))
    start = np.array([[0.0, np.log(3), 0.0, 0.0]])
    data = Labelled(np.array([[1.0], [0.0]]), np.array([0, 1]))
    index = np.array([[[0, 1]]])
    # Losses: ln 4 of image 0, ln 2 of image 1, which shows nothing. Slopes of the logits:
    # (1/4 - 1, 3/4) / 2 and (1/2, 1/2 - 1) / 2.
    trained, loss = train(net, start, data, index, rate=0.4)
    step = np.array([-0.375, 0.375, -0.375 + 0.25, 0.375 - 0.25])
    np.testing.assert_allclose(trained[0], start[0] - 0.4 * step, rtol=1e-12)
    assert loss[0] == pytest.approx(np.sqrt((np.log(4) ** 2 + np.log(2) ** 2) / 2), rel=1e-12)
    # Class weights change what is learnt, not the reported loss.
    weights = np.array([[2.0, 6.0]])
    heavy, same = train(net, start, data, index, rate=0.4, class_weights=weights)
    # Of 2 and 6, the shares of the sum are 1/4 and 3/4 instead of 1/2 each.
    step = np.array([-0.375 / 2, 0.375 / 2, -0.375 / 2 + 0.25 * 1.5, 0.375 / 2 - 0.25 * 1.5])
    np.testing.assert_allclose(heavy[0], start[0] - 0.4 * step, rtol=1e-12)
    assert same[0] == loss[0]


def test_losses_of_different_numbers_of_steps_by_hand():
    """Two steps: the mean goes over the images of those steps that were made."""
    data, start, index = world(NET, 3, 6, 4, seed=5, dtype=np.float64)
    steps = np.array([2, 6, 1])
    _, loss = train(NET, start, data, index, rate=0.1, steps=steps)
    for j, count in enumerate(steps):
        _, one = train(NET, start[j : j + 1], data, index[j : j + 1, :count], rate=0.1)
        assert loss[j] == pytest.approx(one[0], rel=1e-12)
        now, squares = start[j : j + 1], []
        for number in range(count):
            chosen = index[j, number]
            logits = NET.forward(now[0], data.images[chosen])[-1]
            right = logits[np.arange(4), data.labels[chosen]]
            squares += ((np.log(np.exp(logits).sum(axis=-1)) - right) ** 2).tolist()
            now, _ = train(NET, now, data, index[j : j + 1, number : number + 1], rate=0.1)
        assert len(squares) == 4 * count
        assert loss[j] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-12)


@pytest.mark.parametrize("together", [1, 2, 5, 64])
@pytest.mark.parametrize("names", [(), CASES["all"]], ids=["plain", "all"])
def test_a_stack_equals_its_models_bit_for_bit(names, together, monkeypatch):
    """However many go together, and in whatever order they stand."""
    models = 11
    data, start, index = world(NET, models, 7, 3, seed=8)
    steps = np.array([7, 1, 3, 7, 2, 5, 4, 7, 6, 1, 3])
    every = {**options(NET, models), **taught(models, 7, 3)}
    chosen = {name: every[name] for name in names}

    def rows(which):
        return {n: v if n == "pull" else v[which] for n, v in chosen.items()}

    alone = [
        train(
            NET, start[[j]], data, index[[j], : steps[j]], rate=RATE, steps=steps[[j]], **rows([j])
        )
        for j in range(models)
    ]
    monkeypatch.setattr(sgd, "_TOGETHER", together)
    shuffled = np.random.default_rng(1).permutation(models)
    for order in (np.arange(models), np.arange(models)[::-1], shuffled):
        before = start[order].copy()
        trained, loss = train(
            NET, start[order], data, index[order], rate=RATE, steps=steps[order], **rows(order)
        )
        assert np.array_equal(trained, np.concatenate([alone[j][0] for j in order]))
        assert np.array_equal(loss, np.concatenate([alone[j][1] for j in order]))
        assert np.array_equal(start[order], before)  # what was given stays as it was


def test_the_networks_that_are_played_are_stacked_bit_for_bit():
    """With the sizes of the digits too, where other routines of a library may be at work."""
    net = Perceptron((64, 32, 10))
    rng = np.random.default_rng(4)
    data = Labelled(rng.random((50, 64)).astype(np.float32), rng.integers(10, size=50))
    start = rng.normal(scale=0.2, size=(90, net.parameters)).astype(np.float32)
    index = rng.integers(50, size=(90, 2, 16))
    trained, loss = train(net, start, data, index, rate=0.1)
    for j in range(0, 90, 7):
        one, its = train(net, start[[j]], data, index[[j]], rate=0.1)
        assert np.array_equal(trained[j], one[0]) and loss[j] == its[0]


def test_no_models_at_all():
    data, start, index = world(NET, 2, 3, 2)
    trained, loss = train(NET, start[:0], data, index[:0], rate=0.1)
    assert trained.shape == (0, NET.parameters) and loss.shape == (0,)
    trained, loss = train(NET, start, data, index, rate=0.1, steps=np.array([0, 2]))
    assert np.array_equal(trained[0], start[0]) and loss[0] == 0
    assert not np.array_equal(trained[1], start[1])
