"""Redo the published figures of a source and hold ours against them."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mec_gym.core.checks import one_of
from mec_gym.core.files import write_whole
from train.config import ReproduceRun
from train.files import refuse_used, write_figure, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCES = {
    "training-offload": "train.reproduce.training_offload",
    "early-exit": "train.reproduce.early_exit",
    "distributed-inference": "train.reproduce.distributed_inference",
}
"""Where each source is redone: a module with ``PICTURES``, the names of the pictures it draws,
``TABLES``, those of the tables beside ``reproduction.csv``, and ``compute(run)``, which returns
Findings."""

RESULTS, TABLE = "reproduction.json", "reproduction.csv"
WIDTH = 140  # characters a line where there is no terminal


@dataclass(frozen=True)
class Findings:
    """What came of redoing a source.

    Attributes:
        rows: Ours beside the published, instances of one dataclass; a line each.
        tables: What is printed of them.
        remark: What a reader must know, in plain words.
        pictures: Figures by file name.
        more: Further rows by file name, each instances of one dataclass.
    """

    rows: Sequence[Any]
    tables: Sequence[Table]
    remark: str
    pictures: Mapping[str, Figure]
    more: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def reproduce(run: ReproduceRun) -> list[Any]:
    """Compute, print, write and draw everything. Only the source asked for is loaded.

    Returns:
        What is written to ``reproduction.json``.

    Raises:
        ValueError: An unknown source, or a folder that already holds results.
    """
    one_of("what", run.what, tuple(SOURCES))
    source = import_module(SOURCES[run.what])
    if not run.overwrite:
        names = (RESULTS, TABLE, *source.TABLES, *source.PICTURES)
        refuse_used(run.out, names, "choose another folder or give --overwrite")
    found: Findings = source.compute(run)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for table in found.tables:
        console.print(table)
    console.print(found.remark)

    for name, figure in found.pictures.items():
        write_figure(run.out / name, figure)
    for name, rows in {**found.more, TABLE: found.rows}.items():
        write_csv(run.out / name, rows)
    write_json(run.out / RESULTS, [dataclasses.asdict(row) for row in found.rows])
    print(f"wrote {run.out}/" + ", ".join([RESULTS, TABLE, *found.more, *found.pictures]))
    return list(found.rows)


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """Rows, instances of one dataclass, a line each."""
    text = io.StringIO()
    records = [dataclasses.asdict(row) for row in rows]
    writer = csv.DictWriter(text, records[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_whole(path, text.getvalue())
