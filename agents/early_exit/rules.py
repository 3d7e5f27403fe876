"""Rules for early exit that look at one frame: fixed cuts, Neurosurgeon, exact optima."""

from __future__ import annotations

from typing import Literal

import numpy as np

from agents.protocol import Solution
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.dnn.graph import LayerGraph
from mec_gym.early_exit.exact import slot_optimum
from mec_gym.early_exit.lookup import Lookup
from mec_gym.early_exit.model import Decision, State
from mec_gym.early_exit.partitions import price
from mec_gym.early_exit.scenario import Scenario, Slot

Load = Literal["light", "heavy"]


def nearest_candidate(scenario: Scenario, exit_index: int, cost: FloatArray) -> IntArray:
    """The candidates that come nearest to partitions of one exit, (...).

    Candidates hold every partition worth having of a small network, so that the nearest
    one is the partition itself or costs the same; of a large network they are thinned.

    Args:
        scenario: The parameters.
        exit_index: Of the exit.
        cost: Of the partitions, (..., 3).
    """
    known = scenario.table.candidates(exit_index)
    largest = known.max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)
    distance = np.abs(cost[..., None, :] - known) / unit
    return np.asarray(distance.max(axis=-1).argmin(axis=-1))


class FixedCutSolver:
    """The deepest exit, everything on one side: device-only or edge-only.

    Args:
        scenario: The parameters.
        on_edge: Send each frame as it is.
    """

    def __init__(self, scenario: Scenario, on_edge: bool) -> None:
        self.exit = scenario.exits - 1
        front = scenario.table.fronts[-1]
        layers = np.zeros(len(front.graph), dtype=np.bool_)
        layers[1:] = on_edge
        times = [d.layer_seconds(front.graph) for d in (scenario.device, scenario.edge)]
        cost = price(front.graph, layers, *times)
        self.partition = int(nearest_candidate(scenario, self.exit, cost))

    def solve(self, slot: Slot, state: State) -> Solution:
        """The same decision for every instance."""
        shape = np.shape(slot.bandwidth)
        return Solution(Decision(np.full(shape, self.exit), np.full(shape, self.partition)), 0)


class ExactLoadSolver:
    """The deepest exit, cut where the sum (light load) or the slowest stage (heavy) is least.

    Args:
        scenario: The parameters.
        load: Which of seed 001's two objectives.
    """

    def __init__(self, scenario: Scenario, load: Load) -> None:
        self.exit = scenario.exits - 1
        self.lookup = Lookup(scenario.table.candidates(self.exit))
        self.load = load

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...); queues are not looked at."""
        choice, _ = self.lookup.light(slot) if self.load == "light" else self.lookup.heavy(slot)
        return Solution(Decision(np.full_like(choice, self.exit), choice), len(self.lookup.cost))


def prefix_costs(graph: LayerGraph, device_s: FloatArray, edge_s: FloatArray) -> FloatArray:
    """Costs of cutting after each layer in topological order, all crossing tensors, (V, 3)."""
    count = len(graph)
    on_edge = np.arange(count) > np.arange(count)[:, None]
    return price(graph, on_edge, device_s, edge_s)


class NeurosurgeonSolver:
    """Neurosurgeon (Kang et al., ASPLOS 2017): one cut in the order of the layers, no exits.

    It was made for chains. On a graph the layers are taken in topological order, and every
    tensor that crosses the cut is charged. Objective: Td + Tt + Te.

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
        return Solution(Decision(np.full_like(choice, self.exit), choice), len(self.candidate))


class SlotOptimumSolver:
    """The exit and partition that earn most for the frame at hand, waiting included.

    Exact, and blind to the frames to come.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...)."""
        decision, _ = slot_optimum(slot, state, self.scenario)
        return Solution(decision, int(self.scenario.table.sizes.sum()))
