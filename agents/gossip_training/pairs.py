"""Pairs of devices that may talk to each other, and how partners are chosen among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.gossip_training.model import Decision
from mec_gym.gossip_training.scenario import Scenario
from mec_gym.learning.hashing import KeyArray, mix


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pairs of devices of which at least one may listen to the other; M pairs, E edges.

    Attributes:
        first: The device of the lower number, (M,).
        second: The other one, (M,).
        of_edge: The pair to which each directed edge belongs, (E,).
    """

    first: IntArray
    second: IntArray
    of_edge: IntArray


@lru_cache(maxsize=16)
def pairs_of(scenario: Scenario) -> Pairs:
    """Return the pairs of a scenario's graph, ordered by their devices."""
    ordered = np.sort(scenario.edges, axis=-1)
    found, of_edge = np.unique(ordered, axis=0, return_inverse=True)
    return Pairs(found[:, 0], found[:, 1], of_edge.reshape(-1))


def talk(chosen: BoolArray, scenario: Scenario, reduce: BoolArray | None = None) -> Decision:
    """Return the decision in which both devices of the chosen pairs listen where they may.

    Args:
        chosen: The chosen pairs, (..., M).
        scenario: The parameters.
        reduce: Whether all average all instead, (...); by default they do not.
    """
    listen = chosen[..., pairs_of(scenario).of_edge]
    silent = np.zeros(chosen.shape[:-1], dtype=np.bool_)
    return Decision(reduce=silent if reduce is None else reduce, listen=listen)


def greedy(
    score: FloatArray, scenario: Scenario, most: int = 1, partners: FloatArray | float = 0.0
) -> BoolArray:
    """Choose pairs one after the other, always the one with the highest score above 0.

    Args:
        score: The scores of pairs, (..., M).
        scenario: The parameters.
        most: How many partners a device may have at most.
        partners: What each partner that one of the two already has adds to the score, (...).

    Returns:
        The chosen pairs, (..., M).
    """
    pairs = pairs_of(scenario)
    batch, count = score.shape[:-1], score.shape[-1]
    score = score.reshape(-1, count)
    adds = np.broadcast_to(np.asarray(partners, dtype=np.float64), batch).reshape(-1, 1)
    row = np.arange(len(score))
    chosen = np.zeros(score.shape, dtype=np.bool_)
    number = np.zeros((len(score), scenario.devices))
    for _ in range(min(count, most * scenario.devices // 2)):
        first, second = number[:, pairs.first], number[:, pairs.second]
        free = ~chosen & (first < most) & (second < most)
        now = np.where(free, score + adds * (first + second), -np.inf)
        best = now.argmax(axis=-1)
        good = now[row, best] > 0
        if not good.any():
            break
        z, pair = row[good], best[good]
        chosen[z, pair] = True
        number[z, pairs.first[pair]] += 1
        number[z, pairs.second[pair]] += 1
    return chosen.reshape(*batch, count)


def lots(turn: IntArray, count: int) -> FloatArray:
    """Return numbers in [0, 1) that look random and depend on nothing but their arguments.

    Args:
        turn: The number of the round, (...).
        count: How many numbers.

    Returns:
        The numbers, (..., count).
    """
    key: KeyArray = np.asarray(turn).astype(np.uint64)[..., None] << np.uint64(32)
    bits = mix(np.add(key, np.arange(1, count + 1, dtype=np.uint64))) >> np.uint64(11)
    return np.asarray(bits * 2.0**-53)


@lru_cache(maxsize=16)
def turns_of(scenario: Scenario) -> IntArray:
    """Return in which turn each pair talks, so that no device has two partners in one, (M,).

    On a complete graph of an even number of devices everybody has a partner in every turn, as in a
    tournament; elsewhere each pair takes the first turn that is free for both.

    Args:
        scenario: The parameters.
    """
    pairs, n = pairs_of(scenario), scenario.devices
    if len(pairs.first) == n * (n - 1) // 2:
        players = n + n % 2  # of an odd number, one pauses
        turn = (pairs.first + pairs.second) % (players - 1)
        with_last = pairs.second == players - 1
        return np.where(with_last, 2 * pairs.first % (players - 1), turn)
    turn = np.zeros(len(pairs.first), dtype=np.int64)
    busy: list[set[int]] = [set() for _ in range(n)]
    for pair, (i, j) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        taken = busy[i] | busy[j]
        turn[pair] = min(set(range(len(taken) + 1)) - taken)
        busy[i].add(int(turn[pair]))
        busy[j].add(int(turn[pair]))
    return turn
