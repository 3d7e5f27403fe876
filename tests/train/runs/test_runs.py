"""What holds for every kind of run: reproducible, interrupted, resumed, and never overwritten."""

import dataclasses
import io
import json
import os
import pickle
import shutil
import signal
import zipfile

import numpy as np
import pytest
import torch
from harm import Harm
from multi_exit import TwoExits
from slow import slow_except

from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import Trainer
from agents.heads import make_head
from agents.ppo.model import make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from mec_gym.core.packing import pack, unpack
from mec_gym.dnn.exits import ExitSettings, ExitTraining
from mec_gym.registration import make_problem
from train.config import a3c_run, ppo_run
from train.evaluation import tensorboard
from train.lock import LOCK_FILE, locked
from train.runs import a3c, exits, ppo
from train.runs.a3c import train_a3c
from train.runs.folder import checkpoints, open_checkpoint
from train.runs.interrupts import Interrupted
from train.runs.ppo import train_ppo

PLACES = "tests/Places-v0"

pytestmark = pytest.mark.usefixtures("places", "quick_runs")


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
        return dataclasses.replace(
            run, **{**lengths, "eval_episodes": 4, "rule": "none", **changes}
        )

    def train(self, run):
        agent = train_ppo(run)
        return torch.nn.utils.parameters_to_vector(agent.network.parameters()).detach().numpy()

    def loader(self, run, path):
        """Return what reads the state of a checkpoint, without the time that a run takes."""
        env = make_vec_env(make_problem(run.env, run.scenario), run.settings)
        model = make_ppo(env, run.settings, run.seed)
        return lambda: ppo.load_checkpoint(path, model, env)

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
        run = a3c_run(
            out, PLACES, "flat", settings=settings, **lengths, eval_episodes=4, rule="none"
        )
        return dataclasses.replace(run, **changes)

    def train(self, run):
        agent = train_a3c(run)
        return torch.nn.utils.parameters_to_vector(agent.network.parameters()).detach().numpy()

    def loader(self, run, path):
        """Return what reads the state of a checkpoint, without the time that a run takes."""
        problem = make_problem(run.env, run.scenario)
        head = make_head(run.settings.head, problem)
        return lambda: a3c.load_checkpoint(path, run, problem, head)

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


@pytest.fixture(scope="module", params=slow_except(KINDS, "ppo"))
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
    way_out = f"delete it to go on from {older[-1].name}" if older else "delete it to begin anew"
    whole = newest.read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", whole[:1000], whole[:middle] + b"\0\1\2\3" + whole[middle + 4 :]):
        newest.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{newest.name} is damaged .*; {way_out}$"):
            kind.train(kind.run(copy, resume=True))
    newest.unlink()
    np.testing.assert_array_equal(kind.train(kind.run(copy, resume=True)), expected)


def parts_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_parts(path, parts):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_no_code_of_a_checkpoint_is_run(finished, tmp_path):
    """A trap in each part, as a pickle, as torch would keep it and as numpy would."""
    kind, out, _ = finished
    copy, harm = tmp_path / "run", Harm(tmp_path / "harm")
    shutil.copytree(out, copy)
    newest = checkpoints(copy)[-1]
    parts = parts_of(newest)
    assert len(parts) >= 2 and not any(name.endswith(".pkl") for name in parts)
    by_torch, by_numpy = io.BytesIO(), io.BytesIO()
    torch.save({"policy": harm, "module": harm, "parameters": harm}, by_torch)
    np.savez(by_numpy, json=np.array([harm], dtype=object))
    for name in parts:
        for trap in (pickle.dumps(harm), by_torch.getvalue(), by_numpy.getvalue()):
            write_parts(newest, parts | {name: trap})
            with pytest.raises(ValueError, match=rf"{newest.name} is damaged") as told:
                kind.train(kind.run(copy, resume=True))
            assert "\n" not in str(told.value)
    harm.check_that_it_works()


def test_checkpoints_of_another_version_are_refused(finished, tmp_path):
    """Before there were versions, they held pickles."""
    kind, out, _ = finished
    copy, harm = tmp_path / "run", Harm(tmp_path / "harm")
    shutil.copytree(out, copy)
    newest = checkpoints(copy)[-1]
    old = {"model.zip": b"", "env.pkl": pickle.dumps(harm), "random.pkl": pickle.dumps(harm)}
    write_parts(newest, old | {"progress.json": b'{"num_timesteps": 5}'})
    with pytest.raises(ValueError, match=rf"{newest.name} was written by another version; begin"):
        kind.train(kind.run(copy, resume=True))
    harm.check_that_it_works()


def test_every_cut_and_every_flipped_byte_is_told_or_harmless(finished, tmp_path):
    _, out, _ = finished
    newest = checkpoints(out)[-1]
    parts, whole = parts_of(newest), newest.read_bytes()
    path = tmp_path / "checkpoints" / newest.name
    path.parent.mkdir()
    names = [name for name in parts if name != "progress.json"]
    cuts = [whole[: len(whole) * k // 100] for k in range(100)]
    places = [*range(0, len(whole), len(whole) // 100 + 1), *range(len(whole) - 100, len(whole))]
    flips = [whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :] for k in places]
    told = 0
    for damaged in (*cuts, *flips):
        path.write_bytes(damaged)
        try:
            with open_checkpoint(path, names) as (steps, found):
                pass
        except ValueError as error:
            told += 1
            assert f"{path} is damaged (" in str(error) and "\n" not in str(error)
        else:  # a date, or the like
            assert steps == step_of(newest) and all(found[name] == parts[name] for name in names)
    assert told > 200


BAD = (10**400, "x", [], {}, None, -1, 1.5, 10**30, np.zeros(3), np.array("x"))


def leaves(tree, path=()):
    """The paths to everything in a state; of a list, to the first one only."""
    items = list(enumerate(tree))[:1] if isinstance(tree, list) else ()
    for key, value in tree.items() if isinstance(tree, dict) else items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


@pytest.mark.slow
@pytest.mark.parametrize("finished", ["ppo", "sizes", "a3c"], indirect=True)
def test_whatever_stands_in_a_state_is_told_in_one_line(finished, tmp_path):
    """Checksums do not show a state that was written so; not every value does harm."""
    kind, out, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    newest = checkpoints(copy)[-1]
    parts = parts_of(newest)
    name = next(name for name in parts if name.endswith(".npz"))
    load = kind.loader(kind.run(copy), newest)
    load()
    told = tried = 0
    for path in leaves(unpack(parts[name])):
        for bad in BAD:
            state = unpack(parts[name])
            inner = state
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = bad
            write_parts(newest, parts | {name: pack(state)})
            tried += 1
            try:
                load()
            except ValueError as error:
                told += 1
                assert f"{newest.name} is damaged (" in str(error) and "\n" not in str(error)
    assert told > 0.8 * tried > 200


def test_two_runs_in_one_folder(finished, tmp_path):
    """The second one is refused before it writes anything, whether it begins or resumes."""
    kind, out, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    with locked(copy):
        before = content(copy)
        for resume in (False, True):
            with pytest.raises(ValueError, match=f"out {copy} is in use: another run"):
                kind.train(kind.run(copy, resume=resume))
        assert content(copy) == before
    kind.train(kind.run(copy, resume=True))
    assert not (copy / LOCK_FILE).exists()
