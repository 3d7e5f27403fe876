"""Rounds per second of the native vector under two policies, and what a reset takes."""

from __future__ import annotations

import numpy as np

from agents.gossip_training.pairs import talk, turns_of
from benchmarks.measure import Report
from benchmarks.real_learning import BATCHES, measure_steps
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario


def measure(seconds: float, repeats: int) -> Report:
    """Measure 16 equal devices that all may listen to all, 5 minibatches of 16 images each.

    Partners change in turn, or all average all in every round.

    Args:
        seconds: Wall time that one measurement takes at least.
        repeats: Measurements of each side.
    """
    problem = GossipTraining(Scenario(graph="complete"))
    turns = turns_of(problem.scenario)
    chosen = turns == np.arange(turns.max() + 1)[:, None]
    pairs = problem.encode(talk(chosen, problem.scenario))
    everybody = np.zeros_like(pairs)
    everybody[:, 0] = 1
    sides = {
        name: (problem, {batch: np.repeat(one[:, None], batch, axis=1) for batch in BATCHES})
        for name, one in (("rotating partners", pairs), ("all-reduce", everybody))
    }
    return measure_steps("Gossip training", sides, seconds, repeats)
