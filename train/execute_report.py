"""What an execution prints and writes: tables, notes, JSON, CSV and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from rich.table import Table

from mec_gym.dnn.graph import LayerGraph
from mec_gym.execution.device import Frame, Partition
from mec_gym.execution.edge import machine
from mec_gym.execution.prediction import STAGES, Stages
from mec_gym.execution.run import Execution, Run, means, medians
from mec_gym.execution.timing import PAUSES_S, Times
from mec_gym.execution.viewer import draw_decided, draw_execution
from train.console import show_table
from train.execute_config import ExecuteRun
from train.execute_policy import Decided

RESULT_FILE, FRAMES_FILE, PICTURE_FILE = "result.json", "frames.csv", "execution.png"
MOST_ROWS = 25
"""So many partitions are printed; all are in the files."""
DISTURBED = 0.1
"""A note says so if a side waits for a processor for a larger share of its time."""
SCATTER = 1.25
"""A note says so if the third quartile of a half's CPU time is so many times the first one."""
ENOUGH, SHORT_S = 8, 1e-3
"""Halves of fewer frames, or of less time in s, may scatter."""
Average = Literal["mean", "median"]
AVERAGES = {"mean": means, "median": medians}


@dataclass(frozen=True, eq=False, kw_only=True)
class Executed:
    """What was executed.

    Attributes:
        options: The options of the command.
        execution: Both sides.
        times: The times that predictions were made with.
        runs: The runs, one per partition; of a policy, a single one.
        decided: What the policy has decided; None without one.
    """

    options: ExecuteRun
    execution: Execution
    times: Times
    runs: Sequence[Run]
    decided: Decided | None


def must_be_equal(run: ExecuteRun, execution: Execution) -> bool:
    """Whether the answers have to be those of the network that is not split, bit for bit."""
    return not run.quantise and execution.edge.machine == machine()


def emulated(run: ExecuteRun) -> list[str]:
    """Say which parts of an execution are emulated."""
    found = []
    if run.rate is not None or run.trace is not None:
        what = f"{run.rate:g} Mbit/s" if run.rate is not None else f"the trace {run.trace}"
        found.append(f"the link's rate, {what}: pieces wait until it would have sent them")
    if run.delay:
        found.append(f"the link's delay, {run.delay:g} ms each way")
    for name, factor in (("a device", run.device_factor), ("an edge", run.edge_factor)):
        if factor > 1:
            found.append(
                f"{name} {factor:g} times slower: it sleeps until begin + {factor:g} x own CPU time"
            )
    return found


def _device_layers(partition: Partition) -> int:
    return int((~partition.on_edge[1:]).sum())


def show(executed: Executed) -> None:
    """Print what was predicted and what happened."""
    run, execution, found = executed.options, executed.execution, executed.runs
    graph, decided = execution.network.split.graph, executed.decided
    if decided is not None:
        _show_decided(f"{graph.name}, {run.policy}", found[0], decided)
    elif len(found) == 1:
        frame, layers = found[0].frames[0], len(found[0].frames[0].partition.on_edge) - 1
        what = f"{_device_layers(frame.partition)} of {layers} layers on the device"
        title = f"{graph.name}, {frame.partition.name}: {what}, {frame.bits / 1e6:.4g} Mbit sent"
        _show_stages(title, found[0], "median")
    else:
        _show_partitions(graph.name, found)
    source = executed.times.source
    hot, *_, cold = (f"{1e3 * seconds:.3g}" for seconds in execution.beside_s.seconds)
    print(f"prediction: layer times {source}; {hot} ms per message, {cold} after a pause")
    parts = emulated(run)
    print(f"emulated: {'; '.join(parts)}" if parts else "emulated: nothing")
    print("real: two processes, their computation, TCP, the messages, the answers")
    print(equality(run, execution, found))
    for note in (trace_note(run, execution, found), *disturbances(run, found)):
        if note:
            print(note)


def equality(run: ExecuteRun, execution: Execution, found: Sequence[Run]) -> str:
    """Say in a line how the answers compare with those of the network that is not split."""
    compared = sum(one.answers.compared for one in found)
    equal = sum(one.answers.equal for one in found)
    text = f"answers: {equal} of {compared} equal those of the network not split, bit for bit"
    if equal == compared:
        return text
    text += f"; largest difference {max(one.answers.largest for one in found):.3g}"
    classes = [one.answers.same_class for one in found]
    if None not in classes:
        text += f"; the same class in {sum(one or 0 for one in classes)} of {compared}"
    if not run.quantise and not must_be_equal(run, execution):
        text += f"; the edge ({execution.edge.machine}) may round otherwise than here ({machine()})"
    return text


def trace_note(run: ExecuteRun, execution: Execution, found: Sequence[Run]) -> str:
    """Say in a line if frames came after the end of the trace."""
    if run.trace is None:
        return ""
    end = float(execution.curve.time[-1])
    late = sum(1 for one in found for f in one.frames if (f.done or 0.0) - one.begin > end)
    rate = float(execution.curve.rate[-1]) / 1e6
    return (
        f"note: the trace ends after {end:g} s, and {late} frames were answered after that; its "
        f"last rate, {rate:g} Mbit/s, held for them"
        if late
        else ""
    )


