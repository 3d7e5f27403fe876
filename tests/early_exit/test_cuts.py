"""Min cut and MILP against all 2^V assignments of layers."""

import itertools
import math
from fractions import Fraction

import layer_graphs as oracle
import numpy as np
import pytest
from slow import slow_except

from mec_gym.early_exit.cuts import CutGraph, heavy_milp
from mec_gym.early_exit.partitions import is_valid

# Links, layer by layer: 0 -> 1, 3; 1 -> 2; 2, 3 -> 4; 4 -> 5. The edge is ten times as fast.
COUNTEREXAMPLE = oracle.case(
    [(0, 1), (0, 3), (1, 2), (2, 4), (3, 4), (4, 5)],
    bits=[50, 1, 1, 40, 1, 0],
    device=[0, 1, 20, 1, 1, 1],
    edge=[0, 0.1, 2, 0.1, 0.1, 0.1],
)
# Valid partitions cost (Td, bits, Te) = (0, 2, 10), (6, 5, 5), (12, 0, 0).
UNSUPPORTED = oracle.chain(bits=[2, 5, 0], device=[0, 6, 6], edge=[0, 5, 5])


def weighted(cost, seconds_per_bit, weights=(1.0, 1.0, 1.0)):
    alpha, beta, gamma = weights
    device, bits, edge = cost
    return alpha * device + beta * bits * seconds_per_bit + gamma * edge


def slowest_stage(cost, seconds_per_bit):
    device, bits, edge = cost
    return max(device, bits * seconds_per_bit, edge)


def check_partition(one, on_edge):
    """Valid, whoever says so; its cost by definition."""
    assert on_edge.dtype == np.bool_ and on_edge.shape == (len(one.bits),)
    x = oracle.as_bits(on_edge)
    assert oracle.valid(one.links, x)
    return oracle.triple(one, x)


def check_cut(one, seconds_per_bit, weights=(1.0, 1.0, 1.0), rel=1e-12):
    on_edge = CutGraph(one.graph, *one.times).solve(seconds_per_bit, weights)
    got = weighted(check_partition(one, on_edge), seconds_per_bit, weights)
    best = min(weighted(cost, seconds_per_bit, weights) for _, cost in oracle.triples(one))
    assert best <= got * (1 + 1e-14)  # the oracle's best is one
    assert got == pytest.approx(best, rel=rel, abs=0.0)
    return oracle.as_bits(on_edge)


# --- min cut


def test_cuts_of_random_graphs():
    rng = np.random.default_rng(10)
    kinds = {"device only": 0, "edge only": 0, "both": 0}
    for one in oracle.random_cases(11, 500):
        rate = float(np.exp(rng.uniform(-2.0, 3.0)))
        x = check_cut(one, 1.0 / rate)
        if len(x) > 1:
            at_edge = sum(x)
            kind = "device only" if at_edge == 0 else "both"
            kinds["edge only" if at_edge == len(x) - 1 else kind] += 1
    assert min(kinds.values()) > 50, kinds  # else little was tested


def test_cuts_with_random_weights():
    rng = np.random.default_rng(12)
    for one in oracle.random_cases(13, 200):
        for zeros in itertools.product((0, 1), repeat=3):
            weights = tuple((rng.lognormal(0.0, 1.5, size=3) * zeros).tolist())
            check_cut(one, float(rng.lognormal(0.0, 1.0)), weights)


def test_cuts_of_whole_numbers_are_exact():
    """Small whole numbers: sums have no error, and many partitions are equally good."""
    rng = np.random.default_rng(14)
    for one in oracle.random_cases(15, 200, whole=10):
        weights = tuple(rng.integers(0, 4, size=3).tolist())
        check_cut(one, float(rng.choice([0.0, 0.25, 1.0, 2.0])), weights, rel=0.0)


def test_no_bandwidth_at_all_and_all_of_it():
    for one in oracle.random_cases(16, 60):
        check_cut(one, 0.0)
        x = check_cut(one, 1e12)
        assert weighted(oracle.triple(one, x), 1.0) <= sum(one.device)  # nothing is sent


def test_a_cut_graph_can_be_asked_again():
    cut = CutGraph(COUNTEREXAMPLE.graph, *COUNTEREXAMPLE.times)
    ask = [(0.01, (1.0, 1.0, 1.0)), (3.0, (0.5, 2.0, 1.0)), (0.01, (1.0, 1.0, 1.0))]
    first, other, again = (cut.solve(*question).tolist() for question in ask)
    assert first == again == [False, *[True] * 5]
    assert other == [False] * 6


