"""TiFL: clients of like speed train together, and tiers that do badly are chosen more often."""

from __future__ import annotations

import numpy as np

from agents.federated_training.fleet import Fleet, fleet_now, rank, send
from agents.protocol import Solution
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.federated_training.model import State
from mec_gym.federated_training.scenario import Scenario, Slot

MOST_TIERS = 5
CREDIT = 1.5


class TierSolver:
    """Draws a tier of clients of like speed, and clients of that tier, as TiFL [Chai2020] does.

    Clients that can be reached are sorted into tiers of equal size by the time that their last
    update took, or by how long a job is expected to take if there was none. A tier whose accuracy
    is low is drawn more often (algorithm 2 of the paper), and every tier has credits that it uses
    up, the slower the fewer.

    Two things are read differently, as observations do not tell them. The paper tests the model on
    the images of each tier; here the mean of the losses that the tier's clients reported last
    stands for it. The paper gives out credits in advance; here a tier has none left while
    its share of all jobs is above ``CREDIT`` times the share that is due to it, which falls
    linearly from the fastest tier to the slowest.

    Args:
        scenario: The parameters of the problem.
        seed: Seeds the solver's own generator.
        tiers: The number of tiers; by default as many as leave each enough clients for all rows,
            at least 2 and at most 5.
    """

    def __init__(self, scenario: Scenario, seed: int = 0, tiers: int | None = None) -> None:
        self.scenario = scenario
        enough = min(max(scenario.clients // scenario.at_once, 2), MOST_TIERS)
        self.tiers = enough if tiers is None else tiers
        self.rng = np.random.default_rng(seed)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Draw one decision per slot of a batch, fields (...)."""
        s = self.scenario
        fleet = fleet_now(slot, state, s)
        duration = np.where(fleet.never, fleet.seconds, state.last_duration)
        reached = fleet.idle | fleet.busy
        place = rank(np.where(reached, duration, np.inf))
        tier = place * self.tiers // np.maximum(reached.sum(axis=-1, keepdims=True), 1)
        tier = np.where(reached, tier, self.tiers)
        members = tier[..., None, :] == np.arange(self.tiers)[:, None]  # (..., tiers, N)
        chances = tier_chances(fleet, members)
        # The logarithm of a chance plus a Gumbel number is largest with that chance.
        with np.errstate(divide="ignore"):
            drawn = (np.log(chances) + self.rng.gumbel(size=chances.shape)).argmax(axis=-1)
        allowed = fleet.idle & (tier == drawn[..., None])
        order = self.rng.random(fleet.idle.shape)
        return Solution(send(order, allowed, s.at_once - fleet.flying, s), 0)


def tier_chances(fleet: Fleet, members: BoolArray) -> FloatArray:
    """Return how likely each tier is drawn, (..., tiers).

    Of the tiers with credits and with somebody who is idle, the one with the highest loss gets the
    highest chance, and so on, linearly. If no such tier has credits, those without count, too. A
    tier that has not reported yet counts as the worst.

    Args:
        fleet: The clients.
        members: Who belongs to each tier, (..., tiers, N), the fastest tier first.
    """
    tiers = members.shape[-2]

    def total(values: FloatArray | BoolArray) -> FloatArray:
        return np.asarray((members * values[..., None, :]).sum(axis=-1), dtype=np.float64)

    known = total(~fleet.never)
    loss = np.where(known > 0, total(fleet.loss * ~fleet.never) / np.maximum(known, 1), np.inf)
    due = 2.0 * (tiers - np.arange(tiers)) / (tiers * (tiers + 1))
    jobs = total(fleet.taken)
    has_credit = jobs <= CREDIT * due * jobs.sum(axis=-1, keepdims=True)
    can_go = total(fleet.idle) > 0
    open_ = can_go & has_credit
    open_ = np.where(open_.any(axis=-1, keepdims=True), open_, can_go)
    place: IntArray = rank(np.where(open_, loss, -np.inf))
    weight = np.where(open_, place + 1 - (~open_).sum(axis=-1, keepdims=True), 0)
    return np.asarray(weight / np.maximum(weight.sum(axis=-1, keepdims=True), 1))
