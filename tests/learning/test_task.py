"""What is learnt, and what the clock charges for it."""

import numpy as np
import pytest

from mec_gym.dnn.graph import Exit, Layer, LayerGraph, save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.learning.images import digits
from mec_gym.learning.task import task_images, task_network, training_cost


def test_images_are_the_digits_in_single_precision():
    found = task_images("digits")
    for mine, theirs in zip(found, digits(), strict=True):
        assert mine.images.dtype == np.float32
        np.testing.assert_array_equal(mine.images, theirs.images)  # 16 shades: they are exact
        np.testing.assert_array_equal(mine.labels, theirs.labels)


def test_the_network_has_one_output_per_class(tmp_path):
    assert task_network(task_images("digits"), 32).sizes == (64, 32, 10)
    assert task_network(task_images("digits"), 7).parameters == 64 * 7 + 7 + 7 * 10 + 10
    rng = np.random.default_rng(0)
    path = tmp_path / "own.npz"
    np.savez(path, images=rng.random((60, 3, 2)), labels=np.arange(60) % 4)
    own = task_images(str(path))
    assert sum(len(part.labels) for part in own) == 60
    assert task_network(own, 5).sizes == (6, 5, 4)


def test_images_that_make_no_sense(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        task_images(str(tmp_path / "nowhere.npz"))
    path = tmp_path / "own.npz"
    np.savez(path, images=np.full((60, 3), np.nan), labels=np.arange(60) % 4)
    with pytest.raises(ValueError, match="images must be finite"):
        task_images(str(path))


# -------------------------------------------------------------------------------- costs

LAYERS = (
    Layer("input", "input", 0.0, 0.0, 800.0),
    Layer("conv", "conv2d", 3e6, 5e3, 6400.0),  # 40 000 bit are moved, 7 200 in and out
    Layer("early", "linear", 2e3, 1e3, 320.0),  # 8 000 bit, of which 6 720 come and go
    Layer("deep", "linear", 5e4, 2e3, 96.0),  # 16 000 bit, 6 496
)


def saved(folder, layers=LAYERS, exits=(Exit("early", 2), Exit("deep", 3))):
    links = [(0, 1), *((1, number) for number in range(2, len(layers)))]
    path = folder / "own.json"
    save_graph(path, LayerGraph("own", layers, tuple(links), exits))
    return path


def test_the_last_exit_counts(tmp_path):
    assert training_cost(saved(tmp_path)) == (3e6 + 5e4, 32_800 + 9_504)
    early = saved(tmp_path, LAYERS[:3], (Exit("early", 2),))
    assert training_cost(early) == (3e6 + 2e3, 32_800 + 1_280)


def test_a_published_network(tmp_path):
    path = tmp_path / "vgg16.json"
    graph = load_profile("vgg16")
    save_graph(path, graph)
    work, bits = training_cost(path)
    assert bits == 32 * 138_357_544 and work == pytest.approx(graph.flops.sum())
    assert 2 * 15.4e9 < work < 2 * 15.6e9  # multiplications and additions


def test_networks_that_cost_nothing(tmp_path):
    free = (LAYERS[0], Layer("relu", "relu", 0.0, 200.0, 800.0))
    path = saved(tmp_path, free, (Exit("deep", 1),))
    with pytest.raises(ValueError, match=r"^profile must .*own has 0 FLOP and 0 bit"):
        training_cost(path)
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no\.json"):
        training_cost(tmp_path / "no.json")
