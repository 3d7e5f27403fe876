"""Pictures of gossip training: clocks, who listens to whom, accuracies, and what it took.

Devices are numbered from 0, rounds from 1. matplotlib is loaded only when something is drawn.
"""

from __future__ import annotations

import heapq
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
    say,
)
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.gossip_training.graphs import places
from mec_gym.gossip_training.past import History, Past, past
from mec_gym.gossip_training.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WAITING, UNUSED, STRIPE = "#C9C9C9", "#DDDDDD", "#F3F3F3"
# Left, bottom, width and height of the panels, as shares of the figure.
CLOCKS, TALK = (0.06, 0.41, 0.335, 0.475), (0.415, 0.41, 0.215, 0.475)
GRAPH = (0.66, 0.41, 0.32, 0.475)
ACCURACY, CONSENSUS = (0.06, 0.075, 0.335, 0.2), (0.455, 0.075, 0.135, 0.2)
TIMES, SENT = (0.645, 0.075, 0.135, 0.2), (0.845, 0.075, 0.135, 0.2)
USUAL_ROUNDS = 10
"""The clocks are shown for at least so many usual rounds."""
LAST_ROUNDS = 4
"""The clock that is behind is shown for at least so many rounds."""
TALK_ROUNDS = 8
"""The number of rounds of which it is shown who listened to whom."""
MOST_LANES = 60
"""If more lines of talk than this had to lie beside each other, some are left out."""
MOST_ROWS = 100
"""If there are more devices than this, only so many have a row, evenly chosen."""
NAMED = 34
"""If there are more rows than this, not all of them get a label."""
POINTS = 400
"""The number of times at which the mean accuracy is drawn."""
MOST_BARS = 80
"""If there are more rounds than this, neighbouring ones share a bar."""
HEIGHT = 0.78
"""The height of a box, in rows."""
USED = "RdPu"
"""The colours of how often pairs have talked: the more, the darker."""
GOOD = "viridis"
"""The colours of accuracies."""


