"""Where the time of a step goes: drawing, physics, spaces and adapter."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median_low
from typing import Any

from benchmarks.environments import IDS, single_step, vector_step
from benchmarks.measure import Report, Row, interleave, rate
from mec_gym import make_problem
from mec_gym.core.env import MecEnv
from mec_gym.core.problem import AnyProblem
from mec_gym.core.vector_env import MecVectorEnv

BATCHES = (1, 16, 256)  # 1 is the single environment
PARTS = {
    "drawing": ("sample",),
    "physics": ("step", "reward", "done"),
    "spaces": ("observe", "decision", "start"),
}
"""The methods of a problem that belong to each part; everything else is the adapter."""


class _Clocked:
    """A problem that adds up the time that its methods take.

    Attributes:
        seconds: The time by part, s.
    """

    def __init__(self, problem: AnyProblem) -> None:
        self._problem = problem
        self.seconds = dict.fromkeys(PARTS, 0.0)
        for part, names in PARTS.items():
            for name in names:
                setattr(self, name, self._clocked(part, getattr(problem, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def _clocked(self, part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            result = method(*args)
            self.seconds[part] += time.perf_counter() - begin
            return result

        return call


class _Side:
    """Steps an environment and tells the microseconds per step of each part.

    Attributes:
        parts: The microseconds by part, one number per measurement.
    """

    def __init__(self, env_id: str, batch: int, seconds: float) -> None:
        self.parts: dict[str, list[float]] = {part: [] for part in (*PARTS, "adapter")}
        self._seconds = seconds
        self._batch = batch
        self._clock = problem = _Clocked(make_problem(env_id))
        # Episodes are drawn so many steps ahead; whole multiples hold their share of drawing.
        self._cycle = problem.episodes_ahead * problem.horizon
        if batch == 1:
            self._step = single_step(MecEnv(problem))  # type: ignore[arg-type]
        else:
            self._step = vector_step(MecVectorEnv(problem, batch))  # type: ignore[arg-type]

    def __call__(self) -> float:
        """Measure once, and return the microseconds per step of all parts together."""
        steps = 0

        def step() -> None:
            nonlocal steps
            self._step()
            steps += self._batch

        self._clock.seconds.update(dict.fromkeys(PARTS, 0.0))
        whole = 1e6 / rate(step, self._batch, self._seconds, self._cycle)
        spent = {part: 1e6 * s / steps for part, s in self._clock.seconds.items()}
        spent["adapter"] = whole - sum(spent.values())
        for part, figure in spent.items():
            self.parts[part].append(figure)
        return whole


def measure(seconds: float, repeats: int) -> Report:
    """Measure the microseconds per step and environment that each part takes.

    Args:
        seconds: Least wall time per measurement, s; it also holds a drawing of new episodes.
        repeats: Number of measurements of each side.
    """
    sides = {(env_id, batch): _Side(env_id, batch, seconds) for env_id in IDS for batch in BATCHES}
    found = interleave(sides, repeats)
    rows: list[Row] = []
    for (env_id, batch), figures in found.items():
        row: Row = {"environment": env_id, "batch": batch}
        # All figures of a row are of one measurement, so that they add up.
        of_median = figures.values.index(median_low(figures.values))
        for part, values in sides[env_id, batch].parts.items():
            row[f"{part}, us"] = values[of_median]
        rows.append(row | {"whole, us": figures.values[of_median], "spread": figures.spread})
    notes = [
        f"Medians of {repeats} interleaved runs, microseconds per step of one environment.",
        "Physics is what becomes of a decision, and its reward; spaces are observations and "
        "decisions; the adapter is the rest: checks, slots, infos, resets, and the clock itself.",
    ]
    return Report("Where the time of a step goes", rows, notes)
