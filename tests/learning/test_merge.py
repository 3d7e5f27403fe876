"""How a server makes one model of what clients send: by numbers by hand, and by formulas."""

import numpy as np
import pytest

from mec_gym.learning.merge import (
    average_factors,
    mix,
    staleness_weight,
    weighted_sum,
    with_momentum,
)

# ------------------------------------------------------------------------------ staleness


@pytest.mark.parametrize(
    ("kind", "power", "expected"),
    [
        ("power", 0.5, [1, 1 / np.sqrt(2), 0.5, 1 / 3]),
        ("power", 2.0, [1, 1 / 4, 1 / 16, 1 / 81]),
        ("power", 0.0, [1, 1, 1, 1]),
        ("inverse", 0.5, [1, 1, 1 / 3, 1 / 8]),
        ("exponential", 0.5, [1, np.exp(-0.5), np.exp(-1.5), np.exp(-4)]),
        ("none", 0.5, [1, 1, 1, 1]),
    ],
)
def test_staleness_weights(kind, power, expected):
    found = staleness_weight(np.array([0, 1, 3, 8]), kind, power)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert staleness_weight(np.array([[3], [0]]), kind, power)[:, 0].tolist() == [
        found[2],
        found[0],
    ]


def test_unknown_staleness():
    with pytest.raises(ValueError, match=r"kind.*power.*'linear'"):
        staleness_weight(np.array([0]), "linear", 0.5)


# -------------------------------------------------------------------------------- average


def test_the_average_of_the_design():
    """Samples (3, 1), staleness (0, 1), a = 1/2: 0.75 and 0.25 / sqrt 2."""
    weights = staleness_weight(np.array([0, 1]), "power", 0.5)
    found = average_factors(np.array([3.0, 1.0]), weights, None)
    assert found.tolist() == pytest.approx([0.75, 0.1768], abs=5e-5)
    assert found[1] == pytest.approx(0.25 / np.sqrt(2), rel=1e-12)


def test_rows_that_are_not_merged_count_nothing():
    found = average_factors(np.array([[6.0, 0.0, 2.0], [0.0, 0.0, 0.0]]), np.ones((2, 3)), None)
    assert found.tolist() == [[0.75, 0.0, 0.25], [0.0, 0.0, 0.0]]
    steps = np.array([[4.0, 7.0, 8.0], [0.0, 0.0, 0.0]])
    found = average_factors(np.array([[6.0, 0.0, 2.0], [0.0, 0.0, 0.0]]), np.ones((2, 3)), steps)
    # The mean number of steps is 3/4 of 4 and 1/4 of 8, which are 5.
    assert found.tolist() == [[0.75 * 5 / 4, 0.0, 0.25 * 5 / 8], [0.0, 0.0, 0.0]]


def test_fednova_by_hand():
    """Of counts (3, 1) and steps (2, 10), tau_eff is 4: the updates count 3/2 and 1/10."""
    counts, steps = np.array([3.0, 1.0]), np.array([2.0, 10.0])
    found = average_factors(counts, np.ones(2), steps)
    assert found.tolist() == pytest.approx([1.5, 0.1], rel=1e-12)
    # Steps of a gradient d each: update_i = steps_i x d_i, so the model moves by tau_eff x mean d.
    directions = np.array([[1.0, -2.0], [5.0, 0.5]])
    moved = weighted_sum(steps[:, None] * directions, found)
    assert moved.tolist() == pytest.approx(
        (4 * (0.75 * directions[0] + 0.25 * directions[1])).tolist()
    )
    # With steps alike it is FedAvg.
    same = average_factors(counts, np.array([1.0, 0.5]), np.array([7.0, 7.0]))
    assert same.tolist() == pytest.approx([0.75, 0.125], rel=1e-12)
    # Staleness weighs besides.
    stale = average_factors(counts, np.array([1.0, 0.5]), steps)
    assert stale.tolist() == pytest.approx([1.5, 0.05], rel=1e-12)


