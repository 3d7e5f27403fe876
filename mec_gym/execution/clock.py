"""The clock of an execution: absolute deadlines, and a processor that is slower than this one.

A slower processor is emulated by waiting: work that took c seconds of CPU time is over at
its begin + factor x c. The limits that an operating system puts on a process's share of the CPU are
no substitute. They let it run at full speed and then stop it for the rest of a period, so
that whatever is shorter than that period takes no longer than before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")

now = time.perf_counter
"""The clock of all moments, s."""
_COARSE = 0.02
"""A wait that is longer than this can be cut short, s."""


class Stopped(Exception):
    """A wait was cut short because the execution ends."""


def sleep_until(moment: float, stop: threading.Event | None = None) -> None:
    """Wait until a moment; what is late already does not wait.

    Args:
        moment: The moment on the clock ``now``, s.
        stop: Cuts the wait short when it is set.

    Raises:
        Stopped: ``stop`` was set.
    """
    while (left := moment - now()) > 0:
        if stop is not None and left > _COARSE:
            # A bare sleep is more exact, so the end of a wait is left to it.
            if stop.wait(left - _COARSE):
                raise Stopped
        else:
            time.sleep(left)


@dataclass(frozen=True, slots=True)
class Timed(Generic[Value]):
    """The result of some work, and when it was done.

    Attributes:
        value: The result.
        begin: When the work began, s.
        end: When it was over, the wait of a slower processor included, s.
        cpu_s: The CPU time that it took here, s.
    """

    value: Value
    begin: float
    end: float
    cpu_s: float


def work_at(
    factor: float, work: Callable[[], Value], stop: threading.Event | None = None
) -> Timed[Value]:
    """Do some work as a processor does that is slower by a factor.

    Args:
        factor: How many times as long as here the work takes, at least 1. With 1 there is no wait.
        work: The work, which runs in this thread only.
        stop: Cuts the wait short when it is set.

    Raises:
        Stopped: ``stop`` was set.
    """
    begin, cpu = now(), time.thread_time()
    value = work()
    cpu = time.thread_time() - cpu
    if factor > 1.0:
        sleep_until(begin + factor * cpu, stop)
    return Timed(value, begin, now(), cpu)
