"""Delay and energy of one round: [Li2024] eq. (2)-(8), (11) and (12), and contention.

Every function indexes trailing axes only and broadcasts over everything before them. Place
0 is the device itself, and place m = 1..M is server m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import BoolArray, FloatArray, IntArray, RealArray
from mec_gym.distributed_inference.scenario import Scenario, Slot

WORST_LATENESS = 2.0  # lateness is counted up to this multiple of the deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent's own decisions have changed."""

    place: IntArray  # (..., N) where the block before ran; 0 before the first
    delay: FloatArray  # (..., N) s that the task has taken so far
    failed: BoolArray  # (..., N) whether the task was given up: the battery could not pay
    battery: FloatArray  # (..., N) J left, w
    rounds_left: FloatArray  # (...) rounds still to come, the current one included


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where the current block of each device runs, X of [Li2024] eq. (10)."""

    place: IntArray  # (..., N) in 0..M


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one round, all devices together."""

    latency_s: FloatArray  # (...) s, sum of the devices' delays; see evaluate for failures
    local_s: FloatArray  # (...) s, computing on devices, eq. (3)
    edge_s: FloatArray  # (...) s, computing on servers, eq. (6)
    transfer_s: FloatArray  # (...) s, eq. (5), results included
    energy_j: FloatArray  # (...) J, eq. (7) + (8)
    penalty: FloatArray  # (...) that of eq. (11): what is late, and failed tasks
    finished: IntArray  # (...) tasks finished in this round
    deadline_missed: IntArray  # (...) finished tasks that are late; or blocks, as the scenario says
    dropped: IntArray  # (...) tasks given up in this round


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """The parts of each device's delay in a round, fields (..., N) s."""

    local: FloatArray  # computing on the device, eq. (3)
    edge: FloatArray  # computing on a server, eq. (6)
    upload: FloatArray  # from the device to a server, eq. (5)
    other: FloatArray  # between servers, back to the device, and the result, eq. (5)


def block_delays(
    slot: Slot, before: IntArray, place: IntArray, works: BoolArray, scenario: Scenario
) -> Delays:
    """Compute the delays of the current blocks, [Li2024] eq. (3), (5) and (6).

    With contention, a server of rate C that runs k of our blocks beside b other tenants gives
    each of them C / (k + b), and a station that carries k uploads gives each of them 1 / k of
    its band; downloads share their band likewise. Without contention, a block shares only
    with the other tenants and gets C / (1 + b). So one more block never makes anything faster.
    Transfers between servers are not shared.

    Args:
        slot: The round, fields (...).
        before: Place of the block before, (..., N).
        place: Place of the current block, (..., N).
        works: Whether a device has a block to place, (..., N).
        scenario: The parameters.

    Returns:
        The parts of the delays, fields (..., N) s.
    """
    bits, work = slot.bits[..., 0].astype(np.float64), slot.work[..., 0].astype(np.float64)
    places = scenario.servers + 1
    at_home = place == 0
    last = np.asarray(slot.blocks_left)[..., None] == 1.0
    on_edge = works & ~at_home
    returns = on_edge & last & scenario.return_result
    # The server at which each device computes, sends to and fetches from; 0 if none.
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
    """Return the value (..., N, M) of each device's server (..., N); at home, of any server."""
    rows = np.arange(math.prod(of_server.shape[:-1])).reshape(of_server.shape[:-1])
    rows *= of_server.shape[-1]
    # One flat index and ``take``: several times faster than take_along_axis.
    taken = of_server.reshape(-1).take(rows + np.maximum(place - 1, 0))
    return taken.astype(np.float64, copy=False)


def _together(place: IntArray, places: int) -> IntArray:
    """Count the devices that are where each device (..., N) is, itself included, (..., N)."""
    batch = place.shape[:-1]
    rows = np.arange(math.prod(batch)).reshape(*batch, 1) * places + place
    return np.bincount(rows.ravel()).take(rows)


def energy(
    slot: Slot, place: IntArray, works: BoolArray, upload_s: FloatArray, scenario: Scenario
) -> FloatArray:
    """Compute the energy of each device, [Li2024] eq. (7) + (8).

    A block at home costs tau c mu^2 = (tau mu^3) c / mu: the power while the device computes,
    times the time that it takes. An upload of t seconds costs P t.

    Args:
        slot: The round, fields (...).
        place: Place of the current block, (..., N).
        works: Whether a device has a block to place, (..., N).
        upload_s: Time that each device sends, (..., N) s.
        scenario: The parameters.

    Returns:
        The energy, (..., N) J.
    """
    at_home = home_energy(slot, slot.work[..., 0])
    return np.where(works & (place == 0), at_home, 0.0) + scenario.transmit_power * upload_s


def home_energy(slot: Slot, work: RealArray) -> FloatArray:
    """Compute the energy of work on the devices themselves, [Li2024] eq. (7), tau c mu^2.

    Args:
        slot: The round, fields (...).
        work: FLOP of each device, (..., N).

    Returns:
        The energy, (..., N) J.
    """
    return np.asarray(slot.compute_power * (work / slot.device_rate))


def affordable(slot: Slot, state: State, scenario: Scenario) -> BoolArray:
    """Tell which places each device's battery can pay for if it has the band to itself.

    Args:
        slot: The round, fields (...).
        state: The state before the round, fields (...).
        scenario: The parameters.

    Returns:
        Whether it can, (..., N, M + 1).
    """
    home = home_energy(slot, slot.work[..., 0])
    send = scenario.transmit_power * slot.bits[..., 0, None] / slot.uplink
    moved = np.where((state.place == 0)[..., None], send, 0.0)
    needed = np.concatenate([home[..., None], moved], axis=-1)
    return np.asarray(needed <= state.battery[..., None])


