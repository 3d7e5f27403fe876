"""Where the tensors of a network lie in memory, and how to get at that memory.

Two tensors may look at the same memory, so that writing to one changes the other. Whoever moves
tensors elsewhere must know it: here every piece of memory has a number, and a tensor is a
:class:`View` of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from mec_gym.dnn.profile.tensors import map_tensors, storage_of, tensors_in

ALIGNMENT = 64
"""Bytes; where memory begins elsewhere, products of matrices may round in another way."""

Where = slice | torch.Tensor
"""Places in flat memory: a range, or their indices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a tensor lies in memory.

    Attributes:
        memory: Number of the piece of memory.
        bytes: Size of that memory.
        dtype: Type of the tensor's elements.
        shape: Its shape.
        strides: Elements of memory from one index to the next, for each axis.
        offset: Elements of memory before the first one.
    """

    memory: int
    bytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a node did when it ran.

    Attributes:
        value: What it returned, with a View in the place of each tensor.
        reads: What each node that it reads had returned, as it was just before; an operation
            in place may have given it another shape.
        writes: The memory that it wrote to.
    """

    value: Any
    reads: Mapping[fx.Node, Any]
    writes: frozenset[int]


class Watch(fx.Interpreter):
    """Runs a traced graph and notes how tensors lie in memory.

    Args:
        graph: The traced module, with its tensors; they are not changed.
        private: The nodes that yield what the module holds and writes to.

    Attributes:
        ran: What each node did.
        values: What each node returned.

    Raises:
        ValueError: A layer writes to what it holds itself, or a tensor is not plain.
    """

    def __init__(self, graph: fx.GraphModule, private: Set[fx.Node]) -> None:
        super().__init__(graph, garbage_collect_values=False)  # so that memory is not used twice
        self.ran: dict[fx.Node, Ran] = {}
        self.values: dict[fx.Node, Any] = {}
        self._private = private
        self._memories: dict[int, int] = {}
        self._copies: dict[int, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and note what it did."""
        given = {node: self.env[node] for node in n.all_input_nodes}
        reads = {node: self.look(value) for node, value in given.items()}
        held: list[torch.Tensor] = []
        if n.op == "call_module":
            module = self.fetch_attr(str(n.target))
            held = [*module.parameters(), *module.buffers()]
        tensors = [*tensors_in(list(given.values())), *held]
        before = [tensor._version for tensor in tensors]
        value = super().run_node(n)
        if n in self._private:
            value = self._copy(value)
        self.values[n] = value
        pairs = zip(tensors, before, strict=True)
        written = [tensor for tensor, version in pairs if tensor._version != version]
        if any(one is other for one in written for other in held):
            raise ValueError(f"layer {n.target!r} writes to what it holds")
        writes = frozenset(self._number(tensor) for tensor in written)
        self.ran[n] = Ran(value=self.look(value), reads=reads, writes=writes)
        return value

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in a copy of its memory; all that look at that memory look at one copy."""
        storage = storage_of(tensor)
        if storage not in self._copies:
            self._copies[storage] = copy_memory(tensor, 0)
        return look_at(
            self._copies[storage],
            tensor.dtype,
            tuple(tensor.shape),
            tuple(tensor.stride()),
            int(tensor.storage_offset()),
        )

    def look(self, value: Any) -> Any:
        """Return a value with a View in the place of each tensor."""
        return map_tensors(value, self._view)

    def _view(self, tensor: torch.Tensor) -> View:
        if tensor.is_conj() or tensor.is_neg():
            raise ValueError("a tensor is conjugated or negated only where it is read")
        return View(
            memory=self._number(tensor),
            bytes=tensor.untyped_storage().nbytes(),
            dtype=tensor.dtype,
            shape=tuple(tensor.shape),
            strides=tuple(tensor.stride()),
            offset=int(tensor.storage_offset()),
        )

    def _number(self, tensor: torch.Tensor) -> int:
        return self._memories.setdefault(storage_of(tensor), len(self._memories))


def views_in(value: Any) -> list[View]:
    """All Views in a value, in the order in which ``tensors_in`` yields tensors."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, View)]


def covered(views: Iterable[View]) -> tuple[torch.dtype, int, Where]:
    """What of a piece of memory some views of it look at.

    Returns:
        The type of its elements, how many the views look at, and where these lie. Of views of
        different types it is all bytes of the memory.
    """
    views = tuple(views)
    size = views[0].bytes
    (dtype, *others) = {view.dtype for view in views}
    if others:
        return torch.uint8, size, slice(0, size)
    if len(views) == 1 and _is_dense(views[0]):
        (view,) = views
        count = _elements(view)
        return dtype, count, slice(view.offset, view.offset + count)
    seen = torch.zeros(size // dtype.itemsize, dtype=torch.bool)
    for view in views:
        seen.as_strided(view.shape, view.strides, view.offset).fill_(True)
    places = seen.nonzero().flatten()
    count = len(places)
    if count and int(places[-1]) - int(places[0]) == count - 1:
        return dtype, count, slice(int(places[0]), int(places[0]) + count)
    return dtype, count, places


def is_aligned(tensor: torch.Tensor) -> bool:
    """Whether a tensor begins where torch begins memory of its own."""
    return tensor.data_ptr() % ALIGNMENT == 0


def _elements(view: View) -> int:
    return int(torch.Size(view.shape).numel())


def _is_dense(view: View) -> bool:
    """Whether a view looks at every element between its first and its last one, once."""
    expected = 1
    for stride, size in sorted(zip(view.strides, view.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


# --- what halves of a network call; the graphs name these functions


def tensor_in(value: Any, number: int) -> torch.Tensor:
    """Return one of the tensors in a value."""
    return list(tensors_in(value))[number]


def memory_of(value: Any, number: int) -> torch.Tensor:
    """Return the memory of one of the tensors in a value, as bytes."""
    tensor = tensor_in(value, number)
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())


def new_memory(size: int, device: torch.device) -> torch.Tensor:
    """Return memory of some bytes."""
    return torch.empty(size, dtype=torch.uint8, device=device)


def copy_memory(value: Any, number: int) -> torch.Tensor:
    """Return a copy of the memory of one of the tensors in a value, as bytes."""
    return memory_of(value, number).clone()


def look_at(
    memory: torch.Tensor,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
) -> torch.Tensor:
    """Return a tensor that looks at memory."""
    tensor = torch.empty(0, dtype=dtype, device=memory.device)
    return tensor.set_(memory.untyped_storage(), offset, shape, strides)


def take(
    memory: torch.Tensor, dtype: torch.dtype, where: Where, *, overwritten: bool
) -> torch.Tensor:
    """Return elements of memory, flat.

    Args:
        memory: The memory, as bytes.
        dtype: The type of the elements.
        where: Which elements.
        overwritten: Whether the memory is written to later, so that they must be copied now.
    """
    part = memory.view(dtype)[where]
    return part.clone() if overwritten and isinstance(where, slice) else part


def put(memory: torch.Tensor, elements: torch.Tensor, where: Where) -> None:
    """Write what :func:`take` took to the same places of other memory."""
    memory.view(elements.dtype)[where] = elements
