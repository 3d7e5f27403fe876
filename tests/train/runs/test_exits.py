"""What is particular to training exits; test_runs.py has what holds for all kinds of runs."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from harm import Harm
from multi_exit import TwoExits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mec_gym.dnn.exits import ExitSettings, ExitTraining, initialised, train_exits
from mec_gym.dnn.graph import load_graph
from mec_gym.dnn.images import digits
from train.__main__ import main
from train.runs import exits
from train.runs.exits import RUN_FILES, ExitsRun, command_line, run_exits
from train.runs.folder import checkpoints, write_checkpoint

PER_EPOCH = 1437 // 64


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(exits, "build_network", lambda name, images: TwoExits())


def small_run(out, **changes):
    settings = ExitSettings(epochs=3, learning_rate=1e-2)
    return dataclasses.replace(ExitsRun(network="alexnet", out=out, settings=settings), **changes)


def weights(out):
    return torch.load(out / "model.pt", weights_only=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "exits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exits, "build_network", lambda name, images: TwoExits())
        run_exits(small_run(out))
    return out


def test_what_a_run_leaves_behind(finished):
    assert {path.name for path in finished.iterdir() if not path.name.startswith("events")} == set(
        RUN_FILES
    )
    config = json.loads((finished / "config.json").read_text())
    assert config["network"] == "alexnet" and config["settings"]["epochs"] == 3
    assert config["data"] is None and "out" not in config

    rows = list(csv.DictReader((finished / "progress.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])

    graph = load_graph(finished / "profile.json")
    assert graph.name == "alexnet-digits"
    assert graph.accuracies.tolist() == [float(rows[-1][f"test_accuracy/exit{n}"]) for n in (1, 2)]
    assert graph.accuracies[1] > 0.8
    assert graph.provenance["command"] == (
        "mec-gym exits --network alexnet --epochs 3 --batch-size 64 --learning-rate 0.01 "
        "--weight-decay 0.01 --seed 0 --threads 1 --out runs/alexnet-digits"
    )

    # The weights are those that were measured.
    module = TwoExits()
    module.load_state_dict(weights(finished))
    training = ExitTraining(module, digits())
    assert training.accuracies("test") == tuple(graph.accuracies)

    events = EventAccumulator(str(finished), size_guidance={"scalars": 0})
    events.Reload()
    shown = events.Scalars("test_accuracy/exit2")
    assert [event.step for event in shown] == [1, 2, 3]
    assert shown[-1].value == pytest.approx(graph.accuracies[1])
    assert {"loss", "loss/exit1", "loss/exit2", "learning_rate"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
def test_the_command_trains_as_the_library_does(small_network, tmp_path):
    """Seed and threads go where they belong."""
    before = torch.get_num_threads()
    settings = ExitSettings(epochs=1, learning_rate=1e-2)
    try:
        graph = run_exits(small_run(tmp_path / "x", settings=settings, seed=1, threads=2))
        assert graph.provenance["training"]["threads"] == torch.get_num_threads() == 2
        module = initialised(TwoExits, 1)
        train_exits(module, digits(), settings, seed=1)
    finally:
        torch.set_num_threads(before)
    for key, value in module.state_dict().items():
        torch.testing.assert_close(weights(tmp_path / "x")[key], value, rtol=0, atol=0)


@pytest.mark.slow
def test_killed_without_a_word(finished, small_network, tmp_path, monkeypatch):
    """What was learnt after the last checkpoint is learnt again, and its events are replaced."""
    out = tmp_path / "exits"
    learn = ExitTraining.step

    def die(self):
        if self.steps == 2 * PER_EPOCH + 3:
            raise MemoryError
        learn(self)

    with monkeypatch.context() as patch:
        patch.setattr(ExitTraining, "step", die)
        with pytest.raises(MemoryError):
            run_exits(small_run(out, checkpoint_every=3))
    assert checkpoints(out) == []
    # Its events come first, although it was killed in the same second.
    (first,) = out.glob("events.*")
    first.rename(out / "events.out.tfevents.0")
    run_exits(small_run(out, resume=True))
    for name in ("progress.csv", "profile.json"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    events = EventAccumulator(str(out), size_guidance={"scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]


def test_what_fails_after_training_keeps_the_weights(
    finished, small_network, tmp_path, monkeypatch
):
    out = tmp_path / "exits"
    with monkeypatch.context() as patch:
        patch.setattr(ExitTraining, "graph", lambda self, name: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_exits(small_run(out))
    for key, value in weights(finished).items():
        torch.testing.assert_close(weights(out)[key], value, rtol=0, atol=0)
    monkeypatch.setattr(ExitTraining, "step", lambda self: 1 / 0)  # nothing is left to learn
    run_exits(small_run(out, resume=True))
    assert (out / "profile.json").read_bytes() == (finished / "profile.json").read_bytes()


def test_checkpoints_run_no_code_and_are_of_the_same_network(finished, small_network, tmp_path):
    out = tmp_path / "exits"
    out.mkdir()
    (out / "config.json").write_bytes((finished / "config.json").read_bytes())
    other = TwoExits()
    other.early = torch.nn.Linear(3, 3)
    for content in ({"module": Harm(tmp_path / "harm")}, {"module": other.state_dict()}):
        part = io.BytesIO()
        torch.save(content, part)
        write_checkpoint(out, 5, {"training.pt": part.getvalue()})
        with pytest.raises(ValueError, match=r"step-0+5\.zip is damaged"):
            run_exits(small_run(out, resume=True))
    assert not (tmp_path / "harm").exists()


def test_the_command_tells_everything_that_counts(tmp_path):
    settings = ExitSettings(2, 8, 0.5, 0.0, (1.0, 2.5))
    run = ExitsRun(
        network="vgg16", out=tmp_path, data=tmp_path, settings=settings, seed=7, threads=2
    )
    assert command_line(run, digits()) == (
        "mec-gym exits --network vgg16 --epochs 2 --batch-size 8 --learning-rate 0.5 "
        "--weight-decay 0.0 --loss-weights 1 2.5 --seed 7 --threads 2 --data DIR "
        "--out runs/vgg16-digits"
    )


def test_from_the_command_line(finished, small_network, tmp_path, capsys):
    """The command that stands in the provenance gives the same accuracies again."""
    graph = load_graph(finished / "profile.json")
    args = graph.provenance["command"].split()[1:-1]
    assert main([*args, str(tmp_path / "x")]) == 0
    again = load_graph(tmp_path / "x" / "profile.json")
    np.testing.assert_array_equal(again.accuracies, graph.accuracies)
    assert again == graph
    text = capsys.readouterr().out
    for accuracy in (*graph.accuracies, *graph.provenance["training"]["train_accuracy"]):
        assert f"{100 * accuracy:.2f}" in text
    cost = [graph.at_exit(n).flops.sum() for n in (0, 1)]
    assert f"{100 * cost[0] / cost[1]:.1f}" in text and "100.0" in text


def test_errors_are_one_line(tmp_path, capsys):
    out = str(tmp_path / "x")
    for args, message in (
        (["--network", "lenet"], "network must be one of alexnet, "),
        (["--network", "alexnet", "--data", out], "data must be a folder that holds"),
        (["--network", "alexnet", "--batch-size", "2000"], "batch_size must be at most 1437"),
        (["--network", "alexnet", "--loss-weights", "1", "2"], "loss_weights must hold 3 numbers"),
        (["--network", "alexnet", "--epochs", "0"], "epochs must be a whole number"),
        (["--network", "alexnet", "--resume"], "holds no run to resume"),
    ):
        assert main(["exits", "--out", out, *args]) == 2, args
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        main(["exits", "--network", "alexnet", "--out", out, "--threads", "0"])
    assert stop.value.code == 2
    assert "threads must be a whole number" in " ".join(capsys.readouterr().err.split())


def test_a_network_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "two_exits.py").write_text(
        """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten())
        self.early, self.late = nn.Linear(196, 10), nn.Sequential(nn.Linear(196, 20), nn.ReLU())
        self.last = nn.Linear(20, 10)

    def forward(self, x):
        y = self.body(x)
        return self.early(y), self.last(self.late(y))
"""
    )
    monkeypatch.chdir(tmp_path)
    out = str(tmp_path / "run")
    args = ["exits", "--network", "two_exits.py:Net", "--epochs", "1", "--out", out]
    assert main(args) == 0
    graph = load_graph(tmp_path / "run" / "profile.json")
    assert graph.name == "two_exits-digits" and len(graph.accuracies) == 2
    assert graph.layers[1].name == "body.0" and graph.layers[0].output_bits == 3 * 32 * 32 * 32
    assert "--network two_exits.py:Net" in graph.provenance["command"]
    assert main([*args[:2], "two_exits.py:Nothing", *args[3:-1], f"{out}2"]) == 2


def test_a_network_for_other_images_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "narrow.py").write_text("from torch import nn\nmodel = nn.Linear(7, 10)\n")
    monkeypatch.chdir(tmp_path)
    assert main(["exits", "--network", "narrow.py:model", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: module must take images of shape (2, 3, 32, 32), it failed: ")
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()
