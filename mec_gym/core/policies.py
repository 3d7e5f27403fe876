"""Whatever chooses actions: a small base for those that need no memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy.typing as npt


class Memoryless(ABC):
    """An agent whose action depends on the observation at hand and on nothing before it."""

    @abstractmethod
    def act(self, observation: npt.NDArray[Any], deterministic: bool = False) -> npt.NDArray[Any]:
        """Actions for observations (observation,) or (B, observation)."""

    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions for observations (observation,) or (B, observation), as SB3's models answer."""
        return self.act(observation, deterministic), state