def lateness_cost(delay: FloatArray, deadline: FloatArray, scenario: Scenario) -> FloatArray:
    """Compute the penalty of finished tasks, or of finished blocks, [Li2024] eq. (12).

    It is 0 up to the deadline, and ``miss_cost`` + ``late_weight`` (D - rho) / rho beyond it;
    the fraction is counted up to ``WORST_LATENESS``. ([Li2024] says only when the penalty is
    positive; the amount is our choice.)

    Args:
        delay: Delay of each, D, (...) s.
        deadline: Their deadline, rho, (...) s.
        scenario: The parameters.

    Returns:
        The penalty, (...).
    """
    late = np.minimum((delay - deadline) / deadline, WORST_LATENESS)
    return np.where(delay > deadline, scenario.miss_cost + scenario.late_weight * late, 0.0)


def failure_cost(
    delay: FloatArray, deadline: FloatArray, blocks_left: FloatArray | float, scenario: Scenario
) -> tuple[FloatArray, FloatArray]:
    """Compute what giving up a task costs.

    It costs as much as a task that took (1 + ``WORST_LATENESS``) times its deadline, which is
    the worst lateness that counts. If each block has a deadline, it costs as much as if every
    block that is left took so many times its own.

    Args:
        delay: What the tasks have taken so far, (...) s.
        deadline: The deadline of the tasks or of each of their blocks, (...) s.
        blocks_left: Blocks of them that have not run, (...).
        scenario: The parameters.

    Returns:
        The seconds that are charged beside those taken so far, (...) s, and the penalty, (...).
    """
    worst = (1.0 + WORST_LATENESS) * deadline
    penalty = scenario.miss_cost + scenario.late_weight * WORST_LATENESS
    if scenario.deadline_of == "block":
        left = np.broadcast_to(blocks_left, worst.shape)
        return left * worst, left * penalty
    return np.maximum(worst - delay, 0.0), np.full(worst.shape, penalty)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRound:
    """What becomes of each device's block in a round, fields (..., N)."""

    parts: Delays
    runs: BoolArray  # whether a block is run
    fails: BoolArray  # whether a task is given up
    step_s: FloatArray  # s, the delay of the block that is run
    given_up_s: FloatArray  # s, the delay that counts for a task that is given up
    delay: FloatArray  # s that the task has taken, this round included
    penalty: FloatArray  # that of eq. (11)
    spent: FloatArray  # J
    finished: BoolArray  # whether its task ends in this round
    missed: BoolArray  # whether a deadline is missed in this round


def device_round(slot: Slot, state: State, decision: Decision, scenario: Scenario) -> DeviceRound:
    """Play one round and tell what becomes of each device; for the arguments see ``evaluate``."""
    works = slot.active & ~state.failed
    parts = block_delays(slot, state.place, decision.place, works, scenario)
    needed = energy(slot, decision.place, works, parts.upload, scenario)
    fails = works & (needed > state.battery)
    runs = works & ~fails
    step_s = np.where(runs, parts.local + parts.edge + (parts.upload + parts.other), 0.0)
    delay = state.delay + step_s
    blocks_left = np.asarray(slot.blocks_left)[..., None]
    given_up, failure = failure_cost(delay, slot.deadline, blocks_left, scenario)
    finished = runs & (blocks_left == 1.0)
    # What is due now, and what it has taken.
    due, taken = (runs, step_s) if scenario.deadline_of == "block" else (finished, delay)
    penalty = np.where(due, lateness_cost(taken, slot.deadline, scenario), 0.0)
    return DeviceRound(
        parts=parts,
        runs=runs,
        fails=fails,
        step_s=step_s,
        given_up_s=np.where(fails, given_up, 0.0),
        delay=delay,
        penalty=penalty + np.where(fails, failure, 0.0),
        spent=np.where(runs, needed, 0.0),
        finished=finished,
        missed=due & (taken > slot.deadline),
    )


def evaluate(
    slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> tuple[State, Outcome]:
    """Play one round.

    A device whose battery cannot pay for its block gives its task up. It spends nothing, but
    it has asked for its share of server and band, so the others are no faster. The task
    then costs what :func:`failure_cost` says.

    Args:
        slot: The round, fields (...).
        state: The state before the round, fields (...).
        decision: The places, fields (...).
        scenario: The parameters.

    Returns:
        The state before the next round and the outcome, fields (...).
    """
    each = device_round(slot, state, decision, scenario)

    def total(a: npt.NDArray[np.generic]) -> FloatArray:
        return np.asarray(np.where(each.runs, a, 0.0).sum(axis=-1))

    outcome = Outcome(
        latency_s=each.step_s.sum(axis=-1) + each.given_up_s.sum(axis=-1),
        local_s=total(each.parts.local),
        edge_s=total(each.parts.edge),
        transfer_s=total(each.parts.upload + each.parts.other),
        energy_j=each.spent.sum(axis=-1),
        penalty=each.penalty.sum(axis=-1),
        finished=each.finished.sum(axis=-1),
        deadline_missed=each.missed.sum(axis=-1),
        dropped=each.fails.sum(axis=-1),
    )
    battery = np.minimum(state.battery - each.spent + scenario.harvest, scenario.battery)
    last = np.asarray(slot.blocks_left)[..., None] == 1.0
    after = State(
        place=np.where(last | ~each.runs, 0, decision.place),
        delay=np.where(last, 0.0, each.delay),
        failed=(state.failed | each.fails) & ~last,
        battery=battery,
        rounds_left=state.rounds_left - 1.0,
    )
    return after, outcome
