"""Times of layers."""

import dataclasses
import warnings

import pytest
import torch
from dnn.profile.nets import IMAGE, ROW, Residual, net, transformer

from mec_gym.dnn.profile import profile, timing
from mec_gym.dnn.profile.again import layers_again
from mec_gym.dnn.profile.timing import NodeTimer
from mec_gym.dnn.profile.tracing import TRACERS
from mec_gym.dnn.zoo import build


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
    """Stands still but while ``mec_gym_tests::slow`` runs, which takes the next of ``runs``.

    Each look at it takes ``cost``.
    """

    def __init__(self):
        self.now, self.runs, self.cost = 0.0, [], 0.0

    def __call__(self):
        self.now += self.cost
        return self.now


CLOCK = FakeClock()


@torch.library.custom_op("mec_gym_tests::slow", mutates_args=())
def slow(x: torch.Tensor) -> torch.Tensor:
    CLOCK.now += CLOCK.runs.pop(0)
    return x.clone()


@slow.register_fake
def _(x):
    return torch.empty_like(x)


@pytest.fixture
def clock(monkeypatch):
    """The clock by which everything is timed."""
    monkeypatch.setattr(CLOCK, "cost", 0.0)
    for name in ("thread_time", "perf_counter"):
        monkeypatch.setattr(timing.time, name, CLOCK)
    return CLOCK


