"""Microseconds per instance of the closed form, alone and in a batch."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Measure, Report, interleave, rate
from mec_gym import make_problem
from mec_gym.core import arrays
from mec_gym.training_offload.exact import SlotFrontier, episode_bound
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Slot

BATCH = 100_000
CHUNKS = (500, 10_000)
DRIVES = 1000
DRIVE_CHUNK = 20


def _problem(env_id: str) -> TrainingOffload:
    problem = make_problem(env_id)
    assert isinstance(problem, TrainingOffload)
    return problem


def _chunks(trace: Slot, size: int) -> list[Slot]:
    count = len(trace.work)
    return [arrays.at(trace, slice(k, k + size)) for k in range(0, count, size)]


def measure(seconds: float, repeats: int) -> Report:
    """Time of ``SlotFrontier(slot, scenario).best(limit)`` and of ``episode_bound``.

    Args:
        seconds: Wall time that one measurement takes at least.
        repeats: Measurements of each side.
    """
    rng = np.random.default_rng(0)
    paper = _problem("mec/TrainingOffloadPaper-v0")
    drive = _problem("mec/TrainingOffload-v0")
    slots = arrays.slot_at(paper.sample(rng, BATCH), 0)
    drives = drive.sample(rng, DRIVES)

    def best(count: int, chunk: int) -> Measure:
        parts = _chunks(arrays.at(slots, slice(count)), chunk)

        def solve() -> None:
            for part in parts:
                SlotFrontier(part, paper.scenario).best(paper.scenario.battery)

        return lambda: 1e6 / rate(solve, count, seconds)

    def bound(count: int, chunk: int) -> Measure:
        parts = _chunks(arrays.at(drives, slice(count)), chunk)

        def solve() -> None:
            for part in parts:
                episode_bound(part, drive.scenario)

        return lambda: 1e6 / rate(solve, count, seconds)

    optimum, lagrange = "optimum of a task (paper)", f"bound of a drive ({drive.horizon} tasks)"
    cases = {
        (optimum, 1, 1): best(1, 1),
        **{(optimum, BATCH, chunk): best(BATCH, chunk) for chunk in CHUNKS},
        (lagrange, 1, 1): bound(1, 1),
        (lagrange, DRIVES, DRIVE_CHUNK): bound(DRIVES, DRIVE_CHUNK),
    }
    found = interleave(cases, repeats)
    rows = [
        {
            "what": what,
            "batch": count,
            "in chunks of": chunk,
            "threads": 1,
            "us/instance": figures.median,
            "spread": figures.spread,
        }
        for (what, count, chunk), figures in found.items()
    ]
    return Report("Closed form", rows, [f"Medians of {repeats} interleaved runs, one thread."])
