"""What every node of a traced graph computes, moves and writes, found on meta tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mec_gym.dnn.profile.operations import flop_counter, is_view, looks_up, passes_over
from mec_gym.dnn.profile.tensors import Tensors, copy_module, kinds_of, storage_of, tensors_in
from mec_gym.dnn.profile.tracing import TRACERS, reason_of


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


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operations run, and which storages they write to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Any] = []
        self.written: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.operations.append(func)
        kwargs = kwargs or {}
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[place] if place < len(args) else kwargs.get(argument.name)
                self.written |= {storage_of(t) for t in tensors_in(value)}
        return func(*args, **kwargs)


class Count(fx.Interpreter):
    """Runs a traced graph on meta tensors and counts every node.

    Args:
        graph: The traced module.

    Attributes:
        computed: FLOP of all nodes that have run so far, known ones only.
        nodes: What each node did.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.computed = 0
        self.nodes: dict[fx.Node, NodeCount] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and note what it did."""
        with flop_counter() as counter, _Watch() as watch:
            value = super().run_node(n)
        known = counter.flop_registry
        countable = all(
            op in known or op._overloadpacket in known or passes_over(op) for op in watch.operations
        )
        flops = counter.get_total_flops()
        self.computed += flops
        self.nodes[n] = NodeCount(
            value=value,
            flops=float(flops) if countable else None,
            moves=not all(is_view(op) for op in watch.operations),
            looks_up=any(looks_up(op) for op in watch.operations),
            writes=frozenset(watch.written),
        )
        return value


def count_module(module: nn.Module, inputs: Tensors, title: str) -> tuple[Count, str]:
    """Trace a module and count it.

    The first tracer is taken that finds what the module really does: as many FLOPs as the
    module itself computes, and outputs of the same shapes and types.

    Args:
        module: The module; it is not changed.
        inputs: Its inputs, of which only shapes and types matter.
        title: Name of the module in error messages.

    Returns:
        The counted graph, and the name of the tracer.

    Raises:
        ValueError: The inputs do not fit the module, or no tracer can follow it.
    """
    reasons = []
    # Constants that forward makes belong on the meta device as well.
    with torch.no_grad(), torch.device("meta"):
        expected = _computation(module, inputs, title)
        for name, trace in TRACERS.items():
            try:
                graph = trace(_hollow(module), _hollow_inputs(inputs))
                count = Count(graph.to("meta"))
                returned = count.run(*_hollow_inputs(inputs))
            except Exception as error:
                reasons.append(f"torch.{name}: {reason_of(error)}")
                continue
            if expected in (None, (count.computed, kinds_of(returned))):
                return count, name
            reasons.append(f"torch.{name}: finds another computation than the module does")
    raise ValueError(f"{title} cannot be traced. " + "; ".join(reasons))


def _computation(
    module: nn.Module, inputs: Tensors, title: str
) -> tuple[int, list[tuple[torch.Size, torch.dtype]]] | None:
    """FLOP and outputs of a module as it is, or None if it asks for values of its tensors."""
    try:
        with flop_counter() as counter:
            returned = _hollow(module)(*_hollow_inputs(inputs))
    except Exception as error:
        if "meta" in str(error).lower():
            return None
        raise ValueError(
            f"example_input of shapes {[tuple(one.shape) for one in inputs]} does not fit "
            f"{title}: {reason_of(error)}"
        ) from error
    return counter.get_total_flops(), kinds_of(returned)


def _hollow(module: nn.Module) -> nn.Module:
    return copy_module(module, lambda tensor: torch.empty_like(tensor, device="meta"))


def _hollow_inputs(inputs: Tensors) -> Tensors:
    return tuple(torch.empty_like(one, device="meta") for one in inputs)
