"""Only the fastest clients take part; how many of them is tuned, and may follow the accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from agents.federated_training.fleet import fleet_now, rank, send
from agents.protocol import Solution
from agents.trials import best_setting
from mec_gym.core.types import FloatArray
from mec_gym.federated_training.model import State
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario, Slot

SHARES = (0.1, 0.3, 0.5, 0.7, 1.0)
ROWS = (0.3, 0.6, 1.0)


@dataclass(frozen=True, slots=True)
class Course:
    """A number that changes linearly with the accuracy of the model.

    Attributes:
        first: Its value at accuracy 0.
        last: Its value at accuracy 1.
    """

    first: float
    last: float

    def at(self, accuracy: FloatArray) -> FloatArray:
        """Return the value at some accuracies, (...)."""
        return np.asarray(self.first + (self.last - self.first) * accuracy)


@dataclass(frozen=True, slots=True)
class FastestShareSolver:
    """Sends off clients among the fastest ones that can be reached.

    FedCS [Nishio2019] asks clients how long they will take, and lets the fast ones take part. Here
    a client counts as fast if it is among the ``share`` of all that can be reached, those on their
    way included, whose jobs are expected to be done soonest. Of the fast ones that are idle, those
    go first that have been sent off least often, and then faster ones.

    Attributes:
        scenario: The parameters of the problem.
        share: The share of the clients that counts as fast.
        rows: The share of the m rows that is in use after the decision, if there are enough.
    """

    scenario: Scenario
    share: Course
    rows: Course

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        s = self.scenario
        fleet = fleet_now(slot, state, s)
        reached = fleet.idle | fleet.busy
        most = np.ceil(self.share.at(fleet.accuracy) * reached.sum(axis=-1) - 1e-9)
        place = rank(np.where(reached, fleet.seconds, np.inf))
        fast = place < np.maximum(most, 1)[..., None]
        rows = np.ceil(self.rows.at(fleet.accuracy) * s.at_once - 1e-9)
        order = fleet.taken + fleet.seconds / (fleet.seconds + s.compute_scale)
        return Solution(send(order, fleet.idle & fast, np.maximum(rows, 1) - fleet.flying, s), 0)


# A command asks twice of one problem: for this rule, and for the one that is scheduled.
@lru_cache(maxsize=4)
def tune_share(problem: FederatedTraining) -> tuple[float, float]:
    """Return the share of clients and the share of rows that do best on the tuning episodes.

    Args:
        problem: The problem that is played.
    """
    return best_setting(
        problem,
        list(product(SHARES, ROWS)),
        lambda pair: fixed_share(problem.scenario, *pair),
    )


def fixed_share(scenario: Scenario, share: float, rows: float) -> FastestShareSolver:
    """Return the rule with numbers that do not depend on the accuracy.

    Args:
        scenario: The parameters.
        share: The share of the clients that counts as fast.
        rows: The share of the rows that is used.
    """
    return FastestShareSolver(scenario, Course(share, share), Course(rows, rows))


@lru_cache(maxsize=4)
def tune_schedule(problem: FederatedTraining) -> tuple[Course, Course]:
    """Return the courses of both shares that do best on the tuning episodes.

    They are looked for around the fixed shares that do best, which are among those tried.

    Args:
        problem: The problem that is played.
    """
    share, rows = tune_share(problem)
    less, more = share / 2, min(2 * share, 1.0)
    shares = [Course(a, b) for a, b in ((share, share), (less, more), (share, more), (more, less))]
    fewer, most = rows / 2, min(2 * rows, 1.0)
    uses = [Course(a, b) for a, b in ((rows, rows), (fewer, most), (most, fewer))]
    return best_setting(
        problem,
        list(product(shares, uses)),
        lambda pair: FastestShareSolver(problem.scenario, *pair),
    )
