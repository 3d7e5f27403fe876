"""MecVectorEnv against single environments and against Gymnasium's own vector of them."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from short_problems import NUM, PROBLEMS, UNEQUAL, WORKS
from target_problem import TargetProblem
from tiny_problem import HORIZON, TinyProblem, episode, random_actions

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.packing import pack, unpack
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.vector_env import MecVectorEnv


def sync(problem, num_envs=NUM):
    return SyncVectorEnv(
        [lambda: MecEnv(problem)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
    )


def same_infos(ours, theirs):
    """Equal where Gymnasium's masks are true, and ours are true nowhere else."""
    for name in theirs:
        if name.startswith("_"):
            continue
        mask = theirs[f"_{name}"]
        assert ours[f"_{name}"].dtype == np.bool_
        assert np.array_equal(ours[f"_{name}"], mask), name
        if isinstance(theirs[name], dict):
            same_infos(ours[name], theirs[name])
            continue
        assert ours[name].dtype == theirs[name].dtype, name
        for i, shown in enumerate(mask):
            if shown:
                assert np.array_equal(ours[name][i], theirs[name][i]), name
            elif name == "final_obs":
                assert ours[name][i] is None
    for name in set(ours) - set(theirs):
        mask = ours[name] if name.startswith("_") else ours[f"_{name}"]
        assert not mask.any(), name


def same_steps(ours, theirs, problem, steps, seed=0):
    """Step both; returns how many ended at each step."""
    counts = []
    for actions in random_actions(problem, seed, steps, ours.num_envs):
        one, other = ours.step(actions), theirs.step(actions)
        for a, b in zip(one[:4], other[:4], strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
        same_infos(one[4], other[4])
        counts.append(int((one[2] | one[3]).sum()))
    return np.array(counts)


@pytest.mark.parametrize("name", PROBLEMS)
def test_equals_gymnasiums_vector_of_single_environments(name):
    problem = PROBLEMS[name]
    ours, theirs = MecVectorEnv(problem, NUM), sync(problem)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.single_action_space == theirs.single_action_space
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    one, other = ours.reset(seed=11), theirs.reset(seed=11)
    assert np.array_equal(one[0], other[0]) and one[1] == other[1] == {}
    ends = same_steps(ours, theirs, problem, 80)
    # A guard: ends are out of step, and the queue is drawn again and again.
    assert ends.sum() > NUM * (2 * problem.episodes_ahead + 1)
    together = name in ("all end together", "truncated")
    assert ((ends > 0) & (ends < NUM)).any() != together
    # A reset in the middle goes on with everybody's next episode.
    assert np.array_equal(ours.reset()[0], theirs.reset()[0])
    same_steps(ours, theirs, problem, 20, seed=1)


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_replay_equals_singles_though_episodes_end_at_different_times(ahead):
    problem = TinyProblem(ahead=ahead)
    ours, theirs = MecVectorEnv(problem, NUM), [MecEnv(problem) for _ in range(NUM)]
    actions = random_actions(problem, 3, 120, NUM)
    alone = np.zeros((120, NUM))
    ours.reset(seed=2)
    for i, env in enumerate(theirs):
        env.reset(seed=2 + i)
    for t in range(120):
        if t in (0, 7, 50):
            before, _ = ours.reset(options={"trace": UNEQUAL})
            for i, env in enumerate(theirs):
                only = arrays.at(UNEQUAL, slice(i, i + 1))
                assert np.array_equal(before[i], env.reset(options={"trace": only})[0])
        together = ours.step(actions[t])
        for i, env in enumerate(theirs):
            seen, alone[t, i], terminated, *_ = env.step(actions[t, i])
            if terminated:
                assert np.array_equal(together[4]["final_obs"][i], seen)
                seen, _ = env.reset()
            assert np.array_equal(together[0][i], seen)
            assert together[2][i] == terminated
        assert np.array_equal(together[1], alone[t])


def test_a_replayed_trace_is_copied_and_then_drawn_anew():
    problem = TinyProblem(shortest=HORIZON, ahead=1)
    mine = arrays.concatenate([episode(WORKS, (2.0, 1.0), 5)] * 2)
    kept = arrays.map_arrays(np.copy, mine)
    vector = MecVectorEnv(problem, 2)
    vector.reset(seed=3, options={"trace": mine})
    still = np.zeros((2, 2), dtype=np.int64)
    rewards = np.array([vector.step(still)[1] for _ in range(2 * HORIZON)])
    assert rewards[:HORIZON].tolist() == [[-w / 2] * 2 for w in WORKS]
    fresh = sample_episodes(problem, 3, 2)
    assert np.array_equal(rewards[HORIZON:].T, -fresh.work / fresh.speed[..., 0])
    for name, field in arrays.as_dict(mine).items():
        assert np.array_equal(field, getattr(kept, name))


def test_seed_lists_and_numbers():
    problem = TinyProblem()
    vector = MecVectorEnv(problem, 3)
    expected = [MecEnv(problem).reset(seed=s)[0] for s in (9, 4, 9)]
    assert np.array_equal(vector.reset(seed=[9, 4, 9])[0], np.stack(expected))
    assert np.array_equal(vector.reset(seed=(9, 4, 9))[0], np.stack(expected))
    expected = [MecEnv(problem).reset(seed=s)[0] for s in (9, 10, 11)]
    assert np.array_equal(vector.reset(seed=9)[0], np.stack(expected))
    assert np.array_equal(vector.reset(seed=np.int64(9))[0], np.stack(expected))
    with pytest.raises(ValueError, match=r"3 seeds, got \[1, 2\]"):
        vector.reset(seed=[1, 2])
    with pytest.raises(gym.error.Error):
        vector.reset(seed=[-1, 2, 3])


def test_unseeded_environments_differ_from_each_other():
    vector = MecVectorEnv(TinyProblem(), 20)
    for observation in (vector.reset()[0], vector.reset(seed=[None] * 20)[0]):
        assert len(np.unique(observation[:, 2])) == 20
    assert not np.array_equal(observation, MecVectorEnv(TinyProblem(), 20).reset()[0])
    observation, _ = vector.reset(seed=[3, None, None, *range(17)])
    assert np.array_equal(observation[0], MecEnv(TinyProblem()).reset(seed=3)[0])
    assert not np.array_equal(observation[1], observation[2])


def test_none_in_a_seed_list_goes_on_with_the_generator_there_is():
    ours, theirs = MecVectorEnv(TinyProblem(), 2), sync(TinyProblem(), 2)
    for seed in ([1, 2], [4, None]):
        one, other = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
        assert np.array_equal(one, other)


def test_refusals():
    with pytest.raises(gym.error.ResetNeeded):
        MecVectorEnv(TinyProblem(), 2).step(np.zeros((2, 2), dtype=np.int64))
    for number in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="num_envs"):
            MecVectorEnv(TinyProblem(), number)
    vector = MecVectorEnv(TinyProblem(), 2)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="colour"):
        vector.reset(options={"colour": 1})
    for wrong in (5, "trace", [], True):
        with pytest.raises(ValueError, match="options must be a dictionary or None, got"):
            vector.reset(options=wrong)
    for wrong in (1.5, {1, 2}, "1", b"12345"):
        with pytest.raises(ValueError, match="seed must"):
            vector.reset(seed=wrong)
    with pytest.raises(ValueError, match=r"trace .* 2 episode.*got 4"):
        vector.reset(options={"trace": UNEQUAL})
    for actions in ([0, 0], [[0, 0]], [[0, 0], [0, 3]], [[0.0, 0.0], [0.0, 1.0]]):
        with pytest.raises(ValueError, match="action must"):
            vector.step(np.array(actions))
    # The batch plays on as if nothing had happened.
    other = MecVectorEnv(TinyProblem(), 2)
    other.reset(seed=0)
    still = np.zeros((2, 2), dtype=np.int64)
    assert np.array_equal(vector.step(still)[1], other.step(still)[1])


