"""Redo [Huang2019]'s bubble and [Harlap2018]'s plans for VGG16, and show what pipelines cost."""

from __future__ import annotations

from dataclasses import dataclass

from mec_gym.core.checks import positive_int
from train.config import ReproduceRun
from train.reproduce import Findings, Reproduction
from train.reproduce.pipeline_training import pictures, study, tables
from train.reproduce.pipeline_training.study import Comparison

__all__ = ["REPRODUCTION", "Comparison", "PipelineTrainingRun"]


@dataclass(frozen=True)
class PipelineTrainingRun(ReproduceRun):
    """Redo [Huang2019]'s bubble and [Harlap2018]'s plans for VGG16, and show what pipelines cost.

    Attributes:
        seeds: The number of runs of the learning with stale weights, of each variant; they take
            most of the time.
    """

    seeds: int = 5

    def __post_init__(self) -> None:
        positive_int("seeds", self.seeds)


def compute(run: PipelineTrainingRun) -> Findings:
    """All tables and pictures.

    Args:
        run: The options, of which ``seeds`` counts.
    """
    bubble, scheduled, plans = study.bubbles(), study.schedules(), study.planned()
    fleet, stale = study.fleet_times(), study.staleness(run.seeds)
    return Findings(
        rows=study.comparisons(bubble, plans),
        tables=[
            tables.bubble_table(bubble),
            tables.schedule_table(scheduled),
            tables.planner_table(plans),
            tables.fleet_table(fleet),
            tables.staleness_table(stale),
        ],
        remark=tables.REMARK,
        pictures={
            "bubble.png": pictures.draw_bubbles(bubble),
            "schedules.png": pictures.draw_schedules(scheduled),
            "data_parallel.png": pictures.draw_fleet(fleet),
            "staleness.png": pictures.draw_staleness(stale),
        },
        more={
            "schedules.csv": scheduled,
            "plans.csv": plans,
            "data_parallel.csv": fleet,
            "staleness.csv": stale,
        },
    )


REPRODUCTION = Reproduction(
    run=PipelineTrainingRun,
    compute=compute,
    pictures=("bubble.png", "schedules.png", "data_parallel.png", "staleness.png"),
    tables=("schedules.csv", "plans.csv", "data_parallel.csv", "staleness.csv"),
)
"""What ``mec-gym reproduce pipeline-training`` does."""
