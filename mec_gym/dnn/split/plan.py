"""What runs on either side of a partition, and which memory crosses when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from torch import fx

from mec_gym.dnn.split.memory import Ran, View, views_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The nodes of a traced graph, as one exit needs them.

    Attributes:
        ran: What each node did, in the order in which they run.
        layer: The layer that a node is, for the layers that the exit needs.
        items: The nodes that take something out of a tuple.
        constants: The nodes that compute nothing from the inputs.
        answer: The node that yields the answer, and which of its tensors it is.
        answer_view: How the answer lies in memory in the end.
    """

    ran: Mapping[fx.Node, Ran]
    layer: Mapping[fx.Node, int]
    items: frozenset[fx.Node]
    constants: frozenset[fx.Node]
    answer: tuple[fx.Node, int]
    answer_view: View

    def is_plain(self, node: fx.Node) -> bool:
        """Whether a node yields no tensors, but a number or the like, the same for all frames."""
        ran = self.ran[node]
        return not (node.op == "get_attr" or ran.writes or views_in(ran.value))


@dataclass(slots=True, kw_only=True)
class Crossing:
    """Memory that crosses, as it is between two writes of the device.

    Attributes:
        memory: Its number.
        version: How often the device has written to it before.
        layer: The layer that wrote it.
        views: The tensors in it that the edge reads; only what they look at crosses.
    """

    memory: int
    version: int
    layer: int
    views: set[View] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who runs what.

    Attributes:
        device: The nodes that the device runs, in their order.
        edge: The nodes that the edge runs, in their order; none if the device runs all.
        crossings: What crosses, in the order in which the edge reads it.
        before: What the edge must have been sent before it runs a node; None stands for its end.
    """

    device: tuple[fx.Node, ...]
    edge: tuple[fx.Node, ...]
    crossings: tuple[Crossing, ...]
    before: Mapping[fx.Node | None, Sequence[Crossing]]


def make_plan(nodes: Nodes, on_edge: Sequence[bool]) -> Plan:
    """Decide who runs what.

    A layer runs where the partition says, an item with the tuple out of which it is taken, and
    a constant on every side that needs it. The edge has memory of its own for each piece of
    memory that the device and it look at. In the order of the whole network the device writes
    to it first and the edge later, as nothing comes back; but the edge may read between two
    writes of the device. What it reads crosses as it was at that time.

    Args:
        nodes: The nodes of a traced graph.
        on_edge: Whether each layer that the exit needs runs on the edge; a valid partition.
    """
    device, edge = _sides(nodes, on_edge)
    if not any(on_edge):
        return Plan(device=_run(nodes, device, {nodes.answer[0]}), edge=(), crossings=(), before={})
    runs = _run(nodes, edge, {nodes.answer[0]})
    walk = _Walk(nodes, device, frozenset(runs))
    return Plan(
        device=_run(nodes, device, set()),
        edge=runs,
        crossings=tuple(walk.crossings),
        before=walk.before,
    )


def _sides(nodes: Nodes, on_edge: Sequence[bool]) -> tuple[set[fx.Node], set[fx.Node]]:
    """The layers and items of the device, and those of the edge."""
    sides: tuple[set[fx.Node], set[fx.Node]] = (set(), set())
    for node in nodes.ran:
        if node in nodes.layer:
            sides[on_edge[nodes.layer[node]]].add(node)
        elif node in nodes.items:
            for side in sides:
                if node.args[0] in side:
                    side.add(node)
    return sides


def _run(nodes: Nodes, side: Set[fx.Node], wanted: set[fx.Node]) -> tuple[fx.Node, ...]:
    """The layers of a side, and the items and constants that it needs, in their order.

    Args:
        nodes: All nodes.
        side: The layers and items of the side.
        wanted: The nodes that are needed beside what its layers read.
    """
    wanted = set(wanted)
    read: set[int] = set()
    found = []
    for node in reversed(list(nodes.ran)):
        ran = nodes.ran[node]
        mine = node in side or node in nodes.constants
        if nodes.is_plain(node) or not mine:
            continue
        is_layer = node in nodes.layer
        if is_layer or node in wanted or (node in nodes.constants and ran.writes & read):
            found.append(node)
            wanted.update(ran.reads)
            read.update(view.memory for value in ran.reads.values() for view in views_in(value))
    return tuple(reversed(found))


class _Walk:
    """Goes through the nodes in their order and notes what must cross.

    Args:
        nodes: All nodes.
        device: The layers and items of the device.
        edge: What the edge runs.

    Attributes:
        crossings: What crosses.
        before: What must have crossed before a node of the edge runs.
    """

    def __init__(self, nodes: Nodes, device: Set[fx.Node], edge: Set[fx.Node]) -> None:
        self.crossings: list[Crossing] = []
        self.before: dict[fx.Node | None, list[Crossing]] = {}
        # For memory that the device has: which of its layers wrote to it last, how often it
        # was overwritten, and what crossed of it last.
        self._writer: dict[int, int] = {}
        self._version: Counter[int] = Counter()
        self._latest: dict[int, Crossing] = {}
        # What the edge has written to, and what it has because it computed a constant.
        self._written: set[int] = set()
        self._constant: set[int] = set()
        for node, ran in nodes.ran.items():
            if node in edge:
                self._on_edge(node, ran, nodes)
            elif node in device and node in nodes.layer:
                self._on_device(node, ran, nodes.layer[node])
        self._read(None, nodes.answer_view)

    def _on_edge(self, node: fx.Node, ran: Ran, nodes: Nodes) -> None:
        if node not in nodes.items:  # they only look at the tuple
            for value in ran.reads.values():
                for view in views_in(value):
                    self._read(node, view)
        if node in nodes.layer:
            self._written |= ran.writes
        elif node in nodes.constants:
            self._constant.update(view.memory for view in views_in(ran.value))

    def _on_device(self, node: fx.Node, ran: Ran, layer: int) -> None:
        self._version.update(ran.writes)
        made = {view.memory for view in views_in(ran.value)} - self._writer.keys()
        self._writer.update(dict.fromkeys(made | ran.writes, layer))

    def _read(self, node: fx.Node | None, view: View) -> None:
        """Note that a node of the edge reads a tensor, or that it is the answer."""
        memory = view.memory
        if memory not in self._writer:
            return  # the device never looked at it
        version = self._version[memory]
        latest = self._latest.get(memory)
        if memory not in self._written and (latest is None or latest.version != version):
            if memory in self._constant and not version:
                return
            latest = Crossing(memory=memory, version=version, layer=self._writer[memory])
            self._latest[memory] = latest
            self.crossings.append(latest)
            self.before.setdefault(node, []).append(latest)
        if latest is not None:
            latest.views.add(view)
