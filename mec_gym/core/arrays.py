"""Generic operations on frozen dataclasses whose fields are all numpy arrays.

Slots, states, decisions and outcomes are such dataclasses. A field's own axes come
last; whatever batch axes there are come first and are the same for every field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


def field_names(cls: Any) -> tuple[str, ...]:
    """Names of the fields of a dataclass, in order (faster than dataclasses.fields)."""
    return tuple(cls.__dataclass_fields__)


def as_dict(record: Any) -> dict[str, Any]:
    """The fields of one dataclass by name, without copying."""
    return {name: getattr(record, name) for name in field_names(type(record))}


def map_arrays(function: Callable[..., Any], first: T, *rest: T) -> T:
    """Apply ``function`` to the same field of every argument."""
    records = (first, *rest)
    cls = type(first)
    return cls(
        **{name: function(*[getattr(r, name) for r in records]) for name in field_names(cls)}
    )


def at(record: T, index: Any) -> T:
    """Index the leading axes of every field; ``at(trace, (slice(None), t))`` is slot ``t``."""
    return map_arrays(lambda array: array[index], record)


def stack(records: Sequence[T]) -> T:
    """Join equal-shaped records along a new first axis."""
    return map_arrays(lambda *arrays: np.stack(arrays), *records)


def concatenate(records: Sequence[T]) -> T:
    """Join records along their first axis."""
    return map_arrays(lambda *arrays: np.concatenate(arrays), *records)


def where(mask: npt.NDArray[np.bool_], chosen: T, other: T) -> T:
    """Take ``chosen`` where ``mask`` holds; the mask covers the batch axes only."""

    def pick(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return map_arrays(pick, chosen, other)


def from_dict(cls: type[T], fields: Mapping[str, Any]) -> T:
    """Build a record of ``cls`` from its fields by name."""
    return cls(**{name: fields[name] for name in field_names(cls)})
