"""Sparrow search [XueShen2020] for the split of one task, as [Chen2025] figure 3 proposes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agents.protocol import Solution
from agents.training_offload.flock import (
    Flock,
    Objective,
    move_flock,
    move_scroungers_as_printed,
)
from mec_gym.core import arrays
from mec_gym.core.checks import check_fields, positive_int
from mec_gym.core.types import FloatArray
from mec_gym.training_offload import model
from mec_gym.training_offload.exact import FLOAT32_MARGIN
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.scenario import Scenario, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class SparrowConfig(Flock):
    """Parameters of a search with one flock per pair of servers, which is ours.

    Attributes:
        first_moves: How often every flock moves in the first stage, in which each pair of
            servers has a flock.
        stages: (flocks, moves) of each later stage: how many flocks per task go on, best first,
            and how often they move.

    Raises:
        ValueError: A parameter is out of its range; the message names it.
    """

    first_moves: int = 2
    stages: tuple[tuple[int, int], ...] = ((4, 5), (2, 6), (1, 11))

    def __post_init__(self) -> None:
        Flock.__post_init__(self)
        check_fields(self, positive_int=("first_moves",))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TextbookConfig(Flock):
    """Parameters of a search with one flock for everything, as published.

    Attributes:
        moves: How often the flock moves.

    Raises:
        ValueError: A parameter is out of its range; the message names it.
    """

    population: int = 80
    moves: int = 13

    def __post_init__(self) -> None:
        Flock.__post_init__(self)
        check_fields(self, positive_int=("moves",))

    @property
    def evaluations(self) -> int:
        """The number of model evaluations per task."""
        return self.population * (1 + self.moves)


class SparrowSolver:
    """Sparrow search with a flock per pair of servers and steps by element; both are ours.

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
            objective = _objective(
                arrays.at(flat, rows), battery[rows], pairs.reshape(-1, 1), self.scenario
            )
            side_by_side = x.reshape(-1, population, 2)
            at_start = objective(side_by_side) if stage == 0 else cost.reshape(-1, population)
            moved = move_flock(
                objective, side_by_side, at_start, moves, total_moves, self.config, self.rng
            )
            x, cost = moved[0].reshape(*pairs.shape, -1, 2), moved[1].reshape(*pairs.shape, -1)
        best = cost.reshape(count, -1).argmin(axis=1)
        instance = np.arange(count)
        found = _decision(
            x.reshape(count, -1, 2)[instance, best],
            pairs[instance, best // population],
            self.scenario,
        )
        decision = arrays.map_arrays(lambda a: a.reshape(batch), found)
        return Solution(decision=decision, evaluations=self.config.evaluations(all_pairs))


class TextbookSparrowSolver:
    """Sparrow search as printed in [XueShen2020]: one flock, and eq. (3) to (5) to the letter.

    A position has a third number, which stands for the pair of servers (i, j): the unit interval
    is divided among the pairs evenly. The cost is that of :class:`SparrowSolver`.

    Args:
        scenario: The parameters.
        config: Parameters of the search.
        seed: Seeds the solver's own generator.
    """

    def __init__(
        self, scenario: Scenario, config: TextbookConfig = TextbookConfig(), seed: int = 0
    ) -> None:
        self.scenario = scenario
        self.config = config
        self.rng = np.random.default_rng(seed)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Search for the split of every task of a batch, fields (...)."""
        batch = np.shape(slot.work)
        flat = arrays.map_arrays(lambda a: np.reshape(a, (-1, 1, *np.shape(a)[len(batch) :])), slot)
        battery = np.reshape(state.battery, (-1, 1))
        pairs = self.scenario.servers**2

        def pair_of(x: FloatArray) -> npt.NDArray[np.int64]:
            return np.minimum((x[..., 2] * pairs).astype(np.int64), pairs - 1)

        def cost(x: FloatArray) -> FloatArray:
            return _objective(flat, battery, pair_of(x), self.scenario)(x)

        x = self.rng.random((len(battery), self.config.population, 3))
        moves = self.config.moves
        x, costs = move_flock(
            cost, x, cost(x), moves, moves, self.config, self.rng, move_scroungers_as_printed
        )
        best = x[np.arange(len(x)), costs.argmin(axis=1)]
        found = _decision(best, pair_of(best), self.scenario)
        decision = arrays.map_arrays(lambda a: a.reshape(batch), found)
        return Solution(decision=decision, evaluations=self.config.evaluations)


def _decision(x: FloatArray, pair: npt.NDArray[np.int64], scenario: Scenario) -> Decision:
    """The split and the servers of positions, whose first two numbers count, (..., 2 or 3)."""
    edge = x[..., 0] * x[..., 1]
    server, next_server = np.divmod(pair, scenario.servers)
    return Decision(
        edge_share=edge,
        cloud_share=x[..., 0] - edge,
        server=server,
        next_server=next_server,
    )


def _objective(
    slot: Slot, battery: FloatArray, pair: npt.NDArray[np.int64], scenario: Scenario
) -> Objective:
    """T / D_m, plus a penalty if the energy exceeds the battery."""
    allowed = battery * (1.0 - FLOAT32_MARGIN)
    unlimited = State(battery=np.full_like(battery, np.inf), tasks_left=battery)

    def cost(x: FloatArray) -> FloatArray:
        _, outcome = model.evaluate(slot, unlimited, _decision(x, pair, scenario), scenario)
        excess = np.maximum(outcome.energy_j - allowed, 0.0) / scenario.battery
        penalty = np.where(excess > 0, 1.0 + 10.0 * excess, 0.0)
        return outcome.delay_s / scenario.deadline + penalty

    return cost
