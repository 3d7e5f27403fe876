"""What has happened so far, by hand."""

import numpy as np
import pytest
from gossip_training import hand

from mec_gym.gossip_training.past import past

THREE = hand.scenario(3)


def test_rounds_by_hand():
    # A and C listen to B, which sends until 5 + 2 x 2 s. Then the last one has trained at 12 s, and
    # all average all at the rate of C: 4/3 x 4 s.
    seen = past(THREE, hand.episode(THREE, "AB CB", hand.ALL, ""))
    assert seen.rounds == 3 and seen.reduce.tolist() == [False, True, False]
    together = 12 + 16 / 3
    assert seen.clock.tolist() == [
        [0, 0, 0],
        [9, 5, 9],
        pytest.approx([together] * 3),
        pytest.approx([together + 2, together + 5, together + 3]),
    ]
    np.testing.assert_allclose(seen.trained, seen.clock[:-1] + hand.COMPUTE_S[:3])
    np.testing.assert_allclose(seen.training_s, [10, 10, 10])
    np.testing.assert_allclose(seen.waiting_s, [7 + 0 + 6, 3 * together - (11 + 10 + 12), 0])
    assert seen.active.all()


def test_edges_count_only_if_they_are_used():
    seen = past(THREE, hand.episode(THREE, "AB CB", hand.ALL))
    used = [[tuple(edge) for edge in THREE.edges[heard].tolist()] for heard in seen.heard]
    assert used == [[(0, 1), (2, 1)], []]  # an all-reduce makes the rest meaningless


def test_who_is_out_of_time_neither_trains_nor_talks():
    s = hand.scenario(3, budget_s=4.0)
    seen = past(s, hand.episode(s, "", "AB AC CA"))  # B is out at 5 s
    assert seen.active.tolist() == [[True] * 3, [True, False, True]]
    assert s.edges[seen.heard[1]].tolist() == [[0, 2], [2, 0]]
    assert seen.trained[1].tolist() == [4, 5, 6] and seen.clock[2, 1] == 5


def test_models_that_have_diverged_are_worth_nothing():
    episode = hand.episode(THREE, "", "")
    before = past(THREE, episode).accuracy
    assert (before > 0).all()
    episode.outcomes[-1] = hand.replaced(episode.outcomes[-1], diverged=np.array(1.0))
    after = past(THREE, episode).accuracy
    np.testing.assert_array_equal(after[:-1], before[:-1])
    assert not after[-1].any()


def test_nothing_played_yet():
    seen = past(THREE, hand.episode(THREE))
    assert seen.rounds == 0 and seen.clock.tolist() == [[0, 0, 0]]
    assert seen.trained.shape == (0, 3) and seen.heard.shape == (0, 6)
