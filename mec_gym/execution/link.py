"""A link with a rate and a delay, before a real connection.

Transfers are served one after the other, in the order in which they reach the link. A transfer
starts when it has reached the link and the one before it is sent, and takes until the rate over
time adds up to its bits. Every moment is computed from these rules and waited for, so a
wait that ends a little late does not make the next one later. The delay comes on top, and the link
is free for the next transfer meanwhile.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mec_gym.execution.clock import Stopped, now, sleep_until
from mec_gym.network.tandem import RateCurve

CHUNK = 1 << 16
"""A transfer is handed on in pieces of so many bytes, each when the link has sent it."""


@dataclass(slots=True, eq=False)
class Transfer:
    """One transfer over a link; moments are on the clock ``now``, s.

    Attributes:
        ready: When it reached the link.
        bits: Its size, bit.
        start: When the link began to send it.
        finish: When the link had sent it, by rate and order.
        passed: When its last piece was handed on, which is after the delay; None before.
        over: Set when it was handed on, or when that failed.
        error: Why it failed, if it did.
    """

    ready: float
    bits: float
    start: float = 0.0
    finish: float = 0.0
    passed: float | None = None
    over: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Link:
    """A thread that hands on what it is given when a link would have sent it.

    Args:
        send: Hands on bytes.
        curve: The rate over time; None for a link that is as fast as what it hands on to.
        delay_s: How much later than sent a transfer arrives, s.
    """

    def __init__(
        self, send: Callable[[memoryview], None], curve: RateCurve | None, delay_s: float = 0.0
    ) -> None:
        self._send, self._curve, self._delay = send, curve, delay_s
        self._begin, self._sent, self._free = now(), 0.0, 0.0
        self._waiting: queue.SimpleQueue[tuple[Transfer, Sequence[memoryview]] | None]
        self._waiting = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="link", daemon=True)
        self._thread.start()

    def begin(self, moment: float) -> None:
        """Let the curve begin anew at a moment; no transfer may be under way."""
        self._begin, self._sent, self._free = moment, 0.0, 0.0

    def put(self, parts: Sequence[memoryview], ready: float | None = None) -> Transfer:
        """Let a transfer reach the link.

        Args:
            parts: What is sent; it must not change until the transfer is over.
            ready: The moment; by default it is this one. Moments must not go back.
        """
        bits = 8.0 * sum(len(part) for part in parts)
        transfer = Transfer(now() if ready is None else ready, bits)
        self._waiting.put((transfer, parts))
        return transfer

    def close(self) -> None:
        """Drop what is not sent yet, and end the thread."""
        self._stop.set()
        self._waiting.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _serve(self) -> None:
        while (given := self._waiting.get()) is not None:
            transfer, parts = given
            try:
                if self._stop.is_set():
                    raise Stopped
                self._transfer(transfer, parts)
            except Exception as error:  # whoever waits for the transfer has to know
                transfer.error = error
            transfer.over.set()

    def _transfer(self, transfer: Transfer, parts: Sequence[memoryview]) -> None:
        if self._curve is None:
            transfer.start = max(transfer.ready, self._free)
            sleep_until(transfer.ready + self._delay, self._stop)
            for part in parts:
                self._send(part)
            transfer.passed = now()
            self._free = transfer.finish = transfer.passed - self._delay
            return
        # How much the curve has sent is the clock in which the order is easy to see.
        reached = float(self._curve.bits_until(np.array([transfer.ready - self._begin]))[0])
        sent = max(reached, self._sent)
        transfer.start = max(transfer.ready, self._moment(sent))
        self._sent = sent + transfer.bits
        transfer.finish = self._moment(self._sent)
        for pieces in _pieces(parts):
            sent += 8.0 * sum(len(piece) for piece in pieces)
            sleep_until(self._moment(sent) + self._delay, self._stop)
            for piece in pieces:
                self._send(piece)
        transfer.passed = now()

    def _moment(self, bits: float) -> float:
        """When the curve has sent so many bits."""
        assert self._curve is not None
        return self._begin + float(self._curve.when(np.array([bits]))[0])


def _pieces(parts: Sequence[memoryview]) -> Iterator[list[memoryview]]:
    """Yield the bytes in pieces of at most CHUNK, each of which may come from several parts."""
    pieces: list[memoryview] = []
    room = CHUNK
    for part in parts:
        while part:
            pieces.append(part[:room])
            part = part[room:]
            room -= len(pieces[-1])
            if not room:
                yield pieces
                pieces, room = [], CHUNK
    if pieces:
        yield pieces
