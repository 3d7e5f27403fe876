"""Families and claims as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from train.reproduce.families.rows import ClaimRow, FamilyRow


def columns(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """Return an empty table.

    Args:
        title: Its title.
        left: The names of its columns of text.
        right: The names of its columns of numbers.
    """
    table = Table(title=title)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def change(row: FamilyRow | ClaimRow, digits: int = 3) -> str:
    """Return a difference with its interval, as a table prints it."""
    return rf"{row.difference:+.{digits}f} \[{row.low:+.{digits}f}, {row.high:+.{digits}f}]"


def family_table(
    rows: Sequence[FamilyRow], number: int, title: str, reached: str, sent: str
) -> Table:
    """One of the survey's tables, a row per family.

    Args:
        rows: The rows of all tables.
        number: The number of the table.
        title: Its title.
        reached: The accuracy whose time is shown, such as ``"80 %"``.
        sent: How the column is called that says what was sent.
    """
    table = columns(
        f"{title}\n"
        "(error: mean over the budget, and how it differs from without, with the paired 95 % "
        "interval; others with / without)",
        ("reference", "what it changes"),
        ("error", "difference", "test, %", f"s to {reached}", sent),
    )
    for r in rows:
        if r.table == number:
            table.add_row(
                r.reference.replace("[", r"\["),
                r.what,
                f"{r.error:.3f}",
                change(r),
                f"{100 * r.test_accuracy:.1f} / {100 * r.base_test_accuracy:.1f}",
                f"{r.reached_s:.0f} / {r.base_reached_s:.0f}",
                f"{_amount(r.sent_mb)} / {_amount(r.base_sent_mb)}",
            )
    return table


def _amount(value: float) -> str:
    """Return an amount with three digits, or as a whole number."""
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def claim_table(rows: Sequence[ClaimRow]) -> Table:
    """What publications say beside ours."""
    table = columns(
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
            change(r, digits),
            r.verdict,
        )
    return table