def test_whole_numbers_as_times():
    one = oracle.chain(bits=[4, 1, 0], device=[0, 3, 9], edge=[0, 2, 1])
    cut = CutGraph(one.graph, np.array([0, 3, 9]), np.array([0, 2, 1]))
    assert cut.solve(1.0).tolist() == [False, False, True]  # 3 + 1 + 1


@pytest.mark.parametrize(
    ("seconds_per_bit", "expected"),
    [
        (0.1, [False, True, True, True]),  # 3 + 1 + 1 + 1 ... 10 bits are sent at once
        (0.5, [False, False, False, True]),
        (10.0, [False, False, False, False]),
    ],
)
def test_a_tensor_with_two_readers_is_paid_once(seconds_per_bit, expected):
    # Edge only: 10 s + 3; a cut before the last layer: 4 + 4 s + 2; device only: 9. With the
    # first tensor paid twice edge only would be 20 s + 3.
    one = oracle.case(
        [(0, 1), (0, 2), (1, 3), (2, 3)], [10, 2, 2, 0], [0, 2, 2, 5], [0, 0.5, 0.5, 2]
    )
    assert check_cut(one, seconds_per_bit) == tuple(expected)


# --- the published construction


def best_cut(one, pin, no_way_back):
    """Least cut of the seed's graph at B = 1, over all sets of vertices; its layers at the edge.

    Source and sink are the device and the edge; a layer with several readers has an auxiliary
    vertex of its own, after all layers.
    """
    count = len(one.bits)
    arcs = [("device", v, one.edge[v]) for v in range(count)]
    arcs += [(v, "edge", one.device[v]) for v in range(count)]
    auxiliary = count
    for v in range(count):
        readers = [reader for tail, reader in one.links if tail == v]
        if len(readers) == 1:
            arcs.append((v, readers[0], one.bits[v]))
        elif readers:
            arcs.append((v, auxiliary, one.bits[v]))
            arcs += [(auxiliary, reader, math.inf) for reader in readers]
            auxiliary += 1
    if pin:
        arcs.append(("device", 0, math.inf))
    if no_way_back:
        arcs += [(reader, v, math.inf) for v, reader in one.links]
    least = math.inf, ()
    for x in oracle.assignments(auxiliary):
        side = {"device": 0, "edge": 1, **dict(enumerate(x))}
        cut = sum(cost for a, b, cost in arcs if side[a] == 0 and side[b] == 1)
        least = min(least, (cut, x[:count]))
    return least


def test_the_counterexample_to_the_published_construction():
    costs = {x: weighted(cost, 1.0) for x, cost in oracle.triples(COUNTEREXAMPLE)}
    assert min(costs.values()) == 24 and costs[(0,) * 6] == 24
    assert sorted(costs.values())[1] > 24
    # Only the heavy layer 2 on the edge: 4 + 2 + d[1], and its way back is free.
    only_2 = (0, 0, 1, 0, 0, 0)
    published = best_cut(COUNTEREXAMPLE, pin=True, no_way_back=False)
    assert published == (pytest.approx(7.0), only_2)
    assert not oracle.valid(COUNTEREXAMPLE.links, only_2)
    assert not is_valid(COUNTEREXAMPLE.graph, np.array(only_2, dtype=bool))
    # Without the pin the input itself is on the edge and nothing is ever sent.
    assert best_cut(COUNTEREXAMPLE, pin=False, no_way_back=True) == (pytest.approx(2.4), (1,) * 6)
    assert best_cut(COUNTEREXAMPLE, pin=True, no_way_back=True) == (24.0, (0,) * 6)
    assert check_cut(COUNTEREXAMPLE, 1.0) == (0,) * 6


def test_the_whole_construction_is_right_on_paper():
    """Its least cut is the best valid partition; without the way back it often is not."""
    wrong = 0
    for one in oracle.random_cases(18, 40, most=6, whole=10):
        best = min(weighted(cost, 1.0) for _, cost in oracle.triples(one))
        cut, x = best_cut(one, pin=True, no_way_back=True)
        assert cut == best == weighted(oracle.triple(one, x), 1.0)
        assert oracle.valid(one.links, x)
        relaxed, _ = best_cut(one, pin=True, no_way_back=False)
        assert relaxed <= best
        wrong += relaxed < best
    assert wrong > 0


