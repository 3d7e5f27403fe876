"""The folder of a training run, as those see it who load what was learnt in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

S = TypeVar("S")

CONFIG_FILE = "config.json"


def read_config(path: Path) -> dict[str, Any]:
    """Read the configuration of a run from its file.

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


def find_config(path: str | Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """Find the folder of a run and its configuration, in which the environment is named.

    Args:
        path: The folder, or a file in it.
        kind: The name of the learner, for messages.

    Raises:
        ValueError: There is no run, or its configuration is damaged.
    """
    folder = Path(path)
    if folder.is_file():
        folder = folder.parent
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise ValueError(f"{path} holds no finished {kind} run: {CONFIG_FILE} is missing")
    config = read_config(file)
    for name, kinds in (("env", str), ("scenario", (str, type(None)))):
        if not isinstance(config.get(name), kinds):
            raise ValueError(f"{file} is damaged: {name} is {config.get(name)!r}")
    return folder, config


def find_run(
    path: str | Path, kind: str, model: str, env_id: str | None
) -> tuple[Path, dict[str, Any]]:
    """Find the folder of a finished run and its configuration, in which the head is named, too.

    Args:
        path: The folder, or the model file in it.
        kind: The name of the learner, for messages.
        model: The name of the model file.
        env_id: The id of the environment that the run must have been trained on; None if any
            will do.

    Raises:
        ValueError: There is no finished run, its configuration is damaged, or it was trained on
            another environment.
    """
    folder, config = find_config(path, kind)
    if not (folder / model).is_file():
        raise ValueError(f"{path} holds no finished {kind} run: {model} is missing")
    try:
        _ = config["settings"]["head"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} is damaged: {error!r}") from error
    if env_id is not None and config["env"] != env_id:
        raise ValueError(f"{path} is a model of another environment: {config['env']}, not {env_id}")
    return folder, config


def read_settings(kind: type[S], folder: Path, config: dict[str, Any]) -> S:
    """The settings of a run, of the class of whoever learnt in it.

    Args:
        kind: The class.
        folder: The folder of the run, for messages.
        config: Its configuration.

    Raises:
        ValueError: Another version has other settings, or a value is bad.
    """
    try:
        return kind(**config["settings"])
    except TypeError as error:
        raise ValueError(f"{folder} was not written by this version: {error}") from error
