"""Checks of user input: each raises a ValueError that says what is allowed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces


def _finite(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")


def positive(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a finite number above 0."""
    _finite(name, value)
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value!r}")


def non_negative(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a finite number of at least 0."""
    _finite(name, value)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")


def fraction(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` lies in [0, 1]."""
    _finite(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value!r}")


def positive_int(name: str, value: int) -> None:
    """Raise ValueError unless ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of the ``allowed`` words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def action_in_space(
    space: spaces.Space[Any], action: Any, batch: tuple[int, ...] = ()
) -> npt.NDArray[Any]:
    """The action as an array of the space's type, or a ValueError.

    Args:
        space: The space of a single action: Box, Discrete or MultiDiscrete.
        action: Array-like of shape ``batch + space.shape``.
        batch: Leading axes.

    Returns:
        Array of shape ``batch + space.shape``.

    Raises:
        ValueError: Wrong shape, not finite, outside the bounds, or not whole numbers
            where the space is discrete.
    """
    shape = batch + (space.shape or ())
    array = np.asarray(action)
    if array.shape != shape:
        raise ValueError(f"action must have shape {shape}, got {array.shape}")
    if isinstance(space, spaces.Box):
        low, high = space.low, space.high
    elif isinstance(space, spaces.Discrete):
        low, high = np.asarray(space.start), np.asarray(space.start + space.n - 1)
    elif isinstance(space, spaces.MultiDiscrete):
        low, high = space.start, space.start + space.nvec - 1
    else:
        raise ValueError(f"action_space must be Box, Discrete or MultiDiscrete, got {space}")
    if not isinstance(space, spaces.Box) and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"action must hold whole numbers for {space}, got {array.dtype}")
    if not np.issubdtype(array.dtype, np.number):
        raise ValueError(f"action must be numeric, got {array.dtype}")
    # Written so that NaN fails too.
    inside = (array >= low) & (array <= high)
    if not inside.all():
        raise ValueError(
            f"action must lie in [{low.min()}, {high.max()}] ({space}), "
            f"got {array[~inside].ravel()[0]!r}"
        )
    return array.astype(space.dtype, copy=False)
