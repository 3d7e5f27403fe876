"""A3C runs: reproducible, interrupted, resumed, and never half dead."""

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

import numpy as np
import pytest
import torch
from places_problem import ENV, PlacesProblem, entry
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.a3c.agent import MODEL_FILE, load_a3c
from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import Trainer
from agents.registry import make_agent
from mec_gym import ENVIRONMENTS, make_problem
from train.__main__ import main
from train.runs.a3c import train_a3c
from train.runs.folder import checkpoints
from train.runs.interrupts import Interrupted
from train.presets import A3C_PRESETS, INFERENCE, a3c_run

ONE = A3CSettings(workers=1, num_envs=8, n_steps=5, hidden=8)
ROLLOUT = 40
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.filterwarnings("ignore:.* workers share .* cores:RuntimeWarning")


@pytest.fixture(scope="module", autouse=True)
def places():
    """The environment's id is known for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVIRONMENTS, ENV, entry())
        yield


def small_run(out, **changes):
    run = a3c_run(
        out,
        ENV,
        "mtl-a3c",
        total_timesteps=10 * ROLLOUT,
        eval_every=3 * ROLLOUT,
        eval_episodes=4,
        checkpoint_every=4 * ROLLOUT,
        settings=dataclasses.replace(ONE, network="branches", multi_task=True),
    )
    return dataclasses.replace(run, **changes)


def weights(agent):
    return torch.nn.utils.parameters_to_vector(agent.network.parameters()).detach().numpy()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, places):
    out = tmp_path_factory.mktemp("run") / "a3c"
    return out, weights(train_a3c(small_run(out)))


def test_what_a_run_leaves_behind(finished):
    out, expected = finished
    assert multiprocessing.active_children() == []
    config = json.loads((out / "config.json").read_text())
    assert (config["env"], config["preset"], config["head"]) == (ENV, "mtl-a3c", {})
    assert config["settings"]["multi_task"] is True
    assert [p.stem for p in checkpoints(out)] == ["step-000000000320", "step-000000000400"]
    agent = make_agent(f"mtl-a3c:{out}", PlacesProblem(), env_id=ENV)
    np.testing.assert_array_equal(weights(agent), expected)

    events = EventAccumulator(str(out), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    # PPO's names, see test_run.py.
    assert {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "rollout/latency_s_mean",
        "rollout/latency_s_p95",
        "rollout/energy_j_per_step",
        "rollout/drop_rate",
        "time/steps_per_second",
        "eval/return_mean",
        "eval/gap_percent_mean",
        "eval/latency_s_p95",
        "eval/drops_mean",
        "train/policy_loss",
        "train/value_loss",
        "train/entropy",
        "train/lag",
        "train/n_updates",
    } <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("eval/return_mean")] == [0, 120, 240, 360, 400]
    assert events.Scalars("rollout/ep_len_mean")[-1].value == 4.0
    assert events.Scalars("train/n_updates")[-1].value == 10
    assert "eval/decisions" in events.Tags()["images"]
    assert all(e.value >= 0 for e in events.Scalars("eval/gap_percent_mean"))
    with (out / "progress.csv").open() as lines:
        steps = [int(row["time/total_timesteps"]) for row in csv.DictReader(lines)]
    assert steps == sorted(steps) and steps[-1] == 400


def interrupt_in(monkeypatch, update):
    """Press Ctrl-C while the workers are on their way to a milestone."""
    release = Trainer.release

    def press(self, pause_at):
        if self.steps < update * ROLLOUT <= pause_at:
            os.kill(os.getpid(), signal.SIGINT)
        release(self, pause_at)

    monkeypatch.setattr(Trainer, "release", press)


def test_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path, monkeypatch):
    """With one worker, bit for bit, wherever it is interrupted."""
    out = tmp_path / "a3c"
    with monkeypatch.context() as patch:
        interrupt_in(patch, update=6)
        with pytest.raises(Interrupted, match="--resume"):
            train_a3c(small_run(out))
    assert not (out / MODEL_FILE).exists()
    saved = int(checkpoints(out)[-1].stem.removeprefix("step-"))
    assert 4 * ROLLOUT <= saved < 10 * ROLLOUT and saved % ROLLOUT == 0
    assert multiprocessing.active_children() == []
    # Ctrl-C works as it did before.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = train_a3c(small_run(out, resume=True))
    np.testing.assert_array_equal(weights(resumed), finished[1])
    assert (out / "progress-1.csv").exists()


def test_a_finished_run_is_left_alone(finished, capsys):
    out, expected = finished
    again = train_a3c(small_run(out, resume=True))
    np.testing.assert_array_equal(weights(again), expected)
    assert "is complete" in capsys.readouterr().out


def test_a_used_folder_is_refused(finished):
    out, _ = finished
    with pytest.raises(ValueError, match=r"already holds a run \(config\.json, .*--resume"):
        train_a3c(small_run(out))


def test_resume_needs_a_run_and_the_same_settings(finished, tmp_path):
    out, _ = finished
    with pytest.raises(ValueError, match="holds no run to resume"):
        train_a3c(small_run(tmp_path / "nothing", resume=True))
    settings = dataclasses.replace(small_run(out).settings, workers=2)
    with pytest.raises(ValueError, match=r"settings\.workers must stay 1"):
        train_a3c(small_run(out, resume=True, settings=settings))


def test_a_damaged_checkpoint_is_named(finished, tmp_path):
    out, _ = finished
    copy = tmp_path / "a3c"
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "config.json").write_bytes((out / "config.json").read_bytes())
    older, newest = (copy.joinpath("checkpoints", p.name) for p in checkpoints(out))
    for path, content in zip((older, newest), checkpoints(out), strict=True):
        path.write_bytes(content.read_bytes())
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{newest.name} is damaged.*{older.name}"):
        train_a3c(small_run(copy, resume=True))


def test_a_worker_that_raises_leaves_the_last_checkpoint(tmp_path, capfd):
    out = tmp_path / "a3c"
    # 40 steps of an environment are eight updates; the first checkpoint comes after four.
    with pytest.raises(ChildProcessError, match="worker 0 failed: RuntimeError: the server"):
        train_a3c(small_run(out, scenario="fails"))
    assert [p.stem for p in checkpoints(out)] == ["step-000000000160", "step-000000000320"]
    assert not (out / MODEL_FILE).exists()
    assert multiprocessing.active_children() == []
    assert "the server is on fire" in capfd.readouterr().err


def command(out, *more):
    code = "import sys; sys.path.insert(0, 'tests'); import places_problem as p; sys.exit(p.main("
    arguments = ["--out", str(out), "--env", ENV, "--preset", "a3c-flat"]
    arguments += ["--total-timesteps", "100000000"]
    arguments += ["--eval-episodes", "4", "--checkpoint-every", "20000", *more]
    arguments += ["--settings.num-envs", "16", "--settings.workers", "2"]
    return [sys.executable, "-c", f"{code}sys.argv[1:]))", "a3c", *arguments]


def start(out, *more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command(out, *more), cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def await_checkpoint(out, seconds=60):
    deadline = time.monotonic() + seconds
    while not checkpoints(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert checkpoints(out)


def children(pid):
    """Workers of a process; multiprocessing's resource tracker is none."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            found.append(int(child))
    return found


