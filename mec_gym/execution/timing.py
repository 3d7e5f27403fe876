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
PAUSES_S = (0.0, 0.003, 0.01)
"""What is done once per frame is timed after idle times of so many seconds."""
_ONCE = 9  # how often it is timed after each of them


@dataclass(frozen=True, slots=True)
class AfterIdle:
    """How long something takes that is done once per frame, by how long nothing was done before.

    A process that has slept finds its code and data out of the caches, so a message of a quarter
    of a millisecond takes three times as long after 10 ms of idling, and no longer after more.
    The layers hardly feel it, because the first of them bring back what the others need.

    Attributes:
        seconds: The times after the idle times of ``PAUSES_S``, s.
    """

    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.seconds) != len(PAUSES_S):
            raise ValueError(f"seconds must hold {len(PAUSES_S)} times, got {self.seconds}")

    def __call__(self, idle_s: float) -> float:
        """The time after an idle time, between those that were measured on a line, s."""
        return float(np.interp(idle_s, PAUSES_S, self.seconds))


NO_TIME = AfterIdle((0.0,) * len(PAUSES_S))


def after_idle(measure: Callable[[], float], repeats: int = _ONCE) -> AfterIdle:
    """Measure how long something takes after idle times, and take the medians.

    Args:
        measure: Does it once and returns how long it took, s.
        repeats: How often it is done after each idle time.
    """
    measure()  # what is done only the first time
    found: tuple[list[float], ...] = tuple([] for _ in PAUSES_S)
    for _ in range(repeats):
        for pause, times in zip(PAUSES_S, found, strict=True):
            measure()
            time.sleep(pause)
            times.append(measure())
    return AfterIdle(tuple(median(times) for times in found))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LayerTimes:
    """The times of a network on one machine; a half takes those of its layers, and a little more.

    Attributes:
        graph: The network, with the measured time of every layer.
        half_s: What a half takes beyond its layers.
    """

    graph: LayerGraph
    half_s: AfterIdle

    def half(self, exit_: int, runs: BoolArray, idle_s: float) -> float:
        """The time of the half that runs some layers of an exit, (V,), after an idle time, s."""
        layers = self.graph.at_exit(exit_).measured_seconds[runs]
        return float(layers.sum()) + self.half_s(idle_s)

    def to_tensor(self) -> torch.Tensor:
        """All numbers, for the way over the wire."""
        seconds = self.graph.measured_seconds
        return torch.tensor([*self.half_s.seconds, *seconds], dtype=torch.float64)

    @classmethod
    def from_tensor(cls, numbers: torch.Tensor, graph: LayerGraph) -> LayerTimes:
        """Read what :meth:`to_tensor` wrote.

        Args:
            numbers: What it wrote.
            graph: The network, with or without times.

        Raises:
            ValueError: These are no times of this network.
        """
        count = len(PAUSES_S)
        wanted = count + len(graph)
        if numbers.shape != (wanted,) or not ((numbers >= 0) & numbers.isfinite()).all():
            raise ValueError(
                f"times must be {wanted} numbers of at least 0, got {tuple(numbers.shape)}"
            )
        half_s, seconds = tuple(numbers[:count].tolist()), numbers[count:].numpy()
        return cls(graph=with_seconds(graph, seconds), half_s=AfterIdle(half_s))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Times:
    """The times of both sides, without their factors.

    Attributes:
        device: Those of the device.
        edge: Those of the edge.
        source: Where they come from, in words.
    """

    device: LayerTimes
    edge: LayerTimes
    source: str


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


def half_seconds(network: Network) -> AfterIdle:
    """Measure what a half takes beyond its layers."""
    half = empty_half(network)
    return after_idle(lambda: cpu_seconds(half))


def beside_half(network: Network, work: Callable[[], object]) -> AfterIdle:
    """Measure what some work takes that comes right after a half, which has woken the process."""
    half = empty_half(network)

    def measure() -> float:
        half()
        return cpu_seconds(work)

    return after_idle(measure)


def empty_half(network: Network) -> Callable[[], object]:
    """Return what a half does beyond its layers."""
    # The device's half of a partition that leaves all layers to the edge is nothing else.
    graph = network.split.graph
    on_edge = np.arange(len(graph.at_exit(len(graph.exits) - 1))) > 0
    halves = network.split.split(on_edge)
    return lambda: halves.front(network.inputs)


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of some work of this thread, s."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin
