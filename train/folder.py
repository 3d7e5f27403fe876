"""The folder of a training run: begun once, interrupted at any time, resumed."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.runs import CONFIG_FILE, read_config
from mec_gym.core.files import write_whole
from train.config import TrainRun
from train.files import check_same, refuse_used

KEPT = 2
FREE = ("total_timesteps", "eval_every", "eval_episodes", "checkpoint_every")
"""What may change when a run is resumed."""


def resolved(run: TrainRun[Any]) -> dict[str, Any]:
    """A run's configuration as JSON."""
    config = dataclasses.asdict(run)
    # Where it lies and how it was called are no part of what it is.
    del config["out"], config["resume"]
    return config


def begin(run: TrainRun[Any], files: Sequence[str]) -> Path | None:
    """See whether a run may begin, or be resumed, in its folder.

    Args:
        run: What is asked for.
        files: What it will write.

    Returns:
        The checkpoint to go on from, if there is one.

    Raises:
        ValueError: Nothing to resume, other settings than the run was begun with, or a folder
            in use.
    """
    if not run.resume:
        refuse_used(run.out, files, "choose another folder or give --resume")
        return None
    config_file = run.out / CONFIG_FILE
    if not config_file.is_file():
        raise ValueError(f"out {run.out} holds no run to resume: {CONFIG_FILE} is missing")
    check_same(run.out, read_config(config_file), resolved(run), FREE)
    found = checkpoints(run.out)
    if not found:
        print(f"{run.out} holds no checkpoint: the run begins anew")
    return found[-1] if found else None


def checkpoints(folder: Path) -> list[Path]:
    """A run's checkpoints, oldest first."""
    return sorted((folder / "checkpoints").glob("step-*.zip"))


def write_checkpoint(
    folder: Path, steps: int, parts: Mapping[str, bytes], compress: bool = True
) -> None:
    """Write a checkpoint of a run that has played so many steps; the oldest ones go."""
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr("progress.json", json.dumps({"num_timesteps": steps}))
    write_whole(folder / "checkpoints" / f"step-{steps:012d}.zip", whole.getvalue())
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()


@contextmanager
def opened(path: Path, names: Sequence[str]) -> Iterator[dict[str, bytes]]:
    """The parts of a checkpoint by name; errors in reading them say what is damaged.

    Raises:
        ValueError: The file is truncated or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if set(archive.namelist()) != {*names, "progress.json"} or archive.testzip():
                raise zipfile.BadZipFile("parts are missing or corrupt")
            parts = {name: archive.read(name) for name in archive.namelist()}
        yield parts
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, OSError) as error:
        others = [p.name for p in sorted(path.parent.glob("step-*.zip")) if p != path]
        hint = f"; delete it to go on from {others[-1]}" if others else ""
        raise ValueError(f"checkpoint {path} is damaged ({error}){hint}") from error


def set_progress_aside(folder: Path) -> None:
    """Keep the CSV of an earlier part of the run: SB3's logger begins the file anew."""
    progress = folder / "progress.csv"
    if progress.exists():
        part = len(list(folder.glob("progress-*.csv"))) + 1
        progress.rename(folder / f"progress-{part}.csv")


def progress_bar(total: int, steps: int) -> tqdm[Any]:
    """A bar over the whole run, parts before a resume included."""
    # A log file is no terminal: a line every ten seconds will do.
    often = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, initial=steps, unit="step", unit_scale=True, mininterval=often)


def advance(bar: tqdm[Any], steps: int) -> None:
    """Move a bar to so many steps; the last update may overshoot the total."""
    bar.update(min(steps, bar.total) - bar.n)
