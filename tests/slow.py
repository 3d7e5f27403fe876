"""Few parameters of a test stay fast, and the others get the marker ``slow``."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def slow_except(values: Iterable[Any], *fast: Any) -> list[Any]:
    """Mark all parameters but those in ``fast``; a tuple holds one value per argument."""
    values = list(values)
    assert all(value in values for value in fast), "fast must be some of the values"
    return [value if value in fast else _slow(value) for value in values]


def slow_off_diagonal(*lists: Iterable[Any]) -> list[Any]:
    """Return all combinations of the lists; few of them stay fast, but with every value.

    A combination stays fast if its place in the last list is the sum of its other places,
    modulo the length of the last list, which must not be the longest by far.
    """
    *others, last = map(list, lists)
    found = []
    for combination in itertools.product(*map(enumerate, (*others, last))):
        *places, place = (k for k, _ in combination)
        values = tuple(value for _, value in combination)
        found.append(values if sum(places) % len(last) == place else _slow(values))
    return found


def _slow(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
