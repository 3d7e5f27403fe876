"""The interfaces of agents and of solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mec_gym.core.policies import Predictor

Agent = Predictor
"""An agent is anything with SB3's ``predict``, for one observation or a batch of them."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A solver's answer.

    Attributes:
        decision: The problem's decision record, its fields of shape (...).
        evaluations: How often the model was evaluated per instance.
    """

    decision: Any
    evaluations: int


class Solver(Protocol):
    """A solver maps slots and states, as the agent knows them, to decisions."""

    def solve(self, slot: Any, state: Any) -> Solution:
        """Solve a whole batch at once.

        Args:
            slot: The problem's slot record, its fields of shape (...).
            state: The problem's state record, its fields of shape (...).
        """
        ...


@runtime_checkable
class Clairvoyant(Protocol):
    """An agent that has to be shown what it will play: it is a reference, not a policy."""

    def foresee(self, trace: Any) -> None:
        """Show the agent the episodes that are played next, all of them together.

        Args:
            trace: The problem's slot record, its fields of shape (n, T, ...).
        """
        ...
