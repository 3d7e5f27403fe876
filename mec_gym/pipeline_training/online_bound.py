r"""What no policy can expect while devices come and go: information relaxation [Brown2010].

**The bound.** Let the whole episode be known beforehand, but let knowing it be paid for: whoever
begins slot t with plan x pays V_t(x, fleet of t) - E[V_t(x, fleet of t) | all up to t - 1], where
V is any function. A policy that does not know the future has chosen x from what it saw up to
t - 1, so what it pays is 0 in expectation, and

    E[return of the policy] = E[return - paid] <= E[max over all plans of (return - paid)].

The maximum within is one over known numbers, which Viterbi's algorithm finds
(``exact.best_way``). It is over all plans, and every action stands for one of them
(``model.valid_plan``), so no policy is left out. The better V says what a plan is worth in a
fleet, the lower lies the bound; it is one with any V.

**The expectation.** In place of E[V | all up to t - 1] stands the mean over slots that are drawn
from just that law (:mod:`mec_gym.pipeline_training.next_slots`), independently of everything that
follows. So what is paid is still 0 in expectation for whoever has not seen these draws, and the
bound still holds; fewer draws only make it higher. "All up to t - 1" means all that nature knows,
mean stays included. Agents see a part of it, and choose by that part, so the bound holds for
them, too. It even holds for policies that are told all of it.

**V** is the loss that a plan has begun a slot with, against the best of all plans: what can be
earned from it at most, by staying or by moving to one of the fastest plans, where a pace counts
for the slots that it is likely to last.

**Luck** is how much an episode's clairvoyant bound is above the mean of it. That does not depend
on what is played, so its expectation is 0 for everybody. The maxima are taken over few episodes,
and what is left of their mean is the difference to these episodes' clairvoyant bounds, which
varies little from episode to episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.online import OnlineBound
from mec_gym.core.seeds import tuning_generator
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.pipeline_training.exact import best_way, episode_bound, plan_shares
from mec_gym.pipeline_training.model import NOWHERE, Outcome, lost_seconds, transfer_seconds
from mec_gym.pipeline_training.next_slots import next_slots
from mec_gym.pipeline_training.plans import all_plans, count_plans
from mec_gym.pipeline_training.scenario import Scenario, Slot

MOST_PLANS = 1024
"""With more plans there is no online bound, because computing it would take too long."""
LONGEST = 200
"""Nor is there for episodes of more slots."""
_EPISODES = 32
"""Episodes that the maximum is taken over."""
_DRAWS = 16
"""Slots that are drawn in the place of each one."""
_MEAN_OF = 2000
"""Episodes that the mean of the clairvoyant bound is taken over."""
_LASTS = 2.0
"""Slots that a pace counts for in V."""
_FASTEST = 4
"""Plans that V considers moving to."""


def has_online_bound(scenario: Scenario) -> bool:
    """Whether a scenario has an online bound: where there are not too many plans and slots.

    Args:
        scenario: The parameters.
    """
    plans = count_plans(scenario.blocks, scenario.devices)
    return plans <= MOST_PLANS and scenario.horizon <= LONGEST


def plan_worth(slots: Slot, scenario: Scenario, lasts: float) -> FloatArray:
    """Compute V: what is lost by beginning slots with each plan rather than with the best one.

    Args:
        slots: The slots, fields (N, ...).
        scenario: The parameters.
        lasts: The number of slots that a pace counts for, this one included.

    Returns:
        V in slots, (N, P + 1); the last plan is that of all blocks in the store. 0 where nobody is
        present.
    """
    plans = all_plans(scenario.blocks, scenario.devices)
    nowhere = np.full((1, scenario.blocks), NOWHERE)
    begun = np.concatenate([plans.place, nowhere])
    share = plan_shares(slots, scenario)
    worth = np.full((len(share), len(begun)), -np.inf)
    worth[:, :-1] = lasts * (share - 1.0)
    fastest = np.argsort(-share, axis=-1)[:, :_FASTEST]
    for plan, pace in zip(fastest.T, np.take_along_axis(share, fastest, axis=-1).T, strict=True):
        seconds = _moving_to(slots, plans.place[plan], begun, scenario)
        lost = lost_seconds(np.maximum(pace, 0.0)[:, None], seconds, scenario) / scenario.slot_s
        later = (lasts - 1.0) * (np.maximum(pace, 0.0) - 1.0)
        moved = np.where(np.isfinite(pace), later, -np.inf)[:, None] - lost
        np.maximum(worth, moved, out=worth)
    somebody = slots.present.any(axis=-1)
    worth[~somebody] = 0.0
    return np.asarray(worth - worth.max(axis=-1, keepdims=True))


def _moving_to(slots: Slot, plan: IntArray, begun: IntArray, scenario: Scenario) -> FloatArray:
    """The time for moving from each of X plans (X, L) to one plan per slot (N, L), (N, X) s."""
    count, blocks = plan.shape
    holders = np.append(np.arange(scenario.devices), NOWHERE)
    wide = arrays.map_arrays(lambda a: a[:, None], slots)
    everything = np.broadcast_to(holders[:, None], (count, len(holders), blocks))
    seconds = transfer_seconds(wide, everything, scenario)  # (N, M + 1, L, M)
    of_block = np.take_along_axis(seconds, plan[:, None, :, None], axis=-1)[..., 0]
    flat = np.swapaxes(of_block, 1, 2).reshape(count, -1)  # (N, L (M + 1))
    # NOWHERE counts from the end of a block's holders.
    at = np.arange(blocks) * len(holders) + begun % len(holders)
    mine = (plan[..., None] == np.arange(scenario.devices)).astype(np.float64)
    arrival = (flat[:, at] @ mine).max(axis=-1)
    return np.where(arrival > 0.0, arrival + scenario.restart_s, 0.0)


def surplus(slots: Slot, drawn: Slot, scenario: Scenario) -> FloatArray:
    """Compute what is paid in an episode, (T, P + 1).

    Args:
        slots: The episode, fields (T, ...).
        drawn: What might have followed, see ``next_slots``, fields (T - 1, K, ...).
        scenario: The parameters.
    """
    horizon = len(slots.present)
    paid = np.zeros((horizon, len(all_plans(scenario.blocks, scenario.devices).place) + 1))
    for t in range(1, horizon):
        fleets = arrays.map_arrays(
            lambda now, others: np.concatenate([now[None], others]),
            arrays.at(slots, t),
            arrays.at(drawn, t - 1),
        )
        worth = plan_worth(fleets, scenario, min(_LASTS, horizon - t))
        paid[t] = worth[0] - worth[1:].mean(axis=0)
    return paid


@dataclass(frozen=True, slots=True)
class _Easiness:
    """How much easier than usual episodes are, whatever is played."""

    scenario: Scenario
    usual: float

    def luck(self, trace: Slot, outcomes: Outcome) -> FloatArray:
        """The clairvoyant bound of each episode less its mean, (n,)."""
        return episode_bound(trace, self.scenario) - self.usual


@lru_cache(maxsize=4)
def online_bound(scenario: Scenario) -> OnlineBound | None:
    """The bound on the expected return of every policy that does not know the future.

    This module's docstring proves it.

    Args:
        scenario: The parameters.

    Returns:
        The bound; None where there are too many plans or slots.
    """
    if not has_online_bound(scenario):
        return None
    trace, hidden = scenario.draw(tuning_generator(1), _EPISODES)
    drawn = next_slots(trace, hidden, scenario, tuning_generator(2), _DRAWS)
    nowhere = np.full(scenario.blocks, NOWHERE)
    best = np.empty(_EPISODES)
    for i in range(_EPISODES):
        episode = arrays.at(trace, i)
        paid = surplus(episode, arrays.at(drawn, i), scenario)
        best[i], _ = best_way(episode, nowhere, scenario, paid)
    lower = best - episode_bound(trace, scenario)
    clairvoyant = episode_bound(scenario.sample(tuning_generator(3), _MEAN_OF), scenario)
    usual = float(clairvoyant.mean())
    variance = lower.var(ddof=1) / _EPISODES + clairvoyant.var(ddof=1) / _MEAN_OF
    return OnlineBound(
        mean=usual + float(lower.mean()),
        se=float(np.sqrt(variance)),
        luck=_Easiness(scenario, usual).luck,
    )
