"""Pictures of an episode of distributed inference: who runs where, when, and at what cost.

What is drawn is computed in :mod:`mec_gym.distributed_inference.timeline`. matplotlib is
loaded only when something is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.pictures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LEGEND,
    ORANGE,
    PINK,
    RED,
    SMALL,
    new_figure,
    style,
)
from mec_gym.core.types import FloatArray
from mec_gym.distributed_inference.model import WORST_LATENESS
from mec_gym.distributed_inference.scenario import Scenario
from mec_gym.distributed_inference.timeline import (
    History,
    LinkKind,
    Snapshot,
    Timeline,
    latency_parts,
    snapshot,
    timeline,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color = tuple[float, float, float]

SERVER_COLORS = (BLUE, ORANGE, GREEN, PINK, RED)
# Beyond five servers the same hues again, darker (lighter ones would look like transfers).
SHADES = (0.0, 0.35, 0.55, 0.7)
LINES: dict[LinkKind, tuple[str, float]] = {
    "upload": ("-", 1.6),
    "download": ("--", 1.6),
    "between servers": ("-.", 1.6),
    "stays": (":", 1.0),
}
# Left, bottom, width and height of map, tasks, rounds and batteries, as shares of the figure.
BOXES = (
    (0.02, 0.455, 0.345, 0.46),
    (0.425, 0.455, 0.465, 0.46),
    (0.06, 0.16, 0.83, 0.16),
    (0.06, 0.05, 0.83, 0.08),
)
NAMED = 30
"""If there are more devices than this, they get no label each."""
ROOMY = 8
"""If there are more servers than this, they get no label each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How the map shows devices and servers."""

    devices: FloatArray  # (N, 2) on a ring of radius 1
    servers: FloatArray  # (M, 2) on a ring inside it
    area: FloatArray  # (M,) pt^2 of a server's disc
    colors: list[Color]  # of the places 0..M
    few: bool  # whether each device can have a label

    @property
    def reach(self) -> FloatArray:
        """Radius of each server's disc, (M,) pt."""
        return np.sqrt(self.area) / 2.0


def draw_episode(scenario: Scenario, episode: History) -> Figure:
    """Draw the last round played, the tasks that it belongs to, and all rounds so far.

    Above, on the left: who ran where in the last round. On the right: the time of that
    round's tasks, from their first block on. Below: the latency of every round, and the
    batteries. The figure is always 12 x 9 in, so that pictures of an episode make a film.

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
    draw_map(chart, scenario, episode)
    draw_gantt(gantt, scenario, episode)
    draw_rounds(strip, scenario, episode)
    draw_battery(battery, scenario, episode)
    figure.suptitle(_title(scenario, episode), fontsize=11)
    return figure


def draw_map(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw the devices on a ring around the servers, with the links of the last round.

    The place of a device is no part of a trace (only its rates are), so a map of true places
    cannot be drawn. The load of a server counts every block that asked for its share, those
    of devices whose battery then could not pay included.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...).
    """
    s, now = scenario, snapshot(scenario, episode)
    # A server with three times the usual load has the largest disc.
    usual = s.devices / s.servers + s.background
    share = np.minimum((now.tenants + now.blocks) / (3.0 * usual), 1.0)
    layout = _Layout(
        devices=_ring(s.devices, 1.0),
        # Turned by half a step, or a server would hide behind the line to the first device.
        servers=_ring(2 * s.servers, 0.5 if s.servers > 1 else 0.0)[1::2],
        area=90.0 + 1500.0 / max(1.0, s.servers / 4.0) * share,
        colors=place_colors(s.servers),
        few=s.devices <= NAMED,
    )
    _draw_links(axes, now, layout)
    _draw_servers(axes, now, layout)
    _draw_devices(axes, now, layout)
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=[], yticks=[])
    inside = " (other tenants + our blocks)" if s.servers <= ROOMY else ", larger the busier"
    style(
        axes,
        f"Round {now.round + 1} of {s.rounds}, block {now.block + 1} of {s.blocks}: "
        "links, not places",
        f"outside: devices; inside: servers{inside}",
    )
    axes.spines[["left", "bottom"]].set_visible(False)
    _add_map_legend(axes)


