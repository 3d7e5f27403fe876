"""Local training: stochastic gradient descent of many clients at once, each on its own images."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import IntArray, RealArray
from mec_gym.learning.distillation import add_soft_slopes
from mec_gym.learning.images import Labelled
from mec_gym.learning.perceptron import Perceptron, backward, cross_entropy, forward

_TOGETHER = 192  # enough to outweigh the cost of calls, few enough to stay in the cache


def train(
    network: Perceptron,
    start: RealArray,
    data: Labelled,
    index: IntArray,
    *,
    rate: float,
    steps: IntArray | None = None,
    pull: float = 0.0,
    correction: RealArray | None = None,
    gain: RealArray | None = None,
    class_weights: RealArray | None = None,
    soft: RealArray | None = None,
    soft_row: IntArray | None = None,
) -> tuple[RealArray, RealArray]:
    """Train a stack of J models, each for E minibatches of B of its own images.

    The result for a model does not depend on who else is in the stack, bit for bit.

    Args:
        network: What the models compute.
        start: Weights to start from, (J, P).
        data: The images of all clients together.
        index: Which images the minibatches hold, (J, E, B).
        rate: The learning rate.
        steps: How many of the E minibatches each model is trained on, (J,); by default all.
        pull: FedProx's mu: the gradient of mu / 2 |w - start|^2 is added [LiT2020] eq. (2).
        correction: What is added to every gradient, (J, P): SCAFFOLD's control variates
            [Karimireddy2020] eq. (3).
        gain: The factor of a client's images, (J,); pixels stay at most 1.
        class_weights: How much the images of each class weigh, (J, classes); the loss is the
            weighted mean over a minibatch, so that the rate keeps its meaning [HsuT2020].
        soft: What each model is taught, (J, rows, classes): distributions over classes, whose
            cross-entropy counts beside that of the labels; a row of zeros teaches nothing.
        soft_row: Which row teaches each image, (J, E, B); -1: none. It is given if ``soft`` is.

    Returns:
        The trained weights, (J, P), and the root mean square of the losses of all images that
        a model was trained on, (J,), which Oort's utility is made of [Lai2021].
    """
    count, made, _ = index.shape
    most = np.full(count, made) if steps is None else steps
    trained = np.empty_like(start)
    loss = np.empty(count, dtype=start.dtype)
    order = np.argsort(-most, kind="stable")  # those that are still trained come first
    for begin in range(0, count, _TOGETHER):
        rows = order[begin : begin + _TOGETHER]
        weights, squares = start[rows], np.zeros(len(rows), dtype=start.dtype)
        gradient = np.empty_like(weights)
        active = 0
        for number in range(int(most[rows[0]])):
            if active != (active := int((most[rows] > number).sum())):
                now, steepest, who = weights[:active], gradient[:active], rows[:active]
                layers, into = network.matrices(now), network.matrices(steepest)
            chosen = index[who, number]
            images = data.images.take(chosen, axis=0)
            labels = data.labels.take(chosen)
            if gain is not None:
                images = np.minimum(images * gain[who, None, None], 1)
            values = forward(layers, images)
            losses, slopes = cross_entropy(values[-1], labels)
            squares[:active] += np.square(losses).mean(axis=-1)
            if soft is not None and soft_row is not None:
                row = soft_row[who, number]
                taught = soft[who[:, None], np.maximum(row, 0)]
                add_soft_slopes(slopes, labels, np.where((row >= 0)[..., None], taught, 0))
            if class_weights is not None:
                weighs = np.take_along_axis(class_weights[who], labels, axis=-1)
                slopes *= (weighs / weighs.mean(axis=-1, keepdims=True))[..., None]
            backward(layers, values, slopes, into)
            if pull:
                steepest += pull * (now - start[who])
            if correction is not None:
                steepest += correction[who]
            steepest *= rate
            now -= steepest
        trained[rows] = weights
        loss[rows] = np.sqrt(squares / np.maximum(most[rows], 1))
    return trained, loss
