"""Delays of every agent and our reductions as tables, and what a reader of them must know."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from train.reproduce.distributed_inference.study import (
    CLAIMED,
    SEED,
    UNTRAINED,
    Contest,
    Reduction,
)

REMARK = (
    "The paper's scenario and its state of the art are not public: these are the same quantities "
    "on our scenarios, not the same numbers. Each learner was trained once "
    f"(seed {SEED}), so intervals are over test episodes only. '{UNTRAINED}' is the network of "
    "a3c, mtl-a3c and ppo before its first step; in 'patent' it is optimal already, so only those "
    "unaided and networks that know nothing can learn something there. The README of "
    "train/reproduce/distributed_inference says more."
)


def agents_table(contest: Contest) -> Table:
    """All agents of one scenario, the best first."""
    one = contest.lines[0]
    found = Table(
        title=f"{one.scenario}: {one.episodes} episodes, {one.tasks:,} tasks; delays of a task, ms"
    )
    found.add_column("agent", no_wrap=True)
    for column in (
        "steps", "s", "return", "gap to\nbound %", "to clair-\nvoyant %", "total", "local", "edge",
        "transfer", "late %", "given\nup %",
    ):  # fmt: skip
        found.add_column(column, justify="right", no_wrap="\n" not in column)
    for row in contest.lines:
        half = (row.gap_percent_high - row.gap_percent_low) / 2
        found.add_row(
            row.agent,
            "" if row.steps is None else f"{row.steps:,}",
            "" if row.seconds is None else f"{row.seconds:.1f}",
            f"{row.return_mean:.3f}",
            f"{row.gap_percent:.2f} ± {half:.2f}",
            f"{row.clairvoyant_gap_percent:.2f}",
            *(
                f"{1e3 * seconds:.1f}"
                for seconds in (row.total_s, row.local_s, row.edge_s, row.transfer_s)
            ),
            f"{row.missed_percent:.1f}",
            f"{row.given_up_percent:.1f}",
        )
    return found


def reductions_table(reductions: Sequence[Reduction]) -> Table:
    """Our reductions, and the paper's in the last line."""
    found = Table(
        title="Reduction of a task's mean delay by multi-task A3C, %\n"
        "(below 0: the delay is longer; nan: none to reduce; *: best of what the paper could mean)"
    )
    for column in ("scenario", "agent", "against"):
        found.add_column(column)
    for column in ("total", "95 % interval", "edge", "local"):
        found.add_column(column, justify="right")
    before = reductions[0]
    for row in reductions:
        if (row.scenario, row.agent) != (before.scenario, before.agent):
            found.add_section()
        before = row
        found.add_row(
            row.scenario,
            row.agent,
            row.against + (" *" if row.best else ""),
            f"{row.total_percent:.2f}",
            f"{row.total_low:.2f} … {row.total_high:.2f}",
            f"{row.edge_percent:.2f}",
            f"{row.local_percent:.2f}",
        )
    found.add_section()
    claimed = (f"{CLAIMED[part]:.2f}" for part in ("total", "edge", "local"))
    total, edge, local = claimed
    found.add_row("the paper's", "multi-task A3C", "state of the art", total, "", edge, local)
    return found
