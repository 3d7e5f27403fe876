"""The head for federated training: a network weighs what is known of clients, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.federated_training.fleet import Fleet, fleet_now, full_effort
from agents.federated_training.linear import (
    CLIENT,
    NAMES,
    features,
    score_of,
    usual_weights,
)
from agents.linear_policy import check_weights
from mec_gym.core.types import FloatArray
from mec_gym.federated_training.model import Decision
from mec_gym.federated_training.problem import FederatedTraining

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker


class WeightsHead:
    """The network names the weights of a score that is linear in what is known of a client.

    The score of a client is theta . f, with the features f of
    :func:`~agents.federated_training.linear.features`. Raw outputs lie in [-1, 1], and ``SPAN``
    times them is added to the weights of the linear policy. At 0 the decision is that of the
    linear policy, so the network learns when to deviate from it. All clients are weighed alike,
    and the network sees means and spreads over the fleet, so it plays fleets of any size.

    Args:
        problem: The problem that is played.
        weights: The weights to begin from, by name; without any, the shipped ones.
    """

    device_columns = 0
    networks: Mapping[str, NetworkMaker] = {}
    SPAN = 2.0
    SPREAD_SCALE = 2.0  # a number between 0 and 1 has a standard deviation of at most 0.5

    def __init__(self, problem: FederatedTraining, **weights: float) -> None:
        self.problem = problem
        self.weights = check_weights(weights, NAMES) if weights else self._usual()
        # Mean and spread over those who may be sent off, mean over all, and five numbers more.
        size = 3 * (len(CLIENT) - 1) + 5
        self.input_space: spaces.Space[Any] = spaces.Box(0.0, 1.0, (size,), np.float32)
        self.output_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (len(CLIENT),), np.float32)

    def _usual(self) -> FloatArray:
        return usual_weights(self.problem.scenario)

    def parameters(self) -> dict[str, float]:
        """Return the weights to begin from, by name."""
        return dict(zip(NAMES, self.weights.tolist(), strict=True))

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
        raw = np.clip(np.asarray(raw, dtype=np.float64), -1.0, 1.0)
        weights = np.broadcast_to(self.weights, (*raw.shape[:-1], len(NAMES))).copy()
        weights[..., : len(CLIENT)] += self.SPAN * raw
        score = score_of(seen, weights)
        return self.problem.encode(Decision(score=score, effort=full_effort(score, s)))

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return 0: whatever a policy earns depends on what has been learnt before."""
        return np.zeros(observation.shape[:-1])


class FreeWeightsHead(WeightsHead):
    """The same, but at 0 all weights are 0: nothing is taken from the linear policy."""

    SPAN = 4.0

    def _usual(self) -> FloatArray:
        return np.zeros(len(NAMES))
