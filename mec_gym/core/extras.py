"""Libraries that an installation may lack: each belongs to an extra of the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

EXTRAS = {
    "matplotlib": "plots",
    "pettingzoo": "multi-agent",
    "rich": "cli",
    "sklearn": "learning",
    "stable_baselines3": "train",
    "tensorboard": "train",
    "torch": "train",
    "tqdm": "cli",
    "tyro": "cli",
}
"""Import name of a library -> the extra of mec-gym that installs it."""


class MissingExtra(ImportError):
    """A library is not installed; the message says how to install it."""


@contextmanager
def missing_extras_named(extra: str | None = None) -> Iterator[None]:
    """Turn the failing import of an optional library into one line that names its extra.

    Args:
        extra: Name of the extra that brings everything needed here; by default the smallest one
            that brings the library.

    Raises:
        MissingExtra: Such a library is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        raise MissingExtra(
            f"this needs {library}, which is not installed: "
            f"pip install 'mec-gym[{extra or EXTRAS[library]}]'",
            name=library,
        ) from error
