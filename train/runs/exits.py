"""A run that trains the exits of a network and ends with a profile."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.table import Table
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from agents.runs import CONFIG_FILE
from mec_gym.core.checks import check_fields, seed_number
from mec_gym.core.files import write_whole
from mec_gym.dnn import zoo
from mec_gym.dnn.exits import ExitSettings, ExitTraining, initialised
from mec_gym.dnn.graph import LayerGraph, save_graph
from mec_gym.dnn.images import Images, cifar10, digits
from train.console import show_table
from train.files import write_csv, write_json
from train.profile_network import find_network
from train.runs.folder import (
    COMMON_FILES,
    PROGRESS_FILE,
    config_of,
    open_checkpoint,
    opened,
    progress_bar,
    write_checkpoint,
)
from train.runs.interrupts import HOW_TO_GO_ON, Interrupted, StopFlag, stop_on_interrupt

MODEL_FILE = "model.pt"
PROFILE_FILE = "profile.json"
RUN_FILES = (*COMMON_FILES, MODEL_FILE, PROFILE_FILE)
_PART = "training.pt"


@dataclass(frozen=True, kw_only=True)
class ExitsRun:
    """Train the exits of a network jointly, measure their accuracy and write its profile.

    Attributes:
        network: A network of the zoo, see ``mec_gym.dnn.zoo.NETWORKS``, or MODULE[:FACTORY] of
            your own as for ``profile``: it sees (n, 3, 32, 32) and returns logits (n, 10), one
            tensor per exit, from the earliest to the deepest.
        out: Folder of the run.
        data: Folder of CIFAR-10, in its Python or its binary version; by default scikit-learn's
            digits are learnt.
        settings: Everything that shapes training.
        seed: Seed of weights, order, shifts and dropout.
        threads: Number of threads of the processor; another one gives slightly other figures.
        checkpoint_every: Number of epochs between two checkpoints.
        resume: Whether to go on with the run in ``out`` from its checkpoint.
    """

    network: str
    out: Path
    data: Path | None = None
    settings: Annotated[ExitSettings, tyro.conf.arg(name="")] = ExitSettings()
    seed: int = 0
    threads: int = 1
    checkpoint_every: int = 1
    resume: bool = False

    def __post_init__(self) -> None:
        check_fields(self, positive_int=("threads", "checkpoint_every"))
        seed_number("seed", self.seed)


def run_exits(run: ExitsRun) -> LayerGraph:
    """Begin or resume a run.

    The folder ``run.out`` comes to hold config.json, progress.csv, TensorBoard events,
    checkpoints/ and, at the end, model.pt (the weights) and profile.json (with measured
    accuracies).

    Raises:
        ValueError: The network is unknown, the data are unusable, the folder is in use, the
            checkpoint is damaged, or the settings are not those that the run was begun with.
        Interrupted: Ctrl-C or SIGTERM came; the run can be resumed.
    """
    with opened(run, RUN_FILES, free=("checkpoint_every",)) as checkpoint:
        return _run(run, checkpoint)


def _run(run: ExitsRun, checkpoint: Path | None) -> LayerGraph:
    folder = run.out
    torch.set_num_threads(run.threads)
    images = digits() if run.data is None else cifar10(run.data)
    module = initialised(lambda: build_network(run.network, images), run.seed)
    training = ExitTraining(module, images, run.settings, run.seed)
    if checkpoint is not None:
        load_checkpoint(checkpoint, training)
    if training.done:
        print(f"{folder} is complete: {run.settings.epochs} epochs")
    else:
        write_json(folder / CONFIG_FILE, config_of(run))
        _train(run, training)
    # First what took long: whatever fails after it can be done again with --resume.
    weights = io.BytesIO()
    torch.save(module.state_dict(), weights)
    write_whole(folder / MODEL_FILE, weights.getvalue())
    graph = training.graph(title(run.network, images))
    command = {"command": command_line(run, images)}
    graph = dataclasses.replace(graph, provenance={**graph.provenance, **command})
    save_graph(folder / PROFILE_FILE, graph)
    print_exits(graph)
    print(f"wrote {folder}/{PROFILE_FILE}, {MODEL_FILE}, {PROGRESS_FILE}")
    return graph


def build_network(name: str, images: Images) -> nn.Module:
    """Build the network of a run for the images that it is trained on.

    Args:
        name: A network of the zoo, or MODULE[:FACTORY] of the user's own.
        images: The images that it is to see.

    Raises:
        ValueError: There is no such network.
    """
    if name not in zoo.NETWORKS and (":" in name or name.endswith(".py")):
        return find_network(name)
    _, channels, height, _ = images.train.shape
    return zoo.build(name, images.classes, height, channels, exits=True)


def title(network: str, images: Images) -> str:
    """Return the name of a trained network: that of the network and that of the data."""
    place = network.partition(":")[0]
    return f"{Path(place).stem if place.endswith('.py') else place}-{images.name}"


def _train(run: ExitsRun, training: ExitTraining) -> None:
    folder, epochs = run.out, len(training.history)
    flag = StopFlag()
    # What a run that was killed wrote after its checkpoint will be written again.
    writer = SummaryWriter(str(folder), purge_step=epochs + 1 if run.resume else None)
    bar = progress_bar(training.total_steps, training.steps, "batch")
    try:
        with stop_on_interrupt(flag, "batch"):
            while not training.done and not flag.stop:
                training.step()
                bar.update()
                if len(training.history) == epochs:
                    continue
                epochs = len(training.history)
                row = training.history[-1]
                bar.set_postfix_str(_summary(row), refresh=False)
                for name, value in row.items():
                    writer.add_scalar(name, value, epochs)
                write_csv(folder / PROGRESS_FILE, training.history)
                if epochs % run.checkpoint_every == 0 and not training.done:
                    save_checkpoint(folder, training)
            save_checkpoint(folder, training)
    finally:
        bar.close()
        writer.close()
    if not training.done:
        raise Interrupted(HOW_TO_GO_ON)


def save_checkpoint(folder: Path, training: ExitTraining) -> None:
    """Write everything the training consists of; from here it can be resumed bit for bit."""
    whole = io.BytesIO()
    torch.save(training.state(), whole)
    write_checkpoint(folder, training.steps, {_PART: whole.getvalue()}, compress=False)


def load_checkpoint(path: Path, training: ExitTraining) -> None:
    """Read a checkpoint; only tensors and plain values are taken from it.

    Raises:
        ValueError: The file is truncated or damaged, or it belongs to another network.
    """
    fresh = training.state()
    with open_checkpoint(path, [_PART]) as (_, parts):
        state = torch.load(io.BytesIO(parts[_PART]), weights_only=True)
        for name, mine in fresh.items():
            its = state[name]
            if type(its) is not type(mine) or getattr(its, "dtype", 0) != getattr(mine, "dtype", 0):
                raise ValueError(f"{name} is of another kind")
        training.restore(state)
        if not 0 <= training.steps <= training.total_steps:
            raise ValueError(f"steps is {training.steps}")


def command_line(run: ExitsRun, images: Images) -> str:
    """Return the command that repeats a run, whatever the defaults may be by then."""
    words = ["mec-gym exits", f"--network {run.network}"]
    for field in dataclasses.fields(run.settings):
        value = getattr(run.settings, field.name)
        if isinstance(value, tuple):
            value = " ".join(f"{number:g}" for number in value)
        if value is not None:
            words.append(f"--{field.name.replace('_', '-')} {value}")
    words += [f"--seed {run.seed}", f"--threads {run.threads}"]
    # The profile is published: a path of the user's machine has no place in it.
    words += [] if run.data is None else ["--data DIR"]
    return " ".join([*words, f"--out runs/{title(run.network, images)}"])


def print_exits(graph: LayerGraph) -> None:
    """Print what each exit gets right and what it costs, the deepest exit's FLOPs being 100 %."""
    training = graph.provenance["training"]
    table = Table(
        title=f"{graph.name}, {training['train_images']} images to train, "
        f"{training['test_images']} to test"
    )
    for column in ("exit", "test accuracy %", "train accuracy %", "FLOPs %"):
        table.add_column(column, justify="left" if column == "exit" else "right")
    costs = []
    if not graph.uncounted:
        costs = [graph.at_exit(n).flops.sum() for n in range(len(graph.exits))]
    for n, (one, trained) in enumerate(zip(graph.exits, training["train_accuracy"], strict=True)):
        assert one.accuracy is not None
        share = f"{100 * costs[n] / costs[-1]:.1f}" if costs else "?"
        table.add_row(one.name, f"{100 * one.accuracy:.2f}", f"{100 * trained:.2f}", share)
    show_table(table)


def _summary(row: dict[str, float]) -> str:
    shares = [f"{100 * value:.1f}" for name, value in row.items() if "accuracy" in name]
    return f"epoch {row['epoch']:.0f}, test accuracy {' '.join(shares)} %"
