"""Sparrow search [XueShen2020] as in [Chen2025] figure 3, batched over instances.

Positions lie in the unit box. The update rules are free functions on arrays (B, P, D): B flocks,
P sparrows sorted from best to worst, and D dimensions. Equations are those of [XueShen2020].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agents.protocol import Solution
from mec_gym.core import arrays
from mec_gym.core.checks import check_fields, positive_int
from mec_gym.core.types import FloatArray
from mec_gym.training_offload import model
from mec_gym.training_offload.exact import FLOAT32_MARGIN
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.scenario import Scenario, Slot

Objective = Callable[[FloatArray], FloatArray]
"""The cost of positions, (B, P, D) -> (B, P)."""


@dataclass(frozen=True, slots=True)
class SparrowConfig:
    """Parameters of the search.

    Attributes:
        population: The number of sparrows per flock, P; more search better and longer.
        first_moves: How often every flock moves in the first stage, in which each pair of
            servers has a flock.
        stages: (flocks, moves) of each later stage: how many flocks per task go on, best first,
            and how often they move.
        safety: The alarm value from which on producers flee, ST, in [0, 1]; a lower one makes
            them jump more often.
        producers: The share of a flock that leads, PD, in [0, 1].
        scouts: The share of a flock that watches for danger, SD, in [0, 1].

    Raises:
        ValueError: A parameter is out of its range; the message names it.
    """

    population: int = 16
    first_moves: int = 2
    stages: tuple[tuple[int, int], ...] = ((4, 5), (2, 6), (1, 11))
    safety: float = 0.8
    producers: float = 0.2
    scouts: float = 0.1

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive_int=("population", "first_moves"),
            fraction=("safety", "producers", "scouts"),
        )
        for flocks, moves in self.stages:
            positive_int("stages: flocks", flocks)
            positive_int("stages: moves", moves)
        flocks_only = [flocks for flocks, _ in self.stages]
        if flocks_only != sorted(flocks_only, reverse=True):
            raise ValueError(f"stages must not gain flocks on the way, got {self.stages}")

    def evaluations(self, pairs: int) -> int:
        """The number of model evaluations per task with so many pairs of servers."""
        moved = sum(flocks * moves for flocks, moves in self.plan(pairs))
        return self.population * (pairs + moved)

    def plan(self, pairs: int) -> list[tuple[int, int]]:
        """(flocks, moves) of every stage with so many pairs of servers."""
        later = [(min(flocks, pairs), moves) for flocks, moves in self.stages]
        return [(pairs, self.first_moves), *later]


def move_producers(
    x: FloatArray, iterations: int, safety: float, rng: np.random.Generator
) -> FloatArray:
    """Eq. (3): producers search widely while it is safe, and jump together when it is not."""
    batch, count, _ = x.shape
    rank = np.arange(1, count + 1)[:, None]
    alpha = 1.0 - rng.random((batch, count, 1))  # in (0, 1]
    alarm = rng.random((batch, 1, 1))
    jump = rng.standard_normal((batch, count, 1))
    return np.where(alarm < safety, x * np.exp(-rank / (alpha * iterations)), x + jump)


def move_scroungers(
    x: FloatArray,
    ranks: npt.NDArray[np.int64],
    population: int,
    leader: FloatArray,
    worst: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Eq. (4): scroungers follow the best producer (B, 1, D), or fly elsewhere when they starve.

    The step is printed as X_P + |X - X_P| A+ L with A a row of random signs and A+ = A^T / D. As
    a matrix product this is one number for all dimensions, and sparrows could follow along the
    diagonal only (the gap measured was 20 times as large). Taken by element, as here, each
    dimension keeps its own distance and sign.
    """
    batch, count, dimension = x.shape
    rank = ranks[:, None]
    starving = rng.standard_normal((batch, count, 1)) * np.exp((worst - x) / rank**2)
    signs = rng.choice([-1.0, 1.0], size=x.shape)
    step = np.abs(x - leader) * signs / dimension
    return np.where(rank > population / 2, starving, leader + step)


