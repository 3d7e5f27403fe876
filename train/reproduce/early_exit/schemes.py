"""The schemes of [Ding2025] in a steady state: one frame, a constant network, no queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agents.early_exit.dapdee import choose_exit, heavy_cut
from agents.early_exit.mincut import SearchConfig
from agents.early_exit.rules import prefix_costs
from mec_gym.core import arrays
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.dnn.devices import AnyDevice
from mec_gym.dnn.graph import LayerGraph
from mec_gym.early_exit.lookup import Lookup
from mec_gym.early_exit.model import Decision, service_times
from mec_gym.early_exit.partitions import partition_cost
from mec_gym.early_exit.scenario import Slot, uplink_of
from mec_gym.early_exit.table import Front, front
from mec_gym.network.bandwidth import CAT1, G3, G4, WIFI

Load = Literal["light", "heavy"]

LOADS: tuple[Load, ...] = ("light", "heavy")
LINKS = {"CAT1": CAT1, "3G": G3, "4G": G4, "WiFi": WIFI}
SCHEMES = ("device-only", "edge-only", "Neurosurgeon", "DADS", "DAPDEE", "exact")
"""The first four always answer at the deepest exit, the last two choose one."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network on two devices, all partitions of its N exits priced."""

    graph: LayerGraph
    fronts: tuple[Front, ...]  # the partitions of each exit
    lookups: tuple[Lookup, ...]  # over the fronts
    device_only: FloatArray  # (3,) device work s, bits to send, edge work s; deepest exit
    edge_only: FloatArray  # (3,) the same
    prefixes: Lookup  # cuts in the order of the layers, at the deepest exit
    loss: FloatArray  # (N,) share of right answers that an exit gives less than the deepest


@dataclass(frozen=True, slots=True)
class Plan:
    """What a scheme does."""

    exit: IntArray  # (...) 0 = earliest
    cost: FloatArray  # (..., 3): device work s, bits to send, edge work s


def price_network(graph: LayerGraph, device: AnyDevice, edge: AnyDevice) -> Network:
    """Price every partition of a network.

    Args:
        graph: The network; if it has several exits, each needs a measured accuracy.
        device: The device, which runs the layers before the cut.
        edge: The edge server, which runs the rest.

    Raises:
        ValueError: An accuracy is lacking.
    """
    parts = [graph.at_exit(n) for n in range(len(graph.exits))]
    links = (min(LINKS.values()), max(LINKS.values()))
    fronts = tuple(front(p, device.layer_seconds(p), edge.layer_seconds(p), links) for p in parts)
    deepest = parts[-1]
    times = device.layer_seconds(deepest), edge.layer_seconds(deepest)
    layers = np.zeros((2, len(deepest)), dtype=np.bool_)
    layers[1, 1:] = True
    device_only, edge_only = partition_cost(deepest, layers, *times)
    accuracy = graph.accuracies if len(parts) > 1 else np.ones(1)
    return Network(
        graph,
        fronts,
        tuple(Lookup(f.cost) for f in fronts),
        device_only,
        edge_only,
        Lookup(prefix_costs(deepest, *times)),
        accuracy[-1] - accuracy,
    )


def steady(
    bandwidth: npt.ArrayLike, deadline: npt.ArrayLike = np.inf, slowdown: npt.ArrayLike = 1.0
) -> Slot:
    """Frames that meet an idle edge and a device that is so many times slower, fields (...).

    As in both papers a transfer takes bits / B, without a round trip. The figures have no energy.

    Args:
        bandwidth: The bandwidth of the uplink in bit/s, (...).
        deadline: The latency requirement in s, (...).
        slowdown: How many times slower the device is, (...).
    """
    b, t, s = np.broadcast_arrays(
        *(np.asarray(a, dtype=np.float64) for a in (bandwidth, deadline, slowdown))
    )
    one = np.ones(b.shape)
    return Slot(
        bandwidth=b,
        round_trip=0.0 * one,
        base_power=0.0 * one,
        joule_per_bit=0.0 * one,
        device_speed=1.0 / s,
        edge_speed=one,
        arrival_rate=one,
        interval=one,
        deadline=t,
        priority=0.5 * one,
        arrival=0.0 * one,
        uplink=uplink_of(0.0 * one[..., None], b[..., None]),
    )


def times(cost: FloatArray, slot: Slot) -> tuple[FloatArray, FloatArray]:
    """Latency Td + Tt + Te in s and throughput 1 / max(Td, Tt, Te) in frames/s, (...) each.

    Under heavy load too, latency is the way of one frame that never waits: with frames that
    come faster than the slowest stage serves them, waiting has no bound, and what it is after
    so many frames depends on an arrival rate that [Ding2025] does not print.
    """
    service = service_times(cost, slot)
    return service.sum(axis=-1), 1.0 / service.max(axis=-1)


def plan(network: Network, scheme: str, load: Load, slot: Slot) -> Plan:
    """What a scheme does under a load that is known.

    DADS: min cut (light) or weighted search (heavy). DAPDEE: [Ding2025] alg. 4 with the same two.
    Neurosurgeon knows no load, it always minimises the latency. Exact: the most accurate exit
    that can answer in time (light: as early as it can; heavy: of the partitions in time the
    one of the largest throughput), or the fastest one if none can.

    Args:
        network: The network that is run.
        scheme: One of ``SCHEMES``.
        load: Light or heavy.
        slot: The frames, fields (...).

    Raises:
        ValueError: The scheme is unknown.
    """
    shape = np.shape(slot.bandwidth)
    exits = np.full(shape, len(network.fronts) - 1)
    if scheme in ("device-only", "edge-only"):
        cost = network.device_only if scheme == "device-only" else network.edge_only
        return Plan(exits, np.broadcast_to(cost, (*shape, 3)))
    if scheme == "Neurosurgeon":
        return Plan(exits, network.prefixes.cost[network.prefixes.light(slot)[0]])
    if scheme == "DADS":
        return Plan(exits, _cut(network, -1, load, slot))
    if scheme == "DAPDEE":
        return chosen(network, dapdee(network, load, slot))
    if scheme == "exact":
        return _exact(network, load, slot)
    raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")


