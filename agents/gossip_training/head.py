"""Heads of learners of gossip training: one network for any number of devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agents.gossip_training.linear import NAMES, decide, features, usual_weights
from agents.heads.weights import LinearWeightsHead
from mec_gym.core.types import FloatArray
from mec_gym.gossip_training.problem import ROWS, GossipTraining


class WeightsHead(LinearWeightsHead):
    """The network names the weights by which pairs of devices are chosen.

    The network sees means, spreads and extremes over the devices, so it plays any number of them.

    Args:
        problem: The problem that is played.
        weights: The weights to begin from, by name; without any, the shipped ones.
    """

    problem: GossipTraining
    NAMES = NAMES
    MOVED = len(NAMES)
    SEEN = 4 * ROWS + 3
    SPAN = 1.0

    def usual(self) -> FloatArray:
        """Return the shipped weights."""
        return usual_weights(self.problem.scenario)

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
        return self.problem.encode(decide(seen, self.moved_weights(raw), self.problem.scenario))


class FreeWeightsHead(WeightsHead):
    """The same, but at 0 all weights are 0: nothing is taken from the linear policy."""

    SPAN = 2.0

    def usual(self) -> FloatArray:
        """Return weights of 0."""
        return np.zeros(len(NAMES))
