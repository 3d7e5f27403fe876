"""Latency and energy of one frame, and the three stages that it may have to wait for.

The costs of partitions are those of [Ding2025]. Every function broadcasts over all axes that it
is given. All moments are in seconds from the begin of the episode.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    return np.asarray((cost[..., 1] > 0) * slot.round_trip)


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
    spent = cost[..., 0] * scenario.device.power_w
    spent = spent + slot.base_power * (link_s + round_trip)
    return np.asarray(spent + slot.joule_per_bit * cost[..., 1])


def backlog(slot: Slot, state: State) -> FloatArray:
    """The time until device, link and edge are free of settled work, (..., 3) s."""
    return np.maximum(state.free - np.asarray(slot.arrival)[..., None], 0.0)


def occupied(under_way: FloatArray) -> BoolArray:
    """Which columns of ``State.under_way`` hold a frame, (..., M)."""
    return np.asarray(under_way[..., LIMIT, :] > 0)


def in_use(state: State) -> FloatArray:
    """``State.under_way`` up to the last column that any instance uses, (..., ROWS, K)."""
    limit = state.under_way[..., LIMIT, :]
    used = limit.reshape(-1, limit.shape[-1]).any(axis=0)
    return state.under_way[..., : int(np.count_nonzero(used))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How things would stand with one more frame, whether or not it is started.

    K other frames are under way. A moment of a stage that a frame skips is that of the stage
    before.
    """

    device_free: FloatArray  # (...) s, when the device has done its work
    ready: FloatArray  # (...) s, when the new frame is ready for the link, and so on
    bits_from: FloatArray  # (...) what the link can send until then, FROM
    bits_until: FloatArray  # (...) and until it has sent the frame, UNTIL
    sent: FloatArray  # (...) s
    sending_s: FloatArray  # (...) s
    done: FloatArray  # (...) s
    others_until: FloatArray  # (..., K), UNTIL
    others_sent: FloatArray  # (..., K) s, SENT
    others_sending_s: FloatArray  # (..., K) s, SENDING_S
    others_done: FloatArray  # (..., K) s, DONE


def plan(
    slot: Slot,
    free: FloatArray,
    others: FloatArray,
    device_s: FloatArray,
    bits: FloatArray,
    round_trip: FloatArray,
    edge_s: FloatArray,
) -> Plan:
    """The way of a frame through device, link and edge, and what it changes for others.

    Each stage serves frames in the order in which they become ready for it, as
    :mod:`mec_gym.network.tandem` does, which this equals; here only what one more frame can
    change is computed. Those that wait for the device are ready for the link in the order of
    their columns, because the device serves them in the order of their arrival. So a new frame
    comes after all of them on the link if it has work on the device, and before all of them if
    it is sent as it is. At the edge server every order is possible.

    Args:
        slot: Fields (...), of which the arrival and the uplink matter.
        free: When each stage is free of settled work, (..., 3) s.
        others: The frames under way, (..., ROWS, K).
        device_s: The new frame's work on the device, (...) s.
        bits: What it sends, (...).
        round_trip: Its round trip, (...) s; 0 where nothing is sent.
        edge_s: Its work on the edge server, (...) s.
    """
    curve, count = curve_of(slot), others.shape[-1]
    computes, sends = device_s > 0, bits > 0
    device_free = np.maximum(free[..., 0], slot.arrival) + device_s
    ready = np.where(computes, device_free, slot.arrival)
    device_free = np.where(computes, device_free, free[..., 0])
    start = np.maximum(ready, free[..., 1])
    bits_from = curve.bits_until(start[..., None])[..., 0]
    begin = bits_from
    if count:
        pending = others[..., BITS, :] > 0
        rows = ((UNTIL, bits_from), (SENT, start))
        last = (np.where(pending, others[..., row, :], 0.0).max(axis=-1) for row, _ in rows)
        begin, start = (
            np.where(computes, np.maximum(own, before), own)
            for (_, own), before in zip(rows, last, strict=True)
        )
    until = begin + bits
    # Few bits added to many may round to an end just before the start.
    sent = np.where(sends, np.maximum(curve.when(until[..., None])[..., 0], start), ready)
    sending_s = np.where(sends, sent - start, 0.0)
    edge_ready = sent + round_trip
    others_until, others_sent, others_sending_s, others_done = (
        others[..., row, :] for row in (UNTIL, SENT, SENDING_S, DONE)
    )
    if not count:
        done = np.where(edge_s > 0, np.maximum(edge_ready, free[..., 2]) + edge_s, edge_ready)
    else:
        if (sends & ~computes & pending.any(axis=-1)).any():
            others_until, others_sent, others_sending_s = _let_pass(
                curve, others, pending, sends & ~computes, until, sent
            )
        others_ready = np.where(pending, others_sent + others[..., TRIP, :], others[..., READY, :])
        others_done, done = _on_the_edge(
            others_ready, others[..., EDGE_S, :], edge_ready, edge_s, free[..., 2]
        )
    return Plan(
        device_free=device_free,
        ready=ready,
        bits_from=bits_from,
        bits_until=until,
        sent=sent,
        sending_s=sending_s,
        done=done,
        others_until=others_until,
        others_sent=others_sent,
        others_sending_s=others_sending_s,
        others_done=others_done,
    )


