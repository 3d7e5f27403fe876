"""The digits and images of one's own: which serve which purpose, and that none serves two."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from mec_gym.core.extras import MissingExtra
from mec_gym.dnn import images as enlarged
from mec_gym.learning.images import digits, load_images


def test_every_digit_serves_one_purpose():
    split = digits()
    assert [len(part.labels) for part in split] == [1137, 300, 360]
    assert all(part.images.shape == (len(part.labels), 64) for part in split)
    raw = load_digits()
    # All 1797 images differ.
    expected = {image.tobytes(): label for image, label in zip(raw.data, raw.target, strict=True)}
    assert len(expected) == 1797
    found = {
        (image * 16).tobytes(): label
        for part in split
        for image, label in zip(*part, strict=True)
    }  # fmt: skip
    assert found == expected


def test_both_cuts_are_stratified():
    counts = np.array([np.bincount(part.labels) for part in digits()])
    shares = np.array([[1137], [300], [360]]) / 1797
    np.testing.assert_allclose(counts, shares * counts.sum(axis=0), atol=1)


def test_the_split_is_fixed():
    split = digits()
    # Published numbers come from it; another split would give others.
    assert [part.labels[:8].tolist() for part in split] == [
        [7, 8, 0, 3, 3, 8, 4, 8], [3, 7, 9, 3, 2, 7, 7, 7], [7, 6, 3, 7, 7, 3, 2, 8]
    ]  # fmt: skip
    assert [int(part.images.sum() * 16) for part in split] == [355159, 94209, 112350]


def test_those_to_test_on_are_the_same_as_for_exits():
    ours, theirs = digits().test, enlarged.digits()
    np.testing.assert_array_equal(ours.labels, theirs.test_labels)
    # Enlarging keeps the mean shade, but for rounding.
    mean = theirs.test[:, 0].mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(ours.images.mean(axis=1), mean, atol=0.01)


def test_nobody_changes_the_images_of_others():
    for array in (array for part in digits() for array in part):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert digits() is digits()


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra, match=r"sklearn.*pip install 'mec-gym\[learning\]'"):
        digits.__wrapped__()


def own_images(counts, seed=0):
    """Images (n, 3, 2) of classes with these counts, in random order, each pixel another number."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    return np.arange(6.0 * len(labels)).reshape(-1, 3, 2), labels


def saved(folder, **fields):
    path = folder / "own.npz"
    np.savez(path, **fields)
    return path


def test_own_images(tmp_path):
    images, labels = own_images([30, 61, 109])
    split = load_images(saved(tmp_path, images=images, labels=labels))
    assert [part.images.shape for part in split] == [(126, 6), (34, 6), (40, 6)]
    index = [np.rint(part.images[:, 0] * images.max() / 6).astype(int) for part in split]
    assert sorted(np.concatenate(index)) == list(range(200))
    for part, rows in zip(split, index, strict=True):
        np.testing.assert_array_equal(part.labels, labels[rows])
        np.testing.assert_array_equal(part.images, images[rows].reshape(-1, 6) / 1199)
        assert (np.diff(rows) > 0).all()
        assert part.labels.dtype == np.int64 and part.images.dtype == np.float64
        exact = np.array([30, 61, 109]) * len(rows) / 200
        assert np.abs(np.bincount(part.labels) - exact).max() < 1
    # Fixed for ever: whoever publishes numbers has them from this split.
    assert [rows[:6].tolist() for rows in index] == [
        [2, 4, 5, 6, 8, 9],
        [1, 12, 29, 31, 35, 37],
        [0, 3, 7, 10, 11, 14],
    ]
    assert [int(rows.sum()) for rows in index] == [13137, 2955, 3808]


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(10, 60), min_size=2, max_size=12), seed=st.integers(0, 99))
def test_every_class_is_in_every_part(tmp_path_factory, counts, seed):
    images, labels = own_images(counts, seed)
    path = saved(tmp_path_factory.mktemp("own"), images=images, labels=labels)
    for part in load_images(path):
        assert np.bincount(part.labels, minlength=len(counts)).min() >= 1


