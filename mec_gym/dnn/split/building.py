"""From a plan to the modules of both sides."""

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
        self.copies: dict[fx.Node, fx.Node] = {}
        self.memories: dict[int, fx.Node] = {}
        self._tensors: dict[View, fx.Node] = {}
        # For each piece of memory, a tensor here that lies in it, and its number in a tuple.
        self._holders: dict[int, tuple[fx.Node, int]] = {}

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
                if views[0].memory not in self.memories:
                    self.memories[views[0].memory] = self.call(copy_memory, copy, 0)
                copy = self.tensor(views[0])
        self.copies[node] = copy
        for number, view in enumerate(views):
            self._holders.setdefault(view.memory, (copy, number))

    def argument(self, node: fx.Node, source: fx.Node) -> Any:
        """What a node reads here of another one."""
        if source in self.copies:
            return self.copies[source]
        return pytree.tree_map_only(View, self.tensor, self.nodes.ran[node].reads[source])

    def has(self, memory: int) -> bool:
        """Whether a tensor of this half lies in a piece of memory."""
        return memory in self.memories or memory in self._holders

    def memory(self, memory: int) -> fx.Node:
        """A piece of memory that this half has."""
        if memory not in self.memories:
            self.memories[memory] = self.call(memory_of, *self._holders[memory])
        return self.memories[memory]

    def tensor(self, view: View) -> fx.Node:
        """A tensor in memory that this half has, whether or not it was made here."""
        if view not in self._tensors:
            layout = (view.dtype, view.shape, view.strides, view.offset)
            self._tensors[view] = self.call(look_at, self.memory(view.memory), *layout)
        return self._tensors[view]

    def where(self, crossing: Crossing) -> tuple[torch.dtype, int, Any]:
        """Type, number and places of the elements that cross."""
        dtype, count, where = covered(crossing.views)
        if isinstance(where, slice):
            return dtype, count, where
        name = f"_places_{len(self.places)}"
        self.places[name] = where
        return dtype, count, self.graph.create_node("get_attr", name)

    def answer(self) -> fx.Node:
        """The answer."""
        node, number = self.nodes.answer
        if node in self.copies:
            return self.call(tensor_in, self.copies[node], number)
        return self.tensor(self.nodes.answer_view)

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


def front_half(root: nn.Module, nodes: Nodes, plan: Plan) -> fx.GraphModule:
    """The half of the device: from the inputs to what crosses, or to the answer alone.

    Args:
        root: What was traced.
        nodes: Its nodes.
        plan: Who runs what.
    """
    half = _Half(nodes, _writes(nodes, plan.device))
    version: Counter[int] = Counter()
    taken: dict[int, fx.Node] = {}

    def take_now(one: Crossing, overwritten: bool) -> None:
        dtype, _, where = half.where(one)
        memory = half.memory(one.memory)
        taken[id(one)] = half.call(take, memory, dtype, where, overwritten=overwritten)

    for node in plan.device:
        if node in nodes.layer:
            for one in plan.crossings:
                written = one.memory in nodes.ran[node].writes
                if written and one.version == version[one.memory]:
                    take_now(one, overwritten=True)
            version.update(nodes.ran[node].writes)
        half.run(node)
    if not plan.edge:
        return half.module(root, (half.answer(),))
    for one in plan.crossings:
        if id(one) not in taken:
            take_now(one, overwritten=False)
    return half.module(root, tuple(taken[id(one)] for one in plan.crossings))


def back_half(root: nn.Module, nodes: Nodes, plan: Plan, device: torch.device) -> fx.GraphModule:
    """The half of the edge: from what crosses to the answer.

    Args:
        root: What was traced.
        nodes: Its nodes.
        plan: Who runs what.
        device: Where torch runs it.
    """
    written = _writes(nodes, plan.edge)
    often = Counter(one.memory for one in plan.crossings)
    half = _Half(nodes, written | often.keys())
    sent = {id(one): half.graph.placeholder(f"sent_{k}") for k, one in enumerate(plan.crossings)}

    def receive(one: Crossing) -> None:
        memory, size = one.memory, next(iter(one.views)).bytes
        dtype, count, where = half.where(one)
        if not half.has(memory):
            if count * dtype.itemsize == size and often[memory] == 1 and memory not in written:
                half.memories[memory] = half.call(memory_of, sent[id(one)], 0)
                return
            half.memories[memory] = half.call(new_memory, size, device)
        half.call(put, half.memory(memory), sent[id(one)], where)

    for node in (*plan.edge, None):
        for one in plan.before.get(node, ()):
            receive(one)
        if node is not None:
            half.run(node)
    return half.module(root, half.answer())


def _writes(nodes: Nodes, run: tuple[fx.Node, ...]) -> set[int]:
    return set().union(*(nodes.ran[node].writes for node in run))
