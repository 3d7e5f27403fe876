"""All plans of a chain: which device trains which blocks, each device one stage at most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations
from math import comb, perm

import numpy as np

from mec_gym.core.types import BoolArray, IntArray
from mec_gym.pipeline_training.model import Stages, stages_of

MOST_PLANS = 4096
"""The largest number of plans that are all tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """All P plans of L blocks on M devices."""

    place: IntArray  # (P, L) the device of each block
    uses: BoolArray  # (P, M) whether the plan has a stage on the device
    stages: Stages  # fields (R, P), with R = min(L, M)


def count_plans(blocks: int, devices: int) -> int:
    """Count the plans: the sum over S of C(L - 1, S - 1) M! / (M - S)!.

    Args:
        blocks: L.
        devices: M.
    """
    most = min(blocks, devices)
    return sum(comb(blocks - 1, s - 1) * perm(devices, s) for s in range(1, most + 1))


def can_try_all(blocks: int, devices: int) -> bool:
    """Return whether the plans are few enough to try them all.

    Args:
        blocks: L.
        devices: M.
    """
    return count_plans(blocks, devices) <= MOST_PLANS


@lru_cache(maxsize=32)
def all_plans(blocks: int, devices: int) -> Plans:
    """List all plans, those with few stages first.

    Args:
        blocks: L.
        devices: M.

    Raises:
        ValueError: There are more than ``MOST_PLANS``.
    """
    if not can_try_all(blocks, devices):
        raise ValueError(
            f"blocks and devices must leave at most {MOST_PLANS} plans to try them all, got "
            f"{count_plans(blocks, devices)} with blocks = {blocks}, devices = {devices}"
        )
    found = []
    for stages in range(1, min(blocks, devices) + 1):
        for cuts in combinations(range(1, blocks), stages - 1):
            lengths = np.diff([0, *cuts, blocks])
            found += [np.repeat(order, lengths) for order in permutations(range(devices), stages)]
    place = np.array(found)
    return Plans(
        place=place,
        uses=(place[..., None] == np.arange(devices)).any(axis=-2),
        stages=stages_of(place, min(blocks, devices)),
    )
