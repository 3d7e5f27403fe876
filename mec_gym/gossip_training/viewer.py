"""Pictures of gossip training: clocks and talk, the graph, accuracies, and how models agree.

Devices are numbered from 0. matplotlib is loaded only when something is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mec_gym.core.pictures import (
    ABOVE,
    BLUE,
    GREEN,
    LEGEND,
    ORANGE,
    PINK,
    SMALL,
    boxes,
    headed,
    new_figure,
    say,
    style,
)
from mec_gym.core.problem import Episode
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.gossip_training.graphs import places
from mec_gym.gossip_training.model import Decision, Outcome, State
from mec_gym.gossip_training.scenario import Scenario, Slot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Episode[Slot, State, Decision, Outcome]
BLACK, WAITING, UNUSED = "#222222", "#E3C58A", "#DDDDDD"
# Left, bottom, width and height of the panels, as shares of the figure.
CLOCKS, GRAPH = (0.065, 0.41, 0.54, 0.475), (0.64, 0.385, 0.31, 0.51)
ACCURACY, MODELS, TIMES = (
    (0.065, 0.075, 0.4, 0.215),
    (0.535, 0.075, 0.185, 0.215),
    (0.785, 0.075, 0.185, 0.215),
)
SCALE = (0.955, 0.44, 0.012, 0.4)
USUAL_ROUNDS = 16
"""The clocks are shown for so many usual rounds, so that the parts of each can be told apart."""
MOST_ROWS = 40
"""If there are more devices than this, only so many have a row among the clocks, evenly chosen by
speed."""
NAMED = 40
"""If there are more nodes than this, they have no numbers."""
POINTS = 400
"""The number of times at which the mean accuracy is drawn."""
HEIGHT = 0.72
"""The height of a box, in rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What has happened so far, in K rounds."""

    clock: FloatArray  # (K + 1, N) s
    accuracy: FloatArray  # (K + 1, N)
    trained: FloatArray  # (K, N) s, when each had trained; its clock if it was out
    active: BoolArray  # (K, N) whether it took part
    reduce: BoolArray  # (K,)
    heard: BoolArray  # (K, E) which edges were used

    @property
    def rounds(self) -> int:
        """The number of rounds, K."""
        return len(self.reduce)


def past(scenario: Scenario, episode: History) -> Past:
    """Return what has happened so far, as arrays.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    s, rounds = scenario, len(episode.outcomes)
    clock = np.array([state.clock for state in episode.states]).reshape(-1, s.devices)
    accuracy = np.array([state.accuracy for state in episode.states]).reshape(-1, s.devices)
    compute = np.asarray(episode.trace.compute_s)[:rounds].reshape(-1, s.devices)
    active = clock[:-1] < s.budget_s
    reduce = np.array([bool(d.reduce) for d in episode.decisions], dtype=np.bool_)
    asked = np.array([d.listen for d in episode.decisions], dtype=np.bool_)
    asked = asked.reshape(rounds, len(s.edges))
    listener, speaker = s.edges.T
    heard = asked & active[:, listener] & active[:, speaker] & ~reduce[:, None]
    return Past(
        clock=clock,
        accuracy=accuracy,
        trained=clock[:-1] + np.where(active, compute, 0.0),
        active=active,
        reduce=reduce,
        heard=heard,
    )