@pytest.mark.parametrize("seed", [None, 3])
def test_step_after_a_refused_first_reset_needs_a_reset(seed):
    vector = MecVectorEnv(TinyProblem(), 2)
    if seed is not None:
        vector.reset(seed=0)
    with pytest.raises(ValueError):
        vector.reset(seed=seed, options={"trace": UNEQUAL})
    still = np.zeros((2, 2), dtype=np.int64)
    try:
        vector.step(still)
        vector.step(still)
    except gym.error.ResetNeeded:
        pass


def test_infos_belong_to_the_caller():
    vector = MecVectorEnv(TinyProblem(shortest=HORIZON), 2)
    vector.reset(seed=0)
    infos = vector.step(np.zeros((2, 2), dtype=np.int64))[4]
    infos["_latency_s"][:] = False
    fresh = MecVectorEnv(TinyProblem(shortest=HORIZON), 2)
    assert np.array_equal(vector.reset(seed=0)[0], fresh.reset(seed=0)[0])


def test_earlier_results_are_not_overwritten():
    problem = TinyProblem(ahead=1)
    vector = MecVectorEnv(problem, NUM)
    results = [(vector.reset(seed=0)[0],)]
    copies = [(results[0][0].copy(),)]
    for actions in random_actions(problem, 0, 30, NUM):
        step = vector.step(actions)
        arrays_of = [*step[:4], *(a for a in step[4].values() if isinstance(a, np.ndarray))]
        results.append(arrays_of)
        copies.append([a.copy() for a in arrays_of])
    for before, after in zip(copies, results, strict=True):
        for a, b in zip(before, after, strict=True):
            if a.dtype != object:
                assert np.array_equal(a, b)


