"""Delay and energy of one split training task, [Chen2025] eq. (1)-(18).

Every function broadcasts over all axes that it is given. The symbols are those of the paper:
x_i and x_c are the bits trained at the edge and in the cloud, i is the server that receives,
j is the server that takes over, and T_ct is the time for which the vehicle stays with i.
Equations are cited by their number alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.training_offload.scenario import Scenario, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent's own decisions have changed."""

    battery: FloatArray  # (...) J left
    tasks_left: FloatArray  # (...) tasks still to come, the one at hand included


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How one task is split. Shares are shares of W; what remains is trained on the device."""

    edge_share: FloatArray  # (...) x_i / W
    cloud_share: FloatArray  # (...) x_c / W
    server: IntArray  # (...) i, a server of region 0
    next_server: IntArray  # (...) j, a server of region 1


@dataclass(frozen=True, slots=True, kw_only=True)
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

    @property
    def delay_s(self) -> FloatArray:
        """The delay of the split, (9), whether the task was dropped or not, (...) s."""
        return slowest(self.edge_s, self.device_s, self.cloud_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The rates of the chosen pair of servers, and the connection time. Fields (...)."""

    uplink_i: FloatArray  # bit/s
    downlink_i: FloatArray  # bit/s
    compute_i: FloatArray  # bit/s
    uplink_j: FloatArray  # bit/s
    downlink_j: FloatArray  # bit/s
    compute_j: FloatArray  # bit/s
    connection_time: FloatArray  # s, T_ct


def route(slot: Slot, server: IntArray, next_server: IntArray) -> Route:
    """The rates of servers i and j (...) in a slot (...)."""
    batch, servers = slot.uplink.shape[:-2], slot.uplink.shape[-1]
    # One flat index and ``take``: several times faster than take_along_axis.
    first = np.arange(math.prod(batch)).reshape(batch) * (2 * servers)
    at_i, at_j = first + server, first + servers + next_server
    return Route(
        uplink_i=slot.uplink.reshape(-1).take(at_i),
        downlink_i=slot.downlink.reshape(-1).take(at_i),
        compute_i=slot.compute.reshape(-1).take(at_i),
        uplink_j=slot.uplink.reshape(-1).take(at_j),
        downlink_j=slot.downlink.reshape(-1).take(at_j),
        compute_j=slot.compute.reshape(-1).take(at_j),
        connection_time=slot.connection_time,
    )


def migration_case(x_i: FloatArray, r: Route, scenario: Scenario) -> IntArray:
    """Which of the four cases of figure 2 applies, (...).

    The conditions are those of (1), (2), (4), (5), (8) and (9). The paper leaves their
    boundaries to "otherwise" (case 4), and ``literal`` follows it; the other variants give a
    boundary to the side with less migration.
    """
    received = x_i / r.uplink_i
    trained = received + x_i / r.compute_i
    returned = trained + scenario.result_ratio * x_i / r.downlink_i
    tau = r.connection_time
    if scenario.variant == "literal":
        conditions = [
            tau < received,
            (received < tau) & (tau < trained),
            (trained < tau) & (tau < returned),
        ]
        return np.select(conditions, [1, 2, 3], 4)
    return 4 - (tau < received).astype(np.int64) - (tau < trained) - (tau < returned)


def communication_i(x_i: FloatArray, r: Route, case: IntArray, rho: float) -> FloatArray:
    """The time spent on the link to server i, (1), (...) s."""
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
    """Results that are not returned yet when the vehicle leaves in case 3, (2), (...) bit."""
    returning = r.connection_time - x_i / r.uplink_i - x_i / r.compute_i
    return rho * x_i - r.downlink_i * returning


def communication_j(x_i: FloatArray, r: Route, case: IntArray, rho: float) -> FloatArray:
    """The time spent on the link to server j, (2), (...) s."""
    results = rho * x_i / r.downlink_j
    return np.choose(
        case - 1,
        [
            (x_i - r.uplink_i * r.connection_time) / r.uplink_j + results,
            results,
            unreturned(x_i, r, rho) / r.downlink_j,
            0.0,
        ],
    )


def cloud_delay(x_c: FloatArray, scenario: Scenario) -> FloatArray:
    """The time to send, train and return the cloud's part, (3) + (7), (...) s."""
    communication = (
        x_c / scenario.cloud_uplink + scenario.result_ratio * x_c / scenario.cloud_downlink
    )
    return communication + x_c / scenario.cloud_compute


