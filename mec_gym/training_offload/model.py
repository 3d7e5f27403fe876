"""Delay and energy of one split training task: seed 000, equations (1)-(18).

Every function broadcasts over all axes it is given. The symbols: x_i and x_c are the
bits trained at the edge and in the cloud, i the server that receives, j the one that
takes over, T_ct the time the vehicle stays with i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.training_offload.scenario import Scenario, Slot


@dataclass(frozen=True, slots=True)
class State:
    """What the agent's own decisions have changed."""

    battery: FloatArray  # (...) J left
    tasks_left: FloatArray  # (...) tasks still to come, the one at hand included


@dataclass(frozen=True, slots=True)
class Decision:
    """How one task is split. Shares are of W; what remains stays on the device."""

    edge_share: FloatArray  # (...) x_i / W
    cloud_share: FloatArray  # (...) x_c / W
    server: IntArray  # (...) i, of region 0
    next_server: IntArray  # (...) j, of region 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task."""

    latency_s: FloatArray  # (...) s, T; the deadline if the task was dropped
    edge_s: FloatArray  # (...) s, delay of the edge's part
    device_s: FloatArray  # (...) s, delay of the device's part
    cloud_s: FloatArray  # (...) s, delay of the cloud's part
    energy_j: FloatArray  # (...) J taken from the battery
    case: IntArray  # (...) 1 left while uploading, 2 training, 3 returning, 4 never left
    deadline_missed: BoolArray  # (...) started, but not done in time
    battery_short: BoolArray  # (...) not started: the battery cannot pay for it
    dropped: BoolArray  # (...) one of the two


@dataclass(frozen=True, slots=True)
class Route:
    """The chosen pair of servers and the times that decide the case. Fields (...)."""

    uplink_i: FloatArray  # bit/s
    downlink_i: FloatArray  # bit/s
    compute_i: FloatArray  # bit/s
    uplink_j: FloatArray  # bit/s
    downlink_j: FloatArray  # bit/s
    compute_j: FloatArray  # bit/s
    connection_time: FloatArray  # s, T_ct


def route(slot: Slot, server: IntArray, next_server: IntArray) -> Route:
    """Rates of servers i and j, (...), from a slot (...)."""

    def pick(rates: FloatArray, region: int, index: IntArray) -> FloatArray:
        index = np.asarray(index)
        batch = np.broadcast_shapes(rates.shape[:-2], index.shape)
        of_region = np.broadcast_to(rates[..., region, :], (*batch, rates.shape[-1]))
        chosen = np.broadcast_to(index, batch)[..., None]
        return np.asarray(np.take_along_axis(of_region, chosen, axis=-1)[..., 0])

    return Route(
        pick(slot.uplink, 0, server),
        pick(slot.downlink, 0, server),
        pick(slot.compute, 0, server),
        pick(slot.uplink, 1, next_server),
        pick(slot.downlink, 1, next_server),
        pick(slot.compute, 1, next_server),
        slot.connection_time,
    )


def migration_case(x_i: FloatArray, r: Route, scenario: Scenario) -> IntArray:
    """Which of the four cases of figure 2 applies, (...).

    The conditions of (1), (2), (4), (5), (8) and (9). The paper leaves their boundaries
    to "otherwise" (case 4), which ``literal`` follows; the other variants give a boundary
    to the side with less migration.
    """
    received = x_i / r.uplink_i
    trained = received + x_i / r.compute_i
    returned = trained + scenario.result_ratio * x_i / r.downlink_i
    tau = r.connection_time
    if scenario.variant == "literal":
        conditions = [tau < received, (received < tau) & (tau < trained),
                      (trained < tau) & (tau < returned)]  # fmt: skip
        return np.select(conditions, [1, 2, 3], 4)
    return 4 - (tau < received).astype(np.int64) - (tau < trained) - (tau < returned)


def communication_i(x_i: FloatArray, r: Route, case: IntArray, rho: float) -> FloatArray:
    """Time spent on the link to server i, (1), s."""
    received = x_i / r.uplink_i
    return np.choose(
        case - 1,
        [
            r.connection_time,
            received,
            r.connection_time - x_i / r.compute_i,
            received + rho * x_i / r.downlink_i,
        ],
    )


def unreturned(x_i: FloatArray, r: Route, rho: float) -> FloatArray:
    """Bits of results not yet returned when the vehicle leaves in case 3: (2), (8)."""
    returning = r.connection_time - x_i / r.uplink_i - x_i / r.compute_i
    return rho * x_i - r.downlink_i * returning


def communication_j(x_i: FloatArray, r: Route, case: IntArray, rho: float) -> FloatArray:
    """Time spent on the link to server j, (2), s."""
    results = rho * x_i / r.downlink_j
    return np.choose(
        case - 1,
        [
            (x_i - r.uplink_i * r.connection_time) / r.uplink_j + results,
            results,
            unreturned(x_i, r, rho) / r.downlink_j,
            np.zeros_like(results),
        ],
    )


