"""A network as a chain of K blocks: the joints of its graph at which the work divides best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mec_gym.core.types import FloatArray
from mec_gym.dnn.graph import LayerGraph


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Blocks:
    """A network as K blocks, one after the other.

    Attributes:
        bits: What goes into each block, and at last the result, (K + 1,) bit.
        work: What each block computes, (K,) FLOP.
        weights: The weights of each block, (K,) bit.
        outputs: The outputs of all layers of each block, (K,) bit: what training keeps of the
            forward pass for the backward pass. (Activations computed in place keep less.)
    """

    bits: FloatArray
    work: FloatArray
    weights: FloatArray
    outputs: FloatArray


def cut_chain(graph: LayerGraph, blocks: int, even: bool = False) -> Blocks:
    """Cut a network with one exit into K blocks at joints of its chain.

    The cut is chosen whose largest block has the least work; among several such cuts, the one
    that sends least in all between blocks. (Layers that only pass over their data count 0
    FLOP, so many joints are equal but for what they send.)

    Args:
        graph: A network with one exit.
        blocks: Number of blocks, K.
        even: Whether, before what is sent counts, the smallest block should have the most work.
            Otherwise a last layer that computes next to nothing may be a block of its own.

    Raises:
        ValueError: The chain has fewer links than there should be blocks, or the network has
            several exits.
    """
    joints = np.array(graph.chain())
    if not 1 <= blocks < len(joints):
        raise ValueError(
            f"blocks must be in [1, {len(joints) - 1}] for {graph.name}, got {blocks!r}"
        )
    done = np.concatenate([[0.0], np.cumsum(graph.flops)])[joints + 1]  # FLOP up to each joint
    bits = graph.output_bits[joints]
    count = len(joints)
    # Fewest FLOP in the largest block over the first j joints, then fewest bits with that.
    span = np.where(np.tri(count, k=-1, dtype=np.bool_), done[:, None] - done[None, :], np.inf)
    largest = np.full((blocks + 1, count), np.inf)
    largest[0, 0] = 0.0
    for b in range(1, blocks + 1):
        largest[b] = np.maximum(largest[b - 1], span).min(axis=1)
    limit = largest[blocks, -1] * (1.0 + 1e-12)
    span[span > limit] = np.inf
    if even:
        smallest = np.full((blocks + 1, count), -np.inf)
        smallest[0, 0] = np.inf
        possible = np.where(np.isfinite(span), span, -np.inf)
        for b in range(1, blocks + 1):
            smallest[b] = np.minimum(smallest[b - 1], possible).max(axis=1)
        span[span < smallest[blocks, -1] * (1.0 - 1e-12)] = np.inf
    sent = np.full((blocks + 1, count), np.inf)
    before = np.zeros((blocks + 1, count), dtype=np.int64)
    sent[0, 0] = 0.0
    for b in range(1, blocks + 1):
        total = np.where(np.isfinite(span), sent[b - 1] + bits, np.inf)
        before[b] = total.argmin(axis=1)
        sent[b] = total.min(axis=1)
    cuts = [count - 1]
    for b in range(blocks, 0, -1):
        cuts.append(int(before[b, cuts[-1]]))
    cuts.reverse()

    def of_blocks(layers: FloatArray) -> FloatArray:
        return np.diff(np.concatenate([[0.0], np.cumsum(layers)])[joints[cuts] + 1])

    return Blocks(
        bits=bits[cuts],
        work=np.diff(done[cuts]),
        weights=of_blocks(graph.weight_bits),
        outputs=of_blocks(graph.output_bits),
    )
