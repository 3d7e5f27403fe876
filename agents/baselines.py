"""Policies that solve nothing: random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.protocol import Solution
from mec_gym.core.problem import AnyProblem
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.scenario import Slot


class RandomAgent:
    """Draws actions uniformly from the action space of any problem.

    Args:
        problem: The problem played.
        seed: Of the agent's own generator.
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


class RandomSplitSolver:
    """The paper's random scheme: a Dirichlet(1, 1, 1) split and a random pair of servers.

    Args:
        servers: S, servers of a region.
        seed: Of the solver's own generator.
    """

    def __init__(self, servers: int, seed: int = 0) -> None:
        self.servers = servers
        self.rng = np.random.default_rng(seed)

    def solve(self, slot: Slot, state: State) -> Solution:
        """A random decision an instance, seed 000 section 4 (the split's law is assumed)."""
        batch = np.shape(slot.work)
        shares = self.rng.dirichlet((1.0, 1.0, 1.0), batch)
        pair = self.rng.integers(self.servers, size=(2, *batch))
        return Solution(Decision(shares[..., 0], shares[..., 1], pair[0], pair[1]), 0)
