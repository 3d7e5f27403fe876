"""MecEnv on the tiny problem."""

import types
import weakref

import gymnasium as gym
import numpy as np
import pytest
from target_problem import TargetProblem, training
from tiny_problem import HORIZON, TinyDiscrete, TinyProblem, episode, random_actions

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.rollout import sample_episodes

DEEP = episode([8, 6, 4, 2, 10], (2.0, 1.0), 3)


def walk(env, seed, actions):
    log = [env.reset(seed=seed)[0].tolist()]
    for action in actions:
        observation, *rest = env.step(action)
        log += [observation.tolist(), *rest]
        if rest[1] or rest[2]:
            log.append(env.reset()[0].tolist())
    return log


def test_everything_needs_a_reset_first():
    env = MecEnv(TinyProblem(), render_mode="rgb_array")
    with pytest.raises(gym.error.ResetNeeded, match=r"reset\(\) before step"):
        env.step([0, 0])
    with pytest.raises(gym.error.ResetNeeded, match="trace"):
        _ = env.trace
    with pytest.raises(gym.error.ResetNeeded, match="render"):
        env.render()


@pytest.mark.parametrize("problem", [TinyProblem(), TinyProblem(ends=False)])
def test_step_after_the_end_needs_a_reset(problem):
    env = MecEnv(problem)
    env.reset(options={"trace": DEEP})
    for _ in range(3 if problem.ends else HORIZON):
        env.step([0, 0])
    for _ in range(2):
        with pytest.raises(gym.error.ResetNeeded, match="over"):
            env.step([0, 0])
    env.reset()
    env.step([0, 0])


def test_info_holds_plain_python_numbers():
    env = MecEnv(TinyProblem())
    observation, info = env.reset(seed=0)
    assert info == {}
    assert observation.dtype == np.float32 and observation.shape == (5,)
    observation, reward, terminated, truncated, info = env.step(np.array([1, 1]))
    assert observation.dtype == np.float32
    assert [type(x) for x in (reward, terminated, truncated)] == [float, bool, bool]
    kinds = {"latency_s": float, "energy_j": float, "dropped": bool, "machine": int}
    assert {name: type(value) for name, value in info.items()} == kinds
    assert reward == -info["latency_s"]
    assert info["machine"] == 1


def test_observation_at_the_end_shows_the_last_slot_and_the_final_state():
    env = MecEnv(TinyProblem())
    env.reset(options={"trace": DEEP})
    for _ in range(3):
        observation, *_ = env.step([0, 1])
    assert observation == pytest.approx([0, 0, 0.4, 0.5, 0.25])


def test_a_seed_fixes_every_episode_that_follows():
    problem = TinyProblem(ahead=2)
    actions = random_actions(problem, 0, 60)
    env = MecEnv(problem)
    first = walk(env, 7, actions)
    assert walk(env, 7, actions) == first
    assert walk(MecEnv(problem), 7, actions) == first
    assert walk(env, 8, actions) != first
    # Whatever is played, nature does the same.
    env.reset(seed=7)
    expected = [env.trace]
    for _ in range(5):
        env.reset()
        expected.append(env.trace)
    env.reset(seed=7)
    for trace in expected:
        for name, field in arrays.as_dict(env.trace).items():
            assert np.array_equal(field, getattr(trace, name))
        env.step(actions[0])
        env.reset()
    works = np.array([trace.work for trace in expected])
    assert len(np.unique(works)) == works.size


def test_unseeded_environments_differ():
    one, other = MecEnv(TinyProblem()), MecEnv(TinyProblem())
    assert not np.array_equal(one.reset()[0], other.reset()[0])
    assert not np.array_equal(one.reset()[0], one.reset()[0])


def test_a_reset_in_the_middle_begins_the_next_episode():
    env, other = MecEnv(TinyProblem(shortest=3)), MecEnv(TinyProblem(shortest=3))
    env.reset(seed=1)
    env.step([0, 2])
    other.reset(seed=1)
    observation = env.reset()[0]
    assert np.array_equal(observation, other.reset()[0])
    assert observation[0] == 1.0


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_traces_are_drawn_ahead_in_one_call(ahead):
    problem = TinyProblem(ahead=ahead)
    env = MecEnv(problem)
    env.reset(seed=3)
    rng = np.random.default_rng(3)
    for _ in range(3):
        drawn = problem.sample(rng, ahead)
        for k in range(ahead):
            assert np.array_equal(env.trace.speed, drawn.speed[k])
            env.reset()