# --- magnitudes


def free(count):
    return oracle.chain([0] * count, [0] * count, [0] * count)


@pytest.mark.parametrize("one", [free(1), free(2), free(5), COUNTEREXAMPLE])
def test_nothing_costs_anything(one):
    zeros = np.zeros(len(one.bits))
    cut = CutGraph(one.graph, zeros, zeros)
    for seconds_per_bit in (0.0, 1.0):
        assert is_valid(one.graph, cut.solve(seconds_per_bit))
        assert is_valid(one.graph, heavy_milp(one.graph, zeros, zeros, seconds_per_bit))
    for on_edge in cut.light_optima(1e5, 1e7):
        assert is_valid(one.graph, on_edge)


def test_no_weight_at_all():
    for one in oracle.random_cases(19, 20):
        check_cut(one, 1.0, (0.0, 0.0, 0.0))


def stretched(one, device=1.0, bits=1.0, edge=1.0):
    return oracle.case(
        one.links,
        [b * bits for b in one.bits],
        [t * device for t in one.device],
        [t * edge for t in one.edge],
    )


@pytest.mark.parametrize(
    ("device", "bits", "edge", "seconds_per_bit"),
    slow_except(
        [
            (1e-6, 1e9, 1e-6, 1.0),  # sending is out of the question
            (1e-6, 1e9, 1e-6, 1e-15),
            (1e-6, 1e9, 1e3, 1e-6),
            (1e9, 1e9, 1e-6, 1e-12),
            (1e9, 1e-9, 1e9, 1e-9),
            (1e-30, 1e-30, 1e-30, 1.0),
            (1e30, 1e30, 1e30, 1.0),
        ],
        (1e-6, 1e9, 1e-6, 1.0),
        (1e9, 1e-9, 1e9, 1e-9),
    ),
)
def test_costs_of_very_different_size(device, bits, edge, seconds_per_bit):
    rng = np.random.default_rng(20)
    for one in oracle.random_cases(21, 40):
        one = stretched(one, device, bits, edge)
        check_cut(one, seconds_per_bit)
        check_heavy(one, seconds_per_bit)
        # ... and layers of very different size among each other.
        uneven = oracle.case(
            one.links,
            np.array(one.bits) * 10.0 ** rng.integers(-3, 4, size=len(one.bits)),
            np.array(one.device) * 10.0 ** rng.integers(-3, 4, size=len(one.bits)),
            np.array(one.edge) * 10.0 ** rng.integers(-3, 4, size=len(one.bits)),
        )
        check_cut(uneven, seconds_per_bit)
        check_heavy(uneven, seconds_per_bit)


def test_one_tensor_too_large_to_ever_send():
    # Next to it the others vanish, if capacities are scaled by their sum.
    one = oracle.case(
        [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)],
        [3, 1e18, 2, 1e18, 5, 0],
        [0, 1, 1, 2, 9, 3],
        [0, 4, 3, 1, 0.5, 1],
    )
    # Edge only 3 + 9.5; the cut before the last 13 + 5 + 1; device only 16.
    assert check_cut(one, 1.0) == (0, 1, 1, 1, 1, 1)
    assert check_cut(one, 2.0) == (0, 1, 1, 1, 1, 1)  # 15.5
    assert check_cut(one, 2.5) == (0, 0, 0, 0, 0, 0)  # 17
    assert check_heavy(one, 1.0) == (0, 1, 1, 1, 1, 1)
    assert check_heavy(one, 3.5) == (0, 1, 1, 1, 1, 1)  # 10.5
    assert check_heavy(one, 5.5) == (0, 0, 0, 0, 0, 0)  # 16.5, and the cut before the last 27.5


# --- all optima of light load


def best_somewhere(cost, others, low, high):
    """Whether work + s bits is least for some s in [low, high]; exact for fractions."""
    work, bits = cost
    for other_work, other_bits in others:
        if bits > other_bits:  # better for small s
            high = min(high, (other_work - work) / (bits - other_bits))
        elif bits < other_bits:
            low = max(low, (work - other_work) / (other_bits - bits))
        elif work > other_work:
            return False
    return low <= high


