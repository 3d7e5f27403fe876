"""Which figures are redone, what is printed and written, and that all have one shape."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.table import Table

import train.reproduce
from mec_gym.core.pictures import new_figure
from mec_gym.registration import ROOMS
from train.__main__ import main
from train.config import ReproduceRun
from train.reproduce import Findings, Reproduction, load, names, reproduce

FOLDER = Path(train.reproduce.__file__).parent
HEADINGS = [
    "Paper",
    "What is redone",
    "What is ours because the source does not print it",
    "Hardware and time",
    "Command",
    "Results",
    "Reading",
]


@dataclass(frozen=True)
class Row:
    name: str
    ours: float
    published: float | None


@dataclass(frozen=True)
class FakeRun(ReproduceRun):
    draws: int = 3


@pytest.fixture
def asked():
    """The draws that the fake was asked for."""
    return []


@pytest.fixture
def fake(asked):
    """A reproduction with one picture and one further table."""

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

    return Reproduction(FakeRun, compute, ("figure_9.png",), ("more.csv",))


def test_everything_is_printed_and_written(fake, asked, tmp_path, capsys):
    out = tmp_path / "deep" / "run"
    rows = reproduce(fake, FakeRun(out, draws=7))
    assert asked == [7] and [row.name for row in rows] == ["a", "b"]
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
def test_used_folder_is_refused_before_anything_is_computed(fake, asked, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=rf"\({name}\): .* --overwrite"):
        reproduce(fake, FakeRun(tmp_path))
    assert asked == [] and (tmp_path / name).read_text() == "mine"
    reproduce(fake, FakeRun(tmp_path, overwrite=True))
    assert asked == [3] and (tmp_path / name).read_bytes() != b"mine"


def test_unknown_names_are_told_what_there_is(tmp_path, capsys):
    assert names() == (
        "training-offload",
        "early-exit",
        "distributed-inference",
        "pipeline-training",
        "federated-training",
        "gossip-training",
    )
    with pytest.raises(ValueError, match=rf"what.*{', '.join(names())}.*'seed'"):
        load("seed")
    for name in ("seed", "training_offload", "--out"):
        assert main(["reproduce", name, "--out", str(tmp_path / "run")]) == 2
        assert name in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_help_without_a_name_lists_the_names(capsys):
    for args, status in ((["--help"], 0), (["-h"], 0), ([], 2)):
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", *args])
        assert stop.value.code == status
        text = capsys.readouterr().out
        assert all(name in text for name in names())


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("training-offload", "--draws"),
        ("early-exit", None),
        ("distributed-inference", "--steps"),
        ("federated-training", "--worlds"),
        ("gossip-training", "--worlds"),
    ],
)
def test_each_has_only_options_of_its_own(name, option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--out" in text and "--overwrite" in text
    others = ("--draws", "--steps", "--worlds")
    assert {o for o in others if o in text} == ({option} if option else set())


@pytest.mark.parametrize(
    ("name", "option"), [("training-offload", "draws"), ("distributed-inference", "steps")]
)
def test_bad_numbers_are_refused(name, option, tmp_path):
    with pytest.raises(ValueError, match=rf"{option}.*0"):
        load(name).run(tmp_path, **{option: 0})


def test_only_what_is_asked_for_is_loaded():
    """Loading a reproduction costs time: its environment, its solvers."""
    code = (
        "import sys, train.reproduce as r; r.names(); "
        f"print(*[m for m in {ROOMS} if 'train.reproduce.' + m in sys.modules], "
        "'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize("name", names())
def test_all_have_one_shape(name):
    found = load(name)
    assert issubclass(found.run, ReproduceRun) and callable(found.compute)
    assert found.pictures and all(file.endswith(".png") for file in found.pictures)
    assert all(file.endswith(".csv") for file in found.tables)
    folder = FOLDER / name.replace("-", "_")
    files = {path.name for path in folder.iterdir()}
    assert {"README.md", "__init__.py", "study.py", "tables.py", "pictures.py"} <= files
    readme = (folder / "README.md").read_text()
    lines = readme.splitlines()
    assert [line[3:] for line in lines if line.startswith("## ")] == HEADINGS
    assert f"mec-gym reproduce {name} --out" in readme