def test_replay_then_fresh_episodes():
    problem = TinyProblem(ahead=3)
    env = MecEnv(problem)
    env.reset(seed=5, options={"trace": DEEP})
    assert env.trace.work.tolist() == [8, 6, 4, 2, 10]
    assert [env.step([0, 0])[1] for _ in range(3)] == [-4, -3, -2]
    # The seed's own episodes follow, from its first.
    env.reset()
    assert np.array_equal(env.trace.work, sample_episodes(problem, 5, 1).work[0])
    # What was drawn ahead is given up for a replay in between; then it is drawn anew.
    rng = np.random.default_rng(5)
    problem.sample(rng, 3)
    env.reset(options={"trace": DEEP})
    assert env.trace.work.tolist() == [8, 6, 4, 2, 10]
    env.reset()
    assert np.array_equal(env.trace.work, problem.sample(rng, 3).work[0])


@pytest.mark.parametrize("problem", [TinyProblem(), TargetProblem()])
def test_the_trace_of_an_episode_plays_it_again(problem):
    env, other = MecEnv(problem), MecEnv(problem)
    observation, _ = env.reset(seed=4)
    trace = env.trace
    for again in (trace, arrays.at(trace, None)):
        assert np.array_equal(other.reset(options={"trace": again})[0], observation)
        for name, field in arrays.as_dict(other.trace).items():
            assert np.array_equal(field, getattr(trace, name))
    actions = random_actions(problem, 0, problem.horizon)
    for action in actions:
        one, two = env.step(action), other.step(action)
        assert np.array_equal(one[0], two[0]) and one[1:] == two[1:]
        if one[2]:
            break


def test_an_episode_ends_where_its_target_is_reached():
    env = MecEnv(TargetProblem())
    env.reset(options={"trace": training([0.5, 0.5], (2, 3))})
    assert [env.step(0)[1:4] for _ in range(3)] == [(-2, False, False)] * 2 + [(-2, True, False)]
    episode = env.episode
    assert len(episode.states) == 4 and len(episode.outcomes) == len(episode.decisions) == 3
    assert episode.trace.seconds.shape == (6, 2) and episode.trace.data.shape == (1, 2)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    # Who never reaches it plays on until the time is up.
    env.reset(options={"trace": training([0.5, 0.5], (2, 3))})
    assert [env.step(1)[2:4] for _ in range(6)] == [(False, False)] * 5 + [(False, True)]


def test_past_states_are_not_kept():
    """Models of federated and gossip training would take up hundreds of megabytes."""
    problem = TargetProblem()
    env = MecEnv(problem)
    env.reset(seed=2)
    env.step(0)
    weights = weakref.ref(env.now[1].weights)
    assert weights() is not None
    env.step(0)
    assert weights() is None


def test_an_episode_in_hand_stays_as_it_is():
    env = MecEnv(TinyProblem())
    env.reset(seed=2)
    env.step([0, 0])
    first = env.episode
    env.step([1, 1])
    assert [len(x) for x in (first.states, first.decisions, first.outcomes)] == [2, 1, 1]


def test_a_replayed_trace_is_copied():
    env = MecEnv(TinyProblem())
    mine = episode([8, 6, 4, 2, 10], (2.0, 1.0), 3)
    env.reset(options={"trace": mine})
    mine.work[:] = 1.0
    assert env.step([0, 0])[1] == -4.0
    env.trace.work[:] = 1.0
    assert env.step([0, 0])[1] == -3.0


@pytest.mark.parametrize("problem", [TinyProblem(ahead=2), TargetProblem(ahead=2)])
def test_slots_that_a_user_keeps_stay_as_they_were(problem):
    """Later episodes overwrite what was drawn ahead, but no slot of an earlier episode."""
    env = MecEnv(problem)
    env.reset(seed=3)
    kept = []
    for _ in range(5):
        slot, _ = env.now
        kept.append((slot, arrays.slot_at(arrays.stack([env.trace]), 0)))
        env.reset()
    for slot, first in kept:
        for name, field in arrays.as_dict(first).items():
            assert np.array_equal(getattr(slot, name), field[0])


