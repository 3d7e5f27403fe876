"""An agent that knows its episodes beforehand: a reference, not a policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


class PlannedAgent:
    """Plays a plan of the episodes that it has been shown beforehand.

    Args:
        plan: Function that plans: a trace of n episodes -> actions (n, T, ...).
    """

    def __init__(self, plan: Callable[[Any], npt.NDArray[Any]]) -> None:
        self._make = plan
        self._plan: npt.NDArray[Any] | None = None

    def foresee(self, trace: Any) -> None:
        """Plan for the episodes of a trace, fields of shape (n, T, ...)."""
        self._plan = self._make(trace)

    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Return the planned actions for observations (n, observation) of the next slot.

        Args:
            observation: Observations of all episodes that were shown, in their order.
            state: Number of the slot, as the last call returned it; None in the first slot.
            episode_start: Not used.
            deterministic: Not used: the plan is fixed.

        Raises:
            ValueError: The agent has not been shown these episodes.
        """
        batch = np.shape(observation)[:-1]
        if self._plan is None or math.prod(batch) != len(self._plan):
            raise ValueError("agent must foresee the episodes that it plays, and has not")
        t = 0 if state is None else state
        return self._plan[:, t].reshape(*batch, *self._plan.shape[2:]), t + 1
