"""Enumeration, costs and Pareto fronts of partitions against all 2^V assignments."""

import itertools
import math
import tracemalloc

import layer_graphs as oracle
import numpy as np
import pytest
import torch.fx
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.dnn import zoo
from mec_gym.dnn.graph import Exit, Layer, LayerGraph
from mec_gym.early_exit.partitions import (
    LIMIT,
    enumerate_partitions,
    is_valid,
    pareto,
    partition_cost,
)


def check_enumeration(one):
    expected = oracle.valid_assignments(one)
    found = enumerate_partitions(one.graph)
    assert found.dtype == np.bool_ and found.shape == (len(expected), len(one.bits))
    assert sorted(map(oracle.as_bits, found)) == sorted(expected)  # each once
    # From as much as possible on the edge to nothing there.
    assert found[0].sum() == len(one.bits) - 1 and found[-1].sum() == 0
    assert len(enumerate_partitions(one.graph, len(expected))) == len(expected)
    assert enumerate_partitions(one.graph, len(expected) - 1) is None
    return len(expected)


def count_of(links, layers):
    graph = oracle.layer_graph(links, [1.0] * layers)
    return len(enumerate_partitions(graph))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(oracle.link_sets())
def test_enumeration_is_all_valid_assignments(drawn):
    count, links = drawn
    check_enumeration(oracle.case(links, [1] * count, [0] * count, [0] * count))


def test_enumeration_of_seeded_graphs():
    counts = [check_enumeration(one) for one in oracle.random_cases(1, 250, most=10)]
    assert max(counts) > 60 and len(set(counts)) > 20  # else nothing was tested


def test_blocks_come_one_after_the_other():
    # Two diamonds: 0 -> {1, 2} -> 3 -> {4, 5} -> 6. While a cut lies in the first, all of the
    # second is on the edge.
    links = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 6), (5, 6)]
    found = enumerate_partitions(oracle.layer_graph(links, [1.0] * 7))
    on_device = [tuple(np.flatnonzero(~row)) for row in found]
    first = [(0,), (0, 1), (0, 2), (0, 1, 2)]
    second = [(0, 1, 2, 3), (0, 1, 2, 3, 4), (0, 1, 2, 3, 5), (0, 1, 2, 3, 4, 5)]
    assert set(on_device[:4]) == set(first)
    assert set(on_device[4:8]) == set(second)
    assert on_device[8:] == [(0, 1, 2, 3, 4, 5, 6)]


@pytest.mark.parametrize("layers", [1, 2, 3, 17, 300])
def test_a_chain_can_be_cut_after_every_layer(layers):
    graph = oracle.layer_graph(itertools.pairwise(range(layers)), [1.0] * layers)
    found = enumerate_partitions(graph)
    np.testing.assert_array_equal(found, np.triu(np.ones((layers, layers), bool), 1))
    assert graph.chain() == tuple(range(layers))


@pytest.mark.parametrize("lengths", [(1, 1), (2, 5), (0, 3), (1, 2, 4)])
def test_parallel_chains_multiply(lengths):
    # Input, parallel chains (0: a shortcut), a joint, and a tail of one.
    links, nodes = [], itertools.count(1)
    ends = []
    for length in lengths:
        at = 0
        for v in itertools.islice(nodes, length):
            links.append((at, v))
            at = v
        ends.append(at)
    joint = sum(lengths) + 1
    links += [(at, joint) for at in ends] + [(joint, joint + 1)]
    # Each chain is cut anywhere; then the joint, then the tail on the device.
    expected = math.prod(length + 1 for length in lengths) + 1 + 1
    assert count_of(links, joint + 2) == expected
    graph = oracle.layer_graph(links, [1.0] * (joint + 2))
    assert graph.chain() == (0, joint, joint + 1)


def star(branches):
    links = [(0, v) for v in range(1, branches + 1)]
    return [*links, *((v, branches + 1) for v in range(1, branches + 1))]


def test_the_limit_is_the_largest_number_that_is_built():
    assert LIMIT == 200_000
    assert count_of(star(17), 19) == 2**17 + 1
    assert enumerate_partitions(oracle.layer_graph(star(18), [1.0] * 20)) is None


