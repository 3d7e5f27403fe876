"""Rules for early exit that look at one frame: fixed cuts, Neurosurgeon and exact optima."""

from __future__ import annotations

from typing import Literal

import numpy as np

from agents.protocol import Solution
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.dnn.graph import LayerGraph
from mec_gym.early_exit.exact import slot_optimum
from mec_gym.early_exit.lookup import Lookup
from mec_gym.early_exit.model import Decision, State
from mec_gym.early_exit.partitions import partition_cost
from mec_gym.early_exit.scenario import Scenario, Slot

Load = Literal["light", "heavy"]


def nearest_candidate(scenario: Scenario, exit_index: int, cost: FloatArray) -> IntArray:
    """The candidates that come nearest to partitions of one exit, as indices (...).

    The candidates of a small network hold every partition worth having, so the nearest one is
    the partition itself or costs the same. The candidates of a large network are thinned.

    Args:
        scenario: The parameters.
        exit_index: The index of the exit.
        cost: The costs of the partitions, (..., 3).
    """
    known = scenario.table.candidates(exit_index)
    largest = known.max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    distance = np.abs(cost[..., None, :] - known) / unit
    return np.asarray(distance.max(axis=-1).argmin(axis=-1))


class FixedCutSolver:
    """The deepest exit, with everything on one side.

    Args:
        scenario: The parameters.
        on_edge: Whether each frame is sent to the edge as it is, or stays on the device.
    """

    def __init__(self, scenario: Scenario, on_edge: bool) -> None:
        self.exit = scenario.exits - 1
        front = scenario.table.fronts[-1]
        layers = np.zeros(len(front.graph), dtype=np.bool_)
        layers[1:] = on_edge
        times = [d.layer_seconds(front.graph) for d in (scenario.device, scenario.edge)]
        cost = partition_cost(front.graph, layers, *times)
        self.partition = int(nearest_candidate(scenario, self.exit, cost))

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...): the decision is the same for every instance."""
        shape = np.shape(slot.bandwidth)
        decision = Decision(
            exit=np.full(shape, self.exit), partition=np.full(shape, self.partition)
        )
        return Solution(decision, 0)


class ExactLoadSolver:
    """The deepest exit, cut where the sum (light load) or the slowest stage (heavy) is least.

    Args:
        scenario: The parameters.
        load: Which of the two objectives of [Ding2025] is minimised.
    """

    def __init__(self, scenario: Scenario, load: Load) -> None:
        self.exit = scenario.exits - 1
        self.lookup = Lookup(scenario.table.candidates(self.exit))
        self.load = load

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...); queues are not looked at."""
        choice, _ = self.lookup.light(slot) if self.load == "light" else self.lookup.heavy(slot)
        decision = Decision(exit=np.full_like(choice, self.exit), partition=choice)
        return Solution(decision, len(self.lookup.cost))


def prefix_costs(graph: LayerGraph, device_s: FloatArray, edge_s: FloatArray) -> FloatArray:
    """What it costs to cut after each layer in topological order, with all crossing tensors.

    Args:
        graph: V layers, one exit.
        device_s: The time of every layer on the device, (V,) s.
        edge_s: The time of every layer on the edge, (V,) s.

    Returns:
        Device work (s), bits to send and edge work (s) of each cut, (V, 3).
    """
    count = len(graph)
    on_edge = np.arange(count) > np.arange(count)[:, None]
    return partition_cost(graph, on_edge, device_s, edge_s)


class NeurosurgeonSolver:
    """Neurosurgeon, [Kang2017]: one cut in the order of the layers, at the deepest exit.

    It was made for chains. On a graph the layers are taken in topological order, and every
    tensor that crosses the cut is charged. It minimises Td + Tt + Te.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.exit = scenario.exits - 1
        graph = scenario.table.fronts[-1].graph
        times = [d.layer_seconds(graph) for d in (scenario.device, scenario.edge)]
        self.lookup = Lookup(prefix_costs(graph, *times))
        self.candidate = nearest_candidate(scenario, self.exit, self.lookup.cost)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        cut, _ = self.lookup.light(slot)
        choice = self.candidate[cut]
        decision = Decision(exit=np.full_like(choice, self.exit), partition=choice)
        return Solution(decision, len(self.candidate))


class SlotOptimumSolver:
    """The exit and partition that earn most for the frame at hand, waiting included.

    The decision is exact, and blind to the frames to come.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        decision, _ = slot_optimum(slot, state, self.scenario)
        return Solution(decision, int(self.scenario.table.sizes.sum()))
