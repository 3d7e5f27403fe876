"""Redo the server-based families of [Wang2023]'s tables 1, 3 and 4, and reported orderings."""

from __future__ import annotations

from dataclasses import dataclass

from mec_gym.core.checks import positive_int
from train.config import ReproduceRun
from train.reproduce import Findings, Reproduction
from train.reproduce.federated_training import pictures, study, tables
from train.reproduce.federated_training.study import ClaimRow

__all__ = ["REPRODUCTION", "ClaimRow", "FederatedTrainingRun"]


@dataclass(frozen=True)
class FederatedTrainingRun(ReproduceRun):
    """Redo the server-based families of [Wang2023]'s tables 1, 3 and 4, and reported orderings.

    Attributes:
        worlds: The number of worlds that every protocol is played in; the time grows with it.
        workers: The number of processes.
    """

    worlds: int = 8
    workers: int = 2

    def __post_init__(self) -> None:
        positive_int("worlds", self.worlds)
        positive_int("workers", self.workers)


def compute(run: FederatedTrainingRun) -> Findings:
    """All tables and pictures.

    Args:
        run: The options, of which ``worlds`` and ``workers`` count.
    """
    plays = study.play_all(run.worlds, run.workers)
    rows, families = study.claims(plays), study.families(plays)
    quorums, payloads, skews = study.quorums(plays), study.payloads(plays), study.skews(plays)
    return Findings(
        rows=rows,
        tables=[
            *(tables.family_table(families, number) for number in tables.TITLES),
            tables.quorum_table(quorums),
            tables.payload_table(payloads),
            tables.claim_table(rows),
        ],
        remark=tables.REMARK,
        pictures={
            "triggers.png": pictures.draw_triggers(plays),
            "quorum.png": pictures.draw_quorums(quorums),
            "payload.png": pictures.draw_payloads(payloads),
            "skew.png": pictures.draw_skew(skews),
        },
        more={
            "families.csv": families,
            "quorum.csv": quorums,
            "payload.csv": payloads,
            "skew.csv": skews,
        },
    )


REPRODUCTION = Reproduction(
    run=FederatedTrainingRun,
    compute=compute,
    pictures=("triggers.png", "quorum.png", "payload.png", "skew.png"),
    tables=("families.csv", "quorum.csv", "payload.csv", "skew.csv"),
)
"""What ``mec-gym reproduce federated-training`` does."""
