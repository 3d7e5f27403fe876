"""The families and the claims as tables, and what a reader of them must know."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from train.reproduce.families.tables import columns
from train.reproduce.federated_training.families import LEFT_OUT
from train.reproduce.federated_training.study import PayloadRow, QuorumRow

TITLES = {
    1: "Table 1, parameter servers",
    3: "Table 3, parallel data",
    4: "Table 4, unlike data (equally fast clients, all 10 are waited for, unless said otherwise)",
}

REMARK = (
    "Clients are drawn at random, so that only the mechanism differs; worlds are the same. "
    "Orderings are compared, not values: the publications train other networks on other images, "
    "and parameters here are not tuned per row. Not redone: "
    + "; ".join(f"{number} ({reason})" for number, reason in LEFT_OUT.items())
    + ". The README of train/reproduce/federated_training says more."
)


def quorum_table(rows: Sequence[QuorumRow]) -> Table:
    """K-sync beside K-async."""
    table = columns(
        "Waiting for K of 10: others\ndropped (K-sync) / kept (K-async)",
        ("K",),
        ("s per merge", "error", "test, %", "stale"),
    )
    dropped, kept = ({r.quorum: r for r in rows if r.kept == which} for which in (False, True))
    for quorum, a in dropped.items():
        b = kept[quorum]
        table.add_row(
            str(quorum),
            f"{a.merge_s:.1f} / {b.merge_s:.1f}",
            f"{a.error:.3f} / {b.error:.3f}",
            f"{100 * a.test_accuracy:.1f} / {100 * b.test_accuracy:.1f}",
            f"{a.staleness:.1f} / {b.staleness:.1f}",
        )
    return table


def payload_table(rows: Sequence[PayloadRow]) -> Table:
    """What is lost and saved by sending less."""
    table = columns(
        "Sending less, model of 32 Mbit / of 320 Mbit",
        ("what is sent",),
        ("bits, %", "error", "test, %", "MB up"),
    )
    small, large = ({r.payload: r for r in rows if r.large == which} for which in (False, True))
    for payload, a in small.items():
        b = large[payload]
        table.add_row(
            payload,
            f"{100 * a.share:.1f} / {100 * b.share:.1f}",
            f"{a.error:.3f} / {b.error:.3f}",
            f"{100 * a.test_accuracy:.1f} / {100 * b.test_accuracy:.1f}",
            f"{a.up_mb:.0f} / {b.up_mb:.0f}",
        )
    return table
