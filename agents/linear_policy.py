"""Policies whose weights are searched for: their names, their files, and those that are shipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.protocol import Solver
from mec_gym.core.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPolicy:
    """What a search for weights has to know of a policy.

    Attributes:
        environment: The id of its environment.
        command: The command that searches.
        usual_scenario: The preset that the command searches on by default.
        names: The names of the weights, in order.
        begin: The weights that a search begins around; all others are 0.
        solver: Makes the solver for a problem, and weights (weights,) or (policies, 1, weights).
    """

    environment: str
    command: str
    usual_scenario: str
    names: tuple[str, ...]
    begin: Mapping[str, float]
    solver: Callable[[Any, FloatArray], Solver]


def check_weights(weights: Any, names: tuple[str, ...]) -> FloatArray:
    """Return weights by name as an array in the order of the names.

    Args:
        weights: The weights by name.
        names: The names that there must be.

    Raises:
        ValueError: Names are missing or unknown, or a weight is not a finite number.
    """
    if not isinstance(weights, dict) or set(weights) != set(names):
        raise ValueError(f"weights must name {', '.join(names)}, got {weights!r}")
    numbers = np.array([weights[name] for name in names], dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"weights must be finite, got {weights!r}")
    return numbers


def read_weights(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Read what a search has written.

    Args:
        path: The file.
        names: The names of the weights.

    Raises:
        ValueError: The file does not hold as many finite weights as there are names.
    """
    try:
        found = json.loads(path.read_text())
        check_weights(found["weights"], names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no weights of a linear policy: {error}") from error
    return dict(found)


def read_shipped(path: Path, preset: str, names: tuple[str, ...]) -> FloatArray:
    """Read the weights that were searched for on a preset and are shipped.

    Args:
        path: The file, by preset.
        preset: The name of the preset.
        names: The names of the weights.
    """
    return check_weights(json.loads(path.read_text())[preset]["weights"], names)
