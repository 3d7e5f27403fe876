"""The folder of a training run, as those see it who load what was learnt in it.

Nothing that stands in the folder is run as code: the configuration is JSON, and models are read
as tensors.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gymnasium import spaces

from mec_gym.core.checks import reason_of

if TYPE_CHECKING:
    from agents.heads import Head

S = TypeVar("S")

CONFIG_FILE = "config.json"
_MOST_BYTES = 1 << 20
"""Size beyond which a configuration is not read; real ones have some kilobytes."""


def read_config(path: Path) -> dict[str, Any]:
    """Read the configuration of a run from its file.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"it has {size} bytes")
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {reason_of(error)}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it must hold an object, got {_short(config)}")
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
        if name not in config or not isinstance(config[name], kinds):
            raise ValueError(f"{file} is damaged: {name} is {_short(config.get(name))}")
    return folder, config


def find_run(
    path: str | Path, kind: str, model: str, env_id: str | None
) -> tuple[Path, dict[str, Any]]:
    """Find a model file of a run and the run's configuration, in which the head is named, too.

    Args:
        path: The folder, or a model file in it, as that of the best model.
        kind: The name of the learner, for messages.
        model: The name of the model file that a finished run has.
        env_id: The id of the environment that the run must have been trained on; None if any
            will do.

    Raises:
        ValueError: There is no finished run, its configuration is damaged, or it was trained on
            another environment.
    """
    folder, config = find_config(path, kind)
    file = Path(path) if Path(path).is_file() else folder / model
    if not file.is_file():
        raise ValueError(f"{path} holds no finished {kind} run: {model} is missing")
    settings = config.get("settings")
    if not isinstance(settings, dict):
        raise ValueError(f"{folder / CONFIG_FILE} is damaged: settings is {_short(settings)}")
    for name in ("head", "network"):
        if not isinstance(settings.get(name), str):
            raise ValueError(
                f"{folder / CONFIG_FILE} is damaged: settings.{name} is "
                f"{_short(settings.get(name))}"
            )
    head_parameters(folder, config)
    if env_id is not None and config["env"] != env_id:
        raise ValueError(f"{path} is a model of another environment: {config['env']}, not {env_id}")
    return file, config


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


def head_config(head: Head) -> dict[str, Any]:
    """Return what a run's configuration says of its head.

    Args:
        head: The head.
    """
    return {
        "head": dict(head.parameters()),
        "inputs": _signature(head.input_space),
        "outputs": _signature(head.output_space),
    }


def head_parameters(folder: Path, config: dict[str, Any]) -> dict[str, float] | None:
    """Return the parameters that the head of a run found out; None before it has.

    Args:
        folder: The folder of the run, for messages.
        config: Its configuration.

    Raises:
        ValueError: They are no finite numbers.
    """
    found = config.get("head")
    if found is None:
        return None
    if not isinstance(found, dict) or not all(map(_is_number, found.values())):
        raise ValueError(
            f"{folder / CONFIG_FILE} is damaged: head must hold finite numbers, got {_short(found)}"
        )
    return found


def check_spaces(folder: Path, config: dict[str, Any], head: Head, name: str) -> None:
    """Check that a network reads the inputs of a head and writes its outputs.

    Args:
        folder: The folder of the run in which the network has learnt, for messages.
        config: Its configuration.
        head: The head of the problem that is to be played.
        name: Name of the model, for messages.

    Raises:
        ValueError: The network belongs to another environment.
    """
    for what, space in (("inputs", head.input_space), ("outputs", head.output_space)):
        has, needs = config.get(what), _signature(space)
        if not isinstance(has, str):
            raise ValueError(f"{folder} was not written by this version: {what} is {_short(has)}")
        if has != needs:
            raise ValueError(
                f"{name} is a model of another environment: its {what} are {_short(has)}, "
                f"this one's {_short(needs)}"
            )


def _signature(space: spaces.Space[Any]) -> str:
    """What a network's size depends on: of a Box the shape, of choices their numbers."""
    if isinstance(space, spaces.Box):
        return f"Box{space.shape}"
    if isinstance(space, spaces.MultiDiscrete):  # its own text ends lines
        return f"MultiDiscrete({space.nvec.tolist()}, start={space.start.tolist()})"
    return str(space)


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."
