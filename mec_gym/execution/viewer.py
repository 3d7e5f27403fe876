"""Pictures of an execution: predicted against measured, and a timeline of the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mec_gym.core.pictures import (
    ABOVE,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SMALL,
    boxes,
    headed,
    new_figure,
    style,
)
from mec_gym.execution.prediction import STAGES, Stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = dict(zip(STAGES, (GREY, BLUE, ORANGE, PINK, GREEN), strict=True))
MOST_FRAMES = 16
"""So many frames are shown in a timeline."""
MOST_BARS = 12
"""So many partitions are shown as bars."""


def draw_execution(
    title: str,
    medians: Sequence[tuple[str, Stages, Stages]],
    timeline: Sequence[Mapping[str, float]],
    about: str,
) -> Figure:
    """What was predicted and what happened.

    Args:
        title: Text above the picture.
        medians: For every partition its name, the predicted and the measured stages.
        timeline: For frames of one run the moments ``arrival``, ``begin``, ``ready``, ``start``,
            ``finish``, ``edge_begin``, ``edge_end`` and ``done``, s after its begin; those from
            ``start`` on are missing where nothing was sent.
        about: Which run the timeline shows.
    """
    figure, left = _beside_timeline(title, timeline, about)
    if len(medians) > MOST_BARS:
        draw_scatter(left, medians)
    else:
        draw_bars(left, medians)
    return figure


def draw_decided(
    title: str,
    arrival_s: Sequence[float],
    predicted: Sequence[Stages],
    measured: Sequence[Stages],
    timeline: Sequence[Mapping[str, float]],
) -> Figure:
    """What was predicted and what happened where a policy has decided, frame by frame.

    Args:
        title: Text above the picture.
        arrival_s: When each frame arrived, s after the begin.
        predicted: Their stages by prediction.
        measured: Their stages as they were.
        timeline: See :func:`draw_execution`.
    """
    figure, left = _beside_timeline(title, timeline, "")
    headed(left, "Latency of each frame, ms", "arrival, s after the begin")
    told, real = ([1e3 * one["total"] for one in stages] for stages in (predicted, measured))
    left.plot(arrival_s, told, color=GREY, lw=1.2, label="predicted")
    left.plot(arrival_s, real, "o", color=BLUE, ms=3, label="measured")
    left.set_ylim(bottom=0.0)
    left.legend(**ABOVE)
    return figure


def _beside_timeline(
    title: str, timeline: Sequence[Mapping[str, float]], about: str
) -> tuple[Figure, Axes]:
    """A figure with a timeline on the right, and what is to be filled on the left."""
    figure = new_figure(12, 4.6)
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.0, 1.25)})
    draw_timeline(right, timeline, about)
    figure.suptitle(title, fontsize=11)
    return figure, left


def draw_bars(axes: Axes, medians: Sequence[tuple[str, Stages, Stages]]) -> None:
    """The stages of each partition, the prediction above what was measured."""
    headed(axes, "Predicted (pale) and measured, median", "ms")
    handles: dict[str, Any] = {}
    ticks = []
    for row, (name, predicted, measured) in enumerate(medians):
        ticks.append(name)
        for place, stages, alpha in ((row - 0.2, predicted, 0.45), (row + 0.2, measured, 1.0)):
            begin = 0.0
            for stage in STAGES:
                width = 1e3 * stages[stage]
                bar = axes.barh(place, width, 0.36, begin, color=COLORS[stage], alpha=alpha)
                handles[stage] = bar
                begin += width
            axes.text(begin, place, f" {1e3 * stages['total']:.3g}", va="center", fontsize=SMALL)
    axes.set_yticks(range(len(medians)), ticks)
    axes.set_ylim(max(len(medians), 3) - 0.5, -0.5)
    axes.set_xlim(right=1.12 * axes.get_xlim()[1])
    axes.legend(list(handles.values()), list(handles), **ABOVE)


def draw_scatter(axes: Axes, medians: Sequence[tuple[str, Stages, Stages]]) -> None:
    """The latency of each partition, measured over predicted."""
    style(axes, "Latency of each partition, median", "predicted, ms", "measured, ms")
    points = 1e3 * np.array([(one["total"], other["total"]) for _, one, other in medians])
    low, high = points.min() / 1.1, points.max() * 1.1
    axes.plot([low, high], [low, high], color=GREY, lw=1, label="as predicted")
    axes.fill_between([low, high], [0.9 * low, 0.9 * high], [1.1 * low, 1.1 * high],
                      color=GREY, alpha=0.2, lw=0, label="within 10 %")  # fmt: skip
    axes.plot(points[:, 0], points[:, 1], "o", ms=4, color=BLUE, alpha=0.7)
    for column, label, marker in ((0, "least predicted", "v"), (1, "least measured", "^")):
        best = int(points[:, column].argmin())
        axes.plot(*points[best], marker, ms=8, mfc="none", color=BLACK, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}" if high / low < 20 else "")
        axis.set_tick_params(which="both", labelsize=SMALL)
    axes.legend(fontsize=SMALL, frameon=False)


def draw_timeline(axes: Axes, timeline: Sequence[Mapping[str, float]], about: str) -> None:
    """When each frame was in which stage, one row per frame."""
    headed(axes, f"Timeline{about}", "ms since the begin of the run", "frame")
    shown = timeline[:MOST_FRAMES]
    spans: dict[str, list[tuple[float, float, int]]] = {stage: [] for stage in STAGES}
    for row, one in enumerate(shown):
        spans["waiting"].append((one["arrival"], one["begin"], row))
        spans["device"].append((one["begin"], one["ready"], row))
        if "start" in one:
            spans["waiting"].append((one["ready"], one["start"], row))
            spans["link"].append((one["start"], one["finish"], row))
            spans["round trip"].append((one["finish"], one["edge_come"], row))
            spans["waiting"].append((one["edge_come"], one["edge_begin"], row))
            spans["edge"].append((one["edge_begin"], one["edge_end"], row))
            spans["round trip"].append((one["edge_end"], one["done"], row))
    for stage, found in spans.items():
        if not found:
            continue
        left, right, rows = (np.array(column) for column in zip(*found, strict=True))
        height = 0.3 if stage in ("waiting", "round trip") else 0.7
        boxes(axes, 1e3 * left, 1e3 * right, rows, height, COLORS[stage], stage)
    end = max((one["done"] for one in shown), default=1.0)
    first = min((one["arrival"] for one in shown), default=0.0)
    axes.set_xlim(1e3 * first, 1e3 * (first + 1.02 * (end - first)))
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_yticks(range(len(shown)), [str(k + 1) for k in range(len(shown))])
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles, labels, **ABOVE)
