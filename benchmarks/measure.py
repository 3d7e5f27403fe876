"""The timing that all sides share, and the table that a part of the benchmarks returns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

Side = TypeVar("Side")
Row = dict[str, Any]
Measure = Callable[[], float]
"""A function that does some work and returns its figure, say steps per second."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one part of the benchmarks found.

    Attributes:
        title: Text above the table, in one line.
        rows: The rows of the table; all of them have the same keys.
        notes: Lines that say what was compared with what, and which side is favoured by it.
    """

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()

    def show(self, console: Console) -> None:
        """Print the table and its notes."""
        table = Table(title=self.title, title_justify="left")
        for key, value in self.rows[0].items():
            table.add_column(key, justify="left" if isinstance(value, str) else "right")
        for row in self.rows:
            table.add_row(*[_text(value) for value in row.values()])
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
        console.print()


@dataclass(frozen=True, slots=True)
class Figures:
    """Repeated measurements of one side.

    Attributes:
        values: The figures, in the order in which they were measured.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the figures, which is reported."""
        return median(self.values)

    @property
    def spread(self) -> str:
        """The smallest and the largest figure, relative to the median."""
        low, high = min(self.values) / self.median, max(self.values) / self.median
        return f"{low:.2f}-{high:.2f}"


def interleave(sides: Mapping[Side, Measure], repeats: int) -> dict[Side, Figures]:
    """Measure all sides in turn, A B C A B C ...: a slow spell of the machine hits all."""
    found: dict[Side, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            found[name].append(measure())
    return {name: Figures(tuple(values)) for name, values in found.items()}


def rate(
    work: Callable[[], object], units: int, seconds: float, cycle: int = 1, cycles: int = 1
) -> float:
    """Call a function over and over, and return how many units of work it does per second.

    Args:
        work: The function.
        units: Number of units of work per call.
        seconds: Least wall time to spend, s.
        cycle: Calls are made in whole multiples of this number, so that what happens only once
            in so many calls gets its fair share.
        cycles: Least number of such multiples.
    """
    calls = done = 0
    begin = time.perf_counter()
    while True:
        for _ in range(cycle):
            work()
        calls += cycle
        done += 1
        elapsed = time.perf_counter() - begin
        if done >= cycles and elapsed >= seconds:
            return calls * units / elapsed


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has had, s (Linux only)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = after_name[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def peak_gib() -> float:
    """Return the peak resident memory of this process, GiB (Linux only).

    Unlike ``ru_maxrss`` it does not include what the process had before exec.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**20
    raise OSError("/proc/self/status does not tell VmHWM")


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