def _draw_links(axes: Axes, now: Snapshot, layout: _Layout) -> None:
    from matplotlib.patches import FancyArrowPatch

    for link in now.links:
        server = max(link.start, link.end)
        ends = [
            (layout.devices[link.device], 5.0)
            if place == 0
            else (layout.servers[place - 1], layout.reach[place - 1] + 1.0)
            for place in (link.start, link.end)
        ]
        line, width = LINES[link.kind]
        stays = link.kind == "stays"
        axes.add_patch(
            FancyArrowPatch(
                ends[0][0],
                ends[1][0],
                shrinkA=ends[0][1],
                shrinkB=ends[1][1],
                arrowstyle="-" if stays else "-|>",
                mutation_scale=9,
                # Bent to its own left, so that what goes up and comes back does not coincide.
                connectionstyle=f"arc3,rad={0.0 if stays else 0.12}",
                color=layout.colors[server],
                ls=line,
                lw=width if layout.few else 0.6 * width,
                zorder=2,
            )
        )


def _draw_servers(axes: Axes, now: Snapshot, layout: _Layout) -> None:
    roomy = len(layout.servers) <= ROOMY
    x, y = layout.servers.T
    axes.scatter(x, y, s=layout.area, color=layout.colors[1:], edgecolors="white", zorder=3)
    for m, (x, y) in enumerate(layout.servers):
        axes.text(
            x,
            y,
            f"{m + 1}",
            ha="center",
            va="center_baseline",
            color="white",
            weight="bold",
            fontsize=SMALL if roomy else 6.5,
            zorder=5,
        )
        if roomy:
            axes.annotate(
                f"{now.tenants[m]:.1f} + {now.blocks[m]}",
                (x, y),
                (0, -layout.reach[m] - 2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=SMALL,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
                zorder=4,
            )


def _draw_devices(axes: Axes, now: Snapshot, layout: _Layout) -> None:
    few, hollow = layout.few, ~now.active | now.failed
    face: list[Color | str] = [
        "white" if empty else layout.colors[place]
        for empty, place in zip(hollow, now.place.tolist(), strict=True)
    ]
    edge = [GREY if empty else "white" for empty in hollow]
    if not few:  # so small, a cross over a circle is a blot
        edge = ["white" if out else color for out, color in zip(now.failed, edge, strict=True)]
    x, y = layout.devices.T
    axes.scatter(x, y, s=70 if few else 20, color=face, edgecolors=edge, lw=0.8, zorder=3)
    if now.failed.any():
        axes.plot(
            *layout.devices[now.failed].T, "x", color=BLACK, ms=7 if few else 4, mew=1.8, zorder=4
        )
    for n, (x, y) in enumerate(1.12 * layout.devices):
        if few or n % 10 == 9:
            axes.text(x, y, f"{n + 1}", ha="center", va="center", fontsize=SMALL)


def _add_map_legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

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
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, -0.07),
        ncols=4,
        columnspacing=0.9,
        handlelength=2.2,
        handletextpad=0.5,
        **LEGEND,
    )


