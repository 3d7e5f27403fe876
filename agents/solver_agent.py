"""A solver as an agent: it solves what the observation says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agents.protocol import Solver
from mec_gym.core.policies import Memoryless
from mec_gym.core.problem import AnyProblem


class SolverAgent(Memoryless):
    """An agent that decodes observations, solves the whole batch and encodes the decisions.

    So a solver sees exactly what a network sees.

    Args:
        problem: The problem that the agent plays.
        solver: A solver of that problem.
    """

    def __init__(self, problem: AnyProblem, solver: Solver) -> None:
        self.problem = problem
        self.solver = solver

    def act(self, observation: npt.NDArray[Any], deterministic: bool = False) -> npt.NDArray[Any]:
        """Return the actions for observations of shape (observation,) or (B, observation).

        Raises:
            ValueError: The observations are those of another problem.
        """
        needs = self.problem.observation_space.shape
        if np.shape(observation)[-1:] != needs:
            raise ValueError(
                f"observation must have shape {needs}, or (B, ...) of it, for "
                f"{type(self.problem).__name__}, got {np.shape(observation)}"
            )
        decision = self.solver.solve(*self.problem.decode(observation)).decision
        return self.problem.encode(decision)
