"""A network together with its head, as an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.heads import Head
from mec_gym.core.policies import Memoryless

Decide = Callable[[npt.NDArray[np.float32], bool], npt.NDArray[Any]]
"""(network inputs (..., D), whether to be deterministic) -> raw network outputs (..., n)."""


class TrainedAgent(Memoryless):
    """A network that learns, or has learnt, together with its head: an agent like any other.

    Args:
        decide: Function that asks the network for its raw outputs.
        head: The head that the network learns with.
        network: The torch module that ``decide`` asks; it may go on learning.
    """

    def __init__(self, decide: Decide, head: Head, network: Any) -> None:
        self.decide = decide
        self.head = head
        self.network = network

    def act(self, observation: npt.NDArray[Any], deterministic: bool = False) -> npt.NDArray[Any]:
        """Return the actions for observations of shape (observation,) or (B, observation)."""
        observation = np.asarray(observation)
        raw = self.decide(self.head.inputs(observation), deterministic)
        return self.head.act(observation, raw)
