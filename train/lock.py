"""A folder that one process at a time may work in."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is missing; nobody else can hold it meanwhile.

    The operating system keeps the lock, so it is gone when the process is, however that ends.
    A folder that was made here and has stayed empty is removed at the end.

    Args:
        folder: The folder.

    Raises:
        ValueError: Another process holds it, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, {folder} is a file")
    ours = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    handle = _hold(path)
    try:
        yield
    finally:
        _release(path, handle)
        if ours:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def _hold(path: Path) -> int:
    """Open and lock a file; return its descriptor."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError) as error:
            os.close(handle)
            raise ValueError(
                f"out {path.parent} is in use: another run is writing there; wait for its end, "
                "or choose another folder"
            ) from error
        except OSError as error:
            warnings.warn(
                f"{path.parent} cannot be locked ({error.strerror}): start no second run there",
                RuntimeWarning,
                stacklevel=4,
            )
            return handle
        # Whoever held it before has removed the file that was opened here.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                return handle
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

    def _release(path: Path, handle: int) -> None:
        os.close(handle)
        with contextlib.suppress(OSError):  # somebody else has opened it
            path.unlink()

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(path: Path, handle: int) -> None:
        # In this order: a file that is free must be the one that the next process finds.
        path.unlink(missing_ok=True)
        os.close(handle)
