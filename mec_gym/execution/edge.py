"""The edge's side: a server that runs the rest of a network on what the device sends."""

from __future__ import annotations

import contextlib
import ipaddress
import multiprocessing
import multiprocessing.connection
import platform
import queue
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from mec_gym.core.checks import reason_of
from mec_gym.dnn.split import Halves
from mec_gym.execution.clock import Stopped, Timed, now, work_at
from mec_gym.execution.network import Network
from mec_gym.execution.quantise import dequantise
from mec_gym.execution.timing import measure_layers
from mec_gym.execution.wire import (
    Ended,
    Kind,
    Message,
    encode,
    receive,
    send,
    text_message,
)

LOOPBACK = str(ipaddress.ip_address(socket.INADDR_LOOPBACK))
"""The address under which only this machine reaches itself."""
PATIENCE_S = 10.0
"""How long either side waits for the other's first words."""

Say = Callable[[str], object]


def machine() -> str:
    """Describe what the bits of an answer depend on: torch, the processor, the threads."""
    kind = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    return f"torch {torch.__version__}, {platform.machine()} {kind}, threads {threads}"


def stay_alive(connection: socket.socket) -> None:
    """Let the system notice within a minute when the other machine has vanished."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 6)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def listen(host: str, port: int) -> socket.socket:
    """Open the port of an edge server.

    Args:
        host: The address to listen at, which decides who can reach it.
        port: The port; 0 takes a free one.

    Raises:
        OSError: The port cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1)
    except OSError as error:
        raise OSError(f"port {port} of {host} cannot be had: {error.strerror or error}") from error


def serve(
    listener: socket.socket,
    network: Network,
    devices: int = 1,
    say: Say = lambda text: None,
    alive: int | None = None,
) -> None:
    """Serve devices one after the other, and end after the last one.

    Whoever does not greet with this protocol and this network is told so, and is not counted.

    Args:
        listener: An open port; it is closed at the end.
        network: The network that devices must have, too.
        devices: The number of devices to serve.
        say: Is given one line per event.
        alive: What becomes ready when nobody needs the server any more, such as the sentinel of
            a process.
    """
    waited: list[socket.socket | int] = [listener]
    if alive is not None:
        waited.append(alive)
    with listener:
        while devices > 0:
            if listener not in multiprocessing.connection.wait(waited):
                return
            connection, address = listener.accept()
            with connection:
                try:
                    serve_device(connection, network)
                    say(f"device {address[0]} ended")
                except _Stranger as error:
                    say(f"device {address[0]} was refused: {error}")
                    continue
                except (ValueError, OSError) as error:
                    say(f"device {address[0]} failed: {reason_of(error)}")
            devices -= 1


class _Stranger(ValueError):
    """A peer that is none of this server's devices."""


