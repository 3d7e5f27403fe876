"""How long every node of a traced graph takes on a device.

Only the calls of the nodes are timed. What the interpreter does between them, and what a look at
the clock takes, is no part of a layer's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from mec_gym.dnn.profile.again import layers_again
from mec_gym.dnn.profile.layers import Layers
from mec_gym.dnn.profile.tensors import Tensors, copy_module
from mec_gym.dnn.profile.tracing import TRACERS, reason_and_line

WARM_UP = 2
"""Runs before those that are timed."""
REPEATS = 25
"""Runs that are timed, if nobody asks for another number."""
WHOLE_EVERY = 3
"""In one of so many runs, the module is also timed as a whole."""
SCATTER = 1.25
"""Repeats scatter if their third quartile is more than so many times their first one."""
SHARE = 0.01
"""The times of layers that take less than this share of the network may scatter."""
FINEST_S = 1e-6
"""CPU time is a clock for layers if it is at least so fine, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTimes:
    """What was measured of a network.

    Attributes:
        seconds: The median time of every node that is a layer, s.
        spread: The third quartile of each of their times over the first one; 1 if that is 0.
        repeats: Number of runs that count.
        clock: Name of the clock: ``thread_time``, the CPU time of the thread, where torch runs
            on one thread of the processor; else ``perf_counter``, wall time, at both ends of
            which all work of the device is done.
        overhead_s: What the interpreter takes per call, beside the call itself, s.
        cold_start_s: By how much the very first run took longer than the median one, s.
        whole_s: The median time of the module called as a whole, s.
    """

    seconds: Mapping[fx.Node, float]
    spread: Mapping[fx.Node, float]
    repeats: int
    clock: str
    overhead_s: float
    cold_start_s: float
    whole_s: float


class Clock:
    """The time that work on a device takes.

    Args:
        device: The device, as torch names it.

    Attributes:
        name: Name of Python's clock that is read.
        cost: What one look at it takes, s.
    """

    def __init__(self, device: str) -> None:
        kind = torch.device(device).type
        alone = kind == "cpu" and torch.get_num_threads() == 1
        fine = time.get_clock_info("thread_time").resolution <= FINEST_S
        self.name = "thread_time" if alone and fine else "perf_counter"
        self._read: Callable[[], float] = getattr(time, self.name)
        self._wait = None if kind == "cpu" else getattr(torch, kind).synchronize
        looks = np.array([self() for _ in range(1001)])
        self.cost = float(np.median(np.diff(looks)))

    def __call__(self) -> float:
        """Return the present time, s, when all work that was begun is done."""
        if self._wait is not None:
            self._wait()
        return self._read()


class _Timed(fx.Interpreter):
    """Runs a traced graph on real tensors and times the call of every node.

    Attributes:
        calls: The times of every node's calls, by its name, s.
        between: What the interpreter took beside each call, s.
    """

    def __init__(self, graph: fx.GraphModule, clock: Clock) -> None:
        super().__init__(graph)
        self.calls: dict[str, list[float]] = {}
        self.between: list[float] = []
        self._clock = clock
        self._call_s = 0.0

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and note what its call took."""
        self._call_s = 0.0
        begin = self._clock()
        value = super().run_node(n)
        took = self._clock() - begin
        self.calls.setdefault(n.name, []).append(max(self._call_s - self._clock.cost, 0.0))
        if n.op.startswith("call_"):
            self.between.append(max(took - self._call_s - 2 * self._clock.cost, 0.0))
        return value

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Time a module."""
        return self._timed(self.fetch_attr(target), args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Time a function."""
        return self._timed(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Time a method of a tensor."""
        return self._timed(getattr(args[0], target), args[1:], kwargs)

    def _timed(self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begin = self._clock()
        value = call(*args, **kwargs)
        self._call_s = self._clock() - begin
        return value


class NodeTimer:
    """Times the nodes of one network, one run after the other.

    The nodes run one after the other, as they do in the network, and in the next run all of them
    again: what disturbs the machine for a while hits a few repeats of every node.

    Args:
        module: The module from which the layers were found.
        layers: The layers to time, as they were counted.
        tracer: Name of the tracer that found them, one of ``TRACERS``.
        inputs: One frame.
        device: Where to run, as torch names it.
        title: Name of the module in error messages.

    Attributes:
        repeats: Number of runs so far that count.

    Raises:
        ValueError: torch cannot use the device, or what the module does there has other layers.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Layers,
        tracer: str,
        inputs: Tensors,
        device: str,
        title: str,
    ) -> None:
        try:
            self._inputs = tuple(one.to(device) for one in inputs)
            self._real = copy_module(module, lambda tensor: tensor.to(device, copy=True))
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device must be usable by torch, got {device!r}: {error}") from error
        with torch.device(device):
            runnable = TRACERS[tracer](self._real, self._inputs)
        try:
            again, _ = layers_again(runnable, self._inputs, layers.graph)
        except ValueError as error:
            raise ValueError(f"{title} cannot be timed: {error}") from error
        names = {layer: node.name for node, layer in again.index.items()}
        # Layer 0 is the input, which takes no time.
        self._names = {node: names[layer] for node, layer in layers.index.items() if layer}
        self._device, self._title = device, title
        self._clock = Clock(device)
        self._timed = _Timed(runnable, self._clock)
        self._wholes: list[float] = []
        self._counts: list[bool] = []

    @property
    def repeats(self) -> int:
        """Number of runs so far that count."""
        return sum(self._counts)

    def run(self, counts: bool = True) -> None:
        """Run all nodes once.

        Args:
            counts: Whether this run counts; if not, it only warms up.

        Raises:
            ValueError: The module does not run.
        """
        with _running(self._device, self._title):
            self._timed.run(*(one.clone() for one in self._inputs))
            if counts and self.repeats % WHOLE_EVERY == 0:
                frame = [one.clone() for one in self._inputs]
                begin = self._clock()
                self._real(*frame)
                self._wholes.append(self._clock() - begin - self._clock.cost)
        self._counts.append(counts)

    def times(self) -> NodeTimes:
        """Return what the runs so far tell; at least one of them must count."""
        found = self._timed.calls
        calls = {node: np.array(found[name]) for node, name in self._names.items()}
        runs = np.sum(list(found.values()), axis=0)
        kept = np.array(self._counts)
        quartiles = {n: np.percentile(times[kept], [25, 50, 75]) for n, times in calls.items()}
        between = self._timed.between
        return NodeTimes(
            seconds={node: float(q[1]) for node, q in quartiles.items()},
            spread={node: float(q[2] / q[0]) if q[0] else 1.0 for node, q in quartiles.items()},
            repeats=self.repeats,
            clock=self._clock.name,
            overhead_s=float(np.median(between)) if between else 0.0,
            cold_start_s=float(max(runs[0] - np.median(runs[kept]), 0.0)),
            whole_s=float(np.median(self._wholes)),
        )


@contextmanager
def _running(device: str, title: str) -> Iterator[None]:
    try:
        with torch.no_grad(), torch.device(device):
            yield
    except Exception as error:
        raise ValueError(f"{title} does not run on {device!r}: {reason_and_line(error)}") from error


def scattered(times: NodeTimes) -> tuple[fx.Node, ...]:
    """Return the nodes whose repeats scatter, see ``SCATTER``, and that take their share."""
    least = SHARE * sum(times.seconds.values())
    return tuple(
        node
        for node, spread in times.spread.items()
        if spread > SCATTER and times.seconds[node] >= least
    )
