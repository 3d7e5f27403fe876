"""The head for federated training: a network weighs what is known of clients, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from agents.federated_training.fleet import Fleet, fleet_now, full_effort
from agents.federated_training.linear import (
    CLIENT,
    NAMES,
    features,
    score_of,
    usual_weights,
)
from agents.heads.weights import LinearWeightsHead
from mec_gym.core.types import FloatArray
from mec_gym.federated_training.model import Decision
from mec_gym.federated_training.problem import FederatedTraining


class WeightsHead(LinearWeightsHead):
    """The network names the weights of a score that is linear in what is known of a client.

    The score of a client is theta . f, with the features f of
    :func:`~agents.federated_training.linear.features`. All clients are weighed alike, and the
    network sees means and spreads over the fleet, so it plays fleets of any size.

    Args:
        problem: The problem that is played.
        weights: The weights to begin from, by name; without any, the shipped ones.
    """

    problem: FederatedTraining
    NAMES = NAMES
    MOVED = len(CLIENT)
    # Mean and spread over those who may be sent off, mean over all, and five numbers more.
    SEEN = 3 * (len(CLIENT) - 1) + 5
    SPAN = 2.0

    def usual(self) -> FloatArray:
        """Return the shipped weights."""
        return usual_weights(self.problem.scenario)

    def _seen(self, observation: npt.NDArray[np.float32]) -> tuple[Fleet, FloatArray]:
        s = self.problem.scenario
        fleet = fleet_now(*self.problem.decode(observation), s)
        return fleet, features(fleet, s)

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return means and spreads of the features over the fleet, and the numbers of the server.

        The latter are accuracy, time, the shares of rows in use and of clients present, and the
        share of clients that are idle.
        """
        fleet, seen = self._seen(observation)
        clients = seen[..., 1 : len(CLIENT)]
        idle = fleet.idle[..., None].astype(np.float64)
        count = np.maximum(idle.sum(axis=-2), 1.0)
        mean = (clients * idle).sum(axis=-2) / count
        square = (np.square(clients - mean[..., None, :]) * idle).sum(axis=-2) / count
        begin = self.problem.columns * self.problem.scenario.clients
        server = observation[..., begin : begin + 4]
        parts = [
            mean,
            self.SPREAD_SCALE * np.sqrt(square),
            clients.mean(axis=-2),
            server,
            fleet.idle.mean(axis=-1, keepdims=True),
        ]
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the actions whose scores have the weights that the raw outputs name."""
        s = self.problem.scenario
        _, seen = self._seen(observation)
        score = score_of(seen, self.moved_weights(raw))
        return self.problem.encode(Decision(score=score, effort=full_effort(score, s)))


class FreeWeightsHead(WeightsHead):
    """The same, but at 0 all weights are 0: nothing is taken from the linear policy."""

    SPAN = 4.0

    def usual(self) -> FloatArray:
        """Return weights of 0."""
        return np.zeros(len(NAMES))
