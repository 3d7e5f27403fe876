"""What becomes of ended episodes and of step limits, against Gymnasium's own vector."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics
from short_problems import NUM, PROBLEMS, UNEQUAL
from slow import slow_off_diagonal
from tiny_problem import HORIZON, TinyProblem, random_actions

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.vector_env import MecVectorEnv

LIMITS = (None, 1, 2, HORIZON - 1, HORIZON, HORIZON + 1, 99)


def sync(problem, mode, limit=None):
    def make():
        return MecEnv(problem) if limit is None else TimeLimit(MecEnv(problem), limit)

    return SyncVectorEnv([make] * NUM, autoreset_mode=mode)


def same_infos(ours, theirs):
    """The same where a mask is true, and nothing else is said to be there."""
    shown = {name for name in theirs if not name.startswith("_")}
    for name in shown:
        mask = theirs[f"_{name}"]
        assert np.array_equal(ours[f"_{name}"], mask), name
        if isinstance(theirs[name], dict):
            same_infos(ours[name], theirs[name])
            continue
        for i in np.flatnonzero(mask):
            assert np.array_equal(ours[name][i], theirs[name][i]), name
    for name in set(ours) - set(theirs):
        assert not (ours[name] if name.startswith("_") else ours[f"_{name}"]).any(), name


def same_step(one, other):
    for a, b in zip(one[:4], other[:4], strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    same_infos(one[4], other[4])
    return one[2] | one[3]


@pytest.mark.parametrize(
    ("name", "mode", "limit"), slow_off_diagonal(PROBLEMS, AutoresetMode, LIMITS)
)
def test_every_mode_equals_gymnasiums(name, mode, limit):
    problem = PROBLEMS[name]
    ours, theirs = MecVectorEnv(problem, NUM, limit, mode), sync(problem, mode, limit)
    assert ours.autoreset_mode is ours.metadata["autoreset_mode"] is mode
    assert np.array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    rng = np.random.default_rng(0)
    ends = 0
    for t, actions in enumerate(random_actions(problem, 1, 60, NUM)):
        ended = same_step(ours.step(actions), theirs.step(actions))
        ends += ended.sum()
        mask = ended.copy()
        if t % 11 == 10:  # others may be begun anew as well, in every mode
            mask |= rng.random(NUM) < 0.4
            if mode is not AutoresetMode.DISABLED and not mask.any():
                mask[0] = True
        if mask.any() and (mode is AutoresetMode.DISABLED or t % 11 == 10):
            seed = [None, 70 + t, None, t] if t % 2 else None
            kept = {"reset_mask": mask}
            one = ours.reset(seed=seed, options=kept)
            assert kept == {"reset_mask": mask}  # Gymnasium takes it out of the user's own
            assert np.array_equal(one[0], theirs.reset(seed=seed, options=kept)[0])
    assert ends >= 60 * NUM // (HORIZON + 3)
    # A reset of all goes on with everybody's next episode.
    assert np.array_equal(ours.reset()[0], theirs.reset()[0])
    actions = random_actions(problem, 2, NUM)
    same_step(ours.step(actions), theirs.step(actions))


def test_modes_by_their_value_and_those_that_do_not_exist():
    assert MecVectorEnv(TinyProblem()).autoreset_mode is AutoresetMode.SAME_STEP
    assert MecVectorEnv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for mode in AutoresetMode:
        assert MecVectorEnv(TinyProblem(), autoreset_mode=mode.value).autoreset_mode is mode
    for wrong in ("next", None, 1):
        with pytest.raises(ValueError, match=f"autoreset_mode .*NextStep.*SameStep.*{wrong!r}"):
            MecVectorEnv(TinyProblem(), autoreset_mode=wrong)
    for wrong in (0, -1, 2.0, True, "5"):
        with pytest.raises(ValueError, match=f"max_episode_steps .*{wrong!r}"):
            MecVectorEnv(TinyProblem(), max_episode_steps=wrong)


def test_no_step_while_an_episode_is_over_if_nothing_replaces_it():
    vector = MecVectorEnv(TinyProblem(), NUM, autoreset_mode=AutoresetMode.DISABLED)
    vector.reset(options={"trace": UNEQUAL})
    still = np.zeros((NUM, 2), dtype=np.int64)
    ended = vector.step(still)[2]
    assert ended.tolist() == [True, False, False, False]
    for _ in range(2):
        with pytest.raises(gym.error.ResetNeeded, match=r"\[0\].*reset_mask"):
            vector.step(still)
    vector.reset(options={"reset_mask": ended})
    assert vector.step(still)[1][1:].tolist() == [-3.0, -3.0, -3.0]


def test_the_action_of_an_episode_that_is_over_is_ignored():
    vector = MecVectorEnv(TinyProblem(), NUM, autoreset_mode=AutoresetMode.NEXT_STEP)
    other = MecVectorEnv(TinyProblem(), NUM, autoreset_mode=AutoresetMode.NEXT_STEP)
    for env in (vector, other):
        env.reset(seed=0, options={"trace": UNEQUAL})
        env.step(np.zeros((NUM, 2), dtype=np.int64))
    nonsense = np.array([[-99, 10**9], [0, 0], [0, 0], [0, 0]])
    kept = nonsense.copy()
    seen, rewards, terminated, _, infos = vector.step(nonsense)
    assert np.array_equal(nonsense, kept)
    assert rewards.tolist() == [0.0, -3.0, -3.0, -3.0]
    assert terminated.tolist() == [False, False, False, True]
    assert infos["_latency_s"].tolist() == [False, True, True, True]
    assert np.array_equal(seen, other.step(np.zeros((NUM, 2), dtype=np.int64))[0])
    with pytest.raises(ValueError, match="action must lie in"):
        vector.step(nonsense)


def test_some_environments_replay_a_trace_and_the_others_play_on():
    problem = TinyProblem(ahead=2)
    vector, singles = MecVectorEnv(problem, NUM), [MecEnv(problem) for _ in range(NUM)]
    vector.reset(seed=4)
    for i, env in enumerate(singles):
        env.reset(seed=4 + i)
    mask = np.array([True, False, False, True])
    for t, actions in enumerate(random_actions(problem, 5, 60, NUM)):
        if t % 9 == 4:
            before, _ = vector.reset(options={"trace": UNEQUAL, "reset_mask": mask})
            for i in np.flatnonzero(mask):
                options = {"trace": arrays.at(UNEQUAL, i)}
                assert np.array_equal(singles[i].reset(options=options)[0], before[i])
        seen, rewards, *_ = vector.step(actions)
        for i, env in enumerate(singles):
            observation, reward, terminated, truncated, _ = env.step(actions[i])
            assert reward == rewards[i]
            if terminated or truncated:
                observation, _ = env.reset()
            assert np.array_equal(observation, seen[i])


@pytest.mark.parametrize(
    "mask",
    [[True] * 3, np.ones(NUM), np.zeros(NUM, bool), True, "all", np.ones((NUM, 1), bool)],
)
def test_masks_that_make_no_sense(mask):
    vector = MecVectorEnv(TinyProblem(), NUM)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask must hold 4 values of bool"):
        vector.reset(options={"reset_mask": mask})


def test_the_first_reset_is_one_of_all():
    vector = MecVectorEnv(TinyProblem(), NUM)
    with pytest.raises(gym.error.ResetNeeded, match="first reset"):
        vector.reset(options={"reset_mask": np.array([True, False, True, True])})
    vector.reset(options={"reset_mask": np.ones(NUM, bool)})


def test_a_single_environment_has_no_mask():
    with pytest.raises(ValueError, match=r"among \('trace',\).*'reset_mask'"):
        MecEnv(TinyProblem()).reset(options={"reset_mask": np.ones(1, bool)})


@pytest.mark.parametrize("wrapper", [NormalizeObservation, RecordEpisodeStatistics])
def test_gymnasiums_wrappers_of_vectors_see_the_same(wrapper):
    problem = TinyProblem()
    mode = AutoresetMode.NEXT_STEP
    ours = wrapper(MecVectorEnv(problem, NUM, autoreset_mode=mode))
    theirs = wrapper(sync(problem, mode))
    assert np.array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    finished = 0
    for actions in random_actions(problem, 0, 40, NUM):
        one, other = ours.step(actions), theirs.step(actions)
        for a, b in zip(one[:4], other[:4], strict=True):
            assert np.array_equal(a, b)
        assert ("episode" in one[4]) == ("episode" in other[4])
        if "episode" in one[4]:
            finished += 1
            for part in ("r", "l"):
                assert np.array_equal(one[4]["episode"][part], other[4]["episode"][part])
    assert (finished > 5) == (wrapper is RecordEpisodeStatistics)
