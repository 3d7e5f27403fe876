"""Checks of user input: each raises a ValueError that says what is allowed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


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


def seed_number(name: str, value: int) -> None:
    """Raise ValueError unless ``value`` is a whole number in [0, 2**31)."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not 0 <= value < 1 << 31:
        raise ValueError(f"{name} must be a whole number in [0, 2**31), got {value!r}")


def numbers(name: str, values: Any, length: int | None = None) -> tuple[float, ...]:
    """The values as a tuple, or a ValueError unless they are positive, finite numbers.

    Args:
        name: Of the parameter.
        values: A sequence of numbers.
        length: How many there must be; any number from 1 on if None.
    """
    wanted = "numbers" if length is None else f"{length} numbers"
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise ValueError(f"{name} must hold {wanted}, got {values!r}")
    if len(values) != (length or len(values)) or len(values) == 0:
        raise ValueError(f"{name} must hold {wanted}, got {values!r}")
    for index, value in enumerate(values):
        positive(f"{name}[{index}]", value)
    return tuple(float(value) for value in values)


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of the ``allowed`` words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
