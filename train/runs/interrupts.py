"""Ctrl-C and SIGTERM: a run stops at the next good moment and can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

HOW_TO_GO_ON = "go on with the same command and --resume"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came; everything learnt is in the last checkpoint."""


class Stoppable(Protocol):
    """Something that looks at ``stop`` at every moment when it could stop."""

    stop: bool


@dataclass
class StopFlag:
    """A Stoppable for a plain loop.

    Attributes:
        stop: Whether it has been asked to.
    """

    stop: bool = False

    def asked(self) -> bool:
        """Whether it has been asked to stop."""
        return self.stop


@contextmanager
def stop_on_interrupt(running: Stoppable, moment: str) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM sets ``running.stop``, a second one stops at once.

    Signals reach the main thread only; elsewhere nothing is changed.

    Args:
        running: What shall stop.
        moment: After what it will, for the message.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if running.stop:
            raise KeyboardInterrupt
        running.stop = True
        print(f"\nstopping after this {moment}; Ctrl-C again to stop at once", flush=True)

    before = {kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
