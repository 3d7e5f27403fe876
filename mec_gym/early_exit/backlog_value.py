r"""What is lost when frames find work in the device's queue: a value of its backlog.

The value is that of the relaxed problem of :func:`mec_gym.early_exit.exact.episode_bound` in which
frames wait for the device alone, for those who do not know the future. A stochastic dynamic
program finds it:

    V_m(c, q) = E[ max over decisions of M_{m-1}(c, left - I) - cost(c, q, decision) ],

where M_m(c, q) is the mean of V_m(c', q) over the conditions c' of the next frame, M_0 = 0,
``left`` is the work that the decision leaves to the device, and I the time until the next frame.
Conditions are network, rates and loads. They are represented by slots that are drawn from
episodes of their own, whose steps from one to another are counted there. Energy has one price.
The value is an approximation, then, and nothing that is proved with it relies on how good it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.seeds import tuning_generator
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.early_exit import model
from mec_gym.early_exit.exact import Levels, all_decisions
from mec_gym.early_exit.scenario import Scenario, Slot

LEVELS = 64
"""The levels of backlog that values are computed at."""
_CONDITIONS = 160
"""Slots that stand for all conditions."""
_BACKLOG_PRICES = (0.0, 1.0, 3.0, 6.0, 10.0, 20.0, 40.0)
"""Decisions that are best at one of these prices of a second of backlog are looked at."""
_EPISODES = 300
"""Episodes in which steps from one condition to another are counted."""
_DEADLINES = 16
"""Deadlines that a frame of the program may have."""


class Arrival:
    """What a value of the backlog is expected to be when the next frame comes.

    The time I until then is exponentially distributed, and backlogs are rounded down to levels.
    So with levels g_0 = 0 < g_1 < ... and increments d_j = V(g_j) - V(g_{j-1}),

        E[V(left - I)] = V(0) + sum over g_j <= left of d_j (1 - exp(-rate (left - g_j))).

    Args:
        left: The work that is left to the device, (n, ...) s.
        rate: The rate at which frames arrive, (n,) frames/s.
        levels: The levels of backlog.
    """

    def __init__(self, left: FloatArray, rate: FloatArray, levels: Levels) -> None:
        left = np.maximum(left, 0.0)
        place = levels.below(left)
        shape = (-1, *(1,) * (left.ndim - 1))
        self._at = np.arange(len(left)).reshape(shape) * len(levels.seconds) + place
        self._still = np.exp(-rate.reshape(shape) * (left - levels.seconds[place]))

    def expected(self, value: FloatArray, lag: FloatArray) -> FloatArray:
        """The expectation of a value (n, L) whose :func:`lag` is (n, L), (n, ...)."""
        return np.asarray(value.take(self._at) - self._still * lag.take(self._at))


def lag(value: FloatArray, rate: FloatArray, levels: Levels) -> FloatArray:
    """By how much a value is higher at each level than it is expected to be, (..., L).

    Args:
        value: The value at each level, (..., L).
        rate: The rate at which frames arrive, (...) frames/s.
        levels: The levels of backlog.
    """
    steps = np.diff(value, axis=-1)
    still = np.exp(-np.asarray(rate)[..., None] * np.diff(levels.seconds))
    found = np.zeros(np.shape(value))
    for j in range(steps.shape[-1]):
        found[..., j + 1] = found[..., j] * still[..., j] + steps[..., j]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """What the frames after a frame are expected to earn, at each level that it meets."""

    working: FloatArray  # (n, W, L) after each decision with work on the device
    idle: FloatArray  # (n, L) after any other


class Frame:
    """The decisions on a frame that meets given conditions, in the relaxed problem.

    The bandwidth is taken to stay as it is. Only some decisions are looked at.

    Args:
        slot: The conditions, fields (n,).
        scenario: The parameters.
        price: The price of a joule, 1/J.
        kept: Which of all decisions are looked at, (A,).
        levels: The levels of backlog.
    """

    def __init__(
        self, slot: Slot, scenario: Scenario, price: float, kept: BoolArray, levels: Levels
    ) -> None:
        decisions = arrays.at(all_decisions(scenario), np.flatnonzero(kept))
        cost = scenario.table.cost[decisions.exit, decisions.partition]
        slot = arrays.map_arrays(lambda a: a[:, None], replace(slot, uplink=slot.arrival))
        link, trip = cost[:, 1] / slot.bandwidth, model.round_trip_times(cost, slot)
        energy = model.energy(cost, link, trip, slot, scenario)
        own = cost[:, 0] / slot.device_speed
        rest = link + trip + cost[:, 2] / slot.edge_speed
        wrong = scenario.accuracy_weight * (1.0 - scenario.accuracy[decisions.exit])
        fixed = wrong + (scenario.energy_weight + price) * energy
        waits = cost[:, 0] > 0
        self._own, self._rest, self._fixed = own[:, waits], rest[:, waits], fixed[:, waits]
        self._idle_s, self._idle_fixed = rest[:, ~waits], fixed[:, ~waits]
        self._scenario, self._levels, self._rate = scenario, levels, slot.arrival_rate[:, 0]
        left = np.broadcast_to(levels.seconds, (len(own), len(levels.seconds)))
        self._working = Arrival(self._own[..., None] + levels.seconds, self._rate, levels)
        self._idle = Arrival(left, self._rate, levels)

    def follow(self, value: FloatArray) -> Followers:
        """What the frames that follow are expected to earn.

        Args:
            value: That at each level of backlog that the next frame meets, (n, L).
        """
        behind = lag(value, self._rate, self._levels)
        return Followers(
            working=self._working.expected(value, behind), idle=self._idle.expected(value, behind)
        )

    def best(self, after: Followers, deadline: FloatArray, priority: FloatArray) -> FloatArray:
        """The most that the frame earns with those that follow, at each level of backlog, (n, L).

        Args:
            after: What those that follow earn.
            deadline: Its deadline, (n,) s.
            priority: Its priority, (n,).
        """
        late, timeout = deadline[:, None], self._scenario.timeout_s
        per_second = self._scenario.latency_weight * priority[:, None] / late
        miss = self._scenario.miss_weight * priority[:, None]
        cost = self._idle_fixed + per_second * self._idle_s + miss * (self._idle_s > late)
        cost[self._idle_s > timeout] = np.inf
        drop = self._scenario.accuracy_weight + per_second * timeout + miss
        best = after.idle - np.minimum(cost.min(axis=1, keepdims=True, initial=np.inf), drop)
        # Each decision at a time, so that the numbers stay in the cache.
        for w in range(self._own.shape[1]):
            latency = (self._own + self._rest)[:, w, None] + self._levels.seconds
            earned = after.working[:, w] - self._fixed[:, w, None] - per_second * latency
            earned -= miss * (latency > late)
            earned[latency > timeout] = -np.inf
            np.maximum(best, earned, out=best)
        return np.asarray(best)

    def winners(self, backlog_price: float, deadline: float, priority: float) -> IntArray:
        """The decisions with work on the device that are best at a price of backlog, by index."""
        left = self._own[..., None] + np.linspace(0.0, deadline, 5)
        latency = left + self._rest[..., None]
        per_second = self._scenario.latency_weight * priority / deadline
        cost = self._fixed[..., None] + per_second * latency + backlog_price * left
        cost += self._scenario.miss_weight * priority * (latency > deadline)
        cost[latency > self._scenario.timeout_s] = np.inf
        return np.unique(cost.argmin(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogValue:
    """The value of the device's backlog, by conditions and frames to come.

    Attributes:
        scenario: The parameters.
        levels: The levels of backlog.
        price: The price of a joule that it is computed at, 1/J.
        kept: The decisions that it is computed with, (A,).
        conditions: The slots that stand for all conditions, fields (C,).
        mean: M_m of the module's docstring: what m = 0 ... T - 1 frames to come earn if the
            frame before them met these conditions, and left such a backlog, (T, C, L).
    """

    scenario: Scenario
    levels: Levels
    price: float
    kept: BoolArray
    conditions: Slot
    mean: FloatArray

    def nearest(self, slot: Slot) -> IntArray:
        """The conditions that are most like those of slots (...), as indices, (...)."""
        return _nearest(slot, self.conditions)


def features(slot: Slot) -> FloatArray:
    """What makes conditions alike, on scales on which all of it matters, (..., 5)."""
    return np.stack(
        [
            np.log(slot.bandwidth),
            2.0 * np.log(slot.device_speed),
            4.0 * np.log(slot.arrival_rate),
            30.0 * slot.round_trip,
            3.0 * slot.base_power,
        ],
        axis=-1,
    )


def _nearest(slot: Slot, conditions: Slot) -> IntArray:
    own, others = features(slot), features(conditions)
    flat = own.reshape(-1, own.shape[-1])
    found = np.empty(len(flat), dtype=np.int64)
    for begin in range(0, len(flat), 4096):
        rows = slice(begin, begin + 4096)
        distance = (others**2).sum(axis=-1) - 2.0 * flat[rows] @ others.T
        found[rows] = distance.argmin(axis=-1)
    return found.reshape(own.shape[:-1])


@lru_cache(maxsize=4)
def fit_backlog_value(scenario: Scenario, price: float) -> BacklogValue:
    """Fit the value of the device's backlog, in a few seconds for 100 frames.

    Args:
        scenario: The parameters.
        price: The price of a joule, 1/J.
    """
    rng = tuning_generator(1)
    trace = scenario.sample(rng, _EPISODES)
    trace = replace(trace, uplink=trace.arrival)
    slots = arrays.join_axes(trace, 2)
    conditions = arrays.at(slots, rng.choice(len(slots.bandwidth), _CONDITIONS))
    code = _nearest(trace, conditions)
    steps = 1e-9 * np.eye(_CONDITIONS)
    np.add.at(steps, (code[:, :-1], code[:, 1:]), 1.0)
    steps /= steps.sum(axis=1, keepdims=True)
    decisions = all_decisions(scenario)
    waits = scenario.table.cost[decisions.exit, decisions.partition, 0] > 0
    levels = Levels.of(scenario, LEVELS)
    details = list(_details(scenario))
    frame = Frame(conditions, scenario, price, np.ones_like(waits), levels)
    won = [
        frame.winners(backlog_price, deadline, priority)
        for _, deadline, priority in details
        for backlog_price in _BACKLOG_PRICES
    ]
    kept = ~waits
    kept[np.flatnonzero(waits)[np.unique(np.concatenate(won))]] = True

    frame = Frame(conditions, scenario, price, kept, levels)
    same = np.ones(_CONDITIONS)
    mean = np.zeros((scenario.horizon, _CONDITIONS, len(levels.seconds)))
    for m in range(1, scenario.horizon):
        after = frame.follow(mean[m - 1])
        value = sum(
            share * frame.best(after, deadline * same, priority * same)
            for share, deadline, priority in details
        )
        mean[m] = steps @ value
    return BacklogValue(
        scenario=scenario,
        levels=levels,
        price=price,
        kept=kept,
        conditions=conditions,
        mean=mean,
    )


def _details(scenario: Scenario) -> Iterator[tuple[float, float, float]]:
    """Probability, deadline and priority of the frames of the program."""
    low, high = scenario.deadline
    urgent = scenario.urgent_share
    for k in range(_DEADLINES):
        deadline = low + (high - low) * (k + 0.5) / _DEADLINES
        yield (1.0 - urgent) / _DEADLINES, deadline, scenario.normal_priority
        yield urgent / _DEADLINES, deadline, 1.0
