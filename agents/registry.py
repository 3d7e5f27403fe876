"""The agents that have a name: what ``compare --agents`` understands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.baselines import RandomAgent, RandomSplitSolver
from agents.congestion import CongestionSolver, tune_congestion
from agents.dapdee import DADSSolver, DAPDEEAgent
from agents.exact import ExactSolver
from agents.mincut import MinCutSolver, WeightedSearchSolver
from agents.partition_rules import (
    ExactLoadSolver,
    FixedCutSolver,
    NeurosurgeonSolver,
    SlotOptimumSolver,
)
from agents.placement import (
    ClairvoyantAgent,
    CoordinateDescentSolver,
    FixedPlaceSolver,
    GreedyBlockSolver,
    SequentialGreedySolver,
    SplitSolver,
    ViterbiSolver,
)
from agents.protocol import Agent, Solver
from agents.rules import EqualBudgetSolver, PriceSolver, tune_price
from agents.solver_agent import SolverAgent
from agents.sparrow import SparrowSolver
from mec_gym.core.problem import AnyProblem
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.training_offload.exact import Resources
from mec_gym.training_offload.problem import TrainingOffload

Make = Callable[[Any, int], Agent]
"""(problem, seed) -> agent."""


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """A row of the table.

    Attributes:
        about: One line.
        make: How it is made, by the type of problem it plays; ``object`` fits all.
    """

    about: str
    make: Mapping[type, Make]

    def plays(self, problem: AnyProblem) -> bool:
        """Whether it fits a problem."""
        return any(isinstance(problem, kind) for kind in self.make)


def _solver(make: Callable[[Any], Solver]) -> Make:
    """Of a solver that is made from a scenario."""
    return lambda problem, seed: SolverAgent(problem, make(problem.scenario))


def _exact(edge: bool, cloud: bool) -> Make:
    return _solver(lambda scenario: ExactSolver(scenario, Resources(edge, cloud)))


AGENTS: dict[str, AgentEntry] = {
    "price": AgentEntry(
        "best for cost + price of what later tasks need (energy; backlog), tuned prices",
        {
            TrainingOffload: lambda p, seed: SolverAgent(p, PriceSolver(p.scenario, tune_price(p))),
            EarlyExitPartition: lambda p, seed: SolverAgent(
                p, CongestionSolver(p.scenario, tune_congestion(p))
            ),
        },
    ),
    "budget": AgentEntry(
        "exact optimum within battery / tasks left", {TrainingOffload: _solver(EqualBudgetSolver)}
    ),
    "exact": AgentEntry(
        "exact optimum of the slot at hand, blind to later ones",
        {
            TrainingOffload: _exact(edge=True, cloud=True),
            EarlyExitPartition: _solver(SlotOptimumSolver),
        },
    ),
    "sparrow": AgentEntry(
        "sparrow search, 1 120 evaluations a task",
        {
            TrainingOffload: lambda p, seed: SolverAgent(p, SparrowSolver(p.scenario, seed=seed)),
        },
    ),
    "dapdee": AgentEntry(
        "DAPDEE's algorithm 4: deepest exit that meets the deadline, light or heavy cut",
        {EarlyExitPartition: lambda p, seed: DAPDEEAgent(p)},
    ),
    "dads": AgentEntry(
        "DADS: last exit, light cut, heavy cut when that cannot keep up",
        {EarlyExitPartition: _solver(DADSSolver)},
    ),
    "deadline-descent": AgentEntry(
        "plans all devices together in every round for the reward, as if the network stayed so",
        {DistributedInference: _solver(lambda s: CoordinateDescentSolver(s, 2, deadlines=True))},
    ),
    "coordinate-descent": AgentEntry(
        "likewise for the sum of delays, blind to deadlines",
        {DistributedInference: _solver(CoordinateDescentSolver)},
    ),
    "sequential-greedy": AgentEntry(
        "one device after the other where its block costs all together least",
        {DistributedInference: _solver(SequentialGreedySolver)},
    ),
    "viterbi": AgentEntry(
        "each device's fastest plan as if it were alone: optimal without contention",
        {DistributedInference: _solver(ViterbiSolver)},
    ),
    "greedy": AgentEntry(
        "each device's block where it is done soonest, blind to others and later blocks",
        {DistributedInference: _solver(GreedyBlockSolver)},
    ),
    "neurosurgeon": AgentEntry(
        "Neurosurgeon: one split in the order of the layers (last exit; best server)",
        {
            EarlyExitPartition: _solver(NeurosurgeonSolver),
            DistributedInference: _solver(SplitSolver),
        },
    ),
    "mincut": AgentEntry(
        "last exit, min cut by max-flow: least Td + Tt + Te",
        {EarlyExitPartition: _solver(MinCutSolver)},
    ),
    "weighted-search": AgentEntry(
        "last exit, DAPDEE's search for the least max(Td, Tt, Te)",
        {EarlyExitPartition: _solver(WeightedSearchSolver)},
    ),
    "exact-light": AgentEntry(
        "last exit, least Td + Tt + Te",
        {EarlyExitPartition: _solver(lambda s: ExactLoadSolver(s, "light"))},
    ),
    "exact-heavy": AgentEntry(
        "last exit, least max(Td, Tt, Te)",
        {EarlyExitPartition: _solver(lambda s: ExactLoadSolver(s, "heavy"))},
    ),
    "end-cloud": AgentEntry(
        "the paper's end-cloud scheme: optimal without edge servers",
        {TrainingOffload: _exact(edge=False, cloud=True)},
    ),
    "end-edge": AgentEntry(
        "the paper's end-edge scheme: optimal without the cloud",
        {TrainingOffload: _exact(edge=True, cloud=False)},
    ),
    "device-only": AgentEntry(
        "everything stays on the device",
        {
            TrainingOffload: _exact(edge=False, cloud=False),
            EarlyExitPartition: _solver(lambda s: FixedCutSolver(s, on_edge=False)),
            DistributedInference: _solver(lambda s: FixedPlaceSolver(on_edge=False)),
        },
    ),
    "edge-only": AgentEntry(
        "everything goes to the (nearest) edge server, last exit",
        {
            EarlyExitPartition: _solver(lambda s: FixedCutSolver(s, on_edge=True)),
            DistributedInference: _solver(lambda s: FixedPlaceSolver(on_edge=True)),
        },
    ),
    "random-split": AgentEntry(
        "the paper's random scheme: Dirichlet split, random pair of servers",
        {
            TrainingOffload: lambda p, seed: SolverAgent(
                p, RandomSplitSolver(p.scenario.servers, seed)
            ),
        },
    ),
    "random": AgentEntry("uniform over the action space", {object: RandomAgent}),
}

REFERENCES: dict[str, AgentEntry] = {
    "clairvoyant": AgentEntry(
        "knows the whole episode beforehand: coordinate descent on what will be",
        {DistributedInference: lambda p, seed: ClairvoyantAgent(p)},
    ),
}
"""Agents that must :meth:`~agents.protocol.Clairvoyant.foresee` what they play."""

RUNS = {
    "ppo": "a model trained by 'ppo', PATH being its folder",
    "a3c": "likewise, trained by 'a3c'",
    "mtl-a3c": "likewise, trained by 'mtl-a3c'",
}
"""Kinds of runs whose agents are called ``KIND:PATH``."""


def _load_run(kind: str, path: str, problem: AnyProblem, env_id: str | None) -> Agent:
    # torch takes seconds to load; nobody else needs it.
    if kind == "ppo":
        from agents.ppo import load_ppo

        return load_ppo(path, problem, env_id)
    from agents.a3c.agent import load_a3c

    return load_a3c(path, problem, env_id, multi_task=kind == "mtl-a3c")


def agents_for(problem: AnyProblem) -> tuple[str, ...]:
    """Names of all agents that play a problem, better ones first by and large."""
    return tuple(name for name, entry in AGENTS.items() if entry.plays(problem))


def references_for(problem: AnyProblem) -> tuple[str, ...]:
    """Names of all references that play a problem."""
    return tuple(name for name, entry in REFERENCES.items() if entry.plays(problem))


def make_agent(name: str, problem: AnyProblem, seed: int = 0, env_id: str | None = None) -> Agent:
    """The agent of a name, or of a run that learnt one, as ``ppo:PATH``.

    Args:
        name: A key of ``AGENTS`` or ``REFERENCES``; or one of ``RUNS``, a colon and a run's folder.
        problem: The problem played.
        seed: Of the agent's own generator, if it draws anything.
        env_id: If given, a run must have been trained on this environment.

    Raises:
        ValueError: Unknown name, an agent that does not fit, an unusable run.
    """
    run, _, path = name.partition(":")
    if path and run in RUNS:
        return _load_run(run, path, problem, env_id)
    known = AGENTS | REFERENCES
    entry = known.get(name)
    if entry is None:
        allowed = ", ".join([*known, *(f"{kind}:PATH" for kind in RUNS)])
        raise ValueError(f"agent must be one of {allowed}, got {name!r}")
    for kind, make in entry.make.items():
        if isinstance(problem, kind):
            return make(problem, seed)
    played = " or ".join(kind.__name__ for kind in entry.make)
    raise ValueError(f"agent {name!r} plays {played}, got {type(problem)}")
