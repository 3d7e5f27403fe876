"""Views of environments for clients that want another form of actions."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from mec_gym.core.actions import action_in_space
from mec_gym.core.types import IntArray

MOST_ACTIONS = 1_000_000


class DiscreteView:
    """One whole number for every action of a discrete space, counted from 0.

    The last choice of a MultiDiscrete changes fastest.

    Args:
        space: A MultiDiscrete, or a Discrete.

    Raises:
        ValueError: The space is another one, or has more than ``MOST_ACTIONS`` actions.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        if not isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            raise ValueError(f"action_space must be Discrete or MultiDiscrete, got {space}")
        self.sizes = np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec)
        count = math.prod(self.sizes.ravel().tolist())
        if count > MOST_ACTIONS:
            raise ValueError(
                f"action_space must have at most {MOST_ACTIONS} actions to be numbered, got "
                f"{count} ({space})"
            )
        self.of = space
        self.space = spaces.Discrete(count)

    def action(self, number: Any) -> npt.NDArray[Any]:
        """The actions that numbers stand for, (...) -> (..., shape of the space).

        Raises:
            ValueError: A number is no whole number of an action.
        """
        numbers = action_in_space(self.space, number, np.shape(number))
        choices = np.stack(np.unravel_index(numbers, self.sizes.ravel()), axis=-1)
        action = choices.reshape((*numbers.shape, *(self.of.shape or ()))) + self.of.start
        return np.asarray(action, dtype=self.of.dtype)

    def number(self, action: Any) -> IntArray:
        """The numbers of actions, (..., shape of the space) -> (...); the inverse of ``action``."""
        choices = np.asarray(action) - self.of.start
        batch = choices.shape[: choices.ndim - len(self.of.shape or ())]
        flat = np.moveaxis(choices.reshape((*batch, self.sizes.size)), -1, 0)
        return np.asarray(np.ravel_multi_index(tuple(flat), self.sizes.ravel().tolist()))


class DiscreteActions(gym.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """An environment with one whole number for an action, as DQN wants it.

    Args:
        env: An environment whose actions are MultiDiscrete, or Discrete from another number on.

    Raises:
        ValueError: Its actions are of another kind, or there are too many of them.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ActionWrapper.__init__(self, env)
        self.view = DiscreteView(env.action_space)
        self.action_space = self.view.space

    def action(self, action: Any) -> npt.NDArray[Any]:
        """The environment's own action."""
        return self.view.action(action)
