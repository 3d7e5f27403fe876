"""The network decides the action itself."""

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
    """Raw outputs are the action: of a Box scaled from [-1, 1], discrete ones as they are.

    A Gaussian policy starts at 0 with a standard deviation of about 1: the middle of
    [-1, 1], but a corner of [0, 1].

    Args:
        problem: The problem that is played. If its observations begin with one row per device,
            its ``device_columns`` says how wide a row is.

    Raises:
        ValueError: The action space is a Box without bounds.
    """

    networks: Mapping[str, NetworkMaker] = {}

    def __init__(self, problem: AnyProblem) -> None:
        space = problem.action_space
        self.device_columns: int = getattr(problem, "device_columns", 0)
        self.box: spaces.Box | None = None
        self.input_space = problem.observation_space
        self.output_space: spaces.Space[Any] = space
        if isinstance(space, spaces.Box):
            if not space.is_bounded():
                raise ValueError(f"a flat head needs a bounded action space, got {space}")
            self.box = space
            self.output_space = spaces.Box(-1.0, 1.0, space.shape, np.float32)

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The observation itself."""
        return observation

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Clip and scale."""
        box = self.box
        if box is None:
            return raw
        share = (np.clip(raw, -1.0, 1.0) + 1.0) / 2.0
        action = box.low + share * (box.high - box.low)
        # Scaling may exceed a bound by a rounding.
        return np.asarray(np.clip(action, box.low, box.high), dtype=box.dtype)

    def parameters(self) -> dict[str, float]:
        """None."""
        return {}

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Nothing is known of the problem: 0."""
        return np.zeros(observation.shape[:-1])
