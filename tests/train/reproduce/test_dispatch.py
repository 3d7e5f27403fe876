"""Which source is redone, what is printed and written; the sources have tests of their own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from rich.table import Table

import train.reproduce
from mec_gym.core.pictures import new_figure
from train.config import ReproduceRun
from train.reproduce import SOURCES, Findings, reproduce


@dataclass(frozen=True)
class Row:
    name: str
    ours: float
    published: float | None


@pytest.fixture
def source(monkeypatch):
    """A source with one picture; yields the draws it was asked for."""
    asked = []

    def compute(run):
        asked.append(run.draws)
        table = Table(title="a table")
        table.add_column("column")
        table.add_row("cell")
        figure = new_figure(2, 1)
        figure.subplots().plot([1, 2])
        rows = [Row("a", 1.5, None), Row("b", 2.25, 0.1)]
        more = {"more.csv": rows[:1]}
        return Findings(rows, [table, table], "a remark", {"figure_9.png": figure}, more)

    fake = SimpleNamespace(PICTURES=("figure_9.png",), TABLES=("more.csv",), compute=compute)
    monkeypatch.setattr(train.reproduce, "import_module", lambda name: fake)
    return asked


def test_everything_is_printed_and_written(source, tmp_path, capsys):
    out = tmp_path / "deep" / "run"
    rows = reproduce(ReproduceRun("training-offload", out, draws=7))
    assert source == [7] and [row.name for row in rows] == ["a", "b"]
    printed = capsys.readouterr().out
    assert printed.count("a table") == 2 and "cell" in printed and "a remark" in printed
    files = "reproduction.json, reproduction.csv, more.csv, figure_9.png"
    assert printed.endswith(f"wrote {out}/{files}\n")
    with (out / "reproduction.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["name", "ours", "published"], ["a", "1.5", ""], ["b", "2.25", "0.1"]
        ]  # fmt: skip
    assert json.loads((out / "reproduction.json").read_text()) == [
        {"name": "a", "ours": 1.5, "published": None},
        {"name": "b", "ours": 2.25, "published": 0.1},
    ]
    assert (out / "figure_9.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "more.csv").read_text() == "name,ours,published\na,1.5,\n"
    assert len(list(out.iterdir())) == 4


@pytest.mark.parametrize(
    "name", ["reproduction.json", "reproduction.csv", "more.csv", "figure_9.png"]
)
def test_used_folder_is_refused_before_anything_is_computed(source, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=rf"already holds a run \({name}\): .* --overwrite"):
        reproduce(ReproduceRun("training-offload", tmp_path))
    assert source == [] and (tmp_path / name).read_text() == "mine"
    reproduce(ReproduceRun("training-offload", tmp_path, overwrite=True))
    assert (tmp_path / name).read_bytes() != b"mine"


def test_unknown_source(tmp_path):
    names = ", ".join(SOURCES)
    with pytest.raises(ValueError, match=f"what must be one of {names}, got 'seed'"):
        reproduce(ReproduceRun("seed", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_only_the_source_asked_for_is_loaded():
    """Loading a source costs time: its room, its solvers."""
    code = (
        "import sys, train.reproduce as r; print(*[s for s in r.SOURCES.values() if s in "
        "sys.modules], 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_sources_can_be_loaded():
    for name in SOURCES.values():
        module = train.reproduce.import_module(name)
        assert callable(module.compute) and all(p.endswith(".png") for p in module.PICTURES)
