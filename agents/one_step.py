"""A reference that tries decisions in the true slot, one step ahead, and takes the best one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.problem import AnyProblem
from mec_gym.core.types import FloatArray

EPISODES_AT_ONCE = 24
FALLS = 8.0
"""By how many factors of e the error is taken to fall in a whole budget."""


def plan_one_step(
    problem: AnyProblem,
    trace: Any,
    candidates: Callable[[Any, Any, np.random.Generator], Any],
    value: Callable[[Any, Any], FloatArray],
) -> npt.NDArray[Any]:
    """Plan every episode by trying decisions in the true slot, and taking the best one.

    Each candidate is played for one step from the true state. No proof says that the plan is good,
    as what a decision does to later steps counts only as far as ``value`` knows of it.

    Args:
        problem: The problem that is played.
        trace: The episodes, fields (n, T, ...).
        candidates: Given slots and states, fields (n, ...), and a source of random numbers, returns
            the decisions that are tried, fields (P, n, ...).
        value: Given the states that they lead to and the outcomes, fields (P, n, ...), returns what
            they are worth, (P, n).

    Returns:
        The actions, (n, T, ...).
    """
    n = arrays.episodes_of(trace)
    parts = [slice(i, i + EPISODES_AT_ONCE) for i in range(0, n, EPISODES_AT_ONCE)]
    plans = [_plan(problem, arrays.at(trace, part), candidates, value) for part in parts]
    return np.concatenate(plans)


def _plan(
    problem: AnyProblem,
    trace: Any,
    candidates: Callable[[Any, Any, np.random.Generator], Any],
    value: Callable[[Any, Any], FloatArray],
) -> npt.NDArray[Any]:
    n, rng = arrays.episodes_of(trace), np.random.default_rng(0)
    space = problem.action_space
    actions = np.zeros((n, problem.horizon, *(space.shape or ())), dtype=space.dtype)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(problem.horizon):
        if problem.done(state).all():
            break
        slot = arrays.slot_at(trace, t)
        tried = candidates(slot, state, rng)
        after, outcome = problem.step(slot, state, tried)
        best = value(after, outcome).argmax(axis=0), np.arange(n)
        actions[:, t] = problem.encode(arrays.at(tried, best))
        state = arrays.at(after, best)
    return actions


def error_to_come(error: FloatArray, rest_s: FloatArray, budget_s: float) -> FloatArray:
    """Compute the error-seconds of the rest of a budget, as if the error fell exponentially, (...).

    Args:
        error: The error now, (...).
        rest_s: The time that is left, (...) s.
        budget_s: The whole budget, s.
    """
    usual_s = budget_s / FALLS
    return np.asarray(error * usual_s * -np.expm1(-rest_s / usual_s))
