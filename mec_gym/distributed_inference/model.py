"""Delay and energy of one round: seed 002, equations (2)-(8), (11), (12), and contention.

Every function indexes trailing axes only and broadcasts over everything before them. Place
0 is the device itself, place m = 1..M is server m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import BoolArray, FloatArray, IntArray, RealArray
from mec_gym.distributed_inference.scenario import Scenario, Slot

WORST_LATENESS = 2.0  # lateness is counted up to this multiple of the deadline


@dataclass(frozen=True, slots=True)
class State:
    """What the agent's own decisions have changed."""

    place: IntArray  # (..., N) where the block before ran; 0 before the first
    delay: FloatArray  # (..., N) s that the task has taken so far
    failed: BoolArray  # (..., N) the task was given up: the battery could not pay
    battery: FloatArray  # (..., N) J left, w
    rounds_left: FloatArray  # (...) rounds still to come, the one at hand included


@dataclass(frozen=True, slots=True)
class Decision:
    """Where the current block of each device runs, X of (10)."""

    place: IntArray  # (..., N) in 0..M


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one round, all devices together."""

    latency_s: FloatArray  # (...) s, sum of the devices' delays; see evaluate for failures
    local_s: FloatArray  # (...) s, computing on devices (3)
    edge_s: FloatArray  # (...) s, computing on servers (6)
    transfer_s: FloatArray  # (...) s, (5), results included
    energy_j: FloatArray  # (...) J, (7) + (8)
    penalty: FloatArray  # (...) of (11): late and failed tasks
    finished: IntArray  # (...) tasks finished in this round
    deadline_missed: IntArray  # (...) of them late
    dropped: IntArray  # (...) tasks given up in this round


@dataclass(frozen=True, slots=True)
class Delays:
    """The parts of each device's delay in a round, fields (..., N) s."""

    local: FloatArray  # (3)
    edge: FloatArray  # (6)
    upload: FloatArray  # (5), from the device to a server
    other: FloatArray  # (5), between servers, back to the device, the result


def block_delays(
    slot: Slot, before: IntArray, place: IntArray, works: BoolArray, scenario: Scenario
) -> Delays:
    """Delays of the current blocks, seed 002, (3), (5) and (6), and who shares what.

    With contention a server of rate C that runs k of our blocks beside b other tenants gives
    each C / (k + b), and one whose station carries k uploads gives each 1 / k of the
    band, and likewise down; without it a block meets the other tenants only, C / (1 + b).
    So one more block never makes anything faster. Transfers between servers are not shared.

    Args:
        slot: Fields (...).
        before: Place of the block before, (..., N).
        place: Place of the current block, (..., N).
        works: Devices that have a block to place, (..., N).
        scenario: The parameters.
    """
    bits, work = slot.bits[..., 0].astype(np.float64), slot.work[..., 0].astype(np.float64)
    places = scenario.servers + 1
    at_home = place == 0
    last = np.asarray(slot.blocks_left)[..., None] == 1.0
    on_edge = works & ~at_home
    returns = on_edge & last & scenario.return_result
    # Where each device computes, sends to and fetches from; 0: it does not.
    computes_at = np.where(on_edge, place, 0)
    sends_to = np.where(before == 0, computes_at, 0)
    fetches_from = np.where(returns, place, np.where(works & at_home, before, 0))
    tenants = _own(slot.load[..., None, :], computes_at)
    share = _own(slot.server_rate[..., None, :], computes_at)
    up, down = _own(slot.uplink, sends_to), _own(slot.downlink, fetches_from)
    fetched = np.where(returns, slot.bits[..., 1], bits)
    if scenario.contention:
        share = share / (_together(computes_at, places) + tenants)
        up = up / _together(sends_to, places)
        down = down / _together(fetches_from, places)
    else:
        share = share / (1.0 + tenants)
    moves = on_edge & (before > 0) & (before != place)
    other = np.where(fetches_from > 0, fetched / down, 0.0)
    return Delays(
        local=np.where(works & at_home, work / slot.device_rate, 0.0),
        edge=np.where(on_edge, work / share, 0.0),
        upload=np.where(sends_to > 0, bits / up, 0.0),
        other=other + np.where(moves, bits / scenario.backhaul, 0.0),
    )


def _own(of_server: RealArray, place: IntArray) -> FloatArray:
    """Values (..., N, M) of each device's server (..., N); at home, some server's."""
    rows = np.arange(math.prod(of_server.shape[:-1])).reshape(of_server.shape[:-1])
    rows *= of_server.shape[-1]
    # One flat index and ``take``: several times faster than take_along_axis.
    taken = of_server.reshape(-1).take(rows + np.maximum(place - 1, 0))
    return taken.astype(np.float64, copy=False)


