"""Redo the published figures of a paper and hold ours against them.

What is redone lies in one package per problem, ``train.reproduce.<problem>``, all of one shape:

* ``README.md``: the paper, what is redone, what is ours, the command, results, and how to read
  them;
* ``study.py``: what is computed;
* ``tables.py``: what is printed of it;
* ``pictures.py``: what is drawn of it;
* ``__init__.py``: the public face, with ``REPRODUCTION``, a :class:`Reproduction`.

On the command line a package goes by its name with hyphens. What problems with real learning share
lies in ``train.reproduce.families``.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rich.console import Console
from rich.table import Table

from mec_gym.core.checks import one_of
from mec_gym.registration import ROOMS
from train.config import ReproduceRun
from train.files import refuse_used, write_csv, write_figure, write_json
from train.lock import locked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS, TABLE = "reproduction.json", "reproduction.csv"
WIDTH = 140  # characters per line where there is no terminal
KEPT = "played"
"""The folder within ``out`` in which what has been played may be kept until all is done."""


@dataclass(frozen=True)
class Findings:
    """What came of redoing a paper's figures.

    Attributes:
        rows: Ours beside the published: instances of one dataclass, a line of the files each.
        tables: The tables that are printed.
        remark: What a reader of the tables must know, in a few plain sentences.
        pictures: The figures that are written, by file name.
        more: Further rows that are written as CSV, by file name; under each name instances of
            one dataclass.
    """

    rows: Sequence[Any]
    tables: Sequence[Table]
    remark: str
    pictures: Mapping[str, Figure]
    more: Mapping[str, Sequence[Any]] = field(default_factory=dict)


R = TypeVar("R", bound=ReproduceRun)


@dataclass(frozen=True)
class Reproduction(Generic[R]):
    """How one paper's figures are redone.

    Attributes:
        run: The dataclass of its options, which is its command line.
        compute: The function that computes everything, given the options.
        pictures: The names of the pictures that it draws.
        tables: The names of the CSV files that it may write beside ``reproduction.csv``.
    """

    run: type[R]
    compute: Callable[[R], Findings]
    pictures: tuple[str, ...]
    tables: tuple[str, ...] = ()


def names() -> tuple[str, ...]:
    """What can be redone, as it is called on the command line; nothing of it is loaded."""
    return tuple(room.replace("_", "-") for room in ROOMS if find_spec(f"{__name__}.{room}"))


def load(name: str) -> Reproduction[Any]:
    """Load one reproduction, and no other.

    Args:
        name: One of :func:`names`.

    Raises:
        ValueError: The name is unknown.
    """
    one_of("what", name, names())
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    found: Reproduction[Any] = module.REPRODUCTION
    return found


def reproduce(reproduction: Reproduction[R], run: R) -> list[Any]:
    """Compute, write and print everything.

    Args:
        reproduction: What is redone.
        run: The options, an instance of ``reproduction.run``.

    Returns:
        The rows that are written to ``reproduction.json``.

    Raises:
        ValueError: The folder already holds results, or is in use.
    """
    with locked(run.out):
        if not run.overwrite:
            files = (RESULTS, TABLE, *reproduction.tables, *reproduction.pictures)
            refuse_used(run.out, files, "choose another folder or give --overwrite")
        found = reproduction.compute(run)
        for name, figure in found.pictures.items():
            write_figure(run.out / name, figure)
        for name, rows in {**found.more, TABLE: found.rows}.items():
            write_csv(run.out / name, [dataclasses.asdict(row) for row in rows])
        write_json(run.out / RESULTS, [dataclasses.asdict(row) for row in found.rows])
        shutil.rmtree(run.out / KEPT, ignore_errors=True)
    # Only now: whoever reads may stop at any line.
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for table in found.tables:
        console.print(table)
    console.print(found.remark)
    print(f"wrote {run.out}/" + ", ".join([RESULTS, TABLE, *found.more, *found.pictures]))
    return list(found.rows)
