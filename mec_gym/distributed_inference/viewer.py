"""Pictures of an episode of distributed inference: who runs where, when, and at what cost.

matplotlib is loaded only when something is drawn. What is drawn is computed by
:func:`links` and :func:`bars`, whose bars add up to the delays of
:mod:`mec_gym.distributed_inference.model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.pictures import BLUE, GREEN, GREY, ORANGE, PINK, RED, new_figure
from mec_gym.core.problem import Episode
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.distributed_inference import model
from mec_gym.distributed_inference.model import Decision, Outcome, State
from mec_gym.distributed_inference.scenario import Scenario, Slot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rounds = Episode[Slot, State, Decision, Outcome]
Color = tuple[float, float, float]
LinkKind = Literal["upload", "download", "between servers", "stays"]
BarKind = Literal["transfer", "computing"]

SMALL = 8.5  # pt
BLACK = "#222222"
SERVER_COLORS = (BLUE, ORANGE, GREEN, PINK, RED)
# Beyond five servers the same hues again, darker (lighter ones would look like transfers).
SHADES = (0.0, 0.35, 0.55, 0.7)
LINES: dict[LinkKind, tuple[str, float]] = {
    "upload": ("-", 1.6),
    "download": ("--", 1.6),
    "between servers": ("-.", 1.6),
    "stays": (":", 1.0),
}
# Left, bottom, width, height of map, tasks, rounds and batteries, shares of the figure.
BOXES = (
    (0.02, 0.455, 0.345, 0.46),
    (0.425, 0.455, 0.465, 0.46),
    (0.06, 0.16, 0.83, 0.16),
    (0.06, 0.05, 0.83, 0.08),
)
NAMED = 30  # more devices than this get no label of their own
ROOMY = 8  # likewise servers


@dataclass(frozen=True, slots=True)
class Link:
    """One line of the map; bits move from ``start`` to ``end`` unless the block stays."""

    kind: LinkKind
    device: int  # 0-based
    start: int  # place: 0 the device, m server m
    end: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of a task's time."""

    kind: BarKind
    device: int  # 0-based
    place: int  # of the computing, or where the bits go; of a result: where it comes from
    start: float  # s since the task began
    end: float  # s


@dataclass(frozen=True, slots=True)
class Played:
    """One round that was played, as :func:`model.evaluate` saw it."""

    slot: Slot
    state: State  # before the round
    place: IntArray  # (N,)
    works: BoolArray  # (N,) had a block to place
    runs: BoolArray  # (N,) and ran it: the battery could pay
    parts: model.Delays  # fields (N,)

    @property
    def last(self) -> bool:
        """Whether this was the last block of the tasks."""
        return float(self.slot.blocks_left) == 1.0

    @property
    def seconds(self) -> FloatArray:
        """Delay of the round, (N,) s."""
        p = self.parts
        # Added up in the model's order: rounding must not make a task late here only.
        return np.where(self.runs, p.local + p.edge + (p.upload + p.other), 0.0)


def played(scenario: Scenario, episode: Rounds, t: int) -> Played:
    """Round t, 0-based, of those that were played."""
    slot, state = arrays.at(episode.trace, t), episode.states[t]
    place = episode.decisions[t].place
    works = slot.active & ~state.failed
    parts = model.block_delays(slot, state.place, place, works, scenario)
    needed = model.energy(slot, place, works, parts.upload, scenario)
    return Played(slot, state, place, works, works & (needed <= state.battery), parts)


def links(r: Played, scenario: Scenario) -> tuple[Link, ...]:
    """Lines between devices and servers in a round; none where nothing leaves a device.

    A block that moved between servers has two: the move, and its device's tie to the server.
    """
    found: list[Link] = []
    for n in np.flatnonzero(r.runs).tolist():
        before, place = int(r.state.place[n]), int(r.place[n])
        if place == 0:
            found += [Link("download", n, before, 0)] if before else []
            continue
        if before == 0:
            found.append(Link("upload", n, 0, place))
        elif before != place:
            found.append(Link("between servers", n, before, place))
        if r.last and scenario.return_result:
            found.append(Link("download", n, place, 0))
        elif before:
            found.append(Link("stays", n, 0, place))
    return tuple(found)


