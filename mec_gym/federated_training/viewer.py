"""Pictures of federated training: who trained when, what the server learnt, and from whom.

Clients and classes are numbered from 0. matplotlib is loaded only when something is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.pictures import (
    ABOVE,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SMALL,
    boxes,
    headed,
    new_figure,
    say,
    style,
)
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.federated_training import jobs
from mec_gym.federated_training.past import Fate, History, Merge, PastJobs, past
from mec_gym.federated_training.scenario import Scenario, Slot
from mec_gym.federated_training.world import World, known_images
from mec_gym.learning.partition import class_shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK = "#222222"
ABSENT = "#DDDDDD"
PARTS = {"download": "#56B4E9", "compute": BLUE, "upload": "#003A5C"}
FATE_COLORS: dict[Fate, str] = {"merged": GREEN, "lost": RED, "dropped": ORANGE}
# Left, bottom, width and height of the panels, as shares of the figure.
TIMELINE = (0.07, 0.4, 0.57, 0.485)
IMAGES, TAKEN = (0.67, 0.4, 0.13, 0.485), (0.825, 0.4, 0.155, 0.485)
ACCURACY, CLASSES = (0.07, 0.075, 0.57, 0.215), (0.7, 0.075, 0.28, 0.215)
USUAL_JOBS = 18
"""The timeline is so many usual jobs long, so that the parts of each can be told apart."""
MOST_ROWS = 60
"""If there are more clients than this, those with the most jobs in sight are drawn."""
MOST_CLASSES = 10
"""If there are more classes than this, the rest share a colour."""
NAMED = 40
"""If there are more rows than this, not all of them get a label."""
HEIGHT = 0.78
"""The height of a box, in rows."""
FONTS = (7.0, 6.0, 5.0)
"""Sizes of the numbers in boxes; where even the smallest does not fit, there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What of an episode is in sight."""

    jobs: PastJobs  # of the whole episode
    merges: list[Merge]
    begin: float  # s, where the timeline begins
    end: float  # s
    now: float  # s
    rows: IntArray  # (R,) the clients of the timeline, the fastest one first


def draw_episode(scenario: Scenario, episode: History) -> Figure:
    """Draw who trained when, how often and on what, and how good the model has become.

    Above: the last minutes of the episode, client by client; what each client holds, and how
    often it has been merged. Below: accuracy on the validation images, weighted by demand, and
    the share of each class that the model gets right. The figure is always 12 x 9 in, and no row
    moves if there are at most 60 clients, so that pictures of an episode make a film.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    figure = new_figure(12, 9)
    figure.set_layout_engine("none")  # by hand: a film must not jump
    sight = look(scenario, episode)
    timeline = figure.add_axes(TIMELINE)
    images, taken = figure.add_axes(IMAGES), figure.add_axes(TAKEN)
    draw_timeline(timeline, scenario, episode, sight)
    draw_images(images, scenario, episode, sight)
    draw_taken(taken, scenario, sight)
    draw_accuracy(figure.add_axes(ACCURACY), scenario, episode, sight)
    draw_classes(figure.add_axes(CLASSES), scenario, episode, sight)
    figure.suptitle(_title(scenario, episode, sight), fontsize=11, y=0.985)
    return figure


def look(scenario: Scenario, episode: History) -> Sight:
    """Choose what is in sight: the last minutes, and at most 60 clients.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    s = scenario
    now = float(episode.states[-1].clock)
    length = min(USUAL_JOBS * (s.compute_scale + s.link_scale), s.budget_s)
    begin = max(now - length, 0.0)
    found, merges = past(s, episode)
    order = np.argsort(usual_seconds(s, episode), kind="stable")
    if s.clients > MOST_ROWS:
        seen = found.where((found.until >= begin) & (found.begin <= now))
        often = np.bincount(seen.client, minlength=s.clients)
        busiest = np.argsort(-often[order], kind="stable")[:MOST_ROWS]
        order = order[np.sort(busiest)]
    return Sight(jobs=found, merges=merges, begin=begin, end=begin + length, now=now, rows=order)


def usual_seconds(scenario: Scenario, episode: History) -> FloatArray:
    """Compute how long the clients' jobs take that begin at 0, without jitter, (N,) s.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...).
    """
    n = scenario.clients
    slot: Slot = arrays.slot_of(episode.trace, 0)
    world = World(replace(slot, jitter=np.ones(n)), (), scenario)
    each = jobs.Jobs(
        environment=np.zeros(n, dtype=np.int64),
        row=np.zeros(n, dtype=np.int64),
        client=np.arange(n),
        begin=np.zeros(n),
        steps=np.full(n, scenario.local_steps),
    )
    computed = jobs.times(each, world, scenario).computed
    return jobs.arrival(each, computed, np.full(n, scenario.upload_bits), world, scenario)


def draw_timeline(axes: Axes, scenario: Scenario, episode: History, sight: Sight) -> None:
    """Draw what clients did, one row each, and when the server merged.

    A job has three parts. A number says how stale its update was when it was merged, and a line
    below the job marks it, too. What is on its way is drawn up to now.

    Args:
        axes: The panel to draw on; it must have its place in the figure already.
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        sight: What is in sight.
    """
    s = scenario
    found = sight.jobs.where(sight.jobs.until > sight.begin)
    axes.set(xlim=(sight.begin, sight.end), ylim=(len(sight.rows) - 0.4, -0.6))
    row_of = _rows(s, sight)
    _draw_absence(axes, scenario, episode, sight)
    ends = np.minimum([found.begin, found.received, found.computed, found.until], found.until)
    for (part, color), begin, end in zip(PARTS.items(), ends, ends[1:], strict=False):
        there = (row_of[found.client] >= 0) & (end > begin)
        row = row_of[found.client[there]]
        boxes(axes, begin[there], end[there], row, HEIGHT, color, f"_{part}")
    _draw_fates(axes, scenario, sight)
    merges = [merge.time for merge in sight.merges if merge.time >= sight.begin]
    low, high = axes.get_ylim()
    width = 0.6 if len(merges) < 60 else 0.3
    axes.vlines(merges, low, high, color=GREEN, lw=width, alpha=0.7, zorder=1, label="_merges")
    step = -(-len(sight.rows) // NAMED)
    shown = range(0, len(sight.rows), step)
    axes.set_yticks(shown, [str(sight.rows[row]) for row in shown])
    title = "Who trains when"
    if len(sight.rows) < s.clients:
        title += f" ({len(sight.rows)} of {s.clients} clients)"
    headed(axes, title, "time (s)", "client, the fastest one on top")
    axes.tick_params(axis="y", labelsize=7.0)
    _add_timeline_legend(axes)
    if not len(sight.jobs.client):
        say(axes, "nobody has been sent off yet")


def _draw_absence(axes: Axes, scenario: Scenario, episode: History, sight: Sight) -> None:
    """Shade when clients cannot be reached, up to now."""
    present = np.asarray(episode.trace.present).reshape(scenario.clients, -1)[sight.rows]
    change = np.diff(np.pad(~present, ((0, 0), (1, 1))).astype(np.int64), axis=-1)
    edges = np.minimum(np.arange(change.shape[1]) * scenario.bin_s, sight.now)
    row, first = np.nonzero(change == 1)
    begin, end = edges[first], edges[np.nonzero(change == -1)[1]]
    seen = (end > begin) & (end > sight.begin)
    boxes(axes, begin[seen], end[seen], row[seen], 1.0, ABSENT, "_absent", zorder=0)


def _draw_fates(axes: Axes, scenario: Scenario, sight: Sight) -> None:
    """Mark what was merged as stale, lost or dropped."""
    found = sight.jobs
    row = _rows(scenario, sight)[found.client]
    drawn = (row >= 0) & (found.until >= sight.begin)
    box = axes.get_window_extent()
    points = 72.0 / axes.figure.dpi
    high = points * box.height * HEIGHT / max(len(sight.rows), 1)
    marks: dict[str, Any] = {"ls": "", "mew": 1.8, "clip_on": False, "zorder": 4}
    kinds: tuple[tuple[Fate, str, float], ...] = (("lost", "x", 5.0), ("dropped", "|", 12.0))
    for fate, marker, most in kinds:
        chosen = drawn & (found.fate == fate)
        marks |= {"marker": marker, "color": FATE_COLORS[fate], "ms": min(most, 1.2 * high)}
        axes.plot(found.until[chosen], row[chosen], label=f"_{fate}", **marks)
    stale = drawn & (found.staleness > 0)
    low = row[stale] + HEIGHT / 2
    axes.hlines(low, found.begin[stale], found.until[stale], color=PINK, lw=1.6, label="_stale")
    wide = points * box.width / (sight.end - sight.begin)
    for number in np.flatnonzero(stale).tolist():
        begin = max(found.begin[number], sight.begin)
        room, text = wide * (found.until[number] - begin), str(found.staleness[number])
        fits = (f for f in FONTS if f <= 1.15 * high and room > 0.7 * f * len(text) + 1.0)
        if (size := next(fits, None)) is not None:
            axes.text(
                (begin + found.until[number]) / 2,
                row[number],
                text,
                ha="center",
                va="center_baseline",
                color="white",
                fontsize=size,
                zorder=3,
            )


def _add_timeline_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(fc=color, label=part) for part, color in PARTS.items()]
    handles += [
        Line2D([], [], color=PINK, lw=1.6, label="stale by n merges"),
        Line2D([], [], color=RED, ls="", marker="x", ms=5, mew=1.6, label="lost"),
        Line2D([], [], color=ORANGE, ls="", marker="|", ms=9, mew=1.8, label="dropped"),
        Patch(fc=ABSENT, label="absent"),
        Line2D([], [], color=GREEN, lw=0.9, label="merge"),
    ]
    axes.legend(handles=handles, **ABOVE)


def draw_images(axes: Axes, scenario: Scenario, episode: History, sight: Sight) -> None:
    """Draw how many images of each class the clients know by now.

    Args:
        axes: The panel to draw on, beside the timeline.
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        sight: What is in sight.
    """
    held = known_classes(scenario, episode)[sight.rows]
    rows, left = np.arange(len(held)), np.zeros(len(held))
    for name, color, members in class_groups(scenario):
        width = held[:, members].sum(axis=-1)
        boxes(axes, left, left + width, rows, HEIGHT, color, f"_{name}")
        left = left + width
    axes.set(ylim=(len(held) - 0.4, -0.6), yticks=[], xlim=(0.0, 1.05 * left.max()))
    headed(axes, "What it knows", "images by class")


def draw_taken(axes: Axes, scenario: Scenario, sight: Sight) -> None:
    """Draw how often clients were merged, and how often they were sent off in vain.

    Args:
        axes: The panel to draw on, beside the timeline.
        scenario: What was played.
        sight: What is in sight.
    """
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    rows, left = np.arange(len(sight.rows)), np.zeros(len(sight.rows))
    handles = []
    for fate, color in FATE_COLORS.items():
        right = left + sight.jobs.count(fate, scenario.clients)[sight.rows]
        boxes(axes, left, right, rows, HEIGHT, color, f"_{fate}")
        handles.append(Patch(fc=color, label=fate))
        left = right
    axes.set(ylim=(len(rows) - 0.4, -0.6), yticks=[], xlim=(0.0, max(1.0, 1.05 * left.max())))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    headed(axes, "How often", "jobs")
    axes.legend(handles=handles, **(ABOVE | {"columnspacing": 0.8, "handlelength": 0.8}))


def draw_accuracy(axes: Axes, scenario: Scenario, episode: History, sight: Sight) -> None:
    """Draw accuracy on the validation images, weighted by demand, and the error that is charged.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        sight: What is in sight.
    """
    s = scenario
    times, accuracy = accuracy_over_time(s, episode)
    if sight.end - sight.begin < s.budget_s:
        axes.hlines(0.0, sight.begin, sight.end, color=GREY, lw=6, label="_sight")
    axes.plot(times, accuracy, color=BLACK, lw=1.3, drawstyle="steps-post", label="_accuracy")
    if s.goal == "error":
        axes.fill_between(
            times, accuracy, 1.0, step="post", color=ORANGE, alpha=0.35, lw=0, label="_error"
        )
    else:
        axes.axhline(s.target, color=RED, lw=1.0, ls=":", label="_target")
    if episode.outcomes and (test := float(episode.outcomes[-1].test_accuracy)) > 0:
        axes.plot(sight.now, test, "D", color=PINK, ms=6, clip_on=False, label="_test", zorder=4)
    axes.set(xlim=(0.0, s.budget_s), ylim=(0.0, 1.0))
    style(axes, "Accuracy", "time (s)")
    _add_accuracy_legend(axes, scenario)


def _add_accuracy_legend(axes: Axes, scenario: Scenario) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    name = "validation images" + ", weighted by demand" * (scenario.drift_s is not None)
    handles: list[Any] = [Line2D([], [], color=BLACK, lw=1.3, label=name)]
    if scenario.goal == "error":
        handles.append(Patch(fc=ORANGE, alpha=0.35, label="error that is charged"))
    else:
        handles.append(Line2D([], [], color=RED, lw=1.0, ls=":", label="target"))
    handles += [
        Line2D([], [], color=PINK, ls="", marker="D", ms=5, label="test images, at the end"),
        Line2D([], [], color=GREY, lw=4, label="shown above"),
    ]
    axes.legend(handles=handles, **ABOVE)


def draw_classes(axes: Axes, scenario: Scenario, episode: History, sight: Sight) -> None:
    """Draw which share of each class the model gets right, beside what it was made of.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        sight: What is in sight.
    """
    s = scenario
    recall = np.asarray(episode.states[-1].recall)
    groups = [g for g in class_groups(s) if len(g[2]) == 1]
    chosen = np.array([members[0] for _, _, members in groups])
    world = World(arrays.slot_of(episode.trace, 0), (), s)
    asked = world.demand_now(np.array([sight.now]))[0, chosen]
    x = np.arange(len(groups))
    for there, alpha, name in ((asked > 0, 1.0, "_recall"), (asked == 0, 0.3, "_not asked for")):
        colors = [color for (_, color, _), shown in zip(groups, there, strict=True) if shown]
        axes.bar(x[there], recall[chosen][there], 0.8, color=colors, alpha=alpha, label=name)
    seen = seen_shares(s, episode, sight)[chosen]
    labels = [name for name, _, _ in groups]
    if sight.merges:
        labels = [f"{name}\n{share:.0%}" for name, share in zip(labels, seen, strict=True)]
    axes.set(xlim=(-0.6, len(x) - 0.4), ylim=(0.0, 1.0))
    label = "class" + ", and its share of what was merged" * bool(sight.merges)
    style(axes, "What the model gets right", label)
    axes.set_xticks(x, labels, fontsize=7.5)
    if (asked == 0).any():
        axes.set_title("pale: not asked for", loc="right", fontsize=SMALL)


def accuracy_over_time(scenario: Scenario, episode: History) -> tuple[FloatArray, FloatArray]:
    """Return when accuracy changes, and to what, (E,) each; the last time ends the curve.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    s, last = scenario, episode.states[-1]
    clocks = np.array([float(state.clock) for state in episode.states])
    recalls = np.array([state.recall for state in episode.states])
    reached = s.goal == "target" and bool(last.over) and not _spent(s, episode)
    end = s.budget_s if last.over and not reached else clocks[-1]
    if episode.outcomes and episode.outcomes[-1].diverged:
        recalls[-1] = 0.0
    world = World(arrays.slot_of(episode.trace, 0), (), s)
    edges = np.arange(s.bins) * s.bin_s if world.table("demand", 2).shape[1] > 1 else clocks
    times = np.unique(np.concatenate([clocks, edges[edges < end], [end]]))
    which = np.searchsorted(clocks, times, side="right") - 1
    demand = np.array([world.demand_now(np.array([time]))[0] for time in times])
    return times, (demand * recalls[which]).sum(axis=-1)