def move_scouts(
    x: FloatArray,
    cost: FloatArray,
    best: FloatArray,
    best_cost: FloatArray,
    worst: FloatArray,
    worst_cost: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Eq. (5): scouts move towards the best place; one at the best place moves aside."""
    beta = rng.standard_normal((*x.shape[:-1], 1))
    k = rng.uniform(-1.0, 1.0, (*x.shape[:-1], 1))
    inward = best + beta * np.abs(x - best)
    gap = (cost - worst_cost)[..., None]
    aside = x + k * np.abs(x - worst) / (gap - 1e-50)
    return np.where((cost > best_cost)[..., None], inward, aside)


def move_flock(
    objective: Objective,
    x: FloatArray,
    cost: FloatArray,
    moves: int,
    total_moves: int,
    config: SparrowConfig,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Move B flocks side by side; a sparrow only ever moves to a better place.

    Args:
        objective: The cost of positions, (B, P, D) -> (B, P). It is called twice per move, for
            the producers and for the others, so that each sparrow is asked for once.
        x: Positions, (B, P, D).
        cost: Their costs, (B, P).
        moves: How often to move.
        total_moves: The number of moves of the whole search, which sets the producers' pace.
        config: Parameters of the search.
        rng: The source of every draw.

    Returns:
        Positions and costs after the moves.
    """
    batch, count, _ = x.shape
    leaders = max(1, round(count * config.producers))
    scouts = round(count * config.scouts)
    led, rest = slice(0, leaders), slice(leaders, count)
    ranks = np.arange(leaders + 1, count + 1)

    def settle(who: slice, moved: FloatArray) -> None:
        moved = np.clip(moved, 0.0, 1.0)
        moved_cost = objective(moved)
        better = moved_cost < cost[:, who]
        x[:, who] = np.where(better[..., None], moved, x[:, who])
        cost[:, who] = np.where(better, moved_cost, cost[:, who])

    for _ in range(moves):
        order = cost.argsort(axis=1, kind="stable")
        x = np.take_along_axis(x, order[..., None], axis=1)
        cost = np.take_along_axis(cost, order, axis=1)
        best, best_cost = x[:, :1].copy(), cost[:, :1].copy()
        worst, worst_cost = x[:, -1:].copy(), cost[:, -1:].copy()

        settle(led, move_producers(x[:, led], total_moves, config.safety, rng))
        first = cost[:, led].argmin(axis=1)[:, None, None]
        leader = np.take_along_axis(x[:, led], first, axis=1)
        moved = move_scroungers(x[:, rest], ranks, count, leader, worst, rng)
        if scouts:
            who = rng.permuted(np.tile(np.arange(count - leaders), (batch, 1)), axis=1)[:, :scouts]
            watching = np.take_along_axis(x[:, rest], who[..., None], axis=1)
            watched = np.take_along_axis(cost[:, rest], who, axis=1)
            scouted = move_scouts(watching, watched, best, best_cost, worst, worst_cost, rng)
            np.put_along_axis(moved, who[..., None], scouted, axis=1)
        settle(rest, moved)
    return x, cost


class SparrowSolver:
    """Sparrow search for the split of one task, as [Chen2025] proposes it.

    A position is (share that leaves the device, share of this that goes to the edge). A flock
    could not drift from one server to another, for servers are no places with others between
    them. So every pair (i, j) gets a flock of its own, and flocks on poor pairs are given up:
    after each stage only the best go on. The cost is T / D_m, plus a penalty if the energy
    exceeds the battery.

    Args:
        scenario: The parameters.
        config: Parameters of the search.
        seed: Seeds the solver's own generator.
    """

    def __init__(
        self, scenario: Scenario, config: SparrowConfig = SparrowConfig(), seed: int = 0
    ) -> None:
        self.scenario = scenario
        self.config = config
        self.rng = np.random.default_rng(seed)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Search for the split of every task of a batch, fields (...)."""
        batch = np.shape(slot.work)
        flat = arrays.map_arrays(lambda a: np.reshape(a, (-1, *np.shape(a)[len(batch) :])), slot)
        battery = np.reshape(state.battery, -1)
        count, population = len(battery), self.config.population
        all_pairs = self.scenario.servers**2
        plan = self.config.plan(all_pairs)
        total_moves = sum(moves for _, moves in plan)

        # The flocks of a task stand side by side: (count, flocks, P, 2).
        pairs = np.tile(np.arange(all_pairs), (count, 1))
        x = self.rng.random((count, all_pairs, population, 2))
        cost = np.zeros((count, all_pairs, population))
        for stage, (flocks, moves) in enumerate(plan):
            if flocks < pairs.shape[1]:
                kept = cost.min(axis=2).argsort(axis=1, kind="stable")[:, :flocks]
                pairs = np.take_along_axis(pairs, kept, axis=1)
                x = np.take_along_axis(x, kept[..., None, None], axis=1)
                cost = np.take_along_axis(cost, kept[..., None], axis=1)
            rows = np.repeat(np.arange(count), pairs.shape[1])[:, None]
            objective = self._objective(arrays.at(flat, rows), battery[rows], pairs.reshape(-1, 1))
            side_by_side = x.reshape(-1, population, 2)
            at_start = objective(side_by_side) if stage == 0 else cost.reshape(-1, population)
            moved = move_flock(
                objective, side_by_side, at_start, moves, total_moves, self.config, self.rng
            )
            x, cost = moved[0].reshape(*pairs.shape, -1, 2), moved[1].reshape(*pairs.shape, -1)
        best = cost.reshape(count, -1).argmin(axis=1)
        instance = np.arange(count)
        found = self._decision(
            x.reshape(count, -1, 2)[instance, best], pairs[instance, best // population]
        )
        decision = arrays.map_arrays(lambda a: a.reshape(batch), found)
        return Solution(decision=decision, evaluations=self.config.evaluations(all_pairs))

    def _decision(self, x: FloatArray, pair: npt.NDArray[np.int64]) -> Decision:
        edge = x[..., 0] * x[..., 1]
        server, next_server = np.divmod(pair, self.scenario.servers)
        return Decision(
            edge_share=edge,
            cloud_share=x[..., 0] - edge,
            server=server,
            next_server=next_server,
        )

    def _objective(self, slot: Slot, battery: FloatArray, pair: npt.NDArray[np.int64]) -> Objective:
        allowed = battery * (1.0 - FLOAT32_MARGIN)
        unlimited = State(battery=np.full_like(battery, np.inf), tasks_left=battery)

        def cost(x: FloatArray) -> FloatArray:
            decision = self._decision(x, pair)
            _, outcome = model.evaluate(slot, unlimited, decision, self.scenario)
            excess = np.maximum(outcome.energy_j - allowed, 0.0) / self.scenario.battery
            penalty = np.where(excess > 0, 1.0 + 10.0 * excess, 0.0)
            return outcome.delay_s / self.scenario.deadline + penalty

        return cost
