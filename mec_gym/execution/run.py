"""One execution: what is measured before it, what is predicted, what happened."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from statistics import mean, median

import numpy as np
import torch

from mec_gym.core.checks import check_fields
from mec_gym.dnn.split import check_equal
from mec_gym.execution.clock import now
from mec_gym.execution.device import Device, EdgeConnection, EdgeFailed, Frame, Partition
from mec_gym.execution.link import Link
from mec_gym.execution.network import Network, random_frames
from mec_gym.execution.partitions import Choice
from mec_gym.execution.prediction import Cost, Stages, predict
from mec_gym.execution.quantise import dequantise, quantise
from mec_gym.execution.timing import NO_TIME, PROBES, AfterIdle, LayerTimes, after_idle, beside_half
from mec_gym.execution.wire import Kind, Message, encode
from mec_gym.network.tandem import RateCurve

LARGE_PROBES = 3
"""How often large messages are sent, after each idle time, to see the rate of the link."""
_CODED = 3  # how often 8 bit numbers are made and read, after each idle time
_LARGE = 1 << 20  # bytes of a probe that shows the rate of a link that is not shaped
_PROBED = 1e7  # bit/s, the rate at which a shaped link is probed
_DIFFERENT = 4  # frames that differ; later ones repeat them


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Under which conditions frames are executed.

    Attributes:
        curve: The rate of the link from the begin of a run on, whose last rate holds for ever;
            None leaves the link as it is.
        delay_s: How much later than sent a message arrives, one way, s.
        device_factor: By which factor the device is slower than this machine, at least 1.
        edge_factor: The same of the edge.
        quantised: Whether floats cross as 8 bit numbers.
        pipeline: Whether the device, the link and the edge work on different frames at the same
            time; otherwise a frame waits for the answer to the one before it.
        fps: How many frames arrive per second. None: with ``pipeline`` all are there at the
            begin, without it each arrives when the one before it is answered.
    """

    curve: RateCurve | None = None
    delay_s: float = 0.0
    device_factor: float = 1.0
    edge_factor: float = 1.0
    quantised: bool = False
    pipeline: bool = False
    fps: float | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            non_negative=("delay_s",),
            positive=("device_factor", "edge_factor", *(() if self.fps is None else ("fps",))),
            at_most={"device_factor": 1e6, "edge_factor": 1e6},
        )
        for name in ("device_factor", "edge_factor"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)!r}: a slower processor "
                    "can be emulated, a faster one cannot"
                )
        if self.curve is not None and not self.curve.rate[-1] > 0:
            raise ValueError(
                "the trace must not end with a rate of 0, because its last rate holds for ever and "
                "nothing could be sent after it"
            )

    def gaps(self, count: int) -> list[float] | None:
        """When each frame arrives, s after the begin."""
        return None if self.fps is None else [k / self.fps for k in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How the answers compare with those of the network that is not split.

    Attributes:
        compared: The number of frames.
        equal: How many of the answers are the same, bit for bit.
        largest: The largest difference of a number.
        same_class: How many answers have the same largest number; None where an answer is no row
            of classes.
    """

    compared: int
    equal: int
    largest: float
    same_class: int | None


@dataclass(slots=True, eq=False, kw_only=True)
class Run:
    """What was predicted and what happened.

    Attributes:
        frames: The frames that were answered.
        predicted: Their stages by prediction.
        measured: Their stages as they were.
        begin: When the run began, on the clock ``now``, s.
        predicted_end_s: When the last of these frames would be answered, s after the begin.
        end_s: When it was.
        answers: How the answers compare.
        failure: Why the run did not end well, if it did not.
    """

    frames: list[Frame]
    predicted: list[Stages]
    measured: list[Stages]
    begin: float
    predicted_end_s: float
    end_s: float
    answers: Answers
    failure: BaseException | None = None


def medians(stages: Sequence[Stages]) -> Stages:
    """The median of every stage over frames."""
    return {name: median(one[name] for one in stages) for name in stages[0]}


def means(stages: Sequence[Stages]) -> Stages:
    """The mean of every stage over frames."""
    return {name: mean(one[name] for one in stages) for name in stages[0]}


class Execution:
    """A network between a device, which is this process, and an edge server.

    Args:
        network: The network.
        edge: The edge server; this object does not close it.
        conditions: The conditions.
        seed: Seed of the frames.

    Attributes:
        curve: The rate over time that predictions are made with.
    """

    def __init__(
        self, network: Network, edge: EdgeConnection, conditions: Conditions, seed: int = 0
    ) -> None:
        self.network, self.edge, self.conditions = network, edge, conditions
        self.inputs = random_frames(network.inputs, _DIFFERENT, seed)
        self._wholes: dict[tuple[int, int], torch.Tensor] = {}
        self._making: dict[int, AfterIdle] = {}
        self._prepared = 0
        self._sent = 0
        if conditions.curve is None:
            large = self._probe(_LARGE, LARGE_PROBES)
            spent = max(large(0.0) - self.beside_s(0.0), 1e-9)
            self.curve = RateCurve.of([0.0], [8.0 * _LARGE / spent])
        else:
            self.curve = conditions.curve
        self.link = Link(edge.socket.sendall, conditions.curve, conditions.delay_s)

    def close(self) -> None:
        """End the link."""
        self.link.close()

    @cached_property
    def beside_s(self) -> AfterIdle:
        """What a message takes beyond its bits, there and back; measured when first asked for."""
        return self._probe(0, PROBES)

    def making_s(self, tensors: int) -> AfterIdle:
        """What the making of a message takes; measured when first asked for.

        Args:
            tensors: How many tensors cross. Their size does not matter, because none is copied.
        """
        if tensors not in self._making:
            content = (torch.tensor(0), *(torch.zeros(1) for _ in range(tensors)))
            make = partial(encode, Message(Kind.FRAME, 0, content))
            self._making[tensors] = beside_half(self.network, make, PROBES)
        return self._making[tensors]

    @property
    def mean_rate(self) -> float:
        """The mean rate of the link until its curve ends; if that is 0, the last one; bit/s."""
        time, bits, rate = self.curve.time, self.curve.bits, self.curve.rate
        return float(bits[-1] / (time[-1] - time[0]) if bits[-1] else rate[-1])

    def prepare(self, choice: Choice, exit_: int) -> Partition:
        """Let both sides make their halves of a partition.

        Raises:
            ValueError: The partition is not valid.
            EdgeFailed: The edge is gone.
        """
        halves = self.network.split.split(choice.on_edge, exit_)
        partition = Partition(
            number=self._prepared,
            name=choice.name,
            exit=exit_,
            on_edge=choice.on_edge,
            halves=halves,
            quantised=self.conditions.quantised,
        )
        self._prepared += 1
        if partition.sends:
            on_edge = torch.from_numpy(choice.on_edge.copy())
            wanted = torch.tensor([exit_, int(partition.quantised)])
            self.edge.ask(Message(Kind.SPLIT, partition.number, (on_edge, wanted)))
        halves.front(self.inputs[0])  # what is done only the first time
        return partition

    def cost(self, partition: Partition, device: LayerTimes, edge: LayerTimes) -> Cost:
        """What a partition costs, by the times of layers and what its message takes.

        What is done once per frame takes longer after a pause. The pauses are those of frames that
        all are executed in this way, as they follow from the costs after long ones.

        Args:
            partition: The partition.
            device: The times of the device, without its factor.
            edge: The times of the edge, without its factor.
        """
        conditions, exit_, on_edge = self.conditions, partition.exit, partition.on_edge
        slower, edge_slower = conditions.device_factor, conditions.edge_factor
        bits, write, read = 0, NO_TIME, NO_TIME
        if partition.sends:
            message = [torch.zeros(one.shape, dtype=one.dtype) for one in partition.halves.sent]
            bits = 8 * sum(len(part) for part in partition.cross(message, 0))
            if partition.quantised:
                cross = partial(partition.cross, message, 0)
                write = beside_half(self.network, cross, _CODED)
                read = beside_half(self.network, partial(dequantise, quantise(message)), _CODED)
            else:
                write = self.making_s(len(message))

        def after(idle_s: float, edge_idle_s: float) -> Cost:
            device_s = slower * (device.half(exit_, ~on_edge, idle_s) + write(idle_s))
            if not bits:
                return Cost(device_s=device_s, bits=0, edge_s=0.0, beside_s=0.0, round_trip_s=0.0)
            return Cost(
                device_s=device_s,
                bits=bits,
                edge_s=edge_slower * (edge.half(exit_, on_edge, edge_idle_s) + read(edge_idle_s)),
                beside_s=self.beside_s(edge_idle_s),
                round_trip_s=2 * conditions.delay_s,
                is_raw=partition.is_raw,
            )

        first = after(np.inf, np.inf)
        rate = self.mean_rate
        period = first.slowest_s(rate) if conditions.pipeline else first.total_s(rate)
        if conditions.fps is not None:
            period = max(period, 1.0 / conditions.fps)
        # A side that is emulated as slower sleeps for what its work takes longer.
        return after(period - first.device_s / slower, period - first.edge_s / edge_slower)

    def run(
        self,
        partitions: Sequence[Partition],
        costs: Sequence[Cost],
        gaps: Sequence[float] | None = None,
    ) -> Run:
        """Execute frames, one per partition, and compare with the prediction.

        A run that is interrupted, or whose edge fails, tells of the frames before.

        Args:
            partitions: How each frame is executed.
            costs: What each one costs.
            gaps: When each frame arrives, s after the begin; by default as the conditions say.
        """
        conditions = self.conditions
        gaps = conditions.gaps(len(partitions)) if gaps is None else gaps
        frames = [
            Frame(
                number=self._sent + k,
                partition=partition,
                inputs=self.inputs[(self._sent + k) % len(self.inputs)],
            )
            for k, partition in enumerate(partitions)
        ]
        self._sent += len(frames)
        device = Device(self.edge, self.link, conditions.device_factor, conditions.delay_s)
        failure: BaseException | None = None
        try:
            device.run(frames, gaps, conditions.pipeline)
        except (EdgeFailed, KeyboardInterrupt) as error:
            failure = error
        predicted, ends = predict(costs, gaps, self.curve, conditions.pipeline)
        answered = [k for k, frame in enumerate(frames) if frame.done is not None]
        done = [frames[k] for k in answered]
        return Run(
            frames=done,
            predicted=[predicted[k] for k in answered],
            measured=[frame.stages(conditions.delay_s) for frame in done],
            begin=device.begin,
            predicted_end_s=max((ends[k] for k in answered), default=0.0),
            end_s=max((frame.done or 0.0 for frame in done), default=device.begin) - device.begin,
            answers=self._compare(done),
            failure=failure,
        )

    def _probe(self, size: int, count: int) -> AfterIdle:
        """How long a message and its answer take beyond its bits, if the link has a rate."""
        shaped = self.conditions.curve is not None
        link = Link(self.edge.socket.sendall, RateCurve.of([0.0], [_PROBED]) if shaped else None)
        content = torch.zeros(size, dtype=torch.uint8)

        def probe() -> float:
            link.begin(now())
            transfer = link.put(encode(Message(Kind.PROBE, 0, (content,))))
            got, answer = self.edge.next_answer()
            transfer.over.wait()
            held = float(answer.tensors[0][:2].sum()) if answer.tensors else 0.0
            bits = transfer.finish - transfer.start if shaped else 0.0
            return max(got - transfer.start - bits - held, 0.0)

        try:
            return after_idle(probe, count)
        finally:
            link.close()

    def _compare(self, frames: Sequence[Frame]) -> Answers:
        equal, largest, same = 0, 0.0, 0
        classes = bool(frames)
        for frame in frames:
            assert frame.answer is not None
            whole = self._whole(frame.number % len(self.inputs), frame.partition.exit)
            with contextlib.suppress(ValueError):
                check_equal(frame.answer, whole)
                equal += 1
            if frame.answer.shape != whole.shape or whole.is_complex():
                largest, classes = float("inf"), False
                continue
            if whole.numel():
                apart = (frame.answer.double() - whole.double()).abs().nan_to_num(nan=0.0)
                largest = max(largest, float(apart.max()))
            classes &= whole.dim() == 2 and len(whole) == 1
            same += classes and bool(frame.answer.argmax() == whole.argmax())
        return Answers(
            compared=len(frames), equal=equal, largest=largest, same_class=same if classes else None
        )

    def _whole(self, index: int, exit_: int) -> torch.Tensor:
        if (index, exit_) not in self._wholes:
            self._wholes[index, exit_] = self.network.split.whole(self.inputs[index], exit_)
        return self._wholes[index, exit_]