def device_delay(work: FloatArray, x_i: FloatArray, x_c: FloatArray, rate: float) -> FloatArray:
    """The time to train what stays on the device, (6), (...) s.

    It is exactly 0 where the shares sum to 1.
    """
    return np.maximum(work - x_i - x_c, 0.0) / rate


def migration(x_i: FloatArray, r: Route, case: IntArray, scenario: Scenario) -> FloatArray:
    """The time for the hand-over and the transfer from i to j, (8), (...) s.

    The paper charges T_HO even when nobody moves. Only ``literal`` follows it; the other
    variants charge T_HO for a hand-over (cases 1 to 3).
    """
    rho = scenario.result_ratio
    moved = np.choose(
        case - 1,
        [
            r.uplink_i * r.connection_time,
            rho * x_i,
            unreturned(x_i, r, rho),
            0.0,
        ],
    )
    charged = np.ones_like(case, dtype=bool) if scenario.variant == "literal" else case < 4
    return scenario.handover_s * charged + moved / scenario.backhaul


def edge_delay(x_i: FloatArray, r: Route, case: IntArray, scenario: Scenario) -> FloatArray:
    """The delay of the edge's part, the first argument of the maxima in (10)-(12), (...) s.

    Case 1 is (10) as printed: upload until T_ct, hand-over, then the two transfers to j side by
    side, training at j, and the return of the results. Case 2 depends on ``scenario.variant``:

    * ``finish`` gives (11) the form of (12): server i trains all of x_i, and the results move.
    * ``split`` is figure 2(b): server i trains C = V_Ci (T_ct - x_i / V_R^u); the other x_i - C
      bits and the results of C move; j trains the rest and returns all results.
    * ``literal`` is (11) as printed: training ends at T_ct, and what is left is never trained.
    """
    rho, variant = scenario.result_ratio, scenario.variant
    tau = r.connection_time
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
    return np.choose(case - 1, [case_1, case_2, case_3_4, case_3_4])


def energy(work: FloatArray, x_i: FloatArray, x_c: FloatArray, scenario: Scenario) -> FloatArray:
    """The energy that the device spends, (13) + (14) = (15), (...) J.

    The paper writes (14) as a function of T_ct, but it does not depend on it: every bit and
    every result crosses the vehicle's radio once, whichever server is at the other end.
    """
    training = (work - x_i - x_c) * scenario.device_energy
    offloaded = x_i + x_c
    radio = scenario.radio_energy * (offloaded + scenario.result_ratio * offloaded)
    return training + radio


def slowest(edge_s: FloatArray, device_s: FloatArray, cloud_s: FloatArray) -> FloatArray:
    """The delay of the slowest of the three parts, the maximum in (9), (...) s."""
    return np.maximum(np.maximum(edge_s, device_s), cloud_s)


def evaluate(
    slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> tuple[State, Outcome]:
    """What a decision leads to: (9) and (16) under the limits (17) and (18).

    A task that the battery cannot pay for is not started and costs no energy: the energy
    depends on the split alone, so the device knows it beforehand. A task that misses the
    deadline has spent its energy. Both are dropped and count as D_m seconds.

    Args:
        slot: The task, fields (...).
        state: The state before the task, fields (...).
        decision: The split, fields (...).
        scenario: The parameters.

    Returns:
        The state after the task, and what became of the task, fields (...).
    """
    x_i = decision.edge_share * slot.work
    x_c = decision.cloud_share * slot.work
    r = route(slot, decision.server, decision.next_server)
    case = migration_case(x_i, r, scenario)
    edge_s = edge_delay(x_i, r, case, scenario)
    device_s = device_delay(slot.work, x_i, x_c, scenario.device_compute)
    cloud_s = cloud_delay(x_c, scenario)
    delay = slowest(edge_s, device_s, cloud_s)
    needed = energy(slot.work, x_i, x_c, scenario)
    battery_short = needed > state.battery
    deadline_missed = ~battery_short & (delay > scenario.deadline)
    dropped = battery_short | deadline_missed
    outcome = Outcome(
        latency_s=np.where(dropped, scenario.deadline, delay),
        edge_s=edge_s,
        device_s=device_s,
        cloud_s=cloud_s,
        energy_j=np.where(battery_short, 0.0, needed),
        case=case,
        deadline_missed=deadline_missed,
        battery_short=battery_short,
        dropped=dropped,
    )
    after = State(battery=state.battery - outcome.energy_j, tasks_left=state.tasks_left - 1.0)
    return after, outcome
