"""Pictures of the bubble, of schedules over links, of data parallel training, of staleness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mec_gym.core.pictures import (
    BLUE,
    GREEN,
    GREY,
    LEGEND,
    ORANGE,
    PINK,
    RED,
    new_figure,
    style,
)
from mec_gym.pipeline_training.scenario import MEGA
from train.reproduce.pipeline_training.staleness import VARIANTS, Setting
from train.reproduce.pipeline_training.study import (
    BEST,
    FIXED,
    FLEET_MICROBATCHES,
    MICROBATCHES,
    MOMENTA,
    SCHEDULES,
    STAGES,
    TITLES,
    UPDATES,
    Bubble,
    FleetTime,
    Scheduled,
    Stale,
    needed_updates,
    slowdown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK = "#222222"
_COLORS = dict(zip(SCHEDULES, (ORANGE, BLUE), strict=True))
_VARIANT_COLORS = dict(zip(VARIANTS, (BLUE, ORANGE, RED, GREEN), strict=True))


def draw_bubbles(rows: Sequence[Bubble]) -> Figure:
    """The bubble over Q, a curve per S: the formula as a line, ours as marks.

    Args:
        rows: All bubbles.
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    q = np.geomspace(MICROBATCHES[0], MICROBATCHES[-1], 100)
    for stages, color in zip(STAGES, (BLUE, GREEN, ORANGE, RED), strict=True):
        axes.plot(q, 100 * (stages - 1) / (q + stages - 1), color=color, label=f"S = {stages}")
        for schedule, mark, size in zip(SCHEDULES, ("o", "x"), (7, 5), strict=True):
            those = [r for r in rows if (r.stages, r.schedule) == (stages, schedule)]
            axes.plot(
                [r.microbatches for r in those],
                [100 * r.ours for r in those],
                mark,
                ms=size,
                mfc="none",
                color=color,
            )
    for schedule, mark in zip(SCHEDULES, ("o", "x"), strict=True):
        axes.plot([], [], mark, color=GREY, mfc="none", label=f"{TITLES[schedule]}, ours")
    axes.plot([], [], color=GREY, label="(S − 1) / (Q + S − 1)")
    _log(axes, MICROBATCHES)
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.25)
    axes.legend(**LEGEND)
    style(axes, "Equal stages, nothing to send", "microbatches, Q", "bubble (%)")
    return figure


def draw_schedules(rows: Sequence[Scheduled]) -> Figure:
    """Time of a minibatch, 1F1B against GPipe, and activations kept, over the links' rate.

    Args:
        rows: All links, schedules and choices of plans.
    """
    figure = new_figure(12, 4.2)
    seconds, change, kept = figure.subplots(1, 3)
    link = sorted({r.link for r in rows})
    for plans, line in ((BEST, "-"), (FIXED, "--")):
        times = []
        for schedule, width in zip(SCHEDULES, (3.2, 1.5), strict=True):
            those = [r for r in rows if (r.plans, r.schedule) == (plans, schedule)]
            times.append(np.array([r.minibatch_s for r in those]))
            label = f"{TITLES[schedule]}, {plans}"
            look = {"color": _COLORS[schedule], "ls": line, "lw": width, "label": label}
            seconds.plot(np.array(link) / MEGA, times[-1], **look)
            kept.plot(np.array(link) / MEGA, [r.kept_bits / 8 / MEGA for r in those], **look)
        gpipe, interleaved = times
        change.plot(
            np.array(link) / MEGA,
            100 * (interleaved / gpipe - 1),
            color=BLACK,
            ls=line,
            label=plans,
        )
    for axes in (seconds, change, kept):
        axes.set_xscale("log")
        axes.grid(alpha=0.25)
    seconds.set_yscale("log")
    kept.set_ylim(bottom=0)
    change.axhline(0.0, color=GREY, lw=0.8)
    change.legend(**LEGEND)
    label = "rate of all links (Mbit/s)"
    style(seconds, "Time of a minibatch (s)", label)
    style(change, "1F1B takes longer than GPipe by (%)", label)
    style(kept, "Activations kept in the stage with most (MB)", label)
    handles, labels = seconds.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, **LEGEND)
    return figure


def draw_fleet(rows: Sequence[FleetTime]) -> Figure:
    """Data parallel training beside pipelines over the links' median rate.

    Args:
        rows: All links and numbers of microbatches.
    """
    figure = new_figure(10, 4)
    for axes, q in zip(figure.subplots(1, 2), FLEET_MICROBATCHES, strict=True):
        those = [r for r in rows if r.microbatches == q]
        link = [r.link / MEGA for r in those]
        for label, field, color in (
            ("fastest device", "single_s", GREY),
            ("pipeline, 1F1B", "pipeline_s", BLUE),
            ("data parallel", "data_parallel_s", ORANGE),
            ("all-reduce alone", "agreeing_s", PINK),
        ):
            axes.plot(link, [getattr(r, field) for r in those], ".-", color=color, label=label)
        axes.set_yscale("log")
        _log(axes, link)
        axes.grid(alpha=0.25)
        style(axes, f"{q} x 4 samples", "median link (Mbit/s)", "time of a minibatch (s)")
    axes.legend(**LEGEND)
    return figure


def draw_staleness(rows: Sequence[Stale]) -> Figure:
    """Time until 90 % over Q: a flush costs time, staleness costs updates.

    Args:
        rows: All runs.
    """
    figure = new_figure(10, 4)
    q = np.geomspace(MICROBATCHES[0], MICROBATCHES[-1], 100)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, momentum in zip(panels, MOMENTA, strict=True):
        for variant in VARIANTS:
            longer = np.ones_like(q)
            if variant == "flush":
                longer = np.array([slowdown(x, Setting().stages) for x in q])
            needed = needed_updates(rows, variant, momentum)
            low, middle, high = (
                np.minimum(x, 2 * UPDATES) * longer
                for x in (needed.min(), np.median(needed), needed.max())
            )
            color = _VARIANT_COLORS[variant]
            axes.plot(q, middle, color=color, label=variant)
            axes.fill_between(q, low, high, color=color, alpha=0.15, lw=0)
        _log(axes, MICROBATCHES)
        axes.set_ylim(0, UPDATES)
        axes.grid(alpha=0.25)
        title = f"smoothed gradient ({momentum:g})" if momentum else "plain gradient"
        style(axes, title, "microbatches of a minibatch with a flush, Q")
    panels[0].set_ylabel("time until 90 %, in updates without a flush", fontsize=8.5)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, **LEGEND)
    return figure


def _log(axes: Axes, ticks: Sequence[float]) -> None:
    """A log scale from left to right with plain numbers at the ticks."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{x:,.0f}".replace(",", " ") for x in ticks])
    axes.set_xticks([], minor=True)
