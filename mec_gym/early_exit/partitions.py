"""Valid partitions of a layer graph, and what each costs: Td, Tt and Te of [Ding2025].

A partition says of every layer whether it runs on the edge. It is valid when nothing comes
back from the edge: if v runs there, so does every layer that reads v. The input is on the
device. Three numbers say all about a partition that a slot needs: the seconds of work on the
device, the bits to send, and the seconds of work on the edge, at nominal speed.
"""

from __future__ import annotations

import bisect

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.dnn.graph import LayerGraph

LIMIT = 200_000
"""The largest number of partitions that is enumerated."""


def is_valid(graph: LayerGraph, on_edge: BoolArray) -> BoolArray:
    """Whether the input stays on the device and nothing comes back, (..., V) -> (...)."""
    valid = ~on_edge[..., 0]
    for u, v in graph.links:
        valid &= on_edge[..., v] | ~on_edge[..., u]
    return np.asarray(valid)


def partition_cost(
    graph: LayerGraph, on_edge: BoolArray, device_s: FloatArray, edge_s: FloatArray
) -> FloatArray:
    """Device work, bits to send and edge work of partitions.

    A tensor crosses once, however many layers read it on the other side.

    Args:
        graph: V layers.
        on_edge: Whether each layer runs on the edge, (..., V).
        device_s: The time td of every layer on the device, (V,) s.
        edge_s: The time te of every layer on the edge, (V,) s.

    Returns:
        Device work (s), bits to send and edge work (s), (..., 3): the sums in Td, Tt and Te of
        [Ding2025].
    """
    device = np.where(on_edge, 0.0, device_s).sum(axis=-1)
    edge = np.where(on_edge, edge_s, 0.0).sum(axis=-1)
    bits = np.zeros(device.shape)
    for u, readers in enumerate(graph.successors):
        if readers:
            crosses = ~on_edge[..., u] & on_edge[..., list(readers)].any(axis=-1)
            bits += np.where(crosses, graph.layers[u].output_bits, 0.0)
    return np.stack([device, bits, edge], axis=-1)


def enumerate_partitions(graph: LayerGraph, limit: int = LIMIT) -> BoolArray | None:
    """All valid partitions of a network with one exit, from all on the edge to all on the device.

    The graph is a chain of blocks (:meth:`LayerGraph.chain`). A cut lies within one of them, so
    their counts add. Within a block the layers are taken one by one: a layer may join the
    device's side of a set if all that it reads is there.

    Args:
        graph: V layers, one exit.
        limit: The largest number of partitions that is enumerated.

    Returns:
        ``on_edge``, (P, V), or None if there are more than ``limit`` partitions.
    """
    joints = graph.chain()
    predecessors = graph.predecessors
    found, total = [], 0
    for first, end in zip(joints, (*joints[1:], len(graph)), strict=True):
        on_device = np.zeros((1, len(graph)), dtype=np.bool_)
        on_device[:, : first + 1] = True
        for v in range(first + 1, end):
            may = on_device[:, list(predecessors[v])].all(axis=1)
            joined = on_device[may]
            joined[:, v] = True
            on_device = np.concatenate([on_device, joined])
            # The sets over fewer layers are never more than those over all.
            if total + len(on_device) > limit:
                return None
        total += len(on_device)
        if total > limit:
            return None
        found.append(~on_device)
    return np.concatenate(found)


def pareto(points: FloatArray) -> IntArray:
    """Indices of the points that no other point is as good as in all three numbers.

    Of equal points one is kept. The points are sorted by the first number, and the staircase
    of the other two is kept (Kung, Luccio and Preparata, 1975).

    Args:
        points: Three costs each, (P, 3).

    Returns:
        The indices, ordered by the first number.
    """
    seconds: list[float] = []
    thirds: list[float] = []
    kept = []
    for index in np.lexsort(points.T[::-1]).tolist():
        _, y, z = points[index]
        place = bisect.bisect_right(seconds, y)
        if place and thirds[place - 1] <= z:
            continue
        begin = place - 1 if place and seconds[place - 1] == y else place
        end = place
        while end < len(seconds) and thirds[end] >= z:
            end += 1
        seconds[begin:end] = [y]
        thirds[begin:end] = [z]
        kept.append(index)
    return np.array(kept, dtype=np.int64)