def cloud_delay(x_c: FloatArray, scenario: Scenario) -> FloatArray:
    """Sending, training and returning through the cloud, (3) + (7), s."""
    communication = (
        x_c / scenario.cloud_uplink + scenario.result_ratio * x_c / scenario.cloud_downlink
    )
    return communication + x_c / scenario.cloud_compute


def device_delay(work: FloatArray, x_i: FloatArray, x_c: FloatArray, rate: float) -> FloatArray:
    """Training what stays on the device, (6), s; shares that sum to 1 leave exactly 0."""
    return np.maximum(work - x_i - x_c, 0.0) / rate


def migration(x_i: FloatArray, r: Route, case: IntArray, scenario: Scenario) -> FloatArray:
    """Hand-over and transfer from i to j, (8), s.

    (8) charges T_HO even when nobody moves, which only ``literal`` follows; otherwise
    T_HO is due on a hand-over (cases 1-3) with something at the edge.
    """
    rho = scenario.result_ratio
    moved = np.choose(
        case - 1,
        [
            r.uplink_i * r.connection_time,
            rho * x_i,
            unreturned(x_i, r, rho),
            np.zeros_like(r.connection_time * x_i),
        ],
    )
    charged = np.ones_like(case, dtype=bool) if scenario.variant == "literal" else case < 4
    return scenario.handover_s * charged + moved / scenario.backhaul


def edge_delay(x_i: FloatArray, r: Route, scenario: Scenario) -> FloatArray:
    """Delay of the edge's part: first argument of the maxima in (10)-(12), (...) s.

    Case 1, (10), as printed: upload until T_ct, hand over, then the two transfers to j
    side by side, training at j, results. Case 2 depends on ``scenario.variant``:

    * ``finish``: (11) in the form of (12): i trains all of x_i, results move.
    * ``split``: figure 2(b): C = V_Ci (T_ct - recv) is trained at i; x_i - C and the
      results of C move; j trains the rest and returns all results.
    * ``literal``: (11) as printed: training ends at T_ct; what is left is never trained.
    """
    rho, variant = scenario.result_ratio, scenario.variant
    tau = r.connection_time
    case = migration_case(x_i, r, scenario)
    trained_at_i = x_i / r.compute_i  # (4)
    trained_at_j = x_i / r.compute_j  # (5)
    results_j = rho * x_i / r.downlink_j

    sent = r.uplink_i * tau
    case_1 = (
        tau
        + scenario.handover_s
        + np.maximum(sent / scenario.backhaul, (x_i - sent) / r.uplink_j)
        + trained_at_j
        + results_j
    )
    around = (
        communication_i(x_i, r, case, rho)
        + communication_j(x_i, r, case, rho)
        + migration(x_i, r, case, scenario)
    )
    case_3_4 = around + trained_at_i
    left_to_train = tau - x_i / r.uplink_i
    if variant == "finish":
        case_2 = around + trained_at_i
    elif variant == "literal":
        case_2 = around + left_to_train
    else:
        done = r.compute_i * left_to_train
        moved = (x_i - done + rho * done) / scenario.backhaul
        case_2 = tau + scenario.handover_s + moved + (x_i - done) / r.compute_j + results_j
    return np.select([case == 1, case == 2], [case_1, case_2], case_3_4)


def energy(work: FloatArray, x_i: FloatArray, x_c: FloatArray, scenario: Scenario) -> FloatArray:
    """Energy the device spends, (13) + (14) = (15), J.

    (14) is written as a function of T_ct but does not depend on it: every bit and every
    result crosses the vehicle's radio once, whichever server is at the other end.
    """
    training = (work - x_i - x_c) * scenario.device_energy
    offloaded = x_i + x_c
    radio = scenario.radio_energy * (offloaded + scenario.result_ratio * offloaded)
    return training + radio


def evaluate(slot: Slot, state: State, decision: Decision, scenario: Scenario) -> Outcome:
    """What a decision leads to: (9)/(16) under the limits (17) and (18).

    A task that the battery cannot pay for is not started and costs no energy (the energy
    depends on the split alone, so the device knows beforehand). One that misses the
    deadline has spent its energy. Both are dropped and count as D_m seconds.

    Args:
        slot: Fields (...).
        state: Fields (...).
        decision: Fields (...).
        scenario: The parameters.
    """
    x_i = decision.edge_share * slot.work
    x_c = decision.cloud_share * slot.work
    r = route(slot, decision.server, decision.next_server)
    edge_s = edge_delay(x_i, r, scenario)
    device_s = device_delay(slot.work, x_i, x_c, scenario.device_compute)
    cloud_s = cloud_delay(x_c, scenario)
    delay = np.maximum(np.maximum(edge_s, device_s), cloud_s)
    needed = energy(slot.work, x_i, x_c, scenario)
    battery_short = needed > state.battery
    deadline_missed = ~battery_short & (delay > scenario.deadline)
    dropped = battery_short | deadline_missed
    return Outcome(
        np.where(dropped, scenario.deadline, delay),
        edge_s,
        device_s,
        cloud_s,
        np.where(battery_short, 0.0, needed),
        migration_case(x_i, r, scenario),
        deadline_missed,
        battery_short,
        dropped,
    )
