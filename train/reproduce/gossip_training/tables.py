"""The families and the claims as tables, and what a reader of them must know."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from train.reproduce.families.tables import columns
from train.reproduce.gossip_training.families import LEFT_OUT, POLICIES, SETTINGS
from train.reproduce.gossip_training.study import PayloadRow, SettingRow

TITLES = {
    2: "Table 2, decentralised parallel training (unequal devices, unless said otherwise)",
    6: "Table 6, distillation (unequal devices, unless said otherwise)",
}

REMARK = (
    "Worlds are the same, so that only what is named differs. Orderings are compared, not values: "
    "the publications train other networks on other images, and parameters here are hardly tuned. "
    "Not redone: "
    + "; ".join(f"{number} ({reason})" for number, reason in LEFT_OUT.items())
    + ". The README of train/reproduce/gossip_training says more."
)


def setting_table(rows: Sequence[SettingRow]) -> Table:
    """Every policy in every setting, medians over worlds."""
    table = columns(
        "Who listens to whom: median s to 90 % / median error over the budget",
        ("policy",),
        tuple(SETTINGS),
    )
    found = {(r.setting, r.policy): r for r in rows}
    for policy in POLICIES:
        table.add_row(policy, *(setting_cell(found[setting, policy]) for setting in SETTINGS))
    return table


def setting_cell(row: SettingRow) -> str:
    """Return the time until 90 %, if half of the worlds reach it, and the error."""
    seconds = f"{row.reached_s:.0f}" if row.reached > 0.5 else "never"
    return f"{seconds} / {row.error:.3f}"


def payload_table(rows: Sequence[PayloadRow]) -> Table:
    """What is lost and saved by sending something else."""
    table = columns(
        "Equally fast devices, model of 32 Mbit / of 320 Mbit",
        ("what is sent",),
        ("MB per round", "error", "test, %"),
    )
    small, large = ({r.payload: r for r in rows if r.large == which} for which in (False, True))
    for payload, a in small.items():
        b = large[payload]
        table.add_row(
            payload,
            f"{a.round_mb:.3g} / {b.round_mb:.3g}",
            f"{a.error:.3f} / {b.error:.3f}",
            f"{100 * a.test_accuracy:.1f} / {100 * b.test_accuracy:.1f}",
        )
    return table
