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
        seconds: The median time of every node, s.
        spread: The third quartile of every node's times over the first one; 1 if both are 0.
        clock: Name of the clock: ``thread_time``, the CPU time of the thread, where torch runs
            on one thread of the processor; else ``perf_counter``, wall time, at both ends of
            which all work of the device is done.
        overhead_s: What the interpreter takes per call, beside the call itself, s.
        cold_start_s: By how much the very first run took longer than the median one, s.
        whole_s: The median time of the module called as a whole, s.
    """

    seconds: Mapping[fx.Node, float]
    spread: Mapping[fx.Node, float]
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


def time_nodes(
    module: nn.Module,
    graph: fx.Graph,
    tracer: str,
    inputs: Tensors,
    device: str,
    title: str,
    repeats: int = REPEATS,
) -> NodeTimes:
    """Measure how long every node of a graph takes.

    The nodes run one after the other, as they do in the network, and then all of them again:
    what disturbs the machine for a while hits a few repeats of every node.

    Args:
        module: The module from which the graph was traced.
        graph: The nodes to time, as they were counted.
        tracer: Name of the tracer that found them, one of ``TRACERS``.
        inputs: One frame.
        device: Where to run, as torch names it.
        title: Name of the module in error messages.
        repeats: Number of runs that are timed.

    Raises:
        ValueError: torch cannot use the device, or the module does not run there.
    """
    try:
        there = tuple(one.to(device) for one in inputs)
        real = copy_module(module, lambda tensor: tensor.to(device, copy=True))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device must be usable by torch, got {device!r}: {error}") from error
    # The same nodes as those that were counted.
    with torch.device(device):
        runnable = TRACERS[tracer](real, there)
    clock = Clock(device)
    timed = _Timed(runnable, clock)
    wholes = []
    with _running(device, title):
        for turn in range(WARM_UP + repeats):
            timed.run(*(one.clone() for one in there))
            if turn >= WARM_UP and (turn - WARM_UP) % WHOLE_EVERY == 0:
                frame = [one.clone() for one in there]
                begin = clock()
                real(*frame)
                wholes.append(clock() - begin - clock.cost)
    calls = {n: np.array(timed.calls[n.name]) for n in graph.nodes if n.name in timed.calls}
    runs = np.sum(list(calls.values()), axis=0)
    quartiles = {
        node: np.percentile(times[WARM_UP:], [25, 50, 75]) for node, times in calls.items()
    }
    return NodeTimes(
        seconds={node: float(q[1]) for node, q in quartiles.items()},
        spread={node: float(q[2] / q[0]) if q[0] else 1.0 for node, q in quartiles.items()},
        clock=clock.name,
        overhead_s=float(np.median(timed.between)) if timed.between else 0.0,
        cold_start_s=float(max(runs[0] - np.median(runs[WARM_UP:]), 0.0)),
        whole_s=float(np.median(wholes)),
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
