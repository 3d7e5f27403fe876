r"""What no policy can expect of early exit: information relaxation with penalties [Brown2010].

**The bound.** The clairvoyant bound of :func:`mec_gym.early_exit.exact.episode_bound` lets the
future be known. Here, knowing when the next frame comes, and how urgent it is, has to be paid for.
Let frame t leave the device with ``left`` s of work, so that the next frame meets the backlog
q = max(left - I, 0), where I is the time until then. Let W_t(q, D, P) be any function of this
backlog and of the next frame's deadline D and priority P, which may depend on everything that is
known when frame t is decided. Then

    W_t(q, D, P) - E[W_t(q, D, P) | what is known at frame t]

is what is paid: it is taken off the return. Of what is known then, only the arrival rate says
anything about I, D and P. So what a policy pays that does not know the future is 0 in expectation,
and

    E[return of the policy] = E[return - paid] <= E[max over all decisions of (return - paid)].

**The maximum** is that of the relaxed problem in which frames wait for the device alone. Its
backlog is rounded down to a level whenever a frame comes. Play a policy's decisions in it: its
backlog is never larger than the true one, so they are possible there and earn as much or more (the
induction of ``episode_bound``), and it is known from the past alone. So a bound on the relaxed
problem is one on the true problem. Dynamic programming over the levels finds its maximum, paid
amounts included. They need not fall with the backlog, because the rounding is part of the relaxed
problem. What is paid does not depend on the price of energy. So the least result over prices
bounds each episode, as it does in ``episode_bound``.

**W** is close to what the next frame and all that follow earn: J(q, D, P) - E[J(q, D, P) | q] +
V(q). V is a :class:`mec_gym.early_exit.backlog_value.BacklogValue` under the conditions of frame
t; its expectation over I is exact. J looks one frame ahead on it, as if that frame met the same
conditions. Its mean over D and P is one over a few draws of D, one in each part of its range. As
the maximum is convex in this mean, its error can raise the expectation of the bound only. The
better V is, the lower lies the bound; but it is one for every V.

**Its expectation** is the mean over some episodes, corrected for how easy they are: a regression
on the means of their conditions, which are known far better from many more episodes. ``se`` is
that of the correction, too.

**Assumed.** What is known at frame t are the slots until then, without the time to the next frame.
The observation tells a little more: the backlogs of link and edge server and the battery count
transfers that last beyond the next arrival at the rates that are yet to come. What a policy could
make of this is not bounded here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.online import OnlineBound
from mec_gym.core.seeds import tuning_generator
from mec_gym.core.types import FloatArray
from mec_gym.early_exit.backlog_value import (
    Arrival,
    BacklogValue,
    Frame,
    features,
    fit_backlog_value,
    lag,
)
from mec_gym.early_exit.exact import (
    COARSE,
    FINE,
    PRICES,
    episodes_at_a_time,
    one_queue,
    queue_values,
)
from mec_gym.early_exit.model import Outcome
from mec_gym.early_exit.scenario import Scenario, Slot

LONGEST = 200
"""Episodes of more frames have no online bound, because computing it would take too long."""
_EPISODES = 128
"""Episodes that the maximum is taken over."""
_MANY = 10_000
"""Episodes that the means of conditions are taken over."""
_DRAWS = 8
"""Draws of a deadline that W is averaged over."""


class Surplus:
    """How much better than usual each frame's arrival, deadline and priority are: W and its mean.

    Args:
        value: The value of the device's backlog.
        trace: The episodes, fields (n, T).
        rng: The source of the deadlines that W is averaged over.
    """

    def __init__(self, value: BacklogValue, trace: Slot, rng: np.random.Generator) -> None:
        self._value = value
        self._trace = replace(trace, uplink=trace.arrival)
        self._nearest = value.nearest(self._trace)
        low, high = value.scenario.deadline
        part = np.arange(_DRAWS)[:, None, None]
        place = (part + rng.random((_DRAWS, *trace.deadline.shape))) / _DRAWS
        self._deadlines = low + (high - low) * place

    def entered(self, t: int) -> FloatArray:
        """W of the next frame's true deadline and priority, (n, L)."""
        value, scenario = self._value, self._value.scenario
        slot = arrays.slot_at(self._trace, t)
        frame = Frame(slot, scenario, value.price, value.kept, value.levels)
        after = frame.follow(self._usual(t, scenario.horizon - 2 - t))
        following = arrays.slot_at(self._trace, t + 1)
        found = frame.best(after, following.deadline, following.priority)
        for priority, share in (
            (scenario.normal_priority, 1.0 - scenario.urgent_share),
            (1.0, scenario.urgent_share),
        ):
            for deadline in self._deadlines[..., t]:
                usual = frame.best(after, deadline, np.full(len(deadline), priority))
                found -= share / _DRAWS * usual
        return found + self._usual(t, scenario.horizon - 1 - t)

    def expected(self, t: int, left: FloatArray) -> FloatArray:
        """The mean of W as known at frame t, which leaves (n, ...) s of work, (n, ...)."""
        levels, rate = self._value.levels, self._trace.arrival_rate[:, t]
        usual = self._usual(t, self._value.scenario.horizon - 1 - t)
        return Arrival(left, rate, levels).expected(usual, lag(usual, rate, levels))

    def _usual(self, t: int, frames: int) -> FloatArray:
        """What so many frames to come earn after the conditions of frame t, (n, L)."""
        return np.asarray(self._value.mean[frames][self._nearest[:, t]])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Luck:
    """How lucky episodes were, see :class:`mec_gym.core.online.OnlineBound`."""

    value: BacklogValue

    def __call__(self, trace: Slot, outcomes: Outcome) -> FloatArray:
        """The sum of what was paid along the device's true backlog, (n,)."""
        surplus = Surplus(self.value, trace, tuning_generator(5))
        episodes = np.arange(len(trace.deadline))
        backlog, total = np.zeros(len(episodes)), np.zeros(len(episodes))
        for t in range(trace.deadline.shape[1] - 1):
            left = backlog + np.where(outcomes.dropped[:, t], 0.0, outcomes.device_s[:, t])
            backlog = np.maximum(left - trace.interval[:, t], 0.0)
            total += surplus.entered(t)[episodes, self.value.levels.below(backlog)]
            total -= surplus.expected(t, left)
        return total


