"""Models of the user's own scripts, of every algorithm of Stable-Baselines3."""

import base64
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import RescaleAction, TransformObservation
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from tiny_problem import TinyDiscrete, TinyProblem

import mec_gym
from agents.outside.sb3 import SB3Agent, load_sb3
from agents.registry import make_agent, trained_on
from mec_gym.core.env import MecEnv
from mec_gym.testing import check_agent
from mec_gym.wrappers import DiscreteActions

PAPER, EXITS = "mec/TrainingOffloadPaper-v0", "mec/EarlyExitPartition-v2"
SMALL = {"buffer_size": 10}
MODELS = {
    "PPO": (PPO, {}),
    "PPO, small": (
        PPO,
        {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [9]}, "activation_fn": torch.nn.ELU}},
    ),
    "PPO, state-dependent noise": (PPO, {"use_sde": True}),
    "A2C": (A2C, {}),
    "SAC": (SAC, SMALL),
    "SAC, small": (SAC, {**SMALL, "use_sde": True, "policy_kwargs": {"net_arch": [12]}}),
    "TD3": (TD3, SMALL),
    "DDPG": (DDPG, SMALL),
}


def observations(env, count=20):
    return np.stack([env.reset(seed=i)[0] for i in range(count)])


@pytest.mark.parametrize("name", MODELS)
def test_continuous_actions(name, tmp_path):
    algorithm, options = MODELS[name]
    env = gym.make(PAPER)
    model = algorithm("MlpPolicy", env, seed=3, **options)
    model.save(tmp_path / "mine.zip")
    agent = make_agent(f"sb3:{tmp_path / 'mine'}", PAPER)
    seen = observations(env)
    assert np.array_equal(
        agent.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0]
    )
    assert np.array_equal(
        agent.predict(seen[4], deterministic=True)[0], model.predict(seen[4], deterministic=True)[0]
    )
    check_agent(agent, PAPER, episodes=8)


@pytest.mark.parametrize("algorithm", [DQN, PPO, A2C])
def test_numbered_actions(algorithm, tmp_path):
    env = DiscreteActions(gym.make(EXITS))
    options = SMALL if algorithm is DQN else {}
    model = algorithm("MlpPolicy", env, seed=3, **options)
    model.save(tmp_path / "mine")
    agent = make_agent(f"sb3:{tmp_path / 'mine.zip'}", EXITS)
    seen = observations(env)
    numbers, _ = model.predict(seen, deterministic=True)
    assert np.array_equal(agent.predict(seen, deterministic=True)[0], env.view.action(numbers))
    check_agent(agent, EXITS, episodes=4)


def test_parallel_choices_and_problems_that_nobody_registered(tmp_path):
    for problem, wrap in ((TinyProblem(), lambda env: env), (TinyDiscrete(), DiscreteActions)):
        env = wrap(MecEnv(problem))
        model = PPO("MlpPolicy", env, seed=3, n_steps=8, batch_size=8)
        model.save(tmp_path / "mine")
        agent = load_sb3(tmp_path / "mine", problem)
        assert isinstance(agent, SB3Agent)
        check_agent(agent, problem)


def test_what_a_model_plays_in_a_comparison(tmp_path):
    env = gym.make(PAPER)
    model = PPO("MlpPolicy", env, seed=1)
    model.save(tmp_path / "mine")
    name = f"sb3:{tmp_path / 'mine'}"
    by_name, itself = mec_gym.compare({name: make_agent(name, PAPER), "model": model}, PAPER, 10)
    assert by_name.return_mean == itself.return_mean
    (again,) = mec_gym.compare([name], PAPER, 10)
    assert again.agent == name and again.return_mean == itself.return_mean
    assert trained_on(name) is None


