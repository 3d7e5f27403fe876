"""What the simulator says of an execution: when each frame is in which stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mec_gym.core.types import FloatArray
from mec_gym.network.tandem import RateCurve, travel

STAGES = ("waiting", "device", "link", "round trip", "edge")
"""Where the time of a frame goes, in the order in which tables show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one partition costs a frame.

    Attributes:
        device_s: The work of the device, the making of the message included, s.
        bits: The message, bit; 0 if nothing is sent.
        edge_s: The work of the edge, s.
        beside_s: What a message takes beyond its bits, s: headers, system calls, waking up.
        round_trip_s: The delay there and back, s.
        is_raw: Whether the device runs no layer. Then the message is made beside its work.
    """

    device_s: float
    bits: float
    edge_s: float
    beside_s: float
    round_trip_s: float
    is_raw: bool = False

    def slowest_s(self, rate: float) -> float:
        """The time of the slowest stage at a rate in bit/s, s."""
        return max(self.device_s, self.bits / rate, self.edge_s)

    def total_s(self, rate: float) -> float:
        """The time of a frame that meets nobody at a rate in bit/s, s."""
        if not self.bits:
            return self.device_s
        beside = self.beside_s + self.round_trip_s
        return self.device_s + self.bits / rate + beside + self.edge_s


Stages = dict[str, float]
"""How long a frame is in each of ``STAGES``, and ``total``, s."""


def predict(
    costs: Sequence[Cost], gaps: Sequence[float] | None, curve: RateCurve, pipeline: bool
) -> tuple[list[Stages], list[float]]:
    """Predict an execution.

    Args:
        costs: One per frame.
        gaps: When each frame arrives, s after the begin. None: with ``pipeline`` all are there at
            the begin, without it each arrives when the one before it is answered.
        curve: The rate of the link from the begin on.
        pipeline: Whether frames overlap; otherwise each waits for the answer to the one before.

    Returns:
        The stages of every frame, and when each is answered, s after the begin.
    """
    if pipeline:
        return _overlapping(costs, np.zeros(len(costs)) if gaps is None else np.array(gaps), curve)
    found, ends = [], [0.0]
    for index, cost in enumerate(costs):
        free = ends[-1]
        arrival = free if gaps is None else gaps[index]
        (stages,), (end,) = _overlapping(
            [replace(cost, is_raw=False)], np.array([max(arrival, free)]), curve
        )
        stages["waiting"] += max(free - arrival, 0.0)
        stages["total"] += max(free - arrival, 0.0)
        found.append(stages)
        ends.append(end)
    return found, ends[1:]


def _overlapping(
    costs: Sequence[Cost], arrival: FloatArray, curve: RateCurve
) -> tuple[list[Stages], list[float]]:
    device, bits, edge, beside, round_trip = (
        np.array([getattr(cost, name) for cost in costs])
        for name in ("device_s", "bits", "edge_s", "beside_s", "round_trip_s")
    )
    # The message of a raw frame is made at once, whatever the device works on.
    beside_device = np.where([cost.is_raw for cost in costs], device, 0.0)
    way = travel(
        arrival + beside_device, device - beside_device, bits, edge, curve, beside + round_trip
    )
    found = []
    for k in range(len(costs)):
        waiting = (
            (way.device_start[k] - beside_device[k] - arrival[k])
            + (way.link_start[k] - way.device_finish[k])
            + (way.edge_start[k] - way.edge_ready[k])
        )
        stages = {
            "waiting": max(float(waiting), 0.0),  # a difference of moments may be rounded
            "device": float(way.device_finish[k] - way.device_start[k] + beside_device[k]),
            "link": float(way.link_finish[k] - way.link_start[k] + (beside[k] if bits[k] else 0)),
            "round trip": float(round_trip[k]) if bits[k] else 0.0,
            "edge": float(way.edge_finish[k] - way.edge_start[k]),
        }
        found.append(stages | {"total": float(way.edge_finish[k] - arrival[k])})
    return found, way.edge_finish.tolist()
