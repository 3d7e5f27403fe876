"""Five clients whose numbers are set by hand."""

import dataclasses

import numpy as np

from mec_gym.federated_training.model import NEVER
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario

# A job computes for 48e9 FLOP, receives 32 Mbit and sends 32 Mbit.
FIVE = Scenario(clients=5, at_once=3, quorum=2, hidden=4, decisions=20, budget_s=1e4, bin_s=1e4)
COMPUTING = np.array([40.0, 10.0, 30.0, 20.0, 50.0])
LINKING = np.array([10.0, 4.0, 10.0, 3.0, 6.0])
"""So that seconds are 50, 14, 40, 23, 56."""


def five(scenario=FIVE, **known):
    """A slot and a state of five clients, fields without batch axes.

    Fields of the state are given by name; ``absent`` names clients, and ``accuracy`` is that of
    every class.
    """
    absent = known.pop("absent", ())
    problem = FederatedTraining(scenario)
    slot = problem.sample(np.random.default_rng(0), 1)
    slot = type(slot)(**{f: getattr(slot, f)[0, 0] for f in type(slot).__dataclass_fields__})
    receiving = 0.25 * LINKING
    present = np.ones((5, 1), dtype=bool)
    present[list(absent)] = False
    slot = dataclasses.replace(
        slot,
        speed=48e9 / COMPUTING[:, None],
        downlink=32e6 / receiving,
        uplink=32e6 / (LINKING - receiving)[:, None],
        samples=np.array([10, 20, 30, 40, 50]),
        present=present,
    )
    state = problem.start(slot)
    accuracy = known.pop("accuracy", None)
    if accuracy is not None:
        known["recall"] = np.full(10, accuracy)
    state = dataclasses.replace(state, **{k: np.asarray(v) for k, v in known.items()})
    return slot, state


def goes(decision):
    """The clients with a score above 0, best ones first."""
    order = np.argsort(-decision.score, kind="stable")
    return [int(i) for i in order if decision.score[i] > 0]


__all__ = ["COMPUTING", "FIVE", "LINKING", "NEVER", "five", "goes"]
