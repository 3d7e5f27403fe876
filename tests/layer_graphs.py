"""Random layer graphs, and a slow oracle of partitions that uses nothing of the package.

The oracle tries all 2^V assignments of layers to device and edge, and adds up what each costs
layer by layer, from the definitions in the design notes of the room:

    x[v] = 1 on the edge; x[input] = 0 and x[reader] >= x[v], else the assignment is not valid
    Td = sum of td over the device, Te = sum of te over the edge
    bits = sum of d[v] over the v on the device that some layer on the edge reads
"""

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from mec_gym.dnn.graph import Exit, Layer, LayerGraph


@dataclass(frozen=True)
class Case:
    """A graph with the times of its layers, as plain tuples for the oracle."""

    graph: LayerGraph
    links: tuple  # of (v, reader)
    bits: tuple
    device: tuple  # td, s
    edge: tuple  # te, s

    @property
    def times(self):
        return np.array(self.device), np.array(self.edge)


def layer_graph(links, bits, name="test"):
    """A graph whose last layer is its exit."""
    layers = [Layer(f"v{v}", "op" if v else "input", 0.0, 0.0, b) for v, b in enumerate(bits)]
    return LayerGraph(name, tuple(layers), tuple(links), (Exit("exit", len(layers) - 1),))


def case(links, bits, device, edge):
    links, bits = tuple(map(tuple, links)), tuple(map(float, bits))
    device, edge = tuple(map(float, device)), tuple(map(float, edge))
    assert len(bits) == len(device) == len(edge)
    return Case(layer_graph(links, bits), links, bits, device, edge)


def chain(bits, device, edge):
    return case(itertools.pairwise(range(len(bits))), bits, device, edge)


def random_links(rng, count, wide=False):
    """Links of a graph with one input and one exit; all layers reached, all needed.

    Every layer reads up to three others. Narrow graphs read from close by, so that they fall
    into blocks as real networks do; wide ones from anywhere.
    """
    links = set()
    for v in range(1, count):
        first = 0 if wide else max(0, v - 3)
        for u in rng.integers(first, v, size=rng.integers(1, 4)).tolist():
            links.add((u, v))
    for u in range(count - 1):
        if all(tail != u for tail, _ in links):
            links.add((u, int(rng.integers(u + 1, count if wide else min(count, u + 4)))))
    return sorted(links)


def random_case(rng, most=9, whole=0):
    """A graph of 1 to ``most`` layers on two processors of mixed speeds.

    The edge is faster by a factor of 0.3 to 30, and every layer deviates from that, so that
    some are slower there. With ``whole`` all costs are whole numbers below it: sums are exact
    and, if it is small, ties are common.
    """
    count = int(rng.integers(1, most + 1))
    links = random_links(rng, count, wide=bool(rng.integers(2)))
    if whole:
        bits, device, edge = rng.integers(0, whole, size=(3, count))
    else:
        bits, device, edge = rng.lognormal(0.0, 1.0, size=(3, count))
        edge = edge / rng.choice([0.3, 1.0, 4.0, 30.0])
    device[0] = edge[0] = 0
    return case(links, bits, device, edge)


def random_cases(seed, count, most=9, whole=0):
    rng = np.random.default_rng(seed)
    return [random_case(rng, most, whole) for _ in range(count)]


@st.composite
def link_sets(draw, most=8):
    """Links and number of layers, for hypothesis to shrink."""
    count = draw(st.integers(1, most))
    links = set()
    for v in range(1, count):
        read = draw(st.sets(st.integers(0, v - 1), min_size=1, max_size=4))
        links |= {(u, v) for u in read}
    for u in range(count - 1):
        if all(tail != u for tail, _ in links):
            links.add((u, draw(st.integers(u + 1, count - 1))))
    return count, sorted(links)


def assignments(count):
    return itertools.product((0, 1), repeat=count)


def valid(links, x):
    if x[0] == 1:
        return False
    return all(x[reader] >= x[v] for v, reader in links)


def valid_assignments(one):
    return [x for x in assignments(len(one.bits)) if valid(one.links, x)]


def triple(one, x):
    """(Td, bits, Te) of any assignment, valid or not."""
    device = bits = edge = 0.0
    for v in range(len(x)):
        if x[v] == 1:
            edge += one.edge[v]
        else:
            device += one.device[v]
            if any(tail == v and x[reader] == 1 for tail, reader in one.links):
                bits += one.bits[v]
    return device, bits, edge


def triples(one):
    """Valid assignments with their (Td, bits, Te)."""
    return [(x, triple(one, x)) for x in valid_assignments(one)]


def as_bits(on_edge):
    """A row of booleans as the oracle writes it."""
    return tuple(int(v) for v in on_edge)


def not_dominated(points):
    """The different points than which no other one is as small everywhere, one by one."""
    different = set(map(tuple, points))
    return {
        p
        for p in different
        if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in different)
    }
