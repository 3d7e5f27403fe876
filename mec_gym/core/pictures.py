"""Figures need no window system here, and matplotlib is loaded only when one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour-blind readers can tell these apart too (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, PINK, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00"
GREY = "#8A8A8A"
SMALL = 8.5  # pt, the size of all text but titles
LEGEND: dict[str, Any] = {"fontsize": SMALL, "frameon": False}
ABOVE: dict[str, Any] = {
    **LEGEND,
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 0.985),
    "ncols": 9,
    "columnspacing": 1.1,
    "handlelength": 1.2,
    "handletextpad": 0.45,
    "borderaxespad": 0.2,
}
"""A legend in one line above a panel."""


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


def headed(axes: Axes, title: str, xlabel: str, ylabel: str = "") -> None:
    """Give a panel its title above a legend of one line, and its labels."""
    style(axes, "", xlabel, ylabel)
    axes.set_title(title, loc="left", fontsize=10, pad=21)


def boxes(
    axes: Axes,
    left: FloatArray,
    right: FloatArray,
    row: npt.NDArray[Any],
    height: float,
    color: Any,
    label: str,
    zorder: float = 2,
) -> None:
    """Draw many boxes of one colour at once, which is much faster than one by one.

    Args:
        axes: The panel to draw on.
        left: Where each box begins, (K,).
        right: Where it ends, (K,).
        row: Where its middle is, (K,).
        height: The height of all boxes.
        color: Their colour.
        label: Their name, which begins with an underscore if a legend shall not have it.
        zorder: What is drawn over what.
    """
    from matplotlib.collections import PolyCollection

    low, high = row - height / 2, row + height / 2
    x, y = np.stack([left, left, right, right]), np.stack([low, high, high, low])
    corners = np.moveaxis(np.stack([x, y]), 0, -1).swapaxes(0, 1)
    looks: dict[str, Any] = {"fc": color, "ec": "none", "label": label, "zorder": zorder}
    axes.add_collection(PolyCollection(list(corners), **looks), autolim=False)


def say(axes: Axes, text: str) -> None:
    """Write into the middle of a panel, in place of what is not there yet."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=10
    )


def to_array(figure: Figure) -> npt.NDArray[np.uint8]:
    """The pixels of a figure as red, green and blue, (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.array(pixels, dtype=np.uint8)[..., :3]
