"""Episodes of gossip training in the same worlds.

What is compared differs in its parameters or in its rule only. Speeds, rates, initial weights,
minibatches and the numbers by which partners are drawn are the same, as far as parameters let them
be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agents.gossip_training.rules import (
    AlikeSolver,
    MatchingSolver,
    PeriodicSolver,
    RuleSolver,
    neighbours,
    nobody,
    one_sided,
    rotation,
)
from agents.protocol import Solution, Solver
from mec_gym.core import arrays
from mec_gym.core.checks import one_of
from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.gossip_training.model import Decision, State
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import PRESETS, Scenario, Slot
from train.reproduce.families.rows import MEGABYTE

SEED = 2023
"""The seed of all worlds."""
BASE = replace(PRESETS["unequal"].make(), budget_s=4000.0, rounds=800)
"""What protocols change: the default scenario, with twice its time, so that 90 % are reached."""
POINTS = 101
"""Points in time at which the accuracy is kept."""
TARGET = 0.9
"""The accuracy whose time is kept."""
PERIOD = 4
"""Rounds from one all-reduce to the next, of ``"periodic"``."""
PARTNERS = 4
"""How many partners a device has at most, of ``"partners"``: as many as a model has segments."""


class DrawnSolver:
    """Lets each device listen to one drawn speaker, which need not listen to it.

    Args:
        scenario: The parameters of the problem.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = np.random.default_rng(SEED)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Draw one decision per slot of a batch, fields (...)."""
        listener, speaker = self.scenario.edges.T
        count = self.scenario.devices
        lot = np.full((*state.over.shape, count, count), -1.0)
        lot[..., listener, speaker] = self.rng.random((*state.over.shape, len(listener)))
        first = lot.argmax(axis=-1)
        silent = np.zeros(state.over.shape, dtype=np.bool_)
        return Solution(Decision(reduce=silent, listen=first[..., listener] == speaker), 0)


RULES: dict[str, Callable[[Scenario], Solver]] = {
    "matching": lambda s: MatchingSolver(s, 1, SEED),
    "partners": lambda s: MatchingSolver(s, PARTNERS, SEED),
    "rotation": lambda s: RuleSolver(s, rotation),
    "neighbours": lambda s: RuleSolver(s, neighbours),
    "one-sided": lambda s: RuleSolver(s, one_sided),
    "drawn": DrawnSolver,
    "alike": lambda s: AlikeSolver(s, 1.0),
    "unlike": lambda s: AlikeSolver(s, -1.0),
    "all-reduce": lambda s: PeriodicSolver(s, 1),
    "periodic": lambda s: PeriodicSolver(s, PERIOD),
    "nobody": lambda s: RuleSolver(s, nobody),
}
"""Who listens to whom, as the agents of these names do."""


@dataclass(frozen=True, slots=True)
class Case:
    """One protocol.

    Attributes:
        rule: Who listens to whom.
        changes: The fields of the scenario that differ from ``BASE``.

    Raises:
        ValueError: The rule is unknown.
    """

    rule: str = "matching"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("rule", self.rule, tuple(RULES))

    @property
    def scenario(self) -> Scenario:
        """The parameters of its episodes."""
        return replace(BASE, **self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of one protocol, in each of n worlds; devices' numbers are means over devices."""

    error: FloatArray  # (n,) mean error over the budget
    test_accuracy: FloatArray  # (n,) on test images at the end
    reached: BoolArray  # (n,) whether the accuracy was ever at least TARGET
    reached_s: FloatArray  # (n,) s until then, or the whole budget
    reached_rounds: FloatArray  # (n,) rounds until it was so at the end of one, or all
    reached_bits: FloatArray  # (n,) bit that were sent in these rounds
    rounds: FloatArray  # (n,) rounds until all budgets were used up
    sent_bits: FloatArray  # (n,) bit that all devices sent
    waiting: FloatArray  # (n,) share of the time on clocks that was not spent on training
    consensus: FloatArray  # (n,) distance of models from their mean, averaged over rounds
    time_s: FloatArray  # (POINTS,) s
    accuracy: FloatArray  # (n, POINTS) on validation images at these times

    @property
    def sent_mb(self) -> FloatArray:
        """What devices sent, (n,) MB."""
        return self.sent_bits / MEGABYTE


