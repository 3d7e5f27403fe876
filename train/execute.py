"""``mec-gym execute`` and ``mec-gym edge``: a partition executed by two processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.table import Table

from mec_gym.dnn.devices import read_device
from mec_gym.dnn.exits import initialised
from mec_gym.dnn.graph import LayerGraph
from mec_gym.execution.device import EdgeConnection, EdgeFailed, Frame, Partition
from mec_gym.execution.edge import LOOPBACK, EdgeProcess, listen, machine, serve
from mec_gym.execution.network import Network, random_frames
from mec_gym.execution.partitions import HEAVY, LIGHT, Choice, best, named, numbered
from mec_gym.execution.prediction import STAGES, Cost, Stages
from mec_gym.execution.run import Conditions, Execution, Run, means, medians
from mec_gym.execution.timing import (
    PAUSES_S,
    LayerTimes,
    half_seconds,
    measure_layers,
    with_seconds,
)
from mec_gym.execution.viewer import draw_decided, draw_execution
from mec_gym.execution.wire import Kind, Message
from mec_gym.network.bandwidth import MeasuredBandwidth
from mec_gym.network.tandem import RateCurve
from train.console import show_table
from train.execute_config import EdgeRun, ExecuteRun
from train.execute_policy import Decided, check_policy, decide, offered
from train.files import refuse_used, write_csv, write_figure, write_json
from train.profile_network import find_network

RESULT_FILE, FRAMES_FILE, PICTURE_FILE = "result.json", "frames.csv", "execution.png"
MOST_ROWS = 25
"""So many partitions are printed; all are in the files."""
DISTURBED = 0.1
"""A note says so if a side waits for a processor for a larger share of its time."""
Average = Literal["mean", "median"]
AVERAGES = {"mean": means, "median": medians}


@dataclass(frozen=True)
class Wanted:
    """A network by its name, which both sides build for themselves.

    Attributes:
        name: The name, see :class:`ExecuteRun`.
        shapes: The shape of each input.
        types: The type of each input.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    types: tuple[str, ...]

    @classmethod
    def of(cls, run: ExecuteRun | EdgeRun) -> Wanted:
        """What the options of a command ask for."""
        return cls(run.network, run.shapes, run.types)

    def build(self) -> Network:
        """Build it.

        Raises:
            ValueError: There is no such network, or it cannot be split.
        """
        torch.set_num_threads(1)
        module = initialised(partial(find_network, self.name), 0)
        like = tuple(
            torch.zeros(shape, dtype=getattr(torch, kind))
            for shape, kind in zip(self.shapes, self.types, strict=True)
        )
        (inputs,) = random_frames(like, 1)
        return Network.of(module, inputs, Path(self.name.partition(":")[0]).stem)


def run_edge(run: EdgeRun) -> None:
    """Serve devices until enough have been served.

    Raises:
        ValueError: There is no such network, or it cannot be split.
        OSError: The port cannot be had.
    """
    host = LOOPBACK if run.host is None else run.host
    network = Wanted.of(run).build()
    listener = listen(host, run.port)  # only now: who comes earlier shall not have to wait
    port = listener.getsockname()[1]
    print(
        f"{network.split.graph.name} is served at {host}, port {port}; Ctrl-C ends it", flush=True
    )
    serve(listener, network, run.devices, partial(print, flush=True))


def execute(run: ExecuteRun) -> None:
    """Execute partitions of a network, compare with the prediction, and write what came out.

    Raises:
        ValueError: Something asked for is not possible, the edge failed, or an answer differs
            from that of the network that is not split.
    """
    files = (RESULT_FILE, FRAMES_FILE, PICTURE_FILE)
    if not run.overwrite:
        refuse_used(run.out, files, "give --overwrite or another folder")
    conditions = conditions_of(run)
    check_policy(run)
    with contextlib.ExitStack() as stack:
        process = None
        if run.edge is None:
            process = EdgeProcess(Wanted.of(run).build)
            stack.callback(process.close)
        network = Wanted.of(run).build()
        exit_ = chosen_exit(run, network.split.graph)
        choices = chosen(run, network.split.graph.at_exit(exit_))
        graph = offered(run, network.split.graph) if run.policy is not None else None
        host, port = process.address() if process else run.address
        edge = EdgeConnection(host, port, network.split.digest, run.edge_factor)
        stack.callback(edge.close)
        times = layer_times(run, network, edge)
        execution = Execution(network, edge, conditions, run.seed)
        stack.callback(execution.close)
        decided = None
        if graph is not None:
            decided = decide(run, execution, graph, times.device, times.edge)
            _say_ready(f"{len(decided.partitions)} of {run.frames} frames as {run.policy} decides")
            found = [execution.run(decided.partitions, decided.costs, decided.arrivals)]
        else:
            choices = choices or [_best(run, execution, times, exit_)]
            _say_ready(f"{run.frames} frames per partition")
            found = _execute(execution, plan(execution, times, exit_, choices), run.frames)
    _report(run, execution, found, times, decided)


