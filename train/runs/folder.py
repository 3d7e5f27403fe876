"""The folder of a training run, which is begun once, interrupted at any time and resumed."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from agents.runs import CONFIG_FILE, head_config, head_parameters, read_config
from mec_gym.core.checks import reason_of
from mec_gym.core.files import write_whole
from train.files import refuse_used, write_json
from train.lock import locked

if TYPE_CHECKING:
    from stable_baselines3.common.logger import Logger

    from agents.heads import Head

PROGRESS_FILE = "progress.csv"
CHECKPOINTS = "checkpoints"
COMMON_FILES = (CONFIG_FILE, PROGRESS_FILE, CHECKPOINTS)
"""The names that every run writes in its folder."""
_ABOUT = "progress.json"
_FORMAT = 1
"""Version of what checkpoints hold; those of another version are refused."""
KEPT = 2
"""Number of checkpoints that stay; older ones are deleted."""


class Run(Protocol):
    """What the folder needs to know of a run, which is a dataclass of all its options."""

    @property
    def out(self) -> Path:
        """The folder."""
        ...

    @property
    def resume(self) -> bool:
        """Whether to go on with the run that is in the folder."""
        ...


def config_of(run: Run) -> dict[str, Any]:
    """Return the configuration of a run as it stands in its file."""
    config = dataclasses.asdict(run)  # type: ignore[call-overload]
    # Where a run lies and how it was called are no part of what it is.
    del config["out"], config["resume"]
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in config.items()
    }


@contextmanager
def opened(run: Run, files: Sequence[str], free: Sequence[str]) -> Iterator[Path | None]:
    """Hold the folder of a run in which the run may begin, or be resumed.

    Nothing is written in it before it is held, and no other process can hold it.

    Args:
        run: The options of the run.
        files: Names of the files that it will write.
        free: Names of the options that may change when it is resumed.

    Returns:
        The checkpoint to go on from; None to begin anew.

    Raises:
        ValueError: There is nothing to resume, the settings are not those that the run was begun
            with, or the folder is in use.
    """
    config_file = run.out / CONFIG_FILE
    if run.resume and not config_file.is_file():
        raise ValueError(f"out {run.out} holds no run to resume: {CONFIG_FILE} is missing")
    with locked(run.out):
        found: list[Path] = []
        if run.resume:
            _check_same(run.out, read_config(config_file), config_of(run), free)
            found = checkpoints(run.out)
            if not found:
                print(f"{run.out} holds no checkpoint: the run begins anew")
        else:
            refuse_used(run.out, files, "choose another folder or give --resume")
        yield found[-1] if found else None


def known_head(run: Run) -> dict[str, float] | None:
    """Return what the head found out when a run began; it is part of the run.

    Args:
        run: The options of the run, whose folder is open.

    Returns:
        The parameters of the head; None if the run begins now.

    Raises:
        ValueError: The configuration is damaged.
    """
    if not run.resume:
        return None
    return head_parameters(run.out, read_config(run.out / CONFIG_FILE))


def _check_same(
    folder: Path,
    began: Any,
    now: Mapping[str, Any],
    free: Sequence[str] = (),
    prefix: str = "",
) -> None:
    """Raise ValueError if a resumed run would differ from what it was begun as.

    Args:
        folder: The folder of the run.
        began: The configuration that the run was begun with, as config.json has it.
        now: The configuration that is asked for; one within it is compared value by value.
        free: Names that may change.
        prefix: Text before every name in the message.
    """
    now = json.loads(json.dumps(now))
    for name in sorted(set(now) - set(free)):
        was = began.get(name) if isinstance(began, dict) else None
        if isinstance(now[name], dict):
            _check_same(folder, was, now[name], prefix=f"{prefix}{name}.")
        elif now[name] != was:
            raise ValueError(
                f"{prefix}{name} must stay {was!r}, as the run in {folder} began, got {now[name]!r}"
            )


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a run, the oldest one first."""
    return sorted((folder / CHECKPOINTS).glob("step-*.zip"))