def test_factors_against_formulas():
    rng = np.random.default_rng(0)
    n, s, steps = rng.random((3, 40, 6))
    n[rng.random((40, 6)) < 0.3] = 0
    plain, nova = average_factors(n, s, None), average_factors(n, s, steps)
    for z in range(40):
        total = sum(n[z])
        mean = sum(n[z, i] / total * steps[z, i] for i in range(6))
        for i in range(6):
            assert plain[z, i] == pytest.approx(n[z, i] * s[z, i] / total, rel=1e-12)
            expected = n[z, i] * s[z, i] / total * mean / steps[z, i]
            assert nova[z, i] == pytest.approx(expected, rel=1e-12)


def test_weighted_sums():
    updates = np.array([[1.0, 2.0], [10.0, -4.0], [7.0, 7.0]], dtype=np.float32)
    found = weighted_sum(updates, np.array([0.5, 0.25, 0.0]))
    assert found.tolist() == [3.0, 0.0] and found.dtype == np.float32


def test_a_stack_of_sums_equals_its_models_bit_for_bit():
    rng = np.random.default_rng(1)
    updates = rng.normal(size=(7, 5, 33)).astype(np.float32)
    factors = rng.random((7, 5))
    found = weighted_sum(updates, factors)
    for z in range(7):
        assert np.array_equal(found[z], weighted_sum(updates[z], factors[z]))
        assert np.array_equal(found[z], weighted_sum(updates[z : z + 1], factors[z : z + 1])[0])
        # A row that counts nothing changes nothing, wherever it stands.
        more = np.insert(updates[z], 2, 1.0, axis=0), np.insert(factors[z], 2, 0.0)
        assert np.array_equal(found[z], weighted_sum(*more))
    np.testing.assert_allclose(
        found, np.einsum("zm,zmp->zp", factors, updates.astype(float)), rtol=0, atol=1e-6
    )


# ------------------------------------------------------------------------------------ mix


def test_mix_by_hand_one_after_the_other():
    """From 8: half of the way to 0 is 4, a quarter of the way to 20 is 8; and the other order."""
    weights, sent = np.array([8.0]), np.array([[0.0], [20.0]])
    factors = np.array([0.5, 0.25])
    after, moves = mix(weights, sent, factors, np.array([0, 1]))
    assert after.tolist() == [8.0] and moves.tolist() == [[-4.0], [4.0]]
    after, moves = mix(weights, sent, factors, np.array([1, 0]))
    assert after.tolist() == [5.5] and moves.tolist() == [[-5.5], [3.0]]
    assert weights.tolist() == [8.0]  # what was given stays


def test_mix_against_a_loop_and_alone():
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(6, 9)).astype(np.float32)
    sent = rng.normal(size=(6, 4, 9)).astype(np.float32)
    factors = rng.random((6, 4))
    factors[2, 1] = factors[4] = 0  # they are not merged
    order = np.array([rng.permutation(4) for _ in range(6)])
    after, moves = mix(weights, sent, factors, order)
    assert after.dtype == np.float32
    for z in range(6):
        now, by = weights[z].astype(float), np.zeros((4, 9))
        for i in order[z]:
            by[i] = factors[z, i] * (sent[z, i] - now)
            now = now + by[i]
        np.testing.assert_allclose(after[z], now, rtol=0, atol=1e-6)
        np.testing.assert_allclose(moves[z], by, rtol=0, atol=1e-6)
        alone = mix(weights[z], sent[z], factors[z], order[z])
        assert np.array_equal(after[z], alone[0]) and np.array_equal(moves[z], alone[1])
    assert np.array_equal(after[4], weights[4])


# ------------------------------------------------------------------------------- momentum


def test_momentum_by_hand():
    momentum = np.array([[2.0, -1.0], [4.0, 8.0]], dtype=np.float32)
    update = np.array([[0.5, 3.0], [9.0, 9.0]], dtype=np.float32)
    after = with_momentum(momentum, update, 0.75, np.array([True, False]))
    assert after.tolist() == [[2.0, 2.25], [4.0, 8.0]] and after.dtype == np.float32
