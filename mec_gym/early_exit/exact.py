"""The exact optimum of one slot, and the clairvoyant bound of an episode.

The two objectives of [Ding2025], for light and for heavy load, are in ``lookup.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.early_exit import model
from mec_gym.early_exit.model import Decision, State
from mec_gym.early_exit.scenario import Scenario, Slot
from mec_gym.network.tandem import RateCurve

_CHUNK = 1 << 15  # how many numbers are worked on at a time, so that they stay in the cache
COARSE = 12  # levels of backlog on which each queue and each price of energy is tried
PRICES = 0.1 * 2.0 ** np.arange(8)  # the prices of energy that are tried on it, 1/J
FINE = 2.0 ** np.array([-0.5, -0.25, 0.0, 0.25, 0.5])  # and near the best of them
_TICKS = 2000  # how many ticks the ruler has that backlogs are read on
_WINDOW = 128  # and those on which the uplink is read
_ROUNDING = 1e-12  # relative; every comparison errs on the side of the bound
QUEUES = ("device", "raw", "computed")  # at which frames may wait in the relaxed problem


def all_decisions(scenario: Scenario) -> Decision:
    """All A decisions that there are, ordered by exit and device work; fields (A,)."""
    sizes = scenario.table.sizes
    return Decision(
        exit=np.repeat(np.arange(len(sizes)), sizes),
        partition=np.concatenate([np.arange(s) for s in sizes]),
    )


def try_all(
    slot: Slot, state: State, scenario: Scenario
) -> tuple[Decision, FloatArray, FloatArray, FloatArray]:
    """What every decision would lead to.

    Args:
        slot: Fields (...).
        state: Fields (...).
        scenario: The parameters.

    Returns:
        All decisions, fields (A,); when each stage has done all its work after each of them, (...,
        A, 3) s from now; what each costs, its negative reward, (..., A); and the energy that
        each takes from the battery, (..., A) J.
    """
    decisions = all_decisions(scenario)
    wide = State(
        free=np.expand_dims(state.free, -2),
        under_way=np.expand_dims(state.under_way, -3),
        battery=np.expand_dims(state.battery, -1),
        frames_left=np.expand_dims(state.frames_left, -1),
    )
    arrival = np.asarray(slot.arrival)[..., None, None]
    uplink = np.expand_dims(slot.uplink, -3)
    slot = replace(arrays.map_arrays(lambda a: np.expand_dims(a, -1), slot), uplink=uplink)
    after, outcome = model.serve(slot, wide, decisions, scenario)
    # A frame that is not started leaves the stages as they are.
    bits = scenario.table.cost[decisions.exit, decisions.partition, 1]
    free = model.all_done_after(wide, after, bits, outcome.edge_s)
    free = np.where(outcome.dropped[..., None], model.all_done(wide), free)
    return decisions, np.maximum(free - arrival, 0.0), outcome.cost, outcome.energy_j


def slot_optimum(slot: Slot, state: State, scenario: Scenario) -> tuple[Decision, FloatArray]:
    """The decision that earns most in a slot, waiting and the delay of others included.

    It is blind to the frames to come.

    Args:
        slot: Fields (...).
        state: Fields (...).
        scenario: The parameters.

    Returns:
        The decision (...) and its reward (...).
    """
    decisions, _, cost, _ = try_all(slot, state, scenario)
    best = cost.argmin(axis=-1)
    reward = -np.take_along_axis(cost, best[..., None], axis=-1)[..., 0]
    return arrays.at(decisions, best), reward


def episode_bound(trace: Slot, scenario: Scenario, levels: int = 64) -> FloatArray:
    """An upper bound on the return of any policy, clairvoyant or not.

    The problem is relaxed to one queue; in all other places frames never wait. The battery is
    not a limit but has a price (a Lagrange multiplier): every joule is paid for, and the price
    of the full battery is given back. A frame may be dropped at will. Dynamic programming
    backward over the backlog of that queue solves the relaxed problem on a grid, where every
    backlog is rounded down to the next level. Each queue and each price gives a bound, and the
    least one counts. All queues are tried on a coarse grid at no price, then several prices at
    each episode's best queue, and prices near its best one on a fine grid.

    A queue must be one in which frames provably wait in the order in which they arrive:

    * ``device``: the device serves all frames that have work for it in this order.
    * ``raw``: frames that are sent as they are are ready for the link when they arrive, so the
      link serves them in this order among themselves. A frame that is computed first becomes
      ready later than it arrives, so it too waits for raw frames that arrived before it. But it
      may be overtaken, and so delays nobody here.
    * ``computed``: frames with work on the device leave it in the order of their arrival, so the
      link serves them in this order among themselves. Raw frames neither wait nor delay here.

    There is no queue at the edge server, which frames reach in any order.

    This is a bound for the following reason. The sum of rewards is what the frames really cost
    in the end. Let a policy play, and let the relaxed problem take the same decisions and drop
    what the policy drops. By induction its backlog is never larger: a smaller backlog and no
    other queues make each frame ready no later, a transfer that starts no later ends no later,
    whatever the rate does, and so the queue is free no later. So each frame that was served may
    be served, with no larger cost of latency or miss. Nor is its energy larger: a frame that is
    served is sent within its timeout, so its transfer takes no less time than at the highest
    rate until then. By the same argument the relaxed value does not increase with the backlog,
    so rounding a backlog down does not lower it. The maximum over all decisions is no less than
    the value of these. No policy spends more than the battery holds, so what it is given back is
    no less than what it pays, whatever the price.

    Args:
        trace: Fields (n, T).
        scenario: The parameters.
        levels: The number of levels of the fine grid of backlogs. More of them take longer
            and by and large give a tighter bound.

    Returns:
        The bound of each episode, (n,).
    """
    free = np.zeros((len(trace.bandwidth), 1))
    coarse = np.stack([queue_values(trace, scenario, q, COARSE, free)[:, 0] for q in QUEUES])
    bounds, chosen = coarse.min(axis=0), coarse.argmin(axis=0)
    for index, queue in enumerate(QUEUES):
        rows = np.flatnonzero(chosen == index)
        part = arrays.at(trace, rows)
        found = queue_values(part, scenario, queue, COARSE, np.tile(PRICES, (len(rows), 1)))
        found = np.concatenate([bounds[rows, None], found], axis=1)
        price = np.append(0.0, PRICES)[found.argmin(axis=1)]
        fine = queue_values(part, scenario, queue, levels, price[:, None] * FINE)
        bounds[rows] = np.minimum(found.min(axis=1), fine.min(axis=1))
    return np.asarray(bounds)


def queue_values(
    trace: Slot, scenario: Scenario, queue: str, levels: int, energy_price: FloatArray
) -> FloatArray:
    """The values of :func:`one_queue` for any number of episodes, (n, P)."""
    n = len(trace.bandwidth)
    if not energy_price.size:
        return energy_price
    chunk = episodes_at_a_time(scenario, levels)
    grid = Levels.of(scenario, levels)
    values = np.empty(energy_price.shape)
    for begin in range(0, n, chunk):
        rows = slice(begin, begin + chunk)
        part = arrays.at(trace, rows)
        values[rows] = one_queue(part, scenario, queue, grid, energy_price[rows])
    return values


def episodes_at_a_time(scenario: Scenario, levels: int) -> int:
    """How many episodes :func:`one_queue` works on at a time, so that they stay in the cache."""
    return max(1, _CHUNK // (levels * int(scenario.table.sizes.sum())))


class _Window:
    """When transfers end at the soonest that begin in the slot of a frame; n episodes.

    The bits that can be sent until a moment, and the moment until which so many can be sent,
    are read on two rulers. Between two of their ticks the rate hardly ever changes, and then
    what is read is exact. Where it does change, the lowest rate between the ticks gives no more
    bits, and the highest one no later moment. So the end that is read is never too late, as long
    as it is within the timeout, and never within the timeout if it is not.

    Args:
        trace: Fields (n, T).
        t: The slot.
        timeout: The length of the window, s.
    """

    def __init__(self, trace: Slot, t: int, timeout: float) -> None:
        time, bits, rate = np.moveaxis(trace.uplink[:, 0, :, t:], 1, 0)
        time, bits = time - time[:, :1], bits - bits[:, :1]
        inside = max(1, int((time < timeout).sum(axis=-1).max(initial=0)))
        curve = RateCurve(time=time[:, :inside], bits=bits[:, :inside], rate=rate[:, :inside])
        self.fastest = np.where(curve.time < timeout, curve.rate, 0.0).max(axis=-1)
        self._per_tick, self._tick = _WINDOW / timeout, timeout / _WINDOW
        ticks = np.broadcast_to(self._tick * np.arange(_WINDOW + 1), (len(time), _WINDOW + 1))
        self._sent = curve.bits_until(ticks)
        self._slowest = _extreme_rates(curve, ticks, np.minimum)
        self._step = np.maximum(self._sent[:, -1:], 1e-9) / _WINDOW
        self._when = np.minimum(curve.when(self._step * np.arange(_WINDOW + 1)), timeout)
        fastest = _extreme_rates(curve, self._when, np.maximum)
        fastest[:, -1] = rate.max(axis=-1)
        self._per_bit = 1.0 / np.maximum(fastest, 1e-30)
        self._rows = np.arange(len(time)) * (_WINDOW + 1)

    def end(self, begin: FloatArray, bits: FloatArray) -> FloatArray:
        """When a transfer of so many bits ends, (n, ...), that begins so many s from now."""
        rows = self._rows.reshape(-1, *(1,) * (begin.ndim - 1))
        step = self._step.reshape(rows.shape)
        place = np.minimum((begin * self._per_tick).astype(np.int64), _WINDOW)
        sent = begin - place * self._tick
        place += rows
        sent *= self._slowest.take(place)
        sent += self._sent.take(place)
        sent += bits
        place = np.minimum(sent / step, _WINDOW).astype(np.int64)
        sent -= place * step
        place += rows
        sent *= self._per_bit.take(place)
        sent += self._when.take(place)
        return np.maximum(sent, begin, out=sent)


def _extreme_rates(curve: RateCurve, moment: FloatArray, extreme: np.ufunc) -> FloatArray:
    """The lowest or highest rate from each of some moments until the next, (n, ticks)."""
    place = np.broadcast_to(curve.place(moment), moment.shape)
    after = np.append(place[:, 1:], place[:, -1:], axis=1)
    rows = np.arange(len(place))[:, None]
    found = curve.rate[rows, place]
    for step in range(1, int((after - place).max(initial=0)) + 1):
        found = extreme(found, curve.rate[rows, np.minimum(place + step, after)])
    return np.asarray(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """The levels that backlogs are rounded down to, read on a ruler without searching."""

    seconds: FloatArray  # (L,) s, denser near 0
    per_tick: float  # ticks of the ruler per second
    at_tick: IntArray  # (_TICKS + 1,) the level below each tick

    @classmethod
    def of(cls, scenario: Scenario, levels: int) -> Levels:
        """Levels from 0 to the timeout, at most so many."""
        level = np.unique((_TICKS * np.linspace(0.0, 1.0, levels) ** 2).astype(np.int64))
        return cls(
            seconds=np.asarray(level * (scenario.timeout_s / _TICKS), dtype=np.float64),
            per_tick=_TICKS / scenario.timeout_s,
            at_tick=np.searchsorted(level, np.arange(_TICKS + 1), side="right") - 1,
        )

    def below(self, backlog: FloatArray) -> IntArray:
        """The level that is not above each backlog (...) >= 0 s, as an index, (...)."""
        tick = np.minimum(backlog * self.per_tick, float(_TICKS)).astype(np.int64)
        return np.asarray(self.at_tick[tick])


class Penalty(Protocol):
    """What is paid for knowing the future, for n episodes; see ``online_bound``."""

    def entered(self, t: int) -> FloatArray:
        """What is paid at each level of backlog that the frame after frame t meets, (n, L)."""
        ...

    def expected(self, t: int, left: FloatArray) -> FloatArray:
        """What of it could be expected at frame t, which leaves (n, ...) s of work, (n, ...)."""
        ...


def one_queue(
    trace: Slot,
    scenario: Scenario,
    queue: str,
    levels: Levels,
    energy_price: FloatArray,
    penalty: Penalty | None = None,
) -> FloatArray:
    """The value of the relaxed problem with one queue, at each price of energy, (n, P).

    Args:
        trace: Fields (n, T).
        scenario: The parameters.
        queue: One of ``QUEUES``.
        levels: The levels of backlog.
        energy_price: The prices of a joule, (n, P).
        penalty: What is paid for knowing the future, which only the queue of the device can have.
    """
    n, horizon = trace.bandwidth.shape
    decisions = all_decisions(scenario)
    cost = scenario.table.cost[decisions.exit, decisions.partition]  # (A, 3)
    bits, computes, sends = cost[:, 1], cost[:, 0] > 0, cost[:, 1] > 0
    waits = {"device": computes, "raw": sends, "computed": sends & computes}[queue]
    delays = waits & ~computes if queue == "raw" else waits
    timeout = scenario.timeout_s
    grid, level_below, per_tick = levels.seconds, levels.at_tick, levels.per_tick
    rows = np.arange(n)[:, None] * (_TICKS + 1)
    wrong = scenario.accuracy_weight * (1.0 - scenario.accuracy[decisions.exit])
    prices = energy_price.T[..., None]  # (P, n, 1)
    values = [np.zeros((n, len(grid))) for _ in prices]
    rounding = _rounding(trace, timeout)  # s, (n, 1)

    for t in reversed(range(horizon)):
        slot = arrays.at(replace(trace, uplink=trace.arrival), (slice(None), t, None))  # (n, 1)
        window = _Window(trace, t, timeout)
        device_s, edge_s = cost[:, 0] / slot.device_speed, cost[:, 2] / slot.edge_speed  # (n, A)
        trip = model.round_trip_times(cost, slot)  # (n, A)
        rest = edge_s + trip
        link_s = bits / np.maximum(window.fastest, 1e-30)[:, None]
        spent = model.energy(cost, link_s, trip, slot, scenario)
        fixed = wrong + scenario.energy_weight * spent
        per_second = scenario.latency_weight * slot.priority / slot.deadline
        miss = scenario.miss_weight * slot.priority
        # Rounding must not turn a frame that is just in time into one that is late.
        in_time, served = slot.deadline + rounding, timeout + rounding

        # Of the decisions that do not touch the queue, and a drop, only the best one matters.
        begin = device_s[:, ~waits]
        ready = np.where(sends[~waits], window.end(begin, bits[~waits]), begin)
        latency = ready + rest[:, ~waits]
        others = fixed[:, ~waits] + per_second * latency + miss * (latency > in_time)
        others[latency > served] = np.inf
        drop = scenario.accuracy_weight + per_second * timeout + miss
        tick = np.maximum((grid - slot.interval - rounding) * per_tick, 0.0)
        idle_at = rows + tick.astype(np.int64)

        # Work at the queue begins when it is ready and the queue is empty, (n, W, levels).
        own, sent = device_s[:, waits, None], bits[waits, None]
        if queue == "device":
            left = own + grid
            finish = window.end(left, sent)
            np.copyto(finish, left, where=~sends[waits, None])
        else:
            finish = left = window.end(np.maximum(own, grid), sent)
        total = finish + rest[:, waits, None]
        late, never = total > in_time[..., None], total > served[..., None]
        total *= per_second[..., None]
        total += fixed[:, waits, None]
        total += late * miss[..., None]
        np.copyto(total, np.inf, where=never)
        tick = ((left - (slot.interval + rounding)[..., None]) * per_tick).clip(0.0, _TICKS)
        after_at = rows[..., None] + tick.astype(np.int64)
        np.copyto(after_at, idle_at[:, None], where=~delays[waits, None])
        entered = expected_idle = np.zeros((n, len(grid)))
        if penalty is not None and t < horizon - 1:
            entered = penalty.entered(t)
            expected_idle = penalty.expected(t, grid - rounding)
            total -= penalty.expected(t, left - rounding[..., None])
        for index, (price, value) in enumerate(zip(prices, values, strict=True)):
            value_at = (value - entered).take(level_below, axis=1).ravel()  # (n * ticks)
            cheapest = (others + price * spent[:, ~waits]).min(axis=1, initial=np.inf)
            best = value_at[idle_at] + expected_idle - np.minimum(cheapest[:, None], drop)
            after = value_at[after_at]
            after -= total
            after -= (price * spent[:, waits])[..., None]
            values[index] = np.maximum(best, after.max(axis=1, initial=-np.inf))
    value = np.stack([value[:, 0] for value in values], axis=-1)
    return np.asarray(value + energy_price * scenario.battery)


def _rounding(trace: Slot, timeout: float) -> FloatArray:
    """By how much times of the simulator may be rounded, on the safe side, (n, 1) s."""
    time, bits, rate = np.moveaxis(trace.uplink[:, 0], 1, 0)
    slowest = np.where(rate > 0, rate, np.inf).min(axis=-1)
    digits = 8.0 * np.finfo(np.float64).eps
    lost = digits * (time[:, -1] + timeout + bits[:, -1] / slowest)
    return np.asarray(_ROUNDING * timeout + lost)[:, None]
