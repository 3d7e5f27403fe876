"""Who may listen to whom: by hand, against brute force, and what all graphs have in common."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.gossip_training.graphs import edges_of

GRAPHS = ("complete", "ring", "torus", "geometric", "one-sided")


def heard_by(graph, devices, **options):
    """Whom each device may listen to."""
    edges = edges_of(graph, devices, **options)
    return [edges[edges[:, 0] == i, 1].tolist() for i in range(devices)]


def test_complete():
    assert edges_of("complete", 3).tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]


def test_ring():
    assert heard_by("ring", 5) == [[1, 4], [0, 2], [1, 3], [2, 4], [0, 3]]
    assert heard_by("ring", 2) == [[1], [0]]


def test_torus():
    # 0 1 2
    # 3 4 5  with two rows, the one above is the one below
    assert heard_by("torus", 6) == [
        [1, 2, 3],
        [0, 2, 4],
        [0, 1, 5],
        [0, 4, 5],
        [1, 3, 5],
        [2, 3, 4],
    ]
    #  0  1  2  3
    #  4  5  6  7
    #  8  9 10 11
    # 12 13 14 15
    sixteen = heard_by("torus", 16)
    assert all(len(each) == 4 for each in sixteen)
    assert sixteen[0] == [1, 3, 4, 12] and sixteen[10] == [6, 9, 11, 14]
    assert sixteen[15] == [3, 11, 12, 14]
    twelve = heard_by("torus", 12)  # three rows of four
    assert twelve[5] == [1, 4, 6, 9] and twelve[3] == [0, 2, 7, 11]


def test_a_torus_of_a_prime_number_is_a_ring():
    assert heard_by("torus", 7) == heard_by("ring", 7)


def test_one_sided():
    assert heard_by("one-sided", 5) == [[1, 3, 4], [0, 2, 4], [0, 1, 3], [1, 2, 4], [0, 2, 3]]
    sixteen = heard_by("one-sided", 16)
    assert sixteen[0] == [8, 12, 14, 15] and sixteen[9] == [1, 5, 7, 8]
    edges = {tuple(edge) for edge in edges_of("one-sided", 16).tolist()}
    mutual = {(i, j) for i, j in edges if (j, i) in edges}
    assert {(i - j) % 16 for i, j in mutual} == {8}  # 8 before is 8 after; all others are not


@pytest.mark.parametrize("devices", [2, 3, 9, 30])
@pytest.mark.parametrize("radius", [0.01, 0.4, 0.7, 2.0])
def test_geometric_by_brute_force(devices, radius):
    golden = math.pi * (3 - math.sqrt(5))
    points = [
        (
            math.sqrt(i / devices) * math.cos(golden * i),
            math.sqrt(i / devices) * math.sin(golden * i),
        )
        for i in range(devices)
    ]
    expected = set()
    for i in range(devices):
        others = [j for j in range(devices) if j != i]
        nearest = min(others, key=lambda j: math.dist(points[i], points[j]))
        for j in others:
            if math.dist(points[i], points[j]) <= radius or j == nearest:
                expected |= {(i, j), (j, i)}
    assert edges_of("geometric", devices, radius).tolist() == [list(e) for e in sorted(expected)]


def test_a_larger_radius_joins_more():
    counts = [len(edges_of("geometric", 20, radius)) for radius in (0.2, 0.4, 0.8, 2.0)]
    assert counts == sorted(set(counts)) and counts[-1] == 20 * 19


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GRAPHS), st.integers(2, 40), st.floats(0.01, 2.5))
def test_what_all_graphs_have_in_common(graph, devices, radius):
    edges = edges_of(graph, devices, radius)
    pairs = [tuple(edge) for edge in edges.tolist()]
    assert pairs == sorted(set(pairs))
    assert all(i != j and 0 <= i < devices and 0 <= j < devices for i, j in pairs)
    assert {i for i, _ in pairs} == {j for _, j in pairs} == set(range(devices))
    if graph != "one-sided":
        assert {(j, i) for i, j in pairs} == set(pairs)


@pytest.mark.parametrize("graph", ["complete", "ring", "torus", "one-sided"])
@pytest.mark.parametrize("devices", [2, 5, 12, 16])
def test_news_reaches_everybody(graph, devices):
    hears = np.eye(devices, dtype=bool)
    hears[tuple(edges_of(graph, devices).T)] = True
    assert (np.linalg.matrix_power(hears.astype(float), devices) > 0).all()


def test_unknown_graphs_and_single_devices():
    with pytest.raises(ValueError, match=r"^graph\b.*ring.*'star'"):
        edges_of("star", 5)
    for devices in (1, 0, -3):
        with pytest.raises(ValueError, match=rf"^devices\b.*2.*{devices}"):
            edges_of("ring", devices)
