"""Predicted against measured: networks executed by two processes over a shaped link.

It takes about twenty minutes and wants a machine on which nothing else runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import mean, median

import numpy as np
import torch

from benchmarks.measure import Report, Row
from mec_gym.core.types import FloatArray
from mec_gym.dnn import zoo
from mec_gym.dnn.calibration.networks import calibration_networks
from mec_gym.dnn.fit import fit_layer_times
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile import profile_in_turn
from mec_gym.early_exit.partitions import partition_cost
from mec_gym.early_exit.table import front
from mec_gym.execution.device import EdgeConnection, Partition
from mec_gym.execution.edge import EdgeProcess
from mec_gym.execution.network import Network
from mec_gym.execution.partitions import DEVICE_ONLY, EDGE_ONLY, Choice, device_only, edge_only
from mec_gym.execution.prediction import Cost, predict
from mec_gym.execution.run import Conditions, Execution, medians
from mec_gym.execution.timing import LayerTimes, measure_layers, with_seconds
from mec_gym.network.tandem import RateCurve
from train.execute import Wanted

SMALL = tuple(f"{name}-digits" for name in zoo.NETWORKS)
LARGE = ("alexnet", "mobilenetv2")  # images of 224 x 224
RATES = (0.13e6, 1.1e6, 5.85e6, 18.88e6, 100e6)
MORE_RATES = (3e6, 8e6, 12e6, 30e6, 50e6)  # of large images, where partitions between are the best
SLOWER = 2.0  # the edge, and the device at least, are so many times slower than this machine
FACTOR = 8.0  # the device of a run with changing partitions is so many times slower
NEAR = 4  # partitions beside the two trivial ones: those with the least predicted latency
AGAIN = 15  # frames of the chosen and of the best partition, if these differ
LONGEST_S = 2.0  # frames that are predicted to take longer are left out
CALIBRATION_S = 45.0
FRAMES = 200  # of a run with changing partitions
RUNS = 3  # with changing partitions, each after layers were measured anew
LOAD = 0.6  # its frames arrive at this share of the rate that the busiest stage can serve
CHANGING = RateCurve.of(np.arange(0.0, 600.0, 0.25), [6e6, 14e6, 3e6, 20e6, 9e6, 11e6] * 400)


@dataclass(frozen=True)
class Case:
    """One partition at one rate; latencies in s."""

    predicted: float
    fitted: float
    measured: float
    equal: bool

    def off(self, by: str) -> float:
        """The relative error of a prediction, without sign."""
        return abs(float(getattr(self, by)) / self.measured - 1.0)


Plan = tuple[Partition, Cost]


@contextmanager
def _both_sides(name: str) -> Iterator[tuple[Network, EdgeConnection]]:
    """A network of the zoo here, and an edge process that has it."""
    wanted = Wanted(name, zoo.input_shapes(name), ("float32",))
    with contextlib.ExitStack() as stack:
        process = EdgeProcess(wanted.build)
        stack.callback(process.close)
        network = wanted.build()
        edge = EdgeConnection(*process.address(), network.split.digest, SLOWER)
        stack.callback(edge.close)
        yield network, edge


@contextmanager
def _execution(
    network: Network, edge: EdgeConnection, conditions: Conditions
) -> Iterator[Execution]:
    execution = Execution(network, edge, conditions)
    try:
        yield execution
    finally:
        execution.close()


def _near_optimum(
    part: LayerGraph, seconds: FloatArray, factor: float, rate: float
) -> list[Choice]:
    """Both trivial partitions, and those of the front with the least predicted latency."""
    found = front(part, factor * seconds, SLOWER * seconds, (rate, rate)).on_edge
    found = found[found.any(axis=1) & ~found[:, 1:].all(axis=1)]
    cost = partition_cost(part, found, factor * seconds, SLOWER * seconds)
    total = (cost * (1.0, 1.0 / rate, 1.0)).sum(axis=1)
    best = found[np.argsort(total, kind="stable")[:NEAR]]
    return [
        Choice(DEVICE_ONLY, device_only(part)),
        Choice(EDGE_ONLY, edge_only(part)),
        *(Choice(str(k), row) for k, row in enumerate(best)),
    ]


@dataclass(frozen=True)
class AtRate:
    """What was executed at one rate: the cases, and the choice by prediction among them.

    Attributes:
        cases: One per partition.
        choice: How much slower than the best one the partition is that is predicted to be the best,
            relative; None where a trivial partition is the best.
    """

    cases: list[Case]
    choice: float | None


def _at_rate(
    network: Network, edge: EdgeConnection, fitted: LayerTimes, frames: int, rate: float
) -> AtRate | None:
    """Execute partitions of the deepest exit at one rate; None if all of them take too long."""
    graph = network.split.graph
    exit_ = len(graph.exits) - 1
    part = graph.at_exit(exit_)
    times = measure_layers(network)  # just before, as the machine has good and bad minutes
    seconds = times.graph.at_exit(exit_).measured_seconds
    # Where all work and all sending take as long, what lies between is often the best.
    factor = max(float(part.output_bits[0] / rate / seconds.sum()), SLOWER)
    conditions = Conditions(
        curve=RateCurve.of([0.0], [rate]), device_factor=factor, edge_factor=SLOWER
    )
    with _execution(network, edge, conditions) as execution:
        plans: list[Plan] = []
        for choice in _near_optimum(part, seconds, factor, rate):
            partition = execution.prepare(choice, exit_)
            cost = execution.cost(partition, times, times)
            if cost.total_s(rate) <= LONGEST_S:
                plans.append((partition, cost))
        if not plans:
            return None
        measured, equal = _in_turn(execution, plans, frames)
        cases = [
            Case(
                predicted=cost.total_s(rate),
                fitted=execution.cost(partition, fitted, fitted).total_s(rate),
                measured=latency,
                equal=equal,
            )
            for (partition, cost), latency in zip(plans, measured, strict=True)
        ]
        best = int(np.argmin(measured))
        chosen = int(np.argmin([case.predicted for case in cases]))
        if plans[best][0].name in (DEVICE_ONLY, EDGE_ONLY):
            return AtRate(cases, None)
        if chosen == best:
            return AtRate(cases, 0.0)
        # The best of several was lucky in its few frames, so both are executed again.
        (of_chosen, of_best), _ = _in_turn(execution, [plans[chosen], plans[best]], AGAIN)
        return AtRate(cases, of_chosen / of_best - 1.0)


def _in_turn(execution: Execution, plans: Sequence[Plan], frames: int) -> tuple[list[float], bool]:
    """Execute frames of several partitions, so that a slow spell of the machine hits all of them.

    Returns:
        The median latency of each, s, and whether all answers were equal.
    """
    partitions, costs = zip(*list(plans) * frames, strict=True)
    run = execution.run(partitions, costs)
    if run.failure is not None:
        raise run.failure
    latency = [medians(run.measured[k :: len(plans)])["total"] for k in range(len(plans))]
    return latency, run.answers.equal == run.answers.compared


@dataclass(frozen=True)
class Queues:
    """By how much predictions for frames with changing partitions are off, relative."""

    latency: float  # mean latency
    stages: float  # mean time that a frame is worked on, by both sides
    as_they_were: float  # mean latency, predicted from how long each frame was worked on
    throughput: float


def _changing(network: Network, edge: EdgeConnection, curve: RateCurve) -> Queues:
    """Execute frames with changing partitions."""
    graph = network.split.graph
    exit_ = len(graph.exits) - 1
    part = graph.at_exit(exit_)
    times = measure_layers(network)
    conditions = Conditions(curve=curve, device_factor=FACTOR, edge_factor=SLOWER, pipeline=True)
    with _execution(network, edge, conditions) as execution:
        seconds = times.graph.at_exit(exit_).measured_seconds
        choices = _near_optimum(part, seconds, FACTOR, execution.mean_rate)
        plans = [execution.prepare(choice, exit_) for choice in choices]
        which = np.random.default_rng(0).integers(len(plans), size=FRAMES)

        def costs_now() -> list[Cost]:
            costs = [execution.cost(partition, times, times) for partition in plans]
            return [costs[k] for k in which]

        costs = costs_now()
        busiest = max(
            mean(cost.device_s for cost in costs),
            mean(cost.bits for cost in costs) / execution.mean_rate,
            mean(cost.edge_s for cost in costs),
        )
        execution.conditions = replace(conditions, fps=LOAD / busiest)
        costs = costs_now()  # at that rate, there are pauses between the frames
        run = execution.run([plans[k] for k in which], costs)
    if run.failure is not None:
        raise run.failure
    measured, predicted = (
        mean(one["total"] for one in some) for some in (run.measured, run.predicted)
    )
    # How the frames queue, apart from how long each stage takes.
    as_they_were = [
        replace(cost, device_s=frame.device_s, edge_s=frame.edge_s)
        for cost, frame in zip(costs, run.frames, strict=True)
    ]
    gaps = execution.conditions.gaps(FRAMES)
    queued, _ = predict(as_they_were, gaps, execution.curve, pipeline=True)
    worked, expected = (
        mean(one["device"] + one["edge"] for one in some) for some in (run.measured, run.predicted)
    )
    return Queues(
        latency=predicted / measured - 1.0,
        stages=expected / worked - 1.0,
        as_they_were=mean(one["total"] for one in queued) / measured - 1.0,
        throughput=run.end_s / run.predicted_end_s - 1.0,
    )


def measure(seconds: float, repeats: int) -> Report:
    """Execute partitions at every rate, and frames with changing partitions.

    Args:
        seconds: Not used, because a measurement is a few frames.
        repeats: Number of frames per case, at least 5.
    """
    torch.set_num_threads(1)
    frames = max(repeats, 5)
    networks = calibration_networks()
    timed = profile_in_turn({name: n for (_, name), n in networks.items()}, "cpu", CALIBRATION_S)
    families: dict[str, list[LayerGraph]] = {}
    for family, name in networks:
        families.setdefault(family, []).append(timed[name])
    rows: list[Row] = []
    everything: list[Case] = []
    choices: list[float] = []
    for name in (*SMALL, *LARGE):
        others = {key: some for key, some in families.items() if key != name.split("-")[0]}
        assert len(others) < len(families), f"{name} has no family in {list(families)}"
        fit = fit_layer_times(others)
        with _both_sides(name) as (network, edge):
            graph = network.split.graph
            fitted = LayerTimes(
                graph=with_seconds(graph, fit.layer_seconds(graph)),
                half_s=measure_layers(network).half_s,
            )
            rates, runs = (RATES, RUNS) if name in SMALL else (RATES + MORE_RATES, 0)
            at_rates = [_at_rate(network, edge, fitted, frames, rate) for rate in rates]
            queues = [_changing(network, edge, CHANGING) for _ in range(runs)]
        found = [one for one in at_rates if one is not None]
        cases = [case for one in found for case in one.cases]
        chosen = [one.choice for one in found if one.choice is not None]
        everything += cases
        choices += chosen
        rows.append(_row(name, cases, chosen) | _queue(queues))
        print(rows[-1], flush=True)
    rows.append(_row("all", everything, choices) | _queue([]))
    notes = [
        f"One partition per case, {frames} frames each, those of all partitions in turn; "
        f"{_mbit(RATES)} Mbit/s, and {_mbit(MORE_RATES)} for large images; the device is so much "
        "slower than this machine that all layers take it as long as the input takes the link, and "
        f"at least {SLOWER:g} times slower, as the edge is. Partitions: both trivial ones and the "
        f"{NEAR} others with the least predicted latency; cases of more than {LONGEST_S:g} s per "
        "frame are left out.",
        "Off: relative error of the predicted median latency. Measured: with layer times measured "
        "before each rate. Fitted: with times per operation fitted to other families of networks.",
        "Choice: networks and rates at which neither trivial partition is the best, and in how "
        "many of them the choice by prediction is within 5 % of the best. Where they differ, both "
        f"are executed again, {AGAIN} frames in turn, and these are compared.",
        f"Queues: {FRAMES} frames with changing partitions over a rate that changes every 250 ms, "
        f"the device {FACTOR:g} times slower, arriving at {100 * LOAD:g} % of what the busiest "
        f"stage can serve; median of {RUNS} runs (smallest to largest). Stages: the mean time that "
        "a frame is worked on. By true stages: predicted from how long each frame really was on "
        "the device and on the edge, which tells of the queues alone.",
    ]
    return Report("Executed for real against predicted", rows, notes)


def _mbit(rates: Sequence[float]) -> str:
    return ", ".join(f"{1e-6 * rate:g}" for rate in rates)


def _row(name: str, cases: Sequence[Case], choices: Sequence[float]) -> Row:
    measured, fitted = ([100 * case.off(by) for case in cases] for by in ("predicted", "fitted"))
    good = sum(choice <= 0.05 for choice in choices)
    return {
        "network": name,
        "cases": len(cases),
        "equal": sum(case.equal for case in cases),
        "measured: off, %": median(measured),
        "worst, %": max(measured),
        "fitted: off, %": median(fitted),
        "its worst, %": max(fitted),
        "choice": f"{good} of {len(choices)}",
    }


def _queue(found: Sequence[Queues]) -> Row:
    columns = {
        "queues: latency off, %": [one.latency for one in found],
        "stages off, %": [one.stages for one in found],
        "by true stages, %": [one.as_they_were for one in found],
        "throughput off, %": [one.throughput for one in found],
    }
    return {
        name: f"{100 * median(off):+.1f} ({100 * min(off):+.1f} to {100 * max(off):+.1f})"
        if off
        else ""
        for name, off in columns.items()
    }
