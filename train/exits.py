"""Training the exits of a network: run folder, checkpoint, resume, profile."""

from __future__ import annotations

import csv
import dataclasses
import io
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents.runs import CONFIG_FILE, read_config
from mec_gym.core.files import write_whole
from mec_gym.dnn import zoo
from mec_gym.dnn.exits import ExitTraining, initialised
from mec_gym.dnn.graph import LayerGraph, save_graph
from mec_gym.dnn.images import Images, cifar10, digits
from train.config import ExitsRun
from train.files import check_same, refuse_used, write_json
from train.interrupts import HOW_TO_GO_ON, Interrupted, StopFlag, stop_on_interrupt
from train.profile_network import find_network

CHECKPOINT_FILE = "checkpoint.pt"
MODEL_FILE = "model.pt"
PROFILE_FILE = "profile.json"
PROGRESS_FILE = "progress.csv"
RUN_FILES = (CONFIG_FILE, CHECKPOINT_FILE, PROGRESS_FILE, MODEL_FILE, PROFILE_FILE)
FREE = ("checkpoint_every",)
"""What may change when a run is resumed."""


def run_exits(run: ExitsRun) -> LayerGraph:
    """Begin or resume a run.

    Writes into ``run.out``: config.json, progress.csv, TensorBoard events, checkpoint.pt and,
    at the end, model.pt (the weights) and profile.json (with measured accuracies).

    Raises:
        ValueError: Unknown network, unusable data, a folder in use, a damaged checkpoint, or
            other settings than the run was begun with.
        Interrupted: After Ctrl-C; the run can be resumed.
    """
    folder = run.out
    config = resolved(run)
    if run.resume:
        if not (folder / CONFIG_FILE).is_file():
            raise ValueError(f"out {folder} holds no run to resume: {CONFIG_FILE} is missing")
        check_same(folder, read_config(folder / CONFIG_FILE), config, FREE)
    else:
        refuse_used(folder, RUN_FILES, "choose another folder or give --resume")
    torch.set_num_threads(run.threads)
    images = digits() if run.data is None else cifar10(run.data)
    module = initialised(lambda: build_network(run.network, images), run.seed)
    training = ExitTraining(module, images, run.settings, run.seed)
    if run.resume and (folder / CHECKPOINT_FILE).is_file():
        load_checkpoint(folder / CHECKPOINT_FILE, training)
    if training.done:
        print(f"{folder} is complete: {run.settings.epochs} epochs")
    else:
        write_json(folder / CONFIG_FILE, config)
        _train(run, training)
    graph = training.graph(title(run.network, images))
    command = {"command": command_line(run, images)}
    graph = dataclasses.replace(graph, provenance={**graph.provenance, **command})
    weights = io.BytesIO()
    torch.save(module.state_dict(), weights)
    write_whole(folder / MODEL_FILE, weights.getvalue())
    save_graph(folder / PROFILE_FILE, graph)
    print_exits(graph)
    print(f"wrote {folder}/{PROFILE_FILE}, {MODEL_FILE}, {PROGRESS_FILE}")
    return graph


def build_network(name: str, images: Images) -> nn.Module:
    """The network of a run, for the images it is trained on.

    Args:
        name: A network of the zoo, or MODULE[:FACTORY] of the user's own.
        images: What it is to see.

    Raises:
        ValueError: There is no such network.
    """
    if name not in zoo.NETWORKS and (":" in name or name.endswith(".py")):
        return find_network(name)
    _, channels, height, _ = images.train.shape
    return zoo.build(name, images.classes, height, channels, exits=True)


def title(network: str, images: Images) -> str:
    """Name of the trained network: what it is, and the data."""
    place = network.partition(":")[0]
    return f"{Path(place).stem if place.endswith('.py') else place}-{images.name}"


def _train(run: ExitsRun, training: ExitTraining) -> None:
    folder, epochs = run.out, len(training.history)
    flag = StopFlag()
    # What a run that was killed wrote after its checkpoint will be written again.
    writer = SummaryWriter(str(folder), purge_step=epochs + 1 if run.resume else None)
    often = 0.2 if sys.stderr.isatty() else 10.0
    bar = tqdm(total=training.total_steps, initial=training.steps, unit="batch", mininterval=often)
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
                write_progress(folder / PROGRESS_FILE, training.history)
                if epochs % run.checkpoint_every == 0 and not training.done:
                    save_checkpoint(folder / CHECKPOINT_FILE, training)
            save_checkpoint(folder / CHECKPOINT_FILE, training)
    finally:
        bar.close()
        writer.close()
    if not training.done:
        raise Interrupted(HOW_TO_GO_ON)


def save_checkpoint(path: Path, training: ExitTraining) -> None:
    """Write everything the training consists of; resumed, it goes on bit for bit."""
    whole = io.BytesIO()
    torch.save(training.state(), whole)
    write_whole(path, whole.getvalue())


def load_checkpoint(path: Path, training: ExitTraining) -> None:
    """Read a checkpoint; only tensors and plain values are taken from it.

    Raises:
        ValueError: The file is truncated or damaged, or of another network.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            corrupt = archive.testzip()
        if corrupt is not None:
            raise zipfile.BadZipFile(f"{corrupt} is corrupt")
        training.restore(torch.load(path, weights_only=True))
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"checkpoint {path} is damaged ({reason}); begin the run anew") from error


def write_progress(path: Path, history: list[dict[str, float]]) -> None:
    """One line an epoch, from the first one, whether the run was resumed or not."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(path, text.getvalue())


def resolved(run: ExitsRun) -> dict[str, Any]:
    """A run's configuration as JSON."""
    config = dataclasses.asdict(run)
    # Where it lies and how it was called are no part of what it is.
    del config["out"], config["resume"]
    config["data"] = None if run.data is None else str(run.data)
    return config


def command_line(run: ExitsRun, images: Images) -> str:
    """The command that repeats a run, whatever the defaults may be by then."""
    words = ["mec-gym exits", f"--network {run.network}"]
    for field in dataclasses.fields(run.settings):
        value = getattr(run.settings, field.name)
        if isinstance(value, tuple):
            value = " ".join(f"{number:g}" for number in value)
        if value is not None:
            words.append(f"--{field.name.replace('_', '-')} {value}")
    words += [f"--seed {run.seed}", f"--threads {run.threads}"]
    # The folder is the user's own affair.
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
    Console().print(table)


def _summary(row: dict[str, float]) -> str:
    shares = [f"{100 * value:.1f}" for name, value in row.items() if "accuracy" in name]
    return f"epoch {row['epoch']:.0f}, test accuracy {' '.join(shares)} %"
