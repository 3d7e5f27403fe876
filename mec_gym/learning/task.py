"""What is learnt, and what the clock charges for it: the parts that problems of training share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mec_gym.dnn.blocks import cut_chain
from mec_gym.dnn.graph import load_graph
from mec_gym.learning.images import Labelled, Split, digits, load_images
from mec_gym.learning.perceptron import Perceptron


def task_images(images: str) -> Split:
    """Return the images that are learnt, in single precision as they are trained on.

    Args:
        images: ``"digits"``, or the path of an ``.npz`` file of the user's.

    Raises:
        ValueError: The file does not hold what it must.
    """
    split = digits() if images == "digits" else load_images(images)
    return Split(*(Labelled(part.images.astype(np.float32), part.labels) for part in split))


def task_network(images: Split, hidden: int) -> Perceptron:
    """Return the network that learns them: one hidden layer, and one output per class.

    Args:
        images: What :func:`task_images` returned.
        hidden: The number of hidden neurons.
    """
    classes = max(int(part.labels.max()) for part in images) + 1
    return Perceptron((images.learn.images.shape[1], hidden, classes))


def training_cost(path: str | Path) -> tuple[float, float]:
    """Return what a network costs: FLOP of the forward pass of one input, and bit of its weights.

    Args:
        path: A JSON profile of the network, as ``mec-gym profile`` writes it; of several exits, the
            last one counts.

    Raises:
        ValueError: The file is no profile, or the network has no work or no weights.
    """
    graph = load_graph(path)
    whole = cut_chain(graph.at_exit(len(graph.exits) - 1), 1)
    work, bits = float(whole.work.sum()), float(whole.weights.sum())
    if not work > 0 or not bits > 0:
        raise ValueError(
            f"profile must be of a network that has work and weights, {graph.name} has {work:g} "
            f"FLOP and {bits:g} bit"
        )
    return work, bits