SLOW = net(lambda self, x: self.h(slow(x)))
# Two runs to warm up; seven whose median is 4; and, after the first, the fourth and the seventh
# of them, the module as a whole: 10, 30 and 50.
RUNS = (1000.0, 90.0, 7.0, 10.0, 1.0, 3.0, 4.0, 30.0, 2.0, 5.0, 600.0, 50.0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_time_is_the_median_of_the_runs_after_the_warm_up(clock):
    clock.runs = list(RUNS)
    graph = profile(SLOW, ROW, "cpu", repeats=7)
    assert clock.runs == []  # all of them ran
    assert [layer.operation for layer in graph.layers] == ["input", "slow", "linear"]
    assert graph.measured_seconds.tolist() == [0.0, 4.0, 0.0]
    found = graph.provenance
    assert (found["cold_start_s"], found["whole_s"], found["repeats"]) == (996.0, 30.0, 7)
    assert found["overhead_s"] == 0.0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_looks_at_the_clock_are_no_part_of_a_time(clock):
    clock.runs, clock.cost = list(RUNS), 0.5
    graph = profile(SLOW, ROW, "cpu", repeats=7)
    assert graph.measured_seconds.tolist() == [0.0, 4.0, 0.0]
    assert graph.provenance["whole_s"] == 30.0 and graph.provenance["overhead_s"] == 0.0


def test_what_the_interpreter_does_is_no_part_of_a_time(clock, monkeypatch):
    fetch = torch.fx.Interpreter.fetch_args_kwargs_from_env

    def slowly(self, n):
        clock.now += 0.25
        return fetch(self, n)

    monkeypatch.setattr(torch.fx.Interpreter, "fetch_args_kwargs_from_env", slowly)
    clock.runs, clock.cost = [4.0] * 200, 0.125
    with pytest.warns(UserWarning, match="slow"):
        graph = profile(SLOW, ROW, "cpu")
    assert graph.measured_seconds.tolist() == [0.0, 4.0, 0.0]
    assert graph.provenance["overhead_s"] == 0.25


@pytest.mark.parametrize(
    ("quartile", "named"),
    [(1.2, []), (1.3, ["slow_default"])],
)
def test_layers_whose_repeats_scatter_are_named(clock, quartile, named):
    # Of five repeats the quartiles are the second and the fourth; one whole run follows the
    # first, one the fourth.
    clock.runs = [9.0, 9.0, 1.0, 9.0, 0.5, 1.0, quartile, 9.0, 2.0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graph = profile(SLOW, ROW, "cpu", repeats=5)
    assert graph.provenance["scattered"] == named
    told = [str(one.message) for one in caught if "scatter" in str(one.message)]
    assert len(told) == len(named) and all(named[0] in text for text in told)


def test_layers_that_take_next_to_nothing_may_scatter():
    def times(share):
        one, other = torch.fx.Graph().placeholder("a"), torch.fx.Graph().placeholder("b")
        seconds = {one: share, other: 1.0 - share}
        spread = {one: 9.0, other: 1.1}
        return one, timing.NodeTimes(
            seconds=seconds,
            spread=spread,
            repeats=1,
            clock="",
            overhead_s=0,
            cold_start_s=0,
            whole_s=1,
        )

    one, enough = times(0.02)
    assert timing.scattered(enough) == (one,)
    assert timing.scattered(times(0.005)[1]) == ()


def test_the_clock_is_that_of_the_thread_where_only_it_works():
    before = torch.get_num_threads()
    try:
        for threads, name in ((1, "thread_time"), (2, "perf_counter")):
            torch.set_num_threads(threads)
            found = profile(Residual(), torch.rand(1, 3, 8, 8), "cpu", repeats=1).provenance
            assert (found["clock"], found["threads"]) == (name, threads)
    finally:
        torch.set_num_threads(before)


def test_a_clock_that_is_too_coarse_is_not_taken(monkeypatch):
    monkeypatch.setattr(timing, "FINEST_S", 0.0)  # as on systems that count in milliseconds
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert timing.Clock("cpu").name == "perf_counter"


@pytest.mark.parametrize("repeats", [0, -1, 2.5, True])
def test_repeats_are_checked(repeats):
    with pytest.raises(ValueError, match=f"repeats .*{repeats}"):
        profile(SLOW, ROW, "cpu", repeats=repeats)


@pytest.mark.slow
def test_the_layers_add_up_to_the_module():
    """Loosely: other programs run on the machine."""
    graph = profile(build("resnet18", image_size=32), torch.rand(1, 3, 32, 32), "cpu")
    found = graph.provenance
    assert 0.5 < graph.measured_seconds.sum() / found["whole_s"] < 1.5
    assert 0 < found["overhead_s"] < 1e-3


def test_exported_layers_are_timed():
    def forward(self, x):
        return self.h(x) + torch.arange(x.shape[1]) if x.shape[0] == 1 else x

    graph = profile(net(forward), ROW, "cpu")
    assert graph.provenance["tracer"] == "export"
    assert graph.measured_seconds[0] == 0 and (graph.measured_seconds[1:] > 0).all()
    # torch has another way to compute these, in which layers cannot be seen.
    seconds = profile(transformer(), torch.zeros(1, 10, 16), "cpu").measured_seconds
    assert (seconds[1:] > 0).all()


def test_layers_are_timed_whatever_their_nodes_are_called():
    """With content, torch fills with a number, so that the names of all later copies differ."""

    def forward(self, x):
        y = self.h(x).clone() if x.shape[0] == 1 else x
        y[:, 0] = 1.0
        y[:, 1:2] = x[:, 2:3]
        y[0] = self.row
        return y

    module = net(forward, row=torch.ones(8))
    graph = profile(module, ROW, "cpu", repeats=3)
    names = [layer.name for layer in graph.layers]
    assert [name for name in names if "copy" in name] == ["copy_", "copy__1", "copy__2"]
    assert (graph.measured_seconds[1:] > 0).all()
    traced = TRACERS["export"](module.eval(), (ROW,))
    again, _ = layers_again(traced, (ROW,), graph)
    found = {names[layer]: node.name for node, layer in again.index.items()}
    assert [found[name] for name in ("copy_", "copy__1", "copy__2")] == [
        "fill_",
        "copy_",
        "copy__1",
    ]


def test_layers_that_are_others_with_content_are_not_timed():
    def forward(self, x):
        y = self.h(x) if x.shape[0] == 1 else x
        return y + torch.zeros_like(x).fill_(2)

    with pytest.raises(ValueError, match=r"Net cannot be timed: with content, .* other layers"):
        profile(net(forward), ROW, "cpu")


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


def test_what_is_done_between_the_repeats(monkeypatch):
    """2 warm-up runs, then rounds of 4, 4 and 1 repeats, each after one run that does not count."""
    events = []
    run = NodeTimer.run

    def noted(self, counts=True):
        events.append(counts)
        run(self, counts)

    monkeypatch.setattr(NodeTimer, "run", noted)
    module = torch.nn.Linear(3, 2)
    graph = profile(
        module, torch.zeros(1, 3), "cpu", repeats=9, between=lambda: events.append("between")
    )
    one_round = ["between", False, True]
    assert events == [False] * 2 + (one_round + [True] * 3) * 2 + one_round
    assert graph.provenance["repeats"] == 9
