"""Files of a run: never half written, never overwritten unasked."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mec_gym.core.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_json(path: Path, content: Any) -> None:
    """Write JSON, see :func:`write_whole`."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def write_figure(path: Path, figure: Figure) -> None:
    """Write a matplotlib figure as PNG, see :func:`write_whole`."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_whole(path, picture.getvalue())


def refuse_used(folder: Path, names: Sequence[str], way_out: str) -> None:
    """Raise ValueError if a file that would be written is already there.

    Args:
        folder: Where results are to go.
        names: Files that will be written.
        way_out: What the user may do about it.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, {folder} is a file")
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise ValueError(f"out {folder} already holds a run ({', '.join(there)}): {way_out}")


def check_same(
    folder: Path,
    began: Any,
    now: Mapping[str, Any],
    free: Sequence[str] = (),
    prefix: str = "",
) -> None:
    """Raise ValueError if a resumed run would differ from what it was begun as.

    Args:
        folder: Of the run.
        began: Its configuration, as config.json has it.
        now: What is asked for; a configuration within it is compared value by value.
        free: Names that may change.
        prefix: Stands before every name in the message.
    """
    now = json.loads(json.dumps(now))
    for name in sorted(set(now) - set(free)):
        was = began.get(name) if isinstance(began, dict) else None
        if isinstance(now[name], dict):
            check_same(folder, was, now[name], prefix=f"{prefix}{name}.")
        elif now[name] != was:
            raise ValueError(
                f"{prefix}{name} must stay {was!r}, as the run in {folder} began, got {now[name]!r}"
            )
