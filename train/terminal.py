"""The process of a command and its terminal: pipes that close, Ctrl-C at a bad moment."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LEAST_COLUMNS = 40
"""Narrowest width that text is laid out for; the libraries that do so hang in a few columns."""


class _Outlet(io.FileIO):
    """A stream that may lose its reader, as in ``mec-gym scenarios | head``."""

    def write(self, content: Any, /) -> int:
        """Write, or drop what nobody will read."""
        try:
            return super().write(content) or 0
        except BrokenPipeError:
            return memoryview(content).nbytes


def settle() -> None:
    """Make the process of a command fit for its terminal.

    A closed pipe is no error: what is being computed is computed and written to its files. A
    terminal of a few columns counts as one of ``LEAST_COLUMNS``.
    """
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)
    if shutil.get_terminal_size().columns < LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(LEAST_COLUMNS)


def _lasting(stream: Any) -> Any:
    try:
        handle = stream.fileno()
        stream.flush()
    except (AttributeError, OSError):  # there is none, or it is closed
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Outlet(handle, "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process without a word more than ``stopped``.

    This is for the seconds in which libraries load and nothing has begun yet. Their code may turn
    a KeyboardInterrupt into another error, print a trace or wait for ever.
    """

    def leave(number: int, frame: Any) -> None:
        os.write(2, b"stopped\n")
        os._exit(130)

    with _answered_by(leave):
        yield


@contextmanager
def stopping_as_asked() -> Iterator[None]:
    """Let Ctrl-C end the work inside as a KeyboardInterrupt, whatever a library makes of it.

    Libraries also load while work goes on, where they are first needed. One that is interrupted
    may say that its import or its call failed; that is not what happened.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed and the work ended with an error after it.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    with _answered_by(ask):
        try:
            yield
        except Exception as error:
            if asked:
                raise KeyboardInterrupt from error
            raise


@contextmanager
def _answered_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let a function handle Ctrl-C, unless it is ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as for what a script starts in the background
        signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
