"""What an agent is, and what a solver is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mec_gym.core.policies import Predictor

Agent = Predictor
"""An agent is anything with SB3's ``predict``, for one observation or a batch."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A solver's answer.

    Attributes:
        decision: The room's decision record, fields (...).
        evaluations: How often the model was evaluated, an instance.
    """

    decision: Any
    evaluations: int


class Solver(Protocol):
    """Maps slots and states as the agent knows them, fields (...), to decisions (...)."""

    def solve(self, slot: Any, state: Any) -> Solution:
        """Solve the whole batch at once."""
        ...


@runtime_checkable
class Clairvoyant(Protocol):
    """An agent that has to be shown what it will play: a reference, not a policy."""

    def foresee(self, trace: Any) -> None:
        """Look at the episodes (n, T, ...) that are played next, all together."""
        ...
