"""The layers of a profile in a graph that was traced once more, with real tensors."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile.counting import Count
from mec_gym.dnn.profile.layers import Layers, find_layers
from mec_gym.dnn.profile.tensors import Tensors, hollow, storage_of, tensors_in


def layers_again(
    traced: fx.GraphModule, inputs: Tensors, graph: LayerGraph
) -> tuple[Layers, set[fx.Node]]:
    """Find the layers of a profile in a graph that was traced with real tensors.

    There torch makes constants in another way, and fills with a number by another operation, so
    that nodes may have other names. But there must be the same layers, each reading the same.

    Args:
        traced: The module as it was traced with real tensors.
        inputs: What it is given, of which only shapes and types matter.
        graph: The layers that were found without content.

    Returns:
        The layers, and the nodes that yield what the module holds and writes to.

    Raises:
        ValueError: There are other layers.
    """
    with torch.device("meta"):
        without_content = hollow(traced)
        assert isinstance(without_content, fx.GraphModule)
        count = Count(without_content)
        count.record(inputs)
    layers = find_layers(count, graph.name, {}, graph.provenance)
    sizes, others = ([layer.output_bits for layer in one.layers] for one in (graph, layers.graph))
    ends, other_ends = ([one.layer for one in found.exits] for found in (graph, layers.graph))
    if (sizes, graph.links, ends) != (others, layers.graph.links, other_ends):
        raise ValueError("with content, its tensors have other layers than without")
    real = dict(zip(count.graph.nodes, traced.graph.nodes, strict=True))
    writes = frozenset().union(*(one.writes for one in count.nodes.values()))
    written = {
        real[node]
        for node in count.graph.find_nodes(op="get_attr")
        if any(storage_of(tensor) in writes for tensor in tensors_in(count.nodes[node].value))
    }
    found = replace(
        layers,
        graph=graph,
        index={real[node]: k for node, k in layers.index.items()},
        items=frozenset(real[node] for node in layers.items),
        constants=frozenset(real[node] for node in layers.constants),
        exits=tuple((real[node], number) for node, number in layers.exits),
    )
    return found, written
