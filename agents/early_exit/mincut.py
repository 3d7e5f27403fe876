"""Min cut for light load and weighted search for heavy load, [Ding2025] alg. 1 to 3."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.early_exit.rules import nearest_candidate
from agents.protocol import Solution
from mec_gym.core import arrays
from mec_gym.core.checks import check_fields
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.early_exit.cuts import CutGraph
from mec_gym.early_exit.model import Decision, State, round_trip_times, service_times
from mec_gym.early_exit.partitions import partition_cost
from mec_gym.early_exit.scenario import Scenario, Slot

_CHUNK = 1 << 18  # how many numbers are worked on at a time


class MinCutSolver:
    """The deepest exit, cut where Td + Tt + Te is least, [Ding2025] alg. 1.

    It solves a max-flow problem per frame. All partitions that send anything pay for the same
    round trip, so the min cut is compared with the one partition that sends nothing.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.exit = scenario.exits - 1
        graph = scenario.table.fronts[-1].graph
        self.cut = CutGraph(
            graph, scenario.device.layer_seconds(graph), scenario.edge.layer_seconds(graph)
        )

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...); queues are not looked at."""
        cut = self.cut
        batch = np.shape(slot.bandwidth)
        rows = zip(
            *(np.ravel(r) for r in (slot.device_speed, slot.bandwidth, slot.edge_speed)),
            strict=True,
        )
        found = [cut.solve(1.0 / b, (1.0 / device, 1.0, 1.0 / edge)) for device, b, edge in rows]
        on_edge = np.reshape(found, (*batch, len(cut.graph)))
        stays = np.zeros_like(on_edge)
        cost = partition_cost(cut.graph, np.stack([on_edge, stays]), cut.device_s, cut.edge_s)
        latency = service_times(cost, slot).sum(axis=-1) + round_trip_times(cost, slot)
        cost = np.where((latency[0] <= latency[1])[..., None], cost[0], cost[1])
        choice = nearest_candidate(self.scenario, self.exit, cost)
        return Solution(Decision(exit=np.full_like(choice, self.exit), partition=choice), 1)


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """What the pseudocode of [Ding2025] alg. 2 and 3 leaves open; these are our choices.

    Attributes:
        widest: The first range of alpha and of gamma is [0, widest]; beta is 1.
        steps: The number of values of each in a range, so delta = range / (steps - 1). More
            steps find better cuts and take longer, with their square.
        narrowing: Each further range is so many times narrower, about the best pair; the K of
            the paper.
        tolerance: The search stops when T_max changes by less than this share of it; the
            epsilon of the paper.
        rounds: The largest number of ranges. More rounds find better cuts and take longer.

    Raises:
        ValueError: A value is outside its range.
    """

    widest: float = 10.0
    steps: int = 11
    narrowing: float = 4.0
    tolerance: float = 1e-3
    rounds: int = 5

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive=("widest", "narrowing", "tolerance"),
            positive_int=("steps", "rounds"),
        )
        if self.steps < 2 or self.narrowing <= 1:
            raise ValueError(
                f"steps must be at least 2 and narrowing above 1, got {self.steps}, "
                f"{self.narrowing}"
            )


def weighted_search(
    service: FloatArray, config: SearchConfig = SearchConfig()
) -> tuple[IntArray, FloatArray]:
    """Searches for weights whose min cut has the least slowest stage, [Ding2025] alg. 2 and 3.

    Algorithm 3 walks over a grid of alpha and gamma and calls algorithm 1 on each pair, which is
    read here as called *with* these weights; T*_max starts at infinity. Algorithm 2 repeats it
    until T_max settles. Its input names K but its text does not use it; here K narrows the grid
    about the best pair, as in [Hu2019]. The min cut for a pair of weights is looked up: it is
    the entry of the table of partitions with the least alpha Td + Tt + gamma Te, which equals
    that of max-flow. The search finds supported points only: with (Td, Tt, Te) = (0, 2, 10),
    (6, 5, 5) and (12, 0, 0) the best slowest stage is 6, and no weights find it.

    Args:
        service: Td, Tt and Te of F partitions, (..., F, 3) s.
        config: The choices that the paper leaves open.

    Returns:
        The index of the partition found and its slowest stage, (...) and (...) s.
    """
    batch = service.shape[:-2]
    flat = service.reshape(-1, *service.shape[-2:])
    rows = max(1, _CHUNK // (config.steps**2 * flat.shape[1]))
    parts = [_search(flat[i : i + rows], config) for i in range(0, max(len(flat), 1), rows)]
    choice, slowest = (np.concatenate(column) for column in zip(*parts, strict=True))
    return choice.reshape(batch), slowest.reshape(batch)


def _search(service: FloatArray, config: SearchConfig) -> tuple[IntArray, FloatArray]:
    count = len(service)
    stage = service.max(axis=-1)  # (S, F)
    choice = np.zeros(count, dtype=np.int64)
    slowest = np.full(count, np.inf)
    centre = np.full((count, 2), config.widest / 2)
    width = config.widest
    active = np.arange(count)
    unit = np.linspace(-0.5, 0.5, config.steps)
    pairs = np.stack(np.meshgrid(unit, unit, indexing="ij"), axis=-1).reshape(-1, 2)
    for _ in range(config.rounds):
        weights = np.maximum(centre[active, None] + width * pairs, 0.0)  # (S, pairs, 2)
        device, link, edge = np.moveaxis(service[active, None], -1, 0)  # (S, 1, F)
        objective = weights[..., :1] * device
        objective += link
        objective += weights[..., 1:] * edge
        cut = objective.argmin(axis=-1)  # (S, pairs)
        found = np.take_along_axis(stage[active], cut, axis=-1)
        best = found.argmin(axis=-1)
        rows = np.arange(len(active))
        before, now = slowest[active], found[rows, best]
        better = now < before
        choice[active] = np.where(better, cut[rows, best], choice[active])
        slowest[active] = np.minimum(now, before)
        centre[active] = weights[rows, best]
        active = active[before - now >= config.tolerance * now]
        if not len(active):
            break
        width /= config.narrowing
    return choice, slowest


class WeightedSearchSolver:
    """The deepest exit, cut where a search finds the least slowest stage, [Ding2025] alg. 2.

    Args:
        scenario: The parameters.
        config: The settings of the search.
    """

    def __init__(self, scenario: Scenario, config: SearchConfig = SearchConfig()) -> None:
        self.exit = scenario.exits - 1
        self.cost = scenario.table.candidates(self.exit)
        self.config = config

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch, fields (...); queues are not looked at."""
        wide = arrays.map_arrays(lambda a: np.asarray(a)[..., None], slot)
        choice, _ = weighted_search(service_times(self.cost, wide), self.config)
        evaluations = self.config.rounds * self.config.steps**2
        decision = Decision(exit=np.full_like(choice, self.exit), partition=choice)
        return Solution(decision, evaluations)
