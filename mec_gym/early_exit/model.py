"""Latency and energy of one frame, and the three stages that it may have to wait for.

The costs of partitions are those of [Ding2025]. Every function broadcasts over all axes that it
is given. All moments are in seconds from the begin of the episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core.arrays import apart
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.early_exit.scenario import Scenario, Slot, curve_of
from mec_gym.network.tandem import RateCurve, serve_by_readiness

ROWS = 14
READY, SENT, DONE, DUE, LIMIT, FROM, UNTIL, BITS, TRIP, EDGE_S, SENDING_S, POWER, WEIGHT, MISS = (
    range(ROWS)
)
"""What ``State.under_way`` tells of a frame, row by row.

READY: when it is ready for the link, or for the edge if it has nothing (more) to send, s.
SENT: when its last bit will have left, as things stand, s.
DONE: when it will be answered, as things stand, s.
DUE, LIMIT: its deadline and its timeout, s; LIMIT is 0 in a column without a frame.
FROM, UNTIL: what the link can send from the begin of the episode until READY, and until SENT.
BITS: what it has to send; 0 as soon as nothing can change when it is sent.
TRIP: its round trip, s.
EDGE_S: its work on the edge server, s.
SENDING_S: how long its transfer takes, as things stand, s.
POWER: the base power of its radio, W.
WEIGHT: what a second of delay costs, 1/s.
MISS: what it costs if it misses its deadline.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent's own decisions have changed.

    A frame is under way as long as a later frame may overtake it: it waits for the device or is
    computed there, waits for the link, or is on its way to the edge server. All other frames are
    settled: nothing can change when they are answered.
    """

    free: FloatArray  # (..., 3) s, when device, link and edge are free of settled work
    under_way: FloatArray  # (..., ROWS, M) frames by arrival, then columns of 0
    battery: FloatArray  # (...) J left, after what all frames take as things stand
    frames_left: FloatArray  # (...) frames still to come, the one at hand included


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where the network answers, and which of that exit's candidates is used."""

    exit: IntArray  # (...) 0 = earliest
    partition: IntArray  # (...) index into the table's candidates, by device work


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one frame, and of those that it delays.

    All is as things stand when the frame has arrived: it is what becomes of it if no other frame
    delays it. What a later frame changes stands in that frame's outcome. So the sums over an
    episode are what really became of all frames.
    """

    latency_s: FloatArray  # (...) s from arrival to answer; the timeout if it was dropped
    delay_caused_s: FloatArray  # (...) s by which other frames are answered later, together
    device_s: FloatArray  # (...) s, Td
    link_s: FloatArray  # (...) s from the first bit sent to the last, Tt
    round_trip_s: FloatArray  # (...) s from the start of the transfer that no stage is busy for
    edge_s: FloatArray  # (...) s, Te
    waiting_s: FloatArray  # (...) s in queues, the rest of the latency; 0 if dropped
    energy_j: FloatArray  # (...) J taken from the battery
    accuracy: FloatArray  # (...) probability that the answer is right; 0 if dropped
    deadline_missed: BoolArray  # (...) answered late, or dropped
    misses_caused: FloatArray  # (...) how many more of the other frames are answered late
    timed_out: BoolArray  # (...) not started: it or another would take longer than the timeout
    battery_short: BoolArray  # (...) not started, the battery cannot pay for it
    no_room: BoolArray  # (...) not started, too many frames are under way
    dropped: BoolArray  # (...) not started, for one of these three reasons
    accuracy_cost: FloatArray  # (...) part of the negative reward
    latency_cost: FloatArray  # (...) part of the negative reward
    miss_cost: FloatArray  # (...) part of the negative reward
    delay_cost: FloatArray  # (...) part of the negative reward: latency and misses of others
    energy_cost: FloatArray  # (...) part of the negative reward

    @property
    def cost(self) -> FloatArray:
        """The sum of the five costs, the negative reward, (...)."""
        return (self.accuracy_cost + self.latency_cost) + (
            self.miss_cost + self.energy_cost + self.delay_cost
        )


def service_times(cost: FloatArray, slot: Slot) -> FloatArray:
    """Td, Tt and Te in a slot whose bandwidth does not change, (..., 3) s.

    Times at nominal speed stretch with the load of their processor, and Tt = bits / B.

    Args:
        cost: Device work (s), bits to send and edge work (s), (..., 3).
        slot: Fields (...).
    """
    # Filling an array is faster than np.stack.
    rate = np.empty((*np.shape(slot.bandwidth), 3))
    rate[..., 0], rate[..., 1], rate[..., 2] = slot.device_speed, slot.bandwidth, slot.edge_speed
    return np.asarray(cost / rate)


def round_trip_times(cost: FloatArray, slot: Slot) -> FloatArray:
    """The round trip that a frame pays for once if it sends anything, (...) s.

    Args:
        cost: Device work (s), bits to send and edge work (s), (..., 3).
        slot: Fields (...).
    """
    _, bits, _ = apart(cost)
    trip: FloatArray = (bits > 0) * slot.round_trip
    return trip


def energy(
    cost: FloatArray, link_s: FloatArray, round_trip: FloatArray, slot: Slot, scenario: Scenario
) -> FloatArray:
    """The energy that the device spends on its work and on its radio, (...) J.

    A loaded processor takes longer for the same work but spends the same energy on it. The
    radio draws its base power during the round trip and the transfer, and more with the rate
    while it sends.

    Args:
        cost: Device work (s), bits to send and edge work (s), (..., 3).
        link_s: How long the transfer takes, (...) s.
        round_trip: The round trip, (...) s; 0 where nothing is sent.
        slot: Fields (...).
        scenario: The parameters.
    """
    device_work, bits, _ = apart(cost)
    spent: FloatArray = device_work * scenario.device.power_w
    spent = spent + slot.base_power * (link_s + round_trip)
    spent = spent + slot.joule_per_bit * bits
    return spent


def backlog(slot: Slot, state: State) -> FloatArray:
    """The time until device, link and edge are free of settled work, (..., 3) s."""
    return np.maximum(state.free - np.asarray(slot.arrival)[..., None], 0.0)


def occupied(under_way: FloatArray) -> BoolArray:
    """Which columns of ``State.under_way`` hold a frame, (..., M)."""
    return np.asarray(under_way[..., LIMIT, :] > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """The frames under way of all instances in one list, because most instances have none."""

    shape: tuple[int, ...]  # of the batch of instances, (...)
    instance: IntArray  # (F,) to which of them, counted through, each frame belongs; not decreasing
    first: BoolArray  # (F,) whether it is the first one of its instance
    frame: FloatArray  # (F, ROWS) by arrival

    def __len__(self) -> int:
        """The number of frames, F."""
        return len(self.frame)

    def sum_of(self, row: int) -> FloatArray:
        """The sum of one of the numbers over the frames of each instance, (...)."""
        count = math.prod(self.shape)
        total = np.bincount(self.instance, self.frame[:, row], minlength=count)
        return total.astype(np.float64, copy=False).reshape(self.shape)

    def last(self) -> FloatArray:
        """Who leaves each stage last, and 0 where nobody is under way to it, (4, ...).

        These are UNTIL and SENT at the link, and when he reaches the edge server and DONE there.
        """
        last = np.zeros((4, *self.shape))
        if len(self):
            frame = self.frame
            value = np.empty((4, len(self)))
            value[0], value[1], value[3] = frame[:, UNTIL], frame[:, SENT], frame[:, DONE]
            value[2] = edge_ready(frame, value[1])
            value[:2] *= frame[:, BITS] > 0
            value[2:] *= frame[:, EDGE_S] > 0
            first = self.first.nonzero()[0]
            most = np.maximum.reduceat(value, first, axis=-1)
            last.reshape(4, -1)[:, self.instance[first]] = most
        return last


_NOBODY = np.zeros((0, ROWS))


def others_of(under_way: FloatArray) -> Others:
    """List the frames of ``State.under_way``, (..., ROWS, M)."""
    *shape, _, most = under_way.shape
    held = occupied(under_way).reshape(-1).nonzero()[0]
    if not len(held):
        return Others(shape=tuple(shape), instance=held, first=held > 0, frame=_NOBODY)
    instance = held // most
    column = held - instance * most
    frame = under_way.reshape(-1, ROWS, most)[instance, :, column]
    return Others(shape=tuple(shape), instance=instance, first=column == 0, frame=frame)


def edge_ready(frames: FloatArray, sent: FloatArray) -> FloatArray:
    """When frames under way (..., ROWS) that are sent at some moments reach the edge, (...) s."""
    return np.maximum(frames[..., READY], (sent + frames[..., TRIP]) * (frames[..., BITS] > 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """What a new frame changes for others, in the R instances in which it overtakes somebody.

    These instances have up to K others under way. Numbers of columns without a frame are 0.
    """

    instance: IntArray  # (R,) which instances, counted through
    place: IntArray  # (R, K) where the frames stand in ``Others.frame``
    there: BoolArray  # (R, K) whether there is a frame
    before: FloatArray  # (R, K, ROWS) the frames as they were
    until: FloatArray  # (R, K), UNTIL
    sent: FloatArray  # (R, K) s, SENT
    sending_s: FloatArray  # (R, K) s, SENDING_S
    done: FloatArray  # (R, K) s, DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How things would stand with one more frame, whether or not it is started.

    A moment of a stage that a frame skips is that of the stage before.
    """

    device_free: FloatArray  # (...) s, when the device has done its work
    ready: FloatArray  # (...) s, when the new frame is ready for the link, and so on
    bits_from: FloatArray  # (...) what the link can send until then, FROM
    bits_until: FloatArray  # (...) and until it has sent the frame, UNTIL
    sent: FloatArray  # (...) s
    sending_s: FloatArray  # (...) s
    done: FloatArray  # (...) s
    others: Others  # as they were
    overtaken: Overtaken | None  # what becomes of others; None if nothing changes for anybody


