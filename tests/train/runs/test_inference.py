"""Runs on distributed inference: several sizes at once, resumed, played on any size."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from ctrl_c import interrupt_after
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.a3c.worker import first_network
from agents.heads import make_head
from agents.trained_agent import TrainedAgent
from agents.ppo.model import MODEL_FILE, load_ppo, make_ppo, make_vec_env
from agents.registry import make_agent
from mec_gym import make_problem
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.testing import check_agent
from train.runs.a3c import train_a3c
from train.runs.folder import checkpoints
from train.runs.interrupts import Interrupted
from train.presets import (
    A3C_PRESETS,
    DEFAULT_PPO_PRESET,
    INFERENCE,
    PPO_PRESETS,
    a3c_run,
    ppo_run,
)
from train.runs.ppo import train_ppo

ROLLOUT = 48
SMALLER = {"num_envs": 6, "n_steps": 8, "minibatches": 2, "n_epochs": 1, "hidden": 8}
SIZES = {"sizes": ((2, 1), (3, 2)), "learning_rate": 0.01}
EVERY = {"eval_every": 2 * ROLLOUT, "eval_episodes": 4, "checkpoint_every": 2 * ROLLOUT}


def ppo(out, preset="inference-sizes", changes=SIZES, **more):
    settings = dataclasses.replace(PPO_PRESETS[preset].settings, **SMALLER, **changes)
    run = ppo_run(out, INFERENCE, preset, settings=settings, total_timesteps=5 * ROLLOUT, **EVERY)
    return dataclasses.replace(run, **more)


def weights(agent):
    return torch.nn.utils.parameters_to_vector(agent.network.parameters()).detach().numpy()


def actions(agent, problem, n=30):
    slot = sample_episodes(problem, 0, n)
    observation = problem.observe(slot, problem.start(slot))[:, 0]
    return agent.predict(observation, deterministic=True)[0]


@pytest.fixture(scope="module")
def problem():
    return make_problem(INFERENCE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "ppo"
    return out, weights(train_ppo(ppo(out)))


def test_what_a_run_of_several_sizes_leaves_behind(finished, problem):
    out, expected = finished
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["sizes"] == [[2, 1], [3, 2]]
    assert (config["env"], config["preset"], config["head"]) == (INFERENCE, "inference-sizes", {})
    loaded = load_ppo(out, problem, INFERENCE)
    assert type(loaded) is TrainedAgent
    np.testing.assert_array_equal(weights(loaded), expected)
    events = EventAccumulator(str(out), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    # Evaluations are of the problem's own size; what is learnt is of all.
    assert [e.step for e in events.Scalars("eval/return_mean")] == [0, 96, 192, 240]
    returns = rollout(problem, loaded, sample_episodes(problem, 1_000_000, 4)).returns
    assert events.Scalars("eval/return_mean")[-1].value == pytest.approx(returns.mean(), rel=1e-5)
    assert events.Scalars("rollout/ep_len_mean")[-1].value == problem.horizon
    assert {"rollout/latency_s_mean", "train/value_loss"} <= set(events.Tags()["scalars"])


def test_it_learns_and_a_seed_decides_what(finished, tmp_path):
    _, expected = finished
    again = weights(train_ppo(ppo(tmp_path / "again")))
    np.testing.assert_array_equal(again, expected)
    other = weights(train_ppo(ppo(tmp_path / "other", seed=1)))
    assert not np.array_equal(other, expected)
    settings = ppo(tmp_path).settings
    untrained = make_ppo(make_vec_env(make_problem(INFERENCE), settings), settings, seed=0)
    begin = torch.nn.utils.parameters_to_vector(untrained.policy.parameters()).detach().numpy()
    assert not np.array_equal(begin, expected)
    np.testing.assert_allclose(begin, expected, atol=0.05)  # the same, after five small steps


def test_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path, monkeypatch):
    _, expected = finished
    out = tmp_path / "ppo"
    with monkeypatch.context() as patch:
        interrupt_after(patch, rollouts=3)
        with pytest.raises(Interrupted):
            train_ppo(ppo(out))
    assert not (out / MODEL_FILE).exists()
    assert checkpoints(out)[-1].name == f"step-{3 * ROLLOUT:012d}.zip"
    resumed = train_ppo(ppo(out, resume=True))
    np.testing.assert_array_equal(weights(resumed), expected)
    np.testing.assert_array_equal(weights(load_ppo(out, make_problem(INFERENCE))), expected)


def test_resume_needs_the_same_sizes(finished):
    out, _ = finished
    # As JSON gives them back, lists, they are the same.
    train_ppo(ppo(out, resume=True))
    with pytest.raises(ValueError, match=r"settings\.sizes must stay"):
        train_ppo(ppo(out, changes={**SIZES, "sizes": ((2, 1), (3, 3))}, resume=True))


def test_it_plays_any_size(finished, problem):
    out, expected = finished
    for size in ((1, 1), (2, 6), (9, 3)):
        sized = problem.sized(*size)
        agent = load_ppo(out, sized, INFERENCE)
        np.testing.assert_array_equal(weights(agent), expected)
        assert actions(agent, sized).shape == (30, size[0])
        assert actions(agent, sized).max() <= size[1]
        check_agent(agent, sized, episodes=3)
        named = make_agent(f"ppo:{out}", sized, env_id=INFERENCE)
        np.testing.assert_array_equal(actions(named, sized), actions(agent, sized))
    check_agent(load_ppo(out, make_problem(INFERENCE, "campus")), make_problem(INFERENCE, "campus"),
                episodes=2)  # fmt: skip


def test_a_run_of_one_size_plays_any_other(tmp_path, problem):
    """The preset of this environment; nothing but the network is taken along."""
    assert DEFAULT_PPO_PRESET[INFERENCE] == "inference"
    out = tmp_path / "ppo"
    agent = train_ppo(ppo(out, "inference", {}, total_timesteps=2 * ROLLOUT))
    assert actions(agent, problem).shape == (30, 5)
    np.testing.assert_array_equal(actions(load_ppo(out, problem), problem), actions(agent, problem))
    sized = problem.sized(3, 2)
    check_agent(load_ppo(out, sized), sized, episodes=3)
    np.testing.assert_array_equal(weights(load_ppo(out, sized)), weights(agent))


@pytest.mark.parametrize("preset", ["inference-flat", "inference-branches"])
def test_flat_runs_play_their_own_size_only(tmp_path, problem, preset):
    out = tmp_path / "ppo"
    agent = train_ppo(ppo(out, preset, {}, total_timesteps=ROLLOUT))
    np.testing.assert_array_equal(actions(load_ppo(out, problem), problem), actions(agent, problem))
    for size in ((4, 3), (5, 2)):
        with pytest.raises(ValueError, match=r"is a model of another environment: .* has shape"):
            load_ppo(out, problem.sized(*size))
        with pytest.raises(ValueError, match=r"is a model of another environment"):
            make_agent(f"ppo:{out}", problem.sized(*size), env_id=INFERENCE)


def test_damaged_models_of_networks(finished, tmp_path, problem):
    out, _ = finished
    copy = tmp_path / "ppo"
    copy.mkdir()
    (copy / "config.json").write_bytes((out / "config.json").read_bytes())
    content = (out / MODEL_FILE).read_bytes()
    for damaged in (b"", b"hello", content[:100], content[: len(content) // 2]):
        (copy / MODEL_FILE).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.zip is damaged"):
            load_ppo(copy, problem)
    (copy / MODEL_FILE).write_bytes(content)
    config = json.loads((copy / "config.json").read_text())
    config["settings"]["hidden"] = 9
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"another environment: .* has shape \(8,.*one's \(9,"):
        load_ppo(copy, problem)


@pytest.mark.parametrize("name", ["a3c", "mtl-a3c"])
def test_a3cs_network_plays_any_size(tmp_path, problem, name):
    out = tmp_path / name
    small = {"workers": 1, "num_envs": 4, "n_steps": 4, "hidden": 8}
    settings = dataclasses.replace(A3C_PRESETS[name].settings, **small)
    run = a3c_run(out, INFERENCE, name, settings=settings, total_timesteps=64, eval_episodes=2)
    agent = train_a3c(run)
    for sized in (problem, problem.sized(3, 2), problem.sized(8, 4)):
        loaded = make_agent(f"{name}:{out}", sized, env_id=INFERENCE)
        np.testing.assert_array_equal(weights(loaded), weights(agent))
        check_agent(loaded, sized, episodes=3)
    np.testing.assert_array_equal(
        actions(make_agent(f"{name}:{out}", problem), problem), actions(agent, problem)
    )


def test_every_preset_begins(problem):
    """Their settings fit together; nobody learns anything here."""
    for name, preset in PPO_PRESETS.items():
        if name.startswith("inference"):
            env = make_vec_env(problem, preset.settings)
            assert env.num_envs == preset.settings.num_envs
            make_ppo(env, preset.settings, seed=0)
    for preset in A3C_PRESETS.values():
        head = make_head(preset.settings.head, problem)
        assert first_network(problem, head, preset.settings, 0).choices == 5