def may_have_online_bound(scenario: Scenario) -> bool:
    """Whether episodes have several frames, but not too many.

    Args:
        scenario: The parameters.
    """
    return 2 <= scenario.horizon <= LONGEST


@lru_cache(maxsize=4)
def online_bound(scenario: Scenario) -> OnlineBound | None:
    """The bound on the expected return of every policy that does not know the future.

    This module's docstring proves it and says what is assumed.

    Args:
        scenario: The parameters.

    Returns:
        The bound; None where it is not clearly lower than the mean clairvoyant bound of the same
        relaxed problem, and for episodes of one frame or of more than 200.
    """
    if not may_have_online_bound(scenario):
        return None
    price = float(_best_prices(scenario.sample(tuning_generator(2), 32), scenario).mean())
    value = fit_backlog_value(scenario, price)
    rng = tuning_generator(3)
    trace = scenario.sample(rng, _EPISODES)
    penalised, plain = penalised_bounds(trace, scenario, value, rng)
    conditions, usual = _conditions(trace, value), _usual_conditions(scenario, value)
    gain, gain_se = _corrected(plain - penalised, conditions, usual)
    if gain < 2.0 * gain_se:
        return None
    mean, se = _corrected(penalised, conditions, usual)
    return OnlineBound(mean=mean, se=se, luck=_Luck(value=value))


def penalised_bounds(
    trace: Slot, scenario: Scenario, value: BacklogValue, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Bounds on return - paid, and on the return, in the relaxed problem, (n,) each.

    Args:
        trace: The episodes, fields (n, T).
        scenario: The parameters.
        value: The value of the device's backlog, from which W follows.
        rng: The source of draws, see :class:`Surplus`.
    """
    n = len(trace.deadline)
    prices = _best_prices(trace, scenario)[:, None] * FINE
    found = np.empty((2, n))
    at_a_time = episodes_at_a_time(scenario, len(value.levels.seconds))
    for begin in range(0, n, at_a_time):
        rows = slice(begin, begin + at_a_time)
        part = arrays.at(trace, rows)
        for index, surplus in enumerate((Surplus(value, part, rng), None)):
            values = one_queue(part, scenario, "device", value.levels, prices[rows], surplus)
            found[index, rows] = values.min(axis=1)
    return found[0], found[1]


def _best_prices(trace: Slot, scenario: Scenario) -> FloatArray:
    """The prices of energy that give the least clairvoyant bounds on a coarse grid, (n,) 1/J."""
    tried = np.append(0.0, PRICES)
    every = np.tile(tried, (len(trace.deadline), 1))
    bounds = queue_values(trace, scenario, "device", COARSE, every)
    return np.asarray(tried[bounds.argmin(axis=1)])


def _conditions(trace: Slot, value: BacklogValue) -> FloatArray:
    """The means over episodes (n, T) of what makes them easy or hard, (n, F)."""
    earned = value.mean[1, value.nearest(trace), 0][..., None]
    log_bandwidth = np.log(trace.bandwidth)[..., None]
    parts = (features(trace), earned, log_bandwidth**2, trace.interval[..., None])
    return np.asarray(np.concatenate(parts, axis=-1).mean(axis=1))


def _usual_conditions(scenario: Scenario, value: BacklogValue) -> FloatArray:
    """The expected conditions of an episode, (F,)."""
    rng, chunk = tuning_generator(4), 500
    means = [
        _conditions(scenario.sample(rng, chunk), value).mean(axis=0) for _ in range(_MANY // chunk)
    ]
    return np.asarray(np.mean(means, axis=0))


def _corrected(
    bounds: FloatArray, conditions: FloatArray, usual: FloatArray
) -> tuple[float, float]:
    """The expectation of bounds (n,) under usual conditions (F,), and its standard error.

    Args:
        bounds: The bounds of n episodes, (n,).
        conditions: Their conditions, (n, F).
        usual: The expected conditions, (F,).
    """
    varies = np.ptp(conditions, axis=0) > 1e-9
    off = (conditions - usual)[:, varies]
    scale = off.std(axis=0)
    design = np.column_stack([np.ones(len(bounds)), off / scale])
    fitted, _, rank, _ = np.linalg.lstsq(design, bounds, rcond=None)
    rest = bounds - design @ fitted
    explained = (design[:, 1:] @ fitted[1:]).var()
    variance = (rest**2).sum() / (len(bounds) - rank) / len(bounds) + explained / _MANY
    return float(fitted[0]), float(np.sqrt(variance))
