"""What is particular to runs of PPO; test_runs.py has what holds for all kinds of runs."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.ppo.model import MODEL_FILE, load_ppo
from agents.ppo.settings import PPOSettings
from mec_gym import make_problem
from train.config import ppo_run
from train.runs.folder import checkpoints
from train.runs.learn import learn
from train.runs.ppo import train_ppo

ROOT = Path(__file__).resolve().parents[3]
DRIVE = "mec/TrainingOffload-v0"
ROLLOUT = 240

pytestmark = pytest.mark.usefixtures("quick_runs")


def small_run(out, **changes):
    settings = PPOSettings(
        head="price", num_envs=8, n_steps=30, minibatches=2, n_epochs=1, hidden=8
    )
    lengths = {"total_timesteps": 4, "eval_every": 2, "checkpoint_every": 2}
    lengths = {name: n * ROLLOUT for name, n in lengths.items()}
    run = ppo_run(out, DRIVE, settings=settings, eval_episodes=4, **lengths)
    return dataclasses.replace(run, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "ppo"
    return out, train_ppo(small_run(out))


def test_what_a_run_leaves_behind(finished):
    out, agent = finished
    config = json.loads((out / "config.json").read_text())
    assert (config["env"], config["preset"], config["scenario"]) == (DRIVE, "drive", None)
    assert config["settings"]["num_envs"] == 8 and config["head"]["price"] > 0.1
    loaded = load_ppo(out, make_problem(DRIVE))
    for ours, theirs in zip(agent.network.parameters(), loaded.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)

    events = EventAccumulator(str(out), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    assert set(events.Tags()["scalars"]) >= {
        "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/latency_s_mean",
        "rollout/latency_s_p95", "rollout/energy_j_per_step", "rollout/drop_rate",
        "time/steps_per_second", "eval/return_mean", "eval/gap_percent_mean",
        "eval/latency_s_mean", "eval/latency_s_p95", "eval/energy_j_mean", "eval/drops_mean",
        "train/value_loss",
    }  # fmt: skip
    assert [e.step for e in events.Scalars("eval/return_mean")] == [0, 480, 960]
    assert "eval/decisions" in events.Tags()["images"]
    assert all(e.value >= 0 for e in events.Scalars("eval/gap_percent_mean"))


def test_a_model_keeps_its_price_on_another_scenario(finished):
    out, _ = finished
    here = load_ppo(out, make_problem(DRIVE)).head.parameters()
    there = load_ppo(out, make_problem(DRIVE, "drive-ample")).head.parameters()
    assert here == there == json.loads((out / "config.json").read_text())["head"]


def test_a_run_can_be_made_longer_but_not_another_environments(tmp_path):
    out = tmp_path / "ppo"
    settings = dataclasses.replace(small_run(out).settings, head="flat")
    run = small_run(out, settings=settings, total_timesteps=ROLLOUT, rule="none")
    first = train_ppo(run)
    before = [p.detach().clone() for p in first.network.parameters()]
    longer = dataclasses.replace(run, total_timesteps=3 * ROLLOUT, resume=True)
    with pytest.raises(ValueError, match=f"env .*'{DRIVE}'.*'mec/TrainingOffloadPaper-v0'"):
        train_ppo(dataclasses.replace(longer, env="mec/TrainingOffloadPaper-v0"))
    after = list(train_ppo(longer).network.parameters())
    assert checkpoints(out)[-1].name == f"step-{3 * ROLLOUT:012d}.zip"
    assert not all(np.array_equal(a, b.detach()) for a, b in zip(before, after, strict=True))
    assert (out / "progress-1.csv").exists()


def test_a_policy_that_is_no_longer_finite_ends_the_run(tmp_path, monkeypatch):
    """It is neither evaluated nor saved; the checkpoint from before stays."""
    out = tmp_path / "ppo"
    learn, updates = PPO.train, []

    def spoil(model):
        learn(model)
        updates.append(None)
        if len(updates) == 3:
            next(model.policy.parameters()).data[0] = float("nan")

    monkeypatch.setattr(PPO, "train", spoil)
    settings = dataclasses.replace(small_run(out).settings, head="flat")
    run = small_run(out, settings=settings, rule="none")
    with pytest.raises(ValueError, match=rf"learning_rate .* than 0\.001: .* {3 * ROLLOUT} steps"):
        train_ppo(run)
    assert [path.stem for path in checkpoints(out)] == [f"step-{2 * ROLLOUT:012d}"]
    assert not (out / MODEL_FILE).exists()
    # The last update is looked at, too.
    updates.clear()
    with pytest.raises(ValueError, match=f"{3 * ROLLOUT} steps"):
        train_ppo(dataclasses.replace(run, out=tmp_path / "short", total_timesteps=3 * ROLLOUT))
    assert not (tmp_path / "short" / MODEL_FILE).exists()


def test_a_learning_rate_beyond_reason_is_named(tmp_path):
    """Torch refuses its distributions in the midst of an update, in several lines."""
    settings = dataclasses.replace(
        small_run(tmp_path).settings, learning_rate=1e17, head="flat", minibatches=8
    )
    with pytest.raises(ValueError, match=r"^learning_rate must be smaller than 1e\+17: .*$"):
        train_ppo(small_run(tmp_path / "run", settings=settings, rule="none"))
    with pytest.raises(ValueError, match=r"learning_rate .*1e\+17"):
        learn(
            DRIVE, total_timesteps=4 * ROLLOUT, learning_rate=1e17, num_envs=8, n_steps=30,
            minibatches=8, hidden=8,
        )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_on_the_command_line(tmp_path):
    """The whole way round: a real process, a real signal, a resumed run."""
    out = tmp_path / "ppo"
    command = [sys.executable, "-m", "train", "ppo", "--out", str(out), "--seed", "5"]
    command += ["--total-timesteps", "200000", "--eval-episodes", "4"]
    command += ["--settings.num-envs", "64", "--settings.minibatches", "2"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not list(out.glob("events.*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    (saved,) = checkpoints(out)
    assert int(saved.stem.removeprefix("step-")) < 200_000
    done = subprocess.run(
        [*command, "--resume"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert (out / MODEL_FILE).exists()
