"""The families and the claims as tables, and what a reader of them must know."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from train.reproduce.federated_training.families import LEFT_OUT
from train.reproduce.federated_training.study import (
    ClaimRow,
    FamilyRow,
    PayloadRow,
    QuorumRow,
)

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


def _columns(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _change(row: FamilyRow | ClaimRow, digits: int = 3) -> str:
    return f"{row.difference:+.{digits}f} [{row.low:+.{digits}f}, {row.high:+.{digits}f}]"


def family_table(rows: Sequence[FamilyRow], number: int) -> Table:
    """One of the survey's tables, a row per family.

    Args:
        rows: The rows of all tables.
        number: The number of the table.
    """
    table = _columns(
        f"{TITLES[number]}\n"
        "(error: mean over the budget, and how it differs from without, with the paired 95 % "
        "interval; others with / without)",
        ("reference", "what it changes"),
        ("error", "difference", "test, %", "s to 80 %", "MB up"),
    )
    for r in rows:
        if r.table == number:
            table.add_row(
                r.reference.replace("[", r"\["),
                r.what,
                f"{r.error:.3f}",
                _change(r).replace("[", r"\["),
                f"{100 * r.test_accuracy:.1f} / {100 * r.base_test_accuracy:.1f}",
                f"{r.reached_s:.0f} / {r.base_reached_s:.0f}",
                f"{r.up_mb:.0f} / {r.base_up_mb:.0f}",
            )
    return table


def quorum_table(rows: Sequence[QuorumRow]) -> Table:
    """K-sync beside K-async."""
    table = _columns(
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
    table = _columns(
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


def claim_table(rows: Sequence[ClaimRow]) -> Table:
    """What publications say beside ours."""
    table = _columns(
        "Orderings that publications report, beside ours (less is better)",
        ("source", "what it says", "measure"),
        ("ours: said to be\nbetter / worse", "paired difference,\n95 % interval"),
    )
    table.add_column("verdict")
    for r in rows:
        digits = 0 if r.ours_worse >= 100 else 1 if r.ours_worse >= 1 else 3
        table.add_row(
            r.source.replace("[", r"\["),
            r.says,
            r.measure,
            f"{r.ours_better:.{digits}f} / {r.ours_worse:.{digits}f}",
            _change(r, digits).replace("[", r"\["),
            r.verdict,
        )
    return table
