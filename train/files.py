"""Files of a run: never half written, never overwritten unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that at every moment either the old or the new one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(partial, path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, see :func:`write_whole`."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def refuse_used(folder: Path, marker: str, way_out: str) -> None:
    """Raise ValueError if ``folder`` holds ``marker``, the sign of an earlier run.

    Args:
        folder: Where results are to go.
        marker: File that every such run leaves.
        way_out: What the user may do about it.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, {folder} is a file")
    if (folder / marker).exists():
        raise ValueError(f"out {folder} already holds a run ({marker}): {way_out}")
