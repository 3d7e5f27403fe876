"""A run is reproducible, can be interrupted and resumed, and refuses what would harm it."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ctrl_c import interrupt_after
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.ppo.model import MODEL_FILE, load_ppo, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from mec_gym import make_problem
from mec_gym.core.rollout import sample_episodes
from train.runs.folder import checkpoints
from train.runs.interrupts import Interrupted
from train.presets import PPO_PRESETS, ppo_run
from train.runs.ppo import train_ppo

SMALL = PPOSettings(head="price", num_envs=8, n_steps=30, minibatches=2, n_epochs=1, hidden=8)
ROLLOUT = 240


def small_run(out, **changes):
    run = ppo_run(
        out,
        "mec/TrainingOffload-v0",
        total_timesteps=6 * ROLLOUT,
        eval_every=2 * ROLLOUT,
        eval_episodes=4,
        checkpoint_every=2 * ROLLOUT,
        settings=SMALL,
    )
    return dataclasses.replace(run, **changes)


def weights(agent):
    return torch.cat([p.detach().ravel() for p in agent.model.policy.parameters()]).numpy()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "ppo"
    return out, weights(train_ppo(small_run(out)))


def test_same_seed_same_network(finished, tmp_path):
    _, expected = finished
    np.testing.assert_array_equal(weights(train_ppo(small_run(tmp_path / "again"))), expected)
    other = weights(train_ppo(small_run(tmp_path / "other", seed=1)))
    assert not np.array_equal(other, expected)


def test_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path, monkeypatch):
    _, expected = finished
    out = tmp_path / "ppo"
    with monkeypatch.context() as patch:
        interrupt_after(patch, rollouts=3)
        with pytest.raises(Interrupted):
            train_ppo(small_run(out))
    assert not (out / MODEL_FILE).exists()
    assert checkpoints(out)[-1].name == f"step-{3 * ROLLOUT:012d}.zip"
    resumed = train_ppo(small_run(out, resume=True))
    np.testing.assert_array_equal(weights(resumed), expected)
    # Ctrl-C works as it did before.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_run_leaves_behind(finished):
    out, expected = finished
    config = json.loads((out / "config.json").read_text())
    assert config["env"] == "mec/TrainingOffload-v0"
    assert config["settings"]["num_envs"] == 8
    assert len(checkpoints(out)) == 2  # older ones are removed
    problem = make_problem("mec/TrainingOffload-v0")
    np.testing.assert_array_equal(weights(load_ppo(out, problem)), expected)

    events = EventAccumulator(str(out), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {
        "rollout/ep_rew_mean",
        "rollout/latency_s_mean",
        "rollout/latency_s_p95",
        "rollout/energy_j_per_step",
        "rollout/drop_rate",
        "time/steps_per_second",
        "eval/return_mean",
        "eval/gap_percent_mean",
        "eval/latency_s_p95",
        "eval/drops_mean",
    } <= scalars
    assert [e.step for e in events.Scalars("eval/return_mean")] == [0, 480, 960, 1440]
    assert "eval/decisions" in events.Tags()["images"]
    assert all(e.value >= 0 for e in events.Scalars("eval/gap_percent_mean"))


def test_a_used_folder_is_refused(finished):
    out, _ = finished
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"already holds a run \(config.json, .*--resume"):
        train_ppo(small_run(out))
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_finished_run_is_left_alone(finished, capsys):
    out, expected = finished
    again = train_ppo(small_run(out, resume=True))
    np.testing.assert_array_equal(weights(again), expected)
    assert "is complete" in capsys.readouterr().out


def test_resume_needs_a_run_and_the_same_settings(finished, tmp_path):
    out, _ = finished
    with pytest.raises(ValueError, match="holds no run to resume"):
        train_ppo(small_run(tmp_path / "nothing", resume=True))
    with pytest.raises(ValueError, match="seed must stay 0"):
        train_ppo(small_run(out, resume=True, seed=3))
    with pytest.raises(ValueError, match="env must stay 'mec/TrainingOffload-v0'"):
        train_ppo(small_run(out, resume=True, env="mec/TrainingOffloadPaper-v0"))
    with pytest.raises(ValueError, match=r"settings.hidden must stay 8"):
        train_ppo(small_run(out, resume=True, settings=dataclasses.replace(SMALL, hidden=4)))


def test_a_truncated_checkpoint_is_named_and_the_one_before_works(finished, tmp_path):
    out = tmp_path / "ppo"
    train_ppo(small_run(out))
    (out / MODEL_FILE).unlink()
    older, newest = checkpoints(out)
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{newest.name} is damaged.*{older.name}"):
        train_ppo(small_run(out, resume=True))
    newest.unlink()
    np.testing.assert_array_equal(weights(train_ppo(small_run(out, resume=True))), finished[1])


def test_a_model_of_another_environment_is_refused(finished):
    out, _ = finished
    paper = make_problem("mec/TrainingOffloadPaper-v0")
    with pytest.raises(ValueError, match="model of another environment"):
        load_ppo(out, paper, "mec/TrainingOffloadPaper-v0")


@pytest.mark.parametrize("name", ["total_timesteps", "eval_every", "eval_episodes"])
def test_bad_numbers(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        small_run(tmp_path, **{name: 0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minibatches": 7}, "minibatches must divide"),
        ({"gamma": 1.1}, r"gamma must be in \[0, 1\]"),
        ({"head": "deep"}, "head must be one of flat, price"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        PPOSettings(**changes)


def test_ctrl_c_on_the_command_line(tmp_path):
    """The whole way round: a real process, a real signal, a resumed run."""
    out = tmp_path / "ppo"
    command = [sys.executable, "-m", "train", "ppo", "--out", str(out), "--seed", "5"]
    command += ["--total-timesteps", "200000", "--eval-episodes", "4"]
    command += ["--settings.num-envs", "64", "--settings.minibatches", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob("events.*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped; go on with the same command and --resume" in errors
    (saved,) = checkpoints(out)
    assert int(saved.stem.removeprefix("step-")) < 200_000
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (out / MODEL_FILE).exists()


def test_a_preset_from_python_is_the_preset(tmp_path):
    run = ppo_run(tmp_path, "mec/TrainingOffload-v0")
    assert run.settings == PPO_PRESETS["drive"].settings
    assert run.total_timesteps == PPO_PRESETS["drive"].total_timesteps
    assert ppo_run(tmp_path, "mec/TrainingOffloadPaper-v0").preset == "paper"


def test_training_episodes_are_not_those_of_tests():
    problem = make_problem("mec/TrainingOffload-v0")
    tested = set(sample_episodes(problem, 0, 500).work[:, 0])
    for seed in (0, 1):
        env = make_vec_env(problem, SMALL)
        make_ppo(env, SMALL, seed)
        env.reset()
        begun = set(env.env.trace.work[:, 0])
        assert len(begun) == SMALL.num_envs and not begun & tested


def test_a_model_keeps_its_price_on_another_scenario(finished):
    out, _ = finished
    here = load_ppo(out, make_problem("mec/TrainingOffload-v0")).head.parameters()
    there = load_ppo(out, make_problem("mec/TrainingOffload-v0", "drive-ample")).head.parameters()
    assert here == there and here["price"] > 0.1


def test_sigterm_leaves_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "SIGINT", signal.SIGTERM)  # what interrupt_after sends
    interrupt_after(monkeypatch, rollouts=1)
    with pytest.raises(Interrupted):
        train_ppo(small_run(tmp_path / "ppo"))
    assert checkpoints(tmp_path / "ppo")
