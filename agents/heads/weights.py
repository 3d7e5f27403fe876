"""The base of heads whose network names the weights of a linear policy, step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.linear_policy import check_weights
from mec_gym.core.problem import AnyProblem
from mec_gym.core.types import FloatArray

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker


class LinearWeightsHead(ABC):
    """The network moves the weights of a linear policy; the policy's features stay as they are.

    Raw outputs lie in [-1, 1], and ``SPAN`` times them is added to the weights. At 0 the decision
    is that of the linear policy, so the network learns when to deviate from it.

    Args:
        problem: The problem that is played.
        weights: The weights to begin from, by name; without any, the usual ones.

    Attributes:
        NAMES: The names of the weights, in order.
        MOVED: How many of them the network moves, from the first on.
        SEEN: How many numbers the network sees.
        SPAN: By how much it moves a weight at most.
    """

    NAMES: ClassVar[tuple[str, ...]]
    MOVED: ClassVar[int]
    SEEN: ClassVar[int]
    SPAN: ClassVar[float]
    SPREAD_SCALE = 2.0  # a number between 0 and 1 has a standard deviation of at most 0.5
    device_columns = 0
    networks: Mapping[str, NetworkMaker] = {}

    def __init__(self, problem: AnyProblem, **weights: float) -> None:
        self.problem = problem
        self.weights = check_weights(weights, self.NAMES) if weights else self.usual()
        self.input_space: spaces.Space[Any] = spaces.Box(0.0, 1.0, (self.SEEN,), np.float32)
        self.output_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (self.MOVED,), np.float32)

    @abstractmethod
    def usual(self) -> FloatArray:
        """Return the weights to begin from."""
        ...

    @abstractmethod
    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what the network sees, (..., SEEN), of observations (..., observation)."""
        ...

    @abstractmethod
    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return actions for observations (..., observation) and raw outputs (..., MOVED)."""
        ...

    def parameters(self) -> dict[str, float]:
        """Return the weights to begin from, by name."""
        return dict(zip(self.NAMES, self.weights.tolist(), strict=True))

    def moved_weights(self, raw: npt.NDArray[Any]) -> FloatArray:
        """Return the weights that raw outputs (..., moved) name, (..., weights)."""
        moves = np.clip(np.asarray(raw, dtype=np.float64), -1.0, 1.0)
        weights = np.broadcast_to(self.weights, (*moves.shape[:-1], len(self.NAMES))).copy()
        weights[..., : self.MOVED] += self.SPAN * moves
        return weights

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return 0: whatever a policy earns depends on what has been learnt before."""
        return np.zeros(observation.shape[:-1])
