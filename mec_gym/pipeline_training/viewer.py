"""Pictures of pipeline training: the pipeline of a slot, and who trained what over an episode.

Devices, blocks and microbatches are numbered from 0, as in actions and in the clock. matplotlib
is loaded only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.pictures import (
    BLACK,
    BLUE,
    GREY,
    LEGEND,
    ORANGE,
    PINK,
    RED,
    SMALL,
    new_figure,
    style,
)
from mec_gym.core.problem import Episode
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.pipeline_training.clock import Operation, StageTimes, minibatch_seconds, timeline
from mec_gym.pipeline_training.model import (
    NOWHERE,
    Decision,
    Outcome,
    Stages,
    State,
    held_by,
    needed_memory,
    perfect_seconds,
    stage_times,
    stages_of,
)
from mec_gym.pipeline_training.scenario import GIGA, Scenario, Schedule, Slot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Episode[Slot, State, Decision, Outcome]

PRESENT = "#E8E8E8"
FORWARD, BACKWARD = BLUE, ORANGE
SCHEDULES: dict[Schedule, str] = {"1f1b": "1F1B", "gpipe": "GPipe"}
BYTES = 8.0 * GIGA
"""A gigabyte, bit."""
# Left, bottom, width and height of pipeline, memory, fleet and losses, as shares of the figure.
PIPELINE, NARROW = (0.16, 0.625, 0.76, 0.27), (0.16, 0.625, 0.55, 0.27)
MEMORY = (0.795, 0.625, 0.165, 0.27)
FLEET, LOSSES = (0.16, 0.275, 0.76, 0.245), (0.16, 0.06, 0.76, 0.135)
FONTS = (SMALL, 7.0, 5.5, 4.5)
"""Sizes of the numbers in boxes; where even the smallest does not fit, there are none."""
HEIGHT = 0.66
"""The height of a box, in rows."""
NAMED = 16
"""If there are more rows than this, not all of them get a label."""
ABOVE: dict[str, Any] = {
    **LEGEND,
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 0.98),
    "ncols": 9,
    "columnspacing": 1.2,
    "handlelength": 1.3,
    "handletextpad": 0.5,
    "borderaxespad": 0.2,
}
"""A legend in one line above a panel."""


def draw_episode(scenario: Scenario, episode: History) -> Figure:
    """Draw the pipeline of the last slot, the fleet, and what every slot lost.

    Above: one minibatch of the last slot that was played, and the memory that its stages need
    if it is limited. Below: who was present up to now, who trained which blocks, and what was
    lost against perfect sharing. The figure is always 12 x 9 in, so that pictures of an episode
    make a film.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...), fields of the other records ().
    """
    figure = new_figure(12, 9)
    # By hand: labels differ from slot to slot, and a film must not jump.
    figure.set_layout_engine("none")
    limited = scenario.memory is not None
    draw_slot(figure.add_axes(NARROW if limited else PIPELINE), scenario, episode)
    if limited:
        draw_memory(figure.add_axes(MEMORY), scenario, episode)
    fleet, losses = figure.add_axes(FLEET), figure.add_axes(LOSSES)
    fleet.sharex(losses)
    draw_losses(losses, scenario, episode)
    draw_fleet(fleet, scenario, episode)
    fleet.tick_params(labelbottom=False)
    figure.suptitle(_title(scenario, episode), fontsize=11, y=0.985)
    return figure


def draw_pipeline(
    times: StageTimes,
    microbatches: int,
    schedule: Schedule,
    labels: Sequence[str] | None = None,
) -> Figure:
    """Draw the pipeline of one minibatch, as in the figures of [Huang2019] and [Narayanan2021].

    Args:
        times: What each stage takes, (R,) and (R - 1,), counted from the last stage.
        microbatches: Q.
        schedule: The order of operations.
        labels: The names of the stages, the first one first. None numbers them from 0.

    Raises:
        ValueError: ``times`` is of several pipelines, or the number of labels is not R.
    """
    if np.ndim(times.forward) != 1:
        raise ValueError(
            "times must be of one pipeline, with a forward time per stage, got an array of shape "
            f"{np.shape(times.forward)}"
        )
    stages = len(times.forward)
    labels = [f"stage {s}" for s in range(stages)] if labels is None else labels
    if len(labels) != stages:
        raise ValueError(f"labels must name the {stages} stages of times, got {len(labels)}")
    width, height = 10.0, 1.0 + 0.42 * max(stages, 3)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    longest = max(len(line) for label in labels for line in label.split("\n"))
    left, bottom, right, top = 0.25 + 0.075 * longest, 0.5, 0.85, 0.45
    axes = figure.add_axes(
        (
            left / width,
            bottom / height,
            (width - left - right) / width,
            (height - bottom - top) / height,
        )
    )
    draw_gantt(axes, times, microbatches, schedule, labels)
    idle = idle_share(times, microbatches, schedule)
    end = _seconds(float(minibatch_seconds(times, microbatches, schedule)))
    style(axes, f"{SCHEDULES[schedule]}: {end} per minibatch, {idle:.1%} idle", "time (s)")
    return figure


def idle_share(times: StageTimes, microbatches: int, schedule: Schedule) -> float:
    """Compute the bubbles of a pipeline: the share of time for which its stages are idle.

    Args:
        times: What each stage takes, (R,) and (R - 1,).
        microbatches: Q.
        schedule: The order of operations.
    """
    end = minibatch_seconds(times, microbatches, schedule)
    return float(1.0 - (_busy(times, microbatches) / end).mean())


def _busy(times: StageTimes, microbatches: int) -> FloatArray:
    """How long each stage computes in a minibatch, (R,) s."""
    return microbatches * np.asarray(times.forward + times.backward)


def draw_gantt(
    axes: Axes,
    times: StageTimes,
    microbatches: int,
    schedule: Schedule,
    labels: Sequence[str],
    fetching: FloatArray | None = None,
) -> None:
    """Draw the forward and backward passes of one minibatch, one row per stage.

    Thin lines lead from the end of a pass to the arrival at the next stage; while the link is
    still busy, they are flat. At the right stands for which share of the time a stage is busy.
    GPipe does the backward passes in reverse order of the microbatches.

    Args:
        axes: The panel to draw on; it must have its place in the figure already.
        times: What each stage takes, (R,) and (R - 1,), counted from the last stage.
        microbatches: Q.
        schedule: The order of operations.
        labels: The names of the stages, the first one first.
        fetching: How long each pass of a stage fetches what memory cannot hold, (R,) s; it is
            hatched at the beginning of each pass.
    """
    ends = timeline(times, microbatches, schedule)
    last, stages = float(max(ends.values())), len(times.forward)
    axes.set(xlim=(-0.004 * last, 1.004 * last), ylim=_rows(stages))
    step = -(-stages // NAMED)
    axes.set_yticks(range(0, stages, step), labels[::step])
    for backward in (False, True):
        _draw_transfers(axes, times, ends, backward)
        for r in range(stages):
            took = float((times.backward if backward else times.forward)[r])
            starts = [float(ends[Operation(r, backward, q)]) - took for q in range(microbatches)]
            fetches = 0.0 if fetching is None else float(fetching[r])
            numbers = list(range(microbatches))
            if backward and schedule == "gpipe":
                numbers.reverse()
            _draw_passes(axes, stages - 1 - r, starts, (took, fetches), numbers, backward)
    for r, busy in enumerate(_busy(times, microbatches) / last):
        _at_right(axes, stages - 1 - r, f"{busy:.0%} busy" if busy >= 0.005 else "<1% busy")
    _add_pipeline_legend(axes, fetching is not None and bool(np.any(fetching)))


def _draw_transfers(
    axes: Axes, times: StageTimes, ends: dict[Operation, FloatArray], backward: bool
) -> None:
    """Draw a line per transfer: flat while it waits for the link, then sloping to its arrival."""
    from matplotlib.collections import LineCollection

    lines, first = [], len(times.forward) - 1
    microbatches = len(ends) // (2 * len(times.forward))
    for r in range(first):
        sender, receiver = (r, r + 1) if backward else (r + 1, r)
        took = float((times.down if backward else times.up)[r])
        edge, free = (-0.5 if backward else 0.5) * HEIGHT, 0.0
        for q in range(microbatches):
            end = float(ends[Operation(sender, backward, q)])
            start = max(free, end)
            free = start + took
            leaves, arrives = first - sender + edge, first - receiver - edge
            lines.append([(end, leaves), (start, leaves), (free, arrives)])
    color = BACKWARD if backward else FORWARD
    width = 0.9 if microbatches <= 16 else 0.5
    name = "_gradients" if backward else "_activations"
    axes.add_collection(LineCollection(lines, colors=color, lw=width, label=name, zorder=1))


def _draw_passes(
    axes: Axes,
    row: int,
    starts: list[float],
    took: tuple[float, float],
    numbers: list[int],
    backward: bool,
) -> None:
    """Draw the boxes of a stage's forward or backward passes, with numbers if they fit.

    Args:
        axes: The panel to draw on.
        row: The stage's row.
        starts: When each pass starts, s.
        took: How long a pass takes, s, and how much of that is fetching.
        numbers: The microbatch of each pass.
        backward: Whether the passes are backward.
    """
    span = axes.get_xlim()[1] - axes.get_xlim()[0]
    room = 72.0 * axes.get_window_extent().width / axes.figure.dpi * took[0] / span
    where = (row - HEIGHT / 2, HEIGHT)
    color, name = (BACKWARD, "_backward") if backward else (FORWARD, "_forward")
    edge: dict[str, Any] = {"ec": "white", "lw": 0.7 if room > 4.0 else 0.3}
    if room < 1.2:  # a box thinner than its white edge would vanish
        edge = {"ec": color, "lw": 0.7}
    axes.broken_barh(
        [(start, took[0]) for start in starts], where, fc=color, label=name, zorder=2, **edge
    )
    if took[1] > 0:
        parts = [(start, took[1]) for start in starts]
        axes.broken_barh(
            parts, where, fc="white", ec=color, hatch="/////", lw=0.3, label="_fetching", zorder=2
        )
    digits = len(str(len(numbers) - 1))
    size = next((size for size in FONTS if room > 0.64 * size * digits + 2.0), None)
    if size is None:
        return
    for start, number in zip(starts, numbers, strict=True):
        axes.text(
            start + took[0] / 2,
            row,
            str(number),
            ha="center",
            va="center_baseline",
            fontsize=size,
            color=BLACK if backward else "white",
            bbox={"fc": color, "ec": "none", "pad": 0.6} if took[1] > 0 else None,
            zorder=3,
        )


def _add_pipeline_legend(axes: Axes, fetches: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(fc=FORWARD, label="forward"),
        Patch(fc=BACKWARD, label="backward"),
        Line2D([], [], color=GREY, lw=0.9, label="transfer"),
    ]
    if fetches:
        handles.append(Patch(fc="white", ec=GREY, hatch="/////", label="fetching from the store"))
    axes.legend(handles=handles, **ABOVE)


def draw_slot(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw the pipeline of one minibatch in the last slot that was played.

    Args:
        axes: The panel to draw on; it must have its place in the figure already.
        scenario: What was played.
        episode: Fields of the trace (T, ...), fields of the other records ().
    """
    s, done = scenario, len(episode.outcomes)
    axes.set(xticks=[], yticks=[])
    if not done:
        _say(axes, "no slot has been played yet")
        style(axes)
        return
    slot, outcome = arrays.at(episode.trace, done - 1), episode.outcomes[-1]
    when = f"Slot {done} of {s.horizon}"
    if not slot.present.any():
        _say(axes, "nobody is present")
        style(axes, when)
        return
    stages = _last_stages(scenario, episode)
    times, fetching = stage_times(stages, slot, s)
    axes.xaxis.set_major_locator(_auto_ticks())
    draw_gantt(axes, times, s.microbatches, s.schedule, _stage_names(stages), fetching)
    took, best = float(outcome.minibatch_s), float(perfect_seconds(slot, s))
    moving, idle = float(outcome.moving_s), idle_share(times, s.microbatches, s.schedule)
    before = f"moving {_seconds(moving)}, then " if moving > 0 else ""
    if moving >= s.slot_s:
        before = f"moving {_seconds(moving)}, nothing trained; "
    text = (
        f"{when}: {before}{_seconds(took)} per minibatch (perfect sharing: {_seconds(best)}), "
        f"{idle:.0%} idle"
    )
    style(axes, "", "time since the minibatch began (s)")
    axes.set_title(text, loc="left", fontsize=10, pad=21)  # above the legend


