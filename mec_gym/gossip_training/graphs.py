"""Who may listen to whom: the graphs of gossip."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np

from mec_gym.core.checks import one_of
from mec_gym.core.types import FloatArray, IntArray

Graph = Literal["complete", "ring", "torus", "geometric", "one-sided"]


def edges_of(graph: Graph, devices: int, radius: float = 0.5) -> IntArray:
    """Return the directed edges of a graph, (E, 2): who listens, and to whom.

    They are ordered by listener, then by speaker. In all graphs but ``"one-sided"``, an edge exists
    in both directions.

    Args:
        graph: ``"complete"``: everybody may listen to everybody; ``"ring"``: to the next and to
            the one before; ``"torus"``: a grid whose ends are joined, as square as the number
            allows [Colin2016]; ``"geometric"``: those who are within a distance of each other,
            on points of a golden spiral in the unit disc; ``"one-sided"``: device i may listen to
            the devices 1, 2, 4, ... before it, which need not listen to it [Assran2019] [HeC2019].
        devices: The number of devices, N, at least 2.
        radius: The distance, for ``"geometric"``; those who would have no neighbour get their
            nearest one.

    Raises:
        ValueError: The graph is unknown, or there are fewer than 2 devices.
    """
    one_of("graph", graph, get_args(Graph))
    if devices < 2:
        raise ValueError(f"devices must be at least 2, got {devices!r}")
    number = np.arange(devices)
    linked = np.zeros((devices, devices), dtype=np.bool_)
    if graph == "complete":
        linked[:] = True
    elif graph == "ring":
        linked[number, (number + 1) % devices] = True
    elif graph == "torus":
        rows, columns = _grid(devices)
        row, column = number // columns, number % columns
        linked[number, row * columns + (column + 1) % columns] = True
        linked[number, (row + 1) % rows * columns + column] = True
    elif graph == "geometric":
        place = places(graph, devices)
        apart = np.linalg.norm(place[:, None] - place, axis=-1)
        np.fill_diagonal(apart, np.inf)
        linked = apart <= radius
        linked[number, apart.argmin(axis=-1)] = True
    else:
        for power in range((devices - 1).bit_length()):
            linked[number, (number - 2**power) % devices] = True
    if graph != "one-sided":
        linked = linked | linked.T
    np.fill_diagonal(linked, False)
    return np.argwhere(linked)


def places(graph: Graph, devices: int) -> FloatArray:
    """Return where devices lie in a plane, (N, 2), within [-1, 1].

    Of ``"geometric"`` graphs these are the points that say who is near whom, a golden spiral; of
    others they are for pictures: a grid for ``"torus"``, a circle elsewhere.

    Args:
        graph: The kind of graph.
        devices: The number of devices, N.
    """
    number = np.arange(devices)
    if graph == "torus":
        rows, columns = _grid(devices)
        side = max(rows - 1, columns - 1, 1)
        row, column = number // columns, number % columns
        x = (2.0 * column - (columns - 1)) / side
        return np.stack([x, ((rows - 1) - 2.0 * row) / side], axis=-1)
    if graph == "geometric":
        angle, distance = number * math.pi * (3.0 - math.sqrt(5.0)), np.sqrt(number / devices)
    else:
        angle, distance = 2.0 * math.pi * number / devices, np.ones(devices)
    return np.stack([np.cos(angle) * distance, np.sin(angle) * distance], axis=-1)


def _grid(devices: int) -> tuple[int, int]:
    """Return rows and columns of a grid that is as square as the number of devices allows."""
    rows = max(r for r in range(1, math.isqrt(devices) + 1) if devices % r == 0)
    return rows, devices // rows
