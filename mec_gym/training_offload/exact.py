"""The optimal split in closed form, and the clairvoyant bound of an episode.

For one pair of servers the delay at the edge is an affine function of x_i on each of five
segments: case 4, case 3, case 2, and case 1 in two parts, for in [Chen2025] eq. (10) the backhaul
is the bottleneck up to some x_i only. The delays of device and cloud are affine too. So within a
segment everything is decided by where straight lines cross, and the optimum is the best of five
segments and of all pairs. The delay is *not* monotone in the rate of the uplink, so no pair may
be skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.types import FloatArray
from mec_gym.training_offload.model import Decision, Route
from mec_gym.training_offload.scenario import Scenario, Slot

MARGIN = 1e-12
"""The relative width by which segments, which are half open, are drawn in at their ends.

Rounding then cannot put an optimum at a hand-over on the wrong side of it.
"""

FLOAT32_MARGIN = 1e-6
"""The margin for decisions that become actions: these and observations are rounded to float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The edge delay as ``intercept + slope * x_i`` for low <= x_i <= high.

    Fields (..., S * S, 5). A segment with ``low > high`` does not exist.
    """

    intercept: FloatArray  # s
    slope: FloatArray  # s/bit, >= 0
    low: FloatArray  # bit
    high: FloatArray  # bit


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A split with its delay and energy; the delay is infinite where there is no split."""

    delay: FloatArray  # (...) s
    energy: FloatArray  # (...) J
    edge: FloatArray  # (...) bit, x_i
    cloud: FloatArray  # (...) bit, x_c


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What may be used besides the device."""

    edge: bool = True
    cloud: bool = True


def pair_routes(slot: Slot, scenario: Scenario) -> Route:
    """The routes of all pairs, fields (..., S * S); pair p is (i, j) = divmod(p, S)."""
    i, j = np.divmod(np.arange(scenario.servers**2), scenario.servers)
    return Route(
        uplink_i=slot.uplink[..., 0, i],
        downlink_i=slot.downlink[..., 0, i],
        compute_i=slot.compute[..., 0, i],
        uplink_j=slot.uplink[..., 1, j],
        downlink_j=slot.downlink[..., 1, j],
        compute_j=slot.compute[..., 1, j],
        connection_time=np.asarray(slot.connection_time)[..., None],
    )


def segments(slot: Slot, scenario: Scenario, margin: float = MARGIN) -> Segments:
    """The five affine pieces of the edge delay of every pair, [Chen2025] eq. (1)-(12).

    Args:
        slot: The task, fields (...).
        scenario: The parameters.
        margin: The relative width by which segments are drawn in at a hand-over.
    """
    r = pair_routes(slot, scenario)
    rho, backhaul, handover = scenario.result_ratio, scenario.backhaul, scenario.handover_s
    literal = scenario.variant == "literal"
    tau, sent = r.connection_time, r.uplink_i * r.connection_time
    send, train = 1.0 / r.uplink_i, 1.0 / r.compute_i
    train_j, return_j = 1.0 / r.compute_j, rho / r.downlink_j

    slope_4 = send + train + rho / r.downlink_i
    intercept_4 = handover if literal else 0.0
    per_bit_back = 1.0 / r.downlink_j + 1.0 / backhaul
    slope_3 = (rho + r.downlink_i * (send + train)) * per_bit_back
    intercept_3 = tau + handover - r.downlink_i * tau * per_bit_back
    intercept_2: FloatArray | float
    if scenario.variant == "finish":
        slope_2, intercept_2 = send + train + rho * per_bit_back, handover
    elif literal:
        slope_2, intercept_2 = rho * per_bit_back, tau + handover
    else:
        saved = r.compute_i * ((1.0 - rho) / backhaul + train_j)
        slope_2 = 1.0 / backhaul + train_j + return_j + saved * send
        intercept_2 = tau + handover - saved * tau
    slope_1a, intercept_1a = train_j + return_j, tau + handover + sent / backhaul
    slope_1b, intercept_1b = slope_1a + 1.0 / r.uplink_j, tau + handover - sent / r.uplink_j

    work = np.asarray(slot.work)[..., None]
    ends = [tau / slope_4, tau / (send + train), sent, sent * (1.0 + r.uplink_j / backhaul)]
    nothing = np.zeros_like(send)

    def join(pieces: list[FloatArray | float]) -> FloatArray:
        return np.stack([piece + nothing for piece in pieces], axis=-1)

    return Segments(
        intercept=join([intercept_4, intercept_3, intercept_2, intercept_1a, intercept_1b]),
        slope=join([slope_4, slope_3, slope_2, slope_1a, slope_1b]),
        low=join([0.0, *[end * (1.0 + margin) for end in ends]]),
        high=join([*[np.minimum(end * (1.0 - margin), work) for end in ends], work]),
    )


def _take(splits: Split, choice: npt.NDArray[np.int64]) -> Split:
    return arrays.map_arrays(
        lambda a: np.take_along_axis(a, choice[..., None], axis=-1)[..., 0], splits
    )


class SlotFrontier:
    """Delay against energy of one slot; it answers every question about a single task.

    Within a segment, the split that spends least energy for a given delay T is known: if
    offloading a bit saves energy, as much as fits into T goes to edge and cloud, otherwise as
    little as possible. So the energy is a convex, piecewise linear function of T with at most
    three corners per segment.

    For ``literal`` the optimum is that of the closed segments: the paper assigns the exact
    boundaries between the cases to case 4, and these single points are left out here.

    Args:
        slot: The tasks, fields (...); T_ct is ``connection_time``.
        scenario: The parameters.
        resources: What may be used besides the device.
        margin: The relative distance that decisions keep from hand-overs and from the energy
            limit; ``FLOAT32_MARGIN`` is for decisions that become actions.
    """

    def __init__(
        self,
        slot: Slot,
        scenario: Scenario,
        resources: Resources = Resources(),
        margin: float = MARGIN,
    ) -> None:
        self.scenario = scenario
        self.margin = margin
        self.segments = segments(slot, scenario, margin)
        if not resources.edge:
            keep = arrays.map_arrays(lambda a: a[..., :1, :1], self.segments)
            self.segments = replace(keep, high=0.0 * keep.high)
        self.work = np.asarray(slot.work)[..., None, None]
        # The rate at which the cloud works, bit/s, and the delay per bit that the edge does not
        # take, s/bit, if device and cloud share these bits so that both end together.
        self.cloud_rate = 1.0 / scenario.cloud_seconds_per_bit if resources.cloud else 0.0
        self.rest_slope = 1.0 / (scenario.device_compute + self.cloud_rate)
        self.saving = scenario.device_energy - scenario.energy_per_offloaded_bit
        self.exists = self.segments.low <= self.segments.high
        self._least = self._least_delay()

    def best(self, energy_limit: npt.ArrayLike = np.inf) -> tuple[Split, Decision]:
        """The split of least delay that spends at most ``energy_limit``.

        Args:
            energy_limit: The most energy that each task may cost, (...) J.

        Returns:
            The split (...) and the decision (...). Where no split is cheap enough, the delay is
            infinite and the decision is the fastest of the cheapest splits.
        """
        s = self.segments
        limit = np.asarray(energy_limit, dtype=np.float64)[..., None, None]
        least, cheapest_delay = self._least, self._cheapest_delay()
        cheapest = self._split(np.where(self.exists, cheapest_delay, np.inf))
        # A split that costs just the limit is affordable, whatever the rounding. The energy of
        # a segment that does not exist is infinite.
        possible = self.exists & (cheapest.energy <= limit * (1.0 + MARGIN))
        # The margin keeps away from the limit, but no split costs less than the cheapest.
        target = np.maximum(limit * (1.0 - self.margin), cheapest.energy)
        device_only = self.work * self.scenario.device_energy
        with np.errstate(invalid="ignore", divide="ignore"):
            offloaded = np.clip((device_only - target) / self.saving, 0.0, self.work)
        if self.saving > 0:
            delay = np.maximum(least, self._delay_to_offload(offloaded))
        elif self.saving < 0:
            kept = self.work - np.maximum(offloaded, s.low)
            delay = np.maximum(least, kept / self.scenario.device_compute)
        else:
            delay = least
        none = np.asarray(~possible.any(axis=(-1, -2), keepdims=True))
        split = self._split(np.where(none, cheapest_delay, np.where(possible, delay, np.inf)))
        flat = arrays.map_arrays(self._flatten, split)
        # Many splits may cost least, such as all that offload everything: take the fastest.
        least_energy = cheapest.energy.min(axis=(-1, -2), keepdims=True)
        is_cheapest = cheapest.energy <= least_energy * (1.0 + MARGIN)
        objective = self._flatten(np.where(none & ~is_cheapest, np.inf, split.delay))
        choice = objective.argmin(axis=-1)
        chosen = _take(flat, choice)
        decision = self._decision(chosen, choice // s.low.shape[-1])
        return replace(chosen, delay=np.where(none[..., 0, 0], np.inf, chosen.delay)), decision

    def corners(self) -> Split:
        """All corners of the frontier, fields (..., corners), in each segment two or three.

        Any objective that grows with the delay and is linear in the energy has its optimum at
        one of them. Corners that do not exist have an infinite delay.
        """
        least = self._least
        delays = [least, self._cheapest_delay()]
        if self.saving > 0:
            s = self.segments
            delays.append(np.maximum(least, s.intercept + s.slope * s.high))
        found = [self._split(np.where(self.exists, delay, np.inf)) for delay in delays]
        return arrays.map_arrays(
            lambda *pieces: np.concatenate([self._flatten(a) for a in pieces], axis=-1), *found
        )

    def decide(self, corners: Split, choice: npt.NDArray[np.int64]) -> Decision:
        """The decision at a corner.

        Args:
            corners: What :meth:`corners` returned, fields (..., corners).
            choice: The index of the corner of each task, (...).
        """
        chosen = _take(corners, choice)
        pairs, pieces = self.segments.low.shape[-2:]
        return self._decision(chosen, choice % (pairs * pieces) // pieces)

    def _flatten(self, array: FloatArray) -> FloatArray:
        shape = np.broadcast_shapes(array.shape, self.segments.low.shape)
        return np.broadcast_to(array, shape).reshape(*shape[:-2], -1)

    def _decision(self, split: Split, pair: npt.NDArray[np.int64]) -> Decision:
        work = self.work[..., 0, 0]
        server, next_server = np.divmod(pair, self.scenario.servers)
        edge = np.minimum(split.edge / work, 1.0)
        return Decision(
            edge_share=edge,
            cloud_share=np.minimum(split.cloud / work, 1.0 - edge),
            server=server,
            next_server=next_server,
        )

    def _least_delay(self) -> FloatArray:
        """The least delay of each segment: where edge and the balanced rest end together."""
        s = self.segments
        cross = (self.rest_slope * self.work - s.intercept) / (s.slope + self.rest_slope)
        edge = np.clip(cross, s.low, np.maximum(s.low, s.high))
        return np.maximum(s.intercept + s.slope * edge, self.rest_slope * (self.work - edge))

    def _delay_to_offload(self, share: FloatArray) -> FloatArray:
        """The least T within which edge and cloud together can take ``share`` bits."""
        s = self.segments
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            by_cloud = (share - s.high) / self.cloud_rate if self.cloud_rate > 0 else np.inf
            per_second = self.cloud_rate + 1.0 / s.slope
            by_both = (share + s.intercept / s.slope) / per_second
        by_both = np.where(s.slope > 0, by_both, s.intercept)
        return np.where(share > s.high, np.maximum(by_cloud, by_both), by_both)

    def _cheapest_delay(self) -> FloatArray:
        """The least T at which the energy of each segment is as low as it can be."""
        s, least = self.segments, self._least
        if self.saving > 0:
            most = self.work if self.cloud_rate > 0 else s.high
            return np.maximum(least, self._delay_to_offload(most))
        if self.saving < 0:
            return np.maximum(least, (self.work - s.low) / self.scenario.device_compute)
        return least

    def _split(self, delay: FloatArray) -> Split:
        """The cheapest split of each segment that is done within ``delay``."""
        s = self.segments
        finite = np.isfinite(delay)
        within = np.where(finite, delay, 0.0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            room = (within - s.intercept) / s.slope
        room = np.where(s.slope > 0, room, np.inf)
        edge = np.clip(room, s.low, np.maximum(s.low, s.high))
        if self.saving > 0:
            edge = np.minimum(edge, self.work)
            cloud = np.minimum(within * self.cloud_rate, self.work - edge)
        else:
            kept = within * self.scenario.device_compute
            offloaded = np.maximum(self.work - kept, s.low)
            edge = np.minimum(edge, offloaded)
            cloud = offloaded - edge
        energy = self.work * self.scenario.device_energy - self.saving * (edge + cloud)
        return Split(
            delay=np.where(finite, delay, np.inf),
            energy=np.where(finite, energy, np.inf),
            edge=edge,
            cloud=cloud,
        )


def episode_bound(trace: Slot, scenario: Scenario) -> FloatArray:
    """An upper bound on the return of any policy, clairvoyant or not.

    It is :func:`total_delay_bound` as a return: a task of T seconds earns -T / D_m.

    Args:
        trace: The episodes, fields (n, T, ...).
        scenario: The parameters.

    Returns:
        One bound per episode, (n,).
    """
    return -total_delay_bound(trace, scenario) / scenario.deadline


def total_delay_bound(trace: Slot, scenario: Scenario, iterations: int = 60) -> FloatArray:
    """A lower bound on the total delay of an episode under any policy, clairvoyant or not.

    It is the Lagrangian relaxation of the battery with everything known: the maximum over
    prices of energy >= 0 of

        sum_k min( min_s [T_k(s) + price E_k(s)], D_m ) - price * battery,

    where s runs over the frontier of task k. A dropped task costs D_m seconds and no energy.
    Every price gives a valid bound, and bisection on the slope finds the best one. For
    ``literal`` the bound leaves out the single points that :class:`SlotFrontier` leaves out.

    Args:
        trace: The episodes, fields (n, T, ...).
        scenario: The parameters.
        iterations: The number of bisections; each halves the range of prices.

    Returns:
        One bound per episode, (n,) s. With a single task it is the optimum itself.
    """
    if scenario.horizon == 1:
        slot = arrays.slot_at(trace, 0)
        delay = SlotFrontier(slot, scenario).best(scenario.battery)[0].delay
        return np.minimum(delay, scenario.deadline)
    corners = SlotFrontier(trace, scenario).corners()
    n = corners.delay.shape[0]
    # Corners beyond the deadline are worse than a drop; a drop is one more corner.
    useful = corners.delay <= scenario.deadline
    delay = np.where(useful, corners.delay, scenario.deadline)
    energy = np.where(useful, corners.energy, 0.0)
    smallest = np.where(energy > 0, energy, np.inf).min(axis=(1, 2))
    # At this price only splits that cost no energy are left, so the best one is below it.
    high = scenario.deadline / smallest
    low = np.zeros(n)
    best = np.full(n, -np.inf)
    price = low
    for _ in range(iterations):
        cost = delay + price[:, None, None] * energy
        choice = cost.argmin(axis=-1)[..., None]
        chosen_cost = np.take_along_axis(cost, choice, axis=-1)[..., 0]
        chosen_energy = np.take_along_axis(energy, choice, axis=-1)[..., 0]
        value = np.minimum(chosen_cost, scenario.deadline).sum(axis=1) - price * scenario.battery
        best = np.maximum(best, value)
        used = np.where(chosen_cost <= scenario.deadline, chosen_energy, 0.0).sum(axis=1)
        low = np.where(used > scenario.battery, price, low)
        high = np.where(used > scenario.battery, high, price)
        price = (low + high) / 2
    return best