def draw_episode(scenario: Scenario, episode: History) -> Figure:
    """Draw clocks, talk, the graph, and how good the models have become at what cost.

    Above: the last minutes of the devices' clocks; who listened to whom in the last rounds in which
    anybody did; the graph, with how often pairs have talked so far. Below: accuracies by time;
    round by round, how far models are apart, what share of time is training, and how much is sent.
    The figure is always 12 x 9 in and no row moves, so that pictures of an episode make a film.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    figure = new_figure(12, 9)
    figure.set_layout_engine("none")  # by hand: a film must not jump
    seen = past(scenario, episode)
    rows = rows_of(scenario, episode)
    draw_clocks(figure.add_axes(CLOCKS), scenario, seen, rows)
    draw_talk(figure.add_axes(TALK), scenario, seen, rows)
    draw_graph(figure.add_axes(GRAPH), scenario, seen)
    draw_accuracy(figure.add_axes(ACCURACY), scenario, episode, seen)
    draw_consensus(figure.add_axes(CONSENSUS), episode)
    draw_times(figure.add_axes(TIMES), seen)
    draw_sent(figure.add_axes(SENT), episode)
    figure.suptitle(_title(scenario, episode, seen), fontsize=11, y=0.985)
    return figure


def rows_of(scenario: Scenario, episode: History) -> IntArray:
    """Return the devices that have a row, from top to bottom, at most ``MOST_ROWS`` of them.

    Where everybody may listen to everybody the fastest one comes first. In other graphs devices
    keep their order, so that neighbours stand beside each other.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...).
    """
    order = np.arange(scenario.devices)
    if scenario.graph == "complete":
        usual = np.log(episode.trace.compute_s).reshape(-1, scenario.devices).mean(axis=0)
        order = np.argsort(usual, kind="stable")
    if len(order) > MOST_ROWS:
        order = order[np.linspace(0, len(order) - 1, MOST_ROWS).round().astype(np.int64)]
    return order


def sight(scenario: Scenario, seen: Past) -> tuple[float, float]:
    """Return when the clocks' panel begins and ends, s.

    It ends with the clock that is ahead. It begins so early that some usual rounds are in sight,
    and the last rounds of every device whose clock has not run out.

    Args:
        scenario: What was played.
        seen: What has happened so far.
    """
    s = scenario
    length = min(USUAL_ROUNDS * (s.usual_s + s.sent_bits / s.rate), s.budget_s)
    end = max(min(float(seen.clock[-1].max()), s.budget_s), length)
    behind = float(seen.clock[max(seen.rounds - LAST_ROUNDS, 0)].min())
    margin = 0.03 * (end - behind)  # a short round can be seen, too
    return max(min(end - length, behind - margin), 0.0), end


def draw_clocks(axes: Axes, scenario: Scenario, seen: Past, rows: IntArray) -> None:
    """Draw what devices did by their own clocks, one row each.

    Args:
        axes: The panel to draw on; it must have its place in the figure already.
        scenario: What was played.
        seen: What has happened so far.
        rows: The devices that have a row.
    """
    from matplotlib.ticker import MaxNLocator

    s = scenario
    begin, end = sight(s, seen)
    number = np.arange(len(rows))
    axes.set(xlim=(begin, end), ylim=(len(rows) - 0.4, -0.6))
    clock, trained = seen.clock[:, rows], seen.trained[:, rows]
    boxes(axes, clock[0], np.minimum(clock[-1], end), number, HEIGHT, WAITING, "_wait")
    turn, row = np.nonzero(seen.active[:, rows] & (clock[1:] > begin) & (clock[:-1] < end))
    begins, ends = clock[turn, row], clock[turn + 1, row]
    boxes(axes, begins, trained[turn, row], row, HEIGHT, BLUE, "_train")
    pixels = axes.get_window_extent().width / (end - begin)
    apart = pixels * (ends - begins) > 5.0
    low, high = row[apart] - HEIGHT / 2, row[apart] + HEIGHT / 2
    axes.vlines(ends[apart], low, high, color="white", lw=0.8, zorder=3)
    turns = np.flatnonzero(seen.reduce)
    together = np.where(seen.active[turns], seen.clock[turns + 1], -np.inf).max(axis=1, initial=0.0)
    width = 1.4 if (together > begin).sum() <= 40 else 0.5
    axes.vlines(together, *axes.get_ylim(), color=GREEN, lw=width, zorder=4, label="_reduce")
    _name_rows(axes, rows)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    title = "Clocks" + f" ({len(rows)} of {s.devices} devices)" * (len(rows) < s.devices)
    order = ", the fastest one on top" * (s.graph == "complete")
    headed(axes, title, "time on the device's own clock (s)", f"device{order}")
    axes.tick_params(axis="y", labelsize=7.0)
    _add_clock_legend(axes)
    if not seen.rounds:
        say(axes, "nothing has been played yet")


def _name_rows(axes: Axes, rows: IntArray) -> None:
    shown = range(0, len(rows), -(-len(rows) // NAMED))
    axes.set_yticks(shown, [str(rows[row]) for row in shown])


def _add_clock_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(fc=BLUE, label="trains"),
        Patch(fc=WAITING, label="waits for models"),
        Line2D([], [], color=GREEN, lw=1.4, label="all average all"),
    ]
    axes.legend(handles=handles, **ABOVE)


def draw_talk(axes: Axes, scenario: Scenario, seen: Past, rows: IntArray) -> None:
    """Draw who listened to whom in the last rounds in which anybody did, in the rows of the clocks.

    A line joins two devices, and a dot marks which of them listened. The lines of a round lie in
    lanes beside each other, so that none hides another one. Where lanes are too narrow for dots
    there are none, and of very many lines only some are drawn.

    Args:
        axes: The panel to draw on, beside the clocks; it must have its place already.
        scenario: What was played.
        seen: What has happened so far.
        rows: The devices that have a row.
    """
    turns = np.flatnonzero(seen.reduce | seen.heard.any(axis=-1))[-TALK_ROUNDS:]
    axes.set(xlim=(-0.5, TALK_ROUNDS - 0.5), ylim=(len(rows) - 0.4, -0.6), yticks=[])
    low, high = axes.get_ylim()
    left = np.arange(0.0, TALK_ROUNDS, 2) - 0.5
    boxes(axes, left, left + 1.0, np.full(len(left), low / 2), 2 * low, STRIPE, "_stripe", 0)
    for column, turn in enumerate(turns.tolist()):
        if not seen.reduce[turn]:
            _draw_round(axes, scenario, seen, rows, turn, column)
    together = np.flatnonzero(seen.reduce[turns])
    axes.vlines(together, low, high, color=GREEN, lw=2.5, zorder=2, label="_reduce")
    names = [str(turn + 1) for turn in turns] + [" "] * (TALK_ROUNDS - len(turns))
    axes.set_xticks(range(TALK_ROUNDS), names)
    headed(axes, "Who listened to whom", "last rounds with talk (dots: who listened)")
    axes.tick_params(axis="x", labelsize=SMALL if seen.rounds < 1000 else 6.0)
    if not len(turns):
        say(axes, "nobody has listened yet")


def _draw_round(
    axes: Axes, scenario: Scenario, seen: Past, rows: IntArray, turn: int, column: int
) -> None:
    """Draw the talk of one round."""
    row_of = np.full(scenario.devices, -1)
    row_of[rows] = np.arange(len(rows))
    used = row_of[scenario.edges[seen.heard[turn]]]
    used = used[(used >= 0).all(axis=-1)]
    pairs, of_edge = np.unique(np.sort(used, axis=-1), axis=0, return_inverse=True)
    every = -(-most_beside(pairs) // MOST_LANES)
    pairs = pairs[::every]
    lane = lanes(pairs)
    count = int(lane.max(initial=0)) + 1
    x: FloatArray = column + 0.84 * ((lane + 0.5) / count - 0.5)
    box, points = axes.get_window_extent(), 72.0 / axes.figure.dpi
    room = points * 0.84 * box.width / TALK_ROUNDS / count
    width = min(max(0.6 * room, 0.3), 1.2)
    axes.vlines(x, pairs[:, 0], pairs[:, 1], color=PINK, lw=width, zorder=2, label="_talk")
    if every == 1 and room > 1.0:
        dot = min(room + 1.0, 0.75 * points * box.height / len(rows), 4.0)
        looks: dict[str, Any] = {"color": BLACK, "ms": dot, "mew": 0.0, "zorder": 3}
        axes.plot(x[of_edge.reshape(-1)], used[:, 0], "o", label="_listener", **looks)


def most_beside(pairs: IntArray) -> int:
    """Return how many stretches share a place at most, at least 1.

    Args:
        pairs: Where each stretch begins and ends, (K, 2).
    """
    begun, ended = (np.bincount(side, minlength=pairs.max(initial=0) + 2) for side in pairs.T)
    return int((np.cumsum(begun)[1:] - np.cumsum(ended)[:-1]).max(initial=max(begun[0], 1)))


def lanes(pairs: IntArray) -> IntArray:
    """Return a lane for each stretch, as few as can be, such that no two in a lane touch, (K,).

    Args:
        pairs: Where each stretch begins and ends, (K, 2).
    """
    found = np.empty(len(pairs), dtype=np.int64)
    free: list[tuple[int, int]] = []  # after which place each lane is free
    for k in np.lexsort((pairs[:, 1], pairs[:, 0])).tolist():
        begin, end = pairs[k].tolist()
        if free and free[0][0] < begin:
            lane = heapq.heapreplace(free, (end, free[0][1]))[1]
        else:
            lane = len(free)
            heapq.heappush(free, (end, lane))
        found[k] = lane
    return found


def draw_graph(axes: Axes, scenario: Scenario, seen: Past) -> None:
    """Draw who may listen to whom, how often pairs have talked, and how good each model is.

    Args:
        axes: The panel to draw on; it must have its place in the figure already.
        scenario: What was played.
        seen: What has happened so far.
    """
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    s = scenario
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.62, 1.15), aspect="equal", anchor="N")
    place = places(s.graph, s.devices)
    pairs, share = talked(s, seen)
    routes = routes_of(scenario, place, pairs)
    thin = 0.8 if len(pairs) <= 60 else 0.3
    unused = list(routes[share == 0])
    axes.add_collection(LineCollection(unused, colors=UNUSED, lw=thin, zorder=1, label="_unused"))
    most = float(share.max(initial=0.0))
    often = ["no pair has talked yet"]
    if most > 0:
        order = np.argsort(share, kind="stable")
        order = order[share[order] > 0]  # the most used ones are drawn last
        strength = share[order] / most
        widest = min(25.0 / np.sqrt(len(pairs)), 4.0)
        looks: dict[str, Any] = {
            "colors": colormaps[USED](0.25 + 0.6 * strength),
            "lw": widest * (0.3 + 0.7 * strength),
        }
        axes.add_collection(LineCollection(list(routes[order]), zorder=2, label="_used", **looks))
        often = [f"the darkest talked in {most:.0%} of all rounds"]
    if s.graph == "one-sided" and len(pairs) <= 80:
        _draw_heads(axes, s, seen, place)
        often.append("arrows lead to listeners")
    if seen.reduce.any():
        often.append(f"all averaged in {seen.reduce.mean():.0%} of all rounds")
    below: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": SMALL}
    axes.text(0.0, -1.15, "\n".join(often), **below)
    headed(axes, f"Who may listen to whom: {s.graph}", "")
    axes.axis("off")
    _draw_nodes(axes, place, seen)
    _draw_scale(axes)


def talked(scenario: Scenario, seen: Past) -> tuple[IntArray, FloatArray]:
    """Return the pairs that may talk, (P, 2), and the share of rounds in which each did, (P,).

    Where both of a pair may listen to each other, a round in which one did counts half.

    Args:
        scenario: What was played.
        seen: What has happened so far.
    """
    pairs, of_edge = np.unique(np.sort(scenario.edges, axis=-1), axis=0, return_inverse=True)
    of_edge, times = of_edge.reshape(-1), seen.heard.sum(axis=0)
    edges = np.bincount(of_edge, minlength=len(pairs))
    used = np.bincount(of_edge, weights=times, minlength=len(pairs))
    return pairs, used / edges / max(seen.rounds, 1)


def routes_of(scenario: Scenario, place: FloatArray, pairs: IntArray) -> FloatArray:
    """Return the points through which the line of each pair leads, (P, points, 2).

    Lines are straight, but those that join the ends of a torus are bent around the nodes between.

    Args:
        scenario: What was played.
        place: Where devices lie, (N, 2).
        pairs: Who is linked, (P, 2).
    """
    ends = place[pairs]
    if scenario.graph != "torus":
        return ends
    begin, end = ends[:, :1], ends[:, 1:]
    way = end - begin
    length = np.linalg.norm(way, axis=-1, keepdims=True)
    bend = np.where(length > 1.5 * length.min(), 0.35 * length.min(), 0.0)
    aside = np.stack([way[..., 1], -way[..., 0]], axis=-1) / length
    inward = np.where((aside * begin).sum(axis=-1, keepdims=True) > 0, -1.0, 1.0)
    part = np.linspace(0.0, 1.0, 13)[:, None]
    return np.asarray(begin + part * way + 4.0 * part * (1.0 - part) * bend * inward * aside)


def _draw_heads(axes: Axes, scenario: Scenario, seen: Past, place: FloatArray) -> None:
    """Draw heads of arrows that lead to who may listen, dark where it did."""
    from matplotlib.collections import PolyCollection

    listener, speaker = place[scenario.edges.T]
    way = listener - speaker
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    aside = np.stack([-way[:, 1], way[:, 0]], axis=-1)
    tip = speaker + 0.62 * (listener - speaker)
    foot = tip - 0.07 * way
    corners = np.stack([tip, foot + 0.03 * aside, foot - 0.03 * aside], axis=1)
    colors = np.where(seen.heard.any(axis=0), BLACK, UNUSED).tolist()
    axes.add_collection(PolyCollection(list(corners), fc=colors, zorder=2.5, label="_heads"))


def _draw_nodes(axes: Axes, place: FloatArray, seen: Past) -> None:
    """Draw devices, as large as they fit, and with their numbers where those fit."""
    accuracy, points = seen.accuracy[-1], 72.0 / axes.figure.dpi
    apart = np.linalg.norm(place[:, None] - place, axis=-1) + 9.0 * np.eye(len(place))
    unit = points * axes.get_window_extent().width / 2.5
    room = unit * float(apart.min())
    inside = room > 11.0  # pt, between neighbours
    size = min(0.86 * room, 19.0) if inside else max(0.55 * room, 2.0)
    looks: dict[str, Any] = {"cmap": GOOD, "vmin": 0.0, "vmax": 1.0, "zorder": 3}
    edge: dict[str, Any] = {"edgecolors": "white", "linewidths": min(size / 10, 1.0)}
    axes.scatter(place[:, 0], place[:, 1], s=size**2, c=accuracy, **looks, **edge)
    font = min(0.33 * size + 2.0, 8.0) if inside else 6.5
    looks = {"fontsize": font, "ha": "center", "va": "center_baseline", "zorder": 4}
    for device in range(0, len(place), 1 if inside else 10):
        x, y = place[device] if inside else 1.08 * place[device]
        light = inside and accuracy[device] < 0.6
        axes.text(x, y, str(device), color="white" if light else BLACK, **looks)


def _draw_scale(axes: Axes) -> None:
    """Draw which colour means which accuracy, below the graph."""
    from matplotlib import colormaps

    edges = np.linspace(-0.5, 0.5, 51)
    colors = colormaps[GOOD](np.linspace(0.0, 1.0, 50))
    boxes(axes, edges[:-1], edges[1:] + 0.01, np.full(50, -1.55), 0.08, colors, "_scale")
    looks: dict[str, Any] = {"va": "center_baseline", "fontsize": SMALL}
    axes.text(-0.55, -1.55, "accuracy 0", ha="right", **looks)
    axes.text(0.55, -1.55, "1", ha="left", **looks)


def accuracy_over_time(scenario: Scenario, seen: Past, over: bool) -> tuple[FloatArray, FloatArray]:
    """Return times (M,), and what the accuracy of each device was then, (M, N).

    Args:
        scenario: What was played.
        seen: What has happened so far.
        over: Whether the episode has ended, so that models stay as they are up to the budget; else
            the last time is that of the clock that is behind.
    """
    s = scenario
    end = s.budget_s if over else min(float(seen.clock[-1].min()), s.budget_s)
    times = np.linspace(0.0, end, POINTS)
    found = [
        accuracy[np.searchsorted(clock, times, side="right") - 1]
        for clock, accuracy in zip(seen.clock.T, seen.accuracy.T, strict=True)
    ]
    return times, np.stack(found, axis=-1)


def draw_accuracy(axes: Axes, scenario: Scenario, episode: History, seen: Past) -> None:
    """Draw the accuracy of each device by its own clock, their mean, and what is charged.

    The mean ends where the clock that is behind is.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
        seen: What has happened so far.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MaxNLocator

    s, over = scenario, bool(episode.states[-1].over)
    clock, accuracy = seen.clock, seen.accuracy
    if over:
        clock = np.concatenate([clock, np.maximum(clock[-1:], s.budget_s)])
        accuracy = np.concatenate([accuracy, accuracy[-1:]])
    steps = np.stack([clock.repeat(2, axis=0)[1:], accuracy.repeat(2, axis=0)[:-1]], axis=-1)
    alpha = 0.6 if s.devices <= 20 else 0.25
    lines = list(steps.swapaxes(0, 1))
    axes.add_collection(LineCollection(lines, colors=BLUE, lw=0.6, alpha=alpha, label="_devices"))
    times, values = accuracy_over_time(s, seen, over)
    mean = values.mean(axis=-1)
    axes.plot(times, mean, color=BLACK, lw=1.6, label="_mean")
    axes.fill_between(times, mean, 1.0, color=ORANGE, alpha=0.3, lw=0, label="_error")
    test = float(episode.outcomes[-1].test_accuracy) if episode.outcomes else 0.0
    if test > 0:
        axes.plot(s.budget_s, test, "D", color=PINK, ms=6, clip_on=False, label="_test", zorder=4)
    begin, end = sight(s, seen)
    if end - begin < s.budget_s:
        axes.hlines(0.0, begin, end, color=GREY, lw=6, label="_sight")
    axes.set(xlim=(0.0, s.budget_s), ylim=(0.0, 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    headed(axes, "Accuracy", "time (s)")
    _add_accuracy_legend(axes)


def _add_accuracy_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=BLUE, lw=0.8, label="device"),
        Line2D([], [], color=BLACK, lw=1.6, label="mean"),
        Patch(fc=ORANGE, alpha=0.3, label="charged"),
        Line2D([], [], color=PINK, ls="", marker="D", ms=5, label="test"),
        Line2D([], [], color=GREY, lw=4, label="shown above"),
    ]
    axes.legend(handles=handles, **ABOVE)


