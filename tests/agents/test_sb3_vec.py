"""SB3's conventions for a VecEnv, on the native vector."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize
from tiny_problem import HORIZON, TinyProblem, random_actions

import mec_gym
from agents.heads import FlatHead
from agents.sb3_vec import SB3VecEnv
from mec_gym.core.env import MecEnv
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.training_offload.scenario import Scenario

NUM = 3
PROBLEM = mec_gym.make_problem("mec/TrainingOffload-v0", Scenario(horizon=4))


class Usual(FlatHead):
    """A flat head with a usual reward, and inputs that differ from observations."""

    def __init__(self, problem):
        super().__init__(problem)
        self.input_space = gym.spaces.Box(0.0, 2.0, (25,), np.float32)

    def inputs(self, observation):
        return np.concatenate([observation, 2 * observation[..., :1]], axis=-1)

    def usual_reward(self, observation):
        return -0.3 * observation[..., 2].astype(np.float64)


def raw_actions(seed, steps):
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, NUM, 11)).astype(np.float32)


@pytest.mark.parametrize("problem", [TinyProblem(), TinyProblem(ends=False)])
def test_equals_sb3s_own_vector_of_single_environments(problem):
    """Episodes that end out of step, with Monitor's statistics for comparison."""
    ours = SB3VecEnv(MecVectorEnv(problem, NUM))
    theirs = DummyVecEnv([lambda: Monitor(MecEnv(problem))] * NUM)
    assert isinstance(ours, VecEnv) and ours.num_envs == NUM
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    ours.seed(5)
    theirs.seed(5)
    assert np.array_equal(ours.reset(), theirs.reset())
    ends = 0
    for actions in random_actions(problem, 0, 60, NUM):
        one, other = ours.step(actions), theirs.step(actions)
        for a, b in zip(one[:3], other[:3], strict=True):
            assert np.array_equal(a, b)
        assert one[1].dtype == np.float32 and one[2].dtype == np.bool_
        assert type(one[3]) is list
        for mine, monitors, done in zip(one[3], other[3], one[2], strict=True):
            if not done:
                assert mine == {}
                continue
            ends += 1
            assert np.array_equal(mine["terminal_observation"], monitors["terminal_observation"])
            assert mine["TimeLimit.truncated"] is monitors["TimeLimit.truncated"]
            assert mine["TimeLimit.truncated"] is not problem.ends
            assert mine["episode"]["r"] == pytest.approx(monitors["episode"]["r"], abs=1e-6)
            assert mine["episode"]["l"] == monitors["episode"]["l"]
            assert type(mine["episode"]["r"]) is float and type(mine["episode"]["l"]) is int
            assert mine["episode"]["t"] >= 0
            for name in ("latency_s", "energy_j", "dropped", "machine"):
                assert mine[name] == monitors[name]
    assert ends > 30 if problem.ends else ends == NUM * (60 // HORIZON)


def test_statistics_are_of_raw_rewards():
    """Neither the usual reward nor the scale may show in what is reported."""
    head = Usual(PROBLEM)
    env = SB3VecEnv(MecVectorEnv(PROBLEM, NUM), head, reward_scale=7.0)
    plain = MecVectorEnv(PROBLEM, NUM)
    env.seed(0)
    inputs = env.reset()
    before, _ = plain.reset(seed=0)
    assert env.observation_space == head.input_space and env.action_space == head.output_space
    total = np.zeros(NUM)
    for t, raw in enumerate(raw_actions(1, 12)):
        assert np.array_equal(inputs, head.inputs(before))
        inputs, learnt, done, infos = env.step(raw)
        after, reward, terminated, _, plain_infos = plain.step(head.act(before, raw))
        expected = 7.0 * (reward + 0.3 * before[:, 2].astype(np.float64))
        np.testing.assert_allclose(learnt, expected, rtol=1e-6, atol=1e-6)
        assert np.array_equal(done, terminated)
        assert set(env.parts) == {
            "latency_s", "edge_s", "device_s", "cloud_s", "energy_j", "case",
            "deadline_missed", "battery_short", "dropped",
        }  # fmt: skip
        np.testing.assert_allclose(env.parts["latency_s"], -180.0 * reward)
        total += reward
        assert done.all() == ((t + 1) % 4 == 0)
        for i in np.flatnonzero(done):
            assert infos[i]["episode"]["r"] == pytest.approx(total[i], rel=1e-12)
            assert infos[i]["episode"]["l"] == 4
            final = head.inputs(plain_infos["final_obs"][i])
            assert np.array_equal(infos[i]["terminal_observation"], final)
            total[i] = 0.0
        before = after


def test_a_reset_in_the_middle_begins_the_statistics_anew():
    env = SB3VecEnv(MecVectorEnv(PROBLEM, NUM))
    env.reset()
    env.step(np.zeros((NUM, 11), np.float32))
    env.reset()
    total = np.zeros(NUM)
    for _ in range(4):
        _, reward, done, infos = env.step(np.zeros((NUM, 11), np.float32))
        total += reward
    assert done.all()
    for i in range(NUM):
        assert infos[i]["episode"]["l"] == 4
        assert infos[i]["episode"]["r"] == pytest.approx(total[i], rel=1e-6)


def test_seeds_are_used_once():
    env = SB3VecEnv(MecVectorEnv(PROBLEM, NUM))
    assert env.seed(9) == [9, 10, 11]
    first = env.reset()
    works = sample_episodes(PROBLEM, 9, NUM).work[:, 0]
    np.testing.assert_allclose(first[:, 2], works / PROBLEM.scenario.work[1], rtol=1e-6)
    assert not np.array_equal(env.reset(), first)
    env.seed(9)
    assert np.array_equal(env.reset(), first)
    other = SB3VecEnv(MecVectorEnv(PROBLEM, NUM))
    assert not np.array_equal(other.reset(), first)


def test_options_reach_the_environments():
    env = SB3VecEnv(MecVectorEnv(PROBLEM, NUM))
    trace = sample_episodes(PROBLEM, 50, NUM)
    env.set_options({"trace": trace})
    observation = env.reset()
    expected = trace.work[:, 0] / PROBLEM.scenario.work[1]
    np.testing.assert_allclose(observation[:, 2], expected, rtol=1e-6)


def test_attributes_and_methods():
    env = SB3VecEnv(MecVectorEnv(PROBLEM, NUM))
    assert env.get_attr("problem") == [PROBLEM] * NUM
    assert env.get_attr("problem", 1) == [PROBLEM]
    assert env.get_attr("num_envs", [0, 2]) == [NUM, NUM]
    assert env.get_attr("render_mode") == [None] * NUM
    with pytest.raises(AttributeError):
        env.get_attr("no_such_thing")
    # Its infos hold the true returns, as a Monitor's do.
    assert env.env_is_wrapped(Monitor) == [True] * NUM
    assert env.env_is_wrapped(VecMonitor, [1]) == [False]
    with pytest.raises(ValueError, match="share their attributes"):
        env.set_attr("problem", None)
    with pytest.raises(ValueError, match="no methods of their own"):
        env.env_method("render")
    env.close()


def test_sb3s_own_wrappers_go_around_it():
    # Harmless here: without a head both say the same.
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        monitored = VecMonitor(SB3VecEnv(MecVectorEnv(PROBLEM, NUM)))
    env = VecNormalize(monitored, norm_reward=False)
    env.seed(0)
    env.reset()
    total = np.zeros(NUM)
    for _ in range(4):
        _, reward, done, infos = env.step(np.full((NUM, 11), 0.5, np.float32))
        total += reward
    assert done.all()
    assert [info["episode"]["r"] for info in infos] == pytest.approx(total.tolist(), abs=1e-5)


def test_a_pickled_one_goes_on_where_it_stopped():
    env = SB3VecEnv(MecVectorEnv(PROBLEM, NUM), Usual(PROBLEM), 2.0)
    env.seed(0)
    env.reset()
    for raw in raw_actions(0, 2):
        env.step(raw)
    copy = pickle.loads(pickle.dumps(env))
    for raw in raw_actions(1, 9):
        one, other = env.step(raw), copy.step(raw)
        for a, b in zip(one[:3], other[:3], strict=True):
            assert np.array_equal(a, b)
        for a, b in zip(one[3], other[3], strict=True):
            assert a.get("episode", {}).get("r") == b.get("episode", {}).get("r")