def test_a_slot_that_a_user_changes_leaves_the_trace_alone():
    env = MecEnv(TinyProblem())
    env.reset(seed=3)
    before = env.trace.speed.copy()
    env.now[0].speed[:] = 7.0
    assert np.array_equal(env.trace.speed, before) and (before[0] != 7.0).all()


def test_reset_refuses_what_it_does_not_know():
    env = MecEnv(TinyProblem())
    with pytest.raises(ValueError, match=r"'trace'.*\['seed', 'tracks'\]"):
        env.reset(options={"tracks": 1, "seed": 2})
    two = arrays.concatenate([DEEP, DEEP])
    with pytest.raises(ValueError, match=r"trace .* 1 episode.*got 2"):
        env.reset(options={"trace": two})
    env.reset(options={})
    for wrong in (5, 0, "trace", ["trace"], [], {"trace"}, True):
        with pytest.raises(ValueError, match="options must be a dictionary or None, got"):
            env.reset(options=wrong)
    with pytest.raises(ValueError, match=r"\[5\]"):
        env.reset(options={5: None})
    env.reset(options=types.MappingProxyType({"trace": DEEP}))
    assert env.trace.work.tolist() == [8, 6, 4, 2, 10]


def test_a_refused_trace_leaves_a_running_episode_alone():
    env = MecEnv(TinyProblem())
    env.reset(options={"trace": DEEP})
    env.step([0, 0])
    with pytest.raises(ValueError):
        env.reset(options={"trace": None, "other": 1})
    with pytest.raises(ValueError):
        env.reset(options={"trace": arrays.concatenate([DEEP, DEEP])})
    assert env.step([0, 0])[1] == -3.0


@pytest.mark.parametrize("seed", [None, 3])
def test_step_after_a_refused_first_reset_needs_a_reset(seed):
    env = MecEnv(TinyProblem())
    if seed is not None:
        env.reset(seed=0)
    with pytest.raises(ValueError):
        env.reset(seed=seed, options={"trace": arrays.concatenate([DEEP, DEEP])})
    try:
        env.step([0, 0])
        env.step([0, 0])
    except gym.error.ResetNeeded:
        pass


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([0, 3], r"must lie in \[0, 2\] at entry 1 .*, got 3$"),
        ([-1, 0], r"must lie in .* at entry 0 .*, got -1$"),
        ([0], r"shape \(2,\), got \(1,\)"),
        ([[0, 0]], r"got \(1, 2\)"),
        ([0.0, 1.0], "whole numbers"),
        ([True, False], "whole numbers"),
        (["a", "b"], "whole numbers"),
    ],
)
def test_bad_actions_change_nothing(action, message):
    env = MecEnv(TinyProblem())
    env.reset(options={"trace": DEEP})
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert env.step([0, 0])[1] == -4.0


def test_discrete_actions_begin_at_start():
    env = MecEnv(TinyDiscrete())
    env.reset(options={"trace": DEEP})
    assert env.step(3)[1] == -4.0  # machine 0, no unit
    assert env.step(np.int64(7))[1] == -3.0  # machine 1, one unit
    for action in (2, 9):
        with pytest.raises(ValueError, match=r"\[3, 8\]"):
            env.step(action)


def test_render():
    env = MecEnv(TinyProblem(), render_mode="rgb_array")
    env.reset(options={"trace": DEEP})
    before = env.render()
    assert before.dtype == np.uint8 and before.shape == (200, 300, 3)
    assert before.min() < 100 < before.max()
    env.step([0, 0])
    after = env.render()
    assert (before != after).any()
    assert np.array_equal(after, env.render())


def test_render_without_a_mode_warns():
    env = MecEnv(TinyProblem())
    env.reset()
    with pytest.warns(UserWarning, match="rgb_array"):
        assert env.render() is None


@pytest.mark.parametrize("mode", ["human", "ansi", ""])
def test_unknown_render_mode(mode):
    with pytest.raises(ValueError, match=f"render_mode must be one of rgb_array, got '{mode}'"):
        MecEnv(TinyProblem(), render_mode=mode)