def serve_device(connection: socket.socket, network: Network) -> None:
    """Serve one device until it ends.

    Raises:
        ValueError: The device has another version or network, or does not keep to the protocol.
        OSError: The connection broke.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(PATIENCE_S)
    try:
        factor = _greet(connection, network)
    except (ValueError, OSError) as error:
        raise _Stranger(reason_of(error)) from error
    connection.settimeout(None)
    stay_alive(connection)
    session = _Session(connection, network, factor)
    reader = threading.Thread(target=session.read, name="reader", daemon=True)
    reader.start()
    try:
        session.work()
    finally:
        session.stop.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        reader.join()


def _greet(connection: socket.socket, network: Network) -> float:
    """Return the factor by which the edge is to be slower."""
    try:
        hello = receive(connection)
        if hello.kind != Kind.HELLO or [t.dtype for t in hello.tensors] != [
            torch.uint8,
            torch.float64,
        ]:
            raise ValueError(f"a device must greet first, it sent {hello.kind.name}")
        digest, factor = bytes(hello.tensors[0].tolist()).decode(errors="replace"), hello.tensors[1]
        if digest != network.split.digest:
            raise ValueError(
                f"both sides must have the same network and weights, the edge has "
                f"{network.split.graph.name} of digest {network.split.digest[:12]}, the device "
                f"one of digest {digest[:12]}"
            )
        if factor.numel() != 1 or not 1.0 <= float(factor) <= 1e6:
            raise ValueError(f"edge_factor must be in [1, 1e6], got {factor.tolist()}")
    except ValueError as error:
        _refuse(connection, error)
        raise
    send(connection, encode(text_message(Kind.READY, machine())))
    return float(factor)


def _refuse(connection: socket.socket, error: Exception, number: int = 0) -> None:
    """Tell the device what is wrong, if it still listens."""
    with contextlib.suppress(OSError):
        send(connection, encode(text_message(Kind.REFUSAL, reason_of(error), number)))


class _Session:
    """What the edge does for one device: one thread reads, another one works."""

    def __init__(self, connection: socket.socket, network: Network, factor: float) -> None:
        self.connection, self.network, self.factor = connection, network, factor
        self.halves: dict[int, tuple[Halves, bool]] = {}
        self.stop = threading.Event()
        self.received: queue.SimpleQueue[tuple[float, Message | Exception | None]]
        self.received = queue.SimpleQueue()

    def read(self) -> None:
        """Take down when each message has arrived, until the device ends."""
        try:
            while True:
                message = receive(self.connection)
                self.received.put((now(), message))
        except Ended:
            self.received.put((now(), None))
        except (ValueError, OSError) as error:
            self.received.put((now(), error))
        self.stop.set()  # nobody waits for what is being worked on

    def work(self) -> None:
        """Do what the messages ask for, one after the other."""
        while True:
            arrived, message = self.received.get()
            if message is None:
                return
            if isinstance(message, Exception):
                if isinstance(message, ValueError):
                    _refuse(self.connection, message)
                raise message
            try:
                answer = self._answer(message, arrived)
            except Stopped:
                return
            except Exception as error:  # whatever the network raises, the device has to know
                _refuse(self.connection, error, message.number)
                raise ValueError(reason_of(error)) from error
            try:
                send(self.connection, encode(answer))
            except OSError:
                if self.stop.is_set():
                    return
                raise

    def _answer(self, message: Message, arrived: float) -> Message:
        if message.kind == Kind.FRAME:
            return self._frame(message, arrived)
        if message.kind == Kind.PROBE:
            return self._times(message.number, arrived, Timed((), now(), now(), 0.0))
        if message.kind == Kind.SPLIT:
            on_edge, choice = message.tensors
            exit_, quantised = choice.tolist()
            halves = self.network.split.split(on_edge.numpy(), int(exit_))
            self.halves[message.number] = (halves, bool(quantised))
            # What is done only the first time belongs to no frame.
            halves.back([torch.zeros(one.shape, dtype=one.dtype) for one in halves.sent])
            return Message(Kind.READY, message.number)
        if message.kind == Kind.TIMES:
            return Message(Kind.ANSWER, message.number, (measure_layers(self.network).to_tensor(),))
        raise ValueError(f"an edge takes no message of the kind {message.kind.name}")

    def _frame(self, message: Message, arrived: float) -> Message:
        which, *sent = message.tensors
        halves, quantised = self.halves[int(which)]

        def work() -> tuple[torch.Tensor, ...]:
            return (halves.back(dequantise(sent) if quantised else tuple(sent)),)

        done = work_at(self.factor, work, self.stop)
        return self._times(message.number, arrived, done)

    def _times(self, number: int, arrived: float, done: Timed[tuple[torch.Tensor, ...]]) -> Message:
        """An answer, after how long it waited, was worked on and had a processor, s."""
        spent = [done.begin - arrived, done.end - done.begin, done.cpu_s]
        return Message(Kind.ANSWER, number, (torch.tensor(spent, dtype=torch.float64), *done.value))


class EdgeProcess:
    """An edge server in a process of its own, which ends with this one.

    Args:
        build: Makes the network there; it must be picklable, as for ``multiprocessing``.
    """

    def __init__(self, build: Callable[[], Network]) -> None:
        context = multiprocessing.get_context("spawn")
        self._words, theirs = context.Pipe(duplex=False)
        self.process: Any = context.Process(
            target=_edge_process, args=(build, theirs), name="edge", daemon=True
        )
        self.process.start()
        theirs.close()

    def address(self) -> tuple[str, int]:
        """Wait until the server listens, and return its address.

        Raises:
            ValueError: It could not begin; the message says why.
        """
        try:
            said = self._words.recv()
        except EOFError:
            self.process.join(PATIENCE_S)
            raise ValueError(
                f"the edge's process ended before it began, with {self.process.exitcode}"
            ) from None
        if isinstance(said, str):
            raise ValueError(said)
        return LOOPBACK, said

    def close(self) -> None:
        """Make sure that the process is gone; it ends by itself once its device has."""
        self.process.join(1.0)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(1.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._words.close()
        self.process.close()


def _edge_process(build: Callable[[], Network], words: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the device decides when it is over
    parent = multiprocessing.parent_process()
    assert parent is not None
    torch.set_num_threads(1)
    with contextlib.suppress(ImportError):
        from tqdm import tqdm

        # torch.fx has a progress bar, whose usual lock is reported as lost if a process is killed.
        tqdm.set_lock(threading.RLock())
    try:
        network = build()
        listener = listen(LOOPBACK, 0)
    except Exception as error:
        words.send(reason_of(error))
        return
    words.send(listener.getsockname()[1])
    serve(listener, network, alive=parent.sentinel)