def corners(lines, low, high):
    """Lines that alone are least somewhere within (low, high), by a plain walk along s."""
    found, s = set(), low
    # Least at s, and just after it the one with the fewest bits.
    at = min(lines, key=lambda line: (line[0] + s * line[1], line[1]))
    while s < high:
        found.add(at)
        crossings = [
            ((other[0] - at[0]) / (at[1] - other[1]), other[1], other)
            for other in lines
            if other[1] < at[1]
        ]
        if not crossings:
            break
        s, _, at = min(crossings)
    return found


def test_light_optima_are_the_lower_envelope():
    sizes = []
    for one in oracle.random_cases(22, 120, most=10, whole=60):
        # Slowest 1/4 bit/s, fastest 64 bit/s: s is in [1/64, 4].
        low, high = Fraction(1, 64), Fraction(4)
        got = CutGraph(one.graph, *one.times).light_optima(0.25, 64.0)
        assert got.dtype == np.bool_ and len(got) == len(np.unique(got, axis=0))
        # Whole numbers below 2^53: fractions hold them exactly.
        lines = {
            x: (Fraction(cost[0]) + Fraction(cost[2]), Fraction(cost[1]))
            for x, cost in oracle.triples(one)
        }
        chosen = [lines[oracle.as_bits(x)] for x in got]
        needed = corners(list(lines.values()), low, high)
        assert needed <= set(chosen)
        for line in chosen:
            assert best_somewhere(line, lines.values(), low, high)
        sizes.append(len(needed))
    assert max(sizes) >= 4 and sizes.count(1) > 5


def test_light_optima_on_a_dense_grid_of_bandwidths():
    several = 0
    for one in oracle.random_cases(23, 60, most=10):
        # Tensors shrink from layer to layer, so that several cuts are best somewhere.
        shrunk = [b * 3.0**-v for v, b in enumerate(one.bits)]
        one = oracle.case(one.links, shrunk, one.device, one.edge)
        slowest, fastest = 0.002, 400.0
        got = CutGraph(one.graph, *one.times).light_optima(slowest, fastest)
        chosen = np.array([check_partition(one, x) for x in got])
        every = np.array([cost for _, cost in oracle.triples(one)])
        rate = np.geomspace(slowest, fastest, 500)[:, None]
        least = (every[:, 0] + every[:, 2] + every[:, 1] / rate).min(axis=1)
        offered = (chosen[:, 0] + chosen[:, 2] + chosen[:, 1] / rate).min(axis=1)
        np.testing.assert_allclose(offered, least, rtol=1e-11)
        several += len(got) > 2
    assert several > 15


def test_light_optima_within_the_range_only():
    # Lines (work, bits): edge only (1, 8), cut after 1 (3, 2), device only (6, 0), with
    # crossings at s = 1/3 and 3/2.
    one = oracle.chain(bits=[8, 2, 0], device=[0, 2.5, 3.5], edge=[0, 0.5, 0.5])
    cut = CutGraph(one.graph, *one.times)

    def found(slowest, fastest):
        return sorted(sum(oracle.as_bits(x)) for x in cut.light_optima(slowest, fastest))

    assert found(0.1, 100.0) == [0, 1, 2]
    assert found(1.0, 2.0) == [1]  # s in [1/2, 1]
    assert found(1.0, 1.0) == [1]
    assert found(0.5, 2.0) == [0, 1]  # s in [1/2, 2]
    assert found(1.0, 10.0) == [1, 2]
    assert found(10.0, 100.0) == [2]
    assert found(0.1, 0.5) == [0]


@pytest.mark.parametrize("gain", [1e-3, 1e-6, 1e-9])
def test_an_optimum_that_is_hardly_better_is_found(gain):
    # Edge only (work 2, bits 2) and device only (4, 0) cross at s = 1, where the cut between
    # them (3 - gain, 1) is better by the gain.
    one = oracle.chain(bits=[2, 1, 0], device=[0, 2 - gain, 2 + gain], edge=[0, 1, 1])
    got = CutGraph(one.graph, *one.times).light_optima(0.2, 5.0)
    assert sorted(map(oracle.as_bits, got)) == [(0, 0, 0), (0, 0, 1), (0, 1, 1)]