def draw_memory(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw what each stage of the last slot needs of its device's memory; it must be limited.

    Args:
        axes: The panel to draw on, beside the pipeline.
        scenario: What was played.
        episode: Fields of the trace (T, ...), fields of the other records ().
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    assert scenario.memory is not None
    stages = _last_stages(scenario, episode)
    count = len(stages.device)
    needs = needed_memory(stages, scenario)[::-1] / BYTES
    limits = scenario.memory_limits[stages.device][::-1] / BYTES
    rows = np.arange(count)
    over = np.maximum(needs - limits, 0.0)
    axes.barh(rows, needs - over, HEIGHT, color=GREY, label="needed")
    axes.barh(rows, over, HEIGHT, left=needs - over, color=RED, label="excess")
    axes.vlines(limits, rows - 0.44, rows + 0.44, color=BLACK, lw=1.8, label="limit")
    right = 1.08 * max(needs.max(initial=0.0), limits.max(initial=0.0))
    axes.set(xlim=(0.0, right or 1.0), ylim=_rows(count), yticks=[])
    style(axes, "", "memory (GB)")
    handles: list[Any] = [Patch(fc=GREY, label="needed"), Patch(fc=RED, label="excess")]
    handles.append(Line2D([], [], color=BLACK, ls="", marker="|", ms=9, mew=1.8, label="limit"))
    axes.legend(handles=handles, **ABOVE)


def draw_fleet(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw who was present, and which blocks each device trained, up to the slot at hand.

    A device's row has a lane per block, the first one on top. A block that has been moved begins
    with a line.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the trace (T, ...), fields of the other records ().
    """
    s, done = scenario, len(episode.outcomes)
    now = min(done, s.horizon - 1)
    present = np.asarray(episode.trace.present[: now + 1])
    for m in range(s.devices):
        there = _runs(present[:, m])
        axes.broken_barh(there, (m - 0.42, 0.84), fc=PRESENT, ec="none", label="_present")
    plans = np.array([state.place for state in episode.states[1:]]).reshape(done, s.blocks)
    lane, colors = 0.84 / s.blocks, block_colors(s.blocks)
    for block, color in enumerate(colors):
        for m in range(s.devices):
            trained = _runs(plans[:, block] == m)
            where = (m - 0.42 + block * lane, lane)
            if trained:
                axes.broken_barh(trained, where, fc=color, ec="none", label=f"_block {block}")
    _draw_moves(axes, scenario, episode)
    if done < s.horizon and s.notice:
        leaves = np.asarray(episode.trace.leaves[now])
        known = np.flatnonzero(present[now] & (leaves <= s.notice))
        x = now + 0.5 + leaves[known]
        axes.plot(x, known, "x", color=RED, ms=6, mew=1.6, label="_leaves", zorder=4)
    axes.set(ylim=(s.devices - 0.4, -0.6))
    step = -(-s.devices // NAMED)
    rows = range(0, s.devices, step)
    speeds = episode.trace.speed[max(done - 1, 0)] / GIGA
    here = present[max(done - 1, 0)]
    names = [f"device {m}" + (f": {speeds[m]:.3g} GFLOP/s" if here[m] else "") for m in rows]
    axes.set_yticks(rows, names)
    style(axes, "Who trains what")
    _add_fleet_legend(axes, scenario, colors)


def _draw_moves(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw a line where a block has come to a device from another one, or from the store."""
    from matplotlib.collections import LineCollection

    lane = 0.84 / scenario.blocks
    for from_store, color in ((False, BLACK), (True, RED)):
        lines = []
        for t, (blocks, came_from) in enumerate(map(_moves, *_before_and_after(episode))):
            plan = episode.states[t + 1].place
            chosen = blocks & ((came_from == NOWHERE) == from_store)
            for block in np.flatnonzero(chosen).tolist():
                top = plan[block] - 0.42 + block * lane
                lines.append([(t + 0.5, top), (t + 0.5, top + lane)])
        name = "_from the store" if from_store else "_from a device"
        looks: dict[str, Any] = {"colors": color, "lw": 2.0, "clip_on": False, "zorder": 3}
        axes.add_collection(LineCollection(lines, label=name, **looks))


def _before_and_after(episode: History) -> tuple[list[BoolArray], list[IntArray], list[IntArray]]:
    """Who was present, and the places before and after, of each slot that was played."""
    done = len(episode.outcomes)
    places = [np.asarray(state.place) for state in episode.states]
    return list(episode.trace.present[:done]), places[:-1], places[1:]


def _moves(present: BoolArray, before: IntArray, plan: IntArray) -> tuple[BoolArray, IntArray]:
    """Which blocks have moved, and where they came from, (L,)."""
    holder = held_by(present, before)
    return (plan != holder) & (plan != NOWHERE), holder


def _add_fleet_legend(axes: Axes, scenario: Scenario, colors: list[Any]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    last = scenario.blocks - 1
    shown = range(last + 1) if last < 8 else sorted({0, last // 2, last})
    handles: list[Any] = [Patch(fc=PRESENT, label="present")]
    handles += [
        Patch(fc=colors[block], label=f"block {block}"[6 * (block > 0) :]) for block in shown
    ]
    mark: dict[str, Any] = {"ls": "", "marker": "|", "ms": 9, "mew": 1.8}
    handles += [
        Line2D([], [], color=BLACK, label="moved from a device", **mark),
        Line2D([], [], color=RED, label="from the store", **mark),
    ]
    if scenario.notice:
        handles.append(
            Line2D([], [], color=RED, ls="", marker="x", ms=6, mew=1.6, label="will leave")
        )
    axes.legend(handles=handles, **(ABOVE | {"ncols": len(handles), "columnspacing": 1.0}))


def draw_losses(axes: Axes, scenario: Scenario, episode: History) -> None:
    """Draw which share of every slot is lost, by moving and by a pace below perfect sharing.

    Args:
        axes: The panel to draw on.
        scenario: What was played.
        episode: Fields of the outcomes ().
    """
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    length = scenario.slot_s
    moving = np.array([float(o.moving_s) for o in episode.outcomes]) / length
    lost = np.array([float(o.lost_s) for o in episode.outcomes]) / length
    fetches = np.array([float(o.fetching_s) > 0 for o in episode.outcomes], dtype=np.bool_)
    x = np.arange(1, len(lost) + 1)
    slower = lost - moving
    axes.bar(x, slower, 0.85, color=np.where(fetches, RED, GREY), label="_slower")
    axes.bar(x, moving, 0.85, bottom=slower, color=PINK, label="_moving")
    top = max(1.0, 1.02 * lost.max(initial=0.0))
    axes.axhline(1.0, color=BLACK, lw=0.8, ls=":")
    axes.set(xlim=(0.5, scenario.horizon + 0.5), ylim=(0.0, top))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style(axes, "What is lost", "slot", "share of the slot")
    names = {"slower than perfect sharing": GREY, "moving": PINK}
    if scenario.memory is not None:
        names["slower, memory too small"] = RED
    axes.legend(handles=[Patch(fc=color, label=name) for name, color in names.items()], **ABOVE)


def block_colors(blocks: int) -> list[Any]:
    """Return a colour per block, from light (the first one) to dark."""
    from matplotlib import colormaps

    return list(colormaps["viridis_r"](np.linspace(0.08, 0.95, blocks)))


def _last_stages(scenario: Scenario, episode: History) -> Stages:
    """The stages of the last plan, fields (R,) with R the number of stages; none at first."""
    place = np.asarray(episode.states[-1].place)
    stages = stages_of(place, min(scenario.devices, scenario.blocks))
    count = int(stages.exists.sum()) if place[0] != NOWHERE else 0
    return arrays.at(stages, slice(count))


def _stage_names(stages: Stages) -> list[str]:
    """Who trains which blocks, the first stage first."""
    names = []
    for device, first, last in zip(stages.device, stages.first, stages.last, strict=True):
        blocks = f"block {first}" if first == last else f"blocks {first}\N{EN DASH}{last}"
        names.append(f"device {device}: {blocks}")
    return names[::-1]


def _runs(on: BoolArray) -> list[tuple[float, int]]:
    """Where on the slots' axis each stretch of True begins, and how long it is."""
    edges = np.diff(np.concatenate([[0], np.asarray(on, dtype=np.int64), [0]]))
    begin, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [(b + 0.5, e - b) for b, e in zip(begin.tolist(), end.tolist(), strict=True)]


def _rows(count: int) -> tuple[float, float]:
    """The limits of an axis with a row per stage; few rows do not fill it."""
    spare = max(0.0, (3 - count) / 2)
    return count - 0.4 + spare, -0.6 - spare


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:,.0f} s"


def _count(number: int, name: str, plural: str = "s") -> str:
    return f"{number} {name}{plural * (number != 1)}"


def _at_right(axes: Axes, row: int, text: str) -> None:
    axes.annotate(
        text,
        (1.0, row),
        (6, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
        annotation_clip=False,
    )


def _say(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=10
    )


def _auto_ticks() -> Any:
    from matplotlib.ticker import AutoLocator

    return AutoLocator()


def _title(scenario: Scenario, episode: History) -> str:
    """Return one line on the whole episode so far."""
    s, done = scenario, len(episode.outcomes)
    size = (
        f"{_count(s.blocks, 'block')} on {_count(s.devices, 'device')}, "
        f"{SCHEDULES[s.schedule]}, {_count(s.microbatches, 'microbatch', 'es')}"
    )
    if not done:
        return f"{size}: no slot yet"
    lost = sum(float(o.lost_s) for o in episode.outcomes) / s.slot_s
    moving = [float(o.moving_s) for o in episode.outcomes]
    moves = sum(m > 0 for m in moving)
    return (
        f"{size}: {done} of {s.horizon} slots, {lost:.2f} lost, {sum(moving) / s.slot_s:.2f} of "
        f"it by moving in {_count(moves, 'slot')}"
    )