def draw_episode(scenario: Scenario, episode: History) -> Figure:
    """Draw clocks, talk, the graph and how good the models have become.

    Above: the last minutes of the devices' clocks, and the graph with how often each pair has
    talked. Below: accuracies by time, how far models are apart, and where time has gone. The figure
    is always 12 x 9 in, so that pictures of an episode make a film.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    figure = new_figure(12, 9)
    figure.set_layout_engine("none")  # by hand: a film must not jump
    seen = past(scenario, episode)
    draw_clocks(figure.add_axes(CLOCKS), scenario, episode, seen)
    draw_graph(figure.add_axes(GRAPH), figure.add_axes(SCALE), scenario, seen)
    draw_accuracy(figure.add_axes(ACCURACY), scenario, episode, seen)
    draw_consensus(figure.add_axes(MODELS), scenario, episode)
    draw_times(figure.add_axes(TIMES), scenario, seen)
    figure.suptitle(_title(scenario, episode, seen), fontsize=11, y=0.985)
    return figure


def rows_of(scenario: Scenario, episode: History) -> IntArray:
    """Return the devices that have a row, the fastest one first, at most ``MOST_ROWS`` of them.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...).
    """
    usual = np.log(episode.trace.compute_s).reshape(-1, scenario.devices).mean(axis=0)
    order = np.argsort(usual, kind="stable")
    if len(order) > MOST_ROWS:
        order = order[np.linspace(0, len(order) - 1, MOST_ROWS).round().astype(np.int64)]
    return order


def draw_clocks(axes: Axes, scenario: Scenario, episode: History, seen: Past) -> None:
    """Draw what devices did by their own clocks, one row each, and who listened to whom.

    A line leads from who was heard to who listened, where the listener's clock then is.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        seen: What has happened so far.
    """
    s = scenario
    rows = rows_of(s, episode)
    length = min(USUAL_ROUNDS * (s.usual_s + s.sent_bits / s.rate), s.budget_s)
    end = max(min(float(seen.clock[-1].max()), s.budget_s), length)
    axes.set(xlim=(end - length, end), ylim=(len(rows) - 0.4, -0.6))
    row_of = np.full(s.devices, -1)
    row_of[rows] = np.arange(len(rows))
    there = seen.active & (row_of >= 0) & (seen.clock[1:] > end - length)
    turn, device = np.nonzero(there)
    begins, trained = seen.clock[turn, device], seen.trained[turn, device]
    ends, row = seen.clock[turn + 1, device], row_of[device]
    boxes(axes, begins, trained, row, HEIGHT, BLUE, "_train")
    late = ends > trained
    boxes(axes, trained[late], ends[late], row[late], HEIGHT, WAITING, "_wait")
    axes.vlines(ends, row - HEIGHT / 2, row + HEIGHT / 2, color="white", lw=0.8, zorder=3)
    _draw_talk(axes, s, seen, row_of, end - length)
    step = -(-len(rows) // MOST_ROWS)
    axes.set_yticks(range(0, len(rows), step), [str(device) for device in rows[::step]])
    title = "Clocks"
    if len(rows) < s.devices:
        title += f" ({len(rows)} of {s.devices} devices)"
    headed(axes, title, "time on the device's own clock (s)", "device, the fastest one on top")
    axes.tick_params(axis="y", labelsize=7.0)
    _add_clock_legend(axes)
    if not seen.rounds:
        say(axes, "nothing has been played yet")


def _draw_talk(axes: Axes, scenario: Scenario, seen: Past, row_of: IntArray, begin: float) -> None:
    """Draw lines from speakers to listeners, and lines across for all-reduces."""
    listener, speaker = scenario.edges.T
    turn, edge = np.nonzero(seen.heard)
    i, j = row_of[listener[edge]], row_of[speaker[edge]]
    when = seen.clock[turn + 1, listener[edge]]
    shown = (i >= 0) & (j >= 0) & (when > begin)
    crowded = shown.sum() / max(len(np.unique(turn[shown])), 1) > 2 * len(row_of)
    looks: dict[str, Any] = {"color": PINK, "lw": 0.9, "alpha": 0.15 if crowded else 0.8}
    axes.vlines(when[shown], i[shown], j[shown], zorder=4, label="_talk", **looks)
    axes.plot(when[shown], i[shown], "o", color=PINK, ms=2.5, zorder=5, label="_listener")
    together = np.flatnonzero(seen.reduce)
    if len(together):
        ends = np.where(seen.active[together], seen.clock[together + 1], -np.inf).max(axis=1)
        low, high = axes.get_ylim()
        axes.vlines(ends[ends > begin], low, high, color=GREEN, lw=1.2, zorder=4, label="_reduce")


def _add_clock_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(fc=BLUE, label="trains"),
        Patch(fc=WAITING, label="sends, waits"),
        Line2D([], [], color=PINK, lw=0.9, marker="o", ms=3, label="listens (dot) to"),
        Line2D([], [], color=GREEN, lw=1.2, label="all-reduce"),
    ]
    axes.legend(handles=handles, **ABOVE)


def draw_graph(axes: Axes, scale: Axes, scenario: Scenario, seen: Past) -> None:
    """Draw who may listen to whom, how often pairs have talked, and how good each model is.

    Args:
        axes: The panel to draw on.
        scale: The panel for the colours of accuracies.
        scenario: What was played.
        seen: What has happened so far.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    s = scenario
    place = places(s.graph, s.devices)
    pairs, of_edge = np.unique(np.sort(s.edges, axis=-1), axis=0, return_inverse=True)
    edges = np.bincount(of_edge.reshape(-1), minlength=len(pairs))
    used = np.bincount(of_edge.reshape(-1), weights=seen.heard.sum(axis=0), minlength=len(pairs))
    share = used / edges / max(seen.rounds, 1)
    lines = place[pairs]
    thin = 0.8 if len(pairs) <= 60 else 0.3
    axes.add_collection(LineCollection(list(lines), colors=UNUSED, lw=thin, zorder=1))
    most = share.max(initial=0.0)
    if most > 0:
        drawn = share > 0
        wide = LineCollection(
            list(lines[drawn]), colors=PINK, lw=4.0 * share[drawn] / most, alpha=0.85, zorder=2
        )
        axes.add_collection(wide)
    colors, norm = colormaps["viridis"], Normalize(0.0, 1.0)
    accuracy = seen.accuracy[-1]
    x, y = place.T
    looks: dict[str, Any] = {"cmap": colors, "norm": norm, "zorder": 3, "edgecolors": "white"}
    axes.scatter(x, y, s=330.0 if s.devices <= 20 else 90.0, c=accuracy, **looks)
    if s.devices <= NAMED:
        font = 8.0 if s.devices <= 20 else 5.5
        for device, (x, y) in enumerate(place):
            color = "white" if accuracy[device] < 0.6 else BLACK
            axes.text(
                x, y, str(device), color=color, fontsize=font, ha="center", va="center_baseline",
                zorder=4,
            )  # fmt: skip
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal")
    axes.axis("off")
    axes.set_title(f"Who may listen to whom: {s.graph}", loc="left", fontsize=10)
    often = f"the widest talked in {most:.0%} of all rounds" if most > 0 else "no pair has talked"
    if seen.reduce.any():
        often += f"; all-reduce in {seen.reduce.mean():.0%}"
    axes.text(0.5, -0.01, often, transform=axes.transAxes, ha="center", va="top", fontsize=SMALL)
    bar = axes.figure.colorbar(ScalarMappable(norm, colors), cax=scale)
    bar.ax.tick_params(labelsize=7.0)
    scale.set_title("accuracy", fontsize=7.5)