def bars(rounds: list[Played], scenario: Scenario) -> tuple[Bar, ...]:
    """A task period's bars, one device's end to end; those without length are left out.

    In each round the bits come first, then the block runs, then a result goes back. The
    last bar of a device ends at its delay after the last of the rounds.
    """
    found: list[Bar] = []
    end = np.zeros(scenario.devices)
    for r in rounds:
        on_edge = r.place > 0
        moves = on_edge & (r.state.place > 0) & (r.state.place != r.place)
        moving = np.where(moves, r.slot.bits[..., 0].astype(np.float64) / scenario.backhaul, 0.0)
        # On a server, ``other`` holds the move and the result; at home only the way back.
        returns = on_edge & r.last & scenario.return_result
        result = np.where(returns, r.parts.other - moving, 0.0)
        steps: tuple[tuple[BarKind, FloatArray], ...] = (
            ("transfer", r.parts.upload + r.parts.other - result),
            ("computing", r.parts.local + r.parts.edge),
            ("transfer", result),
        )
        for kind, seconds in steps:
            start, end = end, end + np.where(r.runs, seconds, 0.0)
            found += [
                Bar(kind, n, int(r.place[n]), float(start[n]), float(end[n]))
                for n in np.flatnonzero(end > start).tolist()
            ]
    return tuple(found)


