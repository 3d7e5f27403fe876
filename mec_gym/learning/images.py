"""Images to learn from: scikit-learn's digits, in one fixed split."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from mec_gym.core.extras import missing_extras_named
from mec_gym.core.types import FloatArray, IntArray

VALIDATED, TESTED = 300, 360
"""How many images validate a model, and how many test it; all others are learnt from."""


class Labelled(NamedTuple):
    """Images and their classes; the arrays are shared, so they cannot be written to."""

    images: FloatArray  # (n, pixels), 0 to 1
    labels: IntArray  # (n,)


class Split(NamedTuple):
    """Images for three purposes; no image serves two of them."""

    learn: Labelled
    validate: Labelled
    test: Labelled


@cache
def digits() -> Split:
    """Return scikit-learn's handwritten digits as they are, 8 x 8: 1137 + 300 + 360 images.

    These are the test part of the optical digits [AlpaydinKaynak1998]. Both cuts are stratified
    and always the same; the 360 images to test are those of :func:`mec_gym.dnn.images.digits`.
    The writers are not known, so the same hand may stand on both sides of a cut.

    Raises:
        MissingExtra: scikit-learn is not installed; the message says how to install it.
    """
    with missing_extras_named():
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

    raw = load_digits()
    labels = raw.target.astype(np.int64)
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=TESTED, stratify=labels, random_state=0
    )
    learn, validate = train_test_split(
        rest, test_size=VALIDATED, stratify=labels[rest], random_state=0
    )
    return Split(*(_taken(raw.data / 16, labels, index) for index in (learn, validate, test)))


def _taken(images: FloatArray, labels: IntArray, index: IntArray) -> Labelled:
    taken = Labelled(images[index], labels[index])
    for array in taken:
        array.flags.writeable = False
    return taken
