"""Indices from keys: published values, by hand, alone and in a stack, and how evenly they fall."""

import warnings

import numpy as np
import pytest
from scipy import stats

from mec_gym.learning.hashing import GAMMA, draw_indices, mix

KEY = 0x0123456789ABCDEF
MASK = 2**64 - 1


def mixed(x):
    """SplitMix64's finaliser in Python's own whole numbers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def indices(key, client, count, samples):
    gamma = 0x9E3779B97F4A7C15
    own = mixed((key + (client + 1) * gamma) & MASK)
    tops = [mixed((own + c * gamma) & MASK) >> 11 for c in range(1, count + 1)]
    return [samples * top // 2**53 for top in tops]


def test_published_values_of_splitmix64():
    state = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * GAMMA
    assert mix(state).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip


def test_any_shape_and_no_warning():
    x = np.arange(2**64 - 12, 2**64, dtype=np.uint64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(mix(x.reshape(2, 3, 2)).ravel(), mix(x))
        assert [int(mix(each)) for each in x] == mix(x).tolist() == [mixed(int(e)) for e in x]
        assert mix(np.array(5, dtype=np.uint64)).shape == ()
        assert draw_indices(np.uint64(MASK), 7, 3, 10).shape == (3,)


@pytest.mark.parametrize("key", [0, 1, KEY, MASK])
@pytest.mark.parametrize(("client", "samples"), [(0, 1), (3, 7), (49, 1137), (2**20, 2**40 + 1)])
def test_indices_equal_those_of_whole_numbers(key, client, samples):
    found = draw_indices(np.uint64(key), client, 40, samples)
    assert found.dtype == np.int64
    assert found.tolist() == indices(key, client, 40, samples)


def test_a_stack_equals_its_rows():
    rng = np.random.default_rng(0)
    keys = rng.integers(2**64, size=(4, 1), dtype=np.uint64)
    clients, samples = rng.integers(50, size=(4, 10)), rng.integers(1, 90, size=10)
    stack = draw_indices(keys, clients, 160, samples)
    assert stack.shape == (4, 10, 160)
    for row, column in np.ndindex(4, 10):
        alone = draw_indices(keys[row, 0], clients[row, column], 160, samples[column])
        np.testing.assert_array_equal(stack[row, column], alone)
    np.testing.assert_array_equal(draw_indices(keys, clients, 16, samples), stack[..., :16])


def test_indices_fall_evenly():
    samples = 23
    found = draw_indices(np.uint64(KEY), np.arange(200), 500, samples)
    assert found.min() == 0 and found.max() == samples - 1
    counts = np.bincount(found.ravel(), minlength=samples)
    assert stats.chisquare(counts).pvalue > 0.01
    # Neighbours in time, and neighbouring clients, know nothing of each other.
    for pairs in (
        samples * found[:, :-1] + found[:, 1:],
        samples * found[:-1] + found[1:],
    ):
        joint = np.bincount(pairs.ravel(), minlength=samples**2)
        assert stats.chisquare(joint).pvalue > 0.01


def test_clients_and_keys_differ():
    keys = np.uint64(KEY) + np.arange(20, dtype=np.uint64)[:, None]
    found = draw_indices(keys, np.arange(30), 16, 1000).reshape(600, 16)
    assert len({row.tobytes() for row in found}) == 600


@pytest.mark.parametrize("samples", [1, 2, 3, 1137, 2**31 - 1, 2**52 - 1])
def test_the_largest_number_stays_in_range(samples):
    """What ``draw_indices`` relies on: the product with the largest u is not rounded up."""
    assert int(samples * ((2**53 - 1) * 2.0**-53)) == samples - 1
