"""Images: the split of the digits, both forms of CIFAR-10, and files that must be refused."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from mec_gym.dnn import images as module
from mec_gym.dnn.images import Images, cifar10, digits

COUNT = 12
FILES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(module, "CIFAR10_PER_FILE", COUNT)


def contents():
    rng = np.random.default_rng(0)
    return {
        name: (
            rng.integers(0, 256, (COUNT, 3072), dtype=np.uint8),
            rng.integers(0, 10, COUNT).tolist(),
        )
        for name in FILES
    }


def text(value):
    """A string as Python 2 pickled it."""
    size = len(value)
    return (b"U%c" % size if size < 256 else b"T" + size.to_bytes(4, "little")) + value


def python2(pixels, labels, array=b"numpy.core.multiarray"):
    """What the files of the Python version hold: protocol 2, written by Python 2."""
    shape = b"".join(b"M" + n.to_bytes(2, "little") for n in pixels.shape) + b"\x86"
    kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
    kind += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    whole = b"c" + array + b"\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    whole += b"(K\x01" + shape + kind + b"\x89" + text(pixels.tobytes()) + b"tb"
    listed = b"](" + b"".join(b"K%c" % label for label in labels) + b"e"
    entries = text(b"batch_label") + text(b"one of 5") + text(b"data") + whole
    return b"\x80\x02}(" + entries + text(b"labels") + listed + b"u."


def python3(pixels, labels):
    return pickle.dumps({"data": pixels, "labels": labels})


def binary(pixels, labels):
    return np.column_stack([np.array(labels, dtype=np.uint8), pixels]).tobytes()


def written(folder, write, ending=""):
    folder.mkdir()
    for name, (pixels, labels) in contents().items():
        (folder / (name + ending)).write_bytes(write(pixels, labels))
    return folder


def test_digits():
    images = digits()
    assert images.train.shape == (1437, 3, 32, 32) and images.test.shape == (360, 3, 32, 32)
    # Stratified: every class has its fifth.
    every = np.bincount(np.concatenate([images.train_labels, images.test_labels]))
    np.testing.assert_allclose(np.bincount(images.test_labels), every / 5, atol=1)
    assert images.train.min() == 0 and images.train.max() == 255
    np.testing.assert_array_equal(images.train[:, 0], images.train[:, 2])
    again = digits()
    np.testing.assert_array_equal(again.test, images.test)
    known = {image.tobytes() for image in images.train}
    assert not any(image.tobytes() in known for image in images.test)


def test_digits_are_the_originals_enlarged():
    raw = torch.from_numpy(load_digits().images)[:, None]
    large = functional.interpolate(raw, size=32, mode="bilinear", align_corners=False)
    expected = {image.tobytes() for image in (large * 255 / 16).round().byte().numpy()[:, 0]}
    images = digits()
    assert {image.tobytes() for image in (*images.train[:, 0], *images.test[:, 0])} == expected


@pytest.mark.parametrize("write", [python2, python3, binary])
@pytest.mark.parametrize("inside", [False, True])
def test_cifar10_in_every_form(tmp_path, write, inside):
    name, ending = ("cifar-10-batches-bin", ".bin") if write is binary else (
        "cifar-10-batches-py", "",
    )  # fmt: skip
    folder = written(tmp_path / name, write, ending)
    images = cifar10(folder if inside else str(tmp_path))
    expected = contents()
    assert images.train.shape == (5 * COUNT, 3, 32, 32) and images.train.dtype == np.uint8
    for number, file in enumerate(FILES[:-1]):
        part = slice(number * COUNT, (number + 1) * COUNT)
        # Red, then green, then blue, each row by row.
        pixels, labels = expected[file]
        assert images.train[part][3, 1, 2, 5] == pixels[3, 1024 + 2 * 32 + 5]
        np.testing.assert_array_equal(images.train[part].reshape(COUNT, -1), pixels)
        np.testing.assert_array_equal(images.train_labels[part], labels)
    pixels, labels = expected["test_batch"]
    np.testing.assert_array_equal(images.test.reshape(COUNT, -1), pixels)
    np.testing.assert_array_equal(images.test_labels, labels)
    assert (images.shift, images.flip) == (4, True)


def test_the_real_size_is_asked_for(tmp_path, monkeypatch):
    folder = written(tmp_path / "c", binary, ".bin")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"data_batch_1.bin .*got 36876"):
        cifar10(folder)


def test_missing_files(tmp_path):
    with pytest.raises(ValueError, match=r"data must be a folder that holds cifar-10-batches-py"):
        cifar10(tmp_path / "nowhere")
    folder = written(tmp_path / "c", python2)
    (folder / "data_batch_4").unlink()
    (folder / "test_batch").unlink()
    with pytest.raises(ValueError, match="lacks data_batch_4, test_batch"):
        cifar10(folder)


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Eval:
    def __reduce__(self):
        return eval, ("1 / 0",)


def test_a_malicious_pickle_is_refused(tmp_path):
    folder = written(tmp_path / "c", python3)
    trace = tmp_path / "harm"
    for harm in (Harm(trace), Eval()):
        (folder / "data_batch_2").write_bytes(pickle.dumps({"data": harm, "labels": []}))
        with pytest.raises(ValueError, match=r"data_batch_2 is damaged .* is not allowed"):
            cifar10(folder)
    assert not trace.exists()
    objects = np.array([Harm(trace)] * COUNT, dtype=object)
    (folder / "data_batch_2").write_bytes(pickle.dumps({"data": objects, "labels": []}))
    with pytest.raises(ValueError, match="array of objects is not allowed"):
        cifar10(folder)
    assert not trace.exists()


PIXELS, LABELS = np.zeros((COUNT, 3072), dtype=np.uint8), [0] * COUNT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (python2(PIXELS, LABELS)[:2000], "is damaged"),
        (b"", "is damaged"),
        (b"\x89PNG\r\n", "is damaged"),
        (pickle.dumps([1, 2]), "must hold a dictionary"),
        (pickle.dumps({"data": PIXELS}), "has no 'labels'"),
        (pickle.dumps({"labels": LABELS}), "has no 'data'"),
        (python3(PIXELS[:5], LABELS[:5]), r"must hold bytes \(12, 3072\), got uint8 \(5, 3072\)"),
        (python3(PIXELS.astype(float), LABELS), r"must hold bytes \(12, 3072\), got float64"),
        (python3("nothing", LABELS), "must hold bytes .* got str"),
        (python3(PIXELS, LABELS[1:]), "must hold 12 labels from 0 to 9"),
        (python3(PIXELS, [10, *LABELS[1:]]), "must hold 12 labels from 0 to 9"),
        (python3(PIXELS, ["a", *LABELS[1:]]), "must hold 12 labels from 0 to 9"),
        (python3(PIXELS, 3), "must hold 12 labels from 0 to 9"),
    ],
    ids=range(13),
)
def test_damaged_pickles(tmp_path, content, message):
    folder = written(tmp_path / "c", python3)
    (folder / "data_batch_3").write_bytes(content)
    with pytest.raises(ValueError, match=f"data_batch_3 .*{message}"):
        cifar10(folder)


def test_damaged_binaries(tmp_path):
    folder = written(tmp_path / "c", binary, ".bin")
    whole = (folder / "data_batch_5.bin").read_bytes()
    (folder / "data_batch_5.bin").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"data_batch_5.bin .*got 36875"):
        cifar10(folder)
    (folder / "data_batch_5.bin").write_bytes(b"\x0b" + whole[1:])
    with pytest.raises(ValueError, match="labels from 0 to 9"):
        cifar10(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": np.zeros((4, 3, 8, 8))}, "train must be bytes"),
        ({"test": np.zeros((0, 3, 8, 8), np.uint8)}, "test must be bytes"),
        ({"train_labels": np.zeros(3, np.int64)}, r"train_labels must be int64 \(4,\)"),
        ({"test_labels": np.array([0, 7])}, r"test_labels .*got 0 to 7"),
        ({"test": np.zeros((2, 1, 8, 8), np.uint8)}, "test must have images"),
        ({"shift": 8}, r"shift must be in \[0, 8\)"),
    ],
)
def test_images_that_do_not_fit(changes, message):
    fields = {
        "name": "n",
        "about": "a",
        "classes": 3,
        "train": np.zeros((4, 3, 8, 8), np.uint8),
        "train_labels": np.zeros(4, np.int64),
        "test": np.zeros((2, 3, 8, 8), np.uint8),
        "test_labels": np.zeros(2, np.int64),
    }
    Images(**fields)
    with pytest.raises(ValueError, match=message):
        Images(**fields | changes)