def place_colors(servers: int) -> list[Color]:
    """Colours of the places 0..M: the device itself, then the servers."""
    from matplotlib.colors import to_rgb

    colors = [to_rgb(GREY)]
    for m in range(servers):
        far = SHADES[m // len(SERVER_COLORS) % len(SHADES)]
        colors.append(_mix(to_rgb(SERVER_COLORS[m % len(SERVER_COLORS)]), 0.0, far))
    return colors


def _mix(color: Color, towards: float, far: float) -> Color:
    """A colour, ``far`` of the way to black (0) or white (1)."""
    red, green, blue = (c + far * (towards - c) for c in color)
    return red, green, blue


def draw_episode(scenario: Scenario, episode: Rounds) -> Figure:
    """The last round played, the tasks it belongs to, and all rounds so far.

    From above, left: who ran where in the last round. Right: the time of that round's tasks,
    from their first block on. Below: latency of every round and the batteries.
    Always 12 x 9 in, so that pictures of an episode make a film.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...).
    """
    figure = new_figure(12, 9)
    # By hand: labels and legends differ from round to round, and a film must not jump.
    figure.set_layout_engine("none")
    chart, gantt, strip, battery = (figure.add_axes(box) for box in BOXES)
    battery.sharex(strip)
    strip.tick_params(labelbottom=False)
    done = len(episode.decisions)
    t = max(done - 1, 0)
    first = t - t % scenario.blocks
    rounds = [played(scenario, episode, k) for k in range(first, done)]
    draw_map(chart, scenario, arrays.at(episode.trace, t), rounds[-1] if rounds else None, t)
    draw_gantt(gantt, scenario, arrays.at(episode.trace, first), rounds, first // scenario.blocks)
    draw_rounds(strip, scenario, episode)
    draw_battery(battery, scenario, episode)
    figure.suptitle(_title(scenario, episode), fontsize=11)
    return figure


def _title(scenario: Scenario, episode: Rounds) -> str:
    done = len(episode.decisions)
    n, m = scenario.devices, scenario.servers
    size = f"{n} device{'s' * (n > 1)}, {m} server{'s' * (m > 1)}"
    if not done:
        return f"{size}: no round yet"
    o = arrays.stack(episode.outcomes)
    latency, penalty = o.latency_s.sum(), o.penalty.sum()
    return (
        f"{size}: {done} of {scenario.rounds} rounds, "
        f"cost {scenario.latency_weight * latency + penalty:.2f} "
        f"(latency {latency:.2f} s, penalties {penalty:.2f}), "
        f"{o.finished.sum()} tasks finished, {o.deadline_missed.sum()} of them late, "
        f"{o.dropped.sum()} given up"
    )


def _style(axes: Axes, title: str, xlabel: str = "", ylabel: str = "") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(xlabel, fontsize=SMALL)
    axes.set_ylabel(ylabel, fontsize=SMALL)


def _ring(count: int, radius: float) -> FloatArray:
    """Points on a circle, the first at the top, then clockwise, (count, 2)."""
    angle = 2.0 * np.pi * np.arange(count) / count
    return radius * np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def draw_map(axes: Axes, scenario: Scenario, slot: Slot, r: Played | None, t: int) -> None:
    """Devices on a ring around the servers, with the links of a round.

    Where devices walk is no part of a trace (only their rates are), so a map of true
    places cannot be drawn. A server's load counts every block that asked for its share:
    those of devices whose battery then could not pay, too.

    Args:
        axes: What is drawn on.
        scenario: What was played.
        slot: The round, fields (...).
        r: What was done in it; None: nothing yet.
        t: Its number, from 0.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch

    s, colors = scenario, place_colors(scenario.servers)
    few = s.devices <= NAMED
    devices = _ring(s.devices, 1.0)
    # Turned by half a step, or a server would hide behind the line to the first device.
    servers = _ring(2 * s.servers, 0.5 if s.servers > 1 else 0.0)[1::2]
    ours = np.zeros(s.servers)
    if r is not None:
        ours = (r.works[:, None] & (r.place[:, None] == np.arange(1, s.servers + 1))).sum(axis=0)
    load = slot.load + ours
    # Points squared; a server with three times the usual load has the largest disc.
    usual = s.devices / s.servers + s.background
    area = 90.0 + 1500.0 / max(1.0, s.servers / 4.0) * np.minimum(load / (3.0 * usual), 1.0)
    reach = np.sqrt(area) / 2.0

    for link in links(r, s) if r is not None else ():
        server = max(link.start, link.end)
        ends = [
            (devices[link.device], 5.0) if p == 0 else (servers[p - 1], reach[p - 1] + 1.0)
            for p in (link.start, link.end)
        ]
        line, width = LINES[link.kind]
        axes.add_patch(
            FancyArrowPatch(
                ends[0][0], ends[1][0], shrinkA=ends[0][1], shrinkB=ends[1][1],
                arrowstyle="-" if link.kind == "stays" else "-|>", mutation_scale=9,
                # Bent to its own left, so that what goes up and comes back does not coincide.
                connectionstyle=f"arc3,rad={0.0 if link.kind == 'stays' else 0.12}",
                color=colors[server], ls=line, lw=width if few else 0.6 * width,
                gid=f"{link.kind} {link.device + 1}", zorder=2,
            )
        )  # fmt: skip
    axes.scatter(
        servers[:, 0], servers[:, 1], s=area, color=colors[1:], edgecolors="white", zorder=3
    )
    for m, (x, y) in enumerate(servers):
        axes.text(
            x, y, f"{m + 1}", ha="center", va="center_baseline", color="white", weight="bold",
            fontsize=SMALL if s.servers <= ROOMY else 6.5, zorder=5,
        )  # fmt: skip
        if s.servers <= ROOMY:
            axes.annotate(
                f"{slot.load[m]:.1f} + {ours[m]:.0f}", (x, y), (0, -reach[m] - 2), zorder=4,
                textcoords="offset points", ha="center", va="top", fontsize=SMALL,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            )  # fmt: skip

    failed = np.zeros(s.devices, dtype=np.bool_) if r is None else slot.active & ~r.runs
    idle = ~slot.active
    place = np.zeros(s.devices, dtype=np.int64) if r is None else r.place
    face = [
        "white" if out else colors[p] for out, p in zip(idle | failed, place.tolist(), strict=True)
    ]
    edge = [GREY if out else "white" for out in idle | failed]
    if not few:  # so small, a cross over a circle is a blot
        edge = ["white" if out else color for out, color in zip(failed, edge, strict=True)]
    axes.scatter(
        devices[:, 0], devices[:, 1], s=70 if few else 20, color=face, edgecolors=edge, lw=0.8,
        zorder=3,
    )  # fmt: skip
    if failed.any():
        axes.plot(*devices[failed].T, "x", color=BLACK, ms=7 if few else 4, mew=1.8, zorder=4)
    for n, (x, y) in enumerate(1.12 * devices):
        if few or n % 10 == 9:
            axes.text(x, y, f"{n + 1}", ha="center", va="center", fontsize=SMALL)

    axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=[], yticks=[])
    block = s.blocks - int(slot.blocks_left) + 1
    _style(
        axes,
        f"Round {t + 1} of {s.rounds}, block {block} of {s.blocks}: links, not places",
        "outside: devices; inside: servers" + (
            " (other tenants + our blocks)" if s.servers <= ROOMY else ", larger the busier"
        ),
    )  # fmt: skip
    axes.spines[["left", "bottom"]].set_visible(False)
    handles = [
        Line2D([], [], color=BLACK, ls=line, lw=width, label=kind)
        for kind, (line, width) in LINES.items()
    ]
    dot: dict[str, Any] = {"ls": "", "marker": "o", "ms": 7}
    handles += [
        Line2D([], [], color=GREY, mec="white", **dot, label="runs at home"),
        Line2D([], [], color="white", mec=GREY, **dot, label="no task"),
        Line2D([], [], color=BLACK, ls="", marker="x", ms=7, mew=1.8, label="given up"),
    ]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.0, -0.07), ncols=4,
        fontsize=SMALL, frameon=False, columnspacing=0.9, handlelength=2.2, handletextpad=0.5,
    )  # fmt: skip


def draw_gantt(
    axes: Axes, scenario: Scenario, slot: Slot, rounds: list[Played], period: int
) -> None:
    """Where the time of each device's task went, one row a device.

    Args:
        axes: What is drawn on.
        scenario: What was played.
        slot: The first round of the tasks, fields (...).
        rounds: Those played of them.
        period: Their number, from 0.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    s, colors = scenario, place_colors(scenario.servers)
    few = s.devices <= NAMED
    active = np.flatnonzero(slot.active)
    delay = sum((r.seconds for r in rounds), np.zeros(s.devices))
    failed = np.zeros(s.devices, dtype=np.bool_)
    for r in rounds:
        failed |= r.works & ~r.runs
    late = slot.active & ~failed & (delay > slot.deadline)
    # Later than that counts no more, and one such task would squeeze all the others.
    longest = slot.deadline[active].max(initial=0.0)
    worst = (1.0 + model.WORST_LATENESS) * longest
    right = 1.05 * min(max(delay.max(), longest), worst) or 1.0

    everything = bars(rounds, s)
    for place, color in enumerate(colors):
        for kind in ("transfer", "computing"):
            chosen = [b for b in everything if (b.place, b.kind) == (place, kind)]
            if not chosen:
                continue
            moves = kind == "transfer"
            axes.barh(
                [b.device for b in chosen], [b.end - b.start for b in chosen],
                left=[b.start for b in chosen], height=0.72 if few else 1.0,
                color=_mix(color, 1.0, 0.65) if moves else color,
                hatch="/////" if moves and few else None,
                ec=color if moves else "white", label=f"{kind} {place}",
                # A bar thinner than its white edge would vanish.
                lw=[0.5 if few and b.end - b.start > 0.006 * right else 0.0 for b in chosen],
            )  # fmt: skip
    for n in active.tolist():
        axes.plot([slot.deadline[n]] * 2, [n - 0.48, n + 0.48], color=BLACK, lw=1.6, gid="deadline")
    size = 6 if few else 2.5
    ends = np.minimum(delay, right)
    for who, mark, name in ((late, "o", "late"), (failed, "x", "given up")):
        axes.plot(
            ends[who], np.flatnonzero(who), mark, color=BLACK, ms=size, mew=size / 3.5, label=name,
            mfc="white", clip_on=False, zorder=4,
        )  # fmt: skip
    axes.set(xlim=(-0.01 * right, right), ylim=(s.devices - 0.4, -0.6))
    if few:
        axes.set_yticks(range(s.devices), [f"{n + 1}" for n in range(s.devices)])
        for n in range(s.devices):
            text = f"{delay[n]:.{3 if delay[n] < 9.9995 else 0}f} s"
            if not slot.active[n]:
                text = "no task"
            elif failed[n]:
                text = "given up"
            elif late[n]:
                text += ", late"
            axes.annotate(
                text, (1.0, n), (8, 0), xycoords=axes.get_yaxis_transform(),
                textcoords="offset points", va="center", fontsize=SMALL,
                weight="bold" if late[n] or failed[n] else "normal",
                color=BLACK if slot.active[n] else GREY, annotation_clip=False,
            )  # fmt: skip
    else:
        ticks = range(9, s.devices, 10)
        axes.set_yticks(ticks, [f"{n + 1}" for n in ticks])
    far = f"{len(rounds)} of {s.blocks} blocks: {late.sum()} late, {failed.sum()} given up"
    _style(
        axes,
        f"Task {period + 1} of {s.tasks} of every device, {far}",
        "time since the task began (s)",
        "device",
    )
    handles: list[Any] = [
        Patch(fc=_mix(colors[0], 1.0, 0.65), ec=GREY, hatch="/////" if few else None),
        Patch(fc=GREY, ec="white"),
        Line2D([], [], color=BLACK, ls="", marker="|", ms=11, mew=1.6),
        Line2D([], [], color=BLACK, ls="", marker="o", mfc="white", ms=6, mew=1.7),
        Line2D([], [], color=BLACK, ls="", marker="x", ms=6, mew=1.7),
    ]
    names = ["transfer", "computing", "deadline", "late", "given up"]
    below: dict[str, Any] = {"loc": "upper center", "fontsize": SMALL, "frameon": False}
    below |= {"columnspacing": 1.2, "handlelength": 1.6, "ncols": 6}
    marks = axes.legend(handles, names, bbox_to_anchor=(0.5, -0.09), **below)
    if s.servers <= len(SERVER_COLORS):
        axes.add_artist(marks)  # a second legend would replace it
        names = ["device", *(f"server {m + 1}" for m in range(s.servers))]
        places = [Patch(fc=color) for color in colors]
        axes.legend(places, names, bbox_to_anchor=(0.5, -0.14), **below)


def draw_rounds(axes: Axes, scenario: Scenario, episode: Rounds) -> None:
    """Latency of every round, all devices together, by where it was spent."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    axes.set(xlim=(0.5, scenario.rounds + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _style(axes, "All rounds", ylabel="latency, sum (s)")
    for k in range(scenario.blocks, scenario.rounds, scenario.blocks):
        axes.axvline(k + 0.5, color=GREY, lw=0.7, ls=":", gid="next tasks")
    if not episode.outcomes:
        axes.set_ylim(0.0, 1.0)
        return
    o = arrays.stack(episode.outcomes)
    x, bottom = np.arange(1, len(episode.outcomes) + 1), np.zeros(len(episode.outcomes))
    # Neutral colours: in this panel a colour is no server.
    parts: tuple[tuple[str, FloatArray, dict[str, Any]], ...] = (
        ("on devices", o.local_s, {"color": "#BDBDBD"}),
        ("on servers", o.edge_s, {"color": "#6E6E6E"}),
        ("transfer", o.transfer_s, {"color": "white", "hatch": "/////", "ec": "#6E6E6E"}),
        (
            "charged for giving up",
            np.maximum(o.latency_s - o.local_s - o.edge_s - o.transfer_s, 0.0),
            {"color": BLACK},
        ),
    )
    for name, seconds, look in parts:
        axes.bar(x, seconds, 0.85, bottom=bottom, lw=0.5, label=name, **look)
        bottom = bottom + seconds
    axes.set_ylim(0.0, 1.45 * max(bottom.max(), 1e-9))  # room above for two rows of marks
    level = axes.get_xaxis_transform()
    for height, sign, number in ((0.92, "○", o.deadline_missed), (0.80, "×", o.dropped)):
        for k in np.flatnonzero(number).tolist():
            # In a long episode the numbers would run into each other.
            text = f"{sign}{number[k]}" if scenario.rounds <= 40 else sign
            axes.text(x[k], height, text, transform=level, ha="center", va="center", fontsize=SMALL)
    handles, names = axes.get_legend_handles_labels()
    dot: dict[str, Any] = {"color": BLACK, "ls": "", "ms": 5}
    handles += [Line2D([], [], marker="o", mfc="none", **dot), Line2D([], [], marker="x", **dot)]
    axes.legend(
        handles, [*names, "tasks late", "tasks given up"], loc="lower right",
        bbox_to_anchor=(1.0, 0.98), ncols=6, fontsize=SMALL, frameon=False, columnspacing=1.2,
    )  # fmt: skip


def draw_battery(axes: Axes, scenario: Scenario, episode: Rounds) -> None:
    """The batteries before the first round and after each: the lowest and the median."""
    level = 100.0 * np.stack([state.battery for state in episode.states]) / scenario.battery
    x = np.arange(len(level)) + 0.5
    # Dots show the very first level; in a long episode they would hide the dashes.
    look: dict[str, Any] = {"color": BLACK, "lw": 1.4}
    look |= {"marker": "." if scenario.rounds <= 40 else ""}
    axes.plot(x, np.median(level, axis=-1), label="median", **look)
    axes.plot(x, level.min(axis=-1), ls="--", label="lowest", **look)
    axes.set(ylim=(-5.0, 108.0), yticks=[0, 50, 100])
    _style(axes, "", "round", "battery (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=SMALL, frameon=False)
