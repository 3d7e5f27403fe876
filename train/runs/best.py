"""The best model of a run so far, kept beside the last one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from train.files import write_json

NOTE_FILE = "best.json"


class BestModel:
    """Keeps the model whose evaluation had the highest mean return.

    Args:
        path: The file of the model; a note in ``best.json`` beside it says when it was that good.
        go_on: Whether the folder's run is resumed, so that its best model is the one to beat.
    """

    def __init__(self, path: Path, go_on: bool) -> None:
        self.path = path
        self.note = path.parent / NOTE_FILE
        self._return = self._read() if go_on else -math.inf

    def _read(self) -> float:
        try:
            found = json.loads(self.note.read_bytes())["return_mean"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return -math.inf  # there is none, or it is damaged: the next one counts
        return found if isinstance(found, float) else -math.inf

    def offer(self, return_mean: float, steps: int, save: Callable[[Path], None]) -> None:
        """Keep the model as it is now if it is better than all before.

        Args:
            return_mean: Mean return of its evaluation.
            steps: Number of environment steps that it has learnt.
            save: Function that writes the model to a file.
        """
        if return_mean <= self._return:
            return
        self._return = return_mean
        save(self.path)
        write_json(self.note, {"return_mean": return_mean, "total_timesteps": steps})
