"""What is done once per frame takes longer after a pause."""

from functools import partial

import numpy as np
import pytest

from mec_gym.execution import timing
from mec_gym.execution.timing import (
    PAUSES_S,
    AfterIdle,
    HalfTimes,
    IdleTimer,
    after_idle,
    cpu_seconds,
    measure_layers,
    with_seconds,
)


def test_times_between_those_that_were_measured():
    found = AfterIdle((1e-3, 4e-3, 5e-3))
    assert PAUSES_S == (0.0, 0.01, 0.1)
    for idle_s, seconds in ((-1, 1), (0, 1), (0.004, 2.2), (0.01, 4), (0.055, 4.5), (9, 5)):
        assert found(idle_s) == pytest.approx(1e-3 * seconds)
    with pytest.raises(ValueError, match="seconds must hold 3 times"):
        AfterIdle((1e-3,))


def test_each_time_is_the_median_after_its_pause(monkeypatch):
    """Two works, of which the second takes ten times as long; a round takes its pause and more."""
    events = []
    monkeypatch.setattr(timing.time, "sleep", lambda pause: events.append(pause))

    def measure(name, factor):
        events.append(name)
        pauses = events[1::2] if events[0] == 0.0 else events[3::2]
        done = events.count(name) - 2  # the first time counts for nothing
        return factor * (1000 * pauses[-1] + (7, 1, 2)[done // len(PAUSES_S)]) if pauses else 1e9

    timer = IdleTimer([partial(measure, "a", 1.0), partial(measure, "b", 10.0)])
    assert events == ["a", "b"]
    events.insert(0, None)
    for _ in range(3):
        timer.run()
    one_round = [step for pause in PAUSES_S for step in (pause, "a", pause, "b")]
    assert events == [None, "a", "b", *one_round * 3]
    assert [times.seconds for times in timer.times()] == [(2, 12, 102), (20, 120, 1020)]


def test_a_single_thing_after_idle_times(monkeypatch):
    monkeypatch.setattr(timing.time, "sleep", lambda pause: None)
    took = iter([9.0, 1, 2, 3, 5, 6, 7, 2, 2, 2])
    assert after_idle(lambda: next(took), repeats=3).seconds == (2, 2, 3)


def test_the_time_of_a_half_by_hand():
    """After 10 ms: 2 ms without layers, else 3 ms and 1.5 times its layers of 5 ms."""
    half = HalfTimes.from_list([1e-3, 2e-3, 4e-3, 2e-3, 3e-3, 5e-3, 1.0, 1.5, 2.0])
    assert half.to_list() == [1e-3, 2e-3, 4e-3, 2e-3, 3e-3, 5e-3, 1.0, 1.5, 2.0]
    layers = np.array([2e-3, 0.0, 3e-3])
    assert half(layers[:0], 0.01) == 2e-3
    assert half(layers, 0.01) == pytest.approx(3e-3 + 7.5e-3)
    assert half(layers, 0.0) == pytest.approx(2e-3 + 5e-3)
    assert half(layers, 0.055) == pytest.approx(4e-3 + 1.75 * 5e-3)
    assert HalfTimes.from_list([0.0] * 3 + [-1.0] * 3 + [1.0] * 3)(layers, 0.0) == 0.0


def test_what_halves_take_is_found(monkeypatch, network):
    """A clock by which a half of layers takes 3 ms more, and a tenth less, than its layers."""
    times = {}

    def timed(work):
        work()
        return times[work]

    first_layers = timing._first_layers

    def half(network, exit_, count):
        work = first_layers(network, exit_, count)
        times[work] = count
        return work

    monkeypatch.setattr(timing, "_first_layers", half)
    monkeypatch.setattr(timing, "cpu_seconds", timed)
    monkeypatch.setattr(timing.time, "sleep", lambda pause: None)
    runs = []

    def profile(module, inputs, device, name, repeats, between):
        between()
        runs.append(repeats)
        graph = network.split.graph
        graph = with_seconds(graph, np.arange(len(graph)) * 1e-3)
        total = graph.at_exit(len(graph.exits) - 1).measured_seconds.cumsum()
        for work, count in times.items():
            times[work] = 3e-3 + 0.9 * total[count] if count else 1e-3
        between()
        between()
        return graph

    monkeypatch.setattr(timing, "profile", profile)
    found = measure_layers(network, repeats=11)
    assert runs == [11]
    assert found.half_s.empty.seconds == (1e-3,) * 3
    assert found.half_s.fixed.seconds == pytest.approx((3e-3,) * 3)
    assert found.half_s.scale.seconds == pytest.approx((0.9,) * 3)


def test_only_the_time_of_the_own_thread_counts():
    assert cpu_seconds(lambda: timing.time.sleep(0.05)) < 0.02
    assert cpu_seconds(lambda: sum(range(300_000))) > 1e-3
