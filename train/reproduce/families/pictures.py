"""What pictures of families consist of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mec_gym.core.pictures import LEGEND, SMALL, new_figure, style
from mec_gym.core.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Curve(Protocol):
    """What came of a protocol over time, in each of n worlds."""

    @property
    def time_s(self) -> FloatArray:
        """Points in time, (K,) s."""

    @property
    def accuracy(self) -> FloatArray:
        """The accuracy on validation images at these times, (n, K)."""


def draw_over_time(panels: Mapping[str, Mapping[str, Curve]], colors: Mapping[str, str]) -> Figure:
    """The mean error over time, and between which errors half of the worlds lie.

    Args:
        panels: What came of protocols, by title of the panel and by their names.
        colors: Their colours by name.
    """
    figure = new_figure(max(10.0, 4.0 * len(panels)), 4.2)
    all_axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (title, plays) in zip(all_axes, panels.items(), strict=True):
        for name, played in plays.items():
            error = 1.0 - played.accuracy
            axes.plot(played.time_s, error.mean(axis=0), color=colors[name], lw=1.8, label=name)
            low, high = np.quantile(error, (0.25, 0.75), axis=0)
            axes.fill_between(played.time_s, low, high, color=colors[name], alpha=0.15, lw=0)
        axes.set_ylim(0, 1)
        axes.set_xlim(0, played.time_s[-1])
        axes.grid(alpha=0.25)
        style(axes, title, "time (s)")
    all_axes[0].set_ylabel("error on validation images", fontsize=SMALL)
    legend_below(figure, all_axes[0], columns=len(colors))
    return figure


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """Put the legend of one panel below all.

    Args:
        figure: The figure.
        axes: The panel.
        columns: The number of columns.
    """
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, **LEGEND)


def point(
    axes: Axes, x: float, y: float, low: float, high: float, color: str, mark: str, label: str
) -> None:
    """Draw a point with its interval."""
    axes.errorbar(
        [x],
        [y],
        yerr=[[y - low], [high - y]],
        fmt=mark,
        color=color,
        ms=6,
        capsize=3,
        lw=1,
        label=label,
    )
