"""Who holds which images: nobody twice, all sizes in range, and the skew that was asked for."""

import re
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.learning.images import digits
from mec_gym.learning.partition import Kind, class_shares, most_images, partition

LABELS = digits().learn.labels
EVEN = np.repeat(np.arange(5), 40)[np.random.default_rng(8).permutation(200)]
KINDS = get_args(Kind)
DEFAULT = {"alpha": 1.0, "classes_each": 2, "size_spread": 0.0, "shared": 0}


def drawn(labels, clients, n=1, *, kind, seed=0, **changed):
    rng = np.random.default_rng(seed)
    return partition(labels, clients, rng, n, kind=kind, **{**DEFAULT, **changed})


def own_of(parts, shared=0):
    """Each episode's own images of each client, as lists of arrays."""
    return [
        [row[: held - shared] for row, held in zip(rows, samples, strict=True)]
        for rows, samples in zip(parts.own, parts.samples, strict=True)
    ]


def shares_of(labels, parts):
    return class_shares(labels, parts.own, parts.samples, labels.max() + 1)


def test_most_images():
    # By hand: 1137 / 50 = 22.74, 1077 / 50 = 21.54.
    assert most_images(1137, 50, 0, 0) == 23
    assert most_images(1137, 50, 0.0, 60) == 22 + 60
    assert most_images(1137, 50, 0.3, 60) == 4 * 22 + 60
    assert most_images(10, 2, 1.0, 3) == 7 + 3
    assert most_images(10, 10, 0, 0) == 1


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    kind=st.sampled_from(KINDS),
    alpha=st.sampled_from([1e-12, 0.01, 0.3, 5.0, 1e18]),
    classes_each=st.integers(1, 4),
    size_spread=st.sampled_from([0.0, 0.5, 3.0, 1000.0]),
    seed=st.integers(0, 2**31 - 1),
    data=st.data(),
)
def test_what_holds_of_every_partition(
    counts, kind, alpha, classes_each, size_spread, seed, data
):  # fmt: skip
    labels = np.repeat(2 * np.arange(len(counts)), counts)  # some classes may be missing
    images = len(labels)
    shared = data.draw(st.integers(0, images - 1))
    clients = data.draw(st.integers(1, images - shared))
    classes_each = min(classes_each, images)
    own, samples = drawn(
        labels, clients, 2, kind=kind, alpha=alpha, classes_each=classes_each,
        size_spread=size_spread, shared=shared, seed=seed,
    )  # fmt: skip
    most = most_images(images, clients, size_spread, shared)
    assert own.shape == (2, clients, most) and own.dtype == np.int16
    assert samples.shape == (2, clients) and samples.dtype == np.int64
    assert (samples >= 1 + shared).all() and (samples <= most).all()
    for rows, held in zip(own, samples, strict=True):
        for row, count in zip(rows, held, strict=True):
            assert (row[:count] >= 0).all() and (row[count:] == -1).all()
        parts = [row[: count - shared] for row, count in zip(rows, held, strict=True)]
        common = rows[0, held[0] - shared : held[0]]
        for row, count in zip(rows, held, strict=True):
            np.testing.assert_array_equal(row[count - shared : count], common)
        everything = np.concatenate([*parts, common])
        assert len(np.unique(everything)) == len(everything) <= images
        assert everything.max() < images
        sizes = held - shared
        if size_spread == 0:
            assert np.ptp(sizes) <= (kind == "shards")
            left = images - shared - sizes.sum()
            assert left == (0 if kind == "shards" else (images - shared) % clients)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_decides_alone(kind):
    first, same = (drawn(LABELS, 20, 3, kind=kind, seed=5, shared=7) for _ in range(2))
    np.testing.assert_array_equal(first.own, same.own)
    np.testing.assert_array_equal(first.samples, same.samples)
    other = drawn(LABELS, 20, 3, kind=kind, seed=6, shared=7)
    assert (first.own != other.own).any()
    assert (first.own[0] != first.own[1]).any()
    # Episodes come one after the other out of the generator.
    rng = np.random.default_rng(5)
    settings = {**DEFAULT, "shared": 7}
    alone = [partition(LABELS, 20, rng, 1, kind=kind, **settings).own[0] for _ in range(3)]
    np.testing.assert_array_equal(first.own, alone)