@pytest.mark.parametrize("gain", [1e-3, 1e-6, 1e-9])
def test_optima_that_are_hardly_better_than_their_neighbours(gain):
    # After k layers: work 4 + k - gain k (4 - k), bits 4 - k; all within the gain of one line.
    one = oracle.chain(
        bits=[4, 3, 2, 1, 0],
        device=[0, 2 - 3 * gain, 2 - gain, 2 + gain, 2 + 3 * gain],
        edge=[0, 1, 1, 1, 1],
    )
    got = CutGraph(one.graph, *one.times).light_optima(0.2, 5.0)
    assert sorted(int(x.sum()) for x in got) == [0, 1, 2, 3, 4]


def test_an_optimum_between_two_others_is_found():
    """Edge only at one end, device only at the other; the middle one is found by crossing."""
    one = oracle.chain(bits=[100, 7, 0], device=[0, 1, 9], edge=[0, 0.25, 2])
    got = CutGraph(one.graph, *one.times).light_optima(0.1, 1e6)
    assert sorted(map(oracle.as_bits, got)) == [(0, 0, 0), (0, 0, 1), (0, 1, 1)]


# --- heavy load


def check_heavy(one, seconds_per_bit, rel=1e-9):
    on_edge = heavy_milp(one.graph, *one.times, seconds_per_bit)
    got = slowest_stage(check_partition(one, on_edge), seconds_per_bit)
    best = min(slowest_stage(cost, seconds_per_bit) for _, cost in oracle.triples(one))
    assert got == pytest.approx(best, rel=rel, abs=0.0)
    return oracle.as_bits(on_edge)


def test_milp_of_random_graphs():
    rng = np.random.default_rng(24)
    stages = [0, 0, 0]
    for one in oracle.random_cases(25, 100):
        s = float(np.exp(rng.uniform(-3.0, 1.0)))
        device, bits, edge = oracle.triple(one, check_heavy(one, s))
        stages[int(np.argmax([device, bits * s, edge]))] += 1
    assert min(stages) > 5, stages


def test_milp_of_whole_numbers():
    for one in oracle.random_cases(26, 60, whole=10):
        check_heavy(one, 0.5, rel=0.0)


def test_milp_with_no_bandwidth_at_all_and_all_of_it():
    for one in oracle.random_cases(27, 20):
        check_heavy(one, 0.0)
        check_heavy(one, 1e9)


def test_what_no_weights_of_the_min_cut_find():
    assert sorted(cost for _, cost in oracle.triples(UNSUPPORTED)) == [
        (0, 2, 10),
        (6, 5, 5),
        (12, 0, 0),
    ]
    assert check_heavy(UNSUPPORTED, 1.0) == (0, 0, 1)
    cut = CutGraph(UNSUPPORTED.graph, *UNSUPPORTED.times)
    grid = [*np.linspace(0.0, 1.0, 11), 0.4549, 0.4551, 5.0]
    seen = set()
    for weights in itertools.product(grid, [0.001, 0.3, 1.0, 4.0], grid):
        cost = check_partition(UNSUPPORTED, cut.solve(1.0, weights))
        seen.add(cost)
    # 6 a + 5 b + 5 c is above the mean of 2 b + 10 c and 12 a for every b > 0.
    assert seen == {(0, 2, 10), (12, 0, 0)}
    assert min(slowest_stage(cost, 1.0) for cost in seen) == 10


def test_the_deep_end_of_the_milp():
    # A diamond: 0 -> {1, 2} -> 3; each branch belongs on its own side.
    one = oracle.case([(0, 1), (0, 2), (1, 3), (2, 3)], [1, 9, 2, 0], [0, 50, 3, 70], [0, 4, 60, 1])
    assert check_heavy(one, 1.0) == (0, 1, 0, 1)  # 3, 1 + 2, 5
    assert check_heavy(stretched(one, 1e3, 1e3, 1e3), 1.0) == (0, 1, 0, 1)


@pytest.mark.parametrize("spread", [1e-3, 1e-5, 1e-6])
def test_the_milp_among_many_that_are_nearly_as_good(spread):
    """Seven parallel layers, all alike but for the spread; the solver's tolerance is about 1e-7."""
    rng = np.random.default_rng(28)
    links = [link for v in range(1, 8) for link in ((0, v), (v, 8))]
    for _ in range(8):
        device, edge = 1 + spread * rng.random((2, 9))
        device[0] = edge[0] = 0
        check_heavy(oracle.case(links, np.zeros(9), device, edge), 1.0, rel=1.5e-7)
