"""Redo what [Li2024] claims of multi-task A3C: less inference delay than A3C and than rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mec_gym.core.checks import positive_int
from train.config import ReproduceRun
from train.reproduce import Findings, Reproduction
from train.reproduce.distributed_inference.pictures import draw_curves, draw_delays
from train.reproduce.distributed_inference.study import (
    CLAIMED,
    LEARNERS,
    SCENARIOS,
    STEPS,
    Contest,
    Line,
    Point,
    Reduction,
    contests,
)
from train.reproduce.distributed_inference.tables import REMARK, agents_table, reductions_table

__all__ = [
    "CLAIMED",
    "LEARNERS",
    "REPRODUCTION",
    "SCENARIOS",
    "Contest",
    "DistributedInferenceRun",
    "Line",
    "Point",
    "Reduction",
    "contests",
]


@dataclass(frozen=True)
class DistributedInferenceRun(ReproduceRun):
    """Redo what [Li2024] claims of multi-task A3C: less inference delay than A3C and than rules.

    Attributes:
        steps: Environment steps that every learner is given (of flat networks, which are about
            ten times as fast, ten times as many); more steps mean better learners and more time.
    """

    steps: int = STEPS

    def __post_init__(self) -> None:
        positive_int("steps", self.steps)


def compute(run: DistributedInferenceRun) -> Findings:
    """All scenarios.

    Args:
        run: The options, of which ``steps`` counts.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the message says what had been done.
    """
    found = contests(run.steps)
    reductions = [row for contest in found.values() for row in contest.reductions]
    more: dict[str, Sequence[object]] = {
        "learning_curves.csv": [point for contest in found.values() for point in contest.points]
    }
    tables = [agents_table(contest) for contest in found.values()]
    if reductions:
        more["reductions.csv"] = reductions
        tables.append(reductions_table(reductions))
    return Findings(
        rows=[line for contest in found.values() for line in contest.lines],
        tables=tables,
        remark=REMARK,
        pictures={"learning_curves.png": draw_curves(found), "delays.png": draw_delays(found)},
        more=more,
    )


REPRODUCTION = Reproduction(
    run=DistributedInferenceRun,
    compute=compute,
    pictures=("learning_curves.png", "delays.png"),
    tables=("learning_curves.csv", "reductions.csv"),
)
"""What ``mec-gym reproduce distributed-inference`` does."""