def draw_gantt(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw where the time of each device's latest task went, one row per device.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...).
    """
    s, tasks = scenario, timeline(scenario, episode)
    colors, few = place_colors(s.servers), s.devices <= NAMED
    # Later than that counts no more, and one such task would squeeze all the others.
    longest = tasks.deadline[tasks.active].max(initial=0.0)
    worst = (1.0 + WORST_LATENESS) * longest
    right = 1.05 * min(max(tasks.delay.max(), longest), worst) or 1.0
    _draw_bars(axes, tasks, colors, few, right)
    _draw_deadlines(axes, tasks, few, right)
    axes.set(xlim=(-0.01 * right, right), ylim=(s.devices - 0.4, -0.6))
    if few:
        axes.set_yticks(range(s.devices), [f"{n + 1}" for n in range(s.devices)])
        _label_rows(axes, tasks)
    else:
        ticks = range(9, s.devices, 10)
        axes.set_yticks(ticks, [f"{n + 1}" for n in ticks])
    style(
        axes,
        f"Task {tasks.task + 1} of {s.tasks} of every device, {tasks.rounds} of {s.blocks} "
        f"blocks: {tasks.late.sum()} late, {tasks.failed.sum()} given up",
        "time since the task began (s)",
        "device",
    )
    _add_gantt_legend(axes, colors, few)


def _draw_bars(axes: Axes, tasks: Timeline, colors: list[Color], few: bool, right: float) -> None:
    for place, color in enumerate(colors):
        for kind in ("transfer", "computing"):
            chosen = [b for b in tasks.bars if (b.place, b.kind) == (place, kind)]
            if not chosen:
                continue
            moves = kind == "transfer"
            axes.barh(
                [b.device for b in chosen],
                [b.end - b.start for b in chosen],
                left=[b.start for b in chosen],
                height=0.72 if few else 1.0,
                color=_mix(color, 1.0, 0.65) if moves else color,
                hatch="/////" if moves and few else None,
                ec=color if moves else "white",
                label=f"{kind} {place}",
                # A bar thinner than its white edge would vanish.
                lw=[0.5 if few and b.end - b.start > 0.006 * right else 0.0 for b in chosen],
            )


def _draw_deadlines(axes: Axes, tasks: Timeline, few: bool, right: float) -> None:
    """Mark every deadline, and the tasks that are late or given up."""
    for n in np.flatnonzero(tasks.active).tolist():
        axes.plot([tasks.deadline[n]] * 2, [n - 0.48, n + 0.48], color=BLACK, lw=1.6)
    size = 6 if few else 2.5
    ends = np.minimum(tasks.delay, right)
    for who, mark, name in ((tasks.late, "o", "late"), (tasks.failed, "x", "given up")):
        axes.plot(
            ends[who],
            np.flatnonzero(who),
            mark,
            color=BLACK,
            ms=size,
            mew=size / 3.5,
            label=name,
            mfc="white",
            clip_on=False,
            zorder=4,
        )


def _label_rows(axes: Axes, tasks: Timeline) -> None:
    """Write at the end of each device's row what its task took."""
    for n, delay in enumerate(tasks.delay):
        text = f"{delay:.{3 if delay < 9.9995 else 0}f} s"
        if not tasks.active[n]:
            text = "no task"
        elif tasks.failed[n]:
            text = "given up"
        elif tasks.late[n]:
            text += ", late"
        axes.annotate(
            text,
            (1.0, n),
            (8, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            weight="bold" if tasks.late[n] or tasks.failed[n] else "normal",
            color=BLACK if tasks.active[n] else GREY,
            annotation_clip=False,
        )


def _add_gantt_legend(axes: Axes, colors: list[Color], few: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(fc=_mix(colors[0], 1.0, 0.65), ec=GREY, hatch="/////" if few else None),
        Patch(fc=GREY, ec="white"),
        Line2D([], [], color=BLACK, ls="", marker="|", ms=11, mew=1.6),
        Line2D([], [], color=BLACK, ls="", marker="o", mfc="white", ms=6, mew=1.7),
        Line2D([], [], color=BLACK, ls="", marker="x", ms=6, mew=1.7),
    ]
    names = ["transfer", "computing", "deadline", "late", "given up"]
    below: dict[str, Any] = {"loc": "upper center", "ncols": 6, **LEGEND}
    below |= {"columnspacing": 1.2, "handlelength": 1.6}
    marks = axes.legend(handles, names, bbox_to_anchor=(0.5, -0.09), **below)
    servers = len(colors) - 1
    if servers <= len(SERVER_COLORS):
        axes.add_artist(marks)  # a second legend would replace it
        names = ["device", *(f"server {m + 1}" for m in range(servers))]
        places = [Patch(fc=color) for color in colors]
        axes.legend(places, names, bbox_to_anchor=(0.5, -0.14), **below)


def draw_rounds(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw the latency of every round, all devices together, by where it was spent.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...).
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    axes.set(xlim=(0.5, scenario.rounds + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style(axes, "All rounds", ylabel="latency, sum (s)")
    for k in range(scenario.blocks, scenario.rounds, scenario.blocks):
        axes.axvline(k + 0.5, color=GREY, lw=0.7, ls=":")
    if not episode.outcomes:
        axes.set_ylim(0.0, 1.0)
        return
    # Neutral colours: in this panel a colour is no server.
    looks: dict[str, dict[str, Any]] = {
        "on devices": {"color": "#BDBDBD"},
        "on servers": {"color": "#6E6E6E"},
        "transfer": {"color": "white", "hatch": "/////", "ec": "#6E6E6E"},
        "charged for giving up": {"color": BLACK},
    }
    x, bottom = np.arange(1, len(episode.outcomes) + 1), np.zeros(len(episode.outcomes))
    for name, seconds in latency_parts(episode).items():
        axes.bar(x, seconds, 0.85, bottom=bottom, lw=0.5, label=name, **looks[name])
        bottom = bottom + seconds
    axes.set_ylim(0.0, 1.45 * max(bottom.max(), 1e-9))  # room above for two rows of marks
    o, level = arrays.stack(episode.outcomes), axes.get_xaxis_transform()
    for height, sign, number in ((0.92, "○", o.deadline_missed), (0.80, "×", o.dropped)):
        for k in np.flatnonzero(number).tolist():
            # In a long episode the numbers would run into each other.
            text = f"{sign}{number[k]}" if scenario.rounds <= 40 else sign
            axes.text(x[k], height, text, transform=level, ha="center", va="center", fontsize=SMALL)
    handles, names = axes.get_legend_handles_labels()
    dot: dict[str, Any] = {"color": BLACK, "ls": "", "ms": 5}
    handles += [Line2D([], [], marker="o", mfc="none", **dot), Line2D([], [], marker="x", **dot)]
    axes.legend(
        handles,
        [*names, f"{scenario.deadline_of}s late", "tasks given up"],
        loc="lower right",
        bbox_to_anchor=(1.0, 0.98),
        ncols=6,
        columnspacing=1.2,
        **LEGEND,
    )


def draw_battery(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw the lowest and the median battery before the first round and after each.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...).
    """
    level = 100.0 * np.stack([state.battery for state in episode.states]) / scenario.battery
    x = np.arange(len(level)) + 0.5
    # Dots show the very first level; in a long episode they would hide the dashes.
    look: dict[str, Any] = {"color": BLACK, "lw": 1.4}
    look |= {"marker": "." if scenario.rounds <= 40 else ""}
    axes.plot(x, np.median(level, axis=-1), label="median", **look)
    axes.plot(x, level.min(axis=-1), ls="--", label="lowest", **look)
    axes.set(ylim=(-5.0, 108.0), yticks=[0, 50, 100])
    style(axes, "", "round", "battery (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), **LEGEND)


def place_colors(servers: int) -> list[Color]:
    """Return the colours of the places 0..M: the device itself, then the servers."""
    from matplotlib.colors import to_rgb

    colors = [to_rgb(GREY)]
    for m in range(servers):
        far = SHADES[m // len(SERVER_COLORS) % len(SHADES)]
        colors.append(_mix(to_rgb(SERVER_COLORS[m % len(SERVER_COLORS)]), 0.0, far))
    return colors


def _mix(color: Color, towards: float, far: float) -> Color:
    """Return a colour that is ``far`` of the way to black (0) or white (1)."""
    red, green, blue = (c + far * (towards - c) for c in color)
    return red, green, blue


def _ring(count: int, radius: float) -> FloatArray:
    """Return points on a circle, the first at the top, then clockwise, (count, 2)."""
    angle = 2.0 * np.pi * np.arange(count) / count
    return radius * np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def _title(scenario: Scenario, episode: History) -> str:
    """Return one line on the whole episode so far."""
    done = len(episode.decisions)
    n, m = scenario.devices, scenario.servers
    size = f"{n} device{'s' * (n > 1)}, {m} server{'s' * (m > 1)}"
    if not done:
        return f"{size}: no round yet"
    o = arrays.stack(episode.outcomes)
    latency, penalty = o.latency_s.sum(), o.penalty.sum()
    late = "of them" if scenario.deadline_of == "task" else "blocks"
    return (
        f"{size}: {done} of {scenario.rounds} rounds, "
        f"cost {scenario.latency_weight * latency + penalty:.2f} "
        f"(latency {latency:.2f} s, penalties {penalty:.2f}), "
        f"{o.finished.sum()} tasks finished, {o.deadline_missed.sum()} {late} late, "
        f"{o.dropped.sum()} given up"
    )
