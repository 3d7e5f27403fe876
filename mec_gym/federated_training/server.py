"""What the server does: it waits, and makes one model of the updates that have arrived."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mec_gym.core.types import BoolArray, Float32Array, FloatArray, IntArray
from mec_gym.federated_training import jobs
from mec_gym.federated_training.scenario import Scenario
from mec_gym.federated_training.world import World, known_images
from mec_gym.learning.merge import (
    average_factors,
    mix,
    staleness_weight,
    weighted_sum,
    with_momentum,
)

if TYPE_CHECKING:
    from mec_gym.federated_training.model import State


def stops(
    client: IntArray, end: FloatArray, arrives: BoolArray, clock: FloatArray, scenario: Scenario
) -> FloatArray:
    """Compute when the server stops waiting, (Z,) s.

    It waits for the quorum, or until nobody is on their way any more, but not longer than the
    deadline. If nobody is on their way to begin with, ``idle_s`` passes.

    Args:
        client: Who uses each row, (Z, m).
        end: When its update arrives, or when it is lost, (Z, m) s.
        arrives: Whether it arrives, (Z, m).
        clock: The time of the decision, (Z,) s.
        scenario: The parameters.
    """
    active = client != jobs.FREE
    arrivals = np.sort(np.where(active & arrives, end, np.inf), axis=-1)
    stop = np.minimum(arrivals[:, scenario.quorum - 1], np.where(active, end, -np.inf).max(axis=-1))
    if scenario.deadline is not None:
        stop = np.minimum(stop, clock + scenario.deadline)
    return np.where(active.any(axis=-1), np.maximum(stop, clock), clock + scenario.idle_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A state after merging, and what was merged, (Z,) each."""

    state: State  # its recall and what counts the errors are those of before
    broken: BoolArray  # whether the new model has numbers that are not finite
    merged: FloatArray  # updates that were merged
    lost: FloatArray  # updates of clients that left
    dropped: FloatArray  # updates that nobody waited for, or that were too stale
    staleness: FloatArray  # mean staleness of what was merged; 0 if nothing was


def merge(
    world: World, flight: State, stop: FloatArray, running: BoolArray, scenario: Scenario
) -> Merged:
    """Merge what has arrived when the server stops waiting, and free rows.

    What would be merged after the budget is dropped. A model that has diverged is not taken over.

    Args:
        world: Nature's tables.
        flight: The states with all jobs on their way, fields (Z, ...).
        stop: When the server stops waiting, (Z,) s.
        running: Whether the episode has not ended before, (Z,).
        scenario: The parameters.
    """
    s = scenario
    active = (flight.client != jobs.FREE) & running[:, None]
    come = active & (flight.end <= stop[:, None])
    arrived = come & flight.arrives & (stop + s.server_s <= s.budget_s)[:, None]
    tau = flight.version[:, None] - flight.based_on
    merged = arrived & (tau <= s.max_staleness)
    any_merged = merged.any(axis=-1)
    client = np.maximum(flight.client, 0)
    with np.errstate(over="ignore", invalid="ignore"):  # a model that diverges is found below
        weights, momentum, own, control = _new_model(world, flight, merged, tau, scenario)
    broken = (merged & ~np.isfinite(flight.loss)).any(axis=-1)
    broken |= ~np.isfinite(weights).all(axis=-1)
    weights = np.where(broken[:, None], flight.weights, weights)
    version = flight.version + any_merged
    gone = come & ~flight.arrives
    freed = active if s.late == "drop" else come
    next_clock = np.minimum(stop + np.where(arrived.any(axis=-1), s.server_s, 0.0), s.budget_s)
    last_loss, last_duration = flight.last_loss.copy(), flight.last_duration.copy()
    merged_into = flight.merged_into.copy()
    z, row = np.nonzero(merged)
    who = client[z, row]
    last_loss[z, who] = flight.loss[z, row]
    last_duration[z, who] = flight.end[z, row] - flight.begin[z, row]
    merged_into[z, who] = version[z]
    count = merged.sum(axis=-1)
    state = replace(
        flight,
        clock=np.where(running, next_clock, flight.clock),
        version=version,
        weights=weights,
        client=np.where(freed, jobs.FREE, flight.client),
        own=own,
        control=control,
        momentum=momentum,
        last_loss=last_loss,
        last_duration=last_duration,
        merged_into=merged_into,
    )
    return Merged(
        state=state,
        broken=broken,
        merged=count.astype(np.float64),
        lost=gone.sum(axis=-1).astype(np.float64),
        dropped=(freed & ~merged & ~gone).sum(axis=-1).astype(np.float64),
        staleness=np.where(merged, tau, 0).sum(axis=-1) / np.maximum(count, 1),
    )


def _new_model(
    world: World, flight: State, merged: BoolArray, tau: IntArray, scenario: Scenario
) -> tuple[Float32Array, Float32Array, Float32Array, Float32Array]:
    """Return weights, momentum, and what clients and server remember, after a merge."""
    s = scenario
    weighs = staleness_weight(np.maximum(tau, 0), s.staleness, s.staleness_power)
    factors = np.where(merged, weighs, 0.0)
    own, control, momentum = flight.own, flight.control, flight.momentum
    client = np.maximum(flight.client, 0)
    if s.merge == "average":
        counts = merged.astype(np.float64)
        if s.merge_weights == "samples":
            samples = np.take_along_axis(world.each("samples"), client, axis=-1)
            counts *= known_images(samples, flight.begin, scenario)[1]
        shares = average_factors(counts, factors, flight.steps if s.normalise else None)
        update = weighted_sum(flight.sent, shares)
        if s.server_momentum:
            some = np.asarray(merged.any(axis=-1))
            now = with_momentum(momentum[:, 0], update, s.server_momentum, some)
            momentum = now[:, None]
            update = np.where(some[:, None], now, 0)
        weights = flight.weights + np.float32(s.server_rate) * update
        remembered = flight.own_next
    else:
        order = np.argsort(flight.end, axis=-1, kind="stable")
        weights, moves = mix(flight.weights, flight.sent, s.server_rate * factors, order)
        remembered = flight.sent - moves
    if s.memory_rows:
        own, control = own.copy(), control.copy()
        for row in range(s.at_once):
            z = np.flatnonzero(merged[:, row])
            who = client[z, row]
            if s.control_variates:
                control[z, 0] += (remembered[z, row] - own[z, who]) / np.float32(s.clients)
            own[z, who] = remembered[z, row]
    return weights, momentum, own, control
