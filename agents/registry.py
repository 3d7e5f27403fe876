"""The agents that have a name: what ``compare --agents`` understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents.baselines import RandomAgent, RandomSplitSolver
from agents.exact import ExactSolver
from agents.protocol import Agent
from agents.rules import EqualBudgetSolver, PriceSolver, tune_price
from agents.solver_agent import SolverAgent
from agents.sparrow import SparrowSolver
from mec_gym.core.problem import AnyProblem
from mec_gym.training_offload.exact import Resources
from mec_gym.training_offload.problem import TrainingOffload


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """A row of the table.

    Attributes:
        about: One line.
        plays: Type of problem it fits; ``object`` fits all.
        make: (problem, seed) -> agent.
    """

    about: str
    plays: type
    make: Callable[[Any, int], Agent]


def _exact(edge: bool, cloud: bool) -> Callable[[TrainingOffload, int], Agent]:
    resources = Resources(edge, cloud)
    return lambda p, seed: SolverAgent(p, ExactSolver(p.scenario, resources))


AGENTS: dict[str, AgentEntry] = {
    "random": AgentEntry("uniform over the action space", object, RandomAgent),
    "random-split": AgentEntry(
        "the paper's random scheme: Dirichlet split, random pair of servers",
        TrainingOffload,
        lambda p, seed: SolverAgent(p, RandomSplitSolver(p.scenario.servers, seed)),
    ),
    "device-only": AgentEntry(
        "everything stays on the device", TrainingOffload, _exact(edge=False, cloud=False)
    ),
    "end-cloud": AgentEntry(
        "the paper's end-cloud scheme: optimal without edge servers",
        TrainingOffload,
        _exact(edge=False, cloud=True),
    ),
    "end-edge": AgentEntry(
        "the paper's end-edge scheme: optimal without the cloud",
        TrainingOffload,
        _exact(edge=True, cloud=False),
    ),
    "exact": AgentEntry(
        "exact optimum of the task at hand (myopic on a drive)",
        TrainingOffload,
        _exact(edge=True, cloud=True),
    ),
    "sparrow": AgentEntry(
        "sparrow search, 1 120 evaluations a task",
        TrainingOffload,
        lambda p, seed: SolverAgent(p, SparrowSolver(p.scenario, seed=seed)),
    ),
    "budget": AgentEntry(
        "exact optimum within battery / tasks left",
        TrainingOffload,
        lambda p, seed: SolverAgent(p, EqualBudgetSolver(p.scenario)),
    ),
    "price": AgentEntry(
        "exact optimum of delay + price * energy, one tuned price",
        TrainingOffload,
        lambda p, seed: SolverAgent(p, PriceSolver(p.scenario, tune_price(p))),
    ),
}


def make_agent(name: str, problem: AnyProblem, seed: int = 0, env_id: str | None = None) -> Agent:
    """The agent of a name, or of ``ppo:PATH``.

    Args:
        name: A key of ``AGENTS``, or ``ppo:`` and the folder of a run.
        problem: The problem played.
        seed: Of the agent's own generator, if it draws anything.
        env_id: If given, a run must have been trained on this environment.

    Raises:
        ValueError: Unknown name, an agent that does not fit, an unusable run.
    """
    if name.startswith("ppo:"):
        # torch takes seconds to load; nobody else needs it.
        from agents.ppo import load_ppo

        return load_ppo(name.removeprefix("ppo:"), problem, env_id)
    entry = AGENTS.get(name)
    if entry is None:
        raise ValueError(f"agent must be one of {', '.join(AGENTS)}, ppo:PATH, got {name!r}")
    if not isinstance(problem, entry.plays):
        raise ValueError(f"agent {name!r} plays {entry.plays.__name__}, got {type(problem)}")
    return entry.make(problem, seed)