def _together(place: IntArray, places: int) -> IntArray:
    """How many devices are where each device (..., N) is, itself included, (..., N)."""
    batch = place.shape[:-1]
    rows = np.arange(math.prod(batch)).reshape(*batch, 1) * places + place
    return np.bincount(rows.ravel()).take(rows)


def energy(
    slot: Slot, place: IntArray, works: BoolArray, upload_s: FloatArray, scenario: Scenario
) -> FloatArray:
    """Energy of each device, (7) + (8), (..., N) J: tau c mu^2 at home, P t for uploads."""
    at_home = home_energy(slot, slot.work[..., 0], scenario)
    return np.where(works & (place == 0), at_home, 0.0) + scenario.transmit_power * upload_s


def home_energy(slot: Slot, work: RealArray, scenario: Scenario) -> FloatArray:
    """Energy (7) of work (..., N) FLOP on the devices themselves, (..., N) J: tau c mu^2."""
    return np.asarray(scenario.energy_coefficient * slot.device_rate**2 * work)


def affordable(slot: Slot, state: State, scenario: Scenario) -> BoolArray:
    """Places that each device's battery can pay for, alone in the band, (..., N, M + 1)."""
    home = home_energy(slot, slot.work[..., 0], scenario)
    send = scenario.transmit_power * slot.bits[..., 0, None] / slot.uplink
    moved = np.where((state.place == 0)[..., None], send, 0.0)
    needed = np.concatenate([home[..., None], moved], axis=-1)
    return np.asarray(needed <= state.battery[..., None])


def lateness_cost(delay: FloatArray, deadline: FloatArray, scenario: Scenario) -> FloatArray:
    """Penalty of (12) for finished tasks, (...): above 0 exactly when D > rho.

    ``miss_cost`` + ``late_weight`` (D - rho) / rho, the fraction counted up to
    ``WORST_LATENESS``. (The patent says only when it is positive.)
    """
    late = np.minimum((delay - deadline) / deadline, WORST_LATENESS)
    return np.where(delay > deadline, scenario.miss_cost + scenario.late_weight * late, 0.0)


def failure_cost(
    delay: FloatArray, deadline: FloatArray, scenario: Scenario
) -> tuple[FloatArray, float]:
    """What giving up a task counts: seconds (...) beside those it has taken, and penalty.

    As a task that took (1 + ``WORST_LATENESS``) times its deadline, the worst lateness.
    """
    seconds = np.maximum((1.0 + WORST_LATENESS) * deadline - delay, 0.0)
    return seconds, scenario.miss_cost + scenario.late_weight * WORST_LATENESS


def evaluate(
    slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> tuple[State, Outcome]:
    """What a round's decisions lead to.

    A device whose battery cannot pay for its block gives its task up; it spends nothing,
    but it had asked for its share of server and band, so the others are no faster. The
    task counts as in :func:`failure_cost`.

    Args:
        slot: Fields (...).
        state: Fields (...).
        decision: Fields (...).
        scenario: The parameters.

    Returns:
        The state before the next round, and the outcome.
    """
    works = slot.active & ~state.failed
    parts = block_delays(slot, state.place, decision.place, works, scenario)
    needed = energy(slot, decision.place, works, parts.upload, scenario)
    fails = works & (needed > state.battery)
    runs = works & ~fails
    transfer = parts.upload + parts.other
    step_s = np.where(runs, parts.local + parts.edge + transfer, 0.0)
    delay = state.delay + step_s
    given_up, failure = failure_cost(delay, slot.deadline, scenario)
    last = np.asarray(slot.blocks_left)[..., None] == 1.0
    finished = runs & last
    penalty = np.where(finished, lateness_cost(delay, slot.deadline, scenario), 0.0)
    penalty = penalty + np.where(fails, failure, 0.0)
    spent = np.where(runs, needed, 0.0)

    def total(a: npt.NDArray[np.generic], who: BoolArray = runs) -> FloatArray:
        return np.asarray(np.where(who, a, 0.0).sum(axis=-1))

    outcome = Outcome(
        latency_s=step_s.sum(axis=-1) + total(given_up, fails),
        local_s=total(parts.local),
        edge_s=total(parts.edge),
        transfer_s=total(transfer),
        energy_j=spent.sum(axis=-1),
        penalty=penalty.sum(axis=-1),
        finished=finished.sum(axis=-1),
        deadline_missed=(finished & (delay > slot.deadline)).sum(axis=-1),
        dropped=fails.sum(axis=-1),
    )
    battery = np.minimum(state.battery - spent + scenario.harvest, scenario.battery)
    after = State(
        place=np.where(last | ~runs, 0, decision.place),
        delay=np.where(last, 0.0, delay),
        failed=(state.failed | fails) & ~last,
        battery=battery,
        rounds_left=state.rounds_left - 1.0,
    )
    return after, outcome