def write_checkpoint(
    folder: Path, steps: int, parts: Mapping[str, bytes], compress: bool = True
) -> None:
    """Write a checkpoint of a run, and delete the oldest ones.

    Args:
        folder: The folder of the run.
        steps: Number of steps that the run has made.
        parts: The contents of the checkpoint by name.
        compress: Whether it is worth compressing them.
    """
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr(_ABOUT, json.dumps({"format": _FORMAT, "num_timesteps": steps}))
    write_whole(folder / CHECKPOINTS / f"step-{steps:012d}.zip", whole.getvalue())
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink()


@contextmanager
def open_checkpoint(path: Path, names: Sequence[str]) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Give the number of steps and the parts of a checkpoint; errors in reading them name the file.

    Args:
        path: The file of the checkpoint.
        names: The names of the parts that it must hold.

    Raises:
        ValueError: The file is damaged, in whatever way, or was written by another version.
    """
    other_version = False
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("parts are corrupt")
            about = json.loads(archive.read(_ABOUT))
            other_version = about.get("format") != _FORMAT
            if other_version or set(archive.namelist()) != {*names, _ABOUT}:
                raise ValueError("parts are missing")
            parts = {name: archive.read(name) for name in names}
        steps = about["num_timesteps"]
        if type(steps) is not int or steps < 0:
            raise ValueError(f"num_timesteps is {steps!r}")
        yield steps, parts
    except PermissionError:
        raise
    # Damage shows in any error of any reader: zlib, LZMA, torch, numpy and our own code.
    except Exception as error:
        if other_version:
            raise ValueError(
                f"checkpoint {path} was written by another version; begin the run anew in "
                "another folder"
            ) from error
        others = [p.name for p in checkpoints(path.parents[1]) if p != path]
        way_out = f"go on from {others[-1]}" if others else "begin anew"
        raise ValueError(
            f"checkpoint {path} is damaged ({reason_of(error)}); delete it to {way_out}"
        ) from error


def start_log(run: Run, head: Head) -> Logger:
    """Write the configuration of a run that learns to act, and open its log.

    Args:
        run: The options of the run.
        head: The head, whose parameters and spaces are a part of the configuration.

    Returns:
        SB3's logger, which writes progress.csv and TensorBoard events.
    """
    from stable_baselines3.common.logger import configure

    from train.evaluation.tensorboard import record_configuration

    config = config_of(run) | head_config(head)
    write_json(run.out / CONFIG_FILE, config)
    progress = run.out / PROGRESS_FILE
    if progress.exists():  # of an earlier part of the run: SB3's logger begins the file anew
        part = len(list(run.out.glob("progress-*.csv"))) + 1
        progress.rename(run.out / f"progress-{part}.csv")
    logger = configure(str(run.out), ["csv", "tensorboard"])
    record_configuration(logger, config)
    return logger


def progress_bar(total: int, done: int, unit: str = "step") -> tqdm[Any]:
    """Make a bar over the whole run, what was done before a resume included.

    Args:
        total: Number of units of the whole run.
        done: Number of units that are done already.
        unit: Name of a unit.
    """
    # A log file is no terminal: a line every ten seconds will do.
    often = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, initial=done, unit=unit, unit_scale=True, mininterval=often)


def advance(bar: tqdm[Any], steps: int) -> None:
    """Move a bar to a number of steps; the last update may overshoot the total."""
    bar.update(min(steps, bar.total) - bar.n)


def print_end(run: Run, kind: str, model_file: str) -> None:
    """Say what a finished run has written, and how its agent is called.

    Args:
        run: The options of the run.
        kind: The kind of run in the names of agents.
        model_file: Name of the file of the model.
    """
    print(f"wrote {run.out / model_file}; play it with: mec-gym evaluate {kind}:{run.out}")
