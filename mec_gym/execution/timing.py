"""How long the layers of a network take here, and what comes on top when it is executed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile import profile
from mec_gym.execution.network import Network

REPEATS = 25
"""How often each layer is timed, if nobody asks for another number."""
PAUSES_S = (0.0, 0.01, 0.1)
"""What is done once per frame is timed after idle times of so many seconds."""
PROBES = 7
"""How often messages are timed after each of them."""
_CUTS = (0.3, 0.6, 1.0)  # the halves that are timed run so large a share of the layers


@dataclass(frozen=True, slots=True)
class AfterIdle:
    """How long something takes that is done once per frame, by how long nothing was done before.

    A process that has slept finds its code and data out of the caches, and what they are needed
    for takes longer until they are back.

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


class IdleTimer:
    """Measures how long things take after idle times.

    They are done in turn, so that each comes after another one, as frames with changing
    partitions do. A slow spell of the machine hits a few repeats of all of them.

    Args:
        measures: Each does one of them once and returns how long it took, s.
    """

    def __init__(self, measures: Sequence[Callable[[], float]]) -> None:
        self._measures = measures
        self._rounds: list[list[list[float]]] = []
        for measure in measures:
            measure()  # what is done only the first time

    def run(self) -> None:
        """Measure everything once after each of the idle times."""
        found: list[list[float]] = []
        for pause in PAUSES_S:
            found.append([])
            for measure in self._measures:
                time.sleep(pause)
                found[-1].append(measure())
        self._rounds.append(found)

    def times(self) -> list[AfterIdle]:
        """The medians, one per thing that is measured."""
        return [AfterIdle(tuple(times)) for times in np.median(self._rounds, axis=0).T.tolist()]


def after_idle(measure: Callable[[], float], repeats: int) -> AfterIdle:
    """Measure how long something takes after idle times, and take the medians.

    Args:
        measure: Does it once and returns how long it took, s.
        repeats: How often it is done after each idle time.
    """
    timer = IdleTimer([measure])
    for _ in range(repeats):
        timer.run()
    return timer.times()[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfTimes:
    """How long a half takes, by how long nothing was done before.

    The first layers after a pause bring back what all layers need, so most of what a half takes
    beyond its layers does not depend on which they are.

    Attributes:
        empty: What a half without layers takes.
        fixed: What any other half takes beyond its layers.
        scale: By which factor layers take longer than they did when they were timed one by one,
            which takes a little itself.
    """

    empty: AfterIdle
    fixed: AfterIdle
    scale: AfterIdle

    def __call__(self, layers: FloatArray, idle_s: float) -> float:
        """The time of a half after an idle time, s.

        Args:
            layers: The times of its layers, s.
            idle_s: The idle time, s.
        """
        if not len(layers):
            return self.empty(idle_s)
        return max(self.fixed(idle_s) + self.scale(idle_s) * float(layers.sum()), 0.0)

    def to_list(self) -> list[float]:
        """All numbers, in the order of the attributes."""
        return [*self.empty.seconds, *self.fixed.seconds, *self.scale.seconds]

    @classmethod
    def from_list(cls, numbers: Sequence[float]) -> HalfTimes:
        """Read what :meth:`to_list` wrote."""
        empty, fixed, scale = np.reshape(numbers, (3, len(PAUSES_S))).tolist()
        return cls(
            empty=AfterIdle(tuple(empty)),
            fixed=AfterIdle(tuple(fixed)),
            scale=AfterIdle(tuple(scale)),
        )


LAYERS_ONLY = HalfTimes(empty=NO_TIME, fixed=NO_TIME, scale=AfterIdle((1.0,) * len(PAUSES_S)))
"""A half takes what its layers take."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LayerTimes:
    """The times of a network on one machine; a half takes those of its layers, and a little more.

    Attributes:
        graph: The network, with the measured time of every layer.
        half_s: What a half takes, whose layers take so long.
    """

    graph: LayerGraph
    half_s: HalfTimes

    def half(self, exit_: int, runs: BoolArray, idle_s: float) -> float:
        """The time of the half that runs some layers of an exit, (V,), after an idle time, s."""
        layers = self.graph.at_exit(exit_).measured_seconds[runs]
        return self.half_s(layers[int(runs[0]) :], idle_s)  # the input is no layer

    def to_tensor(self) -> torch.Tensor:
        """All numbers, for the way over the wire."""
        seconds = self.graph.measured_seconds
        return torch.tensor([*self.half_s.to_list(), *seconds], dtype=torch.float64)

    @classmethod
    def from_tensor(cls, numbers: torch.Tensor, graph: LayerGraph) -> LayerTimes:
        """Read what :meth:`to_tensor` wrote.

        Args:
            numbers: What it wrote.
            graph: The network, with or without times.

        Raises:
            ValueError: These are no times of this network.
        """
        count = len(LAYERS_ONLY.to_list())
        wanted = count + len(graph)
        if (
            numbers.shape != (wanted,)
            or not numbers.isfinite().all()
            or (numbers[count:] < 0).any()
        ):
            raise ValueError(
                f"times must be {wanted} finite numbers, those of layers at least 0, got "
                f"{tuple(numbers.shape)}"
            )
        half_s = HalfTimes.from_list(numbers[:count].tolist())
        return cls(graph=with_seconds(graph, numbers[count:].numpy()), half_s=half_s)


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
    """Measure the layers and the halves of a network on this machine, in CPU time of one thread.

    Args:
        network: The network.
        repeats: How often each layer is timed; its time is the median.
    """
    exit_ = len(network.split.graph.exits) - 1
    last = len(network.split.graph.at_exit(exit_)) - 1
    counts = sorted({max(round(share * last), 1) for share in _CUTS})
    halves = [_first_layers(network, exit_, count) for count in (0, *counts)]
    timer = IdleTimer([partial(cpu_seconds, half) for half in halves])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether repeats scatter is seen in the comparison
        graph = profile(
            network.module, network.inputs, "cpu", network.split.graph.name, repeats, timer.run
        )
    empty, *found = timer.times()
    seconds = graph.at_exit(exit_).measured_seconds.cumsum()[counts]
    if len(counts) > 1:
        design = np.stack([np.ones(len(counts)), seconds], axis=1)
        fixed, scale = np.linalg.lstsq(design, np.array([times.seconds for times in found]))[0]
    else:
        fixed, scale = np.array(found[0].seconds) - seconds, np.ones(len(PAUSES_S))
    half_s = HalfTimes(
        empty=empty, fixed=AfterIdle(tuple(fixed.tolist())), scale=AfterIdle(tuple(scale.tolist()))
    )
    return LayerTimes(graph=graph, half_s=half_s)


def beside_half(network: Network, work: Callable[[], object], repeats: int) -> AfterIdle:
    """Measure what some work takes that comes right after a half, which has woken the process."""
    # The device's half of a partition that leaves all layers to the edge.
    half = _first_layers(network, len(network.split.graph.exits) - 1, 0)

    def measure() -> float:
        half()
        return cpu_seconds(work)

    return after_idle(measure, repeats)


def _first_layers(network: Network, exit_: int, count: int) -> Callable[[], object]:
    """Return the half that runs the first layers of an exit."""
    on_edge = np.arange(len(network.split.graph.at_exit(exit_))) > count
    halves = network.split.split(on_edge, exit_)
    return lambda: halves.front(network.inputs)


def cpu_seconds(work: Callable[[], object]) -> float:
    """The CPU time of some work of this thread, s."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin
