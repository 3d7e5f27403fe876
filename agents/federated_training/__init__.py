"""What plays federated training: rules, a linear policy, a reference, and the heads of learners."""

from __future__ import annotations

from functools import partial

from agents.entries import AgentEntry, solver_entry
from agents.federated_training.fastest_share import (
    FastestShareSolver,
    fixed_share,
    tune_schedule,
    tune_share,
)
from agents.federated_training.head import FreeWeightsHead, WeightsHead
from agents.federated_training.linear import linear_solver
from agents.federated_training.one_step import one_step_plan
from agents.federated_training.oort import OortSolver, tune_oort
from agents.federated_training.random_rules import RandomSolver, tune_backups, tune_finish
from agents.federated_training.tifl import TierSolver
from agents.heads.protocol import HeadEntry
from agents.planned_agent import PlannedAgent
from agents.solver_agent import SolverAgent

AGENTS = {
    "linear": solver_entry(
        "sends off all whose weighted features are above 0, the 17 weights found by search",
        linear_solver,
    ),
    "scheduled": AgentEntry(
        "fastest share of the clients, share and number tuned, both linear in the accuracy",
        lambda problem, seed: SolverAgent(
            problem, FastestShareSolver(problem.scenario, *tune_schedule(problem))
        ),
    ),
    "oort": AgentEntry(
        "Oort: samples times loss, less for slow clients, with exploration; tuned",
        lambda problem, seed: SolverAgent(
            problem, OortSolver(problem.scenario, *tune_oort(problem))
        ),
    ),
    "fastest-share": AgentEntry(
        "FedCS: the fastest share of the clients takes part, share and number tuned",
        lambda problem, seed: SolverAgent(
            problem, fixed_share(problem.scenario, *tune_share(problem))
        ),
    ),
    "tifl": AgentEntry(
        "TiFL: draws a tier of clients of like speed, one with a high loss more often",
        lambda problem, seed: SolverAgent(problem, TierSolver(problem.scenario, seed)),
    ),
    "backup": AgentEntry(
        "draws as many clients as are waited for, and backups, their number tuned",
        lambda problem, seed: SolverAgent(
            problem, RandomSolver(problem.scenario, tune_backups(problem), seed)
        ),
    ),
    "adaptive-steps": AgentEntry(
        "draws clients, and lets slow ones take fewer steps where that is decided",
        lambda problem, seed: SolverAgent(
            problem,
            RandomSolver(problem.scenario, problem.scenario.at_once, seed, tune_finish(problem)),
        ),
    ),
    "random-m": AgentEntry(
        "draws as many clients as there is room for",
        lambda problem, seed: SolverAgent(
            problem, RandomSolver(problem.scenario, problem.scenario.at_once, seed)
        ),
    ),
}
"""The agents by name, better ones first by and large."""

REFERENCES = {
    "one-step-search": AgentEntry(
        "knows every slot: tries 16 decisions in it, one step ahead, and takes the best one",
        lambda problem, seed: PlannedAgent(partial(one_step_plan, problem)),
    ),
}

HEADS = {
    "weights": HeadEntry("the weights of the linear policy, at every step anew", WeightsHead),
    "weights-unaided": HeadEntry("the same, from weights of 0", FreeWeightsHead),
}
