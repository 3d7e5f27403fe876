"""Learning from what other models say of images, instead of from their weights.

Models send logits: of each class, the mean over their own images of it (federated distillation
[Jeong2018]), or of images that all of them hold (co-distillation [Anil2018]). What others say
becomes a soft target beside the label. All functions broadcast over leading axes, and what comes
of a model does not depend on who else is in the stack.
"""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import BoolArray, IntArray, RealArray


def mean_logits(
    logits: RealArray, labels: IntArray, counts: BoolArray, classes: int
) -> tuple[RealArray, BoolArray]:
    """Return the mean logits of the images of each class, and which classes there are.

    Args:
        logits: What a model says of images, (..., images, classes).
        labels: Their classes, (..., images).
        counts: Which of them count, (..., images).
        classes: How many classes there are.

    Returns:
        The means, (..., classes, classes), row by class, of zeros where no image is of it; and
        whether one is, (..., classes).
    """
    member = (labels[..., None] == np.arange(classes)) & counts[..., None]
    number = member.sum(axis=-2)
    total = np.matmul(np.swapaxes(member, -1, -2).astype(logits.dtype), logits)
    mean = total / np.maximum(number, 1)[..., None].astype(logits.dtype)
    return mean, number > 0


def targets(logits: RealArray, known: BoolArray) -> RealArray:
    """Return the softmax of logits (..., rows, classes); rows that are not known become 0."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares = shifted / shifted.sum(axis=-1, keepdims=True)
    return np.asarray(np.where(known[..., None], shares, 0)).astype(logits.dtype)


def add_soft_slopes(
    slopes: RealArray, labels: IntArray, soft: RealArray, weight: float = 1.0
) -> None:
    """Add the slopes of the cross-entropy to soft targets, in place.

    Args:
        slopes: The slopes of the mean cross-entropy to the labels with respect to logits, which is
            what ``cross_entropy`` returns, (..., B, classes).
        labels: The right classes, (..., B).
        soft: A distribution over classes per image, (..., B, classes), or zeros: then nothing is
            added.
        weight: How much the soft targets weigh beside the labels.
    """
    batch = slopes.shape[-2]
    shares = slopes.copy()  # becomes the model's own distribution, divided by the minibatch
    right = np.arange(labels.size) * slopes.shape[-1] + labels.reshape(-1)
    shares.reshape(-1)[right] += 1.0 / batch
    shares *= soft.sum(axis=-1, keepdims=True)
    shares -= soft / batch
    slopes += slopes.dtype.type(weight) * shares
