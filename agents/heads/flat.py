"""The head of networks that decide the action itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.problem import AnyProblem

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker


class FlatHead:
    """A head whose raw outputs are the action itself.

    The outputs for a Box lie in [-1, 1] and are scaled to its bounds, because a Gaussian policy
    starts at 0 with a standard deviation of about 1: that is the middle of [-1, 1], but a corner
    of [0, 1]. Discrete outputs are counted from 0 on.

    Args:
        problem: The problem that is played. If its observations begin with one row per device,
            its ``device_columns`` says how many numbers a row has.

    Raises:
        ValueError: The action space is a Box without bounds.
    """

    networks: Mapping[str, NetworkMaker] = {}

    def __init__(self, problem: AnyProblem) -> None:
        space = problem.action_space
        self.device_columns: int = getattr(problem, "device_columns", 0)
        self.action_space = space
        self.input_space = problem.observation_space
        self.output_space: spaces.Space[Any] = space
        if isinstance(space, spaces.Box):
            if not space.is_bounded():
                raise ValueError(f"a flat head needs a bounded action space, got {space}")
            self.output_space = spaces.Box(-1.0, 1.0, space.shape, np.float32)
        elif isinstance(space, spaces.Discrete):
            self.output_space = spaces.Discrete(space.n)
        elif isinstance(space, spaces.MultiDiscrete):
            self.output_space = spaces.MultiDiscrete(space.nvec.ravel())

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the observation itself."""
        return observation

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Scale clipped outputs to the bounds of a Box; count others from the space's start."""
        space = self.action_space
        if isinstance(space, spaces.Box):
            share = (np.clip(raw, -1.0, 1.0) + 1.0) / 2.0
            action = space.low + share * (space.high - space.low)
            # Scaling may exceed a bound by a rounding.
            return np.asarray(np.clip(action, space.low, space.high), dtype=space.dtype)
        if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            batch = np.shape(raw)[: np.ndim(raw) - len(self.output_space.shape or ())]
            return np.asarray(np.reshape(raw, batch + (space.shape or ())) + space.start)
        return raw

    def parameters(self) -> dict[str, float]:
        """Return an empty dictionary: this head finds nothing out."""
        return {}

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return 0 for every observation: this head knows nothing of the problem."""
        return np.zeros(observation.shape[:-1])
