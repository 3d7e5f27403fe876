"""Tables on the console, in terminals of any width."""

import re

import pytest

from train.console import show_rows

NAMES = ("agent", ["one", "another-with-a-long-name"])
COLUMNS = [
    ("return minus the first's", ["+0.19 [+0.167, +0.212]", ""]),
    ("gap %", ["16.9 ± 0.8", "1.27e+03 ± 1.3e+03"]),
    *((f"delay caused by number {k}", [f"{k}.125", f"{k}0.0625"]) for k in range(9)),
]


def shown(capsys, monkeypatch, width):
    """The lines of the tables in a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    show_rows("a title", NAMES, COLUMNS)
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize(("width", "tables"), [(60, 5), (100, 2), (150, 2), (320, 1)])
def test_no_number_is_cut(capsys, monkeypatch, width, tables):
    lines = shown(capsys, monkeypatch, width)
    assert max(map(len, lines)) <= width
    rows = [re.split("[│┃]", line) for line in lines if line[0] in "│┃"]
    assert all(row[0] == row[-1] == "" for row in rows)
    cells = [cell.strip() for row in rows for cell in row]
    for _, column in COLUMNS:
        assert all(text in cells for text in column)
    assert all(cells.count(name) == tables for name in NAMES[1])
    # Headings are broken only where they have to be.
    words = cells if tables == 1 else " ".join(cells).split()
    for heading, _ in COLUMNS:
        assert all(word in words for word in ([heading] if tables == 1 else heading.split()))
    assert sum("a title" in line for line in lines) == 1


def test_what_is_no_terminal_has_160_columns(capsys):
    show_rows("a title", NAMES, COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert 120 < max(map(len, lines)) <= 160
