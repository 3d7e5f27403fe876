"""Nested state as bytes and back: arrays as numpy writes them, everything else as JSON.

Unlike a pickle, what is read this way is data only: no code of the file is run.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_ARRAY = "__array__"
_TEXT = "json"


def pack(state: Mapping[str, Any]) -> bytes:
    """Write a state as the content of an ``.npz`` file.

    Args:
        state: Dictionaries (keys are strings), lists, arrays of numbers, numbers, text, None.

    Raises:
        TypeError: It holds something else.
    """
    fields: dict[str, npt.NDArray[Any]] = {}

    def keep(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise TypeError(f"state must hold arrays and plain values, got {value!r}")
        name = f"array-{len(fields)}"
        fields[name] = value
        return {_ARRAY: name}

    text = json.dumps(state, default=keep)
    content = io.BytesIO()
    np.savez(content, **{_TEXT: np.frombuffer(text.encode(), np.uint8)}, **fields)  # type: ignore[arg-type]
    return content.getvalue()


def unpack(content: bytes) -> dict[str, Any]:
    """Read what :func:`pack` wrote; tuples have become lists.

    Raises:
        ValueError: The content is damaged, or was written by something else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as fields:

            def found(value: dict[str, Any]) -> Any:
                return fields[value[_ARRAY]] if _ARRAY in value else value

            state = json.loads(fields[_TEXT].tobytes(), object_hook=found)
    except Exception as error:  # a damaged archive fails in many ways, each its reader's own
        raise ValueError(f"the state is damaged: {error!r}") from error
    if not isinstance(state, dict):
        raise ValueError(f"the state is damaged: it must be an object, got {type(state).__name__}")
    return state


def array_of(state: Mapping[str, Any], name: str, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Take a copy of an array from a state.

    Args:
        state: What :func:`unpack` returned, or a part of it.
        name: Name of the array.
        like: An array of the shape and the type that it must have.

    Raises:
        ValueError: It is missing, or has another shape or type.
    """
    value = state.get(name)
    if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (like.shape, like.dtype):
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        raise ValueError(f"{name} must be an array {like.dtype} {like.shape}, got {got}")
    return value.copy()
