"""How much of whom goes into a model: by hand, against products of matrices, and for all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.gossip_training.mixing import (
    by_segments,
    mixed,
    mixing_weights,
    own_part,
    without_own,
)

MIXINGS = ("uniform", "metropolis", "push-sum")

# 0 listens to 1 and 3, 1 to 2, 3 to 1.
HEARD = np.array([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)

# -------------------------------------------------------------------------------- by hand


def test_the_design():
    """0 and 2 listen to 1."""
    heard = np.array([[0, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    expected = [[0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5]]
    assert mixing_weights(heard, "uniform").tolist() == expected
    # 1 gives a third to each of them, and keeps one.
    expected = [[1, 1 / 3, 0], [0, 1 / 3, 0], [0, 1 / 3, 1]]
    np.testing.assert_allclose(mixing_weights(heard, "push-sum"), expected)


def test_uniform():
    expected = [[1 / 3, 1 / 3, 0, 1 / 3], [0, 0.5, 0.5, 0], [0, 0, 1, 0], [0, 0.5, 0, 0.5]]
    np.testing.assert_allclose(mixing_weights(HEARD, "uniform"), expected)


def test_push_sum():
    # 1 has two listeners, 2 and 3 have one each, 0 has none.
    expected = [[1, 1 / 3, 0, 1 / 2], [0, 1 / 3, 1 / 2, 0], [0, 0, 1 / 2, 0], [0, 1 / 3, 0, 1 / 2]]
    np.testing.assert_allclose(mixing_weights(HEARD, "push-sum"), expected)


def test_metropolis():
    # They listen to 2, 1, 0 and 1 others.
    expected = [[1 / 3, 1 / 3, 0, 1 / 3], [0, 0.5, 0.5, 0], [0, 0, 1, 0], [0, 0.5, 0, 0.5]]
    np.testing.assert_allclose(mixing_weights(HEARD, "metropolis"), expected)
    # A path 0 - 1 - 2: the ends keep what the middle does not take.
    path = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    expected = [[2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 3, 2 / 3]]
    np.testing.assert_allclose(mixing_weights(path, "metropolis"), expected)


def test_segments():
    """Of 7 weights: 0 to 1, 2 to 3, 4 to 6."""
    models = np.arange(28.0).reshape(4, 7) ** 2
    found = by_segments(models[None], HEARD[None], 3, np.array([0]))[0]
    expected = models.copy()
    expected[0, :2] = (models[0, :2] + models[1, :2]) / 2  # the first one that it listens to
    expected[0, 2:4] = (models[0, 2:4] + models[3, 2:4]) / 2
    expected[1, :2] = (models[1, :2] + models[2, :2]) / 2
    expected[3, :2] = (models[3, :2] + models[1, :2]) / 2
    np.testing.assert_allclose(found, expected)
    found = by_segments(models[None], HEARD[None], 3, np.array([5]))[0]  # the last segment first
    expected = models.copy()
    expected[0, 4:] = (models[0, 4:] + models[1, 4:]) / 2
    expected[0, :2] = (models[0, :2] + models[3, :2]) / 2
    expected[1, 4:] = (models[1, 4:] + models[2, 4:]) / 2
    expected[3, 4:] = (models[3, 4:] + models[1, 4:]) / 2
    np.testing.assert_allclose(found, expected)


def test_more_partners_than_segments_begin_anew():
    heard = ~np.eye(4, dtype=bool)
    own = np.random.default_rng(0).random((1, 4, 6))
    found = by_segments(own, heard[None], 2, np.array([0]))[0]
    for i in range(4):
        first, second, third = (j for j in range(4) if j != i)
        np.testing.assert_allclose(found[i, :3], own[0, [i, first, third], :3].mean(axis=0))
        np.testing.assert_allclose(found[i, 3:], own[0, [i, second], 3:].mean(axis=0))


def test_one_segment_is_the_whole_model():
    rng = np.random.default_rng(1)
    own, heard = rng.random((3, 4, 5)), (rng.random((3, 4, 4)) < 0.5) & ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(
        by_segments(own, heard, 1, np.arange(3)), mixing_weights(heard, "uniform") @ own
    )


def test_parts_of_shares():
    shares = np.arange(1.0, 10.0).reshape(3, 3)
    assert without_own(shares).tolist() == [[0, 2, 3], [4, 0, 6], [7, 8, 0]]
    own = own_part(shares)
    assert own.tolist() == [[1], [5], [9]] and own.dtype == np.float32


# ------------------------------------------------------------------------------ for all


@st.composite
def graphs(draw, mutual=False):
    n = draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    heard = rng.random((3, n, n)) < rng.random()
    if mutual:
        heard = heard | np.swapaxes(heard, -1, -2)
    return heard & ~np.eye(n, dtype=bool), rng


@settings(deadline=None)
@given(graphs())
def test_rows_and_columns_that_add_up_to_one(world):
    heard, _ = world
    itself = np.eye(heard.shape[-1], dtype=bool)
    for mixing in MIXINGS:
        shares = mixing_weights(heard, mixing)
        assert (shares[~(heard | itself)] == 0).all() and (shares[heard] > 0).all()
        assert (shares[:, itself] > 0).all()
        axis = -2 if mixing == "push-sum" else -1
        np.testing.assert_allclose(shares.sum(axis=axis), 1.0, rtol=1e-12)


@settings(deadline=None)
@given(graphs(mutual=True))
def test_metropolis_keeps_the_mean_if_everybody_listens_back(world):
    heard, rng = world
    shares = mixing_weights(heard, "metropolis")
    np.testing.assert_allclose(shares, np.swapaxes(shares, -1, -2))
    np.testing.assert_allclose(shares.sum(axis=-2), 1.0, rtol=1e-12)
    models = rng.standard_normal((*heard.shape[:2], 5))
    after = mixed(shares, models)
    np.testing.assert_allclose(after.mean(axis=1), models.mean(axis=1), atol=1e-12)
    apart = np.square(models - models.mean(axis=1, keepdims=True)).sum(axis=(1, 2))
    nearer = np.square(after - after.mean(axis=1, keepdims=True)).sum(axis=(1, 2))
    assert (nearer <= apart + 1e-12).all()


@settings(deadline=None)
@given(graphs(), st.sampled_from(["uniform", "metropolis"]), st.integers(1, 5))
def test_a_model_that_is_mixed_with_itself_stays(world, mixing, segments):
    heard, rng = world
    one = rng.standard_normal((len(heard), 1, 5))
    models = np.repeat(one, heard.shape[-1], axis=1)
    np.testing.assert_allclose(mixed(mixing_weights(heard, mixing), models), models, atol=1e-12)
    taken = by_segments(models, heard, segments, np.arange(len(heard)))
    np.testing.assert_allclose(taken, models, atol=1e-6)


@settings(deadline=None)
@given(graphs())
def test_mixing_is_a_product_of_matrices(world):
    heard, rng = world
    shares = heard * rng.random(heard.shape)
    models = rng.standard_normal((*heard.shape[:2], 3, 2))
    expected = np.einsum("zij,zjab->ziab", shares, models)
    np.testing.assert_allclose(mixed(shares, models), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stack_equals_its_environments_bit_for_bit(dtype):
    rng = np.random.default_rng(3)
    heard = (rng.random((20, 9, 9)) < rng.random((20, 1, 1))) & ~np.eye(9, dtype=bool)
    models = rng.standard_normal((20, 9, 31)).astype(dtype)
    for mixing in MIXINGS:
        shares = mixing_weights(heard, mixing)
        together = mixed(shares, models)
        assert together.dtype == dtype
        for z in range(20):
            alone = mixing_weights(heard[[z]], mixing)
            assert np.array_equal(shares[z], alone[0])
            assert np.array_equal(together[z], mixed(alone, models[[z]])[0])
    turn = np.arange(20)
    together = by_segments(models, heard, 4, turn)
    for z in range(20):
        alone = by_segments(models[[z]], heard[[z]], 4, turn[[z]])
        assert np.array_equal(together[z], alone[0])
