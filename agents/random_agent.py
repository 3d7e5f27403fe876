"""The agent that plays everything and knows nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.problem import AnyProblem


class RandomAgent:
    """Draws actions uniformly from the action space of any problem.

    Args:
        problem: The problem that it plays.
        seed: Seed of the agent's own generator.
    """

    def __init__(self, problem: AnyProblem, seed: int = 0) -> None:
        self.problem = problem
        self.space = problem.action_space
        self.rng = np.random.default_rng(seed)

    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions for observations (observation,) or (B, observation)."""
        space = self.space
        axes = len(self.problem.observation_space.shape or ())
        batch = np.shape(observation)[: np.ndim(observation) - axes]
        if isinstance(space, spaces.MultiDiscrete):
            drawn = self.rng.integers(space.nvec, size=(*batch, *space.nvec.shape))
            return drawn + space.start, state
        if isinstance(space, spaces.Discrete):
            return self.rng.integers(space.n, size=batch) + space.start, state
        assert isinstance(space, spaces.Box)
        actions = self.rng.uniform(space.low, space.high, (*batch, *space.shape))
        return actions.astype(space.dtype), state
