"""The table of partitions of a network: built once, then every slot is a lookup."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.dnn.devices import Device, Measured
from mec_gym.dnn.graph import LayerGraph
from mec_gym.early_exit.cuts import CutGraph, heavy_milp
from mec_gym.early_exit.partitions import LIMIT, enumerate_partitions, pareto, price

_GRID = 64  # bandwidths at which the optima are always among the candidates
_MILP_GRID = 8  # the same where each costs a MILP


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """Partitions of one exit that no other is as good as in all three numbers.

    Whatever grows with device work, bits and edge work has its optimum among them, so
    long as ``whole`` holds; otherwise those are the light-load optima over the range of
    bandwidths, and the heavy-load optima at some of them.
    """

    graph: LayerGraph  # of this exit, V layers
    on_edge: BoolArray  # (F, V), ordered by device work
    cost: FloatArray  # (F, 3): device work s, bits to send, edge work s, at nominal speed
    count: int  # valid partitions there are; 0 if too many to enumerate
    whole: bool  # whether all of them were looked at


@dataclass(frozen=True, slots=True, eq=False)
class PartitionTable:
    """Fronts of all exits, and the K candidates of each that an agent chooses among.

    An exit with fewer repeats its last one.
    """

    fronts: tuple[Front, ...]  # one an exit, N
    chosen: IntArray  # (N, K) index into the exit's front, ordered by device work
    cost: FloatArray  # (N, K, 3): device work s, bits to send, edge work s
    sizes: IntArray  # (N,) candidates that differ

    def candidates(self, exit_index: int) -> FloatArray:
        """Costs of the candidates of one exit, without repetition, (sizes[exit], 3)."""
        return np.asarray(self.cost[exit_index, : self.sizes[exit_index]])


def front(
    graph: LayerGraph,
    device_s: FloatArray,
    edge_s: FloatArray,
    bandwidth: tuple[float, float],
    limit: int = LIMIT,
) -> Front:
    """The Pareto front of a network with one exit.

    Args:
        graph: V layers, one exit.
        device_s: (V,) s.
        edge_s: (V,) s.
        bandwidth: Range of B, bit/s; used only beyond the limit.
        limit: Partitions that are enumerated at the most. Beyond it: min cut and MILP.
    """
    on_edge = enumerate_partitions(graph, limit)
    whole = on_edge is not None
    count = 0 if on_edge is None else len(on_edge)
    if on_edge is None:
        slowest, fastest = bandwidth
        grid = np.geomspace(slowest, fastest, _MILP_GRID)
        on_edge = np.concatenate(
            [
                CutGraph(graph, device_s, edge_s).light_optima(slowest, fastest),
                *[heavy_milp(graph, device_s, edge_s, 1.0 / b)[None] for b in grid],
            ]
        )
    cost = price(graph, on_edge, device_s, edge_s)
    kept = pareto(cost)
    return Front(graph, on_edge[kept], cost[kept], count, whole)


def choose_candidates(cost: FloatArray, bandwidth: tuple[float, float], most: int) -> IntArray:
    """At most so many of a front (F, 3), in its order.

    All of a small front; of a large one those that are best for light or for heavy load at
    one of 64 bandwidths of the range and nominal speed, and evenly spaced others.

    Raises:
        ValueError: ``most`` is too small for these optima.
    """
    if len(cost) <= most:
        return np.arange(len(cost))
    grid = np.geomspace(*bandwidth, _GRID)
    stages = np.stack(np.broadcast_arrays(cost[:, 0], cost[:, 1] / grid[:, None], cost[:, 2]))
    needed = np.union1d(stages.sum(axis=0).argmin(axis=1), stages.max(axis=0).argmin(axis=1))
    if len(needed) > most:
        raise ValueError(
            f"candidates must be at least {len(needed)} to hold the optima over the range of "
            f"bandwidths, got {most}"
        )
    others = np.setdiff1d(np.arange(len(cost)), needed)
    spaced = np.linspace(0, len(others) - 1, most - len(needed)).round().astype(np.int64)
    return np.union1d(needed, others[spaced])


@lru_cache(maxsize=64)
def partition_table(
    graph: LayerGraph,
    device: Device | Measured,
    edge: Device | Measured,
    bandwidth: tuple[float, float],
    most: int,
    limit: int = LIMIT,
) -> PartitionTable:
    """The table of a network on two devices.

    Args:
        graph: With N exits.
        device: Runs the layers before the cut.
        edge: Runs the rest.
        bandwidth: Smallest and largest B, bit/s.
        most: Candidates an exit, at the most.
        limit: Partitions that are enumerated an exit, at the most.

    Raises:
        ValueError: Layers that cannot be priced, or ``most`` too small.
    """
    fronts = []
    for index in range(len(graph.exits)):
        part = graph.at_exit(index)
        fronts.append(
            front(part, device.layer_seconds(part), edge.layer_seconds(part), bandwidth, limit)
        )
    picked = [choose_candidates(f.cost, bandwidth, most) for f in fronts]
    sizes = np.array([len(p) for p in picked])
    padded = np.stack([np.pad(p, (0, sizes.max() - len(p)), mode="edge") for p in picked])
    cost = np.stack([f.cost[p] for f, p in zip(fronts, padded, strict=True)])
    return PartitionTable(tuple(fronts), padded, cost, sizes)
