"""A multi-layer perceptron in numpy, of which a whole stack is trained at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from mec_gym.core.checks import positive_int
from mec_gym.core.types import Float32Array, FloatArray, IntArray, RealArray

_LARGEST_EXPONENT = 80  # its exponential is finite in single precision

Layers = list[tuple[RealArray, RealArray]]
"""Each layer's matrix (..., inputs, outputs) and biases (..., outputs)."""


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Layers of the given sizes: ReLU between them, and the softmax of the last one's output.

    The weights of a model are one vector of P numbers, (..., P), so that models can be averaged,
    stacked and sent about as they are. It holds layer after layer, each as its matrix
    (inputs, outputs), row by row, and then its biases.

    All methods broadcast over leading axes: weights (..., P), images (..., B, pixels) and labels
    (..., B). Each model of a stack has matrix products of its own. What comes of it therefore
    equals, bit for bit, what comes of it alone. Numbers are as precise as those given: float32
    stays float32.

    Args:
        sizes: Numbers of inputs, of neurons per hidden layer, and of classes.

    Raises:
        ValueError: There are fewer than two sizes, or one is not a positive whole number.
    """

    sizes: tuple[int, ...]
    layers: tuple[slice, ...] = field(init=False, repr=False, compare=False)
    """Where each layer lies in the vector of weights."""

    def __post_init__(self) -> None:
        if len(self.sizes) < 2:
            raise ValueError(f"sizes must be at least two numbers, got {self.sizes!r}")
        for size in self.sizes:
            positive_int("sizes", size)
        ends = accumulate((inputs + 1) * outputs for inputs, outputs in pairwise(self.sizes))
        layers = tuple(slice(start, end) for start, end in pairwise((0, *ends)))
        object.__setattr__(self, "layers", layers)

    @property
    def parameters(self) -> int:
        """P, the number of weights."""
        end: int = self.layers[-1].stop
        return end

    def initial(self, rng: np.random.Generator) -> FloatArray:
        """Draw the weights of a new model, (P,).

        A weight is Gaussian with variance 2 / inputs of its layer, a bias is 0.

        Args:
            rng: Where the random numbers come from.
        """
        weights = np.zeros(self.parameters)
        for layer, (inputs, outputs) in zip(self.layers, pairwise(self.sizes), strict=True):
            drawn = rng.standard_normal(inputs * outputs)
            weights[layer][: inputs * outputs] = math.sqrt(2 / inputs) * drawn
        return weights

    def unseen(self, batch: tuple[int, ...]) -> Float32Array:
        """Return what agents believe of weights that they do not see, (*batch, P).

        These are zeros, which take no memory.

        Args:
            batch: The leading axes.
        """
        return np.broadcast_to(np.float32(0), (*batch, self.parameters))

    def matrices(self, weights: RealArray) -> Layers:
        """Return each layer's matrix (..., inputs, outputs) and biases (..., outputs), as views.

        Args:
            weights: One vector per model, (..., P).

        Raises:
            ValueError: The weights are not P numbers per model.
        """
        if weights.shape[-1:] != (self.parameters,):
            raise ValueError(
                f"weights must have {self.parameters} numbers on the last axis, got the shape "
                f"{weights.shape}"
            )
        found = []
        for layer, (inputs, outputs) in zip(self.layers, pairwise(self.sizes), strict=True):
            flat = weights[..., layer]
            matrix = flat[..., : inputs * outputs].reshape(*flat.shape[:-1], inputs, outputs)
            found.append((matrix, flat[..., inputs * outputs :]))
        return found

    def forward(self, weights: RealArray, images: RealArray) -> list[RealArray]:
        """Return what goes into each layer, and last the logits of the classes.

        Args:
            weights: One vector per model, (..., P).
            images: The images, (..., B, pixels).

        Returns:
            One array per layer and one more, each (..., B, size of that layer).
        """
        return forward(self.matrices(weights), images)

    def backward(self, weights: RealArray, values: list[RealArray], slopes: RealArray) -> RealArray:
        """Return the gradient with respect to the weights, (..., P).

        It is that of the function that :meth:`forward` computes only if the weights are those of
        the forward pass. A pipeline that has changed them in the meantime has others.

        Args:
            weights: The weights by which slopes are passed down, (..., P).
            values: What :meth:`forward` returned.
            slopes: Slopes of the loss with respect to the logits, (..., B, classes).
        """
        shape = (*slopes.shape[:-2], self.parameters)
        gradient = np.empty(shape, dtype=np.result_type(weights, slopes))
        backward(self.matrices(weights), values, slopes, self.matrices(gradient))
        return gradient

    def gradient(
        self, weights: RealArray, images: RealArray, labels: IntArray
    ) -> tuple[RealArray, RealArray]:
        """Return the mean cross-entropy of a minibatch, (...), and its gradient, (..., P).

        Args:
            weights: One vector per model, (..., P).
            images: The images, (..., B, pixels).
            labels: Their classes, (..., B).
        """
        values = self.forward(weights, images)
        losses, slopes = cross_entropy(values[-1], labels)
        return losses.mean(axis=-1), self.backward(weights, values, slopes)

    def accuracy(self, weights: RealArray, images: RealArray, labels: IntArray) -> RealArray:
        """Return the share of images whose most likely class is the right one, (...).

        Args:
            weights: One vector per model, (..., P).
            images: The images, (..., B, pixels).
            labels: Their classes, (..., B).
        """
        right = self.forward(weights, images)[-1].argmax(axis=-1) == labels
        share: RealArray = right.mean(axis=-1)
        return share


def forward(layers: Layers, images: RealArray) -> list[RealArray]:
    """Compute what :meth:`Perceptron.forward` does, given matrices and biases."""
    values = [images]
    for number, (matrix, biases) in enumerate(layers):
        if number:
            np.maximum(values[-1], 0, out=values[-1])
        above = np.matmul(values[-1], matrix)
        above += biases[..., None, :]
        values.append(above)
    return values


def backward(layers: Layers, values: list[RealArray], slopes: RealArray, into: Layers) -> None:
    """Compute what :meth:`Perceptron.backward` does, given matrices and biases.

    Args:
        layers: Matrices and biases of the weights.
        values: What :func:`forward` returned.
        slopes: Slopes of the loss with respect to the logits, (..., B, classes).
        into: Matrices and biases of the gradient, which are overwritten.
    """
    for number in reversed(range(len(layers))):
        below = values[number]
        np.matmul(np.swapaxes(below, -1, -2), slopes, out=into[number][0])
        np.einsum("...bo->...o", slopes, out=into[number][1])  # in half the time of np.sum
        if number:
            slopes = np.matmul(slopes, np.swapaxes(layers[number][0], -1, -2))
            slopes *= below > 0


def cross_entropy(logits: RealArray, labels: IntArray) -> tuple[RealArray, RealArray]:
    """Return -log softmax at the right class, and the slopes of its mean over the minibatch.

    Args:
        logits: The output of a model, (..., B, classes).
        labels: The right classes, (..., B).

    Returns:
        The loss of each image, (..., B), and the slopes with respect to the logits of their mean,
        (..., B, classes).
    """
    shape = logits.shape[:-1]
    # Flat indices of the right classes: faster than take_along_axis.
    right = np.arange(math.prod(shape)) * logits.shape[-1]
    right += np.broadcast_to(labels, shape).reshape(-1)
    # Less the right logit, most numbers are small enough; to find each row's largest takes long.
    shifted = logits - logits.reshape(-1)[right].reshape(*shape, 1)
    excess: Any = 0
    if shifted.max(initial=0) > _LARGEST_EXPONENT:
        largest = shifted.max(axis=-1)
        excess = np.where(largest > _LARGEST_EXPONENT, largest, 0)
        shifted -= excess[..., None]
    slopes = np.exp(shifted, out=shifted)
    sums = slopes.sum(axis=-1)
    slopes /= sums[..., None]
    slopes.reshape(-1)[right] -= 1
    slopes /= logits.shape[-2]
    return np.log(sums) + excess, slopes
