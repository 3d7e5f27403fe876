"""Actions come from outside, so they are refused unless they are in the space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.types import BoolArray


def action_in_space(
    space: spaces.Space[Any],
    action: Any,
    batch: tuple[int, ...] = (),
    ignored: BoolArray | None = None,
) -> npt.NDArray[Any]:
    """The action as an array of the space's type, or a ValueError.

    A number of a Box that is outside its bounds by no more than rounding is clipped: by one
    unit in the last place (of the space's type) of the larger bound.

    Args:
        space: The space of a single action: Box, Discrete or MultiDiscrete.
        action: An array-like of shape ``batch + space.shape``.
        batch: The shape of the leading axes; a single action has none.
        ignored: Where in the batch actions do not count: whatever stands there is replaced by
            the space's lowest action.

    Returns:
        An array of shape ``batch + space.shape``.

    Raises:
        ValueError: The action has a wrong shape, is not finite, is outside the bounds by more
            than rounding, or does not hold whole numbers where the space is discrete.
    """
    shape = batch + (space.shape or ())
    try:
        array = np.asarray(action)
    except ValueError as error:  # numpy says nothing about an action
        raise ValueError(f"action must have shape {shape}, got {action!r}") from error
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
    # What kinds of numbers there are: signed and unsigned whole numbers, and fractions. Spans of
    # time count as whole numbers to numpy, and complex ones as numbers.
    if not isinstance(space, spaces.Box) and array.dtype.kind not in "iu":
        raise ValueError(f"action must hold whole numbers for {_named(space)}, got {array.dtype}")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"action must hold real numbers, got {array.dtype}")
    if ignored is not None:
        array = array.copy()
        array[ignored] = low
    # This is written so that NaN fails too.
    inside = (array >= low) & (array <= high)
    if not inside.all():
        nearest = np.clip(array, low, high)
        if isinstance(space, spaces.Box):
            rounding = np.spacing(np.maximum(np.abs(low), np.abs(high)))
            inside |= np.abs(array.astype(np.float64) - nearest) <= rounding
        if not inside.all():
            entry = tuple(int(i) for i in np.argwhere(~inside)[0])
            least, most = (np.broadcast_to(end, shape)[entry] for end in (low, high))
            place = f" at entry {', '.join(map(str, entry))}" if entry else ""
            raise ValueError(
                f"action must lie in [{least}, {most}]{place} ({_named(space)}), got {array[entry]}"
            )
        array = nearest
    return array.astype(space.dtype, copy=False)


def _named(space: spaces.Space[Any]) -> str:
    """A space in one short line; of one with many choices, its shape instead of all of them."""
    text = str(space)
    return text if len(text) <= 60 else f"{type(space).__name__} of shape {space.shape}"
