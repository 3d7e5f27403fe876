"""Pictures of [Chen2025] figures 4 to 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mec_gym.core.pictures import BLUE, GREEN, ORANGE, PINK, new_figure, style
from mec_gym.training_offload.scenario import Variant
from train.reproduce.training_offload.study import FIGURES, READINGS, SCHEMES, Curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = ((BLUE, "o-"), (ORANGE, "^-."), (GREEN, "s--"), (PINK, "x:"))


def draw(number: int, found: Mapping[Variant, Curves]) -> Figure:
    """One figure of the paper: a panel per variant, all on one scale.

    Args:
        number: The number of the figure: 4, 5 or 6.
        found: Its curves by variant.
    """
    about = FIGURES[number]
    figure = new_figure(12, 4.6)
    panels = figure.subplots(1, len(found), sharey=True)
    for axes, (variant, curve) in zip(panels, found.items(), strict=True):
        for scheme, delay, (colour, line) in zip(SCHEMES, curve.delay, _LINES, strict=True):
            axes.plot(curve.x, delay, line, color=colour, ms=6, label=scheme)
        ours = " / ".join(f"{percent:.1f}" for percent in curve.reductions())
        ylabel = "mean training delay (s)" if axes is panels[0] else ""
        style(axes, f"{variant}: {READINGS[variant]}\n{ours} % lower", about.xlabel, ylabel)
        axes.grid(alpha=0.3)
    panels[0].set_ylim(bottom=0)
    claimed = " / ".join(f"{percent:.2f}" for percent in about.claimed)
    figure.suptitle(
        f"Figure {number}: {about.title}\n"
        f"claimed: {claimed} % lower than end-cloud / end-edge / random",
        fontsize=11,
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure
