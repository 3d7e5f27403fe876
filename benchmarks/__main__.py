"""``python -m benchmarks`` prints one table per part; see ``--help``.

A part is a module of this package with a function ``measure(seconds, repeats) -> Report``. Those
that concern one problem lie in a folder of its name and are called by it: a folder's name
means all of its parts.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from benchmarks.measure import Report

HERE = Path(__file__).parent
ON_DEMAND = ("execution", "learning", "distributed_inference.learning")
"""Parts that take long or want an idle machine; they have to be asked for by their whole name."""


def parts() -> tuple[str, ...]:
    """List every part, as ``module`` or ``problem.module``."""
    tools = {"__init__", "__main__", "measure", "real_learning"}
    found = [path.relative_to(HERE) for path in sorted(HERE.rglob("*.py"))]
    return tuple(".".join(path.with_suffix("").parts) for path in found if path.stem not in tools)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Measure; the sides of every table are measured in turn within this run.

    Attributes:
        parts: Names of the parts, which are modules or folders; by default all parts that take
            minutes.
        seconds: Least wall time per measurement, s.
        repeats: Number of measurements of each side; their median is reported.
        out: JSON file for the figures.
    """

    parts: tuple[str, ...] = ()
    seconds: float = 2.0
    repeats: int = 3
    out: Path | None = None

    def chosen(self) -> tuple[str, ...]:
        """Return the parts that are meant.

        Raises:
            ValueError: There is no such part.
        """
        if not self.parts:
            return tuple(part for part in parts() if part not in ON_DEMAND)
        found: list[str] = []
        for name in self.parts:
            inside = [p for p in parts() if p.startswith(f"{name}.") and p not in ON_DEMAND]
            if name not in parts() and not inside:
                raise ValueError(f"parts must be among {', '.join(parts())}, got {name!r}")
            found += inside or [name]
        return tuple(dict.fromkeys(found))


def main() -> None:
    """Measure what the command line asks for."""
    args = tyro.cli(Benchmark, prog="python -m benchmarks")
    try:
        chosen = args.chosen()
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    console = Console(width=None if os.isatty(1) else 220)
    reports: dict[str, Report] = {}
    for part in chosen:
        # Loaded only now: torch takes seconds.
        measure = importlib.import_module(f"benchmarks.{part}").measure
        reports[part] = measure(args.seconds, args.repeats)
        reports[part].show(console)
        if args.out is not None:  # after each part, so that what is stopped keeps the others
            _write(args.out, reports)


def _write(path: Path, reports: Mapping[str, Report]) -> None:
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    found = {name: dataclasses.asdict(report) for name, report in reports.items()}
    path.write_text(json.dumps({"machine": machine, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
