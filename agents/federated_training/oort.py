"""Oort: clients from whom much is to be learnt, unless they take too long."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from agents.federated_training.fleet import Fleet, fleet_now, rank, send
from agents.protocol import Solution
from agents.trials import best_setting
from mec_gym.core.types import FloatArray
from mec_gym.federated_training.model import State
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario, Slot

QUANTILES, PENALTIES, ROWS = (0.1, 0.3, 0.6), (0.5, 2.0), (0.4, 1.0)
EXPLORATION, DECAY, LEAST = 0.9, 0.98, 0.2
CLIP = 0.95


@dataclass(frozen=True, slots=True)
class OortSolver:
    """Sends off the clients of highest utility, and some that it does not know yet [Lai2021].

    The share of free rows that goes to unknown clients begins at 0.9, is multiplied by 0.98 per
    decision, and stays at 0.2; faster ones of them go first. The paper draws those that exploit
    among the ones near the best; here the best go, so that the rule draws nothing.

    Attributes:
        scenario: The parameters of the problem.
        quantile: The preferred time of a job, T, as a quantile of the times that are expected of
            those who can be reached.
        penalty: The power by which slower clients count less, alpha.
        rows: The share of the m rows that is in use after the decision.
    """

    scenario: Scenario
    quantile: float
    penalty: float
    rows: float

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        s = self.scenario
        fleet = fleet_now(slot, state, s)
        wanted = max(1, int(np.ceil(self.rows * s.at_once - 1e-9))) - fleet.flying
        unknown, known = fleet.idle & fleet.never, fleet.idle & ~fleet.never
        share = np.maximum(EXPLORATION * DECAY**fleet.decided, LEAST)
        explores = np.ceil(share * np.maximum(wanted, 0) - 1e-9)
        speed_place = rank(np.where(unknown, fleet.seconds, np.inf))
        worth = utilities(fleet, self.quantile, self.penalty)
        worth_place = rank(np.where(known, -worth, np.inf))
        # First those that explore, then those that exploit; whoever is left over fills the rest.
        clients = s.clients
        order = np.where(
            unknown,
            np.where(speed_place < explores[..., None], 0, 2 * clients) + speed_place,
            clients + worth_place,
        )
        return Solution(send(order.astype(np.float64), fleet.idle, wanted, s), 0)


def utilities(fleet: Fleet, quantile: float, penalty: float) -> FloatArray:
    """Return the utility of every client, (..., N); it means nothing where one is not known.

    [Lai2021] eq. (2) and algorithm 1: n_i times the root mean square of the losses, clipped at
    the 95 % quantile over the known clients; plus sqrt(0.1 log R / L), R being the number of this
    round and L that of the round that saw the client last; times (T / t)^alpha where the job
    takes longer than T. As in the authors' code, the utility is divided by the largest one before
    the second term is added, so that the two are of one scale. Decisions count as rounds.

    Args:
        fleet: The clients.
        quantile: The preferred time of a job as a quantile, for T.
        penalty: The power alpha.
    """
    known = ~fleet.never
    statistical = np.where(known, fleet.samples * fleet.loss, 0.0)
    limit = _quantile(statistical, known, CLIP)
    statistical = np.minimum(statistical, limit) / np.maximum(limit, 1e-12)
    round_ = fleet.decided[..., None] + 1.0
    last = np.maximum(round_ - fleet.age, 1.0)
    worth = statistical + np.sqrt(0.1 * np.log(round_) / last)
    preferred = _quantile(fleet.seconds, fleet.idle | fleet.busy, quantile)
    return np.asarray(worth * np.minimum(preferred / fleet.seconds, 1.0) ** penalty)


def _quantile(values: FloatArray, of: np.ndarray, share: float) -> FloatArray:
    """The least value, (..., 1), that a share of those of whom ``of`` holds do not exceed."""
    ordered = np.sort(np.where(of, values, np.inf), axis=-1)
    last = np.maximum(np.ceil(share * of.sum(axis=-1)) - 1, 0).astype(np.int64)
    found = np.take_along_axis(ordered, last[..., None], axis=-1)
    return np.where(np.isfinite(found), found, 0.0)


@lru_cache(maxsize=4)
def tune_oort(problem: FederatedTraining) -> tuple[float, float, float]:
    """Return quantile, penalty and share of rows that do best on the tuning episodes.

    Args:
        problem: The problem that is played.
    """
    return best_setting(
        problem,
        list(product(QUANTILES, PENALTIES, ROWS)),
        lambda given: OortSolver(problem.scenario, *given),
    )