def test_no_more_is_built_than_the_limit():
    # A block of two million partitions, 48 MB, is given up early.
    graph = oracle.layer_graph(star(21), [1.0] * 23)
    tracemalloc.start()
    try:
        assert enumerate_partitions(graph, 1000) is None
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit", [0, 1, 4, 5, 6, 9, 10, 11, 12])
def test_the_limit_counts_all_blocks(limit):
    # Chain of 2, diamond, diamond, tail: 1 + 4 + 4 + 1 + 1 = 11.
    diamonds = [(1, 2), (1, 3), (2, 4), (3, 4), (4, 5), (4, 6), (5, 7), (6, 7)]
    graph = oracle.layer_graph([(0, 1), *diamonds, (7, 8)], [1.0] * 9)
    found = enumerate_partitions(graph, limit)
    if limit < 11:
        assert found is None
    else:
        assert len(found) == 11


def test_joints_are_the_layers_that_every_path_passes():
    def reachable(one, start, without):
        seen, waiting = set(), [start]
        while waiting:
            u = waiting.pop()
            if u != without and u not in seen:
                seen.add(u)
                waiting += [reader for tail, reader in one.links if tail == u]
        return seen

    for one in oracle.random_cases(2, 150, most=12):
        last = len(one.bits) - 1
        joints = [v for v in range(len(one.bits)) if last not in reachable(one, 0, v)]
        assert one.graph.chain() == tuple(joints)


# --- one exit of several

BRANCHY = LayerGraph(
    "branchy",
    # 0 -> 1 -> 3 -> 5 -> 6 (deep exit), 1 -> 2 (early exit), 1 -> 4 -> 5
    tuple(Layer(f"v{v}", "op", 0.0, 0.0, 10.0 + v) for v in range(7)),
    ((0, 1), (1, 2), (1, 3), (1, 4), (3, 5), (4, 5), (5, 6)),
    (Exit("early", 2, 0.5), Exit("deep", 6, 0.75)),
    {"made": "by hand"},
)


def test_an_exit_takes_what_it_needs_along():
    early, deep = BRANCHY.at_exit(0), BRANCHY.at_exit(1)
    assert [layer.name for layer in early.layers] == ["v0", "v1", "v2"]
    assert early.links == ((0, 1), (1, 2)) and early.exits == (Exit("early", 2, 0.5),)
    assert [layer.name for layer in deep.layers] == ["v0", "v1", "v3", "v4", "v5", "v6"]
    assert deep.links == ((0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5))
    assert deep.exits == (Exit("deep", 5, 0.75),)
    assert len(enumerate_partitions(early)) == 3
    assert len(enumerate_partitions(deep)) == 1 + 4 + 1 + 1
    # The head of the early exit is not there any more: its tensor does not cross.
    np.testing.assert_array_equal(
        partition_cost(early, ~np.tri(3, dtype=bool), np.zeros(3), np.zeros(3))[:, 1], [10, 11, 0]
    )
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match=r"^exit "):
            BRANCHY.at_exit(wrong)


def test_several_exits_have_no_partitions():
    with pytest.raises(ValueError, match="branchy has 2"):
        enumerate_partitions(BRANCHY)


# --- validity


def test_validity_of_every_assignment():
    for one in oracle.random_cases(3, 60, most=8):
        every = list(oracle.assignments(len(one.bits)))
        got = is_valid(one.graph, np.array(every, dtype=bool))
        assert got.dtype == np.bool_
        assert got.tolist() == [oracle.valid(one.links, x) for x in every]


def test_validity_by_hand():
    graph = oracle.layer_graph([(0, 1), (0, 2), (1, 3), (2, 3)], [1.0] * 4)
    rows = {
        (0, 0, 0, 0): True,
        (0, 0, 0, 1): True,
        (0, 1, 0, 1): True,
        (0, 1, 0, 0): False,  # comes back from 1 to 3
        (0, 0, 1, 0): False,
        (1, 1, 1, 1): False,  # the input
    }
    batch = np.array(list(rows), dtype=bool).reshape(3, 2, 4)
    got = is_valid(graph, batch)
    assert got.shape == (3, 2) and got.ravel().tolist() == list(rows.values())
    assert is_valid(graph, batch[0, 0]).shape == ()
    assert bool(is_valid(graph, batch[0, 0])) and not is_valid(graph, batch[2, 1])


def test_validity_leaves_its_argument_alone():
    graph = oracle.layer_graph([(0, 1)], [1.0] * 2)
    on_edge = np.array([[False, True], [True, False]])
    before = on_edge.copy()
    is_valid(graph, on_edge)
    np.testing.assert_array_equal(on_edge, before)


# --- costs

