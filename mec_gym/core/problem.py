"""The Problem protocol: everything an adapter, an agent or a test needs to know.

A problem is a Markov decision process with exogenous inputs (an "Exo-MDP", [Mao2019]):
nature's part of an episode, the trace, does not depend on what the agent does. It is drawn
once, at reset. Afterwards every method is a deterministic function that broadcasts over any
leading batch axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.types import BoolArray, Float32Array, FloatArray

SlotT = TypeVar("SlotT")
StateT = TypeVar("StateT")
DecisionT = TypeVar("DecisionT")
OutcomeT = TypeVar("OutcomeT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode(Generic[SlotT, StateT, DecisionT, OutcomeT]):
    """What has happened so far in one episode; a picture is drawn from it.

    The trace always has the problem's T slots. An episode may be shorter: it may still be
    running, and it may have ended before its time was up.

    Attributes:
        trace: The whole trace of the episode: fields (T, ...), or (1, ...) for what holds
            during the whole episode.
        states: The state before each step that was taken, and then the state now.
        decisions: The decision of each step that was taken.
        outcomes: The outcome of each step that was taken.
    """

    trace: SlotT
    states: Sequence[StateT]
    decisions: Sequence[DecisionT]
    outcomes: Sequence[OutcomeT]


class Problem(Protocol[SlotT, StateT, DecisionT, OutcomeT]):
    """One question that an agent is asked over and over.

    Slots, states, decisions and outcomes are frozen dataclasses whose fields are arrays. They
    are built by keyword, so they may be ``kw_only``.

    A trace holds n episodes of T slots. It is a slot whose fields have two more leading axes:
    (n, T, ...), or (n, 1, ...) for what holds during a whole episode.
    :func:`mec_gym.core.arrays.slot_at` reads one slot of it.
    """

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """The space of one observation: a flat Box of float32 with finite bounds."""
        ...

    @property
    def action_space(self) -> spaces.Space[Any]:
        """The space of one action: a Box with finite bounds, a Discrete or a MultiDiscrete."""
        ...

    @property
    def horizon(self) -> int:
        """T, the number of slots per episode, and so the largest number of steps."""
        ...

    @property
    def episodes_ahead(self) -> int:
        """The number of episodes that are drawn in one call of ``sample``.

        It is part of what a seed means, so it is the same for every adapter of the problem.
        """
        ...

    @property
    def costs(self) -> tuple[str, ...]:
        """The names of those fields of an outcome of which less is better."""
        ...

    @property
    def gains(self) -> tuple[str, ...]:
        """The names of those fields of an outcome of which more is better."""
        ...

    def sample(self, rng: np.random.Generator, n: int) -> SlotT:
        """Draw the trace of n episodes; there is no other randomness.

        Returns:
            Fields (n, T, ...), or (n, 1, ...) for what holds during a whole episode.
        """
        ...

    def check(self, trace: SlotT) -> None:
        """Refuse a user's trace of n episodes if it makes no sense.

        Shapes, types and finiteness have been checked before; whether observations can show
        the trace is checked afterwards.

        Raises:
            ValueError: A value of the trace makes no sense.
        """
        ...

    def start(self, slot: SlotT) -> StateT:
        """The state that an episode begins with, given its first slot."""
        ...

    def observe(self, slot: SlotT, state: StateT) -> Float32Array:
        """What an agent sees of a slot and a state, (..., observation)."""
        ...

    def decode(self, observation: Float32Array) -> tuple[SlotT, StateT]:
        """A slot and a state that look like this observation.

        Observing them gives the observation again. What observations do not show comes back
        as the agent must believe it to be (a hidden time as its estimate, say), or empty where
        nothing can be known of it (the weights of a network, say, as zeros).
        """
        ...

    def decision(self, action: npt.NDArray[Any]) -> DecisionT:
        """The decision that an action stands for; every action in the space is valid."""
        ...

    def encode(self, decision: DecisionT) -> npt.NDArray[Any]:
        """The action that stands for a decision, the inverse of ``decision``; for solvers."""
        ...

    def step(self, slot: SlotT, state: StateT, decision: DecisionT) -> tuple[StateT, OutcomeT]:
        """The state after a decision in a slot, and what came of the decision.

        Episodes of a batch may end at different times, and those that have ended are stepped
        on with the others. So this must not fail after the end; nobody counts what it returns
        then.
        """
        ...

    def reward(self, outcome: OutcomeT) -> FloatArray:
        """The reward of an outcome, (...)."""
        ...

    def done(self, state: StateT) -> BoolArray:
        """Whether the episode has ended, (...), which may be before its T slots are over."""
        ...

    def bound(self, trace: SlotT) -> FloatArray | None:
        """An upper bound on the return of any policy in each of n episodes.

        Returns:
            The bound of each episode, (n,), or None if nothing useful can be proved.
        """
        ...

    def draw(self, episode: Episode[SlotT, StateT, DecisionT, OutcomeT]) -> Any:
        """A matplotlib Figure of the episode so far."""
        ...


AnyProblem = Problem[Any, Any, Any, Any]


METHODS = tuple(name for name, part in vars(Problem).items() if name[0] != "_" and callable(part))
"""The methods of a Problem."""
ATTRIBUTES = tuple(name for name, part in vars(Problem).items() if isinstance(part, property))
"""The attributes of a Problem."""


def missing_parts(problem: Any) -> list[str]:
    """Return the names of everything that an object lacks to be a Problem."""
    methods = [name for name in METHODS if not callable(getattr(problem, name, None))]
    return methods + [name for name in ATTRIBUTES if not hasattr(problem, name)]


def check_is_problem(problem: Any) -> None:
    """Check that an object can be played.

    Raises:
        ValueError: It is no Problem.
    """
    missing = missing_parts(problem)
    if not missing:
        return
    if len(missing) > len(METHODS) // 2:
        raise ValueError(
            f"problem must be a Problem, got {problem!r}; mec_gym.make_problem(id) makes the one "
            "behind an environment id"
        )
    raise ValueError(f"problem {type(problem).__name__} lacks {', '.join(missing)}")
