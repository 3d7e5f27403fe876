"""Pictures of comparisons and of what a learner decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.pictures import ABOVE, GREY, new_figure
from mec_gym.core.rollout import Rollout
from mec_gym.core.types import FloatArray
from train.evaluation.evaluate import Result, behind_best, interval, known_gaps
from train.evaluation.tables import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _draw_bars(
    axes: Axes,
    rows: FloatArray,
    means: FloatArray,
    ends: FloatArray,
    colours: Sequence[Any],
    unit: str,
    **looks: Any,
) -> None:
    """Draw bars (n,) with their intervals (n, 2), and write their numbers beside them."""
    errors = np.maximum(np.abs(ends.T - means), 0.0)
    axes.barh(rows, means, xerr=errors, color=colours, capsize=3, **looks)
    for row, mean, end in zip(rows, means, ends, strict=True):
        text = f"{mean:,.0f}{unit}" if mean >= 1000 else f"{mean:.3g}{unit}"
        axes.annotate(text, (end[1], row), (5, 0), textcoords="offset points", va="center")


def _draw_online_gaps(
    axes: Axes, rows: FloatArray, results: Sequence[Result], colours: Sequence[Any]
) -> FloatArray:
    """Draw the online gaps of all who have one, and a legend; return their intervals, (k, 2)."""
    from matplotlib.patches import Patch

    known = [(k, r.online) for k, r in enumerate(results) if r.online is not None]
    at = [k for k, _ in known]
    gaps = np.array([online.gap_percent for _, online in known])
    ends = np.array([online.gap_percent_ci95 for _, online in known])
    hatched: dict[str, Any] = {"fill": False, "hatch": "////"}
    own = [colours[k] for k in at]
    _draw_bars(axes, rows[at], gaps, ends, own, " %", height=0.38, edgecolor=own, **hatched)
    handles = [
        Patch(color=GREY, label="return, to the bound"),
        Patch(edgecolor=GREY, label="expected return, to the online bound", **hatched),
    ]
    axes.legend(handles=handles, **{**ABOVE, "bbox_to_anchor": (1.0, 1.0)})
    return ends


def comparison_figure(results: Sequence[Result], bound: FloatArray | None, title: str) -> Figure:
    """Draw each agent's mean gap with its interval, and the share of episodes within a gap.

    Without a bound, what stands in the place of gaps is the return that is missing to the best
    known, that of the best agent of the comparison on the same episode. Beside gaps to the bound,
    hatched bars show the online gaps where there are some: those of what agents can expect.

    Args:
        results: One result per agent.
        bound: Bound on each episode's return, (n,); None without one.
        title: Text above the picture.
    """
    from matplotlib import colormaps

    gaps = [known_gaps(r.rollout.returns, bound) for r in results]
    values: list[FloatArray] = [gap for gap in gaps if gap is not None]
    label, unit = "gap to the bound, %", " %"
    if len(values) < len(results):
        values = behind_best(results)
        label, unit = "return that is missing to the best known", ""
    online = bool(unit) and any(r.online is not None for r in results)
    figure = new_figure(11, (0.65 if online else 0.45) * len(results) + 2.6)
    bars, shares = figure.subplots(1, 2)
    names = [short_name(r.agent) for r in results]
    means = np.array([v.mean() for v in values])
    ends = np.array([interval(v) for v in values])
    colours = [colormaps["tab20" if len(results) > 10 else "tab10"](i) for i in range(len(results))]
    rows = np.arange(len(results) - 1.0, -1.0, -1.0)
    bars.set_yticks(rows, names)
    bars.set_xlabel(f"mean {'gap, %' if online else label} (bar: 95 % interval)")
    if online:
        _draw_bars(bars, rows + 0.2, means, ends, colours, unit, height=0.38)
        ends = np.concatenate([ends, _draw_online_gaps(bars, rows - 0.2, results, colours)])
    else:
        _draw_bars(bars, rows, means, ends, colours, unit)
    for k, (value, colour) in enumerate(zip(values, colours, strict=True)):
        ordered = np.sort(value)
        share = np.arange(len(ordered) + 1) / len(ordered)
        # Lines of agents that decide alike lie on each other: all of them show if dashes differ.
        dashes = ("-", "--", ":")[k % 3]
        steps = np.append(ordered[0], ordered)
        shares.step(steps, share, where="post", c=colour, ls=dashes)
    lowest = min(0.0, *(v.min() for v in values))
    # The worst policies are off the chart; the interesting part is near the bound.
    for axes, largest in ((bars, ends.max()), (shares, max(v.max() for v in values))):
        wide = largest > 200 or (axes is shares and largest > 20)
        axes.set_xlim(left=min(0.0, ends.min()) if axes is bars else lowest)
        if wide:
            axes.set_xscale("symlog", linthresh=10)
            ticks = [t for t in (0, 5, 10, 20, 50, 100, 200, 500, 2000, 5000) if t <= largest]
            axes.set_xticks(ticks, minor=False)
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.tick_params(axis="x", labelsize="small")
        room = (6.0 if wide else 1.3) if axes is bars else 1.1  # for the labels
        axes.set_xlim(right=max(largest, 1e-9) * room)
    shares.set_ylim(0, 1.02)
    shares.set_xlabel(f"{label} (colours as on the left)")
    shares.set_ylabel("share of episodes within it")
    shares.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


MOST_COLOURS = 10
"""Number of values that a list of colours can tell apart; more are shades of one scale."""


def decisions_figure(played: Rollout) -> Figure:
    """Draw how each part of the decision is spread over episodes, step by step.

    Parts of shape (n, T) are drawn, and parts of shape (n, T, N), all N together.
    """
    from matplotlib import colormaps

    names = [
        name
        for name, field in arrays.as_dict(played.decisions).items()
        if np.ndim(field) in (2, 3) and np.size(field)
    ]
    figure = new_figure(10, 2.2 * len(names))
    axes = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        values = getattr(played.decisions, name)
        if values.ndim == 3:
            values = values.swapaxes(1, 2).reshape(-1, values.shape[1])
        if values.dtype == np.bool_:
            values = values.astype(np.int64)
        slots = np.arange(1, values.shape[1] + 1)
        axis.set_title(name.replace("_", " "), loc="left", fontsize="medium")
        if len(slots) == 1:
            axis.hist(values[:, 0], bins=40)
            axis.set_ylabel("episodes")
            continue
        if np.issubdtype(values.dtype, np.integer):
            used = np.unique(values)
            shares = [(values == k).mean(axis=0) for k in used]
            if used[-1] < MOST_COLOURS:
                colours = [colormaps["tab10"](k) for k in used]
            else:  # by value, so that neighbours look alike and none looks like another
                colours = [colormaps["viridis"](k / used[-1]) for k in used]
            axis.stackplot(slots, shares, labels=[str(k) for k in used], colors=colours)
            axis.set_ylabel("share of episodes")
        else:
            low, middle, high = np.percentile(values, [10, 50, 90], axis=0)
            axis.fill_between(slots, low, high, alpha=0.3, label="10-90 %")
            axis.plot(slots, middle, marker=".", label="median")
        axis.legend(bbox_to_anchor=(1, 1), loc="lower right", ncols=12, fontsize="x-small")
        axis.set_xlim(0.5, slots[-1] + 0.5)
        axis.set_xlabel("step of the episode")
    return figure