def _say_ready(what: str) -> None:
    print(
        f"both sides are ready; executing {what}, Ctrl-C stops and keeps what is measured",
        flush=True,
    )


def conditions_of(run: ExecuteRun) -> Conditions:
    """What the options say of the conditions.

    Raises:
        ValueError: They are not possible.
    """
    curve = None
    if run.rate is not None:
        curve = RateCurve.of([0.0], [1e6 * run.rate])
    elif run.trace is not None:
        trace = MeasuredBandwidth.from_csv(run.trace)
        curve = RateCurve.of(np.array(trace.time) - trace.time[0], trace.rate)
    return Conditions(
        curve=curve,
        delay_s=1e-3 * run.delay,
        device_factor=run.device_factor,
        edge_factor=run.edge_factor,
        quantised=run.quantise,
        pipeline=run.pipeline,
        fps=run.fps,
    )


def chosen_exit(run: ExecuteRun, graph: LayerGraph) -> int:
    """The exit that is asked for.

    Raises:
        ValueError: There is none.
    """
    exit_ = len(graph.exits) - 1 if run.exit is None else run.exit
    graph.at_exit(exit_)
    return exit_


def chosen(run: ExecuteRun, graph: LayerGraph) -> list[Choice]:
    """The partitions that are asked for by name; none if that takes times.

    Raises:
        ValueError: There is no such partition.
    """
    if run.all_partitions:
        return numbered(graph)
    return [] if run.partition in (LIGHT, HEAVY) else [named(graph, run.partition)]


@dataclass(frozen=True)
class Times:
    """The times of both sides, by which predictions are made, and where they come from."""

    device: LayerTimes
    edge: LayerTimes
    source: str


def layer_times(run: ExecuteRun, network: Network, edge: EdgeConnection) -> Times:
    """Measure the layers of both sides, each on its machine, or take them from files."""
    graph = network.split.graph
    device, source = _from_file(run.device_profile, network)
    if device is None:
        device = measure_layers(network, run.repeats)
    there, edge_source = _from_file(run.edge_profile, network)
    if there is None and run.edge is None and run.device_profile is None:
        there = device
    elif there is None and run.edge is None:
        there = measure_layers(network, run.repeats)
    elif there is None:
        there = LayerTimes.from_tensor(edge.ask(Message(Kind.TIMES)).tensors[0], graph)
    same = source == edge_source
    return Times(device, there, source if same else f"{source} (device), {edge_source} (edge)")


def _from_file(path: Path | None, network: Network) -> tuple[LayerTimes | None, str]:
    """Layer times from a file, if there is one, and where they come from."""
    if path is None:
        return None, "measured just before"
    graph = network.split.graph
    timed = with_seconds(graph, read_device(path).layer_seconds(graph))
    return LayerTimes(graph=timed, half_s=half_seconds(network)), f"from {path}"


def plan(
    execution: Execution, times: Times, exit_: int, choices: Sequence[Choice]
) -> Iterator[tuple[Partition, Cost]]:
    """Yield the partitions to be run, and what each costs; each is prepared in its turn."""
    for choice in choices:
        partition = execution.prepare(choice, exit_)
        yield partition, execution.cost(partition, times.device, times.edge)


def _best(run: ExecuteRun, execution: Execution, times: Times, exit_: int) -> Choice:
    device, edge = (
        factor * one.graph.at_exit(exit_).measured_seconds
        for one, factor in ((times.device, run.device_factor), (times.edge, run.edge_factor))
    )
    rate = execution.mean_rate / (0.25 if run.quantise else 1.0)
    extra = execution.beside_s(np.inf) + 2e-3 * run.delay
    part = execution.network.split.graph.at_exit(exit_)
    return best(part, device, edge, rate, extra, heavy=run.partition == HEAVY)


