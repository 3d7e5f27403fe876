"""Many settings of a rule are tried on the same episodes, all of them in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from agents.protocol import Solver
from mec_gym.core import arrays
from mec_gym.core.seeds import tuning_episodes
from mec_gym.core.types import FloatArray
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Slot

MOST_AT_ONCE = 384
"""Environments that are stepped together; one takes about a megabyte while it is stepped."""
EPISODES = 8
"""Tuning episodes per setting. Learning is real, so each costs about 0.3 s on ``semi-async``."""

SolverT = TypeVar("SolverT", bound=Solver)


def trial_returns(problem: FederatedTraining, solvers: Sequence[Solver], trace: Slot) -> FloatArray:
    """Play every episode with every solver, and return the returns, (solvers, n).

    Args:
        problem: The problem that is played.
        solvers: The solvers; they see no more than observations.
        trace: The episodes, fields (n, T, ...).
    """
    n = len(trace.key)
    most = max(1, MOST_AT_ONCE // n)
    blocks = [solvers[i : i + most] for i in range(0, len(solvers), most)]
    return np.concatenate([_play(problem, block, trace) for block in blocks])


def _play(problem: FederatedTraining, solvers: Sequence[Solver], trace: Slot) -> FloatArray:
    start = problem.start(arrays.slot_at(trace, 0))
    state = arrays.map_arrays(lambda a: np.broadcast_to(a, (len(solvers), *a.shape)), start)
    returns = np.zeros((len(solvers), len(trace.key)))
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        seen, believed = problem.decode(problem.observe(slot, state))
        decisions = [
            solver.solve(arrays.at(seen, i), arrays.at(believed, i)).decision
            for i, solver in enumerate(solvers)
        ]
        running = ~problem.done(state)
        state, outcome = problem.step(slot, state, arrays.stack(decisions))
        returns += np.where(running, problem.reward(outcome), 0.0)
        if problem.done(state).all():
            break
    return returns


def best_solver(
    problem: FederatedTraining, solvers: Sequence[SolverT], episodes: int = EPISODES
) -> SolverT:
    """Return the solver that returns most on average over episodes of their own.

    Args:
        problem: The problem that is played.
        solvers: The solvers.
        episodes: The number of episodes that every solver is tried on.
    """
    trace = tuning_episodes(problem, episodes)
    return solvers[int(trial_returns(problem, solvers, trace).mean(axis=-1).argmax())]
