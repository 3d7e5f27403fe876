"""Ours beside the published as tables, and what a reader of them must know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from rich.table import Table

from mec_gym.pipeline_training.scenario import GIGA, MEGA
from train.reproduce.pipeline_training.staleness import VARIANTS, Setting
from train.reproduce.pipeline_training.study import (
    BEST,
    FIXED,
    MICROBATCHES,
    MOMENTA,
    SCHEDULES,
    STAGES,
    Bubble,
    FleetTime,
    Planned,
    Scheduled,
    Stale,
    enough_microbatches,
    needed_updates,
    slowdown,
)

PIPELINED = 8
"""Microbatches of the environment, for which the time with a flush is shown."""
_MEGABYTE = 8.0 * MEGA

REMARK = (
    "Both schedules have the bubble of [Huang2019] where stages are equal and nothing is sent. "
    "PipeDream's planner gives the plans that its authors run; they do not print the periods. "
    "Schedules over links, data parallel training on our fleet and the learning with stale weights "
    "have no published counterpart: networks, fleets and images are ours, and nothing is tuned. "
    "The README of train/reproduce/pipeline_training says more."
)


def _columns(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _rate(bits: float) -> str:
    return f"{bits / GIGA:.3g} Gbit/s" if bits >= GIGA else f"{bits / MEGA:.3g} Mbit/s"


def bubble_table(rows: Sequence[Bubble]) -> Table:
    """The bubble over Q and S."""
    table = _columns(
        "Bubble, %: share of the time in which stages are idle, ours / (S - 1) / (Q + S - 1)\n"
        "(GPipe and 1F1B alike)",
        ("S",),
        [f"Q = {q}" for q in MICROBATCHES],
    )
    for stages in STAGES:
        cells = []
        for q in MICROBATCHES:
            those = [r for r in rows if (r.stages, r.microbatches) == (stages, q)]
            ours = " or ".join(sorted({f"{100 * r.ours:.1f}" for r in those}))
            cells.append(f"{ours} / {100 * those[0].formula:.1f}")
        table.add_row(str(stages), *cells)
    return table


def schedule_table(rows: Sequence[Scheduled]) -> Table:
    """GPipe beside 1F1B over links, every second rate."""
    table = _columns(
        "ResNet18 in 6 blocks on 4 equal devices, GPipe / 1F1B\n"
        "(same plan: the best one at the fastest links; kept: activations in the stage with most)",
        ("link",),
        (
            *("same plan,\nminibatch, s", "same plan,\nkept, MB"),
            *("best plan,\nminibatch, s", "best plan,\nstages", "best plan,\nkept, MB"),
        ),
    )
    for link in sorted({r.link for r in rows})[::2]:
        same, best = (
            {r.schedule: r for r in rows if (r.link, r.plans) == (link, plans)}
            for plans in (FIXED, BEST)
        )
        table.add_row(
            _rate(link),
            _pair(f"{same[s].minibatch_s:.2f}" for s in SCHEDULES),
            _pair(f"{same[s].kept_bits / _MEGABYTE:.0f}" for s in SCHEDULES),
            _pair(f"{best[s].minibatch_s:.2f}" for s in SCHEDULES),
            _pair(str(best[s].stages) for s in SCHEDULES),
            _pair(f"{best[s].kept_bits / _MEGABYTE:.0f}" for s in SCHEDULES),
        )
    return table


def _pair(cells: Iterable[str]) -> str:
    return " / ".join(cells)


def planner_table(rows: Sequence[Planned]) -> Table:
    """PipeDream's plans for VGG16."""
    table = _columns(
        "PipeDream's plans for VGG16 by its published profile; seconds per minibatch of 128",
        (
            *("workers", "GB/s", "plan", "published", "last stage\nbegins with", "published"),
            "without\nreplicas",
        ),
        ("plan, s", "data\nparallel, s", "without\nreplicas, s", "sent less, %"),
    )
    for r in rows:
        table.add_row(
            str(r.workers),
            f"{r.bandwidth / 8 / GIGA:g}",
            r.configuration,
            r.published,
            r.last_stage,
            r.published_last_stage,
            r.straight,
            f"{r.period_s:.4f}",
            f"{r.data_parallel_s:.4f}",
            f"{r.straight_s:.4f}",
            f"{100 * r.saved:.0f}",
        )
    return table


def fleet_table(rows: Sequence[FleetTime]) -> Table:
    """Data parallel training beside pipelines."""
    table = _columns(
        "Our default fleet, ResNet18, seconds per minibatch, medians of "
        f"{rows[0].slots} slots with two devices or more",
        ("samples", "median link"),
        (
            *("1F1B", "GPipe", "GPipe\nfaster, %", "fastest\ndevice", "data\nparallel"),
            *("of it\nall-reduce", "faster than\n1F1B, %"),
        ),
    )
    before = rows[0].microbatches
    for r in rows:
        if r.microbatches != before:
            table.add_section()
        before = r.microbatches
        table.add_row(
            f"{r.microbatches} x 4",
            _rate(r.link),
            f"{r.pipeline_s:.2f}",
            f"{r.gpipe_s:.2f}",
            f"{100 * r.gpipe_wins:.0f}",
            *(f"{x:.2f}" for x in (r.single_s, r.data_parallel_s, r.agreeing_s)),
            f"{100 * r.data_parallel_wins:.0f}",
        )
    return table


def staleness_table(rows: Sequence[Stale]) -> Table:
    """Updates until 90 %, and what that means in time."""
    stages = Setting().stages
    table = _columns(
        f"A perceptron of {stages} stages learns digits: updates until 90 %\n"
        f"(time in updates without a flush; with one, of {PIPELINED} microbatches)",
        ("gradient", "variant"),
        ("median", "smallest", "largest", "never", "time", "flush wins from Q ="),
    )
    for momentum in MOMENTA:
        flush = float(np.median(needed_updates(rows, "flush", momentum)))
        for variant in VARIANTS:
            needed = needed_updates(rows, variant, momentum)
            median = float(np.median(needed))
            longer = slowdown(PIPELINED, stages) if variant == "flush" else 1.0
            enough = enough_microbatches(flush, median, stages)
            table.add_row(
                f"smoothed, {momentum:g}" if momentum else "plain",
                variant,
                *(_count(x) for x in (median, needed.min(), needed.max())),
                f"{np.isinf(needed).sum()} of {len(needed)}",
                _count(longer * median),
                "" if variant == "flush" else "never" if enough is None else str(enough),
            )
        table.add_section()
    return table


def _count(updates: float) -> str:
    return f"{updates:.0f}" if np.isfinite(updates) else "never"
