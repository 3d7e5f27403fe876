"""Steps per second of the native vector under three protocols, and what a reset takes."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Report
from benchmarks.real_learning import BATCHES, measure_steps
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario

CLIENTS = 50
PROTOCOLS = {
    "synchronous, 10 updates": Scenario(clients=CLIENTS, quorum=10, late="drop"),
    "semi-asynchronous, 3 updates": Scenario(clients=CLIENTS, quorum=3),
    "asynchronous, 1 update": Scenario(clients=CLIENTS, quorum=1),
}
ACTION_SETS = 16


def measure(seconds: float, repeats: int) -> Report:
    """Measure random selection among 50 clients, 10 at once, 10 minibatches of 16 images each.

    Args:
        seconds: Wall time that one measurement takes at least.
        repeats: Measurements of each side.
    """
    rng = np.random.default_rng(0)
    actions = {
        batch: rng.random((ACTION_SETS, batch, CLIENTS), dtype=np.float32) for batch in BATCHES
    }
    sides = {name: (FederatedTraining(scenario), actions) for name, scenario in PROTOCOLS.items()}
    return measure_steps("Federated training", sides, seconds, repeats)
