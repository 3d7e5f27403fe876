"""What happened in an episode, by hand and against the model."""

from dataclasses import replace

import numpy as np
import pytest
from distributed_inference.hand_episode import (
    FIRST_TASK,
    HAND,
    hand_episode,
    hand_trace,
)

from mec_gym.core.env import MecEnv
from mec_gym.core.problem import Episode
from mec_gym.distributed_inference.model import Decision, State
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import PRESETS
from mec_gym.distributed_inference.timeline import (
    Bar,
    Link,
    bars,
    latency_parts,
    links,
    played,
    snapshot,
    timeline,
)


def rounds_of(episode, *numbers):
    return [played(HAND, episode, t) for t in numbers]


def by_device(found):
    return sorted(found, key=lambda b: (b.device, b.start, b.end))


def same_bars(found, expected):
    """The same bars, ends to rounding."""
    found = by_device(found)
    assert [(b.kind, b.device, b.place) for b in found] == [
        (b.kind, b.device, b.place) for b in expected
    ]
    np.testing.assert_allclose(
        [(b.start, b.end) for b in found], [(b.start, b.end) for b in expected], rtol=1e-9
    )


# ------------------------------------------------------------------------------- bars


def test_bars_by_hand():
    same_bars(bars(HAND, rounds_of(hand_episode(2), 0, 1)), FIRST_TASK)
    # After the first round: what the first block took.
    first = [FIRST_TASK[i] for i in (0, 1, 4, 5, 9)]
    same_bars(bars(HAND, rounds_of(hand_episode(2), 0)), first)


def test_a_round_that_was_played():
    first, second = rounds_of(hand_episode(2), 0, 1)
    assert (first.last, second.last) == (False, True)
    assert first.works.all() and first.runs.all()
    np.testing.assert_allclose(first.seconds, [0.43, 0.43, 0.1])
    np.testing.assert_allclose(second.seconds, [0.065, 0.074, 0.2])
    # Device 1 cannot pay for its block, and device 3 has none.
    (third,) = rounds_of(hand_episode(3), 2)
    assert third.works.tolist() == [True, True, False]
    assert third.runs.tolist() == [False, True, False]
    np.testing.assert_allclose(third.seconds, [0, 0.1, 0])


# ------------------------------------------------------------------------------- links


@pytest.mark.parametrize(
    ("before", "place", "last", "expected"),
    [
        (0, 0, False, []),
        (0, 2, False, [Link("upload", 0, 0, 2)]),
        (2, 0, False, [Link("download", 0, 2, 0)]),
        (2, 2, False, [Link("stays", 0, 0, 2)]),
        (1, 2, False, [Link("between servers", 0, 1, 2), Link("stays", 0, 0, 2)]),
        (0, 2, True, [Link("upload", 0, 0, 2), Link("download", 0, 2, 0)]),
        (2, 2, True, [Link("download", 0, 2, 0)]),
        (2, 0, True, [Link("download", 0, 2, 0)]),
    ],
)
def test_links(before, place, last, expected):
    state = State(
        place=np.array([before, 0, 0]),
        delay=np.zeros(3),
        failed=np.zeros(3, bool),
        battery=np.ones(3),
        rounds_left=np.array(2),
    )
    decision = Decision(place=np.array([place, 0, 0]))
    episode = Episode(trace=hand_trace(), states=[state] * 3, decisions=[decision] * 2, outcomes=[])
    (r,) = rounds_of(episode, int(last))
    assert list(links(HAND, r)) == expected


def test_no_result_no_way_back():
    (r,) = rounds_of(hand_episode(2), 1)
    silent = replace(HAND, return_result=False)
    assert [link.kind for link in links(silent, r)] == ["stays", "between servers", "stays"]


# ---------------------------------------------------------------------------- snapshots


def test_the_last_round_by_hand():
    now = snapshot(HAND, hand_episode(2))
    assert (now.round, now.block) == (1, 1)
    assert now.place.tolist() == [1, 2, 0]
    assert now.active.all() and not now.failed.any()
    assert now.tenants.tolist() == [1, 0]
    assert now.blocks.tolist() == [1, 1]
    assert list(now.links) == [
        Link("download", 0, 1, 0),
        Link("between servers", 1, 1, 2),
        Link("download", 1, 2, 0),
    ]


def test_the_first_block_of_the_next_task_by_hand():
    now = snapshot(HAND, hand_episode(3))
    assert (now.round, now.block) == (2, 0)
    assert now.active.tolist() == [True, True, False]
    assert now.failed.tolist() == [True, False, False]
    # Device 1 sent nothing, but the share of server 2 that it asked for is counted.
    assert now.blocks.tolist() == [0, 1]
    assert now.links == ()
    # Its task stays failed, and asks for nothing any more.
    now = snapshot(HAND, hand_episode(4))
    assert (now.round, now.block) == (3, 1)
    assert now.failed.tolist() == [True, False, False]
    assert now.blocks.tolist() == [0, 0]


