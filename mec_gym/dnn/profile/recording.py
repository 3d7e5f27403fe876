"""What a module really does: every operation that runs, with its tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mec_gym.dnn.profile.operations import flop_counter, is_view
from mec_gym.dnn.profile.tensors import (
    Tensors,
    hollow_inputs,
    kinds_of,
    map_tensors,
    storage_of,
    tensors_in,
)

Signature = tuple[Any, ...]
"""What two computations have in common if they are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operation that ran.

    Attributes:
        operation: The operation of aten.
        args: Its arguments.
        kwargs: Its arguments by name.
        value: What it returned.
        writes: The storages that it wrote to in place.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    value: Any
    writes: frozenset[int]

    @property
    def reads(self) -> set[int]:
        """The storages of its arguments."""
        return {storage_of(tensor) for tensor in tensors_in((self.args, self.kwargs))}


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation, and runs it on meta tensors, whatever tensors it is given.

    A tensor with content, such as one that a closure holds, is neither read nor written to: a
    meta tensor stands for it.

    Attributes:
        calls: The operations that ran.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        # Both are kept, so that the ids stay theirs.
        self._stand_ins: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = pytree.tree_map_only(torch.Tensor, self.stand_in, (args, kwargs or {}))
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("meta")
        written: set[int] = set()
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[place] if place < len(args) else kwargs.get(argument.name)
                written |= {storage_of(tensor) for tensor in tensors_in(value)}
        if func._overloadpacket in flop_registry:
            # On meta tensors torch forgets to look.
            kinds = {str(one.dtype) for one in tensors_in((args, kwargs))}
            if len(kinds) > 1 and "_scaled_mm" not in str(func):
                raise RuntimeError(f"{func} needs a single dtype, got {', '.join(sorted(kinds))}")
        value = func(*args, **kwargs)
        self.calls.append(
            Call(operation=func, args=args, kwargs=kwargs, value=value, writes=frozenset(written))
        )
        return value

    @property
    def writes_outside(self) -> bool:
        """Whether an operation would have written to a tensor with content."""
        outside = {storage_of(other) for _, other in self._stand_ins.values()}
        return any(call.writes & outside for call in self.calls)

    def stand_in(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the meta tensor that stands for a tensor; it may be the same one."""
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self._stand_ins:
            self._stand_ins[id(tensor)] = (tensor, torch.empty_like(tensor, device="meta"))
        return self._stand_ins[id(tensor)][1]


class AsIfReal(TorchFunctionMode):
    """Lets meta tensors look like tensors with content, on the device of the user's.

    Args:
        device: Where they say they are; the processor in place of the meta device.
        asked: Takes the names of what is called that needs the content of a tensor.
    """

    def __init__(self, device: torch.device, asked: set[str] | None = None) -> None:
        super().__init__()
        self._here = torch.device("cpu") if device.type == "meta" else device
        self._asked = set() if asked is None else asked

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(func.__self__, "__name__", "")
            if name == "device":
                return self._here
            if name in ("is_meta", "is_cpu", "is_cuda"):
                return name == f"is_{self._here.type}"
        if name in ("cpu", "cuda"):
            return args[0]
        if name in _CONTENT:
            self._asked.add(name.strip("_"))
        kwargs = kwargs or {}
        if func is not torch.device:
            args, kwargs = pytree.tree_map(_on_meta, (args, kwargs))
        return func(*args, **kwargs)


def _on_meta(value: Any) -> Any:
    """The meta device for any other one."""
    named = isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda")
    return torch.device("meta") if named or isinstance(value, torch.device) else value


# Methods of a tensor that are of no use without its content.
_CONTENT = frozenset({
    "__array__", "__bool__", "__complex__", "__contains__", "__float__", "__format__", "__index__",
    "__int__", "__repr__", "data_ptr", "is_nonzero", "item", "numpy", "tolist",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What ran when a module was given inputs.

    Attributes:
        calls: The operations in their order.
        inputs: The inputs.
        returned: What the module returned.
        writes_outside: Whether it would have written to tensors that are not its own, as a
            closure does that holds the module from which this one was copied.
    """

    calls: Sequence[Call]
    inputs: Tensors
    returned: Any
    writes_outside: bool

    @property
    def signature(self) -> Signature:
        """Every operation that the outputs need: which it is, what it returns, what it reads.

        Constants do not count, nor does what only looks at a tensor.
        """
        # Who wrote last to a storage: an input, counted from -1 down, or a step.
        writer = {storage_of(one): -1 - k for k, one in enumerate(self.inputs)}
        steps: list[tuple[Call, set[int]]] = []
        for call in self.calls:
            read = {writer[storage] for storage in call.reads if storage in writer}
            if is_view(call.operation) or not read:
                continue
            touched = call.writes | {storage_of(tensor) for tensor in tensors_in(call.value)}
            writer.update(dict.fromkeys(touched, len(steps)))
            steps.append((call, read))
        ends = [writer.get(storage_of(tensor)) for tensor in tensors_in(self.returned)]
        needed = {end for end in ends if end is not None}
        for k in reversed(range(len(steps))):
            if k in needed:
                needed |= steps[k][1]
        place = {k: n for n, k in enumerate(sorted(k for k in needed if k >= 0))}
        place |= {k: k for k in needed if k < 0}
        return (
            tuple(
                (
                    call.operation,
                    tuple(kinds_of(call.value)),
                    tuple(sorted(place[k] for k in read)),
                )
                for k, (call, read) in enumerate(steps)
                if k in needed
            ),
            tuple(None if end is None else place[end] for end in ends),
            tuple(kinds_of(self.returned)),
        )

    def graph(self) -> fx.GraphModule:
        """The operations as a graph, one node each.

        Raises:
            ValueError: The module returned something else than tensors.
        """
        graph, held = fx.Graph(), nn.Module()
        nodes: dict[int, fx.Node] = {}
        for k, one in enumerate(self.inputs):
            nodes[id(one)] = graph.placeholder(f"input_{k + 1}")

        def node_of(tensor: torch.Tensor) -> fx.Node:
            if id(tensor) not in nodes:
                name = f"constant_{len(held._buffers)}"
                held.register_buffer(name, tensor)
                nodes[id(tensor)] = graph.get_attr(name)
            return nodes[id(tensor)]

        for call in self.calls:
            args, kwargs = pytree.tree_map_only(torch.Tensor, node_of, (call.args, call.kwargs))
            name = call.operation._opname
            node = graph.create_node("call_function", call.operation, args, kwargs, name)
            if isinstance(call.value, torch.Tensor):
                nodes[id(call.value)] = node
            elif isinstance(call.value, (tuple, list)):
                for k, item in enumerate(call.value):
                    if isinstance(item, torch.Tensor):
                        nodes[id(item)] = graph.call_function(operator.getitem, (node, k))
        graph.output(map_tensors(self.returned, node_of))
        return fx.GraphModule(held, graph)


def record(forward: Callable[..., Any], inputs: Tensors, asked: set[str]) -> Recording:
    """Run a module on meta tensors that look to it like the tensors it is given.

    Args:
        forward: The module, with meta tensors as its own.
        inputs: Its inputs; their content is not read.
        asked: Takes the names of what the module called to learn the content of a tensor.

    Returns:
        What ran.
    """
    given = hollow_inputs(inputs)
    with Recorder() as recorder, flop_counter(), AsIfReal(inputs[0].device, asked):
        returned = forward(*given)
    returned = map_tensors(returned, recorder.stand_in)
    return Recording(
        calls=recorder.calls,
        inputs=given,
        returned=returned,
        writes_outside=recorder.writes_outside,
    )
