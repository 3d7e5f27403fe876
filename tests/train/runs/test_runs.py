"""What holds for every kind of run: reproducible, interrupted, resumed, and never overwritten."""

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from multi_exit import TwoExits

import mec_gym
from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import Trainer
from agents.ppo.settings import PPOSettings
from mec_gym.core.pictures import new_figure
from mec_gym.dnn.exits import ExitSettings, ExitTraining
from train.config import a3c_run, ppo_run
from train.evaluation import tensorboard
from train.runs import exits
from train.runs.a3c import train_a3c
from train.runs.folder import checkpoints
from train.runs.interrupts import Interrupted
from train.runs.ppo import train_ppo

PLACES = "tests/Places-v0"


class PPOKind:
    """PPO on a drive: SB3's own network, a head that tunes itself."""

    model_file, steps, at = "model.zip", 240, 3
    other, signal = ("hidden", 4), signal.SIGINT

    def run(self, out, **changes):
        settings = PPOSettings(
            head="price", num_envs=8, n_steps=30, minibatches=2, n_epochs=1, hidden=8
        )
        return self.with_lengths(ppo_run(out, "mec/TrainingOffload-v0", settings=settings), changes)

    def with_lengths(self, run, changes):
        lengths = {"total_timesteps": 6, "eval_every": 2, "checkpoint_every": 2}
        lengths = {name: n * self.steps for name, n in lengths.items()}
        return dataclasses.replace(run, **{**lengths, "eval_episodes": 4, **changes})

    def train(self, run):
        agent = train_ppo(run)
        return torch.nn.utils.parameters_to_vector(agent.network.parameters()).detach().numpy()

    def interrupt(self, patch):
        """Press Ctrl-C, or be told to end, while the third rollout is being collected."""
        record, seen = tensorboard.record_rollout, []

        def press(*args):
            seen.append(None)
            if len(seen) == self.at:
                os.kill(os.getpid(), self.signal)
            record(*args)

        patch.setattr(tensorboard, "record_rollout", press)


class SizesKind(PPOKind):
    """PPO on several sizes of distributed inference side by side."""

    steps = 48
    other, signal = ("sizes", ((2, 1), (3, 3))), signal.SIGTERM

    def run(self, out, **changes):
        run = ppo_run(out, "mec/DistributedInference-v1", "inference-sizes")
        small = {"num_envs": 6, "n_steps": 8, "minibatches": 2, "n_epochs": 1, "hidden": 8}
        settings = dataclasses.replace(run.settings, **small, sizes=((2, 1), (3, 2)))
        return self.with_lengths(dataclasses.replace(run, settings=settings), changes)


class A3CKind(PPOKind):
    """Multi-task A3C with one worker, which makes it reproducible."""

    model_file, steps, at = "model.pt", 40, 6
    other, signal = ("workers", 2), signal.SIGINT

    def run(self, out, **changes):
        settings = A3CSettings(
            workers=1, num_envs=8, n_steps=5, hidden=8, network="branches", multi_task=True
        )
        lengths = {"total_timesteps": 400, "eval_every": 120, "checkpoint_every": 160}
        run = a3c_run(out, PLACES, "flat", settings=settings, **lengths, eval_episodes=4)
        return dataclasses.replace(run, **changes)

    def train(self, run):
        agent = train_a3c(run)
        return torch.nn.utils.parameters_to_vector(agent.network.parameters()).detach().numpy()

    def interrupt(self, patch):
        """Press Ctrl-C while the worker is on its way to a milestone."""
        release = Trainer.release

        def press(trainer, pause_at):
            if trainer.steps < self.at * self.steps <= pause_at:
                os.kill(os.getpid(), self.signal)
            release(trainer, pause_at)

        patch.setattr(Trainer, "release", press)


class ExitsKind:
    """Training the exits of a network."""

    model_file, steps, at = "model.pt", 1, 25  # in the second epoch
    other, signal = ("epochs", 4), signal.SIGTERM

    def run(self, out, **changes):
        settings = ExitSettings(epochs=3, learning_rate=1e-2)
        run = exits.ExitsRun(network="alexnet", out=out, settings=settings)
        return dataclasses.replace(run, **changes)

    def train(self, run):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exits, "build_network", lambda name, images: TwoExits())
            exits.run_exits(run)
        weights = torch.load(run.out / "model.pt", weights_only=True)
        return torch.cat([value.flatten() for value in weights.values()]).numpy()

    def interrupt(self, patch):
        """Press Ctrl-C while a batch is being learnt from."""
        learn = ExitTraining.step

        def press(training):
            if training.steps + 1 == self.at:
                os.kill(os.getpid(), self.signal)
            learn(training)

        patch.setattr(ExitTraining, "step", press)


