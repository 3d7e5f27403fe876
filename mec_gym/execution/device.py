"""The device's side: it runs the first part of every frame, sends, and collects the answers."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mec_gym.core.checks import reason_of
from mec_gym.core.types import BoolArray
from mec_gym.dnn.split import Halves
from mec_gym.execution.clock import Stopped, Timed, now, sleep_until, work_at
from mec_gym.execution.edge import PATIENCE_S, stay_alive
from mec_gym.execution.link import Link, Transfer
from mec_gym.execution.quantise import quantise
from mec_gym.execution.wire import (
    Ended,
    Kind,
    Message,
    encode,
    receive,
    send,
    text_of,
)


class EdgeFailed(ValueError):
    """The edge is gone, or talks nonsense, or says that it cannot go on."""


_AHEAD_S = 1e-3
"""A run begins so much later than it is asked for, so that all threads wait for its begin."""

Receipt = tuple[float, Message]
"""When a message arrived, and the message."""


class EdgeConnection:
    """What the device knows of an edge server.

    Args:
        host: Where the server is.
        port: Its port.
        digest: The digest of the network.
        edge_factor: By which factor the server is to be slower than it is.

    Attributes:
        machine: What the server says of its machine.

    Raises:
        EdgeFailed: There is no server, or it refuses.
    """

    def __init__(self, host: str, port: int, digest: str, edge_factor: float = 1.0) -> None:
        name = f"{host}:{port}"
        try:
            self.socket = socket.create_connection((host, port), timeout=PATIENCE_S)
        except OSError as error:
            reason = error.strerror or reason_of(error)
            raise EdgeFailed(f"the edge {name} cannot be reached: {reason}") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        digest_bytes = torch.frombuffer(bytearray(digest.encode()), dtype=torch.uint8)
        factor = torch.tensor([edge_factor], dtype=torch.float64)
        try:
            self.send(Message(Kind.HELLO, 0, (digest_bytes, factor)))
            greeting = receive(self.socket)
            if greeting.kind not in (Kind.READY, Kind.REFUSAL):
                raise ValueError(f"it sent {greeting.kind.name} in place of a greeting")
        except (ValueError, OSError) as error:
            self.socket.close()
            reason = (
                f"it is silent for {PATIENCE_S:g} s, perhaps it serves another device"
                if isinstance(error, TimeoutError)
                else reason_of(error)
            )
            raise EdgeFailed(f"the edge {name} does not greet: {reason}") from error
        if greeting.kind == Kind.REFUSAL:
            self.socket.close()
            raise EdgeFailed(f"the edge {name} refuses: {text_of(greeting)}")
        self.machine = text_of(greeting)
        self.socket.settimeout(None)
        stay_alive(self.socket)
        self.failure: EdgeFailed | None = None
        self._answers: queue.SimpleQueue[Receipt | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="answers", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Send a message beside the shaped link."""
        send(self.socket, encode(message))

    def ask(self, message: Message) -> Message:
        """Send a message beside the shaped link, and wait for the answer.

        Raises:
            EdgeFailed: There is none.
        """
        with contextlib.suppress(OSError):  # what the edge said last tells more
            self.send(message)
        return self.next_answer()[1]

    def next_answer(self) -> Receipt:
        """Wait for the next answer, however long the edge takes for it.

        Raises:
            EdgeFailed: The edge is gone or talks nonsense.
        """
        found = self._answers.get()
        if found is None:
            assert self.failure is not None
            self._answers.put(None)
            raise self.failure
        return found

    def close(self) -> None:
        """End the connection, which ends what the edge does for this device."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()

    def _read(self) -> None:
        try:
            while True:
                message = receive(self.socket)
                if message.kind == Kind.REFUSAL:
                    raise EdgeFailed(f"the edge failed: {text_of(message)}")
                if message.kind not in (Kind.READY, Kind.ANSWER):
                    raise ValueError(f"it sent {message.kind.name} in place of an answer")
                self._answers.put((now(), message))
        except EdgeFailed as failure:
            self.failure = failure
        except (Ended, ConnectionError):
            self.failure = EdgeFailed("the edge ended in the middle of the execution")
        except (ValueError, OSError) as error:
            self.failure = EdgeFailed(f"the edge talks nonsense: {reason_of(error)}")
        self._answers.put(None)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Partition:
    """One way to execute a network, as both sides have prepared it.

    Attributes:
        number: The number under which the edge knows it.
        name: What it is called.
        exit: The index of the exit.
        on_edge: Whether each layer of that exit runs on the edge, (V,).
        halves: Both parts.
        quantised: Whether floats cross as 8 bit numbers.
    """

    number: int
    name: str
    exit: int
    on_edge: BoolArray
    halves: Halves
    quantised: bool = False

    @property
    def sends(self) -> bool:
        """Whether anything runs on the edge."""
        return bool(self.on_edge.any())

    @property
    def is_raw(self) -> bool:
        """Whether the device sends what it is given and runs no layer."""
        return bool(self.on_edge[1:].all()) and self.sends

    def cross(self, sent: Sequence[torch.Tensor], frame: int) -> list[memoryview]:
        """Return the message that takes the tensors of a frame to the edge."""
        number = torch.tensor(self.number)
        content = quantise(sent) if self.quantised else tuple(sent)
        return encode(Message(Kind.FRAME, frame, (number, *content)))


@dataclass(slots=True, eq=False, kw_only=True)
class Frame:
    """One frame and what became of it; moments are on the clock ``now``, s.

    Attributes:
        number: Its number.
        partition: How it is executed.
        arrival: When it arrives at the device.
        begin: When the device began with it.
        ready: When the device had done its part, the making of the message included.
        bits: What it sent, bit.
        transfer: Its way over the link, if it sent anything.
        edge_wait_s: How long it waited at the edge, s.
        edge_s: How long the edge worked on it, s.
        device_cpu_s: For how much of its time the device had a processor, s.
        edge_cpu_s: The same of the edge, s.
        got: When the answer arrived.
        done: When the answer counts as arrived, which is after the delay of the way back.
        answer: The answer.
    """

    number: int
    partition: Partition
    inputs: tuple[torch.Tensor, ...]
    arrival: float = 0.0
    begin: float = 0.0
    ready: float = 0.0
    bits: float = 0.0
    transfer: Transfer | None = None
    edge_wait_s: float = 0.0
    edge_s: float = 0.0
    device_cpu_s: float = 0.0
    edge_cpu_s: float = 0.0
    got: float = 0.0
    done: float | None = None
    answer: torch.Tensor | None = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def device_s(self) -> float:
        """The time on the device."""
        return self.ready - self.begin

    def stages(self, delay_s: float) -> dict[str, float]:
        """How long the frame was in each stage, and altogether, s.

        Clocks of two machines are not compared: what is neither device, edge, delay nor waiting
        is the link.

        Args:
            delay_s: The delay of the link, one way.
        """
        assert self.done is not None
        total = self.done - self.arrival
        found = {
            "waiting": self.begin - self.arrival,
            "device": self.device_s,
            "link": 0.0,
            "round trip": 0.0,
            "edge": self.edge_s,
        }
        if self.transfer is not None:
            found["waiting"] += self.transfer.start - self.ready + self.edge_wait_s
            found["round trip"] = delay_s + self.done - self.got
            found["link"] = total - sum(found.values())
        return found | {"total": total}

    def moments(self, begin: float, delay_s: float) -> dict[str, float]:
        """When the frame went from one stage to the next, s after a moment.

        Args:
            begin: That moment.
            delay_s: The delay of the link, one way.
        """
        assert self.done is not None
        found = {
            "arrival": self.arrival,
            "begin": self.begin,
            "ready": self.ready,
            "done": self.done,
        }
        if self.transfer is not None:
            edge_begin = self.got - self.edge_s
            came = edge_begin - self.edge_wait_s
            found |= {
                "start": self.transfer.start,
                "finish": came - delay_s,
                "edge_come": came,
                "edge_begin": edge_begin,
                "edge_end": self.got,
            }
        return {name: moment - begin for name, moment in found.items()}


class Device:
    """Executes frames.

    Args:
        edge: The edge server.
        link: The link to it.
        factor: By which factor this device is to be slower than it is.
        delay_s: The delay of the way back, s; that of the way there is the link's.

    Attributes:
        begin: When the latest run began.
    """

    def __init__(
        self, edge: EdgeConnection, link: Link, factor: float = 1.0, delay_s: float = 0.0
    ) -> None:
        self.edge, self.link, self.factor, self.delay_s = edge, link, factor, delay_s
        self.begin = 0.0

    def run(self, frames: Sequence[Frame], gaps: Sequence[float] | None, pipeline: bool) -> None:
        """Execute frames, which keep what becomes of them.

        Args:
            frames: The frames.
            gaps: When each of them arrives, s after the begin. None: with ``pipeline`` all are
                there at the begin, without it each arrives when the one before it is answered.
            pipeline: Whether the device goes on with the next frame while the link and the edge
                are busy with earlier ones; otherwise each frame waits for the answer to the
                one before it.

        Raises:
            EdgeFailed: The edge is gone or talks nonsense. Frames whose ``done`` is not None are
                answered.
        """
        begin = self.begin = now() + _AHEAD_S
        self.link.begin(begin)
        for index, frame in enumerate(frames):
            frame.arrival = begin + (gaps[index] if gaps is not None else 0.0)
        collector = _Collector(self, frames)
        # What the device has nothing to do for does not wait for it.
        raw = [frame for frame in frames if pipeline and frame.partition.is_raw]
        passing = threading.Thread(
            target=self._pass_on, args=(raw, collector), name="raw frames", daemon=True
        )
        passing.start()
        try:
            for frame in frames:
                if pipeline and frame.partition.is_raw:
                    continue
                if gaps is None and not pipeline:
                    frame.arrival = max(frame.arrival, now())
                sleep_until(frame.arrival)
                self._front(frame)
                if not pipeline:
                    frame.over.wait()
                collector.check()
            collector.join()
        finally:
            collector.end()
            passing.join()

    def _pass_on(self, frames: Sequence[Frame], collector: _Collector) -> None:
        """Hand frames to the link as they arrive, beside what the device works on."""
        try:
            for frame in frames:
                sleep_until(frame.arrival, collector.stop)
                self._front(frame)
        except Stopped:
            pass
        except Exception as error:
            collector.fail(error)

    def _front(self, frame: Frame) -> None:
        """Do the device's part of a frame and hand the rest to the link."""
        partition = frame.partition

        def work() -> Any:
            sent = partition.halves.front(frame.inputs)
            return partition.cross(sent, frame.number) if partition.sends else sent

        done: Timed[Any] = work_at(self.factor, work)
        frame.begin, frame.ready, frame.device_cpu_s = done.begin, done.end, done.cpu_s
        if partition.sends:
            frame.transfer = self.link.put(done.value, frame.ready)
            frame.bits = frame.transfer.bits
        else:
            frame.answer = partition.halves.back(done.value)
            frame.got = frame.done = frame.ready
            frame.over.set()