def plan(
    slot: Slot,
    free: FloatArray,
    others: Others,
    device_s: FloatArray,
    bits: FloatArray,
    round_trip: FloatArray,
    edge_s: FloatArray,
) -> Plan:
    """The way of a frame through device, link and edge, and what it changes for others.

    Each stage serves frames in the order in which they become ready for it, as
    :mod:`mec_gym.network.tandem` does, which this equals; here only what one more frame can
    change is computed. Those that wait for the device are ready for the link in the order of
    their arrival, because the device serves them in this order. So a new frame comes after all
    of them on the link if it has work on the device, and before all of them if it is sent as it
    is. At the edge server every order is possible.

    Args:
        slot: Fields (...), of which the arrival and the uplink matter.
        free: When each stage is free of settled work, (..., 3) s.
        others: The frames under way.
        device_s: The new frame's work on the device, (...) s.
        bits: What it sends, (...).
        round_trip: Its round trip, (...) s; 0 where nothing is sent.
        edge_s: Its work on the edge server, (...) s.
    """
    curve = curve_of(slot)
    # Whoever skips a stage does not wait for it: these are 1, or 0 where it is skipped.
    computes, sends, works = np.sign(device_s), np.sign(bits), np.sign(edge_s)
    device_free, link_free, edge_free = apart(free)
    ready = np.maximum(device_free * computes, slot.arrival) + device_s
    start = np.maximum(ready, link_free)
    bits_from = begin = _read(curve, curve.bits_until, start)
    if len(others):
        last_until, last_sent, last_at_edge, last_done = others.last()
        begin = np.maximum(begin, last_until * computes)
        start = np.maximum(start, last_sent * computes)
        edge_free = np.maximum(edge_free, last_done)
    until = begin + bits
    # Few bits added to many may round to an end just before the start.
    sent = np.maximum(_read(curve, curve.when, until), start)
    sent = np.maximum(ready, sent * sends)
    at_edge = sent + round_trip
    done = np.maximum(at_edge, edge_free * works) + edge_s
    overtaken = None
    if len(others):
        # One that is sent as it is goes before those that have yet to be sent, if there are any.
        passes = last_until * (sends - computes) > 0
        overtakes = passes | (last_at_edge * works > at_edge)
        if overtakes.any():
            overtaken, done = _overtake(
                slot, free, others, done, overtakes, passes, until, sent, at_edge, edge_s
            )
    return Plan(
        device_free=np.maximum(device_free, ready * computes),
        ready=ready,
        bits_from=bits_from,
        bits_until=until,
        sent=sent,
        sending_s=np.maximum(sent - start, 0.0),
        done=done,
        others=others,
        overtaken=overtaken,
    )


