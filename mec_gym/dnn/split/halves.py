"""The two halves of a network, as modules that can be called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from mec_gym.dnn.split.memory import (
    View,
    copy_memory,
    covered,
    look_at,
    memory_of,
    new_memory,
    put,
    take,
    tensor_in,
    views_in,
)
from mec_gym.dnn.split.plan import Crossing, Nodes, Plan


class _Half:
    """One half under construction: nodes of the whole graph, copied, and what moves memory.

    Args:
        nodes: The nodes of the whole graph.
        private: The memory of which this half needs a copy if the module holds it, because
            this half writes to it.
    """

    def __init__(self, nodes: Nodes, private: set[int]) -> None:
        self.graph = fx.Graph()
        self.nodes = nodes
        self.places: dict[str, torch.Tensor] = {}
        self._private = private
        # What stands here for a node of the whole graph, for memory and for a tensor in it.
        self.copies: dict[fx.Node, fx.Node] = {}
        self.memories: dict[int, fx.Node] = {}
        self._tensors: dict[View, fx.Node] = {}

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Add a call of a function."""
        return self.graph.call_function(function, args, kwargs)

    def run(self, node: fx.Node) -> None:
        """Add a copy of a node."""
        copy = self.graph.node_copy(node, lambda source: self.argument(node, source))
        views = views_in(self.nodes.ran[node].value)
        if views and views[0].memory in self._private:
            if node.op == "placeholder":
                copy = self.call(torch.clone, copy)
            elif node.op == "get_attr":
                memory = views[0].memory
                if memory not in self.memories:
                    self.memories[memory] = self.call(copy_memory, copy, 0)
                copy = self.tensor(views[0])
        self.copies[node] = copy
        if node in self.nodes.constants:
            for number, view in enumerate(views):
                if view.memory in self._private and view.memory not in self.memories:
                    self.memories[view.memory] = self.call(memory_of, copy, number)

    def argument(self, node: fx.Node, source: fx.Node) -> Any:
        """What a node reads here of another one."""
        if source in self.copies:
            return self.copies[source]
        return pytree.tree_map_only(View, self.tensor, self.nodes.ran[node].reads[source])

    def tensor(self, view: View) -> fx.Node:
        """A tensor in memory."""
        if view not in self._tensors:
            self._tensors[view] = self.call(
                look_at,
                self.memories[view.memory],
                view.dtype,
                view.shape,
                view.strides,
                view.offset,
            )
        return self._tensors[view]

    def where(self, crossing: Crossing) -> tuple[torch.dtype, int, Any]:
        """Type, number and places of the elements that cross."""
        dtype, count, where = covered(crossing.views)
        if isinstance(where, slice):
            return dtype, count, where
        name = f"_places_{len(self.places)}"
        self.places[name] = where
        return dtype, count, self.graph.create_node("get_attr", name)

    def module(self, root: nn.Module, answer: Any) -> fx.GraphModule:
        """Finish it."""
        self.graph.output(answer)
        names = {str(n.target) for n in self.graph.nodes if n.op in ("get_attr", "call_module")}
        held: dict[str, Any] = {
            name: self.places[name]
            if name in self.places
            else reduce(getattr, name.split("."), root)
            for name in sorted(names)
        }
        return fx.GraphModule(held, self.graph)


def _writes(nodes: Nodes, run: tuple[fx.Node, ...]) -> set[int]:
    return set().union(*(nodes.ran[node].writes for node in run))


def front_half(root: nn.Module, nodes: Nodes, plan: Plan) -> fx.GraphModule:
    """The half of the device: from the inputs to what crosses, or to the answer."""
    half = _Half(nodes, _writes(nodes, plan.device))
    version: Counter[int] = Counter()
    taken: dict[int, fx.Node] = {}

    def take_all(written: frozenset[int] | None) -> None:
        """Take what crosses, all or before it is overwritten."""
        for k, one in enumerate(plan.crossings):
            if k in taken or not (
                written is None or (one.memory in written and version[one.memory] == one.version)
            ):
                continue
            node, number = one.carrier
            dtype, _, where = half.where(one)
            taken[k] = half.call(
                take, half.copies[node], number, dtype, where, overwritten=written is not None
            )

    for node in plan.device:
        if node in nodes.layer:
            take_all(nodes.ran[node].writes)
            version.update(nodes.ran[node].writes)
        half.run(node)
    if plan.edge:
        take_all(None)
        return half.module(root, tuple(taken[k] for k in range(len(taken))))
    return half.module(root, (half.call(tensor_in, *_answer(half)),))


def _answer(half: _Half) -> tuple[fx.Node, int]:
    node, number = half.nodes.answer
    return half.copies[node], number


def back_half(root: nn.Module, nodes: Nodes, plan: Plan, device: torch.device) -> fx.GraphModule:
    """The half of the edge: from what crosses to the answer."""
    often = Counter(one.memory for one in plan.crossings)
    half = _Half(nodes, _writes(nodes, plan.edge) | often.keys())
    sent = {id(one): half.graph.placeholder(f"sent_{k}") for k, one in enumerate(plan.crossings)}

    def receive(node: fx.Node | None) -> None:
        for one in plan.before.get(node, ()):
            memory, size = one.memory, next(iter(one.views)).bytes
            dtype, count, where = half.where(one)
            if memory not in half.memories:
                whole = isinstance(where, slice) and count * dtype.itemsize == size
                if whole and often[memory] == 1 and memory not in writes:
                    half.memories[memory] = half.call(memory_of, sent[id(one)], 0)
                    continue
                half.memories[memory] = half.call(new_memory, size, device)
            half.call(put, half.memories[memory], sent[id(one)], where)

    writes = _writes(nodes, plan.edge)
    for node in plan.edge:
        receive(node)
        half.run(node)
    receive(None)
    if nodes.answer[0] in half.copies:
        return half.module(root, half.call(tensor_in, *_answer(half)))
    return half.module(root, half.tensor(nodes.answer_view))
