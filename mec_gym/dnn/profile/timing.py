"""How long every node of a traced graph takes on a device."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

import torch
from torch import fx, nn

from mec_gym.dnn.profile.tensors import Tensors, copy_module
from mec_gym.dnn.profile.tracing import TRACERS, reason_and_line

WARM_UP = 2
"""Runs before those that are timed."""
REPEATS = 7
"""Runs that are timed."""


class _Clock(fx.Interpreter):
    """Runs a traced graph on real tensors and times every node."""

    def __init__(self, graph: fx.GraphModule, device: str) -> None:
        super().__init__(graph)
        self.cuda = torch.device(device).type == "cuda"
        self.times: dict[str, list[float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node between two looks at the clock."""
        begin = self._now()
        value = super().run_node(n)
        self.times.setdefault(n.name, []).append(self._now() - begin)
        return value

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return perf_counter()


def median_seconds(
    module: nn.Module,
    graph: fx.Graph,
    tracer: str,
    inputs: Tensors,
    device: str,
    title: str,
) -> dict[fx.Node, float]:
    """Measure how long every node of a graph takes.

    Args:
        module: The module from which the graph was traced.
        graph: The nodes to time, as they were counted.
        tracer: Name of the tracer that found them, one of ``TRACERS``.
        inputs: One frame.
        device: Where to run, as torch names it.
        title: Name of the module in error messages.

    Returns:
        The median time of every node, s.

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
    clock = _Clock(runnable, device)
    try:
        with torch.no_grad(), torch.device(device):
            for turn in range(WARM_UP + REPEATS):
                if turn == WARM_UP:
                    clock.times.clear()
                clock.run(*(one.clone() for one in there))
    except Exception as error:
        raise ValueError(f"{title} does not run on {device!r}: {reason_and_line(error)}") from error
    return {
        node: statistics.median(clock.times[node.name])
        for node in graph.nodes
        if node.name in clock.times
    }
