"""The published profile of VGG16 for which [Harlap2018]'s planner chooses 15-1.

The figures are those of ``profiler/image_classification/profiles/vgg16/graph.txt`` in the
authors' repository https://github.com/msr-fiddle/pipedream (commit
11c40c015e1b7a8e668363c8521609ad48e287f3), copyright Microsoft Corporation, MIT licence. Taken by
hand were, of each state, the kind of its layer, its times forward and backward, its activation
size and its parameter size; nothing else. The minibatch that was measured has 128 images, as the
activation sizes tell: 128 x 64 x 224 x 224 numbers of 4 bytes after the first convolution.

Left out is the input, node 1 of the file, as the authors' planner leaves it out: it is always with
the first stage. The other 40 nodes are in the order of the file's edges, which is a chain but for
one detour: the view (node 34) takes the last pooling (node 32) and its batch size (node 33, 4
bytes). So a cut between nodes 33 and 34 sends both.
"""

from __future__ import annotations

from typing import NamedTuple


class State(NamedTuple):
    """One line of the profile.

    Attributes:
        layer: The kind of its layer.
        forward_ms: Time of a minibatch forward, ms.
        backward_ms: Time of a minibatch backward, ms.
        activation_bytes: What it passes on per minibatch, bytes.
        parameter_bytes: Its weights, bytes.
    """

    layer: str
    forward_ms: float
    backward_ms: float
    activation_bytes: int
    parameter_bytes: int


STATES = (
    State("Conv2d", 22.307, 24.613, 1644167168, 7168),
    State("ReLU", 4.446, 5.553, 1644167168, 0),
    State("Conv2d", 46.201, 113.33, 1644167168, 147712),
    State("ReLU", 4.455, 5.311, 1644167168, 0),
    State("MaxPool2d", 3.795, 5.579, 411041792, 0),
    State("Conv2d", 15.155, 39.648, 822083584, 295424),
    State("ReLU", 2.359, 2.738, 822083584, 0),
    State("Conv2d", 22.062, 53.379, 822083584, 590336),
    State("ReLU", 2.513, 2.62, 822083584, 0),
    State("MaxPool2d", 2.211, 2.788, 205520896, 0),
    State("Conv2d", 10.814, 18.335, 411041792, 1180672),
    State("ReLU", 1.377, 1.38, 411041792, 0),
    State("Conv2d", 17.458, 27.023, 411041792, 2360320),
    State("ReLU", 1.64, 1.463, 411041792, 0),
    State("Conv2d", 14.245, 33.888, 411041792, 2360320),
    State("ReLU", 1.549, 1.321, 411041792, 0),
    State("MaxPool2d", 1.169, 1.513, 102760448, 0),
    State("Conv2d", 9.249, 14.574, 205520896, 4720640),
    State("ReLU", 1.026, 0.696, 205520896, 0),
    State("Conv2d", 15.359, 21.9, 205520896, 9439232),
    State("ReLU", 0.848, 0.679, 205520896, 0),
    State("Conv2d", 11.775, 28.67, 205520896, 9439232),
    State("ReLU", 0.881, 0.642, 205520896, 0),
    State("MaxPool2d", 0.802, 0.781, 51380224, 0),
    State("Conv2d", 5.608, 7.381, 51380224, 9439232),
    State("ReLU", 0.784, 0.266, 51380224, 0),
    State("Conv2d", 4.07, 7.396, 51380224, 9439232),
    State("ReLU", 0.463, 0.19, 51380224, 0),
    State("Conv2d", 4.042, 8.648, 51380224, 9439232),
    State("ReLU", 0.455, 0.175, 51380224, 0),
    State("MaxPool2d", 0.553, 0.234, 12845056, 0),
    State("Size", 0.0, 0.0, 12845060, 0),
    State("View", 0.0, 0.0, 12845056, 0),
    State("Linear", 2.475, 4.575, 2097152, 411058176),
    State("ReLU", 0.377, 0.03, 2097152, 0),
    State("Dropout", 0.0, 0.0, 2097152, 0),
    State("Linear", 0.709, 0.734, 2097152, 67125248),
    State("ReLU", 0.277, 0.032, 2097152, 0),
    State("Dropout", 0.0, 0.0, 2097152, 0),
    State("Linear", 0.393, 0.548, 512000, 16388000),
)
"""Nodes 2 to 41 of the profile."""
