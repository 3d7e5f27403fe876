"""The rows of a package's table of named agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents.protocol import Agent, Solver
from agents.solver_agent import SolverAgent


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """A named agent.

    Attributes:
        about: One line that says what it does.
        make: Makes it: (problem, seed of the agent's own generator) -> agent.
    """

    about: str
    make: Callable[[Any, int], Agent]


def solver_entry(about: str, make: Callable[[Any], Solver]) -> AgentEntry:
    """The agent of a solver that is made from a problem's scenario.

    Args:
        about: One line that says what it does.
        make: Makes the solver from the scenario.
    """
    return AgentEntry(about, lambda problem, seed: SolverAgent(problem, make(problem.scenario)))
