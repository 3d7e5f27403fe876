"""Pictures of a training task and of a drive: the four flows of seed 000's figure 2.

matplotlib is loaded only when something is drawn. What is drawn is computed by
:func:`timeline`, whose bars add up to the delays of :mod:`mec_gym.training_offload.model`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.pictures import BLUE, GREEN, GREY, ORANGE, PINK, RED, new_figure
from mec_gym.core.problem import Episode
from mec_gym.core.types import FloatArray
from mec_gym.training_offload import model
from mec_gym.training_offload.model import Decision, Outcome, State
from mec_gym.training_offload.scenario import MEGA, Scenario, Slot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drive = Episode[Slot, State, Decision, Outcome]
Row = Literal["device", "edge i", "backhaul", "edge j", "cloud"]
Kind = Literal["send", "train", "hand-over", "migrate", "return"]
ROWS: tuple[Row, ...] = get_args(Row)
BRANCHES: tuple[tuple[Row, ...], ...] = (("device",), ("edge i", "backhaul", "edge j"), ("cloud",))
COLORS: dict[Kind, str] = dict(zip(get_args(Kind), (ORANGE, BLUE, GREY, PINK, GREEN), strict=True))
CASES = ("left uploading", "left while i trained", "left while results returned", "never left")
SMALL = 8.5  # pt
ABOVE: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98)}


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of work or waiting."""

    row: Row
    kind: Kind
    start: float  # s since the task arrived
    end: float  # s


def timeline(slot: Slot, decision: Decision, scenario: Scenario) -> tuple[Bar, ...]:
    """What happens when to one task: seed 000, (1)-(12) and figure 2.

    The last bar of the device, of the three edge rows and of the cloud ends at the delay
    of (6), of (10)-(12) and of (3) + (7). Charges are drawn in the order in which the
    equations add them up, so in case 2 of ``finish`` T_HO follows the training although
    the vehicle moved earlier, and ``literal`` shows T_HO in case 4, where nobody moves.
    Fields of the records are (); bars without length are left out.
    """
    x_i, x_c = decision.edge_share * slot.work, decision.cloud_share * slot.work
    rho, variant = scenario.result_ratio, scenario.variant
    r = model.route(slot, decision.server, decision.next_server)
    case, leaves = model.migration_case(x_i, r, scenario), r.connection_time
    on_device = model.device_delay(slot.work, x_i, x_c, scenario.device_compute)
    received, at_i, at_j = x_i / r.uplink_i, x_i / r.compute_i, x_i / r.compute_j
    charged = scenario.handover_s if case < 4 or variant == "literal" else 0.0

    bars = _chain(0.0, ("device", "train", on_device))
    if case == 1:  # (10): both transfers to j side by side
        sent = r.uplink_i * leaves
        bars += _chain(0.0, ("edge i", "send", leaves), ("backhaul", "hand-over", charged))
        moved = _chain(bars[-1].end, ("backhaul", "migrate", sent / scenario.backhaul))
        rest = _chain(bars[-1].end, ("edge j", "send", (x_i - sent) / r.uplink_j))
        both, back = max(moved[-1].end, rest[-1].end), rho * x_i / r.downlink_j
        bars += moved + rest
        bars += _chain(both, ("edge j", "train", at_j), ("edge j", "return", back))
    else:  # (11) and (12)
        stops = case == 2 and variant != "finish"  # server i, at the hand-over
        on_i, on_j = (leaves - received if stops else at_i), np.array(0.0)
        moving = model.migration(x_i, r, case, scenario) - charged
        if stops and variant == "split":  # the text and figure 2(b)
            done = r.compute_i * on_i
            moving = (x_i - done + rho * done) / scenario.backhaul
            on_j = (x_i - done) / r.compute_j
        bars += _chain(
            0.0,
            ("edge i", "send", received),
            ("edge i", "train", on_i),
            ("edge i", "return", model.communication_i(x_i, r, case, rho) - received),
            ("backhaul", "hand-over", charged),
            ("backhaul", "migrate", moving),
            ("edge j", "train", on_j),
            ("edge j", "return", model.communication_j(x_i, r, case, rho)),
        )
    bars += _chain(
        0.0,
        ("cloud", "send", x_c / scenario.cloud_uplink),
        ("cloud", "train", x_c / scenario.cloud_compute),
        ("cloud", "return", rho * x_c / scenario.cloud_downlink),
    )
    return tuple(bar for bar in bars if bar.end > bar.start)


def never_trained(slot: Slot, decision: Decision, scenario: Scenario) -> float:
    """Bits that (11) as printed forgets: not 0 only in case 2 of ``literal``. Fields ()."""
    x_i = decision.edge_share * slot.work
    r = model.route(slot, decision.server, decision.next_server)
    if scenario.variant != "literal" or int(model.migration_case(x_i, r, scenario)) != 2:
        return 0.0
    return float(x_i - r.compute_i * (r.connection_time - x_i / r.uplink_i))


