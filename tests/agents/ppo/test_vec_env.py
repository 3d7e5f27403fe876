"""SB3's conventions for a VecEnv, on the native vector."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize
from tiny_problem import HORIZON, TinyProblem, random_actions

import mec_gym
from agents.distributed_inference.pairs.features import Layout
from agents.distributed_inference.pairs.head import PairsHead
from agents.heads import FlatHead
from agents.ppo.model import make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from agents.ppo.vec_env import MixedVecEnv, SB3VecEnv
from mec_gym.core.env import MecEnv
from mec_gym.core.packing import pack, unpack
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.seeds import TRAIN_SEED
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Scenario as Inference
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


def test_another_one_goes_on_from_a_state():
    env, copy = (SB3VecEnv(MecVectorEnv(PROBLEM, NUM), Usual(PROBLEM), 2.0) for _ in range(2))
    env.seed(0)
    env.reset()
    for raw in raw_actions(0, 2):
        seen = env.step(raw)[0]
    copy.seed(1)  # what waits for a reset is forgotten
    assert np.array_equal(copy.load_state(unpack(pack(env.state()))), seen)
    for raw in raw_actions(1, 9):
        one, other = env.step(raw), copy.step(raw)
        for a, b in zip(one[:3], other[:3], strict=True):
            assert np.array_equal(a, b)
        for a, b in zip(one[3], other[3], strict=True):
            assert a.get("episode", {}).get("r") == b.get("episode", {}).get("r")


# Two sizes, side by side: horizons of 3 and 4, so that they end out of step.
SIZES = ((2, 1, 3), (3, 2, 4))
COUNTS = (2, 3)


def parts_of_a_mix():
    made = []
    for (devices, servers, blocks), count in zip(SIZES, COUNTS, strict=True):
        problem = DistributedInference(
            Inference(devices=devices, servers=servers, blocks=blocks, tasks=1)
        )
        head = PairsHead(problem, room_for=(3, 2))
        made.append(SB3VecEnv(MecVectorEnv(problem, count), head, reward_scale=1.5 / devices))
    return made


def test_a_mix_is_its_parts_side_by_side():
    env, alone = MixedVecEnv(parts_of_a_mix()), parts_of_a_mix()
    assert isinstance(env, VecEnv) and env.num_envs == 5
    assert env.observation_space == alone[0].observation_space == alone[1].observation_space
    assert env.action_space.nvec.tolist() == [3, 3, 3]
    assert env.head is env.envs[0].head
    # Consecutive seeds, whatever the part.
    assert env.seed(70) == [70, 71, 72, 73, 74]
    alone[0].seed(70)
    alone[1].seed(72)
    assert np.array_equal(env.reset(), np.concatenate([part.reset() for part in alone]))
    rng = np.random.default_rng(0)
    ends = np.zeros(5)
    for _ in range(13):
        # The devices of the first part have one server only.
        actions = rng.integers(3, size=(5, 3)) % np.array([2, 2, 3, 3, 3])[:, None]
        inputs, rewards, done, infos = env.step(actions)
        its = [part.step(a) for part, a in zip(alone, np.split(actions, [2]), strict=True)]
        assert np.array_equal(inputs, np.concatenate([one[0] for one in its]))
        assert np.array_equal(rewards, np.concatenate([one[1] for one in its]))
        assert np.array_equal(done, np.concatenate([one[2] for one in its]))
        assert rewards.dtype == np.float32 and done.dtype == np.bool_
        assert type(infos) is list and len(infos) == 5
        for mine, theirs in zip(infos, its[0][3] + its[1][3], strict=True):
            assert mine.keys() == theirs.keys()
            for name in set(mine) - {"episode"}:
                assert np.array_equal(mine[name], theirs[name])
            for name in ("r", "l"):
                assert mine.get("episode", {}).get(name) == theirs.get("episode", {}).get(name)
        for name, values in env.parts.items():
            assert np.array_equal(values, np.concatenate([part.parts[name] for part in alone]))
        assert {"latency_s", "energy_j", "dropped", "penalty"} <= set(env.parts)
        ends += done
    assert ends.tolist() == [4, 4, 3, 3, 3]


def test_the_seeds_of_a_mix_are_used_once():
    env = MixedVecEnv(parts_of_a_mix())
    env.seed(9)
    first = env.reset()
    assert not np.array_equal(env.reset(), first)
    env.seed(9)
    assert np.array_equal(env.reset(), first)
    assert len(np.unique(first, axis=0)) == 5
    env.seed(10)  # each is what its neighbour was, within a part
    assert np.array_equal(env.reset()[[0, 2, 3]], first[[1, 3, 4]])
    other = MixedVecEnv(parts_of_a_mix())
    assert not np.array_equal(other.reset(), first)


def test_attributes_of_a_mix():
    env = MixedVecEnv(parts_of_a_mix())
    horizons = [problem.horizon for problem in env.get_attr("problem")]
    assert horizons == [3, 3, 4, 4, 4]
    assert env.env_is_wrapped(Monitor) == [True] * 5
    assert env.env_is_wrapped(VecMonitor) == [False] * 5
    with pytest.raises(ValueError, match="mixed batch have no attributes of their own"):
        env.get_attr("problem", [0])
    with pytest.raises(ValueError, match="share their attributes"):
        env.set_attr("problem", None)
    with pytest.raises(ValueError, match="no methods of their own"):
        env.env_method("render")
    env.close()
    one, other = parts_of_a_mix()
    narrow = SB3VecEnv(other.env, PairsHead(other.env.problem, room_for=(4, 2)))
    with pytest.raises(ValueError, match="all parts must have the spaces Box"):
        MixedVecEnv([one, narrow])


def test_another_mix_goes_on_from_a_state():
    env, copy = (MixedVecEnv(parts_of_a_mix()) for _ in range(2))
    env.seed(0)
    env.reset()
    home = np.zeros((5, 3), dtype=np.int64)
    seen = env.step(home)[0]
    assert np.array_equal(copy.load_state(unpack(pack(env.state()))), seen)
    for _ in range(9):
        one, other = env.step(home), copy.step(home)
        for a, b in zip(one[:3], other[:3], strict=True):
            assert np.array_equal(a, b)


def test_ppos_environments_of_several_sizes():
    """An equal share each; a reward counts as if there were as many devices as the problem has."""
    problem = DistributedInference(Inference(devices=4, servers=2, blocks=3, tasks=1))
    settings = PPOSettings(
        head="pairs-2", network="pairs", sizes=((2, 1), (3, 4)), num_envs=6, n_steps=6,
        minibatches=2, hidden=8, reward_scale=0.5,
    )  # fmt: skip
    env = make_vec_env(problem, settings)
    assert type(env) is MixedVecEnv and [part.num_envs for part in env.envs] == [3, 3]
    for part, size, scale in zip(env.envs, settings.sizes, (1.0, 2 / 3), strict=True):
        assert type(part.head) is PairsHead
        assert part.head.layout == Layout(3, 4) and part.head.foresight == 2
        scenario = part.env.problem.scenario
        assert (scenario.devices, scenario.servers) == size and scenario.blocks == 3
        assert part.head.problem is part.env.problem
        assert part.reward_scale == pytest.approx(scale)
    model = make_ppo(env, settings, seed=2)
    assert (model.policy.network.choices, model.policy.network.places) == (3, 5)
    first = env.reset()
    # Seeds of training, seed after seed.
    for k, part in enumerate(env.envs):
        its = MecVectorEnv(part.env.problem, 3)
        observation, _ = its.reset(seed=TRAIN_SEED + 2 * 6 + 3 * k)
        assert np.array_equal(first[3 * k : 3 * k + 3], part.head.inputs(observation))
    before = model.policy.network.score.weight.detach().clone()
    model.learn(2 * settings.rollout)
    assert model.num_timesteps == 72
    assert not np.array_equal(before, model.policy.network.score.weight.detach())
    # What does not exist has not been asked for; the buffer is flat, environment by environment.
    actions = model.rollout_buffer.actions.reshape(6, 6, 3)
    assert actions[:3, :, :2].max() == 1 and (actions[:3, :, 2] == 0).all()
    assert actions[3:].max() > 1


def test_sizes_need_a_head_that_has_them():
    problem = DistributedInference(Inference())
    settings = PPOSettings(
        head="flat", network="pairs", sizes=((2, 1),), num_envs=4, n_steps=2, minibatches=1
    )
    with pytest.raises(ValueError, match=r"sizes .*'flat'.*got \(\(2, 1\),\)"):
        make_vec_env(problem, settings)


def test_a_mixed_batch_takes_no_options_and_answers_for_some():
    mixed = make_vec_env(
        DistributedInference(Inference()),
        PPOSettings(
            head="pairs", network="pairs", sizes=((2, 1), (3, 2)), num_envs=4, n_steps=2,
            minibatches=1,
        ),
    )  # fmt: skip
    assert mixed.env_is_wrapped(Monitor) == [True] * 4
    assert mixed.env_is_wrapped(Monitor, 0) == [True]
    assert mixed.env_is_wrapped(Monitor, [1, 3]) == [True] * 2
    mixed.set_options({"trace": 1})
    with pytest.raises(ValueError, match="options are not for a mixed batch, got"):
        mixed.reset()