def _let_pass(
    curve: RateCurve,
    others: FloatArray,
    pending: BoolArray,
    passes: BoolArray,
    until: FloatArray,
    sent: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Let a frame go before those that wait for the link, where ``passes`` (...) holds.

    Returns:
        Their UNTIL, SENT and SENDING_S after it, (..., K) each.
    """
    bits_until = others[..., UNTIL, :]
    shape = np.broadcast_shapes(bits_until.shape, (*until.shape, 1))
    bits, begin = others[..., BITS, :], others[..., FROM, :]
    after = np.empty(shape)
    for column in range(shape[-1]):
        own = np.maximum(begin[..., column], until) + bits[..., column]
        until = np.where(pending[..., column], own, until)
        after[..., column] = until
    moved = passes[..., None] & pending & (after > bits_until)
    until_now = np.where(moved, after, bits_until)
    sent_now = np.where(moved, curve.when(until_now), others[..., SENT, :])
    # Each starts when the one before has left; columns that wait for nothing have SENT 0 here.
    before = np.empty(shape)
    before[..., 0] = sent
    before[..., 1:] = np.where(pending[..., :-1], sent_now[..., :-1], 0.0)
    before = np.maximum.accumulate(before, axis=-1)
    start = np.maximum(others[..., READY, :], before)
    sending_s = np.where(moved, np.maximum(sent_now - start, 0.0), others[..., SENDING_S, :])
    return until_now, np.where(moved, np.maximum(sent_now, start), sent_now), sending_s


def _on_the_edge(
    ready: FloatArray,
    work: FloatArray,
    own_ready: FloatArray,
    own_work: FloatArray,
    free: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """When the edge server has answered K frames (..., K) and one that arrived later, (...)."""
    if ready.shape[-1] > 1:
        _, done = serve_by_readiness(_append(ready, own_ready), _append(work, own_work), free)
        return done[..., :-1], done[..., -1]
    # Of two frames it is plain who comes first.
    ready, work = ready[..., 0], work[..., 0]
    first = (work > 0) & (ready <= own_ready)
    own_done = np.maximum(own_ready, np.where(first, np.maximum(ready, free) + work, free))
    own_done = np.where(own_work > 0, own_done + own_work, own_ready)
    done = np.maximum(ready, np.where((own_work > 0) & ~first, own_done, free)) + work
    return np.where(work > 0, done, ready)[..., None], own_done


def all_done(state: State) -> FloatArray:
    """When each stage has done all its work, settled or not, as things stand, (..., 3) s."""
    others = in_use(state)
    return _all_done(state, state.free[..., 0], others, others[..., SENT, :], others[..., DONE, :])


def all_done_after(state: State, after: Plan, bits: FloatArray, edge_s: FloatArray) -> FloatArray:
    """When each stage has done all its work if a frame is started, (..., 3) s.

    Args:
        state: Fields (...).
        after: How things stand with the new frame.
        bits: What it sends, (...).
        edge_s: Its work on the edge server, (...) s.
    """
    others = in_use(state)
    free = _all_done(state, after.device_free, others, after.others_sent, after.others_done)
    for stage, work, finish in ((1, bits, after.sent), (2, edge_s, after.done)):
        free[..., stage] = np.maximum(free[..., stage], np.where(work > 0, finish, 0.0))
    return free


def _all_done(
    state: State, device: FloatArray, others: FloatArray, sent: FloatArray, done: FloatArray
) -> FloatArray:
    shape = np.broadcast_shapes(np.shape(device), state.free.shape[:-1])
    free = np.empty((*shape, 3))
    free[..., 0], free[..., 1:] = device, state.free[..., 1:]
    if others.shape[-1]:
        for stage, row, finish in ((1, BITS, sent), (2, EDGE_S, done)):
            last = np.where(others[..., row, :] > 0, finish, 0.0).max(axis=-1)
            free[..., stage] = np.maximum(free[..., stage], last)
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
    device_s, edge_s = cost[..., 0] / slot.device_speed, cost[..., 2] / slot.edge_speed
    bits, round_trip = cost[..., 1], round_trip_times(cost, slot)
    others = in_use(state)
    after = plan(slot, state.free, others, device_s, bits, round_trip, edge_s)
    needed = energy(cost, after.sending_s, round_trip, slot, scenario)
    late = after.done > slot.arrival + scenario.timeout_s
    if others.shape[-1]:
        due, limit, done = (others[..., row, :] for row in (DUE, LIMIT, DONE))
        delays = after.others_done - done
        more_late = (after.others_done > due).astype(np.float64) - (done > due)
        delay_s, misses = delays.sum(axis=-1), more_late.sum(axis=-1)
        delay_cost = others[..., WEIGHT, :] * delays + others[..., MISS, :] * more_late
        delay_cost = delay_cost.sum(axis=-1)
        longer = after.others_sending_s - others[..., SENDING_S, :]
        needed = needed + (others[..., POWER, :] * longer).sum(axis=-1)
        late = late | (after.others_done > limit).any(axis=-1)
        no_room = np.asarray((limit > 0).sum(axis=-1) >= scenario.under_way)
        no_room = no_room & ((bits > 0) | (edge_s > 0))
    else:
        delay_s = misses = delay_cost = np.zeros(())
        no_room = np.zeros((), dtype=np.bool_)
    battery_short = needed > state.battery
    timed_out = late & ~battery_short
    no_room = no_room & ~battery_short & ~timed_out
    dropped = battery_short | timed_out | no_room
    latency = np.where(dropped, scenario.timeout_s, after.done - slot.arrival)
    missed = dropped | (after.done > slot.arrival + slot.deadline)
    accuracy = np.where(dropped, 0.0, scenario.accuracy[decision.exit])
    spent = np.where(dropped, 0.0, needed)
    in_work = device_s + after.sending_s + round_trip + edge_s
    outcome = Outcome(
        latency_s=latency,
        delay_caused_s=np.where(dropped, 0.0, delay_s),
        device_s=device_s,
        link_s=after.sending_s,
        round_trip_s=round_trip,
        edge_s=edge_s,
        waiting_s=np.where(dropped, 0.0, np.maximum(latency - in_work, 0.0)),
        energy_j=spent,
        accuracy=accuracy,
        deadline_missed=missed,
        misses_caused=np.where(dropped, 0.0, misses),
        timed_out=timed_out,
        battery_short=battery_short,
        no_room=no_room,
        dropped=dropped,
        accuracy_cost=scenario.accuracy_weight * (1.0 - accuracy),
        latency_cost=scenario.latency_weight * slot.priority * latency / slot.deadline,
        miss_cost=scenario.miss_weight * slot.priority * missed,
        delay_cost=np.where(dropped, 0.0, delay_cost),
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
    after, outcome = serve(slot, state, decision, scenario)
    started = ~outcome.dropped
    free = np.empty((*started.shape, 3))
    free[...] = state.free
    free[..., 0] = np.where(started, after.device_free, state.free[..., 0])
    frames = _frames(slot, in_use(state), after, decision, outcome, scenario)
    under_way = _settle(free, frames, np.asarray(slot.arrival + slot.interval), scenario)
    return State(
        free=free,
        under_way=under_way,
        battery=state.battery - outcome.energy_j,
        frames_left=state.frames_left - 1.0,
    ), outcome


def _append(others: FloatArray, own: FloatArray) -> FloatArray:
    """Put a frame's own number (...) after those of K others (..., K): (..., K + 1)."""
    shape = np.broadcast_shapes(others.shape[:-1], np.shape(own))
    joined = np.empty((*shape, others.shape[-1] + 1))
    joined[..., :-1], joined[..., -1] = others, own
    return joined


def _frames(
    slot: Slot,
    others: FloatArray,
    after: Plan,
    decision: Decision,
    outcome: Outcome,
    scenario: Scenario,
) -> FloatArray:
    """The columns of the K frames in use and the new one as things stand, (..., ROWS, K + 1).

    A frame that is not started has neither bits nor work.
    """
    started, count = ~outcome.dropped, others.shape[-1]
    frames = np.empty((*started.shape, ROWS, count + 1))
    if count:
        frames[..., :count] = others
        for row, value in (
            (SENT, after.others_sent),
            (DONE, after.others_done),
            (UNTIL, after.others_until),
            (SENDING_S, after.others_sending_s),
        ):
            np.copyto(frames[..., row, :count], value, where=started[..., None])
    own = frames[..., count]
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
    return frames


def _settle(
    free: FloatArray, frames: FloatArray, now: FloatArray, scenario: Scenario
) -> FloatArray:
    """Settle what frames that arrive from ``now`` on cannot change any more.

    A frame that comes later is ready for no stage before it arrives. So who is ready before
    that keeps his place. It is ready for the edge server no sooner than the link is free, unless
    it has nothing to send.

    Args:
        free: When each stage is free, (..., 3) s, which is brought up to date.
        frames: The columns of all frames that are under way, (..., ROWS, N); may be changed.
        now: When the next frame arrives, (...) s.
        scenario: The parameters.

    Returns:
        The frames that are still under way, (..., ROWS, M).
    """
    now = now[..., None]
    bits, edge_s, ready = (frames[..., row, :] for row in (BITS, EDGE_S, READY))
    sent = (bits > 0) & (ready <= now)
    if sent.any():
        until = np.where(sent, frames[..., SENT, :], 0.0).max(axis=-1)
        free[..., 1] = np.maximum(free[..., 1], until)
        np.copyto(ready, frames[..., SENT, :] + frames[..., TRIP, :], where=sent)
        bits[sent] = 0.0
    # Whoever has yet to send leaves the link after those whose transfers are settled.
    soon = now
    if scenario.table.edge_work_is_sent:
        soon = np.maximum(now, free[..., 1:2])
    sends, works = bits > 0, edge_s > 0
    on_edge = works & ~sends & (ready <= soon)
    if on_edge.any():
        until = np.where(on_edge, frames[..., DONE, :], 0.0).max(axis=-1)
        free[..., 2] = np.maximum(free[..., 2], until)
    kept = sends | (works & ~on_edge)
    under_way = np.zeros((*free.shape[:-1], ROWS, scenario.under_way))
    most = int(kept.sum(axis=-1).max(initial=0))
    if most:
        rows = np.arange(kept[..., 0].size)[:, None]
        kept = kept.reshape(len(rows), -1)
        first = np.argsort(~kept, axis=-1, kind="stable")[:, :most]
        columns = frames.reshape(len(rows), ROWS, -1)[rows, :, first]  # (rows, most, ROWS)
        columns *= kept[rows, first][..., None]
        under_way[..., :most] = columns.swapaxes(1, 2).reshape(*free.shape[:-1], ROWS, most)
    return under_way
