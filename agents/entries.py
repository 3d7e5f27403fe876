"""The tables of named agents that come with a problem, and their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.protocol import Agent, Solver
from agents.solver_agent import SolverAgent
from mec_gym.registration import Room


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """A named agent.

    Attributes:
        about: One line that says what the agent does.
        make: Function that makes the agent: (problem, seed of the agent's own generator) -> agent.
    """

    about: str
    make: Callable[[Any, int], Agent]


def solver_entry(about: str, make: Callable[[Any], Solver]) -> AgentEntry:
    """Describe the agent that plays what a solver says.

    Args:
        about: One line that says what the agent does.
        make: Function that makes the solver from the problem's scenario.
    """
    return AgentEntry(about, lambda problem, seed: SolverAgent(problem, make(problem.scenario)))


def find_table(room: Room | None, name: str) -> Mapping[str, Any]:
    """Return a table that a package has in ``agents``; it is empty where there is none.

    Args:
        room: The package; None for a problem that nobody has registered.
        name: ``AGENTS``, ``REFERENCES`` or ``HEADS``.
    """
    return {} if room is None else getattr(room.tables("agents"), name, {})
