"""What the speed of problems with real learning is measured by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import Measure, Report, interleave, rate
from mec_gym import MecVectorEnv
from mec_gym.core import arrays
from mec_gym.core.problem import AnyProblem

BATCHES = (1, 16, 64)
WARM_UP = 3  # the first steps of some protocols do more than later ones


def _steps(problem: AnyProblem, actions: npt.NDArray[Any], seconds: float) -> Measure:
    batch = actions.shape[1]
    env = MecVectorEnv(problem, batch)
    env.reset(seed=0)
    turn = 0

    def step() -> None:
        nonlocal turn
        env.step(actions[turn % len(actions)])
        turn += 1

    for _ in range(WARM_UP):
        step()
    return lambda: rate(step, batch, seconds)


def _reset(problem: AnyProblem, rng: np.random.Generator) -> None:
    slot = arrays.slot_at(problem.sample(rng, 1), 0)
    problem.observe(slot, problem.start(slot))


def measure_steps(
    title: str,
    sides: Mapping[str, tuple[AnyProblem, Mapping[int, npt.NDArray[Any]]]],
    seconds: float,
    repeats: int,
) -> Report:
    """Measure steps of vectors, and what a reset of the first side takes.

    Args:
        title: Text above the table.
        sides: By name, a problem, and actions (sets, B, ...) by the size B of the vector.
        seconds: Wall time that one measurement takes at least.
        repeats: Measurements of each side.
    """
    cases = {
        f"{name}, native vector of {batch}: steps/s": _steps(problem, each, seconds)
        for name, (problem, actions) in sides.items()
        for batch, each in actions.items()
    }
    first, _ = next(iter(sides.values()))
    reset = partial(_reset, first, np.random.default_rng(0))
    cases["reset of one environment: ms"] = lambda: 1e3 / rate(reset, 1, seconds)
    found = interleave(cases, repeats)
    rows = [
        {"what": what, "figure": figures.median, "spread": figures.spread}
        for what, figures in found.items()
    ]
    return Report(title, rows, [f"Medians of {repeats} interleaved runs, one core."])
