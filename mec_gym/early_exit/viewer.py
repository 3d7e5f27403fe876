"""Pictures of an episode of early exits: the network, the frames' latency, what was decided."""

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
from mec_gym.core.problem import Episode
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.early_exit.model import Decision, Outcome, State, all_done
from mec_gym.early_exit.scenario import Scenario, Slot, curve_of
from mec_gym.network.tandem import travel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Frames = Episode[Slot, State, Decision, Outcome]
STAGES = ("device", "link", "edge")
COLORS = dict(
    zip((*STAGES, "round trip", "waiting"), (BLUE, ORANGE, GREEN, PINK, GREY), strict=True)
)
ABOVE: dict[str, Any] = {
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 0.98),
    "ncols": 7,
    **LEGEND,
}


def draw_episode(scenario: Scenario, episode: Frames) -> Figure:
    """The whole episode so far, one column per frame.

    The panels show, from top to bottom: the uplink and the arrival rate; where each frame's
    latency was spent in the end, and its deadline; its exit and the share of the network's work
    that the device did; the backlogs that it found, and the charge of the battery.

    Args:
        scenario: The parameters of what was played.
        episode: What has happened, fields of the trace (T,).
    """
    figure = new_figure(11, 9)
    panels = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": (1.0, 1.6, 1.0, 1.0)})
    draw_network(panels[0], scenario, episode)
    if episode.decisions:
        draw_latency(panels[1], scenario, episode)
        draw_decisions(panels[2], scenario, episode)
        draw_backlogs(panels[3], scenario, episode)
    for axes in panels:
        axes.set_xlim(0.5, scenario.horizon + 0.5)
        axes.grid(alpha=0.25)
    panels[-1].set_xlabel("frame", fontsize=SMALL)
    figure.suptitle(_title(scenario, episode), fontsize=11)
    return figure


def draw_network(axes: Axes, scenario: Scenario, episode: Frames) -> None:
    """The bandwidth of the uplink and the arrival rate, up to the frame that comes next."""
    seen = min(len(episode.decisions) + 1, scenario.horizon)
    frames = _numbers(seen)
    bandwidth = episode.trace.bandwidth[:seen] / 1e6
    arrival_rate = episode.trace.arrival_rate[:seen]
    style(axes, ylabel="Mbit/s")
    axes.step(frames, bandwidth, where="mid", color=ORANGE, label="uplink (left)")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    rate = _right_of(axes, "frames/s")
    rate.step(frames, arrival_rate, where="mid", color=PINK, ls="--", label="arrivals")
    rate.set_ylim(0, 1.15 * arrival_rate.max())
    lines = [*axes.get_lines(), *rate.get_lines()]
    axes.legend(lines, ["uplink", "arrival rate (right)"], **ABOVE)


def spent(scenario: Scenario, episode: Frames) -> dict[str, FloatArray]:
    """Where the time of each frame went in the end, in s, (frames played,); 0 if dropped.

    Later frames may have delayed a frame after its own decision, so its outcome does not say it.
    """
    outcomes, decisions = arrays.stack(episode.outcomes), arrays.stack(episode.decisions)
    trace, frames = episode.trace, np.flatnonzero(~outcomes.dropped)
    bits = scenario.table.cost[decisions.exit, decisions.partition, 1]
    way = travel(
        trace.arrival[frames],
        outcomes.device_s[frames],
        bits[frames],
        outcomes.edge_s[frames],
        curve_of(arrays.slot_of(trace, 0)),
        outcomes.round_trip_s[frames],
    )
    parts = {
        "device": way.device_finish - way.device_start,
        "link": way.link_finish - way.link_start,
        "round trip": way.edge_ready - way.link_finish,
        "edge": way.edge_finish - way.edge_start,
    }
    latency = way.edge_finish - trace.arrival[frames]
    parts = {"waiting": latency - sum(parts.values()), **parts}
    found = {}
    for name, seconds in parts.items():
        found[name] = np.zeros(len(episode.outcomes))
        found[name][frames] = seconds
    return found


