"""Search for the weights of the linear policy, for one scenario.

    python -m agents.gossip_training.search --scenario ring --out weights.json

See :mod:`agents.weight_search`.
"""

from __future__ import annotations

import sys

from agents.gossip_training.linear import NAMES, LinearSolver
from agents.linear_policy import LinearPolicy
from agents.weight_search import main

POLICY = LinearPolicy(
    environment="mec/GossipTraining-v0",
    command="python -m agents.gossip_training.search",
    usual_scenario="ring",
    names=NAMES,
    # One partner each, by lot, and all together now and then.
    begin={
        "pair one": 1.0,
        "pair waiting": -0.5,
        "pair lot": 1.0,
        "partners": -1.0,
        "all one": -0.5,
        "all waiting": -0.5,
        "all lot": 0.8,
    },
    solver=lambda problem, weights: LinearSolver(problem.scenario, weights),
)

if __name__ == "__main__":
    sys.exit(main(POLICY))
