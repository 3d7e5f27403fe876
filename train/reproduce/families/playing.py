"""Many protocols are played by some processes, and what is done is kept until all is."""

from __future__ import annotations

import hashlib
import inspect
import io
import signal
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

import agents
import mec_gym
from mec_gym.core.checks import positive_int
from mec_gym.core.files import write_whole
from train.config import ReproduceRun
from train.reproduce import KEPT

C = TypeVar("C")
P = TypeVar("P")


@dataclass(frozen=True)
class WorldsRun(ReproduceRun):
    """Redo something in several worlds.

    Attributes:
        worlds: The number of worlds that every protocol is played in, at least 2; the time grows
            with it.
        workers: The number of processes.
    """

    worlds: int = 8
    workers: int = 2

    def __post_init__(self) -> None:
        positive_int("worlds", self.worlds)
        if self.worlds < 2:
            raise ValueError("worlds must be at least 2, because intervals are over worlds, got 1")
        positive_int("workers", self.workers)


def play_all(
    cases: Mapping[str, C],
    play: Callable[[C, int], P],
    played_type: type[P],
    run: WorldsRun,
) -> dict[str, P]:
    """Play all protocols in the same worlds.

    What has been played is kept in a folder within ``run.out``. Who stops and begins again with
    the same number of worlds goes on from there, unless the code has changed.

    Args:
        cases: The protocols by name; what is kept goes by how they are printed.
        play: Function that plays a protocol in so many worlds.
        played_type: The type of what comes of it, a dataclass of arrays.
        run: The options. What comes out does not depend on the number of processes.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the message says what had been done.
    """
    folder = run.out / KEPT
    code = _code(play)
    files = {name: folder / f"{_key(case, run.worlds, code)}.npz" for name, case in cases.items()}
    found = {name: _read(file, played_type) for name, file in files.items() if file.exists()}
    done = {name: played for name, played in found.items() if played is not None}
    missing = {name: case for name, case in cases.items() if name not in done}
    bar = tqdm(total=len(cases), initial=len(done), desc="protocols", leave=False, disable=None)

    def keep(name: str, played: P) -> None:
        done[name] = played
        _write(files[name], played)
        bar.update()

    try:
        with bar:
            if run.workers == 1:
                for name, case in missing.items():
                    keep(name, play(case, run.worlds))
            else:
                _by_workers(missing, play, run, keep)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(done)} of {len(cases)} protocols were played; the same command goes on"
        ) from None
    return {name: done[name] for name in cases}


def _by_workers(
    cases: Mapping[str, C],
    play: Callable[[C, int], P],
    run: WorldsRun,
    keep: Callable[[str, P], None],
) -> None:
    pool = ProcessPoolExecutor(
        run.workers,
        mp_context=get_context("spawn"),
        # Ctrl-C ends a worker without a word of its own.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        jobs = {pool.submit(play, case, run.worlds): name for name, case in cases.items()}
        for job in as_completed(jobs):
            keep(jobs[job], job.result())
    finally:
        pool.shutdown(cancel_futures=True)


def _key(case: Any, worlds: int, code: str) -> str:
    return hashlib.sha256(f"{code} {worlds} {case!r}".encode()).hexdigest()[:20]


def _code(play: Callable[..., Any]) -> str:
    """Say by which code is played, so that nothing is kept that another version has played."""
    found = hashlib.sha256(Path(inspect.getfile(play)).read_bytes())
    for package in (mec_gym, agents):
        folder = Path(str(package.__file__)).parent
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".json")):
            found.update(path.read_bytes())
    return found.hexdigest()


def _write(path: Path, played: Any) -> None:
    content = io.BytesIO()
    np.savez(content, **{f.name: getattr(played, f.name) for f in fields(played)})
    write_whole(path, content.getvalue())


def _read(path: Path, played_type: type[P]) -> P | None:
    """Read what is kept; None if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return played_type(**content)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        return None
