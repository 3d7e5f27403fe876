"""Images to learn from, in one fixed split: scikit-learn's digits, or a file of the user's."""

from __future__ import annotations

import zipfile
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import reason_of
from mec_gym.core.extras import missing_extras_named
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.learning.hashing import mix
from mec_gym.learning.strata import in_strata

VALIDATED, TESTED = 300, 360
"""How many digits validate a model, and how many test it; all others are learnt from."""

VALIDATED_SHARE, TESTED_SHARE = 0.17, 0.2
"""The same of the user's own images, as a share of them."""

FEWEST_OF_A_CLASS, MOST_CLASSES = 10, 1000
"""What the user's own images must have at least and at most."""


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
    return Split(*(_taken(raw.data, labels, index, 16) for index in (learn, validate, test)))


def load_images(path: str | Path) -> Split:
    """Read the user's own images and split them: 63 % to learn, 17 % to validate, 20 % to test.

    Both cuts are stratified, and always the same for the same labels. Each part keeps the order
    of the file. A file is read once, until it changes.

    Args:
        path: An ``.npz`` file with two arrays. ``images`` (n, ...) holds whole or real numbers
            from 0 on, or booleans. Each image becomes one row of pixels. If any pixel is above 1,
            all are divided by the largest of the file. ``labels`` (n,) holds the classes 0 to
            C - 1, from 2 to 1000 of them, with at least 10 images each.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no readable ``.npz`` file, or its arrays are not as said above.
    """
    place = Path(path).resolve()
    facts = place.stat()
    return _loaded(place, (facts.st_mtime_ns, facts.st_size))


@lru_cache(maxsize=2)
def _loaded(path: Path, _version: tuple[int, int]) -> Split:
    images, labels = _read(path)
    for name, values in (("images", images), ("labels", labels)):
        if values.dtype.kind not in ("biuf" if name == "images" else "iuf"):
            raise ValueError(f"{path}: {name} must be whole or real numbers, got {values.dtype}")
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} must be finite")
    if images.ndim < 2 or images.size == 0:
        raise ValueError(
            f"{path}: images must have the shape (n, ...), each with at least one pixel, got "
            f"{images.shape}"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{path}: labels must have the shape {images.shape[:1]}, one per image, got "
            f"{labels.shape}"
        )
    if images.min() < 0:
        raise ValueError(f"{path}: images must not be negative, got {images.min()}")
    if (images == images[:1]).all():
        raise ValueError(
            f"{path}: images must differ from each other, got {len(images)} equal ones"
        )
    labels = _checked(path, labels)
    scale = max(1.0, float(images.max()))
    images = images.reshape(len(images), -1)
    # By a hash of the place in the file, which no later version of a library draws otherwise.
    order = in_strata(labels, np.argsort(mix(np.arange(len(labels), dtype=np.uint64))))
    tested = round(TESTED_SHARE * len(order))
    validated = tested + round(VALIDATED_SHARE * len(order))
    parts = order[validated:], order[tested:validated], order[:tested]
    return Split(*(_taken(images, labels, np.sort(index), scale) for index in parts))


def _read(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Read the images and the labels of a file as they are."""
    names = "images", "labels"
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path} is not an .npz file")
        file.seek(0)
        try:
            fields = np.load(file, allow_pickle=False)
            found = {name: fields[name] for name in names if name in fields.files}
        except Exception as error:  # a damaged archive fails in many ways, each its reader's own
            raise ValueError(f"{path} is not a readable .npz file: {reason_of(error)}") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path} lacks the fields {', '.join(missing)}")
    return found["images"], found["labels"]


def _checked(path: Path, labels: npt.NDArray[Any]) -> IntArray:
    """Return labels as whole numbers, or raise ValueError."""
    for wrong in labels[(labels < 0) | (labels % 1 != 0)]:
        raise ValueError(f"{path}: labels must be whole numbers from 0 on, got {wrong}")
    if not 1 <= labels.max() < MOST_CLASSES:
        raise ValueError(
            f"{path}: labels must be 0 to C - 1 with C from 2 to {MOST_CLASSES} classes, got the "
            f"largest label {labels.max()}"
        )
    whole: IntArray = labels.astype(np.int64)
    counts = np.bincount(whole)
    if counts[0] == 0:
        raise ValueError(f"{path}: labels must begin with 0, got {whole.min()} as the least")
    if counts.min() < FEWEST_OF_A_CLASS:
        raise ValueError(
            f"{path}: labels must hold each class at least {FEWEST_OF_A_CLASS} times, got "
            f"class {counts.argmin()} {counts.min()} times"
        )
    return whole


def _taken(images: npt.NDArray[Any], labels: IntArray, index: IntArray, scale: float) -> Labelled:
    taken = Labelled(np.divide(images[index], scale, dtype=np.float64), labels[index])
    for array in taken:
        array.flags.writeable = False
    return taken