def _chain(start: float, *steps: tuple[Row, Kind, float | FloatArray]) -> list[Bar]:
    """Bars one after the other, from (row, kind, seconds)."""
    bars: list[Bar] = []
    for row, kind, seconds in steps:
        bars.append(Bar(row, kind, start, start := start + float(seconds)))
    return bars


def _server_names(scenario: Scenario) -> tuple[list[str], list[str]]:
    """The paper's names: MEC 1 ... S in region 1, MEC S + 1 ... 2 S in region 2."""
    names = [f"MEC {k + 1}" for k in range(2 * scenario.servers)]
    return names[: scenario.servers], names[scenario.servers :]


def _task_name(slot: Slot, state: State, scenario: Scenario) -> str:
    number = scenario.horizon - int(state.tasks_left) + 1
    return f"Task {number} of {scenario.horizon}, {float(slot.work) / MEGA:.1f} Mbit"


def _style(axes: Axes, title: str, xlabel: str, ylabel: str = "") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel(xlabel, fontsize=SMALL)
    axes.set_ylabel(ylabel, fontsize=SMALL)
    axes.set_title(title, loc="left", fontsize=10)


def _beside(axes: Axes, x: float, y: float, text: str, weight: str = "normal") -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.annotate(
        text, (x, y), (7, 0), textcoords="offset points", va="center", fontsize=SMALL,
        weight=weight, bbox=box,
    )  # fmt: skip


