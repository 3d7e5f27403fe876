"""The clock of a pipeline: examples by hand, and a simulation event by event."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_training import oracle

from mec_gym.pipeline_training.clock import (
    Operation,
    StageTimes,
    minibatch_seconds,
    order_of,
    timeline,
    warm_up,
)

SCHEDULES = ("1f1b", "gpipe")


def times_of(forward, backward, up=None, down=None):
    """Times from the first stage on, as the clock wants them: from the last one on."""
    none = [0.0] * (len(forward) - 1)
    up, down = none if up is None else up, none if down is None else down
    reverse = (np.array(a, dtype=float)[::-1] for a in (forward, backward, up, down))
    return StageTimes(**dict(zip(("forward", "backward", "up", "down"), reverse, strict=True)))


def ends_of(times, microbatches, schedule):
    """(stage from the first one on, "F" or "B", microbatch) -> end."""
    last = len(times.forward) - 1
    found = timeline(times, microbatches, schedule)
    return {(last - r, "B" if back else "F", q): float(t) for (r, back, q), t in found.items()}


# -------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_equal_stages_without_links(schedule):
    """(Q + S - 1)(f + b): 33 s, of which each stage works 24; so 3 / 11 are bubble."""
    times = times_of([1.0] * 4, [2.0] * 4)
    assert minibatch_seconds(times, 8, schedule) == 33.0
    assert 33.0 * 3 / 11 == 33.0 - 8 * 3.0
    for stages, q in itertools.product(range(1, 6), range(1, 10)):
        times = times_of([1.0] * stages, [2.0] * stages)
        assert minibatch_seconds(times, q, schedule) == (q + stages - 1) * 3.0


UNEQUAL = ([1.0, 2.0], [2.0, 3.0])


def test_unequal_stages_and_fast_links_with_gpipe():
    times = times_of(*UNEQUAL, [0.5], [0.25])
    assert minibatch_seconds(times, 3, "gpipe") == 18.75
    ends = ends_of(times, 3, "gpipe")
    assert [ends[0, "F", q] for q in range(3)] == [1, 2, 3]
    assert [ends[1, "F", q] for q in range(3)] == [3.5, 5.5, 7.5]
    assert [ends[1, "B", q] for q in range(3)] == [10.5, 13.5, 16.5]
    assert [ends[0, "B", q] for q in range(3)] == [12.75, 15.75, 18.75]
    assert warm_up(1, 3, "gpipe") == 3


def test_unequal_stages_and_fast_links_with_1f1b():
    times = times_of(*UNEQUAL, [0.5], [0.25])
    assert minibatch_seconds(times, 3, "1f1b") == 18.75
    ends = ends_of(times, 3, "1f1b")
    last = [(kind, q) for q in range(3) for kind in "FB"]
    assert [ends[1, kind, q] for kind, q in last] == [3.5, 6.5, 8.5, 11.5, 13.5, 16.5]
    # Stage 0 waits for the first gradient, which is there at 6.75, before its third forward pass.
    assert ends[0, "B", 0] == 8.75 and ends[0, "F", 2] == 9.75
    assert [warm_up(r, 3, "1f1b") for r in (0, 1)] == [1, 2]  # activations of two, not of three


def test_unequal_stages_and_slow_links():
    times = times_of(*UNEQUAL, [2.0], [1.0])
    assert minibatch_seconds(times, 3, "gpipe") == 21.0
    assert minibatch_seconds(times, 3, "1f1b") == 22.0
    ends = ends_of(times, 3, "1f1b")
    assert ends[1, "B", 0] == 8.0 and ends[0, "B", 0] == 11.0  # it is there at 9
    assert ends[0, "F", 2] == 12.0
    # Stage 1 ends its second backward pass at 13 and idles until 14.
    assert ends[1, "B", 1] == 13.0 and ends[1, "F", 2] == 16.0


def test_one_stage_has_no_bubble():
    times = times_of([0.5], [1.25])
    for schedule in SCHEDULES:
        assert minibatch_seconds(times, 7, schedule) == 7 * 1.75


def test_a_link_sends_one_microbatch_after_the_other():
    # Forward passes end at 1, 2, 3; a link of 4 s has them there at 5, 9, 13.
    times = times_of([1.0, 1.0], [1.0, 1.0], [4.0], [4.0])
    ends = ends_of(times, 3, "gpipe")
    assert [ends[1, "F", q] for q in range(3)] == [6, 10, 14]
    # Backward passes end at 15, 16, 17 and are there at 19, 23, 27.
    assert [ends[0, "B", q] for q in range(3)] == [20, 24, 28]


# ------------------------------------------------------------------- against a simulation


def random_case(rng):
    stages, q = int(rng.integers(1, 6)), int(rng.integers(1, 10))
    spread = rng.choice([0.1, 1.0])  # where one stage is much slower, the order hardly matters
    forward, backward = rng.lognormal(0.0, spread, (2, stages))
    up, down = rng.lognormal(-0.5, spread, (2, stages - 1))
    for link in (up, down):
        link[rng.random(stages - 1) < 0.25] = 0.0
    return (forward, backward, up, down), q


def test_equals_a_simulation_on_random_cases():
    rng = np.random.default_rng(0)
    cases = [random_case(rng) for _ in range(400)]
    slower = 0
    for given_times, q in cases:
        total = {}
        for schedule in SCHEDULES:
            log = oracle.simulate(*given_times, q, schedule)
            times = times_of(*given_times)
            assert ends_of(times, q, schedule) == {key: end for key, (_, end) in log.items()}
            total[schedule] = float(minibatch_seconds(times, q, schedule))
            assert total[schedule] == max(end for _, end in log.values())
        slower += total["1f1b"] > total["gpipe"] * (1 + 1e-12)
    assert 40 < slower < 360  # so 1F1B is neither always as fast nor always slower


def test_the_simulation_keeps_as_many_activations_as_it_says():
    rng = np.random.default_rng(1)
    for _ in range(40):
        given_times, q = random_case(rng)
        stages = len(given_times[0])
        for schedule in SCHEDULES:
            log = oracle.simulate(*given_times, q, schedule)
            for s in range(stages):
                begins = [log[s, "F", i][0] for i in range(q)]
                ends = [log[s, "B", i][1] for i in range(q)]
                most = max(sum(b <= t for b in begins) - sum(e <= t for e in ends) for t in begins)
                assert most == warm_up(stages - 1 - s, q, schedule)


def test_every_operation_stands_after_what_it_waits_for():
    for stages, q, schedule in itertools.product((1, 2, 4), (1, 3, 9), SCHEDULES):
        order = order_of(stages, q, schedule)
        place = {operation: i for i, operation in enumerate(order)}
        assert len(place) == len(order) == 2 * stages * q
        for r, i in itertools.product(range(stages), range(q)):
            assert place[Operation(r, False, i)] < place[Operation(r, True, i)]
            if r:
                assert place[Operation(r, False, i)] < place[Operation(r - 1, False, i)]
                assert place[Operation(r - 1, True, i)] < place[Operation(r, True, i)]
        for r in range(stages):
            own = [("B" if back else "F", i) for stage, back, i in order if stage == r]
            assert own == oracle.operations(stages - 1 - r, stages, q, schedule)


# ----------------------------------------------------------------------------- many at once


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_short_pipelines_beside_long_ones(schedule):
    """Bit for bit as alone; stages that do not exist take no time."""
    rng = np.random.default_rng(2)
    for q in (1, 2, 5, 9):
        cases = [random_case(rng)[0] for _ in range(30)]
        most = max(len(case[0]) for case in cases)
        wide = {
            name: np.zeros((most - (k >= 2), len(cases)))
            for k, name in enumerate(("forward", "backward", "up", "down"))
        }
        for i, case in enumerate(cases):
            for name, values in zip(wide, case, strict=True):
                wide[name][: len(values), i] = values[::-1]
        together = minibatch_seconds(StageTimes(**wide), q, schedule)
        alone = [float(minibatch_seconds(times_of(*case), q, schedule)) for case in cases]
        assert together.tolist() == alone
        assert alone == [oracle.minibatch_end(*case, q, schedule) for case in cases]


def test_any_leading_axes():
    rng = np.random.default_rng(3)
    forward, backward = rng.random((2, 3, 2, 4))
    up, down = rng.random((2, 2, 2, 4))
    found = minibatch_seconds(
        StageTimes(forward=forward, backward=backward, up=up, down=down), 4, "1f1b"
    )
    assert found.shape == (2, 4)
    for i, j in np.ndindex(2, 4):
        one = StageTimes(
            forward=forward[:, i, j], backward=backward[:, i, j], up=up[:, i, j], down=down[:, i, j]
        )
        assert minibatch_seconds(one, 4, "1f1b") == found[i, j]


# ------------------------------------------------------------------------------ properties


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    schedule=st.sampled_from(SCHEDULES),
    what=st.sampled_from(["forward", "backward", "up", "down"]),
    place=st.integers(0, 4),
    more=st.floats(0.0, 10.0),
)
def test_what_is_slower_never_ends_sooner(seed, schedule, what, place, more):
    case, q = random_case(np.random.default_rng(seed))
    names = ("forward", "backward", "up", "down")
    slow = {name: values.copy() for name, values in zip(names, case, strict=True)}
    if len(slow[what]):
        slow[what][place % len(slow[what])] += more
    before, after = (ends_of(times_of(*c), q, schedule) for c in (case, slow.values()))
    assert all(after[key] >= end for key, end in before.items())
    assert minibatch_seconds(times_of(*slow.values()), q, schedule) >= minibatch_seconds(
        times_of(*case), q, schedule
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), schedule=st.sampled_from(SCHEDULES))
def test_no_pipeline_is_faster_than_its_slowest_part(seed, schedule):
    (forward, backward, up, down), q = random_case(np.random.default_rng(seed))
    total = minibatch_seconds(times_of(forward, backward, up, down), q, schedule)
    way = forward.sum() + backward.sum() + up.sum() + down.sum()
    busiest = q * max([*(forward + backward), *up, *down])
    assert total >= max(way, busiest) * (1 - 1e-12)
    assert total <= q * way * (1 + 1e-12)  # one microbatch at a time
