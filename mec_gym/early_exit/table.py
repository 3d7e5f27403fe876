"""The table of a network's partitions. It is built once; then every slot is a lookup."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.dnn.devices import AnyDevice
from mec_gym.dnn.graph import LayerGraph
from mec_gym.early_exit.cuts import CutGraph, heavy_milp
from mec_gym.early_exit.optima import Rates, heavy_optima, light_optima
from mec_gym.early_exit.partitions import LIMIT, enumerate_partitions, pareto, partition_cost

_MILP_GRID = 8  # the same where each bandwidth costs a MILP


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Front:
    """The F partitions of one exit that no other is as good as in all three numbers.

    If ``whole`` holds, every objective that grows with device work, bits and edge work has its
    optimum among them. Otherwise they are the light-load optima over the range of bandwidths
    and the heavy-load optima at some of them.
    """

    graph: LayerGraph  # what this exit needs of the network, V layers
    on_edge: BoolArray  # (F, V), ordered by device work
    cost: FloatArray  # (F, 3): device work s, bits to send, edge work s, at nominal speed
    count: int  # the number of valid partitions; 0 if there are too many to enumerate
    whole: bool  # whether all valid partitions were looked at


@dataclass(frozen=True, eq=False, kw_only=True)
class PartitionTable:
    """The fronts of all N exits, and K candidates per exit that an agent chooses among.

    An exit with fewer candidates repeats its last one.
    """

    fronts: tuple[Front, ...]  # one per exit, N
    chosen: IntArray  # (N, K) index into the exit's front, ordered by device work
    cost: FloatArray  # (N, K, 3): device work s, bits to send, edge work s
    sizes: IntArray  # (N,) the number of candidates that differ

    @cached_property
    def edge_work_is_sent(self) -> bool:
        """Whether all work of candidates on the edge server follows a transfer of bits."""
        return bool((self.cost[self.cost[..., 2] > 0][:, 1] > 0).all())

    def candidates(self, exit_index: int) -> FloatArray:
        """The costs of one exit's candidates, without repetition, (sizes[exit_index], 3)."""
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
        device_s: The time of every layer on the device, (V,) s.
        edge_s: The time of every layer on the edge, (V,) s.
        bandwidth: The smallest and the largest B, bit/s; it matters only beyond the limit.
        limit: The largest number of partitions that is enumerated. If there are more, min cuts
            and MILPs find those that are worth having.
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
    cost = partition_cost(graph, on_edge, device_s, edge_s)
    kept = pareto(cost)
    return Front(graph=graph, on_edge=on_edge[kept], cost=cost[kept], count=count, whole=whole)


def choose_candidates(cost: FloatArray, rates: Rates, most: int) -> IntArray:
    """The partitions of a front that become candidates, as indices in the front's order.

    All partitions of a small front are candidates. Of a large front they are those that are
    best for heavy load or for light load at rates that occur (:mod:`mec_gym.early_exit.optima`),
    and evenly spaced others.

    Args:
        cost: The costs of a front, (F, 3).
        rates: The ranges of the rates.
        most: The largest number of candidates.

    Raises:
        ValueError: ``most`` is too small to hold these optima.
    """
    if len(cost) <= most:
        return np.arange(len(cost))
    needed = np.union1d(light_optima(cost, rates), heavy_optima(cost, rates))
    if len(needed) > most:
        raise ValueError(
            f"candidates must be at least {len(needed)} to hold the optima over the range of "
            f"rates, got {most}"
        )
    others = np.setdiff1d(np.arange(len(cost)), needed)
    spaced = np.linspace(0, len(others) - 1, most - len(needed)).round().astype(np.int64)
    return np.union1d(needed, others[spaced])


@lru_cache(maxsize=64)
def partition_table(
    graph: LayerGraph,
    device: AnyDevice,
    edge: AnyDevice,
    rates: Rates,
    most: int,
    limit: int = LIMIT,
) -> PartitionTable:
    """The table of a network on two devices.

    Args:
        graph: A network with N exits.
        device: The device, which runs the layers before the cut.
        edge: The edge server, which runs the rest.
        rates: The ranges of the rates.
        most: The largest number of candidates per exit.
        limit: The largest number of partitions per exit that is enumerated.

    Raises:
        ValueError: The time of a layer is not known, or ``most`` is too small.
    """
    fronts = []
    for index in range(len(graph.exits)):
        part = graph.at_exit(index)
        fronts.append(
            front(part, device.layer_seconds(part), edge.layer_seconds(part), rates[1], limit)
        )
    picked = [choose_candidates(f.cost, rates, most) for f in fronts]
    sizes = np.array([len(p) for p in picked])
    padded = np.stack([np.pad(p, (0, sizes.max() - len(p)), mode="edge") for p in picked])
    cost = np.stack([f.cost[p] for f, p in zip(fronts, padded, strict=True)])
    return PartitionTable(fronts=tuple(fronts), chosen=padded, cost=cost, sizes=sizes)
