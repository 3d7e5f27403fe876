"""Pictures of when the server merges, of what is sent, and of skew."""

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
    SMALL,
    new_figure,
    style,
)
from train.reproduce.families.pictures import draw_over_time, legend_below, point
from train.reproduce.federated_training.families import PAYLOADS, TRIGGERS
from train.reproduce.federated_training.study import PayloadRow, Plays, QuorumRow, SkewRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLACK = "#222222"
_TRIGGER_COLORS = dict(zip(TRIGGERS, (GREY, ORANGE, BLUE, RED), strict=True))
_PAYLOAD_LOOKS = dict(
    zip(
        PAYLOADS,
        (
            *((_BLACK, "o"), (ORANGE, "^"), (ORANGE, "v"), (BLUE, "^"), (BLUE, "v")),
            *((GREEN, "^"), (GREEN, "v")),
        ),
        strict=True,
    )
)


def draw_triggers(plays: Plays) -> Figure:
    """The error over time by when the server merges, with like images and unlike ones.

    Args:
        plays: What came of all protocols.
    """
    panels = {
        title: {name: plays[case + end] for name, case in TRIGGERS.items()}
        for title, end in (("Images alike", ", iid"), ("Images unlike, alpha = 0.1", ""))
    }
    return draw_over_time(panels, _TRIGGER_COLORS)


def draw_payloads(rows: Sequence[PayloadRow]) -> Figure:
    """The error over the bits of an update, for both sizes of the model.

    Args:
        rows: All payloads and sizes.
    """
    figure = new_figure(10, 4.2)
    panels = figure.subplots(1, 2)
    for axes, large, title in zip(
        panels, (False, True), ("Model of 32 Mbit", "Model of 320 Mbit"), strict=True
    ):
        for r in rows:
            if r.large == large:
                color, mark = _PAYLOAD_LOOKS[r.payload]
                point(axes, 100 * r.share, r.error, r.low, r.high, color, mark, r.payload)
        axes.set_xscale("log")
        axes.set_xlim(1, 130)
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        style(axes, title, "bits of an update, as a share of all weights (%)")
    panels[0].set_ylabel("mean error over the budget", fontsize=SMALL)
    legend_below(figure, panels[0], columns=7)
    return figure


def draw_skew(rows: Sequence[SkewRow]) -> Figure:
    """The error over how unlike the images of clients are.

    Args:
        rows: All skews, from images that are alike to unlike ones.
    """
    figure = new_figure(6, 4)
    axes = figure.subplots()
    place = np.arange(len(rows))
    for color, label, values in (
        (BLUE, "mean over the budget", [(r.error, r.low, r.high) for r in rows]),
        (
            PINK,
            "on test images at the end",
            [(r.test_error, r.test_low, r.test_high) for r in rows],
        ),
    ):
        middle, low, high = (np.array(v) for v in zip(*values, strict=True))
        axes.errorbar(
            place,
            middle,
            yerr=[middle - low, high - middle],
            fmt="o-",
            color=color,
            capsize=3,
            lw=1.5,
            label=label,
        )
    axes.set_xticks(place, ["alike" if np.isinf(r.alpha) else f"{r.alpha:g}" for r in rows])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(**LEGEND)
    style(
        axes,
        "Equally fast clients, all 10 are waited for",
        "alpha of the Dirichlet distribution, per class",
        "error",
    )
    return figure


def draw_quorums(rows: Sequence[QuorumRow]) -> Figure:
    """The error and the time of a merge over K, with late clients dropped and kept.

    Args:
        rows: All K, dropped and kept.
    """
    figure = new_figure(10, 4)
    seconds, error = figure.subplots(1, 2)
    for kept, color, label in (
        (False, ORANGE, "K-sync: others dropped"),
        (True, BLUE, "K-async: others go on"),
    ):
        those = [r for r in rows if r.kept == kept]
        k = [r.quorum for r in those]
        seconds.plot(k, [r.merge_s for r in those], "o-", color=color, label=label)
        middle = np.array([r.error for r in those])
        below = middle - np.array([r.low for r in those])
        above = np.array([r.high for r in those]) - middle
        error.errorbar(
            k, middle, yerr=[below, above], fmt="o-", color=color, capsize=3, label=label
        )
    seconds.set_yscale("log")
    ticks = [1, 2, 5, 10, 20, 50, 100, 200]
    seconds.set_yticks(ticks, [str(t) for t in ticks])
    seconds.minorticks_off()
    error.set_ylim(bottom=0)
    for axes in (seconds, error):
        axes.set_xticks([r.quorum for r in rows if r.kept])
        axes.grid(alpha=0.25)
    seconds.legend(**LEGEND)
    style(seconds, "Time from one merge to the next (s)", "K, of 10 that train at once")
    style(error, "Mean error over the budget", "K, of 10 that train at once")
    return figure
