"""From a counted graph to a LayerGraph: which nodes are layers, and who reads what.

A node of a traced graph need not be a layer: constants, arithmetic on shapes and items of
tuples are none. And a node need not read from the node that its argument names: an operation in
place may have written to the same memory in between.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from mec_gym.dnn.graph import Exit, Layer, LayerGraph
from mec_gym.dnn.profile.counting import Count
from mec_gym.dnn.profile.operations import IN_PLACE
from mec_gym.dnn.profile.tensors import bits_of, storage_of, tensors_in

_LAST = "final"
"""Name of the deepest exit, if the module gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What the nodes of a traced graph are in a LayerGraph.

    Nodes that are neither layers, items nor constants yield no tensors, or no exit needs them.

    Attributes:
        graph: The layers, and who reads what.
        index: The layer that a node is; every input is part of layer 0.
        items: The nodes that take something out of a tuple.
        constants: The nodes that compute nothing from the inputs, but what a module holds, or
            constants.
        exits: For each exit, the node that yields its tensor, and which of its tensors it is.
        outputs: For each exit, which of the tensors that the module returns it is.
    """

    graph: LayerGraph
    index: Mapping[fx.Node, int]
    items: frozenset[fx.Node]
    constants: frozenset[fx.Node]
    exits: tuple[tuple[fx.Node, int], ...]
    outputs: tuple[int, ...]


def find_layers(
    count: Count, title: str, seconds: Mapping[fx.Node, float], provenance: Mapping[str, Any]
) -> Layers:
    """Make the layers, from the nodes that yield tensors computed from the input.

    Args:
        count: The traced module, counted.
        title: Name of the graph.
        seconds: Time of each node, s; empty if it was not measured.
        provenance: Where the figures come from.

    Raises:
        ValueError: The module returns something else than tensors computed from its input.
    """
    writers = _LastWriters(count)
    returned = _returned(count)
    ends = _end_nodes(returned, writers, title)
    needed = _needed(ends, writers)
    nodes = list(count.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"]
    kept = [node for node in nodes if node in needed and node.op != "placeholder"]
    index = dict.fromkeys(inputs, 0) | {node: k for k, node in enumerate(kept, 1)}
    bits = sum(bits_of(count.nodes[node].value) for node in inputs if node in needed)
    graph = LayerGraph(
        title,
        (
            Layer("input", "input", 0.0, 0.0, bits, 0.0 if seconds else None),
            *(_layer(count, node, writers.largest_read(node), seconds.get(node)) for node in kept),
        ),
        tuple((index[source], index[node]) for node in kept for source in writers.read_by[node]),
        tuple(Exit(label, index[node]) for label, node in ends.items()),
        provenance,
    )
    order = graph.exit_order()
    exits = tuple(returned.values())
    return Layers(
        graph=_with_exits_in_order(graph, order),
        index=index,
        items=frozenset(node for node in nodes if _is_item(count, node)),
        constants=frozenset(
            node
            for node in nodes
            if node.op not in ("placeholder", "output") and not writers.read_by[node]
        ),
        exits=tuple(exits[n] for n in order),
        outputs=order,
    )


def _with_exits_in_order(graph: LayerGraph, order: tuple[int, ...]) -> LayerGraph:
    """Put the deepest exit last; ``outputs`` of the provenance then says which output is which."""
    if order == tuple(range(len(order))):
        return graph
    names = [one.name for one in graph.exits]
    places = [*(f"exit {k}" for k in range(1, len(names))), _LAST]
    # Without names of their own, exits are called by their place.
    names = places if names == places else [names[n] for n in order]
    exits = tuple(replace(graph.exits[n], name=name) for n, name in zip(order, names, strict=True))
    return replace(graph, exits=exits, provenance={**graph.provenance, "outputs": list(order)})


class _LastWriters:
    """Follows a graph from node to node: which layers wrote what each node reads.

    Args:
        count: The traced module, counted.

    Attributes:
        read_by: For each node, the layers and inputs that last wrote what it reads.
    """

    def __init__(self, count: Count) -> None:
        self.read_by: dict[fx.Node, set[fx.Node]] = {}
        self._count = count
        self._order = {node: k for k, node in enumerate(count.graph.nodes)}
        # The nodes that wrote to each storage, as far as the walk has come.
        self._writers: dict[int, list[fx.Node]] = {}
        # The layers or inputs that made what a node yields; empty for constants and shapes.
        self._sources: dict[fx.Node, set[fx.Node]] = {}
        self._largest: dict[fx.Node, float] = {}
        for node in count.graph.nodes:
            self._visit(node)

    def of(self, node: fx.Node) -> set[fx.Node]:
        """Return the layer that last wrote what a node yields, as far as the walk has come."""
        found = self._sources[node]
        for tensor in tensors_in(self._count.nodes[node].value):
            for writer in self._writers.get(storage_of(tensor), ()):
                # What the module holds may have been written to before it is looked at.
                if node.op == "get_attr" or self._order[writer] > self._order[node]:
                    found = self._sources[writer]
        return found

    def largest_read(self, node: fx.Node) -> float:
        """Return the size of the largest tensor that is read where a node wrote last, bit.

        A node may have written only a part of it.
        """
        return self._largest.get(node, 0.0)

    def _visit(self, node: fx.Node) -> None:
        read: set[fx.Node] = set()
        for argument in node.all_input_nodes:
            found = self.of(argument)
            if found != self._sources[argument]:
                size = bits_of(self._count.nodes[argument].value)
                for source in found:
                    self._largest[source] = max(self.largest_read(source), size)
            read |= found
        self.read_by[node] = read
        self._sources[node] = self._sources_of(node, read)
        if node.op in ("call_module", "call_function", "call_method"):
            for storage in self._count.nodes[node].writes:
                self._writers.setdefault(storage, []).append(node)

    def _sources_of(self, node: fx.Node, read: set[fx.Node]) -> set[fx.Node]:
        if node.op == "placeholder":
            return {node}
        # A node that returns nothing may still write, as an assignment to items does.
        counted = self._count.nodes[node]
        yields = bool(list(tensors_in(counted.value)) or counted.writes)
        if node.op in ("get_attr", "output") or not read or not yields:
            return set()  # constants, shapes and what comes of them alone
        return read if _is_item(self._count, node) else {node}


def _end_nodes(
    returned: Mapping[str, tuple[fx.Node, int]], writers: _LastWriters, title: str
) -> dict[str, fx.Node]:
    """The exits by name, and the layer or input that last wrote each one's tensor."""
    ends = {}
    for label, (node, _) in returned.items():
        found = writers.of(node)
        if len(found) != 1:
            raise ValueError(f"output {label!r} of {title} must be computed from its input")
        (ends[label],) = found
    return ends


