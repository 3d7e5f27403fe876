"""The digits: how many serve which purpose, and that no image serves two."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mec_gym.core.extras import MissingExtra
from mec_gym.dnn import images as enlarged
from mec_gym.learning.images import digits


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
    with pytest.raises(MissingExtra, match=r"sklearn.*pip install 'mec-gym\[exits\]'"):
        digits.__wrapped__()
