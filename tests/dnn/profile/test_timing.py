"""Times of layers."""

import dataclasses

import pytest
import torch
from dnn.profile.nets import IMAGE, ROW, Residual, net, transformer

from mec_gym.dnn.profile import profile, timing


def test_layers_are_timed():
    graph = profile(Residual(), torch.rand(1, 3, 8, 8), "cpu")
    seconds = graph.measured_seconds
    assert seconds[0] == 0 and (seconds[1:] > 0).all()
    assert graph.provenance["timed_on"] == "cpu"
    assert graph.provenance["threads"] == torch.get_num_threads()
    untimed = [dataclasses.replace(layer, seconds=None) for layer in graph.layers]
    assert tuple(untimed) == profile(Residual(), IMAGE).layers
    with pytest.raises(ValueError, match="has no measured time"):
        _ = profile(Residual(), IMAGE).measured_seconds


class FakeClock:
    """Stands still but while ``mec_gym_tests::slow`` runs, which takes the next of ``runs``."""

    def __init__(self):
        self.now, self.runs = 0.0, []

    def __call__(self):
        return self.now


CLOCK = FakeClock()


@torch.library.custom_op("mec_gym_tests::slow", mutates_args=())
def slow(x: torch.Tensor) -> torch.Tensor:
    CLOCK.now += CLOCK.runs.pop(0)
    return x.clone()


@slow.register_fake
def _(x):
    return torch.empty_like(x)


def test_a_time_is_the_median_of_the_runs_after_the_warm_up(monkeypatch):
    timed = [7.0, 1.0, 3.0, 4.0, 2.0, 5.0, 600.0]  # their median is 4
    monkeypatch.setattr(CLOCK, "runs", [1000.0, 1000.0, *timed])
    monkeypatch.setattr(timing, "perf_counter", CLOCK)
    with pytest.warns(UserWarning, match="slow"):
        graph = profile(net(lambda self, x: self.h(slow(x))), ROW, "cpu")
    assert [layer.operation for layer in graph.layers] == ["input", "slow", "linear"]
    assert graph.measured_seconds.tolist() == [0.0, 4.0, 0.0]
    assert CLOCK.runs == []  # all of them ran


def test_exported_layers_are_timed():
    def forward(self, x):
        return self.h(x) + torch.arange(x.shape[1]) if x.shape[0] == 1 else x

    graph = profile(net(forward), ROW, "cpu")
    assert graph.provenance["tracer"] == "export"
    assert graph.measured_seconds[0] == 0 and (graph.measured_seconds[1:] > 0).all()
    # torch has another way to compute these, in which layers cannot be seen.
    seconds = profile(transformer(), torch.zeros(1, 10, 16), "cpu").measured_seconds
    assert (seconds[1:] > 0).all()


@pytest.mark.parametrize("device", ["nonsense", "", "cuda:99", "cpu:x"])
def test_unknown_devices(device):
    with pytest.raises(ValueError, match=rf"device .*got '{device}'"):
        profile(net(lambda self, x: self.h(x)), ROW, device)


def test_what_does_not_run_is_named():
    words = net(lambda self, x: self.table(x), table=torch.nn.Embedding(2, 8))
    with pytest.raises(ValueError, match=r"Net does not run on 'cpu': .*range"):
        profile(words, torch.tensor([[5]]), "cpu")
    for module, frame in ((words.to("meta"), ROW), (Residual(), IMAGE.to("meta"))):
        with pytest.raises(ValueError, match=r"device .*meta.*'cpu'"):
            profile(module, frame, "cpu")
