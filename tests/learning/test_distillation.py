"""What others say of images: means by brute force, slopes against torch, stacks bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mec_gym.learning.distillation import add_soft_slopes, mean_logits, targets
from mec_gym.learning.perceptron import cross_entropy

# -------------------------------------------------------------------------- mean logits


def test_means_by_hand():
    logits = np.array([[1.0, 5.0, 0.0], [3.0, -1.0, 2.0], [9.0, 9.0, 9.0], [0.0, 4.0, -6.0]])
    labels, counts = np.array([1, 1, 0, 2]), np.array([True, True, False, True])
    mean, known = mean_logits(logits, labels, counts, 3)
    assert mean.tolist() == [[0, 0, 0], [2, 2, 1], [0, 4, -6]]
    assert known.tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_by_brute_force_and_in_a_stack(dtype):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 40, 7)).astype(dtype)
    labels, counts = rng.integers(7, size=(3, 5, 40)), rng.random((3, 5, 40)) < 0.3
    mean, known = mean_logits(logits, labels, counts, 7)
    assert mean.shape == (3, 5, 7, 7) and mean.dtype == dtype and not known.all()
    for z in np.ndindex(3, 5):
        for c in range(7):
            rows = [logits[z][k] for k in range(40) if labels[z][k] == c and counts[z][k]]
            assert known[z][c] == bool(rows)
            expected = np.mean(rows, axis=0) if rows else np.zeros(7)
            np.testing.assert_allclose(mean[z][c], expected, rtol=2e-6, atol=1e-6)
        alone = mean_logits(logits[z], labels[z], counts[z], 7)
        assert np.array_equal(mean[z], alone[0]) and np.array_equal(known[z], alone[1])


# ------------------------------------------------------------------------------ targets


def test_targets():
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0], [5.0, 6.0]])
    found = targets(logits, np.array([True, True, False]))
    np.testing.assert_allclose(found, [[0.25, 0.75], [1, 0], [0, 0]], atol=1e-15)
    assert targets(logits.astype(np.float32), np.ones(3, dtype=bool)).dtype == np.float32


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_targets_are_distributions_that_know_no_origin(seed, more):
    logits = 10 * np.random.default_rng(seed).standard_normal((4, 6))
    found = targets(logits, np.ones(4, dtype=bool))
    np.testing.assert_allclose(found, torch.softmax(torch.tensor(logits), dim=-1), atol=1e-12)
    np.testing.assert_allclose(targets(logits + more, np.ones(4, dtype=bool)), found, atol=1e-9)


# ------------------------------------------------------------------------------- slopes


def taught(rng, shape, classes, dtype=np.float64):
    """Distributions over classes, and zeros for about a third of them."""
    soft = rng.dirichlet(np.ones(classes), size=shape)
    return (soft * (rng.random(shape) < 0.7)[..., None]).astype(dtype)


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 8)])
def test_slopes_equal_those_of_torch(shape, weight):
    rng = np.random.default_rng(len(shape))
    logits, labels = 3 * rng.standard_normal((*shape, 6)), rng.integers(6, size=shape)
    soft = taught(rng, shape, 6)
    _, slopes = cross_entropy(logits, labels)
    plain = slopes.copy()
    add_soft_slopes(slopes, labels, soft, weight)
    assert not np.allclose(slopes, plain)
    tensor = torch.tensor(logits, requires_grad=True)
    logs = torch.log_softmax(tensor, dim=-1)
    hard = -logs.gather(-1, torch.tensor(labels)[..., None])[..., 0]
    both = hard - weight * (torch.tensor(soft) * logs).sum(dim=-1)
    (both.sum() / shape[-1]).backward()  # the mean over a minibatch, of each model of the stack
    np.testing.assert_allclose(slopes, tensor.grad, rtol=1e-9, atol=1e-14)


def test_it_is_the_cross_entropy_to_probabilities():
    """What torch computes if it is given probabilities instead of labels."""
    rng = np.random.default_rng(7)
    logits, labels = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    soft = rng.dirichlet([1.0, 2.0, 3.0], size=4)
    tensor = torch.tensor(logits, requires_grad=True)
    loss = functional.cross_entropy(tensor, torch.tensor(labels))
    (loss + functional.cross_entropy(tensor, torch.tensor(soft))).backward()
    _, slopes = cross_entropy(logits, labels)
    add_soft_slopes(slopes, labels, soft)
    np.testing.assert_allclose(slopes, tensor.grad, rtol=1e-9)


def test_zeros_teach_nothing():
    rng = np.random.default_rng(1)
    logits, labels = rng.standard_normal((2, 5, 4)), rng.integers(4, size=(2, 5))
    _, slopes = cross_entropy(logits, labels)
    before = slopes.copy()
    add_soft_slopes(slopes, labels, np.zeros((2, 5, 4)))
    assert np.array_equal(slopes, before)


def test_who_already_agrees_is_not_moved():
    """The slopes to the label stay if a model says what it is taught."""
    rng = np.random.default_rng(2)
    logits, labels = rng.standard_normal((5, 4)), rng.integers(4, size=5)
    _, slopes = cross_entropy(logits, labels)
    before = slopes.copy()
    add_soft_slopes(slopes, labels, targets(logits, np.ones(5, dtype=bool)))
    np.testing.assert_allclose(slopes, before, atol=1e-15)


def test_a_stack_equals_its_models_bit_for_bit():
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((9, 6, 4)).astype(np.float32)
    labels, soft = rng.integers(4, size=(9, 6)), taught(rng, (9, 6), 4, np.float32)
    _, together = cross_entropy(logits, labels)
    add_soft_slopes(together, labels, soft)
    assert together.dtype == np.float32
    for j in range(9):
        _, alone = cross_entropy(logits[j], labels[j])
        add_soft_slopes(alone, labels[j], soft[j])
        assert np.array_equal(together[j], alone)
