"""The perceptron: by hand, against differences and against torch, alone and in a stack."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from mec_gym.learning.perceptron import Perceptron, cross_entropy

CLIENTS = Perceptron((64, 32, 10))
DEEP = Perceptron((5, 4, 3, 6, 2))


def minibatch(net, *shape, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((*shape, net.sizes[0]))
    return images, rng.integers(net.sizes[-1], size=shape)


def models(net, count, seed=1):
    """Weights without symmetries: biases are drawn too."""
    return np.random.default_rng(seed).normal(scale=0.5, size=(count, net.parameters))


def test_sizes():
    assert CLIENTS.parameters == 2410
    assert DEEP.parameters == 5 * 4 + 4 + 4 * 3 + 3 + 3 * 6 + 6 + 6 * 2 + 2
    assert CLIENTS.layers == (slice(0, 2080), slice(2080, 2410))
    assert Perceptron((3, 2)).parameters == 8


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ((), r"\(\)"),
        ((4,), r"\(4,\)"),
        ((4, 0), "0"),
        ((4, -1, 2), "-1"),
        ((4, 2.5), "2.5"),
        ((4, True), "True"),
    ],
)
def test_bad_sizes(sizes, told):
    with pytest.raises(ValueError, match=f"sizes.*got {told}"):
        Perceptron(sizes)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"weights.*2410.*\(3, 2409\)"):
        CLIENTS.forward(np.zeros((3, 2409)), np.zeros((3, 1, 64)))


def test_initial_weights():
    net = Perceptron((200, 50, 8))
    weights = net.initial(np.random.default_rng(3))
    (first, biases), (second, last) = net.matrices(weights)
    assert (first.shape, second.shape) == ((200, 50), (50, 8))
    assert not biases.any() and not last.any()
    assert first.std() == pytest.approx(np.sqrt(2 / 200), rel=0.03)
    assert second.std() == pytest.approx(np.sqrt(2 / 50), rel=0.1)
    np.testing.assert_array_equal(weights, net.initial(np.random.default_rng(3)))


def test_by_hand():
    net = Perceptron((2, 2, 2))
    # matrix (inputs, outputs) row by row, then biases
    weights = np.array([1.0, -1, 2, 0.5, 0, 0.25, 3.0, -2, 1, 4, 0.5, -1])
    below, hidden, logits = net.forward(weights, np.array([[1.0, 0.5]]))
    assert below.tolist() == [[1, 0.5]]
    # 1 + 1 + 0 = 2; -1 + 0.25 + 0.25 = -0.5, which ReLU stops
    assert hidden.tolist() == [[2, 0]]
    assert logits.tolist() == [[6.5, -5]]
    gradient = net.backward(weights, [below, hidden, logits], np.array([[0.5, -0.25]]))
    # to the hidden layer: 0.5 * 3 + 0.25 * 2 = 2
    assert gradient.tolist() == [2, 0, 1, 0, 2, 0, 1, -0.5, 0, 0, 0.5, -0.25]


def test_backward_passes_slopes_down_by_the_weights_that_it_is_given():
    net = Perceptron((1, 1, 1))
    old, new = np.array([2.0, 0, 3, 0]), np.array([2.0, 0, 7, 0])
    values = net.forward(old, np.array([[0.5]]))
    slopes = np.ones((1, 1))
    assert net.backward(old, values, slopes).tolist() == [1.5, 3, 1, 1]
    assert net.backward(new, values, slopes).tolist() == [3.5, 7, 1, 1]


def test_cross_entropy_by_hand():
    logits = np.log([[1.0, 3], [4, 1]])
    losses, slopes = cross_entropy(logits, np.array([1, 1]))
    np.testing.assert_allclose(losses, [np.log(4 / 3), np.log(5)], rtol=1e-14)
    np.testing.assert_allclose(slopes, [[1 / 8, -1 / 8], [2 / 5, -2 / 5]], rtol=1e-14)
    # Neither a large nor a small logit is too much.
    assert cross_entropy(np.array([[1e4, -1e4]]), np.array([1]))[0].tolist() == [2e4]


@pytest.mark.parametrize("net", [DEEP, CLIENTS, Perceptron((3, 2))])
def test_gradient_equals_finite_differences(net):
    (weights,), (images, labels) = models(net, 1), minibatch(net, 6)
    _, gradient = net.gradient(weights, images, labels)
    step = 1e-6
    for index in np.random.default_rng(5).choice(net.parameters, min(60, net.parameters), False):
        shifted = np.repeat(weights[None], 2, axis=0)
        shifted[:, index] += [step, -step]
        above, below = net.gradient(shifted, images, labels)[0]
        assert gradient[index] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("net", [DEEP, CLIENTS])
def test_gradient_equals_autograd(net):
    (weights,), (images, labels) = models(net, 1), minibatch(net, 16)
    tensor = torch.tensor(weights, requires_grad=True)
    value, start = torch.tensor(images), 0
    for inputs, outputs in zip(net.sizes, net.sizes[1:], strict=False):
        value = torch.relu(value) if start else value
        matrix = tensor[start : start + inputs * outputs].view(inputs, outputs)
        start += (inputs + 1) * outputs
        value = value @ matrix + tensor[start - outputs : start]
    expected = functional.cross_entropy(value, torch.tensor(labels))
    expected.backward()
    loss, gradient = net.gradient(weights, images, labels)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-15)
    right = (value.argmax(dim=1).numpy() == labels).mean()
    assert net.accuracy(weights, images, labels) == right and 0 < right < 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("net", [CLIENTS, DEEP, Perceptron((7, 3, 1, 2))])
@pytest.mark.parametrize("size", [1, 13, 16])
def test_a_stack_equals_its_models_bit_for_bit(net, dtype, size):
    weights, (images, labels) = models(net, 12).astype(dtype), minibatch(net, 12, size)
    images = images.astype(dtype)
    for _ in range(20):
        loss, gradient = net.gradient(weights, images, labels)
        assert gradient.dtype == loss.dtype == dtype
        alone = [net.gradient(*each) for each in zip(weights, images, labels, strict=True)]
        np.testing.assert_array_equal(loss, [each for each, _ in alone])
        np.testing.assert_array_equal(gradient, [each for _, each in alone])
        # Nor does it matter who else is in the stack, or how it is laid out.
        part = net.gradient(weights[3:8:2], images[3:8:2], labels[3:8:2])
        np.testing.assert_array_equal(part[1], gradient[3:8:2])
        square = net.gradient(*(a.reshape(3, 4, *a.shape[1:]) for a in (weights, images, labels)))
        np.testing.assert_array_equal(square[1].reshape(gradient.shape), gradient)
        weights = weights - dtype(0.1) * gradient


def test_models_may_share_their_images():
    weights, (images, labels) = models(DEEP, 3), minibatch(DEEP, 8)
    loss, gradient = DEEP.gradient(weights, images, labels)
    shares = DEEP.accuracy(weights, images, labels)
    assert loss.shape == shares.shape == (3,)
    for number in range(3):
        alone = DEEP.gradient(weights[number], images, labels)
        assert alone[0] == loss[number]
        np.testing.assert_array_equal(alone[1], gradient[number])
        assert DEEP.accuracy(weights[number], images, labels) == shares[number]
