"""Dataclasses from plain data, as ``dataclasses.asdict`` and JSON leave them."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


def from_plain(kind: Any, plain: Any, name: str) -> Any:
    """What ``plain`` stands for where a value of type ``kind`` is wanted.

    It inverts ``dataclasses.asdict``, also after JSON has made lists of tuples. Which class of
    a union is meant is told from the names of the fields. Values of simple types are returned
    as they are: to check them is up to the class that they are for.

    Args:
        kind: The type, as an annotation writes it.
        plain: Dictionaries, lists and simple values. Objects may stand among them.
        name: What is read, for messages.

    Returns:
        An object of that type.

    Raises:
        ValueError: A field does not exist or is missing, no class or more than one of a union
            fits, or a class refuses its values.
    """
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(plain, Mapping):
        return _record(kind, plain, name)
    parts = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of_several(parts, plain, name)
    if isinstance(origin, type) and isinstance(plain, (list, tuple)):
        return _series(origin, parts, plain, name)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(plain, Mapping):
        return {key: from_plain(parts[1], plain[key], f"{name}[{key!r}]") for key in plain}
    return plain


def _record(kind: type[Any], plain: Mapping[str, Any], name: str) -> Any:
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(plain) - set(known), key=str)
    if unknown:
        raise ValueError(f"{name} has no field {unknown[0]!r}; it has {', '.join(known)}")
    hints = typing.get_type_hints(kind)
    # What a class computes from its other fields, it computes again.
    given = {
        key: from_plain(hints[key], value, f"{name}.{key}")
        for key, value in plain.items()
        if known[key].init
    }
    missing = _required(kind) - set(given)
    if missing:
        raise ValueError(f"{name} lacks the field {min(missing)!r}")
    return kind(**given)


def _required(kind: type[Any]) -> set[str]:
    return {
        field.name
        for field in fields(kind)
        if field.init and field.default is MISSING and field.default_factory is MISSING
    }


def _one_of_several(kinds: Sequence[Any], plain: Any, name: str) -> Any:
    """What ``plain`` stands for where one of several types is wanted."""
    if isinstance(plain, Mapping):
        classes = [kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)]
        names = {kind: {field.name for field in fields(kind)} for kind in classes}
        fitting = [kind for kind in classes if names[kind] == set(plain)] or [
            kind for kind in classes if _required(kind) <= set(plain) <= names[kind]
        ]
        if classes and len(fitting) != 1:
            raise ValueError(
                f"{name} must have the fields of one of "
                f"{', '.join(kind.__name__ for kind in classes)}, got {sorted(plain)}"
            )
        return from_plain(fitting[0], plain, name) if classes else plain
    if isinstance(plain, (list, tuple)):
        for kind in kinds:
            origin = typing.get_origin(kind)
            if isinstance(origin, type) and issubclass(origin, Sequence):
                return from_plain(kind, plain, name)
    return plain


def _series(origin: type[Any], kinds: Sequence[Any], plain: Sequence[Any], name: str) -> Any:
    """A tuple or a list of what ``plain`` holds."""
    if issubclass(origin, tuple):
        each = kinds if Ellipsis not in kinds else [kinds[0]] * len(plain)
        if len(each) != len(plain):
            raise ValueError(f"{name} must hold {len(each)} values, got {plain!r}")
    elif issubclass(origin, Sequence):
        each = [kinds[0]] * len(plain)
    else:
        return plain
    values = [
        from_plain(kind, value, f"{name}[{index}]")
        for index, (kind, value) in enumerate(zip(each, plain, strict=True))
    ]
    return values if issubclass(origin, list) else tuple(values)
