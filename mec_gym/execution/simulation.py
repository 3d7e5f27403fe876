"""An execution as the simulator sees it: a scenario of early exit, and a trace of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mec_gym.core.checks import LARGEST
from mec_gym.dnn.devices import Profiled
from mec_gym.dnn.graph import LayerGraph
from mec_gym.early_exit.scenario import Scenario, Slot, arrivals, uplink_of
from mec_gym.execution.partitions import Choice
from mec_gym.execution.run import Conditions
from mec_gym.execution.timing import NO_TIME, AfterIdle, LayerTimes, Times, with_seconds
from mec_gym.network.bandwidth import MeasuredBandwidth
from mec_gym.network.tandem import RateCurve
from mec_gym.network.technologies import RadioTechnology

LONGEST_DEADLINE_S = Scenario.deadline[1]
"""The longest deadline of a frame; no timeout may be shorter."""
_NO_LOAD = 1e-9  # the share of a side that other programs take, which the simulator wants above 0


def with_accuracies(graph: LayerGraph, accuracies: Sequence[float | None]) -> LayerGraph:
    """Return a network whose exits have these accuracies.

    If there is only one exit, its accuracy decides nothing, and 1 stands in for None.

    Raises:
        ValueError: Of several exits, one has no accuracy.
    """
    if len(graph.exits) == 1 and accuracies[0] is None:
        accuracies = [1.0]
    found = graph.with_accuracies(accuracies)
    _ = found.accuracies
    return found


def scenario_of(
    graph: LayerGraph,
    times: Times,
    conditions: Conditions,
    curve: RateCurve,
    frames: int,
    timeout_s: float,
    making_s: AfterIdle = NO_TIME,
    beside_s: AfterIdle = NO_TIME,
) -> Scenario:
    """Return the scenario in which frames meet what they meet in an execution.

    Nothing else runs on either side, and energy costs nothing because nobody measures it.
    Deadlines and priorities are those of the default scenario.

    The simulator knows layers, bits and round trips. What else is done once per frame is a part of
    those: a message counts as round trip, what a half takes beyond its layers as part of the first
    layer after the input or of the layers that answer. A frame of which the device runs no layer
    is not charged for what the device does once.

    Args:
        graph: The network, or what one of its exits needs of it, with accuracies.
        times: The times of both sides.
        conditions: The conditions; they must have a number of frames per second.
        curve: The rate of the link.
        frames: The number of frames.
        timeout_s: A frame that would take longer is not started, s.
        making_s: What the making of a message takes the device, without its factor.
        beside_s: What a message takes beyond its bits.

    Raises:
        ValueError: A parameter is outside its range.
    """
    assert conditions.fps is not None
    idle_s = 1.0 / conditions.fps
    whole = times.edge.graph
    answers = [k for k in range(len(whole)) if not whole.successors[k]]
    time, rate = curve.time.tolist(), curve.rate.tolist()
    if len(time) == 1:  # a trace has at least two moments
        time, rate = [time[0], time[0] + 1.0], rate * 2
    return Scenario(
        network=graph,
        device=Profiled(
            _with_once(times.device, idle_s, making_s(idle_s), [1]),
            conditions.device_factor,
            name="device",
        ),
        edge=Profiled(
            _with_once(times.edge, idle_s, 0.0, answers), conditions.edge_factor, name="edge"
        ),
        bandwidth=MeasuredBandwidth(tuple(time), tuple(rate), max_gap=LARGEST),
        technologies=(
            RadioTechnology(
                "link", 0.0, 0.0, round_trip_s=2 * conditions.delay_s + beside_s(idle_s)
            ),
        ),
        horizon=frames,
        arrival_rates=(conditions.fps,),
        device_load=_NO_LOAD,
        edge_load=_NO_LOAD,
        load_spread=0.0,
        timeout_s=timeout_s,
        energy_weight=0.0,
    )


def _with_once(
    times: LayerTimes, idle_s: float, more_s: float, layers: Sequence[int]
) -> LayerGraph:
    """Return a network whose layers take what they take in a half after an idle time.

    Args:
        times: The times of one side.
        idle_s: The idle time, s.
        more_s: What is done once beside the half, s.
        layers: The layers that what is done once is part of.
    """
    seconds = times.half_s.scale(idle_s) * times.graph.measured_seconds
    seconds[list(layers)] += times.half_s.fixed(idle_s) + more_s
    return with_seconds(times.graph, np.maximum(seconds, 0.0))


def trace_of(scenario: Scenario, conditions: Conditions, curve: RateCurve, seed: int) -> Slot:
    """Return the trace of the frames of an execution, fields (1, T).

    Args:
        scenario: What :func:`scenario_of` returned.
        conditions: The conditions.
        curve: The rate of the link from the first frame on; its last rate holds for ever.
        seed: Seed of the deadlines and the priorities.
    """
    drawn = scenario.sample(np.random.default_rng(seed), 1)
    interval = np.full(drawn.interval.shape, 1.0 / scenario.arrival_rates[0])
    arrival = arrivals(interval)
    assert isinstance(scenario.bandwidth, MeasuredBandwidth)
    return replace(
        drawn,
        interval=interval,
        arrival=arrival,
        bandwidth=scenario.bandwidth.rate_after(arrival),
        uplink=uplink_of(curve.time, curve.rate)[None, None],
    )


def choice_of(scenario: Scenario, exit_: int, candidate: int) -> Choice:
    """Return the partition that a decision of early exit stands for.

    Args:
        scenario: The scenario.
        exit_: Index of the exit.
        candidate: Index of one of that exit's candidates, by device work.
    """
    table = scenario.table
    chosen = table.fronts[exit_].on_edge[table.chosen[exit_, candidate]]
    return Choice(f"{scenario.graph.exits[exit_].name}/{candidate}", chosen)
