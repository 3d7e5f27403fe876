"""Pictures of the learning curves and of the delays of every agent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mec_gym.core.pictures import BLUE, GREEN, GREY, ORANGE, PINK, RED, new_figure, style
from train.reproduce.distributed_inference.study import Contest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LINES = {
    "a3c-flat": (GREY, "-"),
    "mtl-a3c-branch": (RED, "-"),
    "mtl-a3c-tied": (PINK, "-"),
    "ppo-flat": (GREY, "--"),
    "ppo-branches": (RED, "--"),
    "a3c": (GREEN, "-"),
    "mtl-a3c": (BLUE, "-"),
    "ppo": (BLUE, "--"),
    "a3c-unaided": (GREEN, ":"),
    "mtl-a3c-unaided": (BLUE, ":"),
    "ppo-unaided": (ORANGE, ":"),
}
"""Colour and style of each learner's curve."""
LEVELS = {"greedy": ":", "neurosurgeon": "--", "deadline-descent": "-.", "clairvoyant": "-"}
"""Who is drawn beside the learning curves, and in which style."""


def draw_curves(contests: Mapping[str, Contest]) -> Figure:
    """Gap to the bound while learning: a row per scenario, over steps and over seconds.

    Args:
        contests: What came of each scenario, by its name.
    """
    figure = new_figure(13, 4.4 * len(contests) + 0.4)
    panels = figure.subplots(len(contests), 2, sharey="row", squeeze=False)
    for (scenario, contest), row in zip(contests.items(), panels, strict=True):
        levels = {line.agent: line.gap_percent for line in contest.lines}
        for axes, of in zip(row, ("steps", "seconds"), strict=True):
            for name, line in LEVELS.items():
                axes.axhline(levels[name], color="black", ls=line, lw=0.9, alpha=0.6, label=name)
            for name, (colour, line) in LINES.items():
                points = [p for p in contest.points if p.agent == name]
                if points:
                    x = [getattr(p, of) for p in points]
                    y = [p.gap_percent for p in points]
                    axes.plot(x, y, line, marker=".", color=colour, label=name)
            axes.grid(alpha=0.25)
        steps, seconds = row
        ylabel = "mean gap to the bound (%)"
        style(steps, f"{scenario}: at equal steps", "environment steps", ylabel)
        timed = "seconds of training, evaluations not counted"
        style(seconds, f"{scenario}: at equal time", timed)
        # A learner's beginning is at 0, which has no logarithm.
        smallest = min(p.steps for p in contest.points if p.steps)
        for axes, linear in ((steps, float(smallest)), (seconds, 1.0)):
            axes.set_xscale("symlog", linthresh=linear, linscale=0.4)
            axes.set_xlim(left=0)
            _plain_ticks(axes.xaxis, linear, axes.get_xlim()[1], zero=True)
        _log_gaps(steps, contest, min(levels[name] for name in LEVELS))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _plain_ticks(axis: Axis, lowest: float, highest: float, zero: bool) -> None:
    """Ticks on a logarithmic axis with plain numbers, far enough apart for their labels."""
    many = highest > 100.0 * lowest
    decades = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    ticks = [k * 10.0**decade for decade in decades for k in ((1, 3) if many else (1, 2, 5))]
    axis.set_ticks([0.0] * zero + [tick for tick in ticks if lowest <= tick <= highest])
    axis.set_ticks([], minor=True)
    axis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1000.0 else f"{x:g}")


def _log_gaps(axes: Axes, contest: Contest, lowest_level: float) -> None:
    """A scale that shows both one percent and hundreds; 0 is on it if somebody is near it."""
    gaps = [p.gap_percent for p in contest.points]
    top = 1.2 * max(gaps)
    exact = min(gaps) < 5.0
    bottom = 1.0 if exact else 0.9 * min(*gaps, lowest_level)
    if exact:
        axes.set_yscale("symlog", linthresh=1.0, linscale=0.5)
    else:
        axes.set_yscale("log")
    _plain_ticks(axes.yaxis, bottom, top, zero=exact)
    axes.set_ylim(-0.05 if exact else bottom, top)


WIDEST = 3.0
"""Bars end at so many times the least total delay; what is longer is written."""


def draw_delays(contests: Mapping[str, Contest]) -> Figure:
    """Mean delay of a task and its parts: a panel per scenario, the fastest agent on top.

    Args:
        contests: What came of each scenario, by its name.
    """
    most = max(len(c.lines) for c in contests.values())
    figure = new_figure(6.5 * len(contests), 0.3 * most + 1.6)
    panels = figure.subplots(1, len(contests), squeeze=False)[0]
    parts = (
        ("local", "local_s", GREY),
        ("edge", "edge_s", BLUE),
        ("transfer", "transfer_s", ORANGE),
    )
    for axes, (scenario, contest) in zip(panels, contests.items(), strict=True):
        lines = sorted(contest.lines, key=lambda one: one.total_s)
        widest = WIDEST * 1e3 * lines[0].total_s
        for row, one in enumerate(lines):
            left = 0.0
            for label, part, color in parts:
                length = min(1e3 * getattr(one, part), widest - left)
                axes.barh(row, length, left=left, color=color, label=label)
                left += length
            total = 1e3 * one.total_s
            text = f"{total:.0f}" + (" →" if total > widest else "")
            axes.annotate(
                text, (min(total, widest), row), (4, 0), textcoords="offset points", va="center",
                fontsize=9,
            )  # fmt: skip
        axes.set_yticks(range(len(lines)), [one.agent for one in lines])
        for text in axes.get_yticklabels():
            if text.get_text().startswith("mtl-a3c"):
                text.set_fontweight("bold")
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_xlim(0, 1.15 * widest)
        style(axes, scenario, "mean delay of a task (ms)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles[: len(parts)], labels[: len(parts)], loc="outside lower center", ncols=3,
        frameon=False,
    )  # fmt: skip
    return figure
