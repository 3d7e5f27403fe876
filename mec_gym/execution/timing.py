"""How long the layers of a network take here, and what comes on top when it is executed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile import profile
from mec_gym.execution.network import Network

REPEATS = 25
"""How often each layer is timed, if nobody asks for another number."""
_PAUSE_S = 0.003  # between two repeats: a half that is executed has not just run either
_HALVES = 9


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LayerTimes:
    """The times of a network on one machine; a half takes those of its layers, and a little more.

    Attributes:
        graph: The network, with the measured time of every layer.
        half_s: What a half takes beyond its layers, s.
    """

    graph: LayerGraph
    half_s: float = 0.0

    def half(self, exit_: int, runs: BoolArray) -> float:
        """The time of the half that runs some layers of an exit, (V,), s."""
        return float(self.graph.at_exit(exit_).measured_seconds[runs].sum()) + self.half_s

    def to_tensor(self) -> torch.Tensor:
        """All numbers, for the way over the wire."""
        seconds = self.graph.measured_seconds
        return torch.tensor([self.half_s, *seconds], dtype=torch.float64)

    @classmethod
    def from_tensor(cls, numbers: torch.Tensor, graph: LayerGraph) -> LayerTimes:
        """Read what :meth:`to_tensor` wrote.

        Args:
            numbers: What it wrote.
            graph: The network, with or without times.

        Raises:
            ValueError: These are no times of this network.
        """
        if numbers.shape != (len(graph) + 1,) or not ((numbers >= 0) & numbers.isfinite()).all():
            raise ValueError(
                f"times must be {len(graph) + 1} numbers of at least 0, got {tuple(numbers.shape)}"
            )
        half_s, *seconds = numbers.tolist()
        return cls(graph=with_seconds(graph, np.array(seconds)), half_s=half_s)


def with_seconds(graph: LayerGraph, seconds: FloatArray) -> LayerGraph:
    """Return a graph whose layers take so long, (V,) s."""
    layers = tuple(
        replace(layer, seconds=float(taken))
        for layer, taken in zip(graph.layers, seconds, strict=True)
    )
    return replace(graph, layers=layers)


def measure_layers(network: Network, repeats: int = REPEATS) -> LayerTimes:
    """Measure the layers of a network on this machine, in CPU time of one thread.

    Args:
        network: The network.
        repeats: How often each layer is timed; its time is the median.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether repeats scatter is seen in the comparison
        graph = profile(network.module, network.inputs, "cpu", network.split.graph.name, repeats)
    return LayerTimes(graph=graph, half_s=half_seconds(network))


def half_seconds(network: Network) -> float:
    """Measure what a half takes beyond its layers, s."""
    # The device's half of a partition that leaves all layers to the edge is nothing else.
    graph = network.split.graph
    on_edge = np.arange(len(graph.at_exit(len(graph.exits) - 1))) > 0
    halves = network.split.split(on_edge)
    return cpu_median(lambda: halves.front(network.inputs))


def cpu_median(work: Callable[[], object], repeats: int = _HALVES) -> float:
    """The median CPU time of some work of this thread, s."""
    found = []
    for _ in range(repeats + 1):
        time.sleep(_PAUSE_S)
        begin = time.thread_time()
        work()
        found.append(time.thread_time() - begin)
    return median(found[1:])
