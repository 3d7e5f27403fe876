"""Checks of user input; each of them raises a ValueError that says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST, LARGEST = 1e-12, 1e18
"""The range of positive numbers, in SI units; beyond it, products of them overflow."""


def reason_of(error: BaseException) -> str:
    """What an error says, in one short line."""
    if "allow_pickle" in str(error):  # numpy's advice is to load without care
        return "it is no archive of plain arrays"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 200 else f"{lines[0][:200]} ..."


def _finite(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must be a number, got {value!r}")
    # A whole number may be beyond every float.
    if isinstance(value, (float, np.floating)) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    if value > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST:g}, got {value!r}")


def positive(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a number from ``SMALLEST`` to ``LARGEST``."""
    _finite(name, value)
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value!r}")
    if value < SMALLEST:
        raise ValueError(f"{name} must be at least {SMALLEST:g}, got {value!r}")


def non_negative(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` is a number of at least 0 and at most ``LARGEST``."""
    _finite(name, value)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value!r}")


def within_limits(name: str, values: npt.NDArray[Any]) -> None:
    """Check that all values of an array are positive numbers that one can compute with."""
    outside = (values < SMALLEST) | (values > LARGEST)
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"{name} must be in [{SMALLEST:g}, {LARGEST:g}], got {values[at]:g} at {at}"
        )


def decibels(name: str, value: float) -> None:
    """Raise ValueError unless ``value`` lies in [-100, 100], be it dB or dBm."""
    _finite(name, value)
    if not -100 <= value <= 100:
        raise ValueError(f"{name} must be in [-100, 100] dB, got {value!r}")


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
        name: The name of the parameter.
        values: A sequence of numbers.
        length: The number of values that there must be; None allows any from 1 on.
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


def in_order(name: str, values: Any) -> tuple[float, float]:
    """The two positive numbers (low, high), or a ValueError unless low <= high."""
    low, high = numbers(name, values, 2)
    if low > high:
        raise ValueError(f"{name} must be (low, high) with low <= high, got {low, high}")
    return low, high


def check_fields(
    record: Any,
    *,
    positive: Sequence[str] = (),
    non_negative: Sequence[str] = (),
    fraction: Sequence[str] = (),
    positive_int: Sequence[str] = (),
    ranges: Sequence[str] = (),
    switches: Sequence[str] = (),
    kinds: Mapping[str, tuple[type, ...]] | None = None,
    choices: Mapping[str, tuple[str, ...]] | None = None,
    at_most: Mapping[str, float | str] | None = None,
) -> None:
    """Check the fields of a frozen dataclass, for its ``__post_init__``.

    Args:
        record: The dataclass.
        positive: Fields that must be finite numbers above 0.
        non_negative: Fields that must be finite numbers of at least 0.
        fraction: Fields that must lie in [0, 1].
        positive_int: Fields that must be whole numbers of at least 1.
        ranges: Fields that must be two positive numbers (low, high) in order; they become
            tuples of floats.
        switches: Fields that must be True or False.
        kinds: The classes that a field may be an instance of; ``NoneType`` allows None.
        choices: The words that a field may be.
        at_most: The largest number that a field may be, or the name of the field that has it.

    Raises:
        ValueError: It names the field, its value and what is allowed.
    """
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, np.generic):  # JSON knows no numbers of numpy
            object.__setattr__(record, field.name, value.item())
    for name, types in (kinds or {}).items():
        if not isinstance(getattr(record, name), types):
            allowed = " or ".join("None" if t is type(None) else t.__name__ for t in types)
            raise ValueError(f"{name} must be a {allowed}, got {getattr(record, name)!r}")
    for name, allowed_words in (choices or {}).items():
        one_of(name, getattr(record, name), allowed_words)
    for name in ranges:
        object.__setattr__(record, name, in_order(name, getattr(record, name)))
    for check, names in (
        (_positive, positive),
        (_non_negative, non_negative),
        (_fraction, fraction),
        (_positive_int, positive_int),
    ):
        for name in names:
            check(name, getattr(record, name))
    for name in switches:
        if not isinstance(getattr(record, name), bool):
            raise ValueError(f"{name} must be True or False, got {getattr(record, name)!r}")
    for name, most in (at_most or {}).items():
        limit = getattr(record, most) if isinstance(most, str) else most
        if getattr(record, name) > limit:
            words = f"{most} = {limit:g}" if isinstance(most, str) else f"{limit:g}"
            raise ValueError(f"{name} must be at most {words}, got {getattr(record, name)!r}")


# The arguments of ``check_fields`` are called like the checks that they ask for.
_positive, _non_negative, _fraction, _positive_int = positive, non_negative, fraction, positive_int


def check_unused(record: Any, conditions: Sequence[tuple[str, bool, Sequence[str]]]) -> None:
    """Check that fields of a dataclass which count only under a condition are not set elsewhere.

    Args:
        record: The dataclass.
        conditions: The words of a condition, whether it holds, and the fields that count only then.

    Raises:
        ValueError: A field that does not count differs from its default; the message names the
            field, its value, its default and the condition.
    """
    defaults = {field.name: field.default for field in fields(record)}
    for condition, holds, names in conditions:
        for name in names:
            value, default = getattr(record, name), defaults[name]
            if not holds and value != default:
                raise ValueError(
                    f"{name} must be {default!r}, its default, unless {condition}, got {value!r}; "
                    f"with replace(), give {name}={default!r} too"
                )