def draw_latency(axes: Axes, scenario: Scenario, episode: Frames) -> None:
    """Where each frame's latency was spent in the end, its deadline, and who was dropped."""
    outcomes = arrays.stack(episode.outcomes)
    played = _numbers(len(episode.outcomes))
    style(axes, ylabel="latency, ms")
    bottom = np.zeros(len(played))
    for name, seconds in spent(scenario, episode).items():
        height = 1e3 * seconds
        axes.bar(played, height, 0.9, bottom=bottom, color=COLORS[name], label=name)
        bottom += height
    deadline = episode.trace.deadline[: len(played)] * 1e3
    axes.plot(played, deadline, "_", color="black", ms=5, label="deadline")
    gone = played[outcomes.dropped]
    axes.plot(gone, np.full(len(gone), scenario.timeout_s * 1e3), "x", color=RED, label="dropped")
    axes.set_ylim(bottom=0)
    axes.legend(**ABOVE)


def draw_decisions(axes: Axes, scenario: Scenario, episode: Frames) -> None:
    """The exit of each frame, and the share of that exit's work that the device did."""
    decisions = arrays.stack(episode.decisions)
    played = _numbers(len(episode.decisions))
    device = scenario.table.cost[..., 0]
    whole = device[decisions.exit].max(axis=-1)
    share = device[decisions.exit, decisions.partition] / np.where(whole > 0, whole, 1.0)
    style(axes, ylabel="share")
    axes.bar(played, share, 0.9, color=BLUE, alpha=0.5, label="share of its work on the device")
    axes.set_ylim(0, 1.05)
    right = _right_of(axes)
    right.plot(played, decisions.exit + 1, ".", color="black", ms=4, label="exit (right)")
    right.set_yticks(
        np.arange(1, scenario.exits + 1),
        [f"{e.name} ({100 * (e.accuracy or 0):.1f} %)" for e in scenario.graph.exits],
    )
    right.set_ylim(0.5, scenario.exits + 0.5)
    axes.legend([*axes.containers, *right.get_lines()], ["device share", "exit"], **ABOVE)


def draw_backlogs(axes: Axes, scenario: Scenario, episode: Frames) -> None:
    """What device, link and edge had yet to do when each frame came, and the battery's charge."""
    states = arrays.stack(episode.states[: len(episode.decisions)])
    played = _numbers(len(episode.decisions))
    arrival = episode.trace.arrival[: len(played), None]
    left = np.maximum(all_done(states) - arrival, 0.0) * 1e3
    style(axes, ylabel="backlog found, ms")
    for stage, name in enumerate(STAGES):
        axes.step(played, left[:, stage], where="mid", color=COLORS[name], label=name)
    axes.set_ylim(bottom=0)
    right = _right_of(axes, "battery, %")
    charge = 100.0 * states.battery / scenario.battery
    right.step(played, charge, where="mid", color=GREY, ls="--")
    right.set_ylim(0, 105)
    axes.legend([*axes.get_lines(), *right.get_lines()], [*STAGES, "battery left (right)"], **ABOVE)


def _title(scenario: Scenario, episode: Frames) -> str:
    if not episode.outcomes:
        return f"{scenario.graph.name}: no frame yet"
    outcomes = arrays.stack(episode.outcomes)
    answered = ~outcomes.dropped
    latency = (outcomes.latency_s + outcomes.delay_caused_s).mean()
    late = outcomes.deadline_missed.sum() + outcomes.misses_caused.sum()
    return (
        f"{scenario.graph.name}: {len(episode.outcomes)} of {scenario.horizon} frames, "
        f"cost {outcomes.cost.sum():.2f}, latency {latency * 1e3:.0f} ms, "
        f"{late:.0f} late or dropped, "
        f"accuracy {100 * outcomes.accuracy[answered].mean() if answered.any() else 0:.1f} % "
        "of those answered"
    )


def _numbers(frames: int) -> IntArray:
    """The numbers of the first frames, from 1."""
    return np.arange(1, frames + 1)


def _right_of(axes: Axes, ylabel: str = "") -> Axes:
    """A second vertical scale at the right of a panel."""
    right = axes.twinx()
    style(right, ylabel=ylabel)
    right.spines["right"].set_visible(True)
    return right
