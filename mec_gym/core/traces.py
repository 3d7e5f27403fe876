"""Traces are data: this module checks, saves and loads them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.checks import reason_of
from mec_gym.core.files import write_whole
from mec_gym.core.problem import AnyProblem, check_is_problem

_FORMAT = "mec_gym trace 1"


def _kind(trace_type: type) -> str:
    return f"{trace_type.__module__}.{trace_type.__qualname__}"


def check_trace(problem: AnyProblem, trace: Any, episodes: int | None = None) -> Any:
    """The trace as ``problem`` would have drawn it, or a ValueError.

    Args:
        problem: The problem that is to play the trace.
        trace: Fields (n, T, ...), or (n, 1, ...) where the problem draws them so. A single
            episode may lack the axis of n in all of them, as ``env.trace`` does.
        episodes: The number of episodes that the trace must hold; None allows any.

    Returns:
        A copy with all axes and with the types that the problem itself uses.

    Raises:
        ValueError: The trace is another problem's, has a wrong shape or type, or a value that
            is not finite, that the problem refuses, or that its observations cannot show.
    """
    template = problem.sample(np.random.default_rng(0), 1)
    if type(trace) is not type(template):
        raise ValueError(
            f"trace must be a {_kind(type(template))} of this problem, got {_kind(type(trace))}"
        )
    drawn = arrays.as_dict(template)
    given = {name: np.asarray(field) for name, field in arrays.as_dict(trace).items()}
    if episodes in (None, 1) and all(given[name].ndim == drawn[name].ndim - 1 for name in drawn):
        given = {name: field[None] for name, field in given.items()}
    counts = {field.shape[:1] for field in given.values()}
    if len(counts) != 1 or counts == {()}:
        raise ValueError(f"trace fields must share their first axis (episodes), got {counts}")
    (count,) = counts.pop()
    if episodes is not None and count != episodes:
        raise ValueError(f"trace must hold {episodes} episode(s), one per environment, got {count}")
    fields = {}
    for name, expected in drawn.items():
        field = given[name]
        shape = (count, *expected.shape[1:])
        if field.shape != shape:
            raise ValueError(f"trace.{name} must have shape {shape}, got {field.shape}")
        if not np.can_cast(field.dtype, expected.dtype, "same_kind"):
            raise ValueError(f"trace.{name} must hold {expected.dtype}, got {field.dtype}")
        if not np.isfinite(field).all():
            raise ValueError(f"trace.{name} must be finite")
        fields[name] = field.astype(expected.dtype)
    checked = arrays.from_dict(type(template), fields)
    problem.check(checked)
    state = problem.start(arrays.slot_at(checked, 0))
    for t in range(problem.horizon):
        observation = problem.observe(arrays.slot_at(checked, t), state)
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
    """Write a trace to one file in numpy's ``.npz`` format.

    A file that is replaced stays whole until the new one is.

    Args:
        path: The file.
        trace: The trace.

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
    """Read a trace that :func:`save_trace` wrote, and check it.

    Args:
        path: The file.
        problem: The problem that is to play the trace.

    Returns:
        The trace.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, of another format, or of another problem.
    """
    check_is_problem(problem)
    cls = type(problem.sample(np.random.default_rng(0), 1))
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            found = {name: loaded[name] for name in loaded.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive fails in many ways, each its reader's own
        raise ValueError(f"{path} is not a readable trace file: {reason_of(error)}") from error
    if str(found.get("_format")) != _FORMAT:
        raise ValueError(f"{path} is not a trace file of format {_FORMAT!r}")
    if str(found.get("_kind")) != _kind(cls):
        raise ValueError(f"{path} holds a {found.get('_kind')}, this problem needs a {_kind(cls)}")
    missing = set(arrays.field_names(cls)) - set(found)
    if missing:
        raise ValueError(f"{path} lacks the fields {', '.join(sorted(missing))}")
    return check_trace(problem, arrays.from_dict(cls, found))
