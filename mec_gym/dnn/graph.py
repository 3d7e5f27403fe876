"""LayerGraph: what every layer of a network costs, and who reads its output."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mec_gym.core.files import read_json, write_whole
from mec_gym.core.types import BoolArray, FloatArray

FORMAT = "mec_gym layer graph 1"


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation of a network, for one frame (batch size 1).

    Attributes:
        name: Name of the layer, as the tracer calls it; it is unique in its graph.
        operation: What the layer does: ``input``, ``conv2d``, ``relu``, ``add``, ...
        flops: FLOP, two per multiply-accumulate. By the usual convention only convolutions,
            matrix products and attention count; a layer that merely passes over its data
            (activation, pooling, normalisation, addition) has 0, and its cost shows in
            ``bytes_moved``. None if they could not be counted.
        bytes_moved: Bytes of inputs and weights read and of output written, once each; 0
            if the layer moves nothing (a reshape, dropout when not training).
        output_bits: Size of the output, bit.
        seconds: Measured time, s; None if it was not measured.
    """

    name: str
    operation: str
    flops: float | None
    bytes_moved: float
    output_bits: float
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """A place where the network may answer.

    Attributes:
        name: Name of the exit.
        layer: Index of the layer whose output is the answer.
        accuracy: Measured share of right answers on a test set, [0, 1]; None if it was
            not measured. The graph's provenance says on which data, and after which training.
    """

    name: str
    layer: int
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class LayerGraph:
    """A network as a directed acyclic graph of layers.

    Attributes:
        name: Name of the network.
        layers: The V layers in topological order; layer 0 is the input, which costs nothing.
        links: Pairs (u, v) with u < v: layer v reads the output of layer u. They are kept
            sorted, without repetition.
        exits: Where the network may answer, from the earliest to the deepest.
        provenance: Where the figures come from: what was profiled and how, what it was
            trained on. Graphs that differ only in this are equal.

    Raises:
        ValueError: A size is negative or not finite, links form a cycle or are not in order,
            the input does not reach a layer or no exit needs it, or an exit is no layer.
    """

    name: str
    layers: tuple[Layer, ...]
    links: tuple[tuple[int, int], ...]
    exits: tuple[Exit, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "exits", tuple(self.exits))
        object.__setattr__(
            self,
            "links",
            tuple(sorted({(operator.index(u), operator.index(v)) for u, v in self.links})),
        )
        if not self.layers:
            raise ValueError("layers must hold at least the input, got none")
        _check_layers(self.layers)
        _check_links(self.layers, self.links)
        _check_exits(self.layers, self.exits)
        reached = self._closure([0], self.links)
        if not reached.all():
            lost = self.layers[int(np.argmin(reached))].name
            raise ValueError(f"links must lead from the input to every layer, {lost!r} has none")
        needed = self._closure([e.layer for e in self.exits], [(v, u) for u, v in self.links])
        if not needed.all():
            dead = self.layers[int(np.argmin(needed))].name
            raise ValueError(f"every layer must lead to an exit, {dead!r} leads to none")

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def flops(self) -> FloatArray:
        """FLOP of each layer, (V,).

        Raises:
            ValueError: The FLOPs of some layers could not be counted.
        """
        if self.uncounted:
            raise ValueError(
                f"{self.name}: the FLOPs of {', '.join(self.uncounted)} could not be counted; "
                "use measured times"
            )
        return np.array([layer.flops for layer in self.layers], dtype=np.float64)

    @property
    def bytes_moved(self) -> FloatArray:
        """Bytes each layer reads and writes, (V,)."""
        return np.array([layer.bytes_moved for layer in self.layers])

    @property
    def output_bits(self) -> FloatArray:
        """Bits of each layer's output, (V,)."""
        return np.array([layer.output_bits for layer in self.layers])

    @property
    def weight_bits(self) -> FloatArray:
        """Bits of each layer's weights, (V,): what it moves beyond its inputs and its output."""
        read = np.zeros(len(self))
        sizes = self.output_bits
        for u, v in self.links:
            read[v] += sizes[u]
        # A layer that moves nothing (a reshape) has inputs and an output, but no weights.
        return np.asarray(np.maximum(8.0 * self.bytes_moved - read - sizes, 0.0))

    @property
    def measured_seconds(self) -> FloatArray:
        """Measured time of each layer, (V,) s.

        Raises:
            ValueError: Some layers were not measured.
        """
        seconds = [layer.seconds for layer in self.layers]
        if None in seconds:
            lacking = self.layers[seconds.index(None)].name
            raise ValueError(f"{self.name}: layer {lacking!r} has no measured time")
        return np.array(seconds, dtype=np.float64)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Names of the layers whose FLOPs are not known."""
        return tuple(layer.name for layer in self.layers if layer.flops is None)

    @property
    def accuracies(self) -> FloatArray:
        """Measured accuracy of each exit, (exits,).

        Raises:
            ValueError: An exit has no measured accuracy.
        """
        for one in self.exits:
            if one.accuracy is None:
                raise ValueError(
                    f"{self.name}: exit {one.name!r} has no measured accuracy; train the exits "
                    "('mec-gym exits') or use a profile that has one"
                )
        return np.array([one.accuracy for one in self.exits], dtype=np.float64)

    def with_accuracies(self, accuracies: Sequence[float | None]) -> LayerGraph:
        """The same network, whose exits have these accuracies; None where it was not measured."""
        pairs = zip(self.exits, accuracies, strict=True)
        return replace(self, exits=tuple(replace(one, accuracy=known) for one, known in pairs))

    @property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """The layers that read each layer's output."""
        found: list[list[int]] = [[] for _ in self.layers]
        for u, v in self.links:
            found[u].append(v)
        return tuple(tuple(s) for s in found)

    @property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """The layers that each layer reads from."""
        found: list[list[int]] = [[] for _ in self.layers]
        for u, v in self.links:
            found[v].append(u)
        return tuple(tuple(p) for p in found)

    def at_exit(self, index: int) -> LayerGraph:
        """Return the network that answers at one exit, G_n: the layers that this exit needs.

        Args:
            index: Index of the exit.

        Raises:
            ValueError: There is no such exit.
        """
        if not 0 <= index < len(self.exits):
            raise ValueError(f"exit must be in [0, {len(self.exits)}), got {index!r}")
        chosen = self.exits[index]
        needed = self._closure([chosen.layer], [(v, u) for u, v in self.links])
        place = np.cumsum(needed) - 1
        return replace(
            self,
            layers=tuple(layer for layer, keep in zip(self.layers, needed, strict=True) if keep),
            links=tuple((place[u], place[v]) for u, v in self.links if needed[v]),
            exits=(replace(chosen, layer=int(place[chosen.layer])),),
        )

    def exit_order(self) -> tuple[int, ...]:
        """Return the indices of the exits from the earliest to the deepest.

        They stay in their order unless an exit needs more layers, and no less FLOP, than another
        one after it; then they are sorted by the layers that they need.
        """
        # Where not all FLOPs are known, the layers decide.
        flops = np.zeros(len(self)) if self.uncounted else self.flops
        depths = []
        for one in self.exits:
            needed = self._closure([one.layer], [(v, u) for u, v in self.links])
            depths.append((int(needed.sum()), float(flops[needed].sum())))
        order = range(len(depths))
        swapped = any(
            depths[n][0] > layers and depths[n][1] >= cost
            for later, (layers, cost) in enumerate(depths)
            for n in range(later)
        )
        return tuple(sorted(order, key=depths.__getitem__) if swapped else order)

    def chain(self) -> tuple[int, ...]:
        """Return the layers that every path from the input to the exit passes.

        The graph is a chain of blocks, and these layers are the joints between them.

        Raises:
            ValueError: There are several exits; see :meth:`at_exit`.
        """
        if len(self.exits) != 1:
            raise ValueError(f"a chain needs a single exit, {self.name} has {len(self.exits)}")
        reach = np.arange(len(self))
        for u, v in self.links:
            reach[u] = max(reach[u], v)
        # No link jumps over a joint.
        furthest = np.concatenate([[0], np.maximum.accumulate(reach)[:-1]])
        return tuple(int(v) for v in np.flatnonzero(furthest <= np.arange(len(self))))

    def _closure(self, start: Iterable[int], links: Iterable[tuple[int, int]]) -> BoolArray:
        """Which layers can be reached from ``start`` along links, itself included, (V,)."""
        ahead: list[list[int]] = [[] for _ in self.layers]
        for u, v in links:
            ahead[u].append(v)
        seen = np.zeros(len(self.layers), dtype=np.bool_)
        waiting = list(start)
        while waiting:
            u = waiting.pop()
            if not seen[u]:
                seen[u] = True
                waiting += ahead[u]
        return seen

    def to_json(self) -> str:
        """Return the graph as text, which :func:`from_json` reads."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "provenance": dict(self.provenance),
            "exits": [asdict(one) for one in self.exits],
            "layers": [asdict(layer) for layer in self.layers],
            "links": [list(link) for link in self.links],
        }
        rows = []
        for key, value in content.items():
            if isinstance(value, list) and value:
                inner = ",\n  ".join(json.dumps(row) for row in value)
                rows.append(f' "{key}": [\n  {inner}\n ]')
            else:
                rows.append(f' "{key}": {json.dumps(value)}')
        return "{\n" + ",\n".join(rows) + "\n}\n"


def from_json(text: str, source: str = "profile") -> LayerGraph:
    """Read what :meth:`LayerGraph.to_json` wrote.

    Args:
        text: The graph as JSON.
        source: Name of the text in error messages.

    Raises:
        ValueError: The text is not JSON, or as :func:`graph_of`.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{source} is not JSON: {error}") from error
    return graph_of(content, source)


