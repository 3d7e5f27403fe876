"""What every node of a traced graph computes, moves and writes, found on meta tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from mec_gym.dnn.profile.operations import flop_counter, is_view, looks_up, passes_over
from mec_gym.dnn.profile.recording import AsIfReal, Recorder, Recording, record
from mec_gym.dnn.profile.tensors import (
    Tensors,
    hollow,
    hollow_inputs,
    map_tensors,
    storage_of,
    tensors_in,
    unchanged,
)
from mec_gym.dnn.profile.tracing import TRACERS, reason_and_line


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCount:
    """What one node of a traced graph did.

    Attributes:
        value: What the node returned.
        flops: FLOP, or None if the node ran an operation that cannot be counted.
        moves: Whether the node moves bytes; if not, it only looks at what it is given.
        looks_up: Whether the node reads no more of a table than it returns.
        writes: The storages that the node wrote to.
    """

    value: Any
    flops: float | None
    moves: bool
    looks_up: bool
    writes: frozenset[int]


AS_IT_RAN = "run"
"""The name of a graph that no tracer found: it was taken from the operations that ran."""


class Count(fx.Interpreter):
    """Runs a traced graph on meta tensors and counts every node.

    Args:
        graph: The traced module.

    Attributes:
        nodes: What each node did.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.nodes: dict[fx.Node, NodeCount] = {}
        self._recorder = Recorder()

    def record(self, inputs: Tensors) -> Recording:
        """Run and count all nodes.

        Args:
            inputs: What the module is given, of which only shapes and types matter.
        """
        given = hollow_inputs(inputs)
        with self._recorder, AsIfReal(inputs[0].device):
            returned = self.run(*given)
        return Recording(
            calls=self._recorder.calls,
            inputs=given,
            returned=map_tensors(returned, self._recorder.stand_in),
            writes_outside=self._recorder.writes_outside,
        )

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and note what it did."""
        begin = len(self._recorder.calls)
        with flop_counter() as counter:
            value = super().run_node(n)
        calls = self._recorder.calls[begin:]
        operations = [call.operation for call in calls]
        known = counter.flop_registry
        countable = all(
            op in known or op._overloadpacket in known or passes_over(op) for op in operations
        )
        for tensor in tensors_in(value):
            storage_of(tensor)  # where it cannot be told, nobody could say who reads what
        self.nodes[n] = NodeCount(
            value=value,
            flops=float(counter.get_total_flops()) if countable else None,
            moves=not all(is_view(op) for op in operations),
            looks_up=any(looks_up(op) for op in operations),
            writes=frozenset().union(*(call.writes for call in calls)),
        )
        return value


def count_module(module: nn.Module, inputs: Tensors, title: str) -> tuple[Count, str, Recording]:
    """Trace a module and count it.

    The first tracer is taken that finds what the module really does when it runs: the same
    operations with the same results, each reading from the same ones, those that cost no FLOP
    included. If there is none, what ran is taken itself, operation by operation.

    Args:
        module: The module; it is not changed.
        inputs: Its inputs, of which only shapes and types matter.
        title: Name of the module in error messages.

    Returns:
        The counted graph, the name of the tracer, and what ran.

    Raises:
        ValueError: The inputs do not fit the module, or what it does depends on their content.
    """
    # Constants that forward makes belong on the meta device as well.
    with torch.device("meta"):
        ran = _reference(module, inputs, title)
        for name, trace in TRACERS.items():
            try:
                with unchanged(module), Recorder(), _no_transform_left():
                    count = Count(trace(hollow(module), hollow_inputs(inputs)).to("meta"))
                    same = count.record(inputs).signature == ran.signature
            except Exception:  # the next one may do better
                continue
            if same:
                return count, name, ran
        count = Count(ran.graph())
        count.record(inputs)
        return count, AS_IT_RAN, ran


@contextmanager
def _no_transform_left() -> Iterator[None]:
    """End what transforms of torch.func, such as vmap, have begun and not ended.

    In a graph their begin and their end are nodes, and a run that fails in between would leave
    everything that torch does later within the transform.
    """
    before = torch._C._functorch.get_dynamic_layer_stack_depth()
    try:
        yield
    finally:
        torch._C._functorch.pop_dynamic_layer_stack_and_undo_to_depth(before)


def _reference(module: nn.Module, inputs: Tensors, title: str) -> Recording:
    asked: set[str] = set()
    without_content = hollow(module)
    try:
        with unchanged(module):
            ran = record(without_content, inputs, asked)
    except Exception as error:
        if not (asked or "meta" in str(error).lower()):
            raise ValueError(
                f"example_input of shapes {[tuple(one.shape) for one in inputs]} does not fit "
                f"{title}: {reason_and_line(error)}"
            ) from error
        raise ValueError(
            f"{title} cannot be traced: what it does depends on the content of its tensors: "
            f"{reason_and_line(error)}"
        ) from error
    if asked:
        raise ValueError(
            f"{title} cannot be traced: what it does depends on the content of its tensors, it "
            f"calls {', '.join(sorted(asked))}"
        )
    return ran
