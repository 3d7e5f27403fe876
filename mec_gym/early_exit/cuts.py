"""Optimal partitions without enumeration: a min cut for light load, a MILP for heavy load."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.dnn.graph import LayerGraph
from mec_gym.early_exit.partitions import partition_cost

# Finite capacities sum up to this after scaling, so that float64 keeps them apart and int64
# holds any flow.
_RESOLUTION = 2.0**52
_INFINITE = 1 << 60
# The scale of the stage times in the MILP, whose solver's tolerances are about 1e-6.
_UNITS = 1e3


class CutGraph:
    """The s-t graph whose minimum cut is the best partition, [Ding2025] alg. 1.

    The source is the device and the sink is the edge; a layer on the sink's side runs on the
    edge. With the weights (alpha, beta, gamma) of device, link and edge, these are the arcs:

    * source -> v costs gamma te[v], and v -> sink costs alpha td[v].
    * If u is the only reader of v, v -> u costs beta d[v] / B. If v has several readers, an
      auxiliary node v' comes between: v -> v' costs beta d[v] / B and v' -> each reader is
      infinite, so a tensor is paid for once.
    * source -> input is infinite, because the input is on the device. For every link v -> u
      the arc u -> v is infinite, because nothing comes back.

    The arcs against the links are missing from the published construction. Without them 30 of
    300 random graphs with a uniformly faster edge gave a partition that is not valid.

    Args:
        graph: V layers, one exit.
        device_s: The time td of every layer on the device, (V,) s.
        edge_s: The time te of every layer on the edge, (V,) s.
    """

    def __init__(self, graph: LayerGraph, device_s: FloatArray, edge_s: FloatArray) -> None:
        self.graph = graph
        self.device_s = np.asarray(device_s, dtype=np.float64)
        self.edge_s = np.asarray(edge_s, dtype=np.float64)
        count = len(graph)
        self._source, self._sink = count, count + 1
        layers = np.arange(count)
        paid, free = [], []
        auxiliary = count + 2
        for v, readers in enumerate(graph.successors):
            if len(readers) == 1:
                paid.append((v, readers[0]))
            elif readers:
                paid.append((v, auxiliary))
                free += [(auxiliary, u) for u in readers]
                auxiliary += 1
        free += [(u, v) for v, u in graph.links]
        free.append((self._source, 0))
        self._paid = np.array([v for v, _ in paid], dtype=np.int64)
        self._tails = np.concatenate(
            [np.full(count, self._source), layers, [a for a, _ in paid], [a for a, _ in free]]
        ).astype(np.int32)
        self._heads = np.concatenate(
            [layers, np.full(count, self._sink), [b for _, b in paid], [b for _, b in free]]
        ).astype(np.int32)
        self._free = np.full(len(free), _INFINITE)
        self._in_order = _in_order(graph)
        self._known = partition_cost(graph, self._in_order, self.device_s, self.edge_s)

    def solve(
        self, seconds_per_bit: float, weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ) -> BoolArray:
        """The partition that minimises alpha Td + beta Tt + gamma Te, ``on_edge`` (V,).

        Capacities are scaled to whole numbers, because max-flow on floats can go wrong
        (networkx issues 4592 and 4972). The value of the cut is therefore rounded; use
        :func:`~mec_gym.early_exit.partitions.partition_cost` of the partition instead.

        Args:
            seconds_per_bit: 1 / B.
            weights: alpha, beta and gamma; none may be negative.
        """
        from ortools.graph.python import max_flow

        alpha, beta, gamma = weights
        known = self._known @ np.array([alpha, beta * seconds_per_bit, gamma])
        best = int(np.argmin(known))
        if known[best] == 0:
            return np.array(self._in_order[best])
        finite = np.concatenate(
            [
                gamma * self.edge_s,
                alpha * self.device_s,
                beta * seconds_per_bit * self.graph.output_bits[self._paid],
            ]
        )
        # An arc dearer than a partition we know is in no minimum cut, however dear it is.
        finite = np.minimum(finite, 2.0 * known[best])
        scale = _RESOLUTION / float(finite.sum())
        capacities = np.concatenate([np.rint(finite * scale).astype(np.int64), self._free])
        flow = max_flow.SimpleMaxFlow()
        flow.add_arcs_with_capacity(self._tails, self._heads, capacities)
        status = flow.solve(self._source, self._sink)
        assert status == flow.OPTIMAL, status
        on_edge = np.ones(len(self.graph), dtype=np.bool_)
        side = np.array(flow.get_source_side_min_cut())
        on_edge[side[side < len(self.graph)]] = False
        return on_edge

    def light_optima(self, slowest: float, fastest: float) -> BoolArray:
        """Every partition that is best for light load at some bandwidth in a range, (P, V).

        The least Td + Te + bits / B is concave and piecewise linear in 1 / B. So the two ends
        are solved first, then the crossing of their lines, and so on (Eisner and Severance,
        1976).

        Args:
            slowest: The smallest B, bit/s.
            fastest: The largest B, bit/s.
        """
        found: dict[bytes, BoolArray] = {}

        def line(seconds_per_bit: float) -> tuple[float, float]:
            on_edge = self.solve(seconds_per_bit)
            found[on_edge.tobytes()] = on_edge
            device, bits, edge = partition_cost(self.graph, on_edge, self.device_s, self.edge_s)
            return float(device + edge), float(bits)

        waiting = [(line(1.0 / fastest), line(1.0 / slowest))]
        while waiting:
            (work_a, bits_a), (work_b, bits_b) = waiting.pop()
            if bits_a <= bits_b:
                continue
            crossing = (work_b - work_a) / (bits_a - bits_b)
            between = line(crossing)
            value = work_a + bits_a * crossing
            if between[0] + between[1] * crossing < value * (1.0 - 1e-12):
                waiting += [((work_a, bits_a), between), (between, (work_b, bits_b))]
        return np.stack(list(found.values()))


def _in_order(graph: LayerGraph) -> BoolArray:
    """The V partitions that cut the list of layers; valid, since its order is topological."""
    return ~np.tri(len(graph), dtype=np.bool_)


def heavy_milp(
    graph: LayerGraph, device_s: FloatArray, edge_s: FloatArray, seconds_per_bit: float
) -> BoolArray:
    """The partition whose slowest stage is fastest, min max(Td, Tt, Te), ``on_edge`` (V,).

    This is a mixed-integer linear program that HiGHS solves: x[v] is 1 on the edge, y[v] is at
    least x[u] - x[v] for each reader u of v, and the stage time is at least each of the three
    sums. The answer is exact to about one part in 10^7, the solver's tolerance.

    Args:
        graph: V layers, one exit.
        device_s: The time of every layer on the device, (V,) s.
        edge_s: The time of every layer on the edge, (V,) s.
        seconds_per_bit: 1 / B.

    Raises:
        RuntimeError: The solver gave up.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import lil_array

    def slowest(on_edge: BoolArray) -> FloatArray:
        stages = partition_cost(graph, on_edge, device_s, edge_s) * [1.0, seconds_per_bit, 1.0]
        return np.asarray(stages.max(axis=-1))

    known = _in_order(graph)
    best = known[int(np.argmin(slowest(known)))]
    # Stage times are scaled by the best that is known, so that the solver's tolerances mean
    # something; a layer that alone takes longer is not in the optimum, however long it takes.
    unit = float(slowest(best)) / _UNITS
    if unit == 0:
        return np.array(best)
    device, edge, link = (
        np.minimum(np.asarray(cost) / unit, 2.0 * _UNITS)
        for cost in (device_s, edge_s, graph.output_bits * seconds_per_bit)
    )
    count = len(graph)
    x, y, stage = 0, count, 2 * count
    rows = lil_array((3 + 2 * len(graph.links), 2 * count + 1))
    low = np.zeros(rows.shape[0])
    rows[0, x : x + count] = device
    rows[1, y : y + count] = -link
    rows[2, x : x + count] = -edge
    rows[:3, [stage]] = 1.0
    low[0] = device.sum()
    for k, (v, u) in enumerate(graph.links):
        come_back, crosses = 3 + 2 * k, 4 + 2 * k
        rows[come_back, x + u], rows[come_back, x + v] = 1.0, -1.0
        rows[crosses, y + v], rows[crosses, x + u], rows[crosses, x + v] = 1.0, -1.0, 1.0
    upper = np.concatenate([np.ones(2 * count), [np.inf]])
    upper[x] = 0.0
    answer = milp(
        np.concatenate([np.zeros(2 * count), [1.0]]),
        constraints=LinearConstraint(rows.tocsr(), low, np.inf),
        integrality=np.concatenate([np.ones(count), np.zeros(count + 1)]),
        bounds=Bounds(0.0, upper),
        options={"mip_rel_gap": 0.0},
    )
    if answer.x is None:
        raise RuntimeError(f"no partition of {graph.name}: {answer.message}")
    found = np.asarray(answer.x[:count] > 0.5)
    return found if slowest(found) <= slowest(best) else np.array(best)
