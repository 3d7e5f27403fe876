"""Pictures of an episode of early exits: the network, the frames' latency, what was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.pictures import BLUE, GREEN, GREY, ORANGE, PINK, RED, new_figure
from mec_gym.core.problem import Episode
from mec_gym.early_exit.model import Decision, Outcome, State
from mec_gym.early_exit.scenario import Scenario, Slot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Frames = Episode[Slot, State, Decision, Outcome]
SMALL = 8.5  # pt
STAGES = ("device", "link", "edge")
COLORS = dict(zip((*STAGES, "waiting"), (BLUE, ORANGE, GREEN, GREY), strict=True))
LEGEND: dict[str, Any] = {
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 0.98),
    "ncols": 6,
    "fontsize": SMALL,
    "frameon": False,
}


def draw_episode(scenario: Scenario, episode: Frames) -> Figure:
    """The whole episode so far, one column a frame.

    From above: the uplink and the arrival rate; each frame's latency by where it was spent,
    with its deadline; exit and share of the network's work on the device; backlogs.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T,).
    """
    figure = new_figure(11, 9)
    panels = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": (1.0, 1.6, 1.0, 1.0)})
    frames = np.arange(1, scenario.horizon + 1)
    played = frames[: len(episode.decisions)]
    _network(panels[0], episode.trace, frames)
    if len(played):
        outcomes, decisions = arrays.stack(episode.outcomes), arrays.stack(episode.decisions)
        _latency(panels[1], scenario, episode.trace, outcomes, played)
        _decisions(panels[2], scenario, decisions, played)
        _backlogs(panels[3], scenario, arrays.stack(episode.states), len(played))
        answered = ~outcomes.dropped
        cost = sum(
            getattr(outcomes, f"{part}_cost").sum()
            for part in ("accuracy", "latency", "miss", "energy")
        )
        title = (
            f"{scenario.graph.name}: {len(played)} of {scenario.horizon} frames, cost {cost:.2f}, "
            f"latency {outcomes.latency_s.mean() * 1e3:.0f} ms, "
            f"{outcomes.deadline_missed.sum()} late or dropped, "
            f"accuracy {100 * outcomes.accuracy[answered].mean() if answered.any() else 0:.1f} % "
            "of those answered"
        )
    else:
        title = f"{scenario.graph.name}: no frame yet"
    figure.suptitle(title, fontsize=11)
    for axes in panels:
        axes.set_xlim(0.5, scenario.horizon + 0.5)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("frame")
    return figure


def _network(axes: Axes, trace: Slot, frames: np.ndarray) -> None:
    axes.step(frames, trace.bandwidth / 1e6, where="mid", color=ORANGE, label="uplink (left)")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("Mbit/s")
    rate = axes.twinx()
    rate.step(frames, trace.arrival_rate, where="mid", color=PINK, ls="--", label="arrivals")
    rate.set_ylim(0, 1.15 * trace.arrival_rate.max())
    rate.set_ylabel("frames/s")
    rate.spines["top"].set_visible(False)
    lines = [*axes.get_lines(), *rate.get_lines()]
    axes.legend(lines, ["uplink", "arrival rate (right)"], **LEGEND)


def _latency(
    axes: Axes, scenario: Scenario, trace: Slot, outcomes: Outcome, played: np.ndarray
) -> None:
    bottom = np.zeros(len(played))
    served = ~outcomes.dropped
    for name in ("waiting", *STAGES):
        height = np.where(served, getattr(outcomes, f"{name}_s"), 0.0) * 1e3
        axes.bar(played, height, 0.9, bottom=bottom, color=COLORS[name], label=name)
        bottom += height
    axes.plot(
        played, trace.deadline[: len(played)] * 1e3, "_", color="black", ms=5, label="deadline"
    )
    gone = played[outcomes.dropped]
    axes.plot(gone, np.full(len(gone), scenario.timeout_s * 1e3), "x", color=RED, label="dropped")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("latency, ms")
    axes.legend(**LEGEND)


def _decisions(axes: Axes, scenario: Scenario, decisions: Decision, played: np.ndarray) -> None:
    device = scenario.table.cost[..., 0]
    whole = device[decisions.exit].max(axis=-1)
    share = device[decisions.exit, decisions.partition] / np.where(whole > 0, whole, 1.0)
    axes.bar(played, share, 0.9, color=BLUE, alpha=0.5, label="share of its work on the device")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("share")
    right = axes.twinx()
    right.plot(played, decisions.exit + 1, ".", color="black", ms=4, label="exit (right)")
    right.set_yticks(
        np.arange(1, scenario.exits + 1),
        [f"{e.name} ({100 * (e.accuracy or 0):.1f} %)" for e in scenario.graph.exits],
        fontsize=SMALL,
    )
    right.set_ylim(0.5, scenario.exits + 0.5)
    right.spines["top"].set_visible(False)
    axes.legend([*axes.containers, *right.get_lines()], ["device share", "exit"], **LEGEND)


def _backlogs(axes: Axes, scenario: Scenario, states: State, count: int) -> None:
    frames = np.arange(1, count + 1)
    for stage, name in enumerate(STAGES):
        backlog = states.backlog[:count, stage] * 1e3
        axes.step(frames, backlog, where="mid", color=COLORS[name], label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("backlog found, ms")
    axes.legend(**LEGEND)
