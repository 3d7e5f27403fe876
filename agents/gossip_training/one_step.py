"""The reference of gossip training: it tries decisions in the true slot, and takes one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agents.gossip_training.linear import linear_solver
from agents.gossip_training.pairs import greedy, pairs_of, talk
from agents.gossip_training.rules import (
    PeriodicSolver,
    RuleSolver,
    neighbours,
    nobody,
    one_sided,
    rotation,
)
from agents.one_step import error_to_come, plan_one_step
from agents.protocol import Solver
from mec_gym.core import arrays
from mec_gym.core.types import FloatArray
from mec_gym.gossip_training.model import Decision, Outcome, State
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario, Slot

CANDIDATES = 12


def one_step_plan(problem: GossipTraining, trace: Slot) -> npt.NDArray[np.int64]:
    """Plan every episode by trying decisions in the true slot, and taking the best one.

    The candidates are what rules would decide, and random pairs of at most one to three partners.
    Each is played for one round from the true state: it is known what each device will then get
    right. No proof says that the plan is good, as what a decision does to later rounds does not
    count.

    Args:
        problem: The problem that is played.
        trace: The episodes, fields (n, T, ...).

    Returns:
        The actions, (n, T, 1 + E).
    """
    rules = rules_to_try(problem.scenario)

    def tried(slot: Slot, state: State, rng: np.random.Generator) -> Decision:
        return candidates(problem, rules, slot, state, rng)

    def worth(after: State, outcome: Outcome) -> FloatArray:
        return value(after, outcome, problem.scenario)

    return np.asarray(plan_one_step(problem, trace, tried, worth), dtype=np.int64)


def rules_to_try(scenario: Scenario) -> list[Solver]:
    """Return the rules whose decisions are tried in every round.

    Args:
        scenario: The parameters.
    """
    plain = [RuleSolver(scenario, rule) for rule in (nobody, neighbours, rotation, one_sided)]
    return [linear_solver(scenario), PeriodicSolver(scenario, 1), *plain]


def candidates(
    problem: GossipTraining,
    rules: Sequence[Solver],
    slot: Slot,
    state: State,
    rng: np.random.Generator,
) -> Decision:
    """Return the decisions that are tried, fields (P, n, ...).

    Args:
        problem: The problem that is played.
        rules: Rules; they see no more than observations.
        slot: The slots, fields (n, ...).
        state: The states, fields (n, ...).
        rng: The source of random pairs.
    """
    s = problem.scenario
    seen = problem.decode(problem.observe(slot, state))
    decisions = [rule.solve(*seen).decision for rule in rules]
    count = len(pairs_of(s).first)
    for number in range(CANDIDATES - len(rules)):
        drawn = 1.0 - rng.random((*state.over.shape, count))
        decisions.append(talk(greedy(drawn, s, 1 + number // 2), s))
    tried: Decision = arrays.stack(decisions)
    return tried


def value(after: State, outcome: Outcome, scenario: Scenario) -> FloatArray:
    """Compute what a candidate is worth, (...) s of error, negative.

    The round's own error-seconds count, and those of the rest of every device's budget, as if its
    error fell exponentially from then on.

    Args:
        after: The states that the candidates lead to, fields (...).
        outcome: The outcomes, fields (...).
        scenario: The parameters.
    """
    rest = np.maximum(scenario.budget_s - after.clock, 0.0)
    later = error_to_come(1.0 - after.accuracy, rest, scenario.budget_s)
    # With an episode's last round its rest has been counted already.
    return np.asarray(-outcome.error_s - np.where(after.over, 0.0, later.mean(axis=-1)))