def dapdee(network: Network, load: Load, slot: Slot) -> Decision:
    """[Ding2025] alg. 4: the deepest exit that answers in time, and its partition."""
    return choose_exit(network.lookups, slot, np.full(np.shape(slot.bandwidth), load == "heavy"))


def chosen(network: Network, decision: Decision) -> Plan:
    """The plan of a decision: an exit and an entry of its front."""
    cost = np.empty((*decision.exit.shape, 3))
    for n, one in enumerate(network.fronts):
        here = decision.exit == n
        cost[here] = one.cost[decision.partition[here]]
    return Plan(decision.exit, cost)


def plan_within(network: Network, scheme: str, load: Load, slot: Slot, loss: float) -> Plan:
    """The best that a scheme does if it may lose some accuracy and no deadline binds.

    Best is the least latency under light load, the largest throughput under heavy load. Exact
    looks at every exit that is accurate enough. DAPDEE's exit follows from the deadline: its
    algorithm is asked with the time of each exit as the deadline in turn, and of the answers
    that are accurate enough the best one counts. The others have no choice of exits.

    Args:
        network: The network that is run.
        scheme: One of ``SCHEMES``.
        load: Light or heavy.
        slot: The frames, fields (L,); their deadline counts for nothing.
        loss: The share of right answers that may be lost against the deepest exit. More gives
            a scheme more exits to choose from.
    """
    if scheme not in ("DAPDEE", "exact"):
        return plan(network, scheme, load, slot)
    count = len(network.fronts)
    wide = arrays.map_arrays(lambda a: np.repeat(np.asarray(a)[:, None], count, axis=1), slot)
    exact = scheme == "exact"
    cost = np.stack([_cut(network, n, load, slot, exact) for n in range(count)], axis=1)
    options = Plan(np.broadcast_to(np.arange(count), cost.shape[:2]), cost)  # (L, N)
    if scheme == "DAPDEE":
        latency, _ = times(cost, wide)
        asked = steady(wide.bandwidth, latency, 1.0 / wide.device_speed)
        options = plan(network, scheme, load, asked)
    latency, throughput = times(options.cost, wide)
    worth = -latency if load == "light" else throughput
    worth = np.where(network.loss[options.exit] <= loss, worth, -np.inf)
    best = worth.argmax(axis=1)[:, None]
    return Plan(
        np.take_along_axis(options.exit, best, axis=1)[:, 0],
        np.take_along_axis(options.cost, best[..., None], axis=1)[:, 0],
    )


def _cut(
    network: Network, exit_index: int, load: Load, slot: Slot, exact: bool = False
) -> FloatArray:
    """Cost of the cut of one exit, (..., 3); heavy: by weighted search unless ``exact``."""
    lookup = network.lookups[exit_index]
    if load == "light":
        choice, _ = lookup.light(slot)
    elif exact:
        choice, _ = lookup.heavy(slot)
    else:
        everywhere = np.ones(np.shape(slot.bandwidth), dtype=np.bool_)
        choice = heavy_cut(lookup.cost, slot, everywhere, SearchConfig())
    return np.asarray(lookup.cost[choice])


def _exact(network: Network, load: Load, slot: Slot) -> Plan:
    wide = arrays.map_arrays(lambda a: np.asarray(a)[..., None], slot)
    costs, least, value = [], [], []
    for one in network.fronts:
        service = service_times(one.cost, wide)  # (..., F, 3)
        latency = service.sum(axis=-1)
        least.append(latency.min(axis=-1))
        if load == "heavy":
            # In time the throughput counts, else the latency.
            in_time = latency <= wide.deadline
            stage = np.where(in_time, service.max(axis=-1), np.inf)
            latency = np.where(in_time.any(axis=-1, keepdims=True), stage, latency)
        costs.append(one.cost[latency.argmin(axis=-1)])
        value.append(latency.min(axis=-1))
    meets = np.stack(least) <= slot.deadline  # (N, ...)
    loss = network.loss.reshape(-1, *np.ones(meets.ndim - 1, dtype=np.int64))
    accurate = meets & (loss == np.where(meets, loss, np.inf).min(axis=0))
    best = np.where(accurate | ~meets.any(axis=0), np.stack(value), np.inf).argmin(axis=0)
    return Plan(best, np.take_along_axis(np.stack(costs), best[None, ..., None], axis=0)[0])


def slowdown_for(network: Network, load: Load, bandwidth: float, factor: float) -> float:
    """How many times slower the device must be for the exact optimum to gain a factor.

    Light: of latency over device-only, D / (Td + Tt + Te); heavy: of throughput,
    D / max(Td, Tt, Te), D being device-only's time, at the deepest exit. Both grow with the
    slowdown s, by which D and Td are multiplied, so each partition that leaves little enough to
    the device (edge-only does) asks for one s, and the least counts.
    """
    device, bits, edge = network.fronts[-1].cost.T
    link = bits / bandwidth
    whole = network.device_only[0]
    possible = factor * device < whole
    device, link, edge = device[possible], link[possible], edge[possible]
    if load == "light":
        return float((factor * (link + edge) / (whole - factor * device)).min())
    return float((factor * np.maximum(link, edge) / whole).min())
