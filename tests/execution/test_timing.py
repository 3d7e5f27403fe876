"""What is done once per frame takes longer after a pause."""

import pytest

from mec_gym.execution import timing
from mec_gym.execution.timing import PAUSES_S, AfterIdle, after_idle, cpu_seconds


def test_times_between_those_that_were_measured():
    found = AfterIdle((1e-3, 4e-3, 5e-3))
    assert PAUSES_S == (0.0, 0.003, 0.01)
    for idle_s, seconds in ((-1, 1), (0, 1), (0.001, 2), (0.003, 4), (0.0065, 4.5), (9, 5)):
        assert found(idle_s) == pytest.approx(1e-3 * seconds)
    with pytest.raises(ValueError, match="seconds must hold 3 times"):
        AfterIdle((1e-3,))


def test_each_time_is_the_median_after_its_pause(monkeypatch):
    """The work takes what its pause and its round say; it has just run before each pause."""
    events = []
    monkeypatch.setattr(timing.time, "sleep", lambda pause: events.append(pause))

    def measure():
        pause = events[-1] if events else None
        events.append("work")
        rounds = events.count(pause)
        return 100.0 if pause == "work" else 1000.0 * pause + (7.0, 1.0, 2.0)[rounds - 1]

    events.append("work")
    assert after_idle(measure, repeats=3).seconds == (2.0, 5.0, 12.0)
    one_round = [step for pause in PAUSES_S for step in ("work", pause, "work")]
    assert events == ["work", "work", *one_round * 3]


def test_only_the_time_of_the_own_thread_counts():
    assert cpu_seconds(lambda: timing.time.sleep(0.05)) < 0.02
    assert cpu_seconds(lambda: sum(range(300_000))) > 1e-3