def disturbances(run: ExecuteRun, found: Sequence[Run]) -> list[str]:
    """Say in a line for each side what disturbed it."""
    frames = [frame for one in found for frame in one.frames]
    notes = []
    for name, factor in (("device", run.device_factor), ("edge", run.edge_factor)):
        worked = sum(getattr(frame, f"{name}_s") for frame in frames)
        needed = [getattr(frame, f"{name}_cpu_s") for frame in frames]
        if not sum(needed):
            continue
        waited = 1.0 - factor * sum(needed) / max(worked, 1e-9)
        if waited > DISTURBED:
            notes.append(
                f"note: for {100 * waited:.0f} % of its time the {name} waited for a processor; "
                "let nothing else run"
            )
        partitions: dict[int, list[float]] = {}
        for frame, cpu_s in zip(frames, needed, strict=True):
            partitions.setdefault(frame.partition.number, []).append(cpu_s)
        # Of a few frames, quartiles tell little.
        quartiles = [
            np.percentile(times, [25, 75])
            for times in partitions.values()
            if len(times) >= ENOUGH and median(times) > SHORT_S
        ]
        scatter = median(high / low for low, high in quartiles) if quartiles else 1.0
        if scatter > SCATTER:
            notes.append(
                f"note: the {name}'s CPU time for the same layers scatters (the third quartile is "
                f"{scatter:.2f} times the first): something slows its processor from time to time, "
                "such as other tenants of a shared machine, and predictions are off by as much"
            )
    return notes


