"""Redo the server-based families of [Wang2023]'s tables 1, 3 and 4, and reported orderings."""

from __future__ import annotations

from dataclasses import dataclass

from train.reproduce import Findings, Reproduction
from train.reproduce.families.playing import WorldsRun, play_all
from train.reproduce.families.rows import ClaimRow
from train.reproduce.families.tables import claim_table, family_table
from train.reproduce.federated_training import pictures, play, study, tables
from train.reproduce.federated_training.families import CASES

__all__ = ["REPRODUCTION", "ClaimRow", "FederatedTrainingRun"]


@dataclass(frozen=True)
class FederatedTrainingRun(WorldsRun):
    """Redo the server-based families of [Wang2023]'s tables 1, 3 and 4, and reported orderings."""


def compute(run: FederatedTrainingRun) -> Findings:
    """All tables and pictures.

    Args:
        run: The options, of which ``worlds`` and ``workers`` count.
    """
    plays = play_all(CASES, play.play, play.Played, run)
    rows, families = study.claims(plays), study.families(plays)
    quorums, payloads, skews = study.quorums(plays), study.payloads(plays), study.skews(plays)
    return Findings(
        rows=rows,
        tables=[
            *(
                family_table(families, number, title, "80 %", "MB up")
                for number, title in tables.TITLES.items()
            ),
            tables.quorum_table(quorums),
            tables.payload_table(payloads),
            claim_table(rows),
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