def test_a_snapshot_before_the_first_round():
    now = snapshot(HAND, hand_episode(0))
    assert (now.round, now.block) == (0, 0)
    assert now.place.tolist() == [0, 0, 0] and now.blocks.tolist() == [0, 0]
    assert now.tenants.tolist() == [1, 0]
    assert not now.failed.any() and now.links == ()


# ---------------------------------------------------------------------------- timelines


def test_the_first_task_by_hand():
    tasks = timeline(HAND, hand_episode(2))
    assert (tasks.task, tasks.rounds) == (0, 2)
    same_bars(tasks.bars, FIRST_TASK)
    assert tasks.deadline.tolist() == [0.6, 0.5, 0.4]
    np.testing.assert_allclose(tasks.delay, [0.495, 0.504, 0.3])
    assert tasks.active.all()
    assert tasks.late.tolist() == [False, True, False]
    assert not tasks.failed.any()


def test_the_second_task_by_hand():
    tasks = timeline(HAND, hand_episode(3))
    assert (tasks.task, tasks.rounds) == (1, 1)
    same_bars(tasks.bars, [Bar("computing", 1, 0, 0.0, 0.1)])
    assert tasks.active.tolist() == [True, True, False]
    assert tasks.failed.tolist() == [True, False, False]
    assert not tasks.late.any()
    np.testing.assert_allclose(tasks.delay, [0, 0.1, 0])
    # A failed task stays failed in the next round, and is not late, too.
    tasks = timeline(HAND, hand_episode(4))
    assert (tasks.task, tasks.rounds) == (1, 2)
    assert tasks.failed.tolist() == [True, False, False]
    np.testing.assert_allclose(tasks.delay, [0, 0.3, 0])


def test_a_timeline_before_the_first_round():
    tasks = timeline(HAND, hand_episode(0))
    assert (tasks.task, tasks.rounds, tasks.bars) == (0, 0, ())
    assert tasks.delay.tolist() == [0, 0, 0]
    assert tasks.deadline.tolist() == [0.6, 0.5, 0.4]


def test_the_parts_of_the_latency():
    episode = hand_episode(4)
    parts = latency_parts(episode)
    np.testing.assert_allclose(parts["on devices"], [0.1, 0.2, 0.1, 0.2])
    np.testing.assert_allclose(parts["on servers"], [0.06, 0.06, 0, 0], atol=1e-12)
    np.testing.assert_allclose(parts["transfer"], [0.8, 0.079, 0, 0], atol=1e-12)
    # The charge for giving up: (1 + 2) 0.6 s.
    np.testing.assert_allclose(parts["charged for giving up"], [0, 0, 1.8, 0], atol=1e-12)
    np.testing.assert_allclose(sum(parts.values()), [o.latency_s for o in episode.outcomes])


# --------------------------------------------------------------------- played at random


@pytest.mark.parametrize(
    "name", ["small", "campus", pytest.param("city", marks=pytest.mark.slow), "patent"]
)
@pytest.mark.parametrize("steps", [1, 8, 13])
def test_bars_end_at_the_states_delay(name, steps):
    problem = DistributedInference(PRESETS[name].make())
    s = problem.scenario
    env = MecEnv(problem)
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(min(steps, s.rounds)):
        env.step(env.action_space.sample())
    episode = env.episode
    tasks, done = timeline(s, episode), len(episode.decisions)
    assert tasks.rounds == (done - 1) % s.blocks + 1
    end = np.zeros(s.devices)
    for bar in tasks.bars:
        assert bar.start == pytest.approx(end[bar.device], rel=1e-12)  # end to end
        end[bar.device] = bar.end
    np.testing.assert_allclose(end, tasks.delay, rtol=1e-6, atol=1e-12)
    if done % s.blocks:
        np.testing.assert_allclose(end, episode.states[-1].delay, rtol=1e-6, atol=1e-12)
        return
    # The state has begun the next task: the last round's own time, from the outcome.
    before = episode.states[-2]
    assert (end >= before.delay - 1e-9).all()
    total = (end - before.delay).sum()
    assert total == pytest.approx(float(episode.outcomes[-1].latency_s))
    if s.deadline_of == "task":
        assert tasks.late.sum() == episode.outcomes[-1].deadline_missed
        return
    # In every round that was played, some of these blocks were late.
    missed = [int(o.deadline_missed) for o in episode.outcomes[-s.blocks :]]
    assert max(missed) <= tasks.late.sum() <= sum(missed)
    assert sum(missed) > 0