def accuracy_over_time(
    scenario: Scenario, episode: History, seen: Past
) -> tuple[FloatArray, FloatArray]:
    """Return times (M,), and what the accuracy of each device was then, (M, N).

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        seen: What has happened so far.
    """
    s, last = scenario, episode.states[-1]
    end = s.budget_s if bool(last.over) else min(float(seen.clock[-1].min()), s.budget_s)
    times = np.linspace(0.0, end, POINTS)
    accuracy = seen.accuracy.copy()
    if episode.outcomes and episode.outcomes[-1].diverged:
        accuracy[-1] = 0.0
    found = [
        accuracy[np.searchsorted(seen.clock[:, device], times, side="right") - 1, device]
        for device in range(s.devices)
    ]
    return times, np.stack(found, axis=-1)


def draw_accuracy(axes: Axes, scenario: Scenario, episode: History, seen: Past) -> None:
    """Draw the accuracy of each device by its own clock, their mean, and what is charged.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        seen: What has happened so far.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    s = scenario
    times, accuracy = accuracy_over_time(s, episode, seen)
    lines = [np.stack([times, one], axis=-1) for one in accuracy.T]
    alpha = 0.6 if s.devices <= 20 else 0.25
    axes.add_collection(LineCollection(lines, colors=BLUE, lw=0.6, alpha=alpha))
    mean = accuracy.mean(axis=-1)
    axes.plot(times, mean, color=BLACK, lw=1.6, label="_mean")
    axes.fill_between(times, mean, 1.0, color=ORANGE, alpha=0.3, lw=0, label="_error")
    test = float(episode.outcomes[-1].test_accuracy) if episode.outcomes else 0.0
    if test > 0:
        axes.plot(s.budget_s, test, "D", color=PINK, ms=6, clip_on=False, label="_test", zorder=4)
    axes.set(xlim=(0.0, s.budget_s), ylim=(0.0, 1.0))
    headed(axes, "Accuracy", "time (s)")
    handles: list[Any] = [
        Line2D([], [], color=BLUE, lw=0.8, label="a device"),
        Line2D([], [], color=BLACK, lw=1.6, label="mean"),
        Patch(fc=ORANGE, alpha=0.3, label="charged"),
        Line2D([], [], color=PINK, ls="", marker="D", ms=5, label="test, at the end"),
    ]
    axes.legend(handles=handles, **ABOVE)


def draw_consensus(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw how far models are from their mean, round by round.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    distance = [float(outcome.consensus) for outcome in episode.outcomes]
    turns = np.arange(1, len(distance) + 1)
    axes.plot(turns, distance, color=BLACK, lw=1.1, marker="." * (len(turns) < 20))
    axes.set(xlim=(0, max(len(turns), 10)), ylim=(0.0, 1.08 * max([*distance, 1e-3])))
    style(axes, "Distance of models from their mean", "round")


def draw_times(axes: Axes, scenario: Scenario, seen: Past) -> None:
    """Draw which share of a round devices train, send or wait, a mean over some rounds each.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        seen: What has happened so far.
    """
    from matplotlib.patches import Patch

    count = min(seen.rounds, 24)
    length = np.where(seen.active, seen.clock[1:] - seen.clock[:-1], 0.0).sum(axis=-1)
    training = np.where(seen.active, seen.trained - seen.clock[:-1], 0.0).sum(axis=-1)
    groups = np.array_split(np.arange(seen.rounds), max(count, 1))
    for group in groups[:count]:
        whole = float(length[group].sum())
        share = float(training[group].sum()) / whole if whole > 0 else math.nan
        left, width = group[0] + 0.5, len(group)
        axes.bar(left, share, width, color=BLUE, align="edge", ec="white", lw=0.4)
        axes.bar(
            left, 1 - share, width, bottom=share, color=WAITING, align="edge", ec="white", lw=0.4
        )
    axes.set(xlim=(0.5, max(seen.rounds, 10) + 0.5), ylim=(0.0, 1.0))
    style(axes, "Where time goes", "round")
    handles = [Patch(fc=BLUE, label="training"), Patch(fc=WAITING, label="sending, waiting")]
    axes.legend(handles=handles, **(LEGEND | {"loc": "lower left", "frameon": True}))


def _title(scenario: Scenario, episode: History, seen: Past) -> str:
    """Return one line on the whole episode so far."""
    s = scenario
    what = {"weights": "", "choco": ", compressed", "segments": ", segments"}
    size = f"{s.devices} devices, {s.mixing}{what.get(s.payload, ', ' + s.payload)}"
    size += ", overlap" * s.overlap
    if not episode.outcomes:
        return f"{size}: nothing played yet"
    cost = sum(float(outcome.error_s) for outcome in episode.outcomes) / s.budget_s
    sent = sum(float(outcome.sent_bits) for outcome in episode.outcomes) / 8e6
    clock = float(np.minimum(seen.clock[-1], s.budget_s).mean())
    ended = ", diverged" if episode.outcomes[-1].diverged else ""
    return (
        f"{size}: {seen.rounds} round{'s' * (seen.rounds != 1)} in {clock:,.0f} of "
        f"{s.budget_s:,.0f} s, {sent:,.0f} MB, accuracy "
        f"{float(episode.outcomes[-1].accuracy):.3f}{ended}, return \N{MINUS SIGN}{cost:.3f}"
    )
