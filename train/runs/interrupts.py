"""Ctrl-C and SIGTERM stop a run at the next good moment, so that it can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

HOW_TO_GO_ON = "go on with the same command and --resume"


class Interrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C or SIGTERM; the last checkpoint holds all that was learnt."""


class Stoppable(Protocol):
    """Something that looks at ``stop`` at every moment when it could stop."""

    stop: bool


@dataclass
class StopFlag:
    """A Stoppable for a plain loop.

    Attributes:
        stop: Whether the loop has been asked to stop.
    """

    stop: bool = False

    def asked(self) -> bool:
        """Tell whether the loop has been asked to stop."""
        return self.stop


@contextmanager
def stop_on_interrupt(running: Stoppable, moment: str) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM set ``running.stop``, and a second one stop at once.

    Signals reach the main thread only; in other threads nothing is changed.

    Args:
        running: The object that shall stop.
        moment: Name of what is finished before it stops, for the message.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if running.stop:
            outer = before[signal.SIGINT]
            if callable(outer):  # who stops the whole command may want to know
                outer(number, frame)
            raise KeyboardInterrupt
        running.stop = True
        print(f"\nstopping after this {moment}; Ctrl-C again to stop at once", flush=True)

    before = {kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
