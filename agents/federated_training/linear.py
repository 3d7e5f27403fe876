"""A score that is linear in what is known of a client, with weights that were searched for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agents.federated_training.fleet import Fleet, fleet_now, full_effort
from agents.linear_policy import read_shipped
from agents.protocol import Solution
from mec_gym.core.scaling import squash
from mec_gym.core.types import FloatArray
from mec_gym.federated_training.model import Decision, State
from mec_gym.federated_training.problem import MOST_AGE, MOST_LOSS
from mec_gym.federated_training.scenario import Scenario, Slot

SHIPPED = Path(__file__).parent / "linear_weights.json"
"""Weights that were found by ``python -m agents.federated_training.search``, by scenario."""
CLIENT = ("one", "computing", "linking", "samples", "loss", "never", "age", "taken")
"""The features of a client, each between 0 and 1."""
NAMES = (*CLIENT, *(f"accuracy * {name}" for name in CLIENT), "in flight")
"""The names of the weights, in order."""


def features(fleet: Fleet, scenario: Scenario) -> FloatArray:
    """Return the features of every client, (..., N, weights), as ``NAMES`` orders them.

    Times, samples and how often a client was taken are x / (x + the usual value), so that weights
    fit fleets of any size.

    Args:
        fleet: The clients.
        scenario: The parameters.
    """
    s = scenario
    client = np.stack(
        [
            np.ones(fleet.samples.shape),
            squash(fleet.computing_s, s.compute_scale),
            squash(fleet.linking_s, s.link_scale),
            squash(fleet.samples, s.usual_samples),
            np.minimum(fleet.loss / MOST_LOSS, 1.0),
            fleet.never.astype(np.float64),
            np.where(fleet.never, 1.0, np.minimum(fleet.age / MOST_AGE, 1.0)),
            fleet.taken / (fleet.taken + fleet.taken.mean(axis=-1, keepdims=True) + 1.0),
        ],
        axis=-1,
    )
    flying = np.broadcast_to((fleet.flying / s.at_once)[..., None, None], (*client.shape[:-1], 1))
    accuracy = fleet.accuracy[..., None, None]
    return np.concatenate([client, accuracy * client, flying], axis=-1)


def score_of(seen: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted sum x of features as a score x / (1 + |x|), (..., N), in (-1, 1).

    Args:
        seen: The features, (..., N, weights).
        weights: The weights, (..., weights).
    """
    total = (seen * weights[..., None, :]).sum(axis=-1)
    return np.asarray(total / (1.0 + np.abs(total)))


@dataclass(frozen=True, slots=True)
class LinearSolver:
    """Sends off the clients whose weighted sum of features is above 0, the best ones first.

    Attributes:
        scenario: The parameters of the problem.
        weights: One number per name in ``NAMES``; with leading axes, one policy per batch entry.
    """

    scenario: Scenario
    weights: npt.NDArray[np.float64] = field(repr=False)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        seen = features(fleet_now(slot, state, self.scenario), self.scenario)
        score = score_of(seen, self.weights)
        return Solution(Decision(score=score, effort=full_effort(score, self.scenario)), 0)


@cache
def shipped_weights(name: str) -> FloatArray:
    """Return the weights that were searched for on a preset.

    Args:
        name: The name of the preset, ``semi-async`` or ``sync``.
    """
    return read_shipped(SHIPPED, name, NAMES)


def usual_weights(scenario: Scenario) -> FloatArray:
    """Return the shipped weights that suit a scenario.

    Where late clients are dropped, they are those of ``sync``, elsewhere those of ``semi-async``.

    Args:
        scenario: The parameters.
    """
    return shipped_weights("sync" if scenario.late == "drop" else "semi-async")


def linear_solver(scenario: Scenario) -> LinearSolver:
    """Return the linear policy for a scenario, with the shipped weights.

    Args:
        scenario: The parameters.
    """
    return LinearSolver(scenario, usual_weights(scenario))
