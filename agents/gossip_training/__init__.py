"""What plays gossip training: rules, a linear policy, a reference, and the heads of learners."""

from __future__ import annotations

from functools import partial

from agents.entries import AgentEntry, solver_entry
from agents.gossip_training.head import FreeWeightsHead, WeightsHead
from agents.gossip_training.linear import linear_solver
from agents.gossip_training.one_step import one_step_plan
from agents.gossip_training.rules import (
    AlikeSolver,
    MatchingSolver,
    PeriodicSolver,
    RuleSolver,
    neighbours,
    nobody,
    one_sided,
    rotation,
    tune_partners,
    tune_period,
)
from agents.heads.protocol import HeadEntry
from agents.planned_agent import PlannedAgent
from agents.solver_agent import SolverAgent

AGENTS = {
    "linear": solver_entry(
        "chooses pairs and all-reduces by weighted features, the 14 weights found by search",
        linear_solver,
    ),
    "periodic": AgentEntry(
        "local SGD: all average all in every k-th round, k tuned",
        lambda problem, seed: SolverAgent(
            problem, PeriodicSolver(problem.scenario, tune_period(problem))
        ),
    ),
    "all-reduce": solver_entry(
        "all average all in every round", lambda scenario: PeriodicSolver(scenario, 1)
    ),
    "partners": AgentEntry(
        "draws partners anew in every round, at most k for each device, k tuned",
        lambda problem, seed: SolverAgent(
            problem, MatchingSolver(problem.scenario, tune_partners(problem), seed)
        ),
    ),
    "matching": AgentEntry(
        "gossip: draws one partner for each device anew in every round",
        lambda problem, seed: SolverAgent(problem, MatchingSolver(problem.scenario, 1, seed)),
    ),
    "rotation": solver_entry(
        "GossipGraD: partners change in turn",
        lambda scenario: RuleSolver(scenario, rotation),
    ),
    "neighbours": solver_entry(
        "D-PSGD: listens to all neighbours of the graph",
        lambda scenario: RuleSolver(scenario, neighbours),
    ),
    "one-sided": solver_entry(
        "SGP: each listens to one other in turn, which need not listen to it",
        lambda scenario: RuleSolver(scenario, one_sided),
    ),
    "unlike": solver_entry(
        "partners hold unlike images, where it is seen what they hold",
        lambda scenario: AlikeSolver(scenario, -1.0),
    ),
    "alike": solver_entry(
        "partners hold alike images, where it is seen what they hold",
        lambda scenario: AlikeSolver(scenario, 1.0),
    ),
    "nobody": solver_entry(
        "every device trains alone", lambda scenario: RuleSolver(scenario, nobody)
    ),
}
"""The agents by name, better ones first by and large."""

REFERENCES = {
    "one-step-search": AgentEntry(
        "knows every slot: tries 12 decisions in it, one round ahead, and takes the best one",
        lambda problem, seed: PlannedAgent(partial(one_step_plan, problem)),
    ),
}

HEADS = {
    "weights": HeadEntry("the weights of the linear policy, in every round anew", WeightsHead),
    "weights-unaided": HeadEntry("the same, from weights of 0", FreeWeightsHead),
}
