"""What every kind of learning shares: what a run's folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.json"


def read_config(path: Path) -> dict[str, Any]:
    """A run's configuration.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it must hold an object, got {config!r}")
    return config


def find_run(
    path: str | Path, kind: str, model: str, env_id: str | None
) -> tuple[Path, dict[str, Any]]:
    """The folder of a finished run and its configuration, head and environment named in it.

    Args:
        path: The folder, or the model file in it.
        kind: Of the run, for messages.
        model: Name of the model file.
        env_id: If given, the environment it must have been trained on.

    Raises:
        ValueError: No run there, a damaged configuration, or another environment.
    """
    folder = Path(path)
    if folder.is_file():
        folder = folder.parent
    for name in (CONFIG_FILE, model):
        if not (folder / name).is_file():
            raise ValueError(f"{path} holds no finished {kind} run: {name} is missing")
    config = read_config(folder / CONFIG_FILE)
    try:
        trained_on, _ = config["env"], config["settings"]["head"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} is damaged: {error!r}") from error
    if env_id is not None and trained_on != env_id:
        raise ValueError(f"{path} is a model of another environment: {trained_on}, not {env_id}")
    return folder, config
