"""Calibration: with small networks in the place of its own; its own are only counted."""

import pytest
import torch
from torch import nn

from mec_gym.dnn import calibration
from mec_gym.dnn.calibration.networks import calibration_networks
from mec_gym.dnn.fit import kind_of
from mec_gym.dnn.profile import profile

ROW = torch.rand(1, 64)


def small_networks():
    """Two families: linear layers with ReLU, and with tanh."""
    return {
        ("a", "a1"): (nn.Sequential(nn.Linear(64, 32), nn.ReLU()), ROW),
        ("a", "a2"): (nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Flatten()), ROW),
        ("b", "b1"): (nn.Sequential(nn.Linear(64, 256), nn.Tanh()), ROW),
    }


def test_what_a_fit_holds(monkeypatch):
    monkeypatch.setattr(calibration, "calibration_networks", small_networks)
    shares = []
    fit = calibration.calibrate("cpu", 0.05, shares.append)
    assert [(c.operation, c.layers) for c in fit.costs] == [
        ("linear", 3), ("relu", 2), ("tanh", 1), ("view", 1),
    ]  # fmt: skip
    assert fit.fallback.layers == 7
    (a, b) = fit.held_out
    assert (a.family, a.networks, a.unseen) == ("a", ("a1", "a2"), ("relu", "view"))
    assert (b.family, b.networks, b.unseen) == ("b", ("b1",), ("tanh",))
    found = fit.provenance
    assert found["timed_on"] == "cpu" and found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__ and found["repeats"] >= 10
    assert found["clock"] in ("thread_time", "perf_counter") and 0 <= found["scattered"] <= 1
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) >= 8
    graph = profile(nn.Sequential(nn.Linear(64, 100), nn.Tanh()), ROW)
    assert (fit.layer_seconds(graph)[1:] > 0).all()


def test_it_is_checked(monkeypatch):
    monkeypatch.setattr(calibration, "calibration_networks", small_networks)
    for seconds in (0, -1.0):
        with pytest.raises(ValueError, match=f"seconds .*{seconds}"):
            calibration.calibrate("cpu", seconds)
    with pytest.raises(ValueError, match="got 'abacus'"):
        calibration.calibrate("abacus", 1.0)


@pytest.mark.slow
def test_all_of_its_networks_can_be_counted():
    kinds, smallest = {}, {}
    for (family, name), network in calibration_networks().items():
        if (network[1].numel(), name) < smallest.get(family, ((1e9,), ""))[0]:
            smallest[family] = (network[1].numel(), name), network
    for family, ((_, name), (module, frame)) in smallest.items():
        graph = profile(module, frame.to("meta"), name=name)
        assert not graph.uncounted and graph.provenance["tracer"] != "run"
        kinds[family] = set(map(kind_of, graph.layers[1:]))
    assert len(kinds) == 8
    # What the families of the zoo do is done by another family as well.
    for family in ("alexnet", "vgg16", "resnet18", "mobilenetv2", "googlenet"):
        others = set().union(*(some for name, some in kinds.items() if name != family))
        assert kinds[family] <= others, family


@pytest.mark.slow
def test_the_real_thing_is_about_right(monkeypatch):
    """Loosely: a network that is none of its own, with its sizes in between."""
    own = calibration_networks()
    few = {
        key: own[key]
        for key in own
        if key[1] in ("alexnet of 32 at 32", "resnet18 of 32 at 32", "separable 32 at 64")
    }
    assert len(few) == 3
    monkeypatch.setattr(calibration, "calibration_networks", lambda: few)
    fit = calibration.calibrate("cpu", 0.1)
    assert len(fit.held_out) == 3 and fit.median_error < 1.0
    module = nn.Sequential(nn.Conv2d(3, 48, 3), nn.ReLU(), nn.Conv2d(48, 80, 3), nn.MaxPool2d(2))
    graph = profile(module, torch.rand(1, 3, 60, 60), "cpu")
    assert 0.2 < fit.layer_seconds(graph).sum() / graph.measured_seconds.sum() < 5