def _show_stages(title: str, run: Run, average: Average) -> None:
    frames = run.frames
    table = Table(title=f"{title}; {average}s of {len(frames)} frames")
    for column in ("stage", "predicted, ms", "measured, ms", "measured / predicted"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    predicted, measured = (AVERAGES[average](some) for some in (run.predicted, run.measured))
    for stage in (*STAGES, "total"):
        one, other = predicted[stage], measured[stage]
        ratio = f"{other / one:.2f}" if one > 1e-5 else ""
        table.add_row(stage, f"{1e3 * one:.3f}", f"{1e3 * other:.3f}", ratio)
    rates = [len(frames) / end for end in (run.predicted_end_s, run.end_s)]
    table.add_row("frames/s", *(f"{rate:.3f}" for rate in rates), f"{rates[1] / rates[0]:.2f}")
    show_table(table)


def _show_decided(title: str, run: Run, decided: Decided) -> None:
    dropped = len(decided.dropped)
    _show_stages(f"{title}: {dropped} frames dropped", run, "mean")
    table = Table(title="what was decided, means")
    columns = (
        "exit",
        "partition",
        "device layers",
        "Mbit",
        "frames",
        "predicted, ms",
        "measured, ms",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for places in by_partition(run):
        frame = run.frames[places[0]]
        predicted, measured = (
            f"{1e3 * means([some[k] for k in places])['total']:.3f}"
            for some in (run.predicted, run.measured)
        )
        table.add_row(
            str(frame.partition.exit),
            frame.partition.name,
            str(_device_layers(frame.partition)),
            f"{frame.bits / 1e6:.4g}",
            str(len(places)),
            predicted,
            measured,
        )
    show_table(table)
    print(
        f"in the simulator: mean latency {1e3 * decided.simulated_s:.3f} ms, mean reward "
        f"{decided.reward:.4f}"
    )


def by_partition(run: Run) -> list[list[int]]:
    """The places of the frames of a run by their partition, the most frequent one first."""
    found: dict[int, list[int]] = {}
    for place, frame in enumerate(run.frames):
        found.setdefault(frame.partition.number, []).append(place)
    return sorted(found.values(), key=len, reverse=True)


def _show_partitions(name: str, found: Sequence[Run]) -> None:
    predicted, measured = (
        np.array([medians(stages)["total"] for stages in some])
        for some in ([one.predicted for one in found], [one.measured for one in found])
    )
    off = np.abs(predicted / measured - 1.0)
    order = np.argsort(measured, kind="stable")
    table = Table(title=f"{name}: {len(found)} partitions by measured latency, medians")
    for column in (
        *("partition", "device layers", "Mbit"),
        *("predicted, ms", "measured, ms", "off", "equal"),
    ):
        table.add_column(column, justify="right")
    for k in order[:MOST_ROWS]:
        frame, answers = found[k].frames[0], found[k].answers
        table.add_row(
            frame.partition.name,
            str(_device_layers(frame.partition)),
            f"{frame.bits / 1e6:.4g}",
            f"{1e3 * predicted[k]:.3f}",
            f"{1e3 * measured[k]:.3f}",
            f"{100 * off[k]:.1f} %",
            f"{answers.equal} of {answers.compared}",
        )
    show_table(table)
    if len(found) > MOST_ROWS:
        print(f"and {len(found) - MOST_ROWS} more, which are in {RESULT_FILE}")
    best_predicted, best_measured = int(predicted.argmin()), int(order[0])
    slower = measured[best_predicted] / measured[best_measured] - 1.0
    names = [found[k].frames[0].partition.name for k in (best_predicted, best_measured)]
    print(
        f"predictions are {100 * np.median(off):.1f} % off in the median, {100 * off.max():.1f} % "
        f"at most; the best by prediction, {names[0]}, is {100 * slower:.1f} % slower than the "
        f"best by measurement, {names[1]}"
    )


def frame_rows(run: Run) -> list[dict[str, Any]]:
    """One row per frame, for a CSV file; times in s."""
    rows = []
    for frame, predicted, measured in zip(run.frames, run.predicted, run.measured, strict=True):
        row: dict[str, Any] = {
            "frame": frame.number,
            "exit": frame.partition.exit,
            "partition": frame.partition.name,
            "device_layers": _device_layers(frame.partition),
            "arrival_s": frame.arrival - run.begin,
            "bits": frame.bits,
            "device_cpu_s": frame.device_cpu_s,
            "edge_cpu_s": frame.edge_cpu_s,
        }
        for stage in (*STAGES, "total"):
            row[f"predicted_{stage.replace(' ', '_')}_s"] = predicted[stage]
            row[f"measured_{stage.replace(' ', '_')}_s"] = measured[stage]
        rows.append(row)
    return rows


def _about(graph: LayerGraph, frame: Frame) -> dict[str, Any]:
    """What a JSON file says of how a frame was executed."""
    partition = frame.partition
    layers = graph.at_exit(partition.exit).layers
    return {
        "partition": partition.name,
        "exit": graph.exits[partition.exit].name,
        "on_device": [
            layer.name for layer, away in zip(layers, partition.on_edge, strict=True) if not away
        ],
        "bits": frame.bits,
    }


def _figures(run: Run, average: Average) -> dict[str, Any]:
    """What a JSON file says of the times and the answers of a run."""
    return {
        "frames": len(run.frames),
        f"predicted_{average}_s": AVERAGES[average](run.predicted),
        f"measured_{average}_s": AVERAGES[average](run.measured),
        "predicted_frames_per_s": len(run.frames) / run.predicted_end_s,
        "measured_frames_per_s": len(run.frames) / run.end_s,
        "answers": asdict(run.answers),
    }


def _as_decided(run: ExecuteRun, graph: LayerGraph, one: Run, decided: Decided) -> dict[str, Any]:
    """What a JSON file says of a run in which a policy has decided."""
    return {
        "policy": run.policy,
        "dropped": decided.dropped,
        "simulated_mean_s": decided.simulated_s,
        "simulated_mean_reward": decided.reward,
        "partitions": [
            _about(graph, one.frames[places[0]]) | {"frames": len(places)}
            for places in by_partition(one)
        ],
    }


def summary(executed: Executed) -> dict[str, Any]:
    """Everything about an execution but its single frames, for a JSON file."""
    run, execution, found = executed.options, executed.execution, executed.runs
    graph, times, decided = execution.network.split.graph, executed.times, executed.decided
    if decided is not None:
        (one,) = found
        runs = [_as_decided(run, graph, one, decided) | _figures(one, "mean")]
    else:
        runs = [_about(graph, one.frames[0]) | _figures(one, "median") for one in found]
    options = {name: str(value) if isinstance(value, Path) else value
               for name, value in asdict(run).items()}  # fmt: skip
    return {
        "network": graph.name,
        "options": options,
        "device_machine": machine(),
        "edge_machine": execution.edge.machine,
        "digest": execution.network.split.digest,
        "layer_times": times.source,
        "once_per_frame": {
            "after_idle_s": PAUSES_S,
            "device_half": asdict(times.device.half_s),
            "edge_half": asdict(times.edge.half_s),
            "message_s": execution.beside_s.seconds,
        },
        "emulated": emulated(run),
        "runs": runs,
    }


def picture(executed: Executed) -> Any:
    """The picture of an execution."""
    run, execution, found = executed.options, executed.execution, executed.runs
    link = "no shaped link"
    if run.rate is not None:
        link = f"{run.rate:g} Mbit/s"
    elif run.trace is not None:
        link = f"the trace {run.trace.name}"
    title = f"{execution.network.split.graph.name} over {link}"
    if run.policy is not None:
        (one,) = found
        arrivals = [frame.arrival - one.begin for frame in one.frames]
        return draw_decided(
            f"{title}, {run.policy}", arrivals, one.predicted, one.measured, _timeline(run, one)
        )
    rows: list[tuple[str, Stages, Stages]] = [
        (one.frames[0].partition.name, medians(one.predicted), medians(one.measured))
        for one in found
    ]
    shown = min(range(len(found)), key=lambda k: rows[k][2]["total"])
    about = f" of partition {rows[shown][0]}" if len(found) > 1 else ""
    return draw_execution(title, rows, _timeline(run, found[shown]), about)


def _timeline(run: ExecuteRun, one: Run) -> list[dict[str, float]]:
    return [frame.moments(one.begin, 1e-3 * run.delay) for frame in one.frames]
