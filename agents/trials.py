"""Many settings of a rule are tried on the same episodes, all of them in one batch.

They serve problems with real learning, whose steps gain from batches and whose episodes are dear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from agents.protocol import Solution, Solver
from mec_gym.core import arrays
from mec_gym.core.problem import AnyProblem
from mec_gym.core.seeds import tuning_episodes
from mec_gym.core.types import FloatArray

MOST_AT_ONCE = 384
"""Environments that are stepped together; one takes about a megabyte while it is stepped."""
FEW, MORE = 4, 8
"""Tuning episodes. Learning is real, so each costs about 0.3 s per setting on ``semi-async``."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Side:
    """Solvers side by side: each decides in its own entries of the first batch axis."""

    solvers: Sequence[Solver]

    def solve(self, slot: Any, state: Any) -> Solution:
        """Solve a batch of slots, fields (solvers, ...)."""
        decisions = [
            solver.solve(arrays.at(slot, i), arrays.at(state, i)).decision
            for i, solver in enumerate(self.solvers)
        ]
        return Solution(arrays.stack(decisions), 0)


def trial_returns(problem: AnyProblem, solvers: Sequence[Solver], trace: Any) -> FloatArray:
    """Play every episode with every solver, and return the returns, (solvers, n).

    Args:
        problem: The problem that is played.
        solvers: The solvers; they see no more than observations.
        trace: The episodes, fields (n, T, ...).
    """
    most = max(1, MOST_AT_ONCE // arrays.episodes_of(trace))
    blocks = [solvers[i : i + most] for i in range(0, len(solvers), most)]
    return np.concatenate([play(problem, Side(b), len(b), trace) for b in blocks])


def play(problem: AnyProblem, solver: Solver, count: int, trace: Any) -> FloatArray:
    """Play every episode several times, and return the returns, (count, n).

    Args:
        problem: The problem that is played.
        solver: It decides for batches (count, n), and sees no more than observations.
        count: How often every episode is played.
        trace: The episodes, fields (n, T, ...).
    """
    start = problem.start(arrays.slot_at(trace, 0))
    state = arrays.map_arrays(lambda a: np.broadcast_to(a, (count, *a.shape)), start)
    returns = np.zeros((count, arrays.episodes_of(trace)))
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        decision = solver.solve(*problem.decode(problem.observe(slot, state))).decision
        running = ~problem.done(state)
        state, outcome = problem.step(slot, state, decision)
        returns += np.where(running, problem.reward(outcome), 0.0)
        if problem.done(state).all():
            break
    return returns


def best_setting(problem: AnyProblem, settings: Sequence[T], make: Callable[[T], Solver]) -> T:
    """Return the setting with which a rule returns most on average over episodes of their own.

    All settings play ``FEW`` episodes. The best third of them plays ``MORE`` others, too, and the
    best one over all these episodes wins.

    Args:
        problem: The problem that is played.
        settings: The settings.
        make: Function that makes the solver of a setting.
    """
    if len(settings) == 1:
        return settings[0]
    trace = tuning_episodes(problem, FEW + MORE)
    few, more = (arrays.at(trace, part) for part in (slice(FEW), slice(FEW, None)))
    first = trial_returns(problem, [make(setting) for setting in settings], few).sum(axis=-1)
    best = np.argsort(-first, kind="stable")[: max(2, math.ceil(len(settings) / 3))]
    solvers = [make(settings[i]) for i in best]
    total = first[best] + trial_returns(problem, solvers, more).sum(axis=-1)
    return settings[int(best[total.argmax()])]
