"""A stochastic dynamic program over a battery, and what knowing the future is worth under it.

One task after the other offers a few choices, each of which spends whole units of a battery and
has a cost. Tasks are independent and equally distributed, and a task is seen before it is decided,
but after all earlier ones. So the most that can be expected of m tasks is a function of the
battery alone, V_m, with

    V_0 = 0,    V_m(b) = E[ J_m(b, task) ],
    J_m(b, task) = max over choices with spend <= b of V_{m-1}(b - spend) - cost.

Nothing in this module knows what a task is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mec_gym.core.types import FloatArray, IntArray

_BLOCK = 1 << 15
"""Numbers that are worked on at a time, so that they stay in the processor's cache."""
_TASKS = 2000
"""Tasks whose values are in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What tasks offer, fields (..., L); those that do not exist stand last, with infinite cost."""

    spend: IntArray  # (..., L) units of the battery, >= 0
    cost: FloatArray  # (..., L)


def stage_values(after: FloatArray, choices: Choices, battery: IntArray) -> FloatArray:
    """J of n tasks at levels of the battery, (n, N).

    Args:
        after: V of what follows these tasks, for each number of units, (top + 1,).
        choices: What the tasks offer, fields (n, L); each task has a choice that spends nothing.
        battery: Units that are left before the task, (N,) or of each task (n, N), at most top.
    """
    count = np.isfinite(choices.cost).sum(axis=-1)
    # An index below 0 counts from the end: nothing can be bought on credit.
    credit = int(choices.spend.max(initial=0))
    guarded = np.concatenate([after, np.full(credit, -np.inf)])
    battery = np.broadcast_to(battery, (len(count), np.shape(battery)[-1]))
    values = np.empty(battery.shape)
    order = np.argsort(count, kind="stable")
    rows_at_once = max(1, _BLOCK // battery.shape[1])
    for begin in range(0, len(order), rows_at_once):
        rows = order[begin : begin + rows_at_once]
        before = battery[rows]
        best = np.full(before.shape, -np.inf)
        for k in range(int(count[rows[-1]])):
            left = guarded[before - choices.spend[rows, k, None]]
            left -= choices.cost[rows, k, None]
            np.maximum(best, left, out=best)
        values[rows] = best
    return values


def expected_values(
    after: FloatArray, choices: Choices, probability: FloatArray, battery: IntArray
) -> FloatArray:
    """E[J] at levels of the battery, (N,).

    Args:
        after: V of what follows, for each number of units, (top + 1,).
        choices: What each of n possible tasks offers, fields (n, L).
        probability: The probability of each task, (n,).
        battery: Units that are left before the task, (N,), at most top.
    """
    expected = np.zeros(len(battery))
    for begin in range(0, len(probability), _TASKS):
        rows = slice(begin, begin + _TASKS)
        part = Choices(spend=choices.spend[rows], cost=choices.cost[rows])
        expected += probability[rows] @ stage_values(after, part, battery)
    return expected


def fit_values(
    choices: Choices, probability: FloatArray, nodes: Sequence[IntArray], top: int
) -> FloatArray:
    """V by backward induction, (T + 1, top + 1).

    Args:
        choices: What each of n possible tasks offers, fields (n, L).
        probability: The probability of each task, (n,).
        nodes: For m = 1 ... T tasks, the levels of the battery at which V is computed, from 0 to
            ``top``; in between it is interpolated.
        top: The units of a full battery.
    """
    every = np.arange(top + 1)
    values = np.zeros((len(nodes) + 1, top + 1))
    for m, at in enumerate(nodes, start=1):
        expected = expected_values(values[m - 1], choices, probability, at)
        values[m] = np.interp(every, at, expected)
    return values


def penalised_optimum(
    choices: Choices, surplus: Sequence[FloatArray], nodes: Sequence[IntArray], top: int
) -> FloatArray:
    """The most that somebody who knows all tasks can earn if luck does not count, (n,).

    Args:
        choices: What the tasks of n episodes offer, fields (n, T, L), the first task first.
        surplus: For m = 1 ... T tasks left, J_m(b, task at hand) - E[J_m(b, task)] at each node,
            (n, N): how much better than usual the task at hand is. It is taken off.
        nodes: For m = 1 ... T tasks left, the levels of the battery, from 0 to ``top``; in between
            the surplus is interpolated.
        top: The units of a full battery.
    """
    n, horizon = choices.cost.shape[:2]
    every = np.arange(top + 1)
    found = np.empty(n)
    for i in range(n):
        value = np.zeros(top + 1)
        for m in range(1, horizon + 1):
            best = np.full(top + 1, -np.inf)
            spends, costs = choices.spend[i, horizon - m], choices.cost[i, horizon - m]
            for spend, cost in zip(spends.tolist(), costs.tolist(), strict=True):
                if spend <= top:
                    np.maximum(best[spend:], value[: top + 1 - spend] - cost, out=best[spend:])
            value = best - np.interp(every, nodes[m - 1], surplus[m - 1][i])
        found[i] = value[top]
    return found
