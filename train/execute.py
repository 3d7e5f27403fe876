"""``mec-gym execute`` and ``mec-gym edge``: a partition executed by two processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mec_gym.core.types import FloatArray
from mec_gym.dnn.devices import read_device
from mec_gym.dnn.exits import initialised
from mec_gym.dnn.graph import LayerGraph
from mec_gym.execution.device import EdgeConnection, EdgeFailed, Partition
from mec_gym.execution.edge import LOOPBACK, EdgeProcess, listen, serve
from mec_gym.execution.network import Network, random_frames
from mec_gym.execution.partitions import HEAVY, LIGHT, Choice, best, named, numbered
from mec_gym.execution.prediction import Cost
from mec_gym.execution.run import Conditions, Execution, Run
from mec_gym.execution.timing import LayerTimes, Times, measure_layers, with_seconds
from mec_gym.execution.wire import Kind, Message
from mec_gym.network.bandwidth import MeasuredBandwidth
from mec_gym.network.tandem import RateCurve
from train.execute_config import EdgeRun, ExecuteRun
from train.execute_policy import check_policy, decide, offered
from train.execute_report import (
    FRAMES_FILE,
    PICTURE_FILE,
    RESULT_FILE,
    Executed,
    frame_rows,
    must_be_equal,
    picture,
    show,
    summary,
)
from train.files import refuse_used, write_csv, write_figure, write_json
from train.profile_network import find_network

MEASURED = "measured just before"


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
        told = tuple(
            None if path is None else read_device(path).layer_seconds(network.split.graph)
            for path in (run.device_profile, run.edge_profile)
        )
        graph = offered(run, network.split.graph) if run.policy is not None else None
        host, port = process.address() if process else run.address
        edge = EdgeConnection(host, port, network.split.digest, run.edge_factor)
        stack.callback(edge.close)
        print("measuring how long layers and messages take, for a few seconds", flush=True)
        times = layer_times(run, network, edge, *told)
        execution = Execution(network, edge, conditions, run.seed)
        stack.callback(execution.close)
        decided = None
        if graph is not None:
            decided = decide(run, execution, graph, times)
            _say_ready(f"{len(decided.partitions)} of {run.frames} frames as {run.policy} decides")
            found = [execution.run(decided.partitions, decided.costs, decided.arrivals)]
        else:
            choices = choices or [_best(run, execution, times, exit_)]
            _say_ready(f"{run.frames} frames per partition")
            found = _execute(execution, plan(execution, times, exit_, choices), run.frames)
    _report(Executed(options=run, execution=execution, times=times, runs=found, decided=decided))


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
    return [] if run.chosen in (LIGHT, HEAVY) else [named(graph, run.chosen)]


def layer_times(
    run: ExecuteRun,
    network: Network,
    edge: EdgeConnection,
    of_device: FloatArray | None,
    of_edge: FloatArray | None,
) -> Times:
    """Measure the layers of both sides, each on its machine, unless files say how long they take.

    Args:
        run: The options.
        network: The network.
        edge: The edge server.
        of_device: What the device's file says, (V,) s; None without one.
        of_edge: The same for the edge.
    """
    here = measure_layers(network, run.repeats)  # files do not say what halves take beyond layers
    device, source = _told(here, of_device, run.device_profile)
    if run.edge is None or of_edge is not None:
        there, edge_source = _told(here, of_edge, run.edge_profile)
    else:
        (numbers,) = edge.ask(Message(Kind.TIMES)).tensors
        there, edge_source = LayerTimes.from_tensor(numbers, network.split.graph), MEASURED
    same = source == edge_source
    both = source if same else f"{source} (device), {edge_source} (edge)"
    return Times(device=device, edge=there, source=both)


def _told(
    here: LayerTimes, seconds: FloatArray | None, path: Path | None
) -> tuple[LayerTimes, str]:
    """Layer times (V,) from a file, if there is one, else those of this machine; their source."""
    if seconds is None:
        return here, MEASURED
    return LayerTimes(graph=with_seconds(here.graph, seconds), half_s=here.half_s), f"from {path}"


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
    return best(part, device, edge, rate, extra, heavy=run.chosen == HEAVY)


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


def _report(executed: Executed) -> None:
    """Print, write and judge what came out.

    Raises:
        ValueError: The edge failed, or an answer differs where it must not.
        KeyboardInterrupt: The execution was interrupted.
    """
    run = executed.options
    failure = executed.runs[-1].failure
    done = [one for one in executed.runs if one.frames]
    executed = replace(executed, runs=done)
    if done:
        write_json(run.out / RESULT_FILE, summary(executed))
        write_csv(run.out / FRAMES_FILE, [row for one in done for row in frame_rows(one)])
        write_figure(run.out / PICTURE_FILE, picture(executed))
        show(executed)
        print(f"wrote {run.out}/{RESULT_FILE}, {FRAMES_FILE}, {PICTURE_FILE}")
    count = sum(len(one.frames) for one in done)
    kept = f"; the {count} frames before it are in {run.out}" if done else ""
    if isinstance(failure, KeyboardInterrupt):
        raise KeyboardInterrupt(f"{count} frames are in {run.out}" if done else "")
    if failure is not None:
        raise ValueError(f"{failure}{kept}")
    differ = sum(one.answers.compared - one.answers.equal for one in done)
    if differ and must_be_equal(run, executed.execution):
        raise ValueError(
            f"{differ} of {count} answers differ from those of the network that is not split; "
            "please report this"
        )