def draw_gantt(
    axes: Axes, slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> None:
    """Who worked on one task when, and which branch decided (bold).

    The records have fields (); the state is the one before the task. The legend stands
    to the right of the axes and takes 2.5 in.
    """
    outcome = model.evaluate(slot, state, decision, scenario)
    bars = timeline(slot, decision, scenario)
    lost = never_trained(slot, decision, scenario)
    started = not outcome.battery_short
    for bar in bars:
        hatch = "///" if lost and (bar.row, bar.kind) == ("edge i", "train") else None
        axes.barh(
            ROWS.index(bar.row), bar.end - bar.start, left=bar.start, height=0.6, hatch=hatch,
            color=COLORS[bar.kind], alpha=1.0 if started else 0.3, ec="white", lw=0.5,
        )  # fmt: skip
    finish = max(float(outcome.edge_s), float(outcome.device_s), float(outcome.cloud_s))
    for rows in BRANCHES:
        last = max((b for b in bars if b.row in rows), key=lambda b: b.end, default=None)
        if last is not None:
            y, decides = ROWS.index(last.row), last.end > finish - 0.05
            _beside(axes, last.end, y, f"{last.end:.1f} s", "bold" if decides else "normal")
            axes.plot(last.end, y, "D", color="black", ms=4)

    for kind, color in COLORS.items():
        axes.barh(0, 0, color=color, label=kind)
    if lost:
        name = f"{lost / MEGA:.1f} Mbit never trained"
        axes.barh(0, 0, color=BLUE, hatch="///", ec="white", label=name)
    axes.plot([], [], "D", color="black", ms=4, label="branch done")
    believed, leaves = float(slot.connection_estimate), float(slot.connection_time)
    lines = [(leaves, RED, "-", "$T_{ct}$")]
    if believed != leaves:
        lines.append((believed, RED, ":", "$T_{ct}$ believed"))
    if scenario.deadline < 1.5 * finish:
        lines.append((scenario.deadline, "black", "--", "deadline"))
    shown = 1.1 * finish
    for time, color, style, name in lines:
        # A line far beyond the last bar would squeeze the bars: it is only named.
        inside = time < 1.5 * finish
        shown = max(shown, 1.05 * time) if inside else shown
        label = f"{name} = {time:.1f} s" + ("" if inside else " (off scale)")
        axes.axvline(time if inside else np.nan, color=color, ls=style, lw=1.5, label=label)
    axes.set(xlim=(0.0, shown), ylim=(len(ROWS) - 0.5, -0.5))

    here, there = _server_names(scenario)
    edge, cloud = float(decision.edge_share), float(decision.cloud_share)
    work = float(slot.work) / MEGA
    names = [
        f"device\n{max(1.0 - edge - cloud, 0.0) * work:.1f} Mbit",
        f"edge i: {here[int(decision.server)]}\n{edge * work:.1f} Mbit",
        "hand-over\nand backhaul",
        f"edge j: {there[int(decision.next_server)]}",
        f"cloud\n{cloud * work:.1f} Mbit",
    ]
    axes.set_yticks(range(len(ROWS)), names)
    late = "TOO LATE, " if outcome.deadline_missed else ""
    case = f"case {outcome.case}: {CASES[int(outcome.case) - 1]}"
    result = f"{late}{finish:.1f} s, {float(outcome.energy_j):.1f} J  ({case}; {scenario.variant})"
    if not started:
        result = f"NOT STARTED (pale: the plan), the battery holds {float(state.battery):.1f} J"
    _style(axes, f"{_task_name(slot, state, scenario)}: {result}", "time since arrival (s)")
    axes.legend(bbox_to_anchor=(1.01, 1.05), loc=2, fontsize=SMALL, frameon=False)


def draw_road(
    axes: Axes,
    slot: Slot,
    scenario: Scenario,
    true_position: float | None = None,
    decision: Decision | None = None,
) -> None:
    """Two cells (with a road) or two regions (without), their servers and the vehicle.

    The records have fields (). ``true_position`` (m into the cell) is ringed, the
    servers of ``decision`` are printed bold.
    """
    road, believed = scenario.road, float(slot.connection_estimate)
    length = road.cell_m if road else 1.0
    level = axes.get_xaxis_transform()  # metres across, fractions of the axes upwards
    chosen = (decision.server, decision.next_server) if decision else (None, None)
    places = ("this cell", "next cell") if road else ("region 1", "region 2")
    for region, names in enumerate(_server_names(scenario)):
        left, middle = region * length, (region + 0.5) * length
        axes.axvspan(left, left + length, color=BLUE if region else ORANGE, alpha=0.08, lw=0)
        axes.text(left + 0.015 * length, 0.96, places[region], transform=level, va="top")
        lines = [f"{'':6}{'up':>5} {'down':>5} {'train':>5} Mbit/s"]
        for k, name in enumerate(names):
            rates = (a[region, k] / MEGA for a in (slot.uplink, slot.downlink, slot.compute))
            lines.append(f"{name:6}" + "{:5.1f} {:5.1f} {:5.1f}       ".format(*rates))
        for k, text in enumerate(lines):
            axes.text(
                middle, 0.46 - 0.45 * k / len(lines), text, transform=level, va="top",
                ha="center", family="monospace", fontsize=SMALL,
                weight="bold" if k - 1 == chosen[region] else "normal",
            )  # fmt: skip
        if road:
            axes.plot(middle, 0.9, "^", color="black", ms=9, transform=level)
            note = f"    station, {road.offset_m:.0f} m off the road"
            axes.text(middle, 0.9, note, transform=level, va="center", fontsize=SMALL)
    axes.axhspan(0.66, 0.80, color="#D9D9D9", lw=0)
    axes.axvline(length, ymin=0.66, color=RED, lw=1.5)
    start, ahead, note = 0.25, 0.9, f"handed over after $T_{{ct}}$ = {believed:.1f} s"
    if road:
        start, speed = float(slot.position), float(slot.speed)
        ahead, error = 5.0 * speed, road.position_error_m
        note = f"{start:.0f} ± {error:.0f} m, {speed:.1f} m/s, leaves in about {believed:.1f} s"
        axes.errorbar(start, 0.73, xerr=error, color="black", capsize=4, transform=level)
    axes.plot(start, 0.73, "o", color="black", ms=8, transform=level)
    if true_position is not None:
        axes.plot(true_position, 0.73, "o", color="black", mfc="none", ms=13, transform=level)
    arrow = {"arrowstyle": "-|>", "lw": 2, "color": "black"}
    axes.annotate("", (start + ahead, 0.73), (start, 0.73), xycoords=level, arrowprops=arrow)
    axes.text(start, 0.57, note, transform=level, va="center", fontsize=SMALL)
    axes.set(xlim=(0, 2 * length), ylim=(0, 1), yticks=[])
    title = "The vehicle, as measured" if road else "Regions and servers"
    _style(axes, title, "along the road (m); arrow: the next 5 s" if road else "")
    axes.xaxis.set_visible(road is not None)
    axes.spines[["left", "bottom"]].set_visible(False)


def draw_battery(axes: Axes, episode: Drive, scenario: Scenario) -> None:
    """The battery over the drive so far, beside a battery that is spent evenly."""
    full, level = scenario.battery, [float(state.battery) for state in episode.states]
    drops = [k + 1 for k, outcome in enumerate(episode.outcomes) if outcome.dropped]
    axes.plot([0, scenario.horizon], [full, 0.0], "--", color=GREY, label="spent evenly")
    axes.plot(range(len(level)), level, "o-", color=BLUE, ms=3, label="battery")
    if drops:
        axes.plot(drops, [level[k] for k in drops], "x", color=RED, ms=7, mew=2, label="dropped")
    # Room below 0 J, or the marks there would be cut in half.
    axes.set(xlim=(0, scenario.horizon + 0.7), ylim=(-0.05 * full, 1.05 * full))
    _style(axes, "Battery", "tasks done", "energy left (J)")
    axes.legend(**ABOVE, ncols=4, fontsize=SMALL, frameon=False, columnspacing=1.2)


def draw_latency(axes: Axes, episode: Drive, scenario: Scenario) -> None:
    """Latency of every task so far, at least one; a dropped one counts as the deadline."""
    outcomes = episode.outcomes
    for label, color, hatch, kept in (
        ("done", BLUE, None, [not o.dropped for o in outcomes]),
        ("too late", RED, "///", [o.deadline_missed for o in outcomes]),
        ("battery short", GREY, "...", [o.battery_short for o in outcomes]),
    ):
        bars = [(k + 1, float(outcomes[k].latency_s)) for k, keep in enumerate(kept) if keep]
        if bars:
            axes.bar(*zip(*bars, strict=True), color=color, hatch=hatch, ec="white", label=label)
    longest = max(float(o.latency_s) for o in outcomes)
    if longest > 0.8 * scenario.deadline:
        axes.axhline(scenario.deadline, color="black", ls="--", lw=1.2, label="deadline")
    axes.set(xlim=(0, scenario.horizon + 0.7), ylim=(0, 1.3 * longest))
    _style(axes, "Latency", "task", "latency (s)")
    axes.legend(**ABOVE, ncols=4, fontsize=SMALL, frameon=False, columnspacing=1.2)


def _draw_choices(axes: Axes, slot: Slot, state: State, scenario: Scenario) -> None:
    """The task at hand: its latency if all of it went to one place, T_ct as believed."""
    believed = replace(slot, connection_time=slot.connection_estimate)
    pairs = [f"{i}, then {j}" for i, j in zip(*_server_names(scenario), strict=True)]
    last = len(pairs) + 1
    for k in range(last + 1):
        server = np.array(min(max(k - 1, 0), scenario.servers - 1))
        shares = np.array(float(0 < k < last)), np.array(float(k == last))
        outcome = model.evaluate(believed, state, Decision(*shares, server, server), scenario)
        seconds = float(max(outcome.edge_s, outcome.device_s, outcome.cloud_s))
        needed = "battery short" if outcome.battery_short else f"{float(outcome.energy_j):.1f} J"
        axes.barh(k, seconds, height=0.6, color=BLUE)
        _beside(axes, seconds, k, f"{seconds:.1f} s, {needed}")
    axes.set_yticks(range(last + 1), ["device", *pairs, "cloud"])
    axes.margins(x=0.18)
    axes.invert_yaxis()
    limits = f"waits: deadline {scenario.deadline:.0f} s, battery {float(state.battery):.1f} J"
    title = f"{_task_name(slot, state, scenario)}, {limits}"
    _style(axes, title, "latency if all of it is trained in one place (s)")


def draw_episode(scenario: Scenario, episode: Drive) -> Figure:
    """The task at hand before the first step; afterwards the last task and the drive.

    Always 11 x 7 in, so that pictures of an episode make a film. Fields of the records
    are (), of the trace (T, ...).
    """
    figure = new_figure(11.0, 7.0)
    done = len(episode.outcomes)
    slot = arrays.at(episode.trace, max(done - 1, 0))
    decision = episode.decisions[-1] if done else None
    drive = done > 0 and scenario.horizon > 1
    grid = figure.add_gridspec(2 + drive, 4, height_ratios=[1.2, 1.4, 1.0][: 2 + drive])
    draw_road(figure.add_subplot(grid[0, :]), slot, scenario, decision=decision)
    if decision is None:
        _draw_choices(figure.add_subplot(grid[1, :]), slot, episode.states[0], scenario)
        return figure
    gantt = figure.add_subplot(grid[1, :3])
    draw_gantt(gantt, slot, episode.states[-2], decision, scenario)
    # The legend's width varies; that of the axes must not, or a film would jump.
    legend = gantt.get_legend()
    assert legend is not None
    legend.set_in_layout(False)
    if drive:
        draw_battery(figure.add_subplot(grid[2, :2]), episode, scenario)
        draw_latency(figure.add_subplot(grid[2, 2:]), episode, scenario)
        total, left = sum(o.latency_s for o in episode.outcomes), episode.states[-1].battery
        drops = sum(int(o.dropped) for o in episode.outcomes)
        text = f"{done} of {scenario.horizon} tasks: {total:.0f} s in all, {drops} dropped"
        figure.suptitle(f"{text}, {left:.0f} J left", fontsize=11, weight="bold")
    return figure
