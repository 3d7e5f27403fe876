"""The reference of federated training: it tries decisions in the true slot, and takes one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agents.federated_training.fastest_share import fixed_share
from agents.federated_training.fleet import fleet_now, full_effort
from agents.federated_training.linear import linear_solver
from agents.federated_training.oort import OortSolver
from agents.one_step import error_to_come, plan_one_step
from agents.protocol import Solver
from mec_gym.core import arrays
from mec_gym.core.types import FloatArray
from mec_gym.federated_training.model import Decision, Outcome, State
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario, Slot

CANDIDATES = 16


def one_step_plan(problem: FederatedTraining, trace: Slot) -> npt.NDArray[np.float32]:
    """Plan every episode by trying decisions in the true slot, and taking the best one.

    The candidates are what rules would decide, and random sets of clients of random size. Each is
    played for one step from the true state: it is known how long jobs will take, who will leave,
    and what will be learnt. No proof says that the plan is good, as what a decision does to later
    steps does not count.

    Args:
        problem: The problem that is played.
        trace: The episodes, fields (n, T, ...).

    Returns:
        The actions, (n, T, ...).
    """
    rules = rules_to_try(problem.scenario)

    def tried(slot: Slot, state: State, rng: np.random.Generator) -> Decision:
        return candidates(problem, rules, slot, state, rng)

    def worth(after: State, outcome: Outcome) -> FloatArray:
        return value(after, outcome, problem.scenario)

    return plan_one_step(problem, trace, tried, worth)


def rules_to_try(scenario: Scenario) -> list[Solver]:
    """Return the rules whose decisions are tried in every step.

    Args:
        scenario: The parameters.
    """
    shares = [
        fixed_share(scenario, share, rows)
        for share, rows in ((0.1, 0.3), (0.1, 1.0), (0.3, 0.3), (0.3, 1.0), (0.6, 0.6), (1.0, 1.0))
    ]
    return [linear_solver(scenario), OortSolver(scenario, 0.3, 2.0, 1.0), *shares]


def candidates(
    problem: FederatedTraining,
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
        rng: The source of random sets.
    """
    s = problem.scenario
    seen = problem.decode(problem.observe(slot, state))
    decisions = [rule.solve(*seen).decision for rule in rules]
    idle = fleet_now(*seen, s).idle
    for _ in range(CANDIDATES - len(rules)):
        size = rng.integers(1, s.at_once + 1, size=(*idle.shape[:-1], 1))
        place = np.where(idle, rng.random(idle.shape), np.inf).argsort(axis=-1).argsort(axis=-1)
        score = np.where(idle & (place < size), 1.0 - place / s.clients, -1.0)
        decisions.append(Decision(score=score, effort=full_effort(score, s)))
    tried: Decision = arrays.stack(decisions)
    return tried


def value(after: State, outcome: Outcome, scenario: Scenario) -> FloatArray:
    """Compute what a candidate is worth, (...) s of error, negative.

    Steps take different times. What a step earns would favour short ones, and how good the model is
    after it would favour long ones. So the step's own error-seconds count, and those of the rest of
    the budget, as if the error fell exponentially from then on. How fast it falls was chosen on
    episodes of the preset ``sync``. The fall of the error per second, which needs no such number,
    does worse: it takes what was luckily good at once.

    Args:
        after: The states that the candidates lead to, fields (...).
        outcome: The outcomes, fields (...).
        scenario: The parameters.
    """
    rest = np.maximum(scenario.budget_s - after.clock, 0.0)
    later = error_to_come(1.0 - outcome.accuracy, rest, scenario.budget_s)
    # With an episode's last step its rest has been counted already.
    return np.asarray(-outcome.cost_s - np.where(after.over, 0.0, later))
