"""Actions come from outside, so they are refused unless they are in the space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces


def action_in_space(
    space: spaces.Space[Any], action: Any, batch: tuple[int, ...] = ()
) -> npt.NDArray[Any]:
    """The action as an array of the space's type, or a ValueError.

    Args:
        space: The space of a single action: Box, Discrete or MultiDiscrete.
        action: An array-like of shape ``batch + space.shape``.
        batch: The shape of the leading axes; a single action has none.

    Returns:
        An array of shape ``batch + space.shape``.

    Raises:
        ValueError: The action has a wrong shape, is not finite, is outside the bounds, or does
            not hold whole numbers where the space is discrete.
    """
    shape = batch + (space.shape or ())
    array = np.asarray(action)
    if array.shape != shape:
        raise ValueError(f"action must have shape {shape}, got {array.shape}")
    if isinstance(space, spaces.Box):
        low, high = space.low, space.high
    elif isinstance(space, spaces.Discrete):
        low, high = np.asarray(space.start), np.asarray(space.start + space.n - 1)
    elif isinstance(space, spaces.MultiDiscrete):
        low, high = space.start, space.start + space.nvec - 1
    else:
        raise ValueError(f"action_space must be Box, Discrete or MultiDiscrete, got {space}")
    if not isinstance(space, spaces.Box) and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"action must hold whole numbers for {space}, got {array.dtype}")
    if not np.issubdtype(array.dtype, np.number):
        raise ValueError(f"action must be numeric, got {array.dtype}")
    # This is written so that NaN fails too.
    inside = (array >= low) & (array <= high)
    if not inside.all():
        raise ValueError(
            f"action must lie in [{low.min()}, {high.max()}] ({space}), "
            f"got {array[~inside].ravel()[0]!r}"
        )
    return array.astype(space.dtype, copy=False)
