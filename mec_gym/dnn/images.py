"""Images to train the exits on: scikit-learn's digits, and CIFAR-10 from a folder."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mec_gym.core.types import ByteArray, IntArray

CIFAR10_PER_FILE = 10_000
CIFAR10_FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Labelled images, those to learn from and those to test on.

    Attributes:
        name: Name of the data set, as it stands in the name of a profile.
        about: Which images these are and how they were split, for the provenance.
        classes: Number of classes; labels are 0 to classes - 1.
        train: Images to learn from, (n, channels, height, width).
        train_labels: Their classes, (n,).
        test: Images to test on, (m, channels, height, width).
        test_labels: Their classes, (m,).
        shift: Most pixels by which a training image is moved, in every direction. More makes
            training harder and the network less sensitive to where a thing stands.
        flip: Whether training images are mirrored, every other one on average; only for
            images whose class does not depend on left and right.

    Raises:
        ValueError: Shapes or types do not fit, labels are out of range, or there are no images.
    """

    name: str
    about: str
    classes: int
    train: ByteArray
    train_labels: IntArray
    test: ByteArray
    test_labels: IntArray
    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, part), getattr(self, f"{part}_labels")
            if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
                raise ValueError(
                    f"{part} must be bytes (n, channels, height, width) with n of at least 1, "
                    f"got {images.dtype} {images.shape}"
                )
            if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{part}_labels must be int64 ({len(images)},), got {labels.dtype} "
                    f"{labels.shape}"
                )
            if labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(
                    f"{part}_labels must be in [0, {self.classes}), got {labels.min()} to "
                    f"{labels.max()}"
                )
        if self.train.shape[1:] != self.test.shape[1:]:
            raise ValueError(
                f"test must have images {self.train.shape[1:]} as train has, got "
                f"{self.test.shape[1:]}"
            )
        if not 0 <= self.shift < min(self.train.shape[2:]):
            raise ValueError(
                f"shift must be in [0, {min(self.train.shape[2:])}), got {self.shift!r}"
            )


def digits() -> Images:
    """Return scikit-learn's handwritten digits, as colour images of 32 x 32.

    These are 1797 images of 8 x 8 in 17 shades, the test part of the optical digits
    [AlpaydinKaynak1998], enlarged bilinearly and repeated in three channels. A fifth,
    stratified, is for testing; the split is always the same. The writers are not known, so the
    same hand may stand on both sides of it.
    """
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    shades = zoom(raw.images, (1, 4, 4), order=1, mode="nearest", grid_mode=True)
    grey = np.rint(shades * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[:, None], 3, axis=1)
    train, test, train_labels, test_labels = train_test_split(
        images, raw.target.astype(np.int64), test_size=0.2, stratify=raw.target, random_state=0
    )
    return Images(
        name="digits",
        about=(
            "scikit-learn load_digits: 8 x 8 images enlarged bilinearly to 32 x 32 in 3 channels; "
            "stratified split 80 : 20, random_state 0"
        ),
        classes=10,
        train=train,
        train_labels=train_labels,
        test=test,
        test_labels=test_labels,
        shift=2,  # half a pixel of the original
    )


def cifar10(folder: str | Path) -> Images:
    """Read CIFAR-10 [Krizhevsky2009] in its own split, 50 000 to train and 10 000 to test.

    Both forms in which it is handed out are read: the Python version (pickles, opened by a
    reader that builds nothing but arrays, numbers, text, lists and dictionaries) and the
    binary version.

    Args:
        folder: The folder ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, or the one in
            which it lies.

    Raises:
        ValueError: There are no such files, or some are missing, damaged or of the wrong size.
    """
    given = Path(folder)
    for place in (given, *(given / name for name in CIFAR10_FOLDERS)):
        for ending, read in (("", _read_pickle), (".bin", _read_binary)):
            paths = [place / f"{name}{ending}" for name in (*_TRAIN, "test_batch")]
            if not any(path.is_file() for path in paths):
                continue
            missing = [path.name for path in paths if not path.is_file()]
            if missing:
                raise ValueError(f"data {place} lacks {', '.join(missing)}")
            *train, (test, test_labels) = [read(path) for path in paths]
            return Images(
                name="cifar10",
                about=f"CIFAR-10, {'binary' if ending else 'Python'} version, its own split",
                classes=10,
                train=np.concatenate([images for images, _ in train]),
                train_labels=np.concatenate([labels for _, labels in train]),
                test=test,
                test_labels=test_labels,
                shift=4,
                flip=True,
            )
    raise ValueError(
        f"data must be a folder that holds {' or '.join(CIFAR10_FOLDERS)}, unpacked, got {given}"
    )


def _read_binary(path: Path) -> tuple[ByteArray, IntArray]:
    """Read a file of records: one byte of label, then 3072 of red, green and blue."""
    raw = np.fromfile(path, dtype=np.uint8)
    wanted = CIFAR10_PER_FILE * (1 + _PIXELS)
    if raw.size != wanted:
        raise ValueError(f"data {path} must have {wanted} bytes, got {raw.size}")
    records = raw.reshape(CIFAR10_PER_FILE, 1 + _PIXELS)
    return _checked(path, records[:, 1:], records[:, 0].tolist())


def _read_pickle(path: Path) -> tuple[ByteArray, IntArray]:
    """Read a pickled dictionary: ``data``, (10000, 3072) bytes, and ``labels``, a list."""
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:
        # A damaged pickle can raise anything: it is a program that has been changed.
        raise ValueError(
            f"data {path} is damaged ({type(error).__name__}: {error or 'ends too early'})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"data {path} is damaged: it must hold a dictionary")
    found = {key.decode() if isinstance(key, bytes) else key: content[key] for key in content}
    for key in ("data", "labels"):
        if key not in found:
            raise ValueError(f"data {path} is damaged: it has no {key!r}")
    return _checked(path, found["data"], found["labels"])


def _checked(path: Path, pixels: Any, labels: Any) -> tuple[ByteArray, IntArray]:
    wanted = (CIFAR10_PER_FILE, _PIXELS)
    fits = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == wanted
    if not fits:
        got = (
            f"{pixels.dtype} {pixels.shape}"
            if isinstance(pixels, np.ndarray)
            else type(pixels).__name__
        )
        raise ValueError(f"data {path} must hold bytes {wanted}, got {got}")
    whole = isinstance(labels, list) and all(type(x) is int and 0 <= x <= 9 for x in labels)
    if not whole or len(labels) != CIFAR10_PER_FILE:
        raise ValueError(f"data {path} must hold {CIFAR10_PER_FILE} labels from 0 to 9")
    return np.ascontiguousarray(pixels.reshape(-1, *_SHAPE)), np.array(labels, dtype=np.int64)


_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]


def _number_type(kind: str | bytes, align: int = 0, copy: int = 0) -> np.dtype[Any]:
    """Stand in for ``np.dtype``, which old pickles call with numbers; numpy will refuse them."""
    found = np.dtype(kind.decode() if isinstance(kind, bytes) else kind, bool(align), bool(copy))
    if found.hasobject:
        raise pickle.UnpicklingError("an array of objects is not allowed")
    return found


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays of numbers and plain values, and refuses all else that a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
            ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _number_type,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return allowed[module, name]