# 0 is read by 1, 2 and 4, 1 by 3, 2 by 3 and 4, 3 by 5, 4 by 5.
ASYMMETRIC = oracle.case(
    [(0, 1), (0, 2), (0, 4), (1, 3), (2, 3), (2, 4), (3, 5), (4, 5)],
    bits=[1000, 200, 30, 4, 50000, 600000],
    device=[0, 1, 2, 4, 8, 16],
    edge=[0, 0.5, 0.0625, 0.25, 0.125, 2],
)


@pytest.mark.parametrize(
    ("on_edge", "expected"),
    [
        # Three readers, one crossing.
        ((0, 1, 1, 1, 1, 1), (0.0, 1000, 2.9375)),
        # 1 on the device: 0 is still read by 2 and 4.
        ((0, 0, 1, 1, 1, 1), (1.0, 1200, 2.4375)),
        ((0, 0, 0, 1, 1, 1), (3.0, 1230, 2.375)),
        # All of 0's readers but 4 on the device; 4 is read on the edge and is there itself.
        ((0, 0, 0, 0, 1, 1), (7.0, 1034, 2.125)),
        ((0, 0, 0, 1, 0, 1), (11.0, 50230, 2.25)),
        ((0, 0, 0, 0, 0, 1), (15.0, 50004, 2.0)),
        ((0, 0, 0, 0, 0, 0), (31.0, 0, 0.0)),  # the answer is where it is wanted
        # It is not valid but has a cost all the same: what comes back costs nothing.
        ((0, 0, 1, 0, 0, 0), (29.0, 1000, 0.0625)),
        ((1, 1, 1, 1, 1, 1), (0.0, 0, 2.9375)),
    ],
)
def test_costs_by_hand(on_edge, expected):
    row = np.array(on_edge, dtype=bool)
    assert partition_cost(ASYMMETRIC.graph, row, *ASYMMETRIC.times).tolist() == list(expected)
    assert oracle.triple(ASYMMETRIC, on_edge) == expected  # the oracle is held to it as well


def test_costs_of_every_assignment():
    for one in oracle.random_cases(4, 60, most=8):
        every = list(oracle.assignments(len(one.bits)))
        got = partition_cost(one.graph, np.array(every, dtype=bool), *one.times)
        expected = np.array([oracle.triple(one, x) for x in every])
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_costs_keep_the_shape():
    rng = np.random.default_rng(5)
    batch = rng.integers(2, size=(4, 1, 3, 6)).astype(bool)
    before = batch.copy()
    got = partition_cost(ASYMMETRIC.graph, batch, *ASYMMETRIC.times)
    assert got.shape == (4, 1, 3, 3) and got.dtype == np.float64
    np.testing.assert_array_equal(batch, before)
    for index in np.ndindex(4, 1, 3):
        assert got[index].tolist() == list(oracle.triple(ASYMMETRIC, oracle.as_bits(batch[index])))
    assert partition_cost(ASYMMETRIC.graph, batch[:0], *ASYMMETRIC.times).shape == (0, 1, 3, 3)


def test_the_input_may_be_all_there_is():
    graph = oracle.layer_graph([], [7.0])
    found = enumerate_partitions(graph)
    assert found.tolist() == [[False]] and is_valid(graph, found).tolist() == [True]
    assert partition_cost(graph, found, np.zeros(1), np.zeros(1)).tolist() == [[0.0, 0.0, 0.0]]


# --- Pareto fronts


def check_front(points):
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    before = points.copy()
    kept = pareto(points)
    np.testing.assert_array_equal(points, before)
    assert kept.dtype == np.int64 and kept.ndim == 1
    front = [tuple(p) for p in points[kept].tolist()]
    assert set(front) == oracle.not_dominated(points.tolist())
    assert len(front) == len(set(front))  # of equal points one is kept
    assert front == sorted(front)  # by the first number (and the others)
    return len(front)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=25))
def test_front_of_points_with_ties(points):
    check_front(points)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.floats(-1e12, 1e12, allow_subnormal=True)] * 3), max_size=12))
def test_front_of_any_points(points):
    check_front(points)


@pytest.mark.parametrize("levels", [2, 3, 8, 40])
def test_front_of_seeded_points(levels):
    rng = np.random.default_rng(levels)
    for _ in range(20):
        check_front(rng.integers(levels, size=(150, 3)))