def _read(
    curve: RateCurve, read: Callable[[FloatArray], FloatArray], values: FloatArray
) -> FloatArray:
    """Look up one value per curve, (...) -> (...)."""
    return read(values) if curve.time.ndim == 1 else read(values[..., None])[..., 0]


def _counted(shape: tuple[int, ...]) -> IntArray:
    """The numbers of the instances of a batch, counted through, (...)."""
    return np.arange(math.prod(shape)).reshape(shape)


def _at(values: npt.NDArray[Any], shape: tuple[int, ...], instance: IntArray) -> npt.NDArray[Any]:
    """The values (...) of some instances of a batch, counted through, (R,)."""
    if np.shape(values) != shape:
        values = np.broadcast_to(values, shape)
    return values.reshape(-1)[instance]


def _spread(
    values: npt.NDArray[Any], shape: tuple[int, ...], instance: IntArray
) -> npt.NDArray[Any]:
    """The values of some instances, (R,), and 0 for all others of the batch, (...)."""
    spread = np.zeros(shape, dtype=values.dtype)
    spread.reshape(-1)[instance] = values
    return spread


def _overtake(
    slot: Slot,
    free: FloatArray,
    others: Others,
    done: FloatArray,
    overtakes: BoolArray,
    passes: BoolArray,
    until: FloatArray,
    sent: FloatArray,
    at_edge: FloatArray,
    edge_s: FloatArray,
) -> tuple[Overtaken, FloatArray]:
    """What becomes of the others where the new frame overtakes somebody.

    Args:
        slot: Fields (...).
        free: When each stage is free of settled work, (..., 3) s.
        others: The frames under way.
        done: When the new frame is done if it overtakes nobody, (...) s.
        overtakes: Whether it overtakes somebody, (...).
        passes: Whether it goes before those that wait for the link, (...).
        until: UNTIL of the new frame, (...).
        sent: Its SENT, (...) s.
        at_edge: When it is ready for the edge server, (...) s.
        edge_s: Its work there, (...) s.

    Returns:
        What becomes of them, and when the new frame is done, (...) s.
    """
    shape, instance = overtakes.shape, overtakes.reshape(-1).nonzero()[0]
    edge_free, passes, until, sent, at_edge, edge_s = (
        _at(values, shape, instance)
        for values in (free[..., 2], passes, until, sent, at_edge, edge_s)
    )
    own = _at(_counted(others.shape), shape, instance)
    first, end = (np.searchsorted(others.instance, own, side) for side in ("left", "right"))
    place = first[:, None] + np.arange((end - first).max())
    there = place < end[:, None]
    place[~there] = 0
    before = np.where(there[..., None], others.frame[place], 0.0)
    now = before[..., UNTIL], before[..., SENT], before[..., SENDING_S]
    if passes.any():
        *batch, rows, moments = slot.uplink.shape
        link = _at(_counted(tuple(batch)), shape, instance)
        curve = curve_of(replace(slot, uplink=slot.uplink.reshape(-1, rows, moments)[link]))
        now = _let_pass(curve, before, passes, until, sent)
    ready = np.append(edge_ready(before, now[1]), at_edge[:, None], axis=-1)
    work = np.append(before[..., EDGE_S], edge_s[:, None], axis=-1)
    _, answered = serve_by_readiness(ready, work, edge_free)
    done = np.array(done)
    done.reshape(-1)[instance] = answered[:, -1]
    return Overtaken(
        instance=instance,
        place=place,
        there=there,
        before=before,
        until=now[0],
        sent=now[1],
        sending_s=now[2],
        done=answered[:, :-1],
    ), done[()]