def test_alike():
    parts = drawn(EVEN, 4, 200, kind="iid")
    assert (parts.samples == 50).all()
    counts = 50 * shares_of(EVEN, parts)
    assert counts.mean(axis=(0, 1)) == pytest.approx([10] * 5, abs=0.01)
    # Hypergeometric: 50 of 200, of which 40 count.
    assert counts.var(axis=(0, 1)) == pytest.approx([50 * 0.2 * 0.8 * 150 / 199] * 5, rel=0.15)


def test_large_alpha_approaches_the_shares_of_all():
    prior = np.bincount(LABELS) / len(LABELS)
    parts = drawn(LABELS, 10, 20, kind="dirichlet", alpha=1e9)
    shares = shares_of(LABELS, parts)
    assert shares.mean(axis=(0, 1)) == pytest.approx(prior, abs=0.003)
    # Little more than that of 113 images drawn at random; whoever is late takes what is left.
    assert np.all(shares.std(axis=(0, 1)) < 1.5 * np.sqrt(prior * (1 - prior) / 113))


def test_spread_of_mixtures():
    """Where most images are left over, shares vary as a Dirichlet distribution says."""
    labels, prior, alpha = np.repeat([0, 1, 2], [2000, 6000, 12_000]), np.array([0.1, 0.3, 0.6]), 4
    parts = drawn(labels, 40, 60, kind="dirichlet", alpha=alpha, size_spread=5.0)
    assert parts.samples.sum(axis=1).mean() < 8_000
    shares = shares_of(labels, parts)[parts.samples > 100]
    assert len(shares) > 250
    assert shares.mean(axis=0) == pytest.approx(prior, abs=0.03)
    assert shares.std(axis=0) == pytest.approx(np.sqrt(prior * (1 - prior) / (alpha + 1)), rel=0.1)


def test_small_alpha_means_few_classes():
    parts = drawn(EVEN, 5, 50, kind="dirichlet", alpha=1e-3)
    held = (shares_of(EVEN, parts) > 0).sum(axis=-1)
    # The first client of a class gets it whole; whoever is late takes what is left.
    assert (held.min(axis=1) == 1).all() and held.mean() < 2
    alpha = [0.1, 1, 10, 1000]
    means = [
        (shares_of(LABELS, drawn(LABELS, 50, 10, kind="dirichlet", alpha=a)) > 0).sum(-1).mean()
        for a in alpha
    ]
    assert means == sorted(means) and means[0] < 2 and means[-1] > 7


def test_a_mixture_of_one_class_by_hand():
    """With one image per client and all classes alone, everyone has another class."""
    parts = drawn(np.arange(6), 6, 30, kind="dirichlet", alpha=0.5)
    assert (np.sort(parts.own[..., 0], axis=1) == np.arange(6)).all()
    # Which client comes first is random: each holds each class at times.
    assert all(len(set(column)) > 3 for column in parts.own[..., 0].T)


def test_shards_that_fit_their_classes():
    # 5 classes of 40, 10 clients with 2 shards of 10: no shard lies on a border.
    parts = drawn(EVEN, 10, 40, kind="shards", classes_each=2)
    counts = np.rint(20 * shares_of(EVEN, parts)).astype(int)
    assert set(counts.ravel()) == {0, 10, 20}
    assert (counts.sum(axis=-1) == 20).all() and (counts.sum(axis=1) == 40).all()
    # Shards are dealt at random: of 20, the second is one of 3 of the same class among 19.
    alike = (counts == 20).any(axis=-1).mean()
    assert alike == pytest.approx(3 / 19, abs=0.05)


@pytest.mark.parametrize("classes_each", [1, 2, 5])
@pytest.mark.parametrize("size_spread", [0, 0.8])
def test_shards_on_borders(classes_each, size_spread):
    parts = drawn(LABELS, 50, 20, kind="shards", classes_each=classes_each, size_spread=size_spread)
    held = (shares_of(LABELS, parts) > 0).sum(axis=-1)
    # No shard is longer than a class, so it has two classes at most, and each of the 9 borders
    # lies in at most one shard.
    assert held.max() <= 2 * classes_each
    assert (held.sum(axis=1) <= 50 * classes_each + 9).all()


def test_no_class_is_short_where_images_are_left_over():
    parts = drawn(EVEN, 20, 300, kind="shards", size_spread=3.0)
    assert parts.samples.sum(axis=1).mean() < 150
    counts = np.rint(parts.samples[..., None] * shares_of(EVEN, parts)).sum(axis=1)
    shares = counts.sum(axis=0) / counts.sum()
    assert shares == pytest.approx([0.2] * 5, abs=0.01)


