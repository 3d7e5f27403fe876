"""Figures need no window system here, and matplotlib is loaded only when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour-blind readers can tell these apart too (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PINK, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"
GREY = "#8A8A8A"
SMALL = 8.5  # pt, the size of all text but titles
LEGEND: dict[str, Any] = {"fontsize": SMALL, "frameon": False}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, width x height in inches, that pyplot does not know of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Give a panel its title and labels, and take away the lines at its top and right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(xlabel, fontsize=SMALL)
    axes.set_ylabel(ylabel, fontsize=SMALL)


def to_array(figure: Figure) -> npt.NDArray[np.uint8]:
    """The pixels of a figure as red, green and blue, (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.array(pixels, dtype=np.uint8)[..., :3]
