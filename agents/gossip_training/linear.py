"""Scores of pairs that are linear in what is known of them, with weights that were searched for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agents.gossip_training.pairs import greedy, lots, pairs_of, talk
from agents.linear_policy import read_shipped
from agents.protocol import Solution
from mec_gym.core.scaling import squash
from mec_gym.core.types import FloatArray
from mec_gym.gossip_training.model import Decision, State, turn_of
from mec_gym.gossip_training.scenario import Scenario, Slot

SHIPPED = Path(__file__).parent / "linear_weights.json"
"""Weights that were found by ``python -m agents.gossip_training.search``, by scenario."""
PAIR = ("one", "waiting", "sending", "gap", "accuracy", "apart", "lot")
"""The features of a pair."""
ALL = ("one", "waiting", "accuracy", "spread", "late", "lot")
"""The features of all devices together, which say whether all average all."""
NAMES = (*(f"pair {name}" for name in PAIR), "partners", *(f"all {name}" for name in ALL))
"""The names of the weights, in order."""
MOST_PARTNERS = 3


def features(slot: Slot, state: State, scenario: Scenario) -> tuple[FloatArray, FloatArray]:
    """Return the features of every pair, (..., M, 7), and of all devices, (..., 6).

    All lie between 0 and 1, so that weights fit any number of devices. Lots look random, but depend
    on nothing but the number of the round.

    Args:
        slot: The slot, fields (...).
        state: The state, fields (...).
        scenario: The parameters.
    """
    s, pairs = scenario, pairs_of(scenario)
    trained = state.clock + slot.compute_s
    sending = np.maximum(state.uplink_free - trained, 0.0) + s.sent_bits / slot.rate
    usual_s = s.usual_s
    turn = turn_of(state, s)
    drawn = lots(turn, len(pairs.first) + 1)
    first, second = pairs.first, pairs.second
    accuracy = state.accuracy
    one = np.ones((*turn.shape, len(first)))
    pair = [
        one,
        squash(np.abs(trained[..., first] - trained[..., second]), usual_s),
        squash(sending[..., first] + sending[..., second], 2.0 * s.sent_bits / s.rate),
        np.abs(accuracy[..., first] - accuracy[..., second]),
        0.5 * (accuracy[..., first] + accuracy[..., second]),
        slot.apart[..., first, second],
        drawn[..., 1:],
    ]
    waiting = (trained.max(axis=-1, keepdims=True) - trained).mean(axis=-1)
    together = [
        one[..., 0],
        squash(waiting, usual_s),
        accuracy.mean(axis=-1),
        2.0 * accuracy.std(axis=-1),
        np.minimum(state.clock.mean(axis=-1) / s.budget_s, 1.0),
        drawn[..., 0],
    ]
    return np.stack(pair, axis=-1), np.stack(together, axis=-1)


def decide(
    seen: tuple[FloatArray, FloatArray], weights: FloatArray, scenario: Scenario
) -> Decision:
    """Decide by weighted sums of features.

    All average all if their weighted sum is above 0. Else pairs are chosen greedily as long as
    their sum is above 0, to which the partners add that the two already have.

    Args:
        seen: What :func:`features` returned.
        weights: The weights, (..., weights).
        scenario: The parameters.
    """
    pair, together = seen
    begin, end = len(PAIR), len(PAIR) + 1
    score = (pair * weights[..., None, :begin]).sum(axis=-1)
    reduce = (together * weights[..., end:]).sum(axis=-1) > 0
    partners = np.broadcast_to(weights[..., begin], score.shape[:-1])
    chosen = greedy(score, scenario, MOST_PARTNERS, partners)
    return talk(chosen, scenario, reduce=np.asarray(reduce))


@dataclass(frozen=True, slots=True)
class LinearSolver:
    """Decides by weighted sums of features.

    Attributes:
        scenario: The parameters of the problem.
        weights: One number per name in ``NAMES``; with leading axes, one policy per batch entry.
    """

    scenario: Scenario
    weights: npt.NDArray[np.float64] = field(repr=False)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        seen = features(slot, state, self.scenario)
        return Solution(decide(seen, self.weights, self.scenario), 0)


@cache
def shipped_weights(name: str) -> FloatArray:
    """Return the weights that were searched for on a preset.

    Args:
        name: The name of the preset.
    """
    return read_shipped(SHIPPED, name, NAMES)


def usual_weights(scenario: Scenario) -> FloatArray:
    """Return the shipped weights that suit a scenario.

    Where devices differ in speed, they are those of ``unequal``; else those of ``complete`` or of
    ``ring``, by whether everybody may listen to everybody.

    Args:
        scenario: The parameters.
    """
    if scenario.speed_spread > 0:
        return shipped_weights("unequal")
    return shipped_weights("complete" if scenario.graph == "complete" else "ring")


def linear_solver(scenario: Scenario) -> LinearSolver:
    """Return the linear policy for a scenario, with the shipped weights.

    Args:
        scenario: The parameters.
    """
    return LinearSolver(scenario, usual_weights(scenario))