KINDS = {"ppo": PPOKind(), "sizes": SizesKind(), "a3c": A3CKind(), "exits": ExitsKind()}


@pytest.fixture(scope="module", autouse=True)
def places():
    """The places are registered; pictures of decisions, which take long, are empty."""
    mec_gym.register_room("places_problem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard, "decisions_figure", lambda played: new_figure(0.1, 0.1))
        yield
    mec_gym.unregister_room("places_problem")


@pytest.fixture(scope="module", params=KINDS)
def finished(request, places, tmp_path_factory):
    """A kind of run, the folder of a finished one, and the weights it ended with."""
    kind = KINDS[request.param]
    out = tmp_path_factory.mktemp("run") / request.param
    return kind, out, kind.train(kind.run(out))


def content(out):
    """Everything that a run left, but for events, which hold the time of day."""
    files = (p for p in out.rglob("*") if p.is_file() and not p.name.startswith("events"))
    return {path.relative_to(out): path.read_bytes() for path in files}


def step_of(path):
    return int(path.stem.removeprefix("step-"))


def test_a_seed_decides_everything(finished, tmp_path):
    kind, out, expected = finished
    np.testing.assert_array_equal(kind.train(kind.run(tmp_path / "again")), expected)
    other = kind.train(kind.run(tmp_path / "other", seed=1))
    assert other.shape == expected.shape and not np.array_equal(other, expected)
    ours, again = (
        json.loads((folder / "config.json").read_text()) for folder in (out, tmp_path / "again")
    )
    assert ours == again


def test_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path):
    kind, _, expected = finished
    out = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        kind.interrupt(patch)
        with pytest.raises(Interrupted, match="--resume"):
            kind.train(kind.run(out))
    assert not (out / kind.model_file).exists()
    # It stopped at the next good moment, not at the next milestone.
    assert 0 < step_of(checkpoints(out)[-1]) <= kind.at * kind.steps
    # Ctrl-C works as it did before.
    assert signal.getsignal(signal.SIGINT) is before
    resumed = kind.train(kind.run(out, resume=True))
    np.testing.assert_array_equal(resumed, expected)
    assert len(checkpoints(out)) <= 2  # older ones are removed


def test_a_used_folder_is_refused(finished):
    kind, out, _ = finished
    before = content(out)
    with pytest.raises(ValueError, match=r"config\.json, .*--resume"):
        kind.train(kind.run(out))
    assert content(out) == before


def test_a_finished_run_is_left_alone(finished, capsys):
    kind, out, expected = finished
    before = content(out)
    np.testing.assert_array_equal(kind.train(kind.run(out, resume=True)), expected)
    assert "is complete" in capsys.readouterr().out
    after = content(out)
    assert set(after) == set(before)
    assert all(after[path] == before[path] for path in before if "checkpoints" in path.parts)


def test_resume_needs_a_run_and_the_same_settings(finished, tmp_path):
    kind, out, _ = finished
    with pytest.raises(ValueError, match="nothing holds no run"):
        kind.train(kind.run(tmp_path / "nothing", resume=True))
    with pytest.raises(ValueError, match=r"seed must stay 0.*got 3"):
        kind.train(kind.run(out, resume=True, seed=3))
    name, value = kind.other
    settings = dataclasses.replace(kind.run(out).settings, **{name: value})
    with pytest.raises(ValueError, match=rf"settings\.{name} must stay .*got"):
        kind.train(kind.run(out, resume=True, settings=settings))


def test_a_damaged_checkpoint_is_named_and_the_one_before_works(finished, tmp_path):
    kind, out, expected = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    (copy / kind.model_file).unlink()
    newest = checkpoints(copy)[-1]
    older = checkpoints(copy)[:-1]
    whole = newest.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", whole[:1000], whole[:middle] + b"\0\1\2\3" + whole[middle + 4 :]):
        newest.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{newest.name} is damaged") as told:
            kind.train(kind.run(copy, resume=True))
        assert all(path.name in str(told.value) for path in older[-1:])
    newest.unlink()
    np.testing.assert_array_equal(kind.train(kind.run(copy, resume=True)), expected)