def draw_consensus(axes: Axes, episode: History) -> None:
    """Draw how far models are from their mean, round by round.

    Args:
        axes: The panel to draw on.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    distance = [float(outcome.consensus) for outcome in episode.outcomes]
    turns = np.arange(1, len(distance) + 1)
    axes.plot(turns, distance, color=BLACK, lw=1.1, marker="." * (len(turns) < 20))
    axes.set(ylim=(0.0, 1.08 * max([*distance, 0.1])))
    _by_round(axes, len(turns), "Consensus distance")


def draw_times(axes: Axes, seen: Past) -> None:
    """Draw which share of their time devices train or wait, round by round.

    Args:
        axes: The panel to draw on.
        seen: What has happened so far.
    """
    if seen.rounds:
        edges = _bars(seen.rounds)
        training = np.add.reduceat(seen.training_s, edges[:-1])
        waiting = np.add.reduceat(seen.waiting_s, edges[:-1])
        share = training / (training + waiting)
        looks: dict[str, Any] = {"edges": edges + 0.5, "fill": True}
        axes.stairs(np.ones_like(share), color=WAITING, label="_wait", **looks)
        axes.stairs(share, color=BLUE, label="_train", **looks)
    axes.set(ylim=(0.0, 1.0))
    _by_round(axes, seen.rounds, "Share of training")


def draw_sent(axes: Axes, episode: History) -> None:
    """Draw how much all devices send together, round by round.

    Args:
        axes: The panel to draw on.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    sent = np.array([float(outcome.sent_bits) for outcome in episode.outcomes]) / 8e6
    if len(sent):
        edges = _bars(len(sent))
        mean = np.add.reduceat(sent, edges[:-1]) / np.diff(edges)
        axes.stairs(mean, edges + 0.5, fill=True, color=PINK, label="_sent")
    top = float(sent.max(initial=0.0))
    axes.set(ylim=(0.0, 1.08 * top if top > 0 else 1.0))
    _by_round(axes, len(sent), "MB sent per round")


