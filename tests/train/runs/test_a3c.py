"""What is particular to runs of A3C: several processes, never half dead."""

import csv
import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from places_problem import ENV
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.a3c.agent import MODEL_FILE
from agents.a3c.settings import A3CSettings
from agents.registry import make_agent
from train.config import a3c_run
from train.runs.a3c import train_a3c
from train.runs.folder import checkpoints

ROLLOUT = 40
ROOT = Path(__file__).resolve().parents[3]


pytestmark = [
    pytest.mark.usefixtures("places"),
    pytest.mark.filterwarnings("ignore:.* workers share .* cores:RuntimeWarning"),
]


def small_run(out, **changes):
    settings = A3CSettings(
        workers=1, num_envs=8, n_steps=5, hidden=8, network="branches", multi_task=True
    )
    lengths = {"total_timesteps": 400, "eval_every": 120, "checkpoint_every": 160}
    run = a3c_run(out, ENV, "flat", settings=settings, eval_episodes=4, **lengths)
    return dataclasses.replace(run, **changes)


def test_what_a_run_leaves_behind(tmp_path):
    out = tmp_path / "a3c"
    agent = train_a3c(small_run(out))
    assert multiprocessing.active_children() == []
    config = json.loads((out / "config.json").read_text())
    assert (config["env"], config["preset"], config["head"]) == (ENV, "flat", {})
    assert config["settings"]["multi_task"] is True
    assert [p.stem for p in checkpoints(out)] == ["step-000000000320", "step-000000000400"]
    loaded = make_agent(f"mtl-a3c:{out}", ENV)
    for ours, theirs in zip(agent.network.parameters(), loaded.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)

    events = EventAccumulator(str(out), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    # PPO's names, see test_ppo.py.
    assert set(events.Tags()["scalars"]) >= {
        "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/latency_s_mean",
        "rollout/latency_s_p95", "rollout/energy_j_per_step", "rollout/drop_rate",
        "time/steps_per_second", "eval/return_mean", "eval/gap_percent_mean",
        "eval/latency_s_mean", "eval/latency_s_p95", "eval/energy_j_mean", "eval/drops_mean",
        "train/policy_loss", "train/value_loss", "train/entropy", "train/lag", "train/n_updates",
    }  # fmt: skip
    assert [e.step for e in events.Scalars("eval/return_mean")] == [0, 120, 240, 360, 400]
    assert events.Scalars("rollout/ep_len_mean")[-1].value == 4.0
    assert events.Scalars("train/n_updates")[-1].value == 10
    assert "eval/decisions" in events.Tags()["images"]
    assert all(e.value >= 0 for e in events.Scalars("eval/gap_percent_mean"))
    with (out / "progress.csv").open() as lines:
        steps = [int(row["time/total_timesteps"]) for row in csv.DictReader(lines)]
    assert steps == sorted(steps) and steps[-1] == 400


@pytest.mark.slow
def test_a_worker_that_raises_leaves_the_last_checkpoint(tmp_path, capfd):
    out = tmp_path / "a3c"
    # 40 steps of an environment are eight updates; the first checkpoint comes after four.
    with pytest.raises(ChildProcessError, match=r"worker 0 .*RuntimeError: the server"):
        train_a3c(small_run(out, scenario="fails", rule="none"))
    assert [p.stem for p in checkpoints(out)] == ["step-000000000160", "step-000000000320"]
    assert not (out / MODEL_FILE).exists()
    assert multiprocessing.active_children() == []
    assert "Traceback" not in capfd.readouterr().err


def start(out, *more):
    command = [sys.executable, "-m", "train", "--import", "places_problem", "a3c"]
    command += ["--out", str(out), "--env", ENV, "--total-timesteps", "100000000"]
    command += ["--eval-episodes", "4", "--checkpoint-every", "20000", *more]
    command += ["--settings.num-envs", "16", "--settings.workers", "2"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def await_checkpoint(out, after=""):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if any(path.name > after for path in checkpoints(out)):
            return
        time.sleep(0.1)
    raise AssertionError("no checkpoint")


def children(pid):
    """Workers of a process; multiprocessing's resource tracker is none."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            found.append(int(child))
    return found


@pytest.mark.slow
def test_interrupt_and_kill_on_the_command_line(tmp_path):
    """The whole way round: SIGTERM, resume, kill -9 of a worker; real processes and signals."""
    out = tmp_path / "a3c"
    process = start(out)
    await_checkpoint(out)
    workers = children(process.pid)
    assert len(workers) == 2
    for pid in (process.pid, *workers):  # as a terminal or a batch system does
        os.kill(pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    saved = checkpoints(out)[-1]

    process = start(out, "--resume")
    await_checkpoint(out, after=saved.name)
    workers = children(process.pid)
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: worker ") and "SIGKILL" in last
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