def _spent(scenario: Scenario, episode: History) -> bool:
    """Whether an episode that is over has cost the whole budget."""
    cost = sum(float(outcome.cost_s) for outcome in episode.outcomes)
    return cost >= scenario.budget_s * (1.0 - 1e-9)


def known_classes(scenario: Scenario, episode: History) -> FloatArray:
    """Return how many images of each class the clients know by now, (N, classes).

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    slot: Slot = arrays.slot_of(episode.trace, 0)
    samples, clock = np.asarray(slot.samples), np.asarray(episode.states[-1].clock)
    first, count = known_images(samples, clock, scenario)
    labels, classes = scenario.data.learn.labels, scenario.network.sizes[-1]

    def upto(number: IntArray) -> FloatArray:
        return class_shares(labels, slot.own, number, classes) * number[:, None]

    return upto(first + count) - upto(first)


def seen_shares(scenario: Scenario, episode: History, sight: Sight) -> FloatArray:
    """Return the share of each class in what was merged, client by client, (classes,).

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        sight: What is in sight.
    """
    held = known_classes(scenario, episode)
    if scenario.merge_weights == "equal" or scenario.merge != "average":
        held = held / held.sum(axis=-1, keepdims=True)
    seen = sight.jobs.count("merged", scenario.clients) @ held
    return np.asarray(seen / max(seen.sum(), 1.0))


def class_groups(scenario: Scenario) -> list[tuple[str, Any, list[int]]]:
    """Return name, colour and members of the classes that have a colour, and of all others."""
    from matplotlib import colormaps

    classes = scenario.network.sizes[-1]
    order = np.argsort(-scenario.class_shares, kind="stable")
    own = np.sort(order[: classes if classes <= MOST_CLASSES else MOST_CLASSES - 1]).tolist()
    colors = colormaps["tab10"].colors  # type: ignore[attr-defined]
    groups: list[tuple[str, Any, list[int]]] = [
        (str(c), colors[number], [c]) for number, c in enumerate(own)
    ]
    if rest := sorted(set(range(classes)) - set(own)):
        groups.append(("others", GREY, rest))
    return groups


def _rows(scenario: Scenario, sight: Sight) -> IntArray:
    """Return the row of each client, (N,); -1 if it has none."""
    rows = np.full(scenario.clients, -1)
    rows[sight.rows] = np.arange(len(sight.rows))
    return rows


def _title(scenario: Scenario, episode: History, sight: Sight) -> str:
    """Return one line on the whole episode so far."""
    s = scenario
    wait = f"{s.quorum} to merge" + (f" or {s.deadline:g} s" if s.deadline is not None else "")
    late = {"keep": "late ones kept", "drop": "late ones dropped"}[s.late]
    size = f"{s.clients} clients, {s.at_once} at once, {wait}, {late}"
    if not episode.outcomes:
        return f"{size}: nothing played yet"
    cost = sum(float(o.cost_s) for o in episode.outcomes) / s.budget_s
    accuracy = float(episode.outcomes[-1].accuracy)
    count = len(sight.merges)
    return (
        f"{size}: {count} merge{'s' * (count != 1)} in {sight.now:,.0f} of {s.budget_s:,.0f} s, "
        f"accuracy {accuracy:.3f}, return \N{MINUS SIGN}{cost:.3f}"
    )
