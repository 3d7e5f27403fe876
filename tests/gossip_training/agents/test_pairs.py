"""Pairs of devices, greedy choices, lots and turns."""

import itertools

import numpy as np
import pytest

from agents.gossip_training.pairs import greedy, lots, pairs_of, talk, turns_of
from mec_gym.gossip_training.scenario import Scenario

SMALL = {"hidden": 4, "local_steps": 1, "batch": 4, "rounds": 6}
GRAPHS = ("complete", "ring", "torus", "geometric", "one-sided")


def scenario(devices, graph="complete", **fields):
    return Scenario(devices=devices, graph=graph, **SMALL, **fields)


def both(pairs):
    return [*zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("devices", [2, 5, 8])
def test_every_edge_belongs_to_the_pair_of_its_devices(graph, devices):
    s = scenario(devices, graph)
    pairs = pairs_of(s)
    assert both(pairs) == sorted({tuple(sorted(edge)) for edge in s.edges.tolist()})
    for edge, pair in zip(s.edges.tolist(), pairs.of_edge, strict=True):
        assert both(pairs)[pair] == tuple(sorted(edge))


def test_talk_uses_all_edges_of_a_pair():
    s = scenario(4, "one-sided")  # 0 listens to 3 and 2, 2 also to 0: that pair has two edges
    chosen = np.array([pair in ((0, 2), (1, 2)) for pair in both(pairs_of(s))])
    decision = talk(chosen, s)
    heard = s.edges[decision.listen].tolist()
    assert heard == [[0, 2], [2, 0], [2, 1]] and decision.reduce == False  # noqa: E712


def test_greedy_by_hand():
    s = scenario(4)
    # Pairs 01, 02, 03, 12, 13, 23.
    score = np.array([[0.5, 0.9, 0.1, 0.8, -0.1, 0.7], [-1.0, 0, -0.5, -0.1, -2, 0]])
    assert greedy(score, s).tolist() == [[False, True, False, False, False, False], [False] * 6]
    # With two partners: 02, 12, then 2 is full; 01 is left, and 03.
    two = greedy(score, s, most=2)[0]
    assert both(pairs_of(s))[0] == (0, 1) and np.flatnonzero(two).tolist() == [0, 1, 3]
    # Each partner costs 0.35: after 02, 12 is worth 0.45, 23 0.35 and 01 0.15; after 12, 01 is
    # worth -0.2, 23 0, and 13 less: no more.
    fewer = greedy(score, s, most=3, partners=-0.35)[0]
    assert fewer.tolist() == [False, True, False, True, False, False]
    # One number for each entry of a batch.
    mixed = greedy(np.stack([score[0]] * 2), s, most=3, partners=np.array([-0.35, 0.0]))
    assert mixed.tolist() == [fewer.tolist(), [True, True, True, True, False, True]]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_greedy_leaves_nothing_that_could_be_chosen(most):
    s = scenario(7, "geometric", radius=0.9)
    pairs = pairs_of(s)
    score = np.random.default_rng(most).normal(size=(20, len(pairs.first)))
    for row, chosen in zip(score, greedy(score, s, most), strict=True):
        degree = np.bincount(np.r_[pairs.first[chosen], pairs.second[chosen]], minlength=7)
        assert degree.max() <= most and (row[chosen] > 0).all()
        room = (degree[pairs.first] < most) & (degree[pairs.second] < most)
        assert not (room & (row > 0) & ~chosen).any()


def test_lots_look_random_and_depend_on_the_round_only():
    drawn = lots(np.arange(500), 20)
    assert drawn.shape == (500, 20) and (drawn >= 0).all() and (drawn < 1).all()
    np.testing.assert_array_equal(lots(np.array([7, 3]), 20), drawn[[7, 3]])
    np.testing.assert_array_equal(lots(np.array(7), 5), drawn[7, :5])
    assert abs(drawn.mean() - 0.5) < 0.01 and abs(drawn.var() - 1 / 12) < 0.005
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.1
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.1


@pytest.mark.parametrize(("graph", "devices"), [*itertools.product(GRAPHS, (2, 3, 6, 9, 16))])
def test_in_a_turn_nobody_has_two_partners(graph, devices):
    s = scenario(devices, graph)
    pairs, turns = pairs_of(s), turns_of(s)
    assert sorted(set(turns.tolist())) == list(range(turns.max() + 1))
    for turn in set(turns.tolist()):
        talking = np.r_[pairs.first[turns == turn], pairs.second[turns == turn]]
        assert len(set(talking.tolist())) == len(talking)
    if graph == "complete":  # as few turns as a tournament needs
        assert turns.max() + 1 == devices - 1 + devices % 2
