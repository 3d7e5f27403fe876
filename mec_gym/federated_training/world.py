"""Nature's tables as a step needs them: of many environments, at times that differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import FloatArray, IntArray
from mec_gym.federated_training.clock import bin_of
from mec_gym.federated_training.scenario import Scenario, Slot


class World:
    """A slot whose batch axes are one axis of Z environments; large tables are not copied.

    Args:
        slot: The slot, fields (...).
        batch: The batch axes of slot, state and decision together; their product is Z.
        scenario: The parameters.
    """

    def __init__(self, slot: Slot, batch: tuple[int, ...], scenario: Scenario) -> None:
        own = np.shape(slot.key)
        numbers = np.arange(math.prod(own)).reshape(own)
        self.row = np.broadcast_to(numbers, batch).reshape(-1)
        self.slot, self.scenario = slot, scenario

    def table(self, name: str, axes: int) -> npt.NDArray[Any]:
        """Return a field of the slot with one leading axis, in which ``row`` counts.

        Args:
            name: The name of the field.
            axes: How many axes of its own it has.
        """
        field = np.asarray(getattr(self.slot, name))
        return field.reshape(-1, *field.shape[field.ndim - axes :])

    def now(self, name: str, clock: FloatArray) -> npt.NDArray[Any]:
        """Read a table over time of all clients, (Z, N), at the times (Z,)."""
        table = self.table(name, 2)
        return np.asarray(table[self.row, :, bin_of(clock, self.scenario.bin_s, table.shape[-1])])

    def each(self, name: str) -> npt.NDArray[Any]:
        """Return a number per client, (Z, N)."""
        return np.asarray(self.table(name, 1)[self.row])

    def demand_now(self, clock: FloatArray) -> FloatArray:
        """Return what share of requests is of each class at the times (Z,), (Z, classes)."""
        table = self.table("demand", 2)
        return np.asarray(table[self.row, bin_of(clock, self.scenario.bin_s, table.shape[1])])

    def error_seconds(self, recall: FloatArray, begin: FloatArray, end: FloatArray) -> FloatArray:
        """Integrate the error of models over time, weighted by demand, (Z,) s.

        Args:
            recall: The share of each class that a model gets right, (Z, classes).
            begin: When it begins, (Z,) s.
            end: When it ends, (Z,) s, at least ``begin``.
        """
        table = self.table("demand", 2)[self.row]
        edges = np.arange(table.shape[1] + 1) * self.scenario.bin_s
        edges[-1] = np.inf
        inside = np.minimum(edges[1:], end[:, None]) - np.maximum(edges[:-1], begin[:, None])
        wrong = (table * (1.0 - recall)[:, None, :]).sum(axis=-1)
        return np.asarray((wrong * np.maximum(inside, 0.0)).sum(axis=-1))

    def leaves(self, clock: FloatArray) -> FloatArray:
        """Return when clients will next be absent, (Z, N) s; inf if never again."""
        present = self.table("present", 2)[self.row]
        bins = present.shape[-1]
        now = bin_of(clock, self.scenario.bin_s, bins)
        absent = ~present & (np.arange(bins) >= now[:, None])[:, None, :]
        when = np.maximum(absent.argmax(axis=-1) * self.scenario.bin_s, clock[:, None])
        return np.where(absent.any(axis=-1), when, np.inf)


def known_images(
    samples: IntArray, clock: FloatArray, scenario: Scenario
) -> tuple[IntArray, IntArray]:
    """Return which of their images clients know at a time.

    Args:
        samples: How many images the clients hold.
        clock: The time, s; it broadcasts with ``samples``.
        scenario: The parameters.

    Returns:
        The number of the first image that is known, and how many follow, itself included.
    """
    if scenario.growth_s is None:
        return np.zeros_like(samples), samples
    passed = np.minimum(clock / scenario.growth_s, 1.0)
    if scenario.sliding:
        count = np.ceil(scenario.growth_from * samples - 1e-9).astype(np.int64)
        count = np.broadcast_to(np.maximum(count, 1), np.shape(samples + passed))
        return np.floor((samples - count) * passed + 1e-9).astype(np.int64), count
    share = scenario.growth_from + (1.0 - scenario.growth_from) * passed
    count = np.maximum(np.ceil(share * samples - 1e-9), 1).astype(np.int64)
    return np.zeros_like(count), count