def _bars(rounds: int) -> IntArray:
    """Return where bars of rounds begin, and where the last one ends."""
    return np.linspace(0, rounds, min(rounds, MOST_BARS) + 1).round().astype(np.int64)


def _by_round(axes: Axes, rounds: int, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(xlim=(0.5, max(rounds, 10) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    headed(axes, title, "round")


def _title(scenario: Scenario, episode: History, seen: Past) -> str:
    """Return one line on the whole episode so far."""
    s = scenario
    what = {"weights": "", "choco": ", compressed"}.get(s.payload, f", {s.payload}")
    size = f"{s.devices} devices, {s.mixing} mixing{what}" + ", overlap" * s.overlap
    if not episode.outcomes:
        return f"{size}: nothing played yet"
    cost = sum(float(outcome.error_s) for outcome in episode.outcomes) / s.budget_s
    sent = sum(float(outcome.sent_bits) for outcome in episode.outcomes) / 8e6
    clock = float(np.minimum(seen.clock[-1], s.budget_s).mean())
    ended = ", diverged" if episode.outcomes[-1].diverged else ""
    return (
        f"{size}: {seen.rounds} round{'s' * (seen.rounds != 1)} in {clock:,.0f} of "
        f"{s.budget_s:,.0f} s, {sent:,.{2 if 0 < sent < 10 else 0}f} MB, accuracy "
        f"{float(episode.outcomes[-1].accuracy):.3f}{ended}, return \N{MINUS SIGN}{cost:.3f}"
    )
