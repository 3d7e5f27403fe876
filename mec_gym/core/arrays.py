"""Operations on records: frozen dataclasses whose fields are all numpy arrays.

Slots, states, decisions and outcomes are such records. The axes of a field's own come last.
The batch axes come first and are the same for every field of a record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


def field_names(cls: Any) -> tuple[str, ...]:
    """The names of a dataclass's fields, in order (this is faster than dataclasses.fields)."""
    return tuple(cls.__dataclass_fields__)


def as_dict(record: Any) -> dict[str, Any]:
    """The fields of a record by name; no array is copied."""
    return {name: getattr(record, name) for name in field_names(type(record))}


def from_dict(cls: type[T], fields: Mapping[str, Any]) -> T:
    """A record of the class ``cls`` from its fields by name."""
    return cls(**{name: fields[name] for name in field_names(cls)})


def map_arrays(function: Callable[..., Any], first: T, *rest: T) -> T:
    """Apply ``function`` to the same field of every record, one field after the other."""
    records = (first, *rest)
    cls = type(first)
    return cls(
        **{name: function(*[getattr(r, name) for r in records]) for name in field_names(cls)}
    )


def at(record: T, index: Any) -> T:
    """Index the leading axes of every field."""
    return map_arrays(lambda array: array[index], record)


def episodes_of(trace: Any) -> int:
    """The number of episodes of a trace, fields (n, T, ...) or (n, 1, ...)."""
    return len(getattr(trace, field_names(type(trace))[0]))


def slot_at(trace: T, t: int) -> T:
    """Slot ``t`` of every episode of a trace, fields (n, ...); no array is copied.

    Args:
        trace: Fields (n, T, ...), or (n, 1, ...) for what holds during a whole episode and is
            therefore part of each of its slots.
        t: The slot's number, from 0.
    """
    return map_arrays(lambda array: array[:, t if array.shape[1] > 1 else 0], trace)


def slot_of(episode: T, t: int) -> T:
    """Slot ``t`` of one episode, fields (...); no array is copied.

    Args:
        episode: Fields (T, ...), or (1, ...) for what holds during the whole episode.
        t: The slot's number, from 0.
    """
    return map_arrays(lambda array: array[t if len(array) > 1 else 0], episode)


def join_axes(record: T, axes: int) -> T:
    """Join the first axes of every field into one.

    Args:
        record: Fields with at least so many axes.
        axes: The number of axes to join; with 0, fields get a first axis of length 1.
    """
    return map_arrays(lambda array: array.reshape(-1, *array.shape[axes:]), record)


def spread(record: T, axes: int, batch: tuple[int, ...]) -> T:
    """Broadcast the batch axes of every field, and join them into one.

    Args:
        record: Fields with so many batch axes.
        axes: The number of batch axes.
        batch: What they are broadcast to.
    """
    count = math.prod(batch)

    def one(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        own = array.shape[axes:]
        if array.shape[:axes] != batch:
            array = np.broadcast_to(array, (*batch, *own))  # this takes longer than the rest
        return array.reshape(count, *own)

    return map_arrays(one, record)


def split_first(record: T, batch: tuple[int, ...]) -> T:
    """Make batch axes of the first axis of every field, as before :func:`spread`."""
    return map_arrays(lambda array: array.reshape((*batch, *array.shape[1:])), record)


def stack(records: Sequence[T]) -> T:
    """Join records of equal shapes along a new first axis."""
    return map_arrays(lambda *arrays: np.stack(arrays), *records)


def concatenate(records: Sequence[T]) -> T:
    """Join records along their first axis."""
    return map_arrays(lambda *arrays: np.concatenate(arrays), *records)


def where(mask: npt.NDArray[np.bool_], chosen: T, other: T) -> T:
    """Take ``chosen`` where ``mask`` holds and ``other`` elsewhere.

    Args:
        mask: Its axes are the leading batch axes of the records.
        chosen: A record.
        other: A record of the same class and shapes.
    """

    def pick(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return map_arrays(pick, chosen, other)


def apart(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """The entries along the last axis, one array (...) for each of them.

    If there is no other axis, they are numbers and not arrays without axes, because numpy computes
    ten times as fast with numbers.
    """
    if values.ndim == 1:
        return tuple(values)
    return tuple(values[..., k] for k in range(values.shape[-1]))
