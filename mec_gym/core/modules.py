"""Modules of the user's own."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec


def look_here() -> None:
    """Let Python find modules in the current directory, as it does for scripts that lie there."""
    here = os.getcwd()
    if here not in sys.path:
        # Workers of A3C inherit the path.
        sys.path.insert(0, here)


def is_module(name: str) -> bool:
    """Whether there is a module of that dotted name, in the current directory or installed."""
    look_here()
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a part of the name is missing, or it is no name
        return False
