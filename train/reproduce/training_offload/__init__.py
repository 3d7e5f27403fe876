"""Redo figures 4 to 6 of [Chen2025] under each reading of its equation (11)."""

from __future__ import annotations

from dataclasses import dataclass

from mec_gym.core.checks import positive_int
from train.config import ReproduceRun
from train.reproduce import Findings, Reproduction
from train.reproduce.training_offload.pictures import draw
from train.reproduce.training_offload.study import (
    DRAWS,
    FIGURES,
    READINGS,
    SCHEMES,
    Curves,
    Reduction,
    all_curves,
    curves,
    delays,
    paper_slot,
    reductions,
)
from train.reproduce.training_offload.tables import REMARK, reductions_table

__all__ = [
    "FIGURES",
    "READINGS",
    "REPRODUCTION",
    "SCHEMES",
    "Curves",
    "Reduction",
    "TrainingOffloadRun",
    "curves",
    "delays",
    "draw",
    "paper_slot",
]


@dataclass(frozen=True)
class TrainingOffloadRun(ReproduceRun):
    """Redo figures 4 to 6 of [Chen2025]: mean delays of splits over device, edge and cloud.

    Attributes:
        draws: How many random tasks, or random splits, stand behind every mean; more draws mean
            less noise and more time.
    """

    draws: int = DRAWS

    def __post_init__(self) -> None:
        positive_int("draws", self.draws)


def compute(run: TrainingOffloadRun) -> Findings:
    """All three figures under all variants.

    Args:
        run: The options, of which ``draws`` counts.
    """
    found = all_curves(run.draws)
    return Findings(
        rows=reductions(found),
        tables=[reductions_table(found)],
        remark=REMARK,
        pictures={f"figure_{number}.png": draw(number, of) for number, of in found.items()},
    )


REPRODUCTION = Reproduction(
    run=TrainingOffloadRun,
    compute=compute,
    pictures=tuple(f"figure_{number}.png" for number in FIGURES),
)
"""What ``mec-gym reproduce training-offload`` does."""
