"""Modules of the user's own."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec


def look_in(folder: str | None = None) -> None:
    """Let Python find modules in a folder, as it does for scripts that lie there.

    Args:
        folder: The folder; by default the current directory.
    """
    folder = folder or os.getcwd()
    if folder not in sys.path:
        # Workers of A3C inherit the path.
        sys.path.insert(0, folder)


def is_module(name: str) -> bool:
    """Whether there is a module of that dotted name, in the current directory or installed."""
    look_in()
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a part of the name is missing, or it is no name
        return False