def test_lognormal_sizes():
    labels = np.arange(40_000) % 10
    parts = drawn(labels, 40, 20, kind="iid", size_spread=0.4)
    assert np.log(parts.samples).std(axis=1).mean() == pytest.approx(0.4, rel=0.05)
    assert ((parts.samples.sum(axis=1) > 39_900) & (parts.samples.sum(axis=1) <= 40_000)).all()
    assert np.log(parts.samples).mean(axis=0).std() < 0.2  # no client is always a large one
    wide = drawn(labels, 40, 20, kind="iid", size_spread=3.0)
    assert wide.samples.max() == 4 * 1000 and wide.samples.min() < 20
    assert wide.own.dtype == np.int32 and wide.own.max() > 2**15


def test_shared_images_are_stratified_and_random():
    parts = drawn(LABELS, 10, 30, kind="dirichlet", alpha=0.1, shared=100)
    common = parts.own[:, 0][np.arange(30)[:, None], parts.samples[:, :1] - 100 + np.arange(100)]
    counts = np.array([np.bincount(LABELS[row], minlength=10) for row in common])
    exact = 100 * np.bincount(LABELS) / len(LABELS)
    assert np.abs(counts - exact).max() < 1
    assert len({row.tobytes() for row in np.sort(common, axis=1)}) == 30
    # With fewer than classes, and classes of one size, each is there at times.
    few = drawn(EVEN, 4, 60, kind="iid", shared=2).own[:, 0, 49:51]
    labels = EVEN[few]
    assert (labels[:, 0] != labels[:, 1]).all() and set(labels.ravel()) == set(range(5))


def test_windows_over_time_are_random():
    """A client's own images are not in the order of their classes."""
    for kind in KINDS:
        parts = drawn(EVEN, 4, 100, kind=kind, shared=4)
        rows = EVEN[parts.own[..., :49]]
        assert rows[..., :24].mean() == pytest.approx(rows[..., 25:].mean(), abs=0.04)
        within = np.mean([np.corrcoef(row, np.arange(49))[0, 1] for row in rows.reshape(-1, 49)
                          if np.ptp(row)])  # fmt: skip
        assert abs(within) < 0.03


def test_class_shares_by_hand():
    labels = np.array([2, 0, 0, 1])
    own = np.array([[[0, 1, 2], [3, -1, -1]], [[3, 2, -1], [1, -1, -1]]])
    samples = np.array([[3, 1], [2, 0]])
    np.testing.assert_array_equal(
        class_shares(labels, own, samples, 4),
        [[[2 / 3, 0, 1 / 3, 0], [0, 1, 0, 0]], [[0.5, 0.5, 0, 0], [0, 0, 0, 0]]],
    )
    # Only the first images count.
    np.testing.assert_array_equal(class_shares(labels, own[0], [2, 1], 3)[0], [0.5, 0, 0.5])


@pytest.mark.parametrize(
    ("clients", "changed", "told"),
    [
        (1138, {}, "clients.*1137.*1138"),
        (1100, {"shared": 38}, "clients.*1099.*1100"),
        (0, {}, "clients.*0"),
        (2.5, {}, "clients.*2.5"),
        (5, {"alpha": 0}, "alpha.*0"),
        (5, {"alpha": -0.1}, "alpha.*-0.1"),
        (5, {"alpha": float("inf")}, "alpha.*inf"),
        (5, {"classes_each": 0}, "classes_each.*0"),
        (5, {"classes_each": 1.5}, "classes_each.*1.5"),
        (5, {"classes_each": 1138, "kind": "shards"}, "classes_each.*1137.*1138"),
        (5, {"size_spread": -0.5}, "size_spread.*-0.5"),
        (5, {"shared": -1}, "shared.*-1"),
        (5, {"shared": 1137}, "shared.*1137.*1137"),
        (5, {"shared": 0.5}, "shared.*0.5"),
        (5, {"kind": "sorted"}, "kind.*iid, dirichlet, shards.*sorted"),
    ],
)
def test_what_is_refused(clients, changed, told):
    with pytest.raises(ValueError, match=re.compile(told)):
        drawn(LABELS, clients, **{"kind": "iid", **changed})
