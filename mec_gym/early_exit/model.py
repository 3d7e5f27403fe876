"""Latency and energy of one frame, and the three stages that it may have to wait for.

The costs of partitions are those of [Ding2025]. Every function broadcasts over all axes that it
is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.early_exit.scenario import Scenario, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent's own decisions have changed."""

    backlog: FloatArray  # (..., 3) s until device, link and edge are free
    battery: FloatArray  # (...) J left
    frames_left: FloatArray  # (...) frames still to come, the one at hand included


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where the network answers, and which of that exit's candidates is used."""

    exit: IntArray  # (...) 0 = earliest
    partition: IntArray  # (...) index into the table's candidates, by device work


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one frame."""

    latency_s: FloatArray  # (...) s from arrival to answer; the timeout if it was dropped
    device_s: FloatArray  # (...) s, Td
    link_s: FloatArray  # (...) s, Tt
    round_trip_s: FloatArray  # (...) s from the start of the transfer that no stage is busy for
    edge_s: FloatArray  # (...) s, Te
    waiting_s: FloatArray  # (...) s in queues, the rest of the latency; 0 if dropped
    energy_j: FloatArray  # (...) J taken from the battery
    accuracy: FloatArray  # (...) probability that the answer is right; 0 if dropped
    deadline_missed: BoolArray  # (...) answered late, or dropped
    timed_out: BoolArray  # (...) not started, it would have taken longer than the timeout
    battery_short: BoolArray  # (...) not started, the battery cannot pay for it
    dropped: BoolArray  # (...) not started, for one of these two reasons
    accuracy_cost: FloatArray  # (...) part of the negative reward
    latency_cost: FloatArray  # (...) part of the negative reward
    miss_cost: FloatArray  # (...) part of the negative reward
    energy_cost: FloatArray  # (...) part of the negative reward


def service_times(cost: FloatArray, slot: Slot) -> FloatArray:
    """Td, Tt and Te in a slot, (..., 3) s.

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


def pass_through(
    service: FloatArray, round_trip: FloatArray, backlog: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """A frame's way through device, link and edge, one after the other.

    Each stage follows Lindley's recursion, finish = max(ready, free) + service, and serves
    frames in the order of their arrival. A frame skips a stage at which it has nothing to do:
    a frame that stays on the device does not wait for the link, and one that is sent as it is
    does not wait for the device.

    A frame pays for the round trip at the moment at which its transfer starts: the edge server
    has the frame at start + round trip + Tt. The link is busy for Tt alone, because the bits of
    other frames may be under way at the same time.

    Args:
        service: Td, Tt and Te, (..., 3) s.
        round_trip: The round trip, (...) s; 0 where nothing is sent.
        backlog: When each stage is free, (..., 3) s from now.

    Returns:
        When the frame is done, (...) s from now, and when each stage is free after it, (..., 3)
        s from now.
    """
    works = service > 0
    start = np.empty(np.broadcast_shapes(service.shape, backlog.shape))
    done = np.zeros(service.shape[:-1])
    for stage in range(3):
        start[..., stage] = np.maximum(done, backlog[..., stage])
        done = np.where(works[..., stage], start[..., stage] + service[..., stage], done)
        if stage == 1:
            done = done + round_trip
    return done, np.where(works, start + service, backlog)


def energy(
    cost: FloatArray, link_s: FloatArray, round_trip: FloatArray, slot: Slot, scenario: Scenario
) -> FloatArray:
    """The energy that the device spends on its work and on its radio, (...) J.

    A loaded processor takes longer for the same work but spends the same energy on it. The
    radio draws its base power during the round trip and the transfer, and more with the rate
    while it sends.

    Args:
        cost: Device work (s), bits to send and edge work (s), (..., 3).
        link_s: Tt, (...) s.
        round_trip: The round trip, (...) s; 0 where nothing is sent.
        slot: Fields (...).
        scenario: The parameters.
    """
    spent = cost[..., 0] * scenario.device.power_w
    spent = spent + slot.base_power * (link_s + round_trip)
    return np.asarray(spent + slot.joule_per_bit * cost[..., 1])


def serve(
    slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> tuple[FloatArray, Outcome]:
    """What becomes of one frame, before the next one comes.

    All of it is known when the frame arrives. So a frame that would take longer than the
    timeout, or that the battery cannot pay for, is not started. It costs no time and no
    energy, counts as a wrong answer that took the timeout, and has missed its deadline.

    Args:
        slot: Fields (...).
        state: Fields (...).
        decision: Fields (...).
        scenario: The parameters.

    Returns:
        When each stage is free, (..., 3) s after this frame's arrival, and the outcome.
    """
    cost = scenario.table.cost[decision.exit, decision.partition]
    service = service_times(cost, slot)
    round_trip = round_trip_times(cost, slot)
    done, free = pass_through(service, round_trip, state.backlog)
    needed = energy(cost, service[..., 1], round_trip, slot, scenario)
    battery_short = needed > state.battery
    timed_out = ~battery_short & (done > scenario.timeout_s)
    dropped = battery_short | timed_out
    latency = np.where(dropped, scenario.timeout_s, done)
    missed = dropped | (done > slot.deadline)
    accuracy = np.where(dropped, 0.0, scenario.accuracy[decision.exit])
    spent = np.where(dropped, 0.0, needed)
    under_way = service[..., 0] + service[..., 1] + service[..., 2] + round_trip
    outcome = Outcome(
        latency_s=latency,
        device_s=service[..., 0],
        link_s=service[..., 1],
        round_trip_s=round_trip,
        edge_s=service[..., 2],
        waiting_s=np.where(dropped, 0.0, np.maximum(done - under_way, 0.0)),
        energy_j=spent,
        accuracy=accuracy,
        deadline_missed=missed,
        timed_out=timed_out,
        battery_short=battery_short,
        dropped=dropped,
        accuracy_cost=scenario.accuracy_weight * (1.0 - accuracy),
        latency_cost=scenario.latency_weight * slot.priority * latency / slot.deadline,
        miss_cost=scenario.miss_weight * slot.priority * missed,
        energy_cost=scenario.energy_weight * spent,
    )
    return np.where(dropped[..., None], state.backlog, free), outcome


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
    free, outcome = serve(slot, state, decision, scenario)
    after = State(
        backlog=np.maximum(free - np.asarray(slot.interval)[..., None], 0.0),
        battery=state.battery - outcome.energy_j,
        frames_left=state.frames_left - 1.0,
    )
    return after, outcome
