"""The Problem protocol: everything an adapter, an agent or a test needs to know.

A problem is a Markov decision process with exogenous inputs (an "Exo-MDP", Mao et al.
2019; Sinclair et al. 2023): nature's part of an episode, the trace, does not depend on
what the agent does. It is drawn once, at reset; afterwards every verb is a deterministic
function that broadcasts over any leading batch axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.types import BoolArray, FloatArray

SlotT = TypeVar("SlotT")
StateT = TypeVar("StateT")
DecisionT = TypeVar("DecisionT")
OutcomeT = TypeVar("OutcomeT")


@dataclass(frozen=True, slots=True)
class Episode(Generic[SlotT, StateT, DecisionT, OutcomeT]):
    """What has happened so far in one episode; what a picture is drawn from.

    Attributes:
        trace: The whole trace of the episode, fields (T, ...).
        states: State before each step taken, and the state now: one more than steps.
        decisions: One a step.
        outcomes: One a step.
    """

    trace: SlotT
    states: Sequence[StateT]
    decisions: Sequence[DecisionT]
    outcomes: Sequence[OutcomeT]


class Problem(Protocol[SlotT, StateT, DecisionT, OutcomeT]):
    """One question asked of an agent, over and over.

    A trace is a slot whose fields carry the leading axes (n, T): n episodes of T slots.
    Slots, states, decisions and outcomes are frozen dataclasses of arrays.
    """

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Of one observation."""
        ...

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Of one action: Box, Discrete or MultiDiscrete."""
        ...

    @property
    def horizon(self) -> int:
        """T, slots an episode."""
        ...

    @property
    def episodes_ahead(self) -> int:
        """Episodes drawn in one call of ``sample``.

        Part of what a seed means, so equal for every adapter of the problem.
        """
        ...

    def sample(self, rng: np.random.Generator, n: int) -> SlotT:
        """Draw n episodes, fields (n, T, ...): the only randomness there is."""
        ...

    def check(self, trace: SlotT) -> None:
        """Raise ValueError if a trace given by a user (n, T, ...) makes no sense.

        Shapes, types, finiteness and the range of observations are checked elsewhere.
        """
        ...

    def start(self, slot: SlotT) -> StateT:
        """The state an episode begins with, given its first slot."""
        ...

    def observe(self, slot: SlotT, state: StateT) -> npt.NDArray[np.float32]:
        """What an agent sees, (..., observation)."""
        ...

    def decode(self, observation: npt.NDArray[np.float32]) -> tuple[SlotT, StateT]:
        """Inverse of ``observe``: what is hidden comes back as what is believed."""
        ...

    def decision(self, action: npt.NDArray[Any]) -> DecisionT:
        """The decision an action stands for; every action in the space is valid."""
        ...

    def encode(self, decision: DecisionT) -> npt.NDArray[Any]:
        """Inverse of ``decision``, for solvers."""
        ...

    def step(self, slot: SlotT, state: StateT, decision: DecisionT) -> tuple[StateT, OutcomeT]:
        """Apply a decision to a slot."""
        ...

    def reward(self, outcome: OutcomeT) -> FloatArray:
        """Reward of an outcome, (...)."""
        ...

    def done(self, state: StateT) -> BoolArray:
        """Whether the episode has ended, (...)."""
        ...

    def bound(self, trace: SlotT) -> FloatArray:
        """An upper bound on the return of any policy on a trace (n, T, ...) -> (n,)."""
        ...

    def draw(self, episode: Episode[SlotT, StateT, DecisionT, OutcomeT]) -> Any:
        """A matplotlib Figure of the episode so far."""
        ...


AnyProblem = Problem[Any, Any, Any, Any]
