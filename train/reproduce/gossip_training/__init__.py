"""Redo the families without a server of [Wang2023]'s tables 2 and 6, and reported orderings."""

from __future__ import annotations

from dataclasses import dataclass

from train.reproduce import Findings, Reproduction
from train.reproduce.families.playing import WorldsRun, play_all
from train.reproduce.families.rows import ClaimRow
from train.reproduce.families.tables import claim_table, family_table
from train.reproduce.gossip_training import pictures, play, study, tables
from train.reproduce.gossip_training.families import CASES

__all__ = ["REPRODUCTION", "ClaimRow", "GossipTrainingRun"]


@dataclass(frozen=True)
class GossipTrainingRun(WorldsRun):
    """Redo the families without a server of [Wang2023]'s tables 2 and 6, and reported orderings."""

    worlds: int = 12


def compute(run: GossipTrainingRun) -> Findings:
    """All tables and pictures.

    Args:
        run: The options.
    """
    plays = play_all(CASES, play.play, play.Played, run)
    rows, families = study.claims(plays), study.families(plays)
    settings, payloads = study.settings(plays), study.payloads(plays)
    return Findings(
        rows=rows,
        tables=[
            *(
                family_table(families, number, title, "90 %", "MB sent")
                for number, title in tables.TITLES.items()
            ),
            tables.payload_table(payloads),
            tables.setting_table(settings),
            claim_table(rows),
        ],
        remark=tables.REMARK,
        pictures={
            "settings.png": pictures.draw_settings(plays),
            "families.png": pictures.draw_families(families),
            "payload.png": pictures.draw_payloads(payloads),
        },
        more={"families.csv": families, "settings.csv": settings, "payload.csv": payloads},
    )


REPRODUCTION = Reproduction(
    run=GossipTrainingRun,
    compute=compute,
    pictures=("settings.png", "families.png", "payload.png"),
    tables=("families.csv", "settings.csv", "payload.csv"),
)
"""What ``mec-gym reproduce gossip-training`` does."""