def graph_of(content: Any, source: str) -> LayerGraph:
    """Return the graph that a JSON file holds.

    Args:
        content: What the file holds.
        source: Name of the file in error messages.

    Raises:
        ValueError: It has another format or version, its fields are missing or wrong, or the
            deepest exit does not come last.
    """
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{source} must have the format {FORMAT!r}, got {found!r}")
    try:
        graph = LayerGraph(
            str(content["name"]),
            tuple(Layer(**layer) for layer in content["layers"]),
            tuple((u, v) for u, v in content["links"]),
            tuple(Exit(**one) for one in content["exits"]),
            content.get("provenance", {}),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{source} is no valid profile: {error}") from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    order = graph.exit_order()
    if order != tuple(range(len(order))):
        given, wanted = ([graph.exits[n].name for n in some] for some in (range(len(order)), order))
        raise ValueError(
            f"{source}: exits must go from the earliest to the deepest, {wanted}, got {given}"
        )
    return graph


def load_graph(path: str | Path) -> LayerGraph:
    """Read a profile from a JSON file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no profile of this version.
    """
    return graph_of(read_json(path), str(path))


def save_graph(path: str | Path, graph: LayerGraph) -> None:
    """Write a profile to a JSON file; an older file stays whole until the new one is.

    Args:
        path: The file.
        graph: The profile.
    """
    write_whole(Path(path), graph.to_json())


def _check_number(what: str, value: Any, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    if value < 0:
        raise ValueError(f"{what} must not be negative, got {value!r}")


def _check_layers(layers: tuple[Layer, ...]) -> None:
    names = set()
    for layer in layers:
        if layer.name in names:
            raise ValueError(f"layer names must differ, {layer.name!r} stands twice")
        names.add(layer.name)
        _check_number(f"flops of layer {layer.name!r}", layer.flops, optional=True)
        _check_number(f"bytes_moved of layer {layer.name!r}", layer.bytes_moved)
        _check_number(f"output_bits of layer {layer.name!r}", layer.output_bits)
        _check_number(f"seconds of layer {layer.name!r}", layer.seconds, optional=True)
    if layers[0].flops or layers[0].bytes_moved or layers[0].seconds:
        raise ValueError(f"layer 0 is the input and must cost nothing, got {layers[0]}")


def _check_links(layers: tuple[Layer, ...], links: tuple[tuple[int, int], ...]) -> None:
    for link in links:
        if not all(0 <= end < len(layers) for end in link):
            raise ValueError(f"links must join layers 0 to {len(layers) - 1}, got {link}")
    backward = [(u, v) for u, v in links if u >= v]
    if not backward:
        return
    # Wrong order or a cycle? Take away what nobody has to wait for, until nothing is left.
    waiting = set(range(len(layers)))
    while ready := waiting - {v for u, v in links if u in waiting}:
        waiting -= ready
    if waiting:
        names = ", ".join(repr(layers[v].name) for v in sorted(waiting))
        raise ValueError(f"links must not form a cycle, they do among {names}")
    u, v = backward[0]
    raise ValueError(
        f"layers must be in topological order, but {layers[v].name!r} (layer {v}) reads "
        f"{layers[u].name!r} (layer {u})"
    )


def _check_exits(layers: tuple[Layer, ...], exits: tuple[Exit, ...]) -> None:
    if not exits:
        raise ValueError("exits must hold at least one exit, got none")
    for one in exits:
        whole = isinstance(one.layer, (int, np.integer))
        if not whole or not 0 <= one.layer < len(layers):
            raise ValueError(
                f"exit {one.name!r} must be a layer 0 to {len(layers) - 1}, got {one.layer!r}"
            )
        _check_number(f"accuracy of exit {one.name!r}", one.accuracy, optional=True)
        if one.accuracy is not None and one.accuracy > 1:
            raise ValueError(
                f"accuracy of exit {one.name!r} must be in [0, 1], got {one.accuracy!r}"
            )
