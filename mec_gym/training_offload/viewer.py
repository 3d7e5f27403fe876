"""Pictures of a training task and of a drive: the flows of [Chen2025] figure 2.

What is drawn is computed in :mod:`mec_gym.training_offload.timeline`. matplotlib is loaded
only when something is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.pictures import (
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
from mec_gym.training_offload import model
from mec_gym.training_offload.model import Decision, Outcome, State
from mec_gym.training_offload.scenario import MEGA, Scenario, Slot
from mec_gym.training_offload.timeline import (
    KINDS,
    ROWS,
    Bar,
    History,
    Kind,
    branch_ends,
    in_one_place,
    never_trained,
    timeline,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS: dict[Kind, str] = dict(zip(KINDS, (ORANGE, BLUE, GREY, PINK, GREEN), strict=True))
CASES = ("left uploading", "left while i trained", "left while results returned", "never left")
ABOVE: dict[str, Any] = {
    **LEGEND,
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 0.98),
    "ncols": 4,
    "columnspacing": 1.2,
}
"""A legend in one line above a panel."""
HATCH = "///"


def draw_episode(scenario: Scenario, episode: History) -> Figure:
    """Draw the task at hand before the first step, and afterwards the last task and the drive.

    The figure is always 11 x 7 in, so that pictures of an episode make a film.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...), fields of the other records ().
    """
    figure = new_figure(11.0, 7.0)
    done = len(episode.outcomes)
    slot = arrays.at(episode.trace, max(done - 1, 0))
    decision = episode.decisions[-1] if done else None
    drive = done > 0 and scenario.horizon > 1
    grid = figure.add_gridspec(2 + drive, 4, height_ratios=[1.2, 1.4, 1.0][: 2 + drive])
    draw_road(figure.add_subplot(grid[0, :]), scenario, slot, decision)
    if decision is None:
        draw_choices(figure.add_subplot(grid[1, :]), scenario, slot, episode.states[0])
        return figure
    gantt = figure.add_subplot(grid[1, :3])
    draw_gantt(gantt, scenario, slot, episode.states[-2], decision)
    # The legend's width varies; that of the axes must not, or a film would jump.
    legend = gantt.get_legend()
    assert legend is not None
    legend.set_in_layout(False)
    if drive:
        draw_battery(figure.add_subplot(grid[2, :2]), scenario, episode)
        draw_latency(figure.add_subplot(grid[2, 2:]), scenario, episode)
        total, left = sum(o.latency_s for o in episode.outcomes), episode.states[-1].battery
        drops = sum(int(o.dropped) for o in episode.outcomes)
        text = f"{done} of {scenario.horizon} tasks: {total:.0f} s in all, {drops} dropped"
        figure.suptitle(f"{text}, {left:.0f} J left", fontsize=11, weight="bold")
    return figure


def draw_gantt(
    axes: Axes, scenario: Scenario, slot: Slot, state: State, decision: Decision
) -> None:
    """Draw who worked on one task when, and which branch decided its delay (bold).

    The legend stands to the right of the axes and takes 2.5 in.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        slot: The task, fields ().
        state: The state before the task, fields ().
        decision: The split, fields ().
    """
    _, outcome = model.evaluate(slot, state, decision, scenario)
    bars = timeline(slot, decision, scenario)
    lost = never_trained(slot, decision, scenario)
    finish = float(outcome.delay_s)
    for bar in bars:
        axes.barh(
            ROWS.index(bar.row),
            bar.end - bar.start,
            left=bar.start,
            height=0.6,
            hatch=HATCH if lost and (bar.row, bar.kind) == ("edge i", "train") else None,
            color=COLORS[bar.kind],
            alpha=0.3 if outcome.battery_short else 1.0,
            ec="white",
            lw=0.5,
        )
    _draw_ends(axes, branch_ends(bars), finish)
    _label_kinds(axes, lost)
    shown = _draw_times(axes, scenario, slot, finish)
    axes.set(xlim=(0.0, shown), ylim=(len(ROWS) - 0.5, -0.5))
    axes.set_yticks(range(len(ROWS)), _row_names(scenario, slot, decision))
    title = f"{_task_name(scenario, slot, state)}: {_result(scenario, state, outcome)}"
    style(axes, title, "time since arrival (s)")
    axes.legend(bbox_to_anchor=(1.01, 1.05), loc=2, **LEGEND)


def _draw_ends(axes: Axes, ends: tuple[Bar, ...], finish: float) -> None:
    """Mark when each branch was done; the one that decided the delay is bold."""
    for bar in ends:
        decides = bar.end > finish - 0.05
        weight = "bold" if decides else "normal"
        _beside(axes, bar.end, ROWS.index(bar.row), f"{bar.end:.1f} s", weight)
        axes.plot(bar.end, ROWS.index(bar.row), "D", color="black", ms=4)


def _label_kinds(axes: Axes, lost: float) -> None:
    """Entries of the legend for the bars, with the bits that were never trained."""
    for kind, color in COLORS.items():
        axes.barh(0, 0, color=color, label=kind)
    if lost:
        name = f"{lost / MEGA:.1f} Mbit never trained"
        axes.barh(0, 0, color=BLUE, hatch=HATCH, ec="white", label=name)
    axes.plot([], [], "D", color="black", ms=4, label="branch done")


def _draw_times(axes: Axes, scenario: Scenario, slot: Slot, finish: float) -> float:
    """Lines at T_ct, at its estimate and at the deadline; returns how far the axis reaches."""
    believed, leaves = float(slot.connection_estimate), float(slot.connection_time)
    lines = [(leaves, RED, "-", "$T_{ct}$")]
    if believed != leaves:
        lines.append((believed, RED, ":", "$T_{ct}$ believed"))
    if scenario.deadline < 1.5 * finish:
        lines.append((scenario.deadline, "black", "--", "deadline"))
    shown = 1.1 * finish
    for time, color, dashes, name in lines:
        # A line far beyond the last bar would squeeze the bars, so it is only named.
        inside = time < 1.5 * finish
        shown = max(shown, 1.05 * time) if inside else shown
        label = f"{name} = {time:.1f} s" + ("" if inside else " (off scale)")
        axes.axvline(time if inside else np.nan, color=color, ls=dashes, lw=1.5, label=label)
    return shown


def _row_names(scenario: Scenario, slot: Slot, decision: Decision) -> list[str]:
    here, there = _server_names(scenario)
    edge, cloud = float(decision.edge_share), float(decision.cloud_share)
    work = float(slot.work) / MEGA
    return [
        f"device\n{max(1.0 - edge - cloud, 0.0) * work:.1f} Mbit",
        f"edge i: {here[int(decision.server)]}\n{edge * work:.1f} Mbit",
        "hand-over\nand backhaul",
        f"edge j: {there[int(decision.next_server)]}",
        f"cloud\n{cloud * work:.1f} Mbit",
    ]


def _result(scenario: Scenario, state: State, outcome: Outcome) -> str:
    if outcome.battery_short:
        return f"NOT STARTED (pale: the plan), the battery holds {float(state.battery):.1f} J"
    late = "TOO LATE, " if outcome.deadline_missed else ""
    numbers = f"{float(outcome.delay_s):.1f} s, {float(outcome.energy_j):.1f} J"
    case = f"case {outcome.case}: {CASES[int(outcome.case) - 1]}"
    return f"{late}{numbers}  ({case}; {scenario.variant})"


def draw_road(axes: Axes, scenario: Scenario, slot: Slot, decision: Decision | None = None) -> None:
    """Draw two cells (with a road) or two regions (without), their servers and the vehicle.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        slot: The task, fields ().
        decision: The split, fields (); the servers that it uses are printed bold.
    """
    road = scenario.road
    chosen = (int(decision.server), int(decision.next_server)) if decision else (None, None)
    for region in (0, 1):
        _draw_region(axes, scenario, slot, region, chosen[region])
    length = _length(scenario)
    axes.axhspan(0.66, 0.80, color="#D9D9D9", lw=0)
    axes.axvline(length, ymin=0.66, color=RED, lw=1.5)
    _draw_vehicle(axes, scenario, slot)
    axes.set(xlim=(0, 2 * length), ylim=(0, 1), yticks=[])
    title = "The vehicle, as measured" if road else "Regions and servers"
    style(axes, title, "along the road (m); arrow: the next 5 s" if road else "")
    axes.xaxis.set_visible(road is not None)
    axes.spines[["left", "bottom"]].set_visible(False)


def _length(scenario: Scenario) -> float:
    """The width of a region in the picture: metres with a road, else 1."""
    return scenario.road.cell_m if scenario.road else 1.0


def _draw_region(
    axes: Axes, scenario: Scenario, slot: Slot, region: int, chosen: int | None
) -> None:
    """Shade a region and list its servers with their rates; the chosen one is bold."""
    road, length = scenario.road, _length(scenario)
    level = axes.get_xaxis_transform()  # metres across, fractions of the axes upwards
    left, middle = region * length, (region + 0.5) * length
    place = (("this cell", "next cell") if road else ("region 1", "region 2"))[region]
    axes.axvspan(left, left + length, color=BLUE if region else ORANGE, alpha=0.08, lw=0)
    axes.text(left + 0.015 * length, 0.96, place, transform=level, va="top")
    lines = [f"{'':6}{'up':>5} {'down':>5} {'train':>5} Mbit/s"]
    for k, name in enumerate(_server_names(scenario)[region]):
        rates = (a[region, k] / MEGA for a in (slot.uplink, slot.downlink, slot.compute))
        lines.append(f"{name:6}" + "{:5.1f} {:5.1f} {:5.1f}       ".format(*rates))
    for k, text in enumerate(lines):
        axes.text(
            middle,
            0.46 - 0.45 * k / len(lines),
            text,
            transform=level,
            va="top",
            ha="center",
            family="monospace",
            fontsize=SMALL,
            weight="bold" if k - 1 == chosen else "normal",
        )
    if road:
        axes.plot(middle, 0.9, "^", color="black", ms=9, transform=level)
        note = f"    station, {road.offset_m:.0f} m off the road"
        axes.text(middle, 0.9, note, transform=level, va="center", fontsize=SMALL)


def _draw_vehicle(axes: Axes, scenario: Scenario, slot: Slot) -> None:
    """Where the vehicle believes to be, and where it will be in 5 s."""
    road, believed = scenario.road, float(slot.connection_estimate)
    level = axes.get_xaxis_transform()
    start, ahead, note = 0.25, 0.9, f"handed over after $T_{{ct}}$ = {believed:.1f} s"
    if road:
        start, speed = float(slot.position), float(slot.speed)
        ahead, error = 5.0 * speed, road.position_error_m
        note = f"{start:.0f} ± {error:.0f} m, {speed:.1f} m/s, leaves in about {believed:.1f} s"
        axes.errorbar(start, 0.73, xerr=error, color="black", capsize=4, transform=level)
    axes.plot(start, 0.73, "o", color="black", ms=8, transform=level)
    arrow = {"arrowstyle": "-|>", "lw": 2, "color": "black"}
    axes.annotate("", (start + ahead, 0.73), (start, 0.73), xycoords=level, arrowprops=arrow)
    axes.text(start, 0.57, note, transform=level, va="center", fontsize=SMALL)


def draw_choices(axes: Axes, scenario: Scenario, slot: Slot, state: State) -> None:
    """Draw the latency of a task that waits if all of it went to one place, T_ct as estimated.

    Args:
        axes: The panel to draw on.
        scenario: What is played.
        slot: The task, fields ().
        state: The state before the task, fields ().
    """
    pairs = [f"{i}, then {j}" for i, j in zip(*_server_names(scenario), strict=True)]
    places = ["device", *pairs, "cloud"]
    outcomes = in_one_place(slot, state, scenario)
    for k in range(len(places)):
        outcome = arrays.at(outcomes, k)
        seconds = float(outcome.delay_s)
        needed = "battery short" if outcome.battery_short else f"{float(outcome.energy_j):.1f} J"
        axes.barh(k, seconds, height=0.6, color=BLUE)
        _beside(axes, seconds, k, f"{seconds:.1f} s, {needed}")
    axes.set_yticks(range(len(places)), places)
    axes.margins(x=0.18)
    axes.invert_yaxis()
    limits = f"waits: deadline {scenario.deadline:.0f} s, battery {float(state.battery):.1f} J"
    title = f"{_task_name(scenario, slot, state)}, {limits}"
    style(axes, title, "latency if all of it is trained in one place (s)")


def draw_battery(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw the battery over the drive so far, beside a battery that is spent evenly.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the states and outcomes ().
    """
    full, level = scenario.battery, [float(state.battery) for state in episode.states]
    drops = [k + 1 for k, outcome in enumerate(episode.outcomes) if outcome.dropped]
    axes.plot([0, scenario.horizon], [full, 0.0], "--", color=GREY, label="spent evenly")
    axes.plot(range(len(level)), level, "o-", color=BLUE, ms=3, label="battery")
    if drops:
        axes.plot(drops, [level[k] for k in drops], "x", color=RED, ms=7, mew=2, label="dropped")
    # Room below 0 J, or the marks there would be cut in half.
    axes.set(xlim=(0, scenario.horizon + 0.7), ylim=(-0.05 * full, 1.05 * full))
    style(axes, "Battery", "tasks done", "energy left (J)")
    axes.legend(**ABOVE)


