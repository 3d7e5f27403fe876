"""Tables on the console."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

Column = tuple[str, Sequence[str]]
"""Heading of a column, and what stands below it in each row."""
_BETWEEN = 3
"""Characters that rich puts between two columns: a line, and a blank on either side of it."""


def _console() -> Console:
    """The console; where the output is no terminal, it is 160 columns wide."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def show_table(table: Table) -> None:
    """Print a table."""
    _console().print(table)


def show_rows(title: str, names: Column, columns: Sequence[Column]) -> None:
    """Print a table of numbers whose rows have names; no number is cut.

    Where there is no room for all columns, headings are broken into their words. Columns for
    which there is no room even so follow in a table below, where the names stand again.

    Args:
        title: Text above the table.
        names: The first column.
        columns: All others.
    """
    console = _console()
    for widths in (
        [_width(c, [c[0]]) for c in columns],
        [_width(c, c[0].split()) for c in columns],
    ):
        groups = _groups(widths, console.width - 1 - _BETWEEN - _width(names, [names[0]]))
        if len(groups) == 1:
            break
    for group in groups:
        table = Table(title=title if group is groups[0] else None)
        table.add_column(names[0], width=_width(names, [names[0]]))
        for k in group:
            table.add_column(columns[k][0], justify="right", width=widths[k])
        for row, name in enumerate(names[1]):
            table.add_row(name, *(columns[k][1][row] for k in group))
        console.print(table)


def _width(column: Column, heading: Sequence[str]) -> int:
    """The characters that a column needs whose heading is broken into such lines."""
    return max(map(len, (*heading, *column[1])))


def _groups(widths: Sequence[int], room: int) -> list[list[int]]:
    """Which columns stand beside each other, by number, where there is such room for them."""
    groups: list[list[int]] = []
    free = 0
    for k, width in enumerate(widths):
        if width + _BETWEEN > free:
            groups.append([])
            free = room
        groups[-1].append(k)
        free -= width + _BETWEEN
    return groups
