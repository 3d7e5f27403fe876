"""Rules that weigh moving against what it brings, and are tuned for it.

All of them look at the pace of every plan in the slot at hand, which no decision changes. So
several of them, or one with several parameters, share what is computed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from agents.pipeline_training.rules import best_plans
from agents.protocol import Solution
from mec_gym.core import arrays
from mec_gym.core.seeds import tuning_episodes
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.pipeline_training.clock import minibatch_seconds
from mec_gym.pipeline_training.exact import plan_moving, plan_shares
from mec_gym.pipeline_training.model import (
    Decision,
    State,
    lost_seconds,
    pace,
    stage_times,
    stages_of,
    valid_plan,
)
from mec_gym.pipeline_training.plans import all_plans
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import Scenario, Slot

MARGINS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3)
HORIZONS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 12.0)
RISKS = (0.0, 0.5, 1.0, 2.0, 4.0)


class Chooser(Protocol):
    """A rule that is told the pace of every plan."""

    def choose(self, slot: Slot, state: State, shares: FloatArray) -> IntArray:
        """Return the plans, (..., L).

        Args:
            slot: The slots, fields (...).
            state: The states, fields (...).
            shares: The pace of every plan, (..., P), as ``plan_shares`` computes it.
        """
        ...


@dataclass(frozen=True, slots=True)
class HysteresisSolver:
    """Keeps its plan until another one is faster by a margin.

    Attributes:
        scenario: The parameters of the problem.
        margin: The difference of the paces, as shares of that of perfect sharing, from which on
            the fastest plan is taken.
    """

    scenario: Scenario
    margin: float

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        shares = plan_shares(slot, self.scenario)
        return Solution(Decision(place=self.choose(slot, state, shares)), shares.shape[-1] + 1)

    def choose(self, slot: Slot, state: State, shares: FloatArray) -> IntArray:
        """Return the plans, (..., L)."""
        s = self.scenario
        kept = valid_plan(slot.present, slot.speed, state.place)
        times, _ = stage_times(stages_of(kept, min(s.devices, s.blocks)), slot, s)
        seconds = minibatch_seconds(times, s.microbatches, s.schedule)
        # With nobody present there is no plan to change to, whatever the numbers are.
        share = pace(slot, np.where(seconds > 0, seconds, 1.0), s)
        changes = shares.max(axis=-1) > share + self.margin
        return np.where(changes[..., None], best_plans(shares, s), kept)


def departure_rate(slot: Slot, scenario: Scenario) -> FloatArray:
    """Estimate the probability that each device has left in the next slot, (..., M).

    It is the mean of a gamma distribution whose prior has seen one departure in a usual stay,
    the middle of ``scenario.stay`` on a logarithmic scale. Where departures are announced, a
    device that leaves in k slots has 1 / k, and one that stays longer than the notice has 0.

    Args:
        slot: The slots, fields (...).
        scenario: The parameters.
    """
    if scenario.notice:
        announced = slot.present & (slot.leaves <= scenario.notice)
        return np.where(announced, 1.0 / np.maximum(slot.leaves, 1.0), 0.0)
    if scenario.stay is None:
        return np.zeros(slot.present.shape)
    usual = float(np.sqrt(scenario.stay[0] * scenario.stay[1]))
    return np.asarray((slot.departures + 1.0) / (slot.seen + usual))


def departure_losses(scenario: Scenario) -> FloatArray:
    """Compute what each plan loses if a device leaves, (P, M) slots.

    The device's blocks have to come from the store, at its median rate, and the pipeline starts
    again. 0 where the plan does not use the device.

    Args:
        scenario: The parameters.
    """
    plans = all_plans(scenario.blocks, scenario.devices)
    mine = plans.place[..., None] == np.arange(scenario.devices)
    bits = scenario.state_copies * (mine * scenario.chain.weights[:, None]).sum(axis=-2)
    return np.asarray((bits / scenario.store + plans.uses * scenario.restart_s) / scenario.slot_s)


def plan_values(
    slot: Slot,
    state: State,
    shares: FloatArray,
    scenario: Scenario,
    horizon: npt.ArrayLike,
    leaving: FloatArray,
) -> FloatArray:
    """Compute what every plan is worth if the fleet stays as it is for some slots.

    Args:
        slot: The slots, fields (...).
        state: The states, fields (...).
        shares: The pace of every plan, (..., P).
        scenario: The parameters.
        horizon: The number of slots, (...), not necessarily whole.
        leaving: How often each device is taken to leave in that time, (..., M).

    Returns:
        The values, (..., P) slots; -inf for plans with devices that are absent.
    """
    moving_s = plan_moving(slot, state.place, scenario)
    share = np.maximum(shares, 0.0)
    values = (np.asarray(horizon)[..., None] - 1.0) * (share - 1.0)
    values -= lost_seconds(share, moving_s, scenario) / scenario.slot_s
    values -= leaving @ departure_losses(scenario).T
    return np.where(np.isfinite(shares), values, -np.inf)


@dataclass(frozen=True, slots=True)
class PatienceSolver:
    """Takes the plan that is worth most if the fleet stays as it is for some slots.

    Attributes:
        scenario: The parameters of the problem.
        horizon: The number of slots for which the fleet is taken to stay as it is. With 1 only
            the slot at hand counts, and with ever more of them moving matters ever less.
        risk: The number of slots in which a device may leave; it is multiplied by
            :func:`departure_rate`. With 0 nobody is expected to leave.
    """

    scenario: Scenario
    horizon: float
    risk: float

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        shares = plan_shares(slot, self.scenario)
        return Solution(Decision(place=self.choose(slot, state, shares)), shares.shape[-1])

    def choose(self, slot: Slot, state: State, shares: FloatArray) -> IntArray:
        """Return the plans, (..., L)."""
        s = self.scenario
        leaving = self.risk * departure_rate(slot, s)
        left = np.clip(state.slots_left, 1.0, self.horizon)
        return best_plans(plan_values(slot, state, shares, s, left, leaving), s)


# A run asks twice of one problem: for its head, and for the rule beside it.
@lru_cache(maxsize=4)
def tune_margin(problem: PipelineTraining, episodes: int = 48) -> float:
    """Return the margin of hysteresis that does best on average over episodes of their own.

    Args:
        problem: The problem that is played.
        episodes: The number of episodes that every margin is tried on.
    """
    return _best(problem, MARGINS, lambda m: HysteresisSolver(problem.scenario, m), episodes)


@lru_cache(maxsize=4)
def tune_patience(problem: PipelineTraining, episodes: int = 48) -> tuple[float, float]:
    """Return the horizon and the risk that do best on average over episodes of their own.

    Args:
        problem: The problem that is played.
        episodes: The number of episodes that every pair is tried on.
    """
    pairs = list(product(HORIZONS, RISKS))
    return _best(problem, pairs, lambda pair: PatienceSolver(problem.scenario, *pair), episodes)


T = TypeVar("T")


def _best(
    problem: PipelineTraining, tried: Sequence[T], make: Callable[[T], Chooser], episodes: int
) -> T:
    """Return the parameter with which a rule returns most on the tuning episodes."""
    trace = tuning_episodes(problem, episodes)
    rules = [make(parameter) for parameter in tried]
    states = [problem.start(arrays.slot_at(trace, 0)) for _ in rules]
    returns = np.zeros(len(rules))
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        shares = plan_shares(slot, problem.scenario)
        for i, rule in enumerate(rules):
            decision = Decision(place=rule.choose(slot, states[i], shares))
            states[i], outcome = problem.step(slot, states[i], decision)
            returns[i] += problem.reward(outcome).mean()
    return tried[int(returns.argmax())]