def draw_latency(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw the latency of every task so far; a dropped one counts as the deadline.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the outcomes (); there is at least one.
    """
    outcomes = episode.outcomes
    for label, color, hatch, kept in (
        ("done", BLUE, None, [not o.dropped for o in outcomes]),
        ("too late", RED, HATCH, [o.deadline_missed for o in outcomes]),
        ("battery short", GREY, "...", [o.battery_short for o in outcomes]),
    ):
        bars = [(k + 1, float(outcomes[k].latency_s)) for k, keep in enumerate(kept) if keep]
        if bars:
            axes.bar(*zip(*bars, strict=True), color=color, hatch=hatch, ec="white", label=label)
    longest = max(float(o.latency_s) for o in outcomes)
    if longest > 0.8 * scenario.deadline:
        axes.axhline(scenario.deadline, color="black", ls="--", lw=1.2, label="deadline")
    axes.set(xlim=(0, scenario.horizon + 0.7), ylim=(0, 1.3 * longest))
    style(axes, "Latency", "task", "latency (s)")
    axes.legend(**ABOVE)


def _server_names(scenario: Scenario) -> tuple[list[str], list[str]]:
    """The paper's names: MEC 1 ... S in region 1, MEC S + 1 ... 2 S in region 2."""
    names = [f"MEC {k + 1}" for k in range(2 * scenario.servers)]
    return names[: scenario.servers], names[scenario.servers :]


def _task_name(scenario: Scenario, slot: Slot, state: State) -> str:
    number = scenario.horizon - int(state.tasks_left) + 1
    return f"Task {number} of {scenario.horizon}, {float(slot.work) / MEGA:.1f} Mbit"


def _beside(axes: Axes, x: float, y: float, text: str, weight: str = "normal") -> None:
    axes.annotate(
        text,
        (x, y),
        (7, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
        weight=weight,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