def test_models_of_something_else_are_refused(tmp_path):
    file = tmp_path / "mine.zip"

    def saved(env, algorithm=PPO, **options):
        algorithm("MlpPolicy", env, **options).save(file)
        return file

    saved(gym.make(PAPER))
    for env_id in (EXITS, "mec/DistributedInference-v1"):
        with pytest.raises(ValueError, match=r"mine\.zip was trained on other observations.*24"):
            make_agent(f"sb3:{file}", env_id)
    saved(RescaleAction(gym.make(PAPER), np.float32(-1), np.float32(1)))
    with pytest.raises(ValueError, match=r"other actions.*wrapper.*MODULE:NAME"):
        make_agent(f"sb3:{file}", PAPER)
    wide = gym.spaces.Box(-np.inf, np.inf, (24,), np.float32)
    saved(TransformObservation(gym.make(PAPER), lambda seen: seen * 2, wide))
    with pytest.raises(ValueError, match=r"other observations.*-inf.*MODULE:NAME"):
        make_agent(f"sb3:{file}", PAPER)
    saved(DiscreteActions(gym.make(EXITS)), DQN, **SMALL)
    with pytest.raises(ValueError, match="other observations"):
        make_agent(f"sb3:{file}", PAPER)
    narrow = mec_gym.early_exit.Scenario(candidates=20)
    with pytest.raises(ValueError, match=r"other actions.*'n'"):
        make_agent(f"sb3:{file}", mec_gym.make_problem(EXITS, narrow))


class MyPolicy(ActorCriticPolicy):
    pass


class MyExtractor(FlattenExtractor):
    pass


def test_policies_that_cannot_be_read_without_running_code(tmp_path):
    file = tmp_path / "mine.zip"
    PPO(MyPolicy, gym.make(PAPER)).save(file)
    with pytest.raises(ValueError, match=r"MlpPolicy.*got one of .*test_sb3.*MODULE:NAME"):
        make_agent(f"sb3:{file}", PAPER)
    options = {"features_extractor_class": MyExtractor}
    PPO("MlpPolicy", gym.make(PAPER), policy_kwargs=options).save(file)
    with pytest.raises(ValueError, match=r"policy_kwargs\['features_ext.*MODULE:NAME"):
        make_agent(f"sb3:{file}", PAPER)
    # Settings of how it learnt do not matter.
    options = {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {"momentum": 0.5}}
    PPO("MlpPolicy", gym.make(PAPER), policy_kwargs=options).save(file)
    check_agent(make_agent(f"sb3:{file}", PAPER), PAPER, episodes=2)


class Bomb:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return open, (self.flag, "w")


def with_parts(file, target, parts):
    """The archive with some of its parts replaced."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, parts.get(name, old.read(name)))


def test_no_code_runs_on_load(tmp_path):
    env = gym.make(PAPER)
    file, bad, flag = tmp_path / "mine.zip", tmp_path / "bad.zip", tmp_path / "ran"
    model = PPO("MlpPolicy", env, policy_kwargs={"activation_fn": torch.nn.ELU})
    model.save(file)
    bomb = pickle.dumps(Bomb(str(flag)))
    with zipfile.ZipFile(file) as archive:
        data = json.loads(archive.read("data"))
    pickled = [name for name, value in data.items() if ":serialized:" in str(value)]
    assert {"policy_class", "policy_kwargs", "action_space", "lr_schedule"} <= set(pickled)
    for name in pickled:
        data[name][":serialized:"] = base64.b64encode(bomb).decode()
    with_parts(file, bad, {"data": json.dumps(data)})
    agent = make_agent(f"sb3:{bad}", PAPER)
    seen = observations(env, 5)
    assert np.array_equal(
        agent.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0]
    )
    for part in ("policy.pth", "pytorch_variables.pth", "policy.optimizer.pth"):
        torch.save(Bomb(str(flag)), tmp_path / "bomb.pth")
        for content in (bomb, (tmp_path / "bomb.pth").read_bytes()):
            with_parts(file, bad, {part: content})
            with pytest.raises(ValueError, match=r"bad\.zip"):
                make_agent(f"sb3:{bad}", PAPER)
    assert not flag.exists()
    pickle.loads(bomb).close()  # the bomb would have left a trace
    assert flag.exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"{}", b"[" * 100_000], ids=["empty", "cut", "json", "nested"]
)
def test_damaged_files(content, tmp_path):
    file = tmp_path / "mine.zip"
    PPO("MlpPolicy", gym.make(PAPER)).save(file)
    with_parts(file, tmp_path / "bad.zip", {"data": content})
    (tmp_path / "none.zip").write_bytes(content)
    for name in ("bad", "none"):
        with pytest.raises(ValueError, match=rf"{name}\.zip is no model of Stable-Baselines3"):
            make_agent(f"sb3:{tmp_path / name}", PAPER)
    with pytest.raises(ValueError, match=r"sb3:.*nowhere must be a file"):
        make_agent(f"sb3:{tmp_path / 'nowhere'}", PAPER)
