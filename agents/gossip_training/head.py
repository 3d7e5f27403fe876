"""Heads of learners of gossip training: one network for any number of devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.gossip_training.linear import NAMES, decide, features, usual_weights
from agents.linear_policy import check_weights
from mec_gym.core.types import FloatArray
from mec_gym.gossip_training.problem import ROWS, GossipTraining

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker


class WeightsHead:
    """The network names the weights by which pairs of devices are chosen.

    Raw outputs lie in [-1, 1], and ``SPAN`` times them is added to the weights of the linear
    policy. At 0 the decision is that of the linear policy, so the network learns when to deviate
    from it. The network sees means, spreads and extremes over the devices, so it plays any number
    of them.

    Args:
        problem: The problem that is played.
        weights: The weights to begin from, by name; without any, the shipped ones.
    """

    device_columns = 0
    networks: Mapping[str, NetworkMaker] = {}
    SPAN = 1.0
    SPREAD_SCALE = 2.0  # a number between 0 and 1 has a standard deviation of at most 0.5

    def __init__(self, problem: GossipTraining, **weights: float) -> None:
        self.problem = problem
        self.weights = check_weights(weights, NAMES) if weights else self._usual()
        self.input_space: spaces.Space[Any] = spaces.Box(0.0, 1.0, (4 * ROWS + 3,), np.float32)
        self.output_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (len(NAMES),), np.float32)

    def _usual(self) -> FloatArray:
        return usual_weights(self.problem.scenario)

    def parameters(self) -> dict[str, float]:
        """Return the weights to begin from, by name."""
        return dict(zip(NAMES, self.weights.tolist(), strict=True))

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return mean, spread, least and most of what is seen of devices, and three numbers more.

        The latter are the rounds that are left, how long devices would wait for the last one, and
        this round's lot.
        """
        n = self.problem.scenario.devices
        rows = observation[..., : ROWS * n].reshape(*observation.shape[:-1], ROWS, n)
        _, together = features(*self.problem.decode(observation), self.problem.scenario)
        parts = [
            rows.mean(axis=-1),
            self.SPREAD_SCALE * rows.std(axis=-1),
            rows.min(axis=-1),
            rows.max(axis=-1),
            observation[..., ROWS * n, None],
            together[..., 1, None],
            together[..., -1, None],
        ]
        return np.asarray(np.clip(np.concatenate(parts, axis=-1), 0.0, 1.0), dtype=np.float32)

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the actions whose scores have the weights that the raw outputs name."""
        seen = features(*self.problem.decode(observation), self.problem.scenario)
        moves = np.clip(np.asarray(raw, dtype=np.float64), -1.0, 1.0)
        weights = self.weights + self.SPAN * moves
        return self.problem.encode(decide(seen, weights, self.problem.scenario))

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return 0: whatever a policy earns depends on what has been learnt before."""
        return np.zeros(observation.shape[:-1])


class FreeWeightsHead(WeightsHead):
    """The same, but at 0 all weights are 0: nothing is taken from the linear policy."""

    SPAN = 2.0

    def _usual(self) -> FloatArray:
        return np.zeros(len(NAMES))
