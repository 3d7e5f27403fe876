"""The rules of sparrow search [XueShen2020] by which a flock moves, for many flocks side by side.

Positions lie in the unit box. The update rules are free functions on arrays (B, P, D): B flocks,
P sparrows sorted from best to worst, and D dimensions. Equations are those of [XueShen2020].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import check_fields
from mec_gym.core.types import FloatArray

Objective = Callable[[FloatArray], FloatArray]
"""The cost of positions, (B, P, D) -> (B, P)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flock:
    """Parameters of a flock.

    Attributes:
        population: The number of sparrows per flock, P; more search better and longer.
        safety: The alarm value from which on producers flee, ST, in [0, 1]; a lower one makes
            them jump more often.
        producers: The share of a flock that leads, PD, in [0, 1].
        scouts: The share of a flock that watches for danger, SD, in [0, 1].

    Raises:
        ValueError: A parameter is out of its range; the message names it.
    """

    population: int = 16
    safety: float = 0.8
    producers: float = 0.2
    scouts: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, positive_int=("population",), fraction=("safety", "producers", "scouts"))


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


class MoveScroungers(Protocol):
    """One of the two readings of eq. (4)."""

    def __call__(
        self,
        x: FloatArray,
        ranks: npt.NDArray[np.int64],
        population: int,
        leader: FloatArray,
        worst: FloatArray,
        rng: np.random.Generator,
    ) -> FloatArray:
        """Where scroungers (B, S, D) of these ranks (S,) go."""


def move_scroungers(
    x: FloatArray,
    ranks: npt.NDArray[np.int64],
    population: int,
    leader: FloatArray,
    worst: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Eq. (4) by element: scroungers follow the leader, or fly elsewhere when they starve.

    The step is printed as X_P + |X - X_P| A+ L with A a row of random signs and A+ = A^T / D.
    Here each dimension keeps its own distance and its own sign.
    """
    starving = _starve(x, ranks, worst, rng)
    signs = rng.choice([-1.0, 1.0], size=x.shape)
    step = np.abs(x - leader) * signs / x.shape[-1]
    return np.where(ranks[:, None] > population / 2, starving, leader + step)


def move_scroungers_as_printed(
    x: FloatArray,
    ranks: npt.NDArray[np.int64],
    population: int,
    leader: FloatArray,
    worst: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Eq. (4) as printed, with |X - X_P| A+ L as a product of matrices.

    It is one number for all dimensions, so scroungers land on the diagonal through the leader.
    """
    starving = _starve(x, ranks, worst, rng)
    signs = rng.choice([-1.0, 1.0], size=x.shape)
    step = (np.abs(x - leader) * signs).sum(axis=-1, keepdims=True) / x.shape[-1]
    return np.where(ranks[:, None] > population / 2, starving, leader + step)


def _starve(
    x: FloatArray, ranks: npt.NDArray[np.int64], worst: FloatArray, rng: np.random.Generator
) -> FloatArray:
    draw = rng.standard_normal((*x.shape[:-1], 1))
    return np.asarray(draw * np.exp((worst - x) / ranks[:, None] ** 2))


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
    flock: Flock,
    rng: np.random.Generator,
    follow: MoveScroungers = move_scroungers,
) -> tuple[FloatArray, FloatArray]:
    """Move B flocks side by side; a sparrow only ever moves to a better place.

    Scouts are drawn anew in every move from the whole flock, producers and the best sparrow
    included. They move by eq. (5) in place of eq. (3) or (4).

    Args:
        objective: The cost of positions, (B, P, D) -> (B, P). It is called twice per move, for
            the producers and for the others, so that each sparrow is asked for once.
        x: Positions, (B, P, D).
        cost: Their costs, (B, P).
        moves: How often to move.
        total_moves: The number of moves of the whole search, which sets the producers' pace.
        flock: Parameters of the flock.
        rng: The source of every draw.
        follow: How scroungers move.

    Returns:
        Positions and costs after the moves.
    """
    batch, count, _ = x.shape
    leaders = max(1, round(count * flock.producers))
    scouts = round(count * flock.scouts)
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

        who = rng.permuted(np.tile(np.arange(count), (batch, 1)), axis=1)[:, :scouts]
        watching = np.take_along_axis(x, who[..., None], axis=1)
        watched = np.take_along_axis(cost, who, axis=1)
        scouted = move_scouts(watching, watched, best, best_cost, worst, worst_cost, rng)

        moved = np.empty_like(x)
        moved[:, led] = move_producers(x[:, led], total_moves, flock.safety, rng)
        np.put_along_axis(moved, who[..., None], scouted, axis=1)
        settle(led, moved[:, led])
        first = cost[:, led].argmin(axis=1)[:, None, None]
        leader = np.take_along_axis(x[:, led], first, axis=1)
        moved[:, rest] = follow(x[:, rest], ranks, count, leader, worst, rng)
        np.put_along_axis(moved, who[..., None], scouted, axis=1)
        settle(rest, moved[:, rest])
    return x, cost
