"""What has happened in an episode of gossip training so far, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mec_gym.core.problem import Episode
from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.gossip_training.model import Decision, Outcome, State
from mec_gym.gossip_training.scenario import Scenario, Slot

History = Episode[Slot, State, Decision, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What has happened so far, in K rounds of N devices with E edges."""

    clock: FloatArray  # (K + 1, N) s, before and after each round; it may pass the budget
    accuracy: FloatArray  # (K + 1, N) likewise; 0 for models that have diverged
    trained: FloatArray  # (K, N) s, when each had trained; its clock if it was out
    active: BoolArray  # (K, N) whether it took part
    reduce: BoolArray  # (K,) whether all averaged all
    heard: BoolArray  # (K, E) which edges were used

    @property
    def rounds(self) -> int:
        """The number of rounds, K."""
        return len(self.reduce)

    @property
    def training_s(self) -> FloatArray:
        """The time that devices trained, all together, (K,) s."""
        return np.asarray((self.trained - self.clock[:-1]).sum(axis=-1))

    @property
    def waiting_s(self) -> FloatArray:
        """The time that devices waited for models of others, all together, (K,) s."""
        return np.asarray((self.clock[1:] - self.trained).sum(axis=-1))


def past(scenario: Scenario, episode: History) -> Past:
    """Return what has happened so far.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...) or (1, ...), fields of the other records ().
    """
    s, rounds = scenario, len(episode.outcomes)
    clock = np.array([state.clock for state in episode.states]).reshape(-1, s.devices)
    accuracy = np.array([state.accuracy for state in episode.states]).reshape(-1, s.devices)
    if episode.outcomes and episode.outcomes[-1].diverged:
        accuracy[-1] = 0.0
    compute = np.asarray(episode.trace.compute_s)[:rounds].reshape(-1, s.devices)
    active = clock[:-1] < s.budget_s
    reduce = np.array([bool(d.reduce) for d in episode.decisions], dtype=np.bool_)
    asked = np.array([d.listen for d in episode.decisions], dtype=np.bool_)
    asked = asked.reshape(rounds, len(s.edges))
    listener, speaker = s.edges.T
    return Past(
        clock=clock,
        accuracy=accuracy,
        trained=clock[:-1] + np.where(active, compute, 0.0),
        active=active,
        reduce=reduce,
        heard=asked & active[:, listener] & active[:, speaker] & ~reduce[:, None],
    )