@pytest.mark.parametrize(
    ("dtype", "largest", "scale"),
    [(np.uint8, 255, 255), (np.uint8, 1, 1), (np.float32, 0.5, 1), (np.bool_, 1, 1)],
)
def test_pixels_lie_between_0_and_1(tmp_path, dtype, largest, scale):
    images = np.zeros((20, 4), dtype=dtype)
    images[3, 1] = largest
    split = load_images(saved(tmp_path, images=images, labels=np.arange(20.0) % 2))
    pixels = np.concatenate([part.images for part in split])
    assert pixels.max() == largest / scale and pixels.dtype == np.float64


def test_a_file_is_read_once_until_it_changes(tmp_path):
    images, labels = own_images([20, 30])
    path = saved(tmp_path, images=images, labels=labels)
    first = load_images(path)
    assert load_images(str(path)) is first
    for array in (array for part in first for array in part):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    saved(tmp_path, images=images[:40], labels=np.arange(40) % 4)
    assert sum(len(part.labels) for part in load_images(path)) == 40


IMAGES, OWN = own_images([10, 12])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"labels": OWN}, "lacks the fields images"),
        ({"pixels": IMAGES}, "lacks the fields images, labels"),
        ({"images": IMAGES[:, 0, 0], "labels": OWN}, r"images.*\(22,\)"),
        ({"images": IMAGES[:, :0], "labels": OWN}, r"images.*\(22, 0, 2\)"),
        ({"images": IMAGES[:0], "labels": OWN[:0]}, r"images.*\(0, 3, 2\)"),
        ({"images": IMAGES, "labels": OWN[:-1]}, r"labels.*\(22,\).*\(21,\)"),
        ({"images": IMAGES, "labels": OWN[:, None]}, r"labels.*\(22,\).*\(22, 1\)"),
        ({"images": IMAGES + np.nan, "labels": OWN}, "images.*finite"),
        ({"images": IMAGES, "labels": OWN + np.inf}, "labels.*finite"),
        ({"images": IMAGES - 7, "labels": OWN}, "images.*negative.*-7"),
        ({"images": 0 * IMAGES, "labels": OWN}, "images must differ from each other, got 22 equal"),
        ({"images": IMAGES.astype(complex), "labels": OWN}, "images.*complex"),
        ({"images": IMAGES, "labels": OWN > 0}, "labels.*bool"),
        ({"images": IMAGES, "labels": OWN.astype(str)}, "labels.*<U"),
        ({"images": IMAGES.astype(object), "labels": OWN}, "not a readable .npz"),
        ({"images": IMAGES, "labels": OWN + 0.5}, r"labels.*whole.*\.5"),
        ({"images": IMAGES, "labels": OWN - 1}, "labels.*whole.*from 0.*-1"),
        ({"images": IMAGES, "labels": OWN + 1}, "labels must begin with 0, got 1"),
        ({"images": IMAGES[4:], "labels": OWN[4:]}, r"labels.*10 times.*class 0 9 times"),
        ({"images": IMAGES, "labels": 0 * OWN}, "labels.*2 to 1000.*0"),
        ({"images": IMAGES, "labels": 10**12 * OWN}, "labels.*2 to 1000.*1000000000000"),
    ],
)
def test_bad_files(tmp_path, fields, told):
    path = saved(tmp_path, **fields)
    with pytest.raises(ValueError, match=told) as raised:
        load_images(path)
    assert str(path.resolve()) in str(raised.value) and "\n" not in str(raised.value)


def test_what_is_no_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        load_images(tmp_path / "nothing.npz")
    path = saved(tmp_path, images=IMAGES, labels=OWN)
    content = path.read_bytes()
    np.save(tmp_path / "array.npy", IMAGES)
    for wrong in (
        b"",
        b"text",
        content[:-40],
        content[:400],
        (tmp_path / "array.npy").read_bytes(),
    ):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"own\.npz is not an? (readable )?\.npz file"):
            load_images(path)
