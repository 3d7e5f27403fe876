"""One agent per device, against PettingZoo's tests and the joint environment."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test
from places_problem import PlacesProblem
from tiny_problem import TinyProblem

from mec_gym.core.devices import device_observations, device_spaces
from mec_gym.core.env import MecEnv
from mec_gym.distributed_inference import Scenario
from mec_gym.multi_agent import DevicesEnv, parallel_env

ENV = "mec/DistributedInference-v1"
# The battery binds, so tasks are given up; some devices are idle.
HARD = Scenario(devices=4, servers=2, blocks=3, tasks=3, battery=1.0, idle=0.3)


class OwnPlaces(PlacesProblem):
    """Places with rows, and with what each device pays."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.device_columns = self.width

    def device_rewards(self, slot, state, decision):
        chosen = decision.place[..., None] == np.arange(self.places)
        return -(slot.cost * chosen).sum(axis=-1) - 0.05 * (decision.place != state.place)


def quietly(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(*arguments)


@pytest.mark.parametrize("reward", ["team", "own"])
def test_pettingzoos_own_tests(reward):
    quietly(parallel_api_test, parallel_env(ENV, reward=reward), 100)
    quietly(parallel_seed_test, lambda: parallel_env(ENV, reward=reward), 100)
    quietly(parallel_api_test, DevicesEnv(OwnPlaces(ends=False), reward), 100)
    quietly(parallel_seed_test, lambda: DevicesEnv(OwnPlaces(), reward), 100)


@pytest.mark.parametrize("reward", ["team", "own"])
@pytest.mark.parametrize("scenario", [None, "patent", HARD], ids=["small", "patent", "hard"])
def test_equals_the_joint_environment(scenario, reward):
    env, joint = parallel_env(ENV, scenario, reward), gym.make(ENV, scenario=scenario)
    problem = env.problem
    columns, devices = problem.device_columns, len(joint.action_space.nvec)
    assert env.possible_agents == [f"device_{i}" for i in range(devices)]
    rng = np.random.default_rng(0)
    dropped = 0
    for episode in range(4):
        seed = 7 if episode == 0 else None
        seen, infos = env.reset(seed=seed)
        observation, _ = joint.reset(seed=seed)
        assert infos == {agent: {} for agent in env.possible_agents}
        while True:
            assert np.array_equal(env.state(), observation)
            for i, agent in enumerate(env.possible_agents):
                own = observation[i * columns : (i + 1) * columns]
                shared = observation[devices * columns :]
                assert np.array_equal(seen[agent], np.concatenate([own, shared]))
                assert env.observation_space(agent).contains(seen[agent])
            action = rng.integers(joint.action_space.nvec)
            seen, rewards, terminated, truncated, infos = env.step(
                dict(zip(env.agents, action, strict=True))
            )
            observation, expected, ended, cut, info = joint.step(action)
            assert set(terminated.values()) == {ended} and set(truncated.values()) == {cut}
            assert all(info == infos[agent] for agent in env.possible_agents)
            dropped += info["dropped"]
            if reward == "team":
                assert set(rewards.values()) == {expected}
            else:
                assert sum(rewards.values()) == pytest.approx(expected, rel=1e-12, abs=1e-12)
                assert len(set(rewards.values())) > 1 or info["latency_s"] == 0
            if ended or cut:
                break
        assert env.agents == []
    assert (dropped > 5) == (scenario is HARD)


def test_own_rewards_by_hand():
    """One device runs alone on its chip: its part is what it takes, whatever the others do."""
    env = parallel_env(ENV, HARD, "own")
    env.reset(seed=3)
    slot, state = env.joint.now
    _, rewards, *_ = env.step({agent: 0 for agent in env.agents})
    for i, reward in enumerate(rewards.values()):
        seconds = slot.work[i, 0] / slot.device_rate[i]
        joules = slot.compute_power[i] * seconds
        if not slot.active[i]:
            assert reward == 0
        elif joules <= state.battery[i]:
            assert reward == pytest.approx(-HARD.latency_weight * seconds, rel=1e-6)
        else:
            assert reward < 0


def test_a_trace_is_played_again():
    env = parallel_env(ENV)
    first, _ = env.reset(seed=5)
    trace = env.joint.trace
    env.reset()
    again, _ = env.reset(options={"trace": trace, "somebody": "else"})
    for agent in env.agents:
        assert np.array_equal(first[agent], again[agent])


def test_spaces_and_names():
    env = parallel_env(ENV)
    nvec = env.problem.action_space.nvec
    assert [env.action_space(a) for a in env.possible_agents] == [
        gym.spaces.Discrete(int(n)) for n in nvec
    ]
    assert env.metadata["name"] == ENV and str(env) == ENV
    assert env.state_space == env.problem.observation_space
    problem = OwnPlaces(devices=2)
    problem.action_space = gym.spaces.MultiDiscrete([3, 4], start=[5, 0])
    assert device_spaces(problem)[1] == [
        gym.spaces.Discrete(3, start=5),
        gym.spaces.Discrete(4),
    ]


def test_batches_of_rows():
    problem = OwnPlaces()
    env = MecEnv(problem)
    seen = np.stack([env.reset(seed=i)[0] for i in range(6)])
    rows = device_observations(problem, seen.reshape(2, 3, -1))
    assert rows.shape == (2, 3, 3, problem.width + 1)
    for i in range(6):
        assert np.array_equal(rows[i // 3, i % 3], device_observations(problem, seen[i]))


def test_refusals():
    with pytest.raises(ValueError, match="reward must be one of team, own, got 'mine'"):
        parallel_env(ENV, reward="mine")
    with pytest.raises(ValueError, match=r"EarlyExitPartition with device_columns = 0"):
        parallel_env("mec/EarlyExitPartition-v2")
    with pytest.raises(ValueError, match="scenario must be one of small"):
        parallel_env(ENV, "moon")
    with pytest.raises(ValueError, match="render_mode must be one of rgb_array, got 'human'"):
        parallel_env(ENV, render_mode="human")
    with pytest.raises(ValueError, match="TinyProblem with device_columns = 0"):
        DevicesEnv(TinyProblem())
    silent = PlacesProblem()
    silent.device_columns = silent.width
    DevicesEnv(silent)
    with pytest.raises(ValueError, match=r"reward must be 'team' for PlacesProblem.*'own'"):
        DevicesEnv(silent, "own")
    env = DevicesEnv(OwnPlaces())
    for call in (lambda: env.step({}), env.state):
        with pytest.raises(gym.error.ResetNeeded):
            call()
    env.reset(seed=0)
    good = {agent: 0 for agent in env.agents}
    with pytest.raises(ValueError, match=r"\['device_1'\] missing, none unknown"):
        env.step({"device_0": 0, "device_2": 0})
    with pytest.raises(ValueError, match=r"none missing, \['device_9'\] unknown"):
        env.step({**good, "device_9": 0})
    for wrong in (3, -1, 0.5, None):
        with pytest.raises(ValueError, match="action must"):
            env.step({**good, "device_1": wrong})
    env.step(good)


def test_pictures():
    env = parallel_env(ENV, HARD, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().ndim == 3
    env.close()