def test_interrupt_and_kill_on_the_command_line(tmp_path):
    """The whole way round: SIGTERM, resume, kill -9 of a worker; real processes and signals."""
    out = tmp_path / "a3c"
    process = start(out)
    await_checkpoint(out)
    workers = children(process.pid)
    assert len(workers) == 2
    begin = time.monotonic()
    for pid in (process.pid, *workers):  # as a terminal or a batch system does
        os.kill(pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - begin < 5
    assert process.returncode == 130, errors
    assert "stopped; go on with the same command and --resume" in errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    saved = checkpoints(out)[-1]

    process = start(out, "--resume")
    deadline = time.monotonic() + 60
    while checkpoints(out)[-1] == saved and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = children(process.pid)
    begin = time.monotonic()
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - begin < 10
    assert process.returncode == 2
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: worker ") and "killed by SIGKILL" in last
    assert checkpoints(out)[-1] > saved
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_commands_choose_their_presets(tmp_path, capsys):
    """And by default the environment that they were made for."""
    for name in ("a3c", "mtl-a3c"):
        out = tmp_path / name
        args = [name, "--out", str(out), "--total-timesteps", "16", "--eval-episodes", "2"]
        args += ["--settings.workers", "1", "--settings.num-envs", "4"]
        assert main([*args, "--settings.n-steps", "4"]) == 0
        config = json.loads((out / "config.json").read_text())
        assert (config["env"], config["preset"]) == (INFERENCE, name)
        assert config["settings"]["multi_task"] is (name == "mtl-a3c")
        assert {config["settings"][part] for part in ("head", "network")} == {"pairs"}
        assert main(["evaluate", f"{name}:{out}", "--env", INFERENCE, "--episodes", "5"]) == 0
        assert name in capsys.readouterr().out
    load_a3c(tmp_path / "a3c", make_problem(INFERENCE), INFERENCE, multi_task=False)
    assert main(["evaluate", f"a3c:{tmp_path / 'mtl-a3c'}", "--env", INFERENCE]) == 2
    assert "is no a3c run; call it mtl-a3c:" in capsys.readouterr().err


def test_errors_are_one_line(capsys, tmp_path):
    out = str(tmp_path / "x")
    for args, message in (
        (["--preset", "nothing"], f"preset must be one of {', '.join(A3C_PRESETS)}"),
        (["--env", "mec/Nothing-v0"], "env_id must be one of"),
        (["--env", "mec/TrainingOffload-v0", "--preset", "a3c-flat"], "parallel choices"),
        (["--env", ENV], "head 'pairs' fits distributed inference only"),
        (["--env", ENV, "--resume"], "holds no run to resume"),
    ):
        assert main(["a3c", "--out", out, *args]) == 2, args
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error
        assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["a3c", "--out", out, "--settings.network", "deep"])
    assert "--settings.network" in capsys.readouterr().err


def test_presets_are_told(capsys):
    assert all(preset.total_timesteps > 0 for preset in A3C_PRESETS.values())
    assert not A3C_PRESETS["a3c"].settings.multi_task
    for name in ("mtl-a3c", "mtl-a3c-branch", "mtl-a3c-soft", "mtl-a3c-tied"):
        assert A3C_PRESETS[name].settings.multi_task
    assert A3C_PRESETS["textbook"].settings.num_envs == 1