def _execute(
    execution: Execution, plans: Iterable[tuple[Partition, Cost]], frames: int
) -> list[Run]:
    """Make one run per partition, until one fails or is interrupted."""
    found: list[Run] = []
    try:
        for partition, cost in plans:
            found.append(execution.run([partition] * frames, [cost] * frames))
            if found[-1].failure is not None:
                break
    except (EdgeFailed, KeyboardInterrupt) as error:  # between two runs
        if not found:
            raise
        found[-1].failure = error
    return found


def _report(
    run: ExecuteRun,
    execution: Execution,
    found: Sequence[Run],
    times: Times,
    decided: Decided | None,
) -> None:
    """Print, write and judge what came out.

    Raises:
        ValueError: The edge failed, or an answer differs where it must not.
        KeyboardInterrupt: The execution was interrupted.
    """
    failure = found[-1].failure
    done = [one for one in found if one.frames]
    if done:
        write_json(run.out / RESULT_FILE, summary(run, execution, done, times, decided))
        write_csv(run.out / FRAMES_FILE, [row for one in done for row in frame_rows(one)])
        write_figure(run.out / PICTURE_FILE, picture(run, execution, done))
        show(run, execution, done, times, decided)
        print(f"wrote {run.out}/{RESULT_FILE}, {FRAMES_FILE}, {PICTURE_FILE}")
    count = sum(len(one.frames) for one in done)
    kept = f"; the {count} frames before it are in {run.out}" if done else ""
    if isinstance(failure, KeyboardInterrupt):
        raise KeyboardInterrupt(f"{count} frames are in {run.out}" if done else "")
    if failure is not None:
        raise ValueError(f"{failure}{kept}")
    differ = sum(one.answers.compared - one.answers.equal for one in done)
    if differ and _must_be_equal(run, execution):
        raise ValueError(
            f"{differ} of {count} answers differ from those of the network that is not split; "
            "please report this"
        )


def _must_be_equal(run: ExecuteRun, execution: Execution) -> bool:
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


def show(
    run: ExecuteRun,
    execution: Execution,
    found: Sequence[Run],
    times: Times,
    decided: Decided | None,
) -> None:
    """Print what was predicted and what happened."""
    graph = execution.network.split.graph
    if decided is not None:
        _show_decided(f"{graph.name}, {run.policy}", found[0], decided)
    elif len(found) == 1:
        frame, layers = found[0].frames[0], len(found[0].frames[0].partition.on_edge) - 1
        what = f"{_device_layers(frame.partition)} of {layers} layers on the device"
        title = f"{graph.name}, {frame.partition.name}: {what}, {frame.bits / 1e6:.4g} Mbit sent"
        _show_stages(title, found[0], "median")
    else:
        _show_partitions(graph.name, found)
    hot, *_, cold = (f"{1e3 * seconds:.3g}" for seconds in execution.beside_s.seconds)
    print(f"prediction: layer times {times.source}; {hot} ms per message, {cold} after a pause")
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
    if not run.quantise and not _must_be_equal(run, execution):
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
    """Say in a line for each side that often had to wait for a processor."""
    frames = [frame for one in found for frame in one.frames]
    notes = []
    for name, worked, needed in (
        (
            "device",
            [f.device_s for f in frames],
            [run.device_factor * f.device_cpu_s for f in frames],
        ),
        ("edge", [f.edge_s for f in frames], [run.edge_factor * f.edge_cpu_s for f in frames]),
    ):
        waited = 1.0 - sum(needed) / max(sum(worked), 1e-9) if sum(needed) else 0.0
        if waited > DISTURBED:
            notes.append(
                f"note: for {100 * waited:.0f} % of its time the {name} waited for a processor "
                "that other programs had; let nothing else run"
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


def summary(
    run: ExecuteRun,
    execution: Execution,
    found: Sequence[Run],
    times: Times,
    decided: Decided | None,
) -> dict[str, Any]:
    """Everything about an execution but its single frames, for a JSON file."""
    graph = execution.network.split.graph
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
            "device_half_s": times.device.half_s.seconds,
            "edge_half_s": times.edge.half_s.seconds,
            "message_s": execution.beside_s.seconds,
        },
        "emulated": emulated(run),
        "runs": runs,
    }


def picture(run: ExecuteRun, execution: Execution, found: Sequence[Run]) -> Any:
    """The picture of an execution."""
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
