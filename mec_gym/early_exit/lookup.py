"""The best partition for light or for heavy load, looked up for many slots at once."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import FloatArray, IntArray
from mec_gym.early_exit.scenario import Slot

_LEAF = 64  # the largest number of costs in a block
_ROWS = 256  # how many slots are looked up at a time, so that the work stays in the cache


class Lookup:
    """Finds the partition of least Td + Tt + Te, or of least max(Td, Tt, Te), in a table.

    Under light load a partition that sends anything also pays for one round trip. The slowest
    stage of heavy load has none, because no stage is busy during a round trip.

    Over a whole Pareto front the answer is exact among all valid partitions, because both
    objectives grow with all three numbers. Long tables are cut into blocks of entries that
    are alike. A block is skipped if none of its entries can be better than one already found,
    judged by the least of each number in the block.

    Args:
        cost: Device work (s), bits to send and edge work (s) of F partitions, (F, 3).
    """

    def __init__(self, cost: FloatArray) -> None:
        self.cost = np.asarray(cost, dtype=np.float64)
        blocks = _alike(self.cost, np.arange(len(self.cost)))
        width = max(len(b) for b in blocks)
        self._index = np.stack([np.pad(b, (0, width - len(b)), mode="edge") for b in blocks])
        self._entries = self.cost[self._index]  # (blocks, width, 3)
        self._least = self._entries.min(axis=1)

    def light(self, slot: Slot) -> tuple[IntArray, FloatArray]:
        """The objective of [Ding2025] under light load.

        Args:
            slot: Fields (...).

        Returns:
            The index of the best partition and its Td + Tt + Te and round trip, (...) and
            (...) s.
        """
        return self._best(slot, np.add, slot.round_trip)

    def heavy(self, slot: Slot) -> tuple[IntArray, FloatArray]:
        """The objective of [Ding2025] under heavy load.

        Args:
            slot: Fields (...).

        Returns:
            The index of the best partition and its max(Td, Tt, Te), (...) and (...) s. The
            throughput of the pipeline is one over the latter.
        """
        return self._best(slot, np.maximum, np.zeros(np.shape(slot.bandwidth)))

    def _best(self, slot: Slot, join: np.ufunc, once: FloatArray) -> tuple[IntArray, FloatArray]:
        # ``once`` is added where anything is sent.
        rates = np.stack([slot.device_speed, slot.bandwidth, slot.edge_speed], axis=-1)
        batch, per_unit = rates.shape[:-1], 1.0 / rates.reshape(-1, 3)
        once = np.ravel(once)
        choice = np.empty(len(per_unit), dtype=np.int64)
        value = np.empty(len(per_unit))
        for begin in range(0, len(per_unit), _ROWS):
            rows = slice(begin, begin + _ROWS)
            choice[rows], value[rows] = self._best_of_rows(per_unit[rows], join, once[rows])
        return choice.reshape(batch), value.reshape(batch)

    def _best_of_rows(
        self, per_unit: FloatArray, join: np.ufunc, once: FloatArray
    ) -> tuple[IntArray, FloatArray]:
        rows = np.arange(len(per_unit))
        if len(self._index) == 1:
            first, others = np.zeros(len(rows), dtype=np.int64), None
        else:
            others = _times(
                self._least, per_unit[:, None], join, once[:, None]
            )  # no entry takes less
            first = others.argmin(axis=1)
        times = _times(self._entries[first], per_unit[:, None], join, once[:, None])
        place = times.argmin(axis=1)
        choice, value = self._index[first, place], times[rows, place]
        if others is None:
            return choice, value
        others[rows, first] = np.inf
        # Only few blocks may hold something better.
        row, block = np.nonzero(others < value[:, None])
        times = _times(self._entries[block], per_unit[row, None], join, once[row, None])
        place = times.argmin(axis=1)
        time = times[np.arange(len(row)), place]
        # The best of a slot is written last.
        order = np.argsort(-time, kind="stable")
        row, found, time = row[order], self._index[block, place][order], time[order]
        better = time < value[row]
        choice[row[better]], value[row[better]] = found[better], time[better]
        return choice, value


def _times(cost: FloatArray, per_unit: FloatArray, join: np.ufunc, once: FloatArray) -> FloatArray:
    """The sum or the largest of Td, Tt and Te, as ``join`` says, of costs (..., 3) -> (...).

    ``once`` (...) is added where anything is sent.
    """
    found = per_unit[..., 0] * cost[..., 0]
    for stage in (1, 2):
        join(found, per_unit[..., stage] * cost[..., stage], out=found)
    if once.any():
        found += (cost[..., 1] > 0) * once
    return np.asarray(found)


def _alike(cost: FloatArray, index: IntArray) -> list[IntArray]:
    """Blocks of entries that are alike, by halving along the most spread number (log scale)."""
    if len(index) <= _LEAF:
        return [index]
    scale = np.log(cost[index] / np.maximum(cost.max(axis=0), 1e-300) + 1e-3)
    order = index[np.argsort(scale[:, np.ptp(scale, axis=0).argmax()], kind="stable")]
    half = len(order) // 2
    return _alike(cost, order[:half]) + _alike(cost, order[half:])