def _returned(count: Count) -> dict[str, tuple[fx.Node, int]]:
    """The exits by name: the node that yields each one's tensor, and which of its tensors it is."""
    (output,) = count.graph.find_nodes(op="output")
    returned: Any = output.args[0]
    info = getattr(count.graph._codegen, "pytree_info", None)
    if info is not None and info.out_spec is not None:
        returned = pytree.tree_unflatten(list(returned), info.out_spec)  # as export found it
    named = dict(returned) if isinstance(returned, dict) else {"": returned}
    found: dict[str, tuple[fx.Node, int]] = {}
    for key, value in named.items():
        tensors = list(_tensor_nodes(count, value, str(key)))
        names = [f"{key} exit {k}".strip() for k in range(1, len(tensors))]
        found |= zip([*names, str(key) or _LAST], tensors, strict=True) if tensors else []
    if not found:
        raise ValueError(f"the module must return tensors, got {returned!r}")
    return found


def _tensor_nodes(count: Count, returned: Any, label: str) -> Iterator[tuple[fx.Node, int]]:
    """Each tensor that is returned, by its node and its number there; None is passed over."""
    if isinstance(returned, (tuple, list)):
        for one in returned:
            yield from _tensor_nodes(count, one, label)
    elif returned is not None:
        is_node = isinstance(returned, fx.Node)
        tensors = list(tensors_in(count.nodes[returned].value)) if is_node else []
        if not tensors:
            what = f"output {label!r}" if label else "what the module returns"
            raise ValueError(f"{what} must be a tensor, got {returned!r}")
        yield from ((returned, k) for k in range(len(tensors)))


def _needed(ends: Mapping[str, fx.Node], writers: _LastWriters) -> set[fx.Node]:
    """The layers and inputs that an exit needs."""
    needed: set[fx.Node] = set()
    waiting = list(ends.values())
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += writers.read_by[node]
    return needed


def _layer(count: Count, node: fx.Node, largest_read: float, seconds: float | None) -> Layer:
    counted = count.nodes[node]
    return Layer(
        layer_name(node),
        _operation(count, node),
        counted.flops,
        _bytes_moved(count, node) if counted.moves else 0.0,
        max(_output_bits(count, node), largest_read),
        seconds,
    )


def layer_name(node: fx.Node) -> str:
    """Return the name of the layer that a node is."""
    if node.op != "call_module":
        return node.name
    same = [n for n in node.graph.nodes if n.op == "call_module" and n.target == node.target]
    # A module that is called several times is several layers.
    return str(node.target) if len(same) == 1 else f"{node.target} #{same.index(node) + 1}"


def _operation(count: Count, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(count.fetch_attr(str(node.target))).__name__.lower()
    target = node.args[1] if node.target is getattr else node.target
    text = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    word = str(text).split(".")[0].strip("_")
    return word[1:] if target in IN_PLACE else word


def _bytes_moved(count: Count, node: fx.Node) -> float:
    """Bytes of inputs and weights read and of output written, once each."""
    read = node.all_input_nodes
    held: list[torch.Tensor] = []
    if node.op == "call_module":
        module = count.fetch_attr(str(node.target))
        held = [*module.parameters(), *module.buffers()]
    output = bits_of(count.nodes[node].value)
    total = output
    if count.nodes[node].looks_up:  # reads of its table what it returns
        read = [one for one in read if one.op != "get_attr"]
        held, total = [], 2 * output
    total += bits_of([count.nodes[one].value for one in read]) + bits_of(held)
    return total / 8.0


def _output_bits(count: Count, node: fx.Node) -> float:
    """Bits that readers use: of a tuple, the items that are taken."""
    return bits_of(list({id(tensor): tensor for tensor in _taken(count, node)}.values()))


def _taken(count: Count, node: fx.Node) -> Iterator[torch.Tensor]:
    value = count.nodes[node].value
    items = [user for user in node.users if _is_item(count, user)]
    if isinstance(value, torch.Tensor) or len(items) < len(node.users):
        yield from tensors_in(value)
        return
    for item in items:
        if item.users:
            yield from _taken(count, item)


def _is_item(count: Count, node: fx.Node) -> bool:
    """Whether a node takes something out of a tuple."""
    if node.op != "call_function" or node.target not in (operator.getitem, getattr):
        return False
    whole = node.args[0]
    return isinstance(whole, fx.Node) and not isinstance(count.nodes[whole].value, torch.Tensor)
