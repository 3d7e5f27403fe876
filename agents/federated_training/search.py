"""Search for the weights of the linear policy, for one scenario.

    python -m agents.federated_training.search --scenario semi-async --out weights.json

See :mod:`agents.weight_search`.
"""

from __future__ import annotations

import sys

from agents.federated_training.linear import NAMES, LinearSolver
from agents.linear_policy import LinearPolicy
from agents.weight_search import main

POLICY = LinearPolicy(
    environment="mec/FederatedTraining-v0",
    command="python -m agents.federated_training.search",
    usual_scenario="semi-async",
    names=NAMES,
    # Fast clients come first, unless others have more to say.
    begin={
        "one": 1.5,
        "computing": -1.0,
        "linking": -1.0,
        "samples": 1.0,
        "loss": 2.0,
        "age": 2.0,
        "taken": -2.0,
    },
    solver=lambda problem, weights: LinearSolver(problem.scenario, weights),
)

if __name__ == "__main__":
    sys.exit(main(POLICY))