def test_large_fronts():
    rng = np.random.default_rng(6)
    # On a sphere no point is as good as another one: all stay. Inside it few do.
    sphere = np.abs(rng.standard_normal((400, 3)))
    sphere = -sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    assert check_front(sphere) == 400
    assert check_front(np.concatenate([sphere, sphere, 0.5 * sphere])) == 400
    assert 20 < check_front(rng.random((600, 3))) < 200


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([], []),
        ([(3, 1, 2)], [0]),
        ([(1, 1, 1), (1, 1, 1), (1, 1, 1)], [0]),
        ([(2, 0, 0), (0, 2, 0), (0, 0, 2)], [2, 1, 0]),
        ([(0, 5, 5), (1, 5, 4), (2, 5, 4), (3, 4, 5), (4, 4, 4)], [0, 1, 3, 4]),
        ([(0, 0, 1), (0, 0, 0)], [1]),  # equal in two, worse in one
        ([(0, 1, 0), (0, 0, 0)], [1]),
        ([(1, 0, 0), (0, 0, 0)], [1]),
        ([(0, 3, 1), (0, 2, 2), (0, 1, 3), (1, 2, 2)], [2, 1, 0]),  # equal first number
        ([(0, 1, 5), (1, 2, 3), (2, 1, 3), (3, 1, 1)], [0, 1, 2, 3]),
        ([(-0.0, 1, 1), (0.0, 1, 1)], [0]),
    ],
)
def test_fronts_by_hand(points, kept):
    assert pareto(np.array(points, dtype=float).reshape(-1, 3)).tolist() == kept


def test_what_grows_with_all_three_has_its_optimum_on_the_front():
    for one in oracle.random_cases(7, 40, most=9):
        cost = partition_cost(one.graph, enumerate_partitions(one.graph), *one.times)
        front = cost[pareto(cost)]
        for objective in (
            lambda c: c.sum(axis=1),
            lambda c: c.max(axis=1),
            lambda c: 3 * c[:, 0] + c[:, 2] ** 2,
            lambda c: np.maximum(c[:, 1], 2 * c[:, 0]),
        ):
            assert objective(front).min() == objective(cost).min()


# --- real networks


def series(*parts):
    """Links of parts one after the other; a part is a tuple of lengths of parallel chains.

    A single length is a plain chain. Several begin at the layer before and end in one more
    layer that joins them; 0 is a shortcut.
    """
    links, last = set(), 0
    for lengths in parts:
        ends, fresh = [], last
        for length in lengths:
            at = last
            for _ in range(length):
                fresh += 1
                links.add((at, fresh))
                at = fresh
            ends.append(at)
        if len(lengths) > 1:
            fresh += 1
            links |= {(at, fresh) for at in ends}
        last = fresh
    return sorted(links), last + 1


# Parts of each network, and how many partitions that makes.
STRUCTURES = {
    # Convolutions and their activations, pooling, flattening, dropout and linear layers.
    "alexnet": ([(13,), (2,), (7,)], 23),
    "vgg16": ([(31,), (2,), (7,)], 41),
    # Stem; two blocks (conv, norm, relu, conv, norm; sum; relu) a stage, the first of the
    # later ones with a convolution and norm on the shortcut; pooling, flattening, linear.
    "resnet18": ([(4,), *[(5, 0), (1,)] * 2, *[(5, 2), (1,), (5, 0), (1,)] * 3, (3,)], 100),
    # Stem; a block without expansion; 16 of conv, norm, relu, conv, norm, relu, conv, norm,
    # 10 of them with a shortcut; the last convolution; pooling, flattening, dropout, linear.
    "mobilenetv2": ([(3,), (5,), *[(8,)] * 6, *[(8, 0)] * 10, (3,), (4,)], 154),
    # Stem; 9 modules of four branches, 4 * 7 * 7 * 5 partitions each, two poolings between
    # them; pooling, flattening, dropout, linear.
    "googlenet": ([(11,), *[(3, 6, 6, 4)] * 9, (2,), (4,)], 1 + 11 + 9 * 980 + 2 + 4),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_of_real_networks(name):
    parts, count = STRUCTURES[name]
    assert count_of(*series(*parts)) == count


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_zoo_has_these_structures(name):
    with torch.device("meta"):
        nodes = torch.fx.symbolic_trace(zoo.build(name)).graph.nodes
    layers = [node for node in nodes if node.op in ("placeholder", "call_module", "call_function")]
    place = {node: v for v, node in enumerate(layers)}
    links = [(place[u], v) for node, v in place.items() for u in node.all_input_nodes]
    assert count_of(links, len(layers)) == STRUCTURES[name][1]


@pytest.mark.parametrize("name", STRUCTURES)
def test_profiles_have_these_structures(name):
    graph = zoo.load_profile(name)
    found = enumerate_partitions(graph)
    assert len(found) == STRUCTURES[name][1]
    assert is_valid(graph, found).all() and len(np.unique(found, axis=0)) == len(found)