def trace_of(scenario: Scenario, worlds: int) -> Slot:
    """Draw the worlds of a scenario; what its parameters do not concern is always the same.

    Args:
        scenario: The parameters.
        worlds: The number of worlds, n.
    """
    drawn = scenario.sample(np.random.default_rng(SEED), worlds)
    # How images are dealt out takes more random numbers or fewer, and all else comes after it.
    same = Scenario(
        **{
            name: getattr(scenario, name)
            for name in (
                *("devices", "rounds", "budget_s", "images", "hidden"),
                *("local_steps", "batch", "forward_flop"),
                *("speed", "speed_spread", "rate", "rate_spread", "jitter"),
            )
        },
        partition="iid",
    ).sample(np.random.default_rng(SEED), worlds)
    return replace(
        drawn, compute_s=same.compute_s, rate=same.rate, key=same.key, initial=same.initial
    )


def play(case: Case, worlds: int) -> Played:
    """Play one protocol in all worlds.

    Args:
        case: The protocol.
        worlds: The number of worlds, n.
    """
    scenario = case.scenario
    problem, solver = GossipTraining(scenario), RULES[case.rule](scenario)
    trace = trace_of(scenario, worlds)
    state = problem.start(arrays.slot_at(trace, 0))
    clocks, accuracies = [state.clock], [state.accuracy]
    total = {
        name: np.zeros(worlds)
        for name in ("error_s", "test_accuracy", "sent_bits", "waiting_s", "consensus")
    }
    rounds, reached = np.zeros(worlds), np.zeros(worlds, dtype=np.bool_)
    reached_rounds, reached_bits = np.zeros(worlds), np.zeros(worlds)
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        running = ~problem.done(state)
        decision = solver.solve(slot, state).decision
        state, outcome = problem.step(slot, state, decision)
        for name, values in total.items():
            values += np.where(running, getattr(outcome, name), 0.0)
        clocks.append(state.clock)
        accuracies.append(state.accuracy)
        rounds += running
        waiting = running & ~reached
        reached_rounds[waiting] = rounds[waiting]
        reached_bits[waiting] = total["sent_bits"][waiting]
        reached |= waiting & (outcome.accuracy >= TARGET)
        if problem.done(state).all():
            break
    time_s = np.linspace(0.0, scenario.budget_s, POINTS)
    curve, first_s = over_time(np.array(clocks), np.array(accuracies), time_s)
    spent = state.clock.mean(axis=-1)
    return Played(
        error=total["error_s"] / scenario.budget_s,
        test_accuracy=total["test_accuracy"],
        reached=first_s <= scenario.budget_s,
        reached_s=np.minimum(first_s, scenario.budget_s),
        reached_rounds=reached_rounds,
        reached_bits=reached_bits,
        rounds=rounds,
        sent_bits=total["sent_bits"],
        waiting=total["waiting_s"] / spent,
        consensus=total["consensus"] / rounds,
        time_s=time_s,
        accuracy=curve,
    )


def over_time(
    clock: FloatArray, accuracy: FloatArray, time_s: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the devices' mean accuracy by the clock, and when it is first ``TARGET``.

    At any time each device counts with the model that it had last by its own clock.

    Args:
        clock: The devices' clocks at the start and after each round, (1 + T, n, N) s.
        accuracy: How good their models were then, (1 + T, n, N).
        time_s: The times at which the accuracy is asked for, (K,) s.

    Returns:
        The mean accuracy at these times, (n, K); and when it is first ``TARGET``, infinite if
        never, (n,).
    """
    worlds, devices = clock.shape[1:]
    curve, first = np.empty((worlds, len(time_s))), np.full(worlds, np.inf)
    for i in range(worlds):
        moments = clock[1:, i].ravel()
        gains = np.diff(accuracy[:, i], axis=0).ravel() / devices
        order = np.argsort(moments, kind="stable")
        moments = np.append(0.0, moments[order])
        mean = accuracy[0, i].mean() + np.append(0.0, np.cumsum(gains[order]))
        last = np.append(np.diff(moments) > 0, True)  # of all that happens at a moment
        moments, mean = moments[last], mean[last]
        curve[i] = mean[np.searchsorted(moments, time_s, side="right") - 1]
        good = np.flatnonzero(mean >= TARGET - 1e-9)  # a sum of many small numbers
        if len(good):
            first[i] = moments[good[0]]
    return curve, first