def copied(vector):
    """Another vector that goes on from the packed state of this one."""
    copy = MecVectorEnv(vector.problem, NUM)
    state = unpack(pack(vector.state()))
    observation = copy.load_state(state)
    assert np.array_equal(observation, vector.load_state(state))
    return copy


def follow(vector, other, steps, seed=9):
    """Both play the same from here on, episodes that are yet to be drawn included."""
    for t in range(steps):
        actions = random_actions(vector.problem, seed + t, NUM)
        for a, b in zip(vector.step(actions)[:4], other.step(actions)[:4], strict=True):
            assert np.array_equal(a, b)


def test_a_state_tells_what_was_seen_and_how_it_goes_on():
    problem = TinyProblem(ahead=2)
    vector = MecVectorEnv(problem, NUM)
    vector.reset(seed=0)
    for actions in random_actions(problem, 0, 7, NUM):
        seen = vector.step(actions)[0]
    copy = MecVectorEnv(problem, NUM)
    assert np.array_equal(copy.load_state(unpack(pack(vector.state()))), seen)
    for actions in random_actions(problem, 1, 40, NUM):
        one, other = vector.step(actions), copy.step(actions)
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("begun", [0, 1, 7])
def test_a_loaded_vector_draws_its_episodes_again(name, begun):
    """Some queues have been refilled and others not; one was given another generator."""
    vector = MecVectorEnv(PROBLEMS[name], NUM)
    vector.reset(seed=5)
    for t in range(begun):
        vector.step(random_actions(vector.problem, t, NUM))
    if begun:
        vector.reset(seed=[None, 77, None, None])
        vector.step(random_actions(vector.problem, 50, NUM))
    follow(vector, copied(vector), 20)


def test_a_loaded_vector_keeps_what_it_was_given():
    vector = MecVectorEnv(TinyProblem(ahead=2), NUM)
    vector.reset(seed=1, options={"trace": UNEQUAL})
    for t in range(8):
        copy = copied(vector)
        actions = random_actions(vector.problem, t, NUM)
        for a, b in zip(vector.step(actions)[:4], copy.step(actions)[:4], strict=True):
            assert np.array_equal(a, b)
        follow(copied(vector), copied(copy), 12)


def test_a_state_is_small():
    problem = TinyProblem(ahead=500)
    vector = MecVectorEnv(problem, NUM)
    vector.reset(seed=0)
    held = problem.episodes_ahead * sum(a.nbytes for a in arrays.as_dict(vector.trace).values())
    assert held > 300_000 > 30_000 > len(pack(vector.state()))


def test_a_state_that_does_not_fit_is_refused():
    problem = TinyProblem(ahead=2)
    vector = MecVectorEnv(problem, NUM)
    with pytest.raises(gym.error.ResetNeeded, match="state"):
        vector.state()
    vector.reset(seed=0)
    state = vector.state()
    record = {name: field[1:] for name, field in state["state"].items()}
    for change, message in (
        ({"t": np.full(NUM, problem.horizon)}, r"t must be in \[0, 5\)"),
        ({"t": np.zeros(NUM)}, "t must be an array int64"),
        ({"state": record}, f"state.* {NUM} rows"),
    ):
        with pytest.raises(ValueError, match=message):
            vector.load_state({**state, **change})
    with pytest.raises(ValueError, match="5 environments"):
        MecVectorEnv(problem, 5).load_state(state)
    vector.load_state(state)


def test_the_trace_is_that_of_the_episodes_being_played():
    problem = TargetProblem()
    vector = MecVectorEnv(problem, 3)
    with pytest.raises(gym.error.ResetNeeded, match="trace"):
        _ = vector.trace
    vector.reset(seed=8)
    singles = [MecEnv(problem) for _ in range(3)]
    for i, env in enumerate(singles):
        env.reset(seed=8 + i)
    assert vector.trace.data.shape == (3, 1, 2) and vector.trace.seconds.shape == (3, 6, 2)
    ended = 0
    for actions in random_actions(problem, 0, 30, 3):
        vector.step(actions)
        for i, env in enumerate(singles):
            _, _, terminated, truncated, _ = env.step(actions[i])
            if terminated or truncated:
                env.reset()
                ended += 1
            for name, field in arrays.as_dict(env.trace).items():
                assert np.array_equal(getattr(vector.trace, name)[i], field)
    assert ended > 9
    # It is a copy, and plays the same episodes again.
    trace = vector.trace
    vector.trace.seconds[:] = 1.0
    other = MecVectorEnv(problem, 3)
    assert np.array_equal(
        other.reset(options={"trace": trace})[0], vector.reset(options={"trace": trace})[0]
    )
    assert np.array_equal(other.trace.seconds, trace.seconds)
    assert len(np.unique(trace.seconds)) == trace.seconds.size
