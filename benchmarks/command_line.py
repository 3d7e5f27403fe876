"""CPU time of the commands of ``mec-gym`` that only print something."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measure import Measure, Report, interleave

COMMANDS = {
    "an empty Python": ["-c", ""],
    "import gymnasium": ["-c", "import gymnasium"],
    "import mec_gym": ["-c", "import mec_gym"],
    "mec-gym --help": ["-m", "train", "--help"],
    "mec-gym scenarios": ["-m", "train", "scenarios"],
}
RUNS = 5


def _cpu_seconds(words: list[str]) -> Measure:
    def run() -> float:
        before = os.times()
        for _ in range(RUNS):
            subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        spent = after.children_user - before.children_user
        return (spent + after.children_system - before.children_system) / RUNS

    return run


def measure(seconds: float, repeats: int) -> Report:
    """Measure the CPU time per call, user and system, s.

    Args:
        seconds: Not used, because a measurement is a few calls.
        repeats: Number of measurements of each side.
    """
    found = interleave({name: _cpu_seconds(words) for name, words in COMMANDS.items()}, repeats)
    rows = [
        {"what": name, "CPU s": figures.median, "spread": figures.spread}
        for name, figures in found.items()
    ]
    return Report("Command line", rows, [f"Medians of {repeats} times {RUNS} calls."])
