"""Traces as data: check, save and load them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.files import write_whole
from mec_gym.core.problem import AnyProblem

_FORMAT = "mec_gym trace 1"


def _kind(trace_type: type) -> str:
    return f"{trace_type.__module__}.{trace_type.__qualname__}"


def check_trace(problem: AnyProblem, trace: Any, episodes: int | None = None) -> Any:
    """The trace as ``problem`` would have drawn it, or a ValueError.

    Args:
        problem: The problem that is to play the trace.
        trace: Fields (n, T, ...), T being the problem's horizon.
        episodes: The number n that is needed; any if None.

    Returns:
        A copy with the types that the problem itself uses.

    Raises:
        ValueError: Another problem's trace, a wrong shape or type, a value that is not
            finite, that the problem refuses, or that its observations cannot show.
    """
    template = problem.sample(np.random.default_rng(0), 1)
    if type(trace) is not type(template):
        raise ValueError(
            f"trace must be a {_kind(type(template))} of this problem, got {_kind(type(trace))}"
        )
    counts = {np.shape(array)[:1] for array in arrays.as_dict(trace).values()}
    if len(counts) != 1 or counts == {()}:
        raise ValueError(f"trace fields must share their first axis (episodes), got {counts}")
    (count,) = counts.pop()
    if episodes is not None and count != episodes:
        raise ValueError(f"trace must hold {episodes} episode(s), one an environment, got {count}")
    fields = {}
    for name, expected in arrays.as_dict(template).items():
        array = np.asarray(getattr(trace, name))
        shape = (count, *expected.shape[1:])
        if array.shape != shape:
            raise ValueError(f"trace.{name} must have shape {shape}, got {array.shape}")
        if not np.can_cast(array.dtype, expected.dtype, "same_kind"):
            raise ValueError(f"trace.{name} must hold {expected.dtype}, got {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"trace.{name} must be finite")
        fields[name] = array.astype(expected.dtype)
    checked = arrays.from_dict(type(template), fields)
    problem.check(checked)
    state = problem.start(arrays.at(checked, (slice(None), 0)))
    for t in range(problem.horizon):
        observation = problem.observe(arrays.at(checked, (slice(None), t)), state)
        low, high = problem.observation_space.low, problem.observation_space.high  # type: ignore[attr-defined]
        outside = (observation < low) | (observation > high)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise ValueError(
                f"trace: slot {t} of episode {row} is beyond the scenario's range: observation "
                f"{column} would be {observation[row, column]}, allowed is "
                f"[{low[column]}, {high[column]}]; widen the scenario's limits"
            )
    return checked


def save_trace(path: str | Path, trace: Any) -> None:
    """Write a trace to one ``.npz``; an older file stays whole until the new one is.

    Raises:
        ValueError: A field holds Python objects.
    """
    if any(np.asarray(field).dtype.hasobject for field in arrays.as_dict(trace).values()):
        raise ValueError("trace must hold numbers, got object arrays")
    content = io.BytesIO()
    np.savez_compressed(
        content,
        _format=np.array(_FORMAT),
        _kind=np.array(_kind(type(trace))),
        **arrays.as_dict(trace),
    )
    write_whole(Path(path), content.getvalue())


def load_trace(path: str | Path, problem: AnyProblem) -> Any:
    """Read a trace of ``problem`` written by :func:`save_trace`.

    Returns:
        The trace, fields (n, T, ...).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, of another format, or of another problem.
    """
    cls = type(problem.sample(np.random.default_rng(0), 1))
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            found = {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive fails in many ways, each its reader's own
        raise ValueError(f"{path} is not a readable trace file: {error}") from error
    if str(found.get("_format")) != _FORMAT:
        raise ValueError(f"{path} is not a trace file of format {_FORMAT!r}")
    if str(found.get("_kind")) != _kind(cls):
        raise ValueError(f"{path} holds a {found.get('_kind')}, this problem needs a {_kind(cls)}")
    missing = set(arrays.field_names(cls)) - set(found)
    if missing:
        raise ValueError(f"{path} lacks the fields {', '.join(sorted(missing))}")
    return check_trace(problem, arrays.from_dict(cls, found))
