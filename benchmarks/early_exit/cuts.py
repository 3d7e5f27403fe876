"""Early exit: time of the partition table, of look-ups, min cuts and the weighted search."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from agents.early_exit.mincut import weighted_search
from benchmarks.measure import Report, Row, interleave
from mec_gym.core import arrays
from mec_gym.dnn.zoo import NETWORKS
from mec_gym.early_exit.cuts import CutGraph, heavy_milp
from mec_gym.early_exit.lookup import Lookup
from mec_gym.early_exit.model import service_times
from mec_gym.early_exit.scenario import Scenario
from mec_gym.early_exit.table import partition_table

SLOTS = 10_000
CUTS = 200
MILPS = 3
SEED = 0


def _milliseconds(work: Callable[[], object], units: int = 1) -> Callable[[], float]:
    def measure() -> float:
        begin = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - begin) / units

    return measure


def _solve_all(solve: Callable[[float], object], seconds_per_bit: list[float]) -> None:
    for one in seconds_per_bit:
        solve(one)


def measure(seconds: float, repeats: int) -> Report:
    """Measure every network of the zoo with exits, 32 x 32 pixels; the last exit is cut.

    Args:
        seconds: Not used, because a measurement is one pass over the slots.
        repeats: Number of measurements of each side.
    """
    rows: list[Row] = []
    for network in NETWORKS:
        scenario = Scenario(network=f"{network}-digits")
        front = scenario.table.fronts[-1]
        slot = arrays.map_arrays(
            lambda a: a.reshape(-1)[:SLOTS],
            scenario.sample(np.random.default_rng(SEED), -(-SLOTS // scenario.horizon)),
        )
        lookup = Lookup(front.cost)
        device_s = scenario.device.layer_seconds(front.graph)
        edge_s = scenario.edge.layer_seconds(front.graph)
        cut = CutGraph(front.graph, device_s, edge_s)
        few = arrays.at(slot, slice(CUTS))
        wide = arrays.map_arrays(lambda a: a[:, None], few)
        service = service_times(front.cost, wide)

        def build(scenario: Scenario = scenario) -> None:
            partition_table.__wrapped__(
                scenario.graph, scenario.device, scenario.edge, scenario.rates, scenario.candidates
            )

        seconds_per_bit = [1.0 / b for b in few.bandwidth]
        milp = partial(heavy_milp, front.graph, device_s, edge_s)

        found = interleave(
            {
                "build": _milliseconds(build),
                "light": _milliseconds(partial(lookup.light, slot)),
                "heavy": _milliseconds(partial(lookup.heavy, slot)),
                "cut": _milliseconds(partial(_solve_all, cut.solve, seconds_per_bit), CUTS),
                "milp": _milliseconds(partial(_solve_all, milp, seconds_per_bit[:MILPS]), MILPS),
                "search": _milliseconds(partial(weighted_search, service), CUTS),
            },
            repeats,
        )
        gap = 100.0 * (weighted_search(service)[1] / lookup.heavy(few)[1] - 1.0)
        rows.append(
            {
                "network": network,
                "layers": len(front.graph),
                "partitions": front.count,
                "on the front": len(front.cost),
                "table of all exits, ms": found["build"].median,
                f"light, {SLOTS:,} slots, ms": found["light"].median,
                f"heavy, {SLOTS:,} slots, ms": found["heavy"].median,
                "one min cut, ms": found["cut"].median,
                "one MILP, ms": found["milp"].median,
                "one weighted search, ms": found["search"].median,
                "its mean gap, %": float(gap.mean()),
                "its largest gap, %": float(gap.max()),
            }
        )
    return Report(
        "Early exit: exact partitions of the last exit",
        rows,
        (
            "Light is the least Td + Tt + Te, heavy the least max(Td, Tt, Te); both looked up, "
            "exact among all valid partitions.",
            "The weighted search looks its min cuts up too; with a max-flow for each it would "
            "take 121 to 605 times as long as one min cut.",
            f"Gaps of the search to the exact heavy-load optimum, {CUTS} slots.",
        ),
    )
