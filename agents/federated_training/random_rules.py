"""Rules that draw who goes, and decide how many go or how long they train."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from agents.federated_training.fleet import Fleet, fleet_now, full_effort, send
from agents.protocol import Solution
from agents.trials import best_setting
from mec_gym.core.types import FloatArray
from mec_gym.federated_training.model import State, effort_of
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario, Slot

FINISH = (0.25, 0.5, 0.75)


class RandomSolver:
    """Draws who goes among those that are idle and present.

    With all rows in use this is how FedAvg selects clients [McMahan2017]. With more rows than the
    quorum, those that come last are backup workers [Chen2016]: the server waits for nobody in
    particular.

    Args:
        scenario: The parameters of the problem.
        rows: The number of rows that are in use after the decision, if there are enough clients.
        seed: Seeds the solver's own generator.
        finish: The quantile of the expected times of those that are idle at which all shall be
            done, by training on fewer minibatches; None lets them take all steps. It has no effect
            unless the scenario lets the agent decide on steps.
    """

    def __init__(
        self, scenario: Scenario, rows: int, seed: int = 0, finish: float | None = None
    ) -> None:
        self.scenario = scenario
        self.rows = rows
        self.finish = finish
        self.rng = np.random.default_rng(seed)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Draw one decision per slot of a batch, fields (...)."""
        s = self.scenario
        fleet = fleet_now(slot, state, s)
        order = self.rng.random(fleet.idle.shape)
        effort = full_effort(order, s)
        if self.finish is not None and s.control_steps:
            effort = effort_to_finish(fleet, self.finish, s)
        return Solution(send(order, fleet.idle, self.rows - fleet.flying, s, effort), 0)


def effort_to_finish(fleet: Fleet, quantile: float, scenario: Scenario) -> FloatArray:
    """Return the effort of every client with which they finish together, (..., N).

    Local steps follow what a client can do in the time that there is, the idea of [Wang2019], who
    adapt them for all clients alike.

    Fast clients take all steps; slower ones take so few that they are done when the last fast one
    is, but at least one.

    Args:
        fleet: The clients.
        quantile: The quantile of the expected times of those that are idle at which all are done.
        scenario: The parameters.
    """
    steps = scenario.local_steps
    seconds = np.sort(np.where(fleet.idle, fleet.seconds, np.inf), axis=-1)
    last = np.maximum(np.ceil(quantile * fleet.idle.sum(axis=-1)) - 1, 0).astype(np.int64)
    done = np.take_along_axis(seconds, last[..., None], axis=-1)
    possible = np.floor((done - fleet.linking_s) / fleet.computing_s * steps + 1e-9)
    return effort_of(possible, steps)


@lru_cache(maxsize=4)
def tune_backups(problem: FederatedTraining) -> int:
    """Return the number of rows, at least the quorum, that does best on the tuning episodes.

    Args:
        problem: The problem that is played.
    """
    quorum, most = problem.scenario.quorum, problem.scenario.at_once
    tried = sorted({quorum + round((most - quorum) * share) for share in (0.0, 0.2, 0.5, 1.0)})
    return best_setting(problem, tried, lambda rows: RandomSolver(problem.scenario, rows))


@lru_cache(maxsize=4)
def tune_finish(problem: FederatedTraining) -> float | None:
    """Return the quantile at which all finish that does best on the tuning episodes.

    Args:
        problem: The problem that is played.

    Returns:
        The quantile; None if all steps are taken, be it because nothing is decided about them.
    """
    s = problem.scenario
    tried: list[float | None] = [None, *(FINISH if s.control_steps else ())]
    return best_setting(problem, tried, lambda q: RandomSolver(s, s.at_once, finish=q))
