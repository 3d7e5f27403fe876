"""The names of partitions on the command line, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.dnn.graph import LayerGraph
from mec_gym.early_exit.partitions import enumerate_partitions, is_valid
from mec_gym.early_exit.table import front

DEVICE_ONLY, EDGE_ONLY, LIGHT, HEAVY, AFTER = "device-only", "edge-only", "light", "heavy", "after:"
NAMES = (
    f"{DEVICE_ONLY}, {EDGE_ONLY}, {LIGHT} (least predicted latency), {HEAVY} (highest predicted "
    f"throughput), {AFTER}LAYER (the device runs LAYER and all layers before it), or the number of "
    "a partition"
)
MOST = 2_000
"""The largest number of partitions that have a number, or are all executed."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A partition and its name.

    Attributes:
        name: What it is called.
        on_edge: Whether each layer runs on the edge, (V,).
    """

    name: str
    on_edge: BoolArray


def device_only(graph: LayerGraph) -> BoolArray:
    """Nothing runs on the edge, (V,)."""
    return np.zeros(len(graph), dtype=np.bool_)


def edge_only(graph: LayerGraph) -> BoolArray:
    """All layers but the input run on the edge, (V,)."""
    on_edge = np.ones(len(graph), dtype=np.bool_)
    on_edge[0] = False
    return on_edge


def numbered(graph: LayerGraph) -> list[Choice]:
    """All partitions, by their numbers: from all on the edge to all on the device.

    Raises:
        ValueError: There are too many.
    """
    found = enumerate_partitions(graph, MOST)
    if found is None:
        raise ValueError(
            f"partitions have numbers where there are at most {MOST:,} of them, {graph.name} has "
            f"more; name one of {NAMES}"
        )
    return [Choice(str(number), on_edge) for number, on_edge in enumerate(found)]


def named(graph: LayerGraph, name: str) -> Choice:
    """The partition that a name stands for, unless that depends on times.

    Args:
        graph: A network with one exit.
        name: One of ``NAMES``, but neither ``light`` nor ``heavy``.

    Raises:
        ValueError: There is no such partition, or it is not valid.
    """
    if name == DEVICE_ONLY:
        return Choice(name, device_only(graph))
    if name == EDGE_ONLY:
        return Choice(name, edge_only(graph))
    if name.startswith(AFTER):
        layers = [layer.name for layer in graph.layers]
        wanted = name[len(AFTER) :]
        if wanted not in layers:
            raise ValueError(
                f"partition must name a layer of {graph.name}, one of {_some(layers)}, got {name!r}"
            )
        on_edge = np.arange(len(graph)) > layers.index(wanted)
        assert is_valid(graph, on_edge)  # layers stand in topological order
        return Choice(name, on_edge)
    if name.isascii() and name.isdigit():
        choices = numbered(graph)
        if int(name) >= len(choices):
            raise ValueError(f"partition must be in [0, {len(choices)}), got {name}")
        return choices[int(name)]
    raise ValueError(f"partition must be one of {NAMES}; got {name!r}")


def best(
    graph: LayerGraph,
    device_s: FloatArray,
    edge_s: FloatArray,
    rate: float,
    extra_s: float,
    heavy: bool,
) -> Choice:
    """The partition that is predicted to be the best, as the simulator chooses it.

    Args:
        graph: V layers, one exit.
        device_s: The time of every layer on the device, (V,) s.
        edge_s: The time of every layer on the edge, (V,) s.
        rate: The rate of the link, bit/s.
        extra_s: What a frame takes longer if anything is sent, s.
        heavy: Whether the slowest stage counts; otherwise the sum does.
    """
    found = front(graph, device_s, edge_s, (rate, rate))
    stages = found.cost * (1.0, 1.0 / rate, 1.0)
    sends = found.on_edge.any(axis=-1)
    score = stages.max(axis=-1) if heavy else stages.sum(axis=-1) + np.where(sends, extra_s, 0.0)
    return Choice(HEAVY if heavy else LIGHT, found.on_edge[int(score.argmin())])


def _some(names: list[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > most else shown
