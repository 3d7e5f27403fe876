"""What happened to a training task, as records to draw pictures from.

The bars show the flows of [Chen2025] figure 2 and add up to the delays of
:mod:`mec_gym.training_offload.model`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from mec_gym.core.problem import Episode
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.training_offload import model
from mec_gym.training_offload.model import Decision, Outcome, Route, State
from mec_gym.training_offload.scenario import Scenario, Slot

History = Episode[Slot, State, Decision, Outcome]
Row = Literal["device", "edge i", "backhaul", "edge j", "cloud"]
Kind = Literal["send", "train", "hand-over", "migrate", "return"]
ROWS: tuple[Row, ...] = get_args(Row)
KINDS: tuple[Kind, ...] = get_args(Kind)
BRANCHES: tuple[tuple[Row, ...], ...] = (("device",), ("edge i", "backhaul", "edge j"), ("cloud",))
"""The rows of each of the three parts of a task, which are trained side by side."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of a task's time.

    Attributes:
        row: Where the time was spent.
        kind: What it was spent on.
        start: When it began, s since the task arrived.
        end: When it ended, s since the task arrived.
    """

    row: Row
    kind: Kind
    start: float
    end: float


def timeline(slot: Slot, decision: Decision, scenario: Scenario) -> tuple[Bar, ...]:
    """What happens when to one task, [Chen2025] eq. (1)-(12) and figure 2.

    The last bar of the device, of the three edge rows and of the cloud ends at the delay of
    (6), of (10)-(12) and of (3) + (7). Charges stand in the order in which the equations add
    them up. So in case 2 of ``finish`` T_HO follows the training although the vehicle moved
    earlier, and in case 4 of ``literal`` T_HO is shown although nobody moves.

    Args:
        slot: The task, fields ().
        decision: The split, fields ().
        scenario: The parameters.

    Returns:
        The bars, without those of no length.
    """
    x_i, x_c = decision.edge_share * slot.work, decision.cloud_share * slot.work
    r = model.route(slot, decision.server, decision.next_server)
    case = model.migration_case(x_i, r, scenario)
    on_device = model.device_delay(slot.work, x_i, x_c, scenario.device_compute)
    bars = [
        *_chain(0.0, ("device", "train", on_device)),
        *(_cut_off(x_i, r, scenario) if case == 1 else _received(x_i, r, case, scenario)),
        *_chain(
            0.0,
            ("cloud", "send", x_c / scenario.cloud_uplink),
            ("cloud", "train", x_c / scenario.cloud_compute),
            ("cloud", "return", scenario.result_ratio * x_c / scenario.cloud_downlink),
        ),
    ]
    return tuple(bar for bar in bars if bar.end > bar.start)


def branch_ends(bars: tuple[Bar, ...]) -> tuple[Bar, ...]:
    """The last bar of each branch that has any, in the order of ``BRANCHES``."""
    found = ([bar for bar in bars if bar.row in rows] for rows in BRANCHES)
    return tuple(max(of_branch, key=lambda bar: bar.end) for of_branch in found if of_branch)


def never_trained(slot: Slot, decision: Decision, scenario: Scenario) -> float:
    """The bits that [Chen2025] eq. (11) as printed forgets; 0 but in case 2 of ``literal``.

    Args:
        slot: The task, fields ().
        decision: The split, fields ().
        scenario: The parameters.
    """
    x_i = decision.edge_share * slot.work
    r = model.route(slot, decision.server, decision.next_server)
    if scenario.variant != "literal" or int(model.migration_case(x_i, r, scenario)) != 2:
        return 0.0
    return float(x_i - r.compute_i * (r.connection_time - x_i / r.uplink_i))


def in_one_place(slot: Slot, state: State, scenario: Scenario) -> Outcome:
    """What becomes of a task if all of it is trained in one place, with T_ct as estimated.

    Args:
        slot: The task, fields ().
        state: The state before the task, fields ().
        scenario: The parameters.

    Returns:
        Fields (S + 2,): the device, the pairs (0, 0), (1, 1), ... of servers, and the cloud.
    """
    servers = scenario.servers
    place = np.arange(servers + 2)
    server = np.clip(place - 1, 0, servers - 1)
    decision = Decision(
        edge_share=((place > 0) & (place <= servers)).astype(np.float64),
        cloud_share=(place > servers).astype(np.float64),
        server=server,
        next_server=server,
    )
    believed = replace(slot, connection_time=slot.connection_estimate)
    return model.evaluate(believed, state, decision, scenario)[1]


def _chain(start: float, *steps: tuple[Row, Kind, float | FloatArray]) -> list[Bar]:
    """Bars one after the other, from (row, kind, seconds)."""
    bars: list[Bar] = []
    for row, kind, seconds in steps:
        bars.append(Bar(row, kind, start, start := start + float(seconds)))
    return bars


def _cut_off(x_i: FloatArray, r: Route, scenario: Scenario) -> list[Bar]:
    """The edge's bars in case 1, (10): the vehicle leaves before server i has received all."""
    sent = r.uplink_i * r.connection_time
    before = _chain(
        0.0,
        ("edge i", "send", r.connection_time),
        ("backhaul", "hand-over", scenario.handover_s),
    )
    # Both transfers to j go side by side.
    moved = _chain(before[-1].end, ("backhaul", "migrate", sent / scenario.backhaul))
    rest = _chain(before[-1].end, ("edge j", "send", (x_i - sent) / r.uplink_j))
    after = _chain(
        max(moved[-1].end, rest[-1].end),
        ("edge j", "train", x_i / r.compute_j),
        ("edge j", "return", scenario.result_ratio * x_i / r.downlink_j),
    )
    return before + moved + rest + after


def _received(x_i: FloatArray, r: Route, case: IntArray, scenario: Scenario) -> list[Bar]:
    """The edge's bars in cases 2 to 4, (11) and (12): server i has received all."""
    rho, variant = scenario.result_ratio, scenario.variant
    received = x_i / r.uplink_i
    charged = scenario.handover_s if case < 4 or variant == "literal" else 0.0
    # Server i stops at the hand-over.
    stops = case == 2 and variant != "finish"
    on_i, on_j = (r.connection_time - received if stops else x_i / r.compute_i), np.array(0.0)
    moving = model.migration(x_i, r, case, scenario) - charged
    if stops and variant == "split":
        done = r.compute_i * on_i
        moving = (x_i - done + rho * done) / scenario.backhaul
        on_j = (x_i - done) / r.compute_j
    return _chain(
        0.0,
        ("edge i", "send", received),
        ("edge i", "train", on_i),
        ("edge i", "return", model.communication_i(x_i, r, case, rho) - received),
        ("backhaul", "hand-over", charged),
        ("backhaul", "migrate", moving),
        ("edge j", "train", on_j),
        ("edge j", "return", model.communication_j(x_i, r, case, rho)),
    )
