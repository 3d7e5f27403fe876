"""An order in which every class keeps its share."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import IntArray


def in_strata(labels: IntArray, order: IntArray) -> IntArray:
    """Reorder images so that wherever the list is cut, each class is there in its share.

    The r-th image of a class with c images comes at (r - 1/2) / c, which is Sainte-Laguë's way of
    sharing out seats.

    Args:
        labels: The classes of all images, (images,).
        order: All images in random order. Images of a class keep it, and ties follow it.
    """
    by_class = np.argsort(labels[order], kind="stable")
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
    place = np.empty(len(labels))
    place[by_class] = (rank + 0.5) / np.repeat(counts, counts)
    return order[np.argsort(place, kind="stable")]
