"""``python -m benchmarks``: one table a part; see ``--help``."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tyro
from rich.console import Console

from benchmarks.measure import Report

Part = Literal[
    "environments", "exact", "sparrow", "early_exit", "ppo", "distributed_inference", "learning"
]


@dataclass(frozen=True)
class Benchmark:
    """Measure; every table's sides are measured in turn within this run.

    Attributes:
        parts: Which tables; ``learning`` takes an hour and has to be asked for.
        seconds: Wall time of one measurement, at least.
        repeats: Measurements of each side; the median is reported.
        out: JSON file for the figures.
    """

    parts: tuple[Part, ...] = tuple(part for part in get_args(Part) if part != "learning")
    seconds: float = 2.0
    repeats: int = 3
    out: Path | None = None


def main() -> None:
    """Measure what the command line asks for."""
    args = tyro.cli(Benchmark, prog="python -m benchmarks")
    console = Console(width=None if os.isatty(1) else 220)
    reports: dict[str, Report] = {}
    for part in args.parts:
        # Each part is the function of its module's name; torch is loaded only if needed.
        run = getattr(importlib.import_module(f"benchmarks.{part}"), part)
        reports[part] = run(args.seconds, args.repeats)
        reports[part].show(console)
    if args.out is not None:
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        parts = {name: dataclasses.asdict(report) for name, report in reports.items()}
        args.out.write_text(json.dumps({"machine": machine, **parts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
