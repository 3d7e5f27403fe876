"""What a policy is, a base for those without a memory, and the one that draws at random."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.problem import AnyProblem


class Predictor(Protocol):
    """Whatever maps observations to actions, as the models of Stable-Baselines3 do."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Choose an action for every observation.

        Args:
            observation: One observation, or a batch (B, observation).
            state: The memory that the last call returned; None at first.
            episode_start: Whether an episode begins with each observation, (B,).
            deterministic: Whether to choose the best action instead of drawing one.

        Returns:
            One action, or a batch (B, ...), and the memory for the next call.
        """
        ...


def check_is_agent(agent: Any) -> None:
    """Check that an object has ``predict``.

    Raises:
        ValueError: It has not.
    """
    if not callable(getattr(agent, "predict", None)):
        raise ValueError(f"agent must have the method predict of SB3's models, got {agent!r}")


class Memoryless(ABC):
    """A base for policies whose actions depend on nothing but the observation at hand."""

    @abstractmethod
    def act(self, observation: npt.NDArray[Any], deterministic: bool) -> npt.NDArray[Any]:
        """Choose an action for one observation, or for each of a batch (B, observation).

        Args:
            observation: One observation, or a batch (B, observation).
            deterministic: Whether to choose the best action instead of drawing one.
        """

    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """The actions of :meth:`act`; ``state`` is returned as it is."""
        return self.act(observation, deterministic), state


class UniformPolicy(Memoryless):
    """Draws actions uniformly from the action space of any problem.

    It draws even if it is asked to be deterministic.

    Args:
        problem: The problem that is played.
        seed: Seeds the policy's own generator.

    Raises:
        ValueError: The action space is of another kind, or a Box without finite bounds.
    """

    def __init__(self, problem: AnyProblem, seed: int = 0) -> None:
        space = problem.action_space
        if isinstance(space, spaces.Box):
            if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
                raise ValueError(f"action_space must have finite bounds, got {space}")
        elif not isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            raise ValueError(f"action_space must be Box, Discrete or MultiDiscrete, got {space}")
        self.problem = problem
        self.space = space
        self.rng = np.random.default_rng(seed)

    def act(self, observation: npt.NDArray[Any], deterministic: bool = False) -> npt.NDArray[Any]:
        """An action for one observation, or one for each of a batch (B, observation)."""
        axes = len(self.problem.observation_space.shape or ())
        return self.draw(*np.shape(observation)[: np.ndim(observation) - axes])

    def draw(self, *batch: int) -> npt.NDArray[Any]:
        """Actions of the shape ``batch`` + the shape of one action."""
        space = self.space
        if isinstance(space, spaces.MultiDiscrete):
            drawn = self.rng.integers(space.nvec, size=(*batch, *space.nvec.shape))
            return np.asarray(drawn + space.start)
        if isinstance(space, spaces.Discrete):
            return np.asarray(self.rng.integers(space.n, size=batch) + space.start)
        return self.rng.uniform(space.low, space.high, (*batch, *space.shape)).astype(space.dtype)
