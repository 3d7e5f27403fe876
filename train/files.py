"""Files of results, which are never half written and never overwritten unasked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mec_gym.core.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_json(path: Path, content: Any) -> None:
    """Write something as JSON, whole or not at all."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under the names of the first one, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def write_figure(path: Path, figure: Figure) -> None:
    """Write a matplotlib figure as PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_whole(path, picture.getvalue())


def refuse_used(folder: Path, names: Sequence[str], way_out: str) -> None:
    """Raise ValueError if a file that would be written is already there.

    Args:
        folder: The folder for the results.
        names: Names of the files that will be written.
        way_out: What the user may do about it, for the message.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, {folder} is a file")
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise ValueError(f"out {folder} already holds a run ({', '.join(there)}): {way_out}")