def _let_pass(
    curve: RateCurve, others: FloatArray, passes: BoolArray, until: FloatArray, sent: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Let a frame go before those that wait for the link, where ``passes`` (R,) holds.

    Returns:
        UNTIL, SENT and SENDING_S of the others (R, K, ROWS) after it, (R, K) each.
    """
    bits, begin, bits_until = (others[..., row] for row in (BITS, FROM, UNTIL))
    pending = bits > 0
    after = np.empty(pending.shape)
    for column in range(pending.shape[-1]):
        own = np.maximum(begin[:, column], until) + bits[:, column]
        until = np.where(pending[:, column], own, until)
        after[:, column] = until
    moved = passes[:, None] & pending & (after > bits_until)
    until_now = np.where(moved, after, bits_until)
    sent_now = np.where(moved, curve.when(until_now), others[..., SENT])
    # Each starts when the one before has left; columns that wait for nothing have SENT 0 here.
    before = np.empty(pending.shape)
    before[:, 0] = sent
    before[:, 1:] = np.where(pending[:, :-1], sent_now[:, :-1], 0.0)
    before = np.maximum.accumulate(before, axis=-1)
    start = np.maximum(others[..., READY], before)
    sending_s = np.where(moved, np.maximum(sent_now - start, 0.0), others[..., SENDING_S])
    return until_now, np.where(moved, np.maximum(sent_now, start), sent_now), sending_s


def all_done(state: State) -> FloatArray:
    """When each stage has done all its work, settled or not, as things stand, (..., 3) s."""
    return _all_done(state.free, others_of(state.under_way))


def _all_done(free: FloatArray, others: Others) -> FloatArray:
    _, sent, _, done = others.last()
    last = np.stack([np.zeros(sent.shape), sent, done], axis=-1)
    return np.asarray(np.maximum(free, last))


def all_done_after(state: State, after: Plan, bits: FloatArray, edge_s: FloatArray) -> FloatArray:
    """When each stage has done all its work if a frame is started, (..., 3) s.

    Args:
        state: Fields (...).
        after: How things stand with the new frame.
        bits: What it sends, (...).
        edge_s: Its work on the edge server, (...) s.
    """
    shape = after.done.shape
    free = np.broadcast_to(_all_done(state.free, after.others), (*shape, 3)).copy()
    free[..., 0] = after.device_free
    changed = after.overtaken
    if changed is not None:
        for stage, row, finish in ((1, BITS, changed.sent), (2, EDGE_S, changed.done)):
            last = np.where(changed.before[..., row] > 0, finish, 0.0).max(axis=-1)
            settled = _at(state.free[..., stage], shape, changed.instance)
            free.reshape(-1, 3)[changed.instance, stage] = np.maximum(settled, last)
    for stage, work, finish in ((1, bits, after.sent), (2, edge_s, after.done)):
        free[..., stage] = np.maximum(free[..., stage], np.where(work > 0, finish, 0.0))
    return free


def serve(slot: Slot, state: State, decision: Decision, scenario: Scenario) -> tuple[Plan, Outcome]:
    """What becomes of one frame and of those under way, if no other frame follows.

    A frame is not started if it, or a frame under way that it would delay, would then take
    longer than the timeout, if the battery cannot pay for it, or if too many frames are under
    way. It costs no time and no energy, counts as a wrong answer that took the timeout, and has
    missed its deadline. So every frame that is started is answered within its timeout.

    Args:
        slot: Fields (...).
        state: Fields (...).
        decision: Fields (...).
        scenario: The parameters.

    Returns:
        How things would stand if the frame were started, and the outcome.
    """
    cost = scenario.table.cost[decision.exit, decision.partition]
    device_work, bits, edge_work = apart(cost)
    device_s, edge_s = device_work / slot.device_speed, edge_work / slot.edge_speed
    round_trip = round_trip_times(cost, slot)
    others = others_of(state.under_way)
    after = plan(slot, state.free, others, device_s, bits, round_trip, edge_s)
    shape = after.done.shape
    needed = energy(cost, after.sending_s, round_trip, slot, scenario)
    late = after.done > slot.arrival + scenario.timeout_s
    delay_s = misses = delay_cost = np.zeros(shape)[()]
    changed = after.overtaken
    if changed is not None:
        before = changed.before
        delays = changed.done - before[..., DONE]
        due = before[..., DUE]
        more_late = (changed.done > due).astype(np.float64) - (before[..., DONE] > due)
        costs = before[..., WEIGHT] * delays + before[..., MISS] * more_late
        longer = before[..., POWER] * (changed.sending_s - before[..., SENDING_S])
        delay_s, misses, delay_cost, more = (
            _spread(_sum(part), shape, changed.instance)
            for part in (delays, more_late, costs, longer)
        )
        needed = needed + more
        too_late = np.any(changed.done > before[..., LIMIT], axis=-1)
        late = late | _spread(too_late, shape, changed.instance)
    limit = state.under_way[..., LIMIT, :]
    full = limit[..., -1] > 0 if limit.shape[-1] >= scenario.under_way else np.zeros((), np.bool_)
    full = full & (bits + edge_s > 0)
    battery_short = needed > state.battery
    short_or_late = battery_short | late
    dropped = short_or_late | full
    if changed is not None:
        delay_s, misses, delay_cost = (
            np.where(dropped, 0.0, part) for part in (delay_s, misses, delay_cost)
        )
    latency = np.where(dropped, scenario.timeout_s, after.done - slot.arrival)[()]
    missed = dropped | (after.done > slot.arrival + slot.deadline)
    accuracy = scenario.accuracy[decision.exit] * ~dropped
    spent = np.where(dropped, 0.0, needed)[()]
    in_work = device_s + after.sending_s + round_trip + edge_s
    outcome = Outcome(
        latency_s=latency,
        delay_caused_s=delay_s,
        device_s=device_s,
        link_s=after.sending_s,
        round_trip_s=round_trip,
        edge_s=edge_s,
        waiting_s=np.maximum(latency - in_work, 0.0) * ~dropped,
        energy_j=spent,
        accuracy=accuracy,
        deadline_missed=missed,
        misses_caused=misses,
        timed_out=short_or_late ^ battery_short,
        battery_short=battery_short,
        no_room=dropped ^ short_or_late,
        dropped=dropped,
        accuracy_cost=scenario.accuracy_weight * (1.0 - accuracy),
        latency_cost=scenario.latency_weight * slot.priority * latency / slot.deadline,
        miss_cost=scenario.miss_weight * slot.priority * missed,
        delay_cost=delay_cost,
        energy_cost=scenario.energy_weight * spent,
    )
    return after, outcome


def evaluate(
    slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> tuple[State, Outcome]:
    """What a decision leads to: the frame is served, and time passes until the next one.

    Args:
        slot: Fields (...).
        state: Fields (...).
        decision: Fields (...).
        scenario: The parameters.

    Returns:
        The state that the next frame meets, and the outcome.
    """
    if not np.shape(state.battery) == np.shape(slot.bandwidth) == np.shape(decision.exit):
        state = _widened(state, np.shape(slot.bandwidth), np.shape(decision.exit))
    after, outcome = serve(slot, state, decision, scenario)
    free = state.free.copy()
    free[..., 0] = np.maximum(free[..., 0], after.device_free * ~outcome.dropped)
    instance, frames = _frames(slot, after, decision, outcome, scenario)
    under_way = _settle(free, instance, frames, slot.arrival + slot.interval, scenario)
    return State(
        free=free,
        under_way=under_way,
        battery=state.battery - outcome.energy_j,
        frames_left=state.frames_left - 1.0,
    ), outcome


def _widened(state: State, *shapes: tuple[int, ...]) -> State:
    """The state, with one for each instance if slots or decisions are of a larger batch."""
    shape = np.broadcast_shapes(np.shape(state.battery), *shapes)
    return replace(
        state,
        free=np.broadcast_to(state.free, (*shape, 3)),
        under_way=np.broadcast_to(state.under_way, (*shape, *state.under_way.shape[-2:])),
    )


def _sum(values: FloatArray) -> FloatArray:
    """The sum over columns, (..., K) -> (...).

    It is added up in turn: numpy's own sum of eight columns or more is rounded otherwise than that
    of fewer, so that empty columns would matter.
    """
    return np.asarray(np.cumsum(values, axis=-1)[..., -1])


def _frames(
    slot: Slot,
    after: Plan,
    decision: Decision,
    outcome: Outcome,
    scenario: Scenario,
) -> tuple[IntArray, FloatArray]:
    """All frames as things stand, the new one of every instance last.

    A frame that is not started has neither bits nor work.

    Returns:
        To which instance each frame belongs, (N,), and the frames, (N, ROWS).
    """
    started, others = ~outcome.dropped, after.others
    frames = np.empty((len(others) + started.size, ROWS))
    frames[: len(others)] = others.frame
    own = frames[len(others) :].reshape(*started.shape, ROWS)
    bits = scenario.table.cost[decision.exit, decision.partition, 1]
    for row, value in (
        (READY, after.ready),
        (SENT, after.sent),
        (DONE, after.done),
        (DUE, slot.arrival + slot.deadline),
        (LIMIT, slot.arrival + scenario.timeout_s),
        (FROM, after.bits_from),
        (UNTIL, after.bits_until),
        (BITS, bits * started),
        (TRIP, outcome.round_trip_s),
        (EDGE_S, outcome.edge_s * started),
        (SENDING_S, after.sending_s),
        (POWER, slot.base_power),
        (WEIGHT, scenario.latency_weight * slot.priority / slot.deadline),
        (MISS, scenario.miss_weight * slot.priority),
    ):
        own[..., row] = value
    instance = np.arange(started.size)
    if len(others):
        instance = np.concatenate([others.instance, instance])
    changed = after.overtaken
    if changed is not None:
        taken = changed.there & started.reshape(-1)[changed.instance][:, None]
        place = changed.place[taken]
        for row, value in (
            (SENT, changed.sent),
            (DONE, changed.done),
            (UNTIL, changed.until),
            (SENDING_S, changed.sending_s),
        ):
            frames[place, row] = value[taken]
    return instance, frames


def _settle(
    free: FloatArray,
    instance: IntArray,
    frames: FloatArray,
    now: FloatArray,
    scenario: Scenario,
) -> FloatArray:
    """Settle what frames that arrive from ``now`` on cannot change any more.

    A frame that comes later is ready for no stage before it arrives. So who is ready before
    that keeps his place. It is ready for the edge server no sooner than the link is free, unless
    it has nothing to send.

    Args:
        free: When each stage is free, (..., 3) s, which is brought up to date.
        instance: To which instance, counted through, each frame belongs, (N,).
        frames: All frames that are under way, (N, ROWS), by arrival; may be changed.
        now: When the next frame arrives, (...) s.
        scenario: The parameters.

    Returns:
        The frames that are still under way, (..., ROWS, M).
    """
    link, edge = (free.reshape(-1, 3)[:, stage] for stage in (1, 2))
    soon = _at(now, free.shape[:-1], instance)
    bits, edge_s, ready = (frames[:, row] for row in (BITS, EDGE_S, READY))
    sent = ((bits > 0) & (ready <= soon)).nonzero()[0]
    if len(sent):
        np.maximum.at(link, instance[sent], frames[sent, SENT])
        ready[sent] = frames[sent, SENT] + frames[sent, TRIP]
        bits[sent] = 0.0
    # Whoever has yet to send leaves the link after those whose transfers are settled.
    if scenario.table.edge_work_is_sent:
        soon = np.maximum(soon, link[instance])
    sends, works = bits > 0, edge_s > 0
    stays = sends | (works & (ready > soon))
    on_edge = (works & ~stays).nonzero()[0]
    if len(on_edge):
        np.maximum.at(edge, instance[on_edge], frames[on_edge, DONE])
    under_way = np.zeros((*free.shape[:-1], ROWS, scenario.under_way))
    kept = stays.nonzero()[0]
    if len(kept):
        kept = kept[np.argsort(instance[kept], kind="stable")]
        instance = instance[kept]
        column = np.arange(len(kept)) - np.searchsorted(instance, instance)
        under_way.reshape(-1, *under_way.shape[-2:])[instance, :, column] = frames[kept]
    return under_way
