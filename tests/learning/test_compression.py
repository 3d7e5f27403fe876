"""Compressed updates: by hand, against brute force and numpy's own norms, alone and in a stack."""

import math

import numpy as np
import pytest

from mec_gym.learning.compression import (
    low_rank,
    low_rank_bits,
    significant,
    top_k,
    top_k_bits,
)
from mec_gym.learning.perceptron import Perceptron

DIGITS = Perceptron((64, 32, 10))
SMALL = Perceptron((5, 4, 3))


def updates(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_top_k_by_hand():
    update = np.array([0.1, -3, 0.2, 2, -0.3, 0, 2, -2])
    np.testing.assert_array_equal(top_k(update, 1 / 8), [0, -3, 0, 0, 0, 0, 0, 0])
    # Three entries of magnitude 2, of which the first comes first.
    np.testing.assert_array_equal(top_k(update, 0.25), [0, -3, 0, 2, 0, 0, 0, 0])
    np.testing.assert_array_equal(top_k(update, 0.26), [0, -3, 0, 2, 0, 0, 2, 0])
    np.testing.assert_array_equal(top_k(update, 0.5), [0, -3, 0, 2, 0, 0, 2, -2])
    np.testing.assert_array_equal(top_k(update, 1), update)


@pytest.mark.parametrize("share", [1e-9, 0.07, 0.5, 0.93, 1.0])
def test_top_k_equals_sorting(share):
    # Rounded, so that there are many ties.
    for seed, parameters in enumerate((1, 2, 17, 100, 2410)):
        update = np.round(updates(3, 4, parameters, seed=seed), 1)
        found = top_k(update, share)
        kept = max(1, math.ceil(share * parameters - 1e-6))
        for index in np.ndindex(3, 4):
            order = sorted(range(parameters), key=lambda i: (-abs(update[index][i]), i))
            expected = np.zeros(parameters)
            expected[order[:kept]] = update[index][order[:kept]]
            np.testing.assert_array_equal(found[index], expected)
            np.testing.assert_array_equal(top_k(update[index], share), found[index])


def test_a_share_means_what_it_says():
    # In floats 0.07 x 100 = 7.000000000000001.
    assert np.count_nonzero(top_k(updates(100), 0.07)) == 7
    assert np.count_nonzero(top_k(updates(100), 0.071)) == 8
    assert top_k(updates(9).astype(np.float32), 0.5).dtype == np.float32


def test_bits_of_top_k_by_hand():
    # 241 of 2410 entries; an index takes 12 bits.
    assert top_k_bits(2410, 0.1) == pytest.approx(241 * 44 / (32 * 2410), rel=1e-12)
    assert top_k_bits(1024, 0.5) == pytest.approx(0.5 * 42 / 32, rel=1e-12)
    assert top_k_bits(1025, 1 / 1025) == pytest.approx(43 / (32 * 1025), rel=1e-12)
    assert top_k_bits(1024, 0.77) == 1  # 789 x 42 = 33 138 bits, all take 32 768
    assert top_k_bits(1, 1.0) == 1


def test_significant_by_hand():
    update = np.array([0.1, -0.2, 0.3, 0.0, -0.05, 0.01])
    weights = np.array([-1.0, 2.0, 1.0, 0.0, 0.1, 0.0])
    # Shares of the weights: 0.1, 0.1, 0.3, undefined, 0.5, infinite. An index takes 3 bits.
    sent, bits = significant(update, weights, 0.2)
    np.testing.assert_array_equal(sent, [0, 0, 0.3, 0, -0.05, 0.01])
    assert bits == pytest.approx(3 * 35 / (32 * 6), rel=1e-12)
    sent, bits = significant(update, weights, 0.4)
    np.testing.assert_array_equal(sent, [0, 0, 0, 0, -0.05, 0.01])
    assert bits == pytest.approx(2 * 35 / (32 * 6), rel=1e-12)
    sent, bits = significant(update, weights, 1e9)
    assert np.flatnonzero(sent).tolist() == [5] and bits == pytest.approx(35 / 192, rel=1e-12)
    sent, bits = significant(update, weights, 0)
    np.testing.assert_array_equal(sent, update)
    assert bits == pytest.approx(5 * 35 / 192, rel=1e-12)


def test_nothing_is_significant():
    sent, bits = significant(updates(3, 10) / 1e6, np.ones(10), 0.5)
    assert not sent.any() and bits.tolist() == [0, 0, 0]


def test_what_is_dense_is_sent_whole():
    # 32 entries, an index takes 5 bits: from 32 x 32 / 37 = 27.7 entries on, all are sent.
    update = np.arange(1, 33) / 100
    weights = np.ones(32)
    sent, bits = significant(np.stack([update, update]), weights, 0.0450001)
    assert bits.tolist() == [1, 1]
    np.testing.assert_array_equal(sent, [update, update])
    sent, bits = significant(update, weights, 0.0550001)
    assert bits == pytest.approx(27 * 37 / 1024, rel=1e-12)
    np.testing.assert_array_equal(sent, np.where(np.arange(32) < 5, 0, update))


def test_significant_broadcasts_and_does_not_mix():
    update, weights = updates(3, 4, 50), updates(4, 50, seed=1)
    sent, bits = significant(update, weights, 0.8)
    assert sent.shape == (3, 4, 50) and bits.shape == (3, 4)
    assert len(set(bits.ravel())) > 3
    for index in np.ndindex(3, 4):
        alone, share = significant(update[index], weights[index[1]], 0.8)
        np.testing.assert_array_equal(sent[index], alone)
        assert bits[index] == share and share.shape == ()


@pytest.mark.parametrize("net", [SMALL, DIGITS])
@pytest.mark.parametrize("rank", [1, 2, 3, 9, 40])
def test_low_rank_is_the_best_one(net, rank):
    update = updates(net.parameters)
    before = update.copy()
    sent = low_rank(update, net, rank)
    np.testing.assert_array_equal(update, before)
    for (found, biases), (matrix, wanted) in zip(
        net.matrices(sent), net.matrices(update), strict=True
    ):
        np.testing.assert_array_equal(biases, wanted)
        values = np.linalg.svd(matrix, compute_uv=False)
        assert np.linalg.matrix_rank(found) == min(rank, len(values))
        # Eckart and Young: no matrix of this rank is nearer.
        distance = np.linalg.norm(matrix - found)
        assert distance == pytest.approx(np.linalg.norm(values[rank:]), rel=1e-9, abs=1e-12)
        if rank >= len(values):
            np.testing.assert_array_equal(found, matrix)


def test_low_rank_by_hand():
    # 2 x 3: an outer product, and something smaller that is orthogonal to it on both sides.
    net = Perceptron((2, 3))
    large, little = np.outer([2, 1], [3, 0, 4]), np.outer([1, -2], [0, 0.5, 0])
    update = np.concatenate([(large + little).ravel(), [7, 8, 9]])
    sent = low_rank(update, net, 1)
    np.testing.assert_allclose(sent, [6, 0, 8, 3, 0, 4, 7, 8, 9], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rank", [1, 2, 7])
@pytest.mark.parametrize("net", [SMALL, DIGITS, Perceptron((7, 3, 1, 2))])
def test_low_rank_of_a_stack_equals_its_updates(net, rank, dtype):
    update = updates(2, 3, net.parameters).astype(dtype)
    sent = low_rank(update, net, rank)
    assert sent.shape == update.shape and sent.dtype == dtype
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(sent[index], low_rank(update[index], net, rank))
    np.testing.assert_array_equal(low_rank(update[:, ::2], net, rank), sent[:, ::2])
    repeated = np.broadcast_to(update[0, 0], (4, net.parameters))
    np.testing.assert_array_equal(low_rank(repeated, net, rank)[3], sent[0, 0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_has_diverged_stays_so(broken):
    update = updates(3, SMALL.parameters)
    expected = low_rank(update, SMALL, 1)
    update[1, 2] = broken  # in the first layer, whose matrix is then left alone
    first = SMALL.layers[0]
    expected[1, first] = update[1, first]
    np.testing.assert_array_equal(low_rank(update, SMALL, 1), expected)


def test_bits_of_low_rank_by_hand():
    assert low_rank_bits(DIGITS, 1) == pytest.approx((96 + 32 + 42 + 10) / 2410, rel=1e-12)
    assert low_rank_bits(DIGITS, 5) == pytest.approx((480 + 32 + 210 + 10) / 2410, rel=1e-12)
    # 8 x 42 = 336 is more than the 320 numbers of the matrix.
    assert low_rank_bits(DIGITS, 8) == pytest.approx((768 + 32 + 320 + 10) / 2410, rel=1e-12)
    assert low_rank_bits(DIGITS, 30) == 1


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_bad_shares(share):
    with pytest.raises(ValueError, match=rf"share.*{share}"):
        top_k(updates(4), share)
    with pytest.raises(ValueError, match=rf"share.*{share}"):
        top_k_bits(4, share)


@pytest.mark.parametrize("threshold", [-0.1, float("nan")])
def test_bad_thresholds(threshold):
    with pytest.raises(ValueError, match=rf"threshold.*{threshold}"):
        significant(updates(4), updates(4), threshold)


@pytest.mark.parametrize("rank", [0, -1, 1.5])
def test_bad_ranks(rank):
    with pytest.raises(ValueError, match=rf"rank.*{rank}"):
        low_rank(updates(SMALL.parameters), SMALL, rank)
    with pytest.raises(ValueError, match=rf"rank.*{rank}"):
        low_rank_bits(SMALL, rank)


def test_updates_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"39.*\(2, 40\)"):
        low_rank(updates(2, 40), SMALL, 1)