class _Collector:
    """A thread that gives the answers to their frames, in whatever order they come."""

    def __init__(self, device: Device, frames: Sequence[Frame]) -> None:
        self.stop = threading.Event()
        self._failure: Exception | None = None
        self._edge, self._delay = device.edge, device.delay_s
        self._open = {frame.number: frame for frame in frames if frame.partition.sends}
        self._arrived: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._collector, self._deliverer = (
            threading.Thread(target=target, name=target.__name__, daemon=True)
            for target in (self._collect, self._deliver)
        )
        self._collector.start()
        self._deliverer.start()

    def fail(self, error: Exception) -> None:
        """End the wait for all frames, because something has gone wrong."""
        self._failure = self._failure or error
        self.stop.set()
        for frame in list(self._open.values()):
            frame.over.set()

    def end(self) -> None:
        """Wait for nothing more; answers that have arrived by now still count."""
        self.stop.set()
        self._arrived.put(None)
        self._deliverer.join()

    def check(self) -> None:
        """Raise what has gone wrong."""
        if self._failure is not None:
            raise self._failure

    def join(self) -> None:
        """Wait for all answers."""
        self._collector.join()
        self._deliverer.join()
        self.check()

    def _collect(self) -> None:
        """Take down when each answer arrives."""
        waiting = dict(self._open)
        try:
            while waiting:
                got, message = self._edge.next_answer()
                frame = waiting.pop(message.number, None)
                if frame is None or len(message.tensors) != 2 or message.tensors[0].numel() != 3:
                    raise EdgeFailed("the edge talks nonsense: an answer that nobody waits for")
                spent, frame.answer = message.tensors
                frame.edge_wait_s, frame.edge_s, frame.edge_cpu_s = spent.tolist()
                frame.got = got
                self._arrived.put(frame)
        except Exception as error:
            self.fail(error)
        self._arrived.put(None)

    def _deliver(self) -> None:
        """Let each answer count when the way back is over; the delays may overlap."""
        try:
            while (frame := self._arrived.get()) is not None:
                if now() < frame.got + self._delay:
                    sleep_until(frame.got + self._delay, self.stop)
                frame.done = now() if self._delay else frame.got
                frame.over.set()
        except Stopped:
            pass
