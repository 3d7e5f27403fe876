"""Episodes of federated training in which clients are drawn at random, in the same worlds.

What is compared differs in its parameters only. Speeds, rates, initial weights, minibatches and
the numbers by which clients are drawn are the same, as far as the parameters let them be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from agents.federated_training.fleet import Fleet, fleet_now, rank
from mec_gym.core import arrays
from mec_gym.core.checks import one_of
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.federated_training.model import Decision, State, effort_of
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario, Slot
from mec_gym.federated_training.world import World
from train.reproduce.families.rows import MEGABYTE

SEED = 2023
"""The seed of all worlds."""
DECISIONS = 4000
"""More decisions than any protocol takes within the budget."""
POINTS = 81
"""Points in time at which the accuracy is kept."""
TARGET = 0.8
"""The accuracy whose time is kept."""

Who = Literal["any", "in-time", "staying", "tier", "by-size"]
"""Who may be drawn: anybody; who is expected to be done by the deadline; who stays long enough;
one of three tiers of like speed, which is drawn; anybody, with chances in proportion to the
number of images."""
Effort = Literal["full", "by-speed", "by-samples"]
"""How many steps clients take: all; so many that they are done when the median client is; in
proportion to their images."""
TIERS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One protocol.

    Attributes:
        changes: The fields of the scenario that differ from their defaults.
        who: Who may be drawn.
        effort: How many steps clients take.

    Raises:
        ValueError: ``who`` or ``effort`` is unknown.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    who: Who = "any"
    effort: Effort = "full"

    def __post_init__(self) -> None:
        one_of("who", self.who, get_args(Who))
        one_of("effort", self.effort, get_args(Effort))

    @property
    def scenario(self) -> Scenario:
        """The parameters of its episodes."""
        return Scenario(
            **{"decisions": DECISIONS, **self.changes, "control_steps": self.effort != "full"}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of one protocol, in each of n worlds."""

    error: FloatArray  # (n,) mean error of the model in service over the budget
    test_accuracy: FloatArray  # (n,) on test images at the end
    reached: BoolArray  # (n,) whether the accuracy was ever at least TARGET
    reached_s: FloatArray  # (n,) s until then, or the whole budget
    reached_merges: FloatArray  # (n,) how often the server had merged by then, or ever
    reached_bits: FloatArray  # (n,) bit that clients had sent by then, or ever
    merges: FloatArray  # (n,) how often the server merged
    merge_s: FloatArray  # (n,) s from one merge to the next, on average
    up_bits: FloatArray  # (n,) bit that clients sent
    jobs: FloatArray  # (n,) clients that were sent off
    useless: FloatArray  # (n,) share of them whose updates were lost or dropped
    staleness: FloatArray  # (n,) mean staleness of what was merged
    time_s: FloatArray  # (POINTS,) s
    accuracy: FloatArray  # (n, POINTS) on validation images at these times

    @property
    def sent_mb(self) -> FloatArray:
        """What clients sent, (n,) MB."""
        return self.up_bits / MEGABYTE


def trace_of(scenario: Scenario, worlds: int) -> Slot:
    """Draw the worlds of a scenario; what its parameters do not concern is always the same.

    Args:
        scenario: The parameters.
        worlds: The number of worlds, n.
    """
    drawn = scenario.sample(np.random.default_rng(SEED), worlds)
    same = replace(
        Scenario(),
        **{
            name: getattr(scenario, name)
            for name in (
                *("clients", "decisions", "budget_s", "bin_s", "images", "hidden"),
                *("speed", "speed_spread", "load_spread", "load_memory"),
                *("uplink", "downlink", "rate_spread", "fading", "jitter"),
            )
        },
        at_once=1,
        quorum=1,
    ).sample(np.random.default_rng(SEED), worlds)
    return replace(
        drawn,
        jitter=same.jitter,
        key=same.key,
        speed=same.speed,
        uplink=same.uplink,
        downlink=same.downlink,
        initial=same.initial,
    )


def play(case: Case, worlds: int) -> Played:
    """Play one protocol in all worlds.

    Args:
        case: The protocol.
        worlds: The number of worlds, n.
    """
    scenario = case.scenario
    problem = FederatedTraining(scenario)
    trace = trace_of(scenario, worlds)
    rng = np.random.default_rng((SEED, 1))
    state = problem.start(arrays.slot_at(trace, 0))
    time_s = np.linspace(0.0, scenario.budget_s, POINTS)
    begin = (arrays.slot_at(trace, 0).demand[:, 0] * state.recall).sum(axis=-1)
    accuracy = np.repeat(begin[:, None], POINTS, axis=-1)
    total = {
        name: np.zeros(worlds)
        for name in ("cost_s", "sent_off", "lost", "dropped", "test_accuracy")
    }
    up_bits = np.zeros(worlds)
    merged, stale, last = np.zeros(worlds), np.zeros(worlds), np.zeros(worlds)
    reached = np.zeros(worlds, dtype=np.bool_)
    reached_s, reached_merges, reached_bits = (np.zeros(worlds) for _ in range(3))
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        running = ~problem.done(state)
        decision = decide(case, slot, state, scenario, rng)
        state, outcome = problem.step(slot, state, decision)
        for name, values in total.items():
            values += np.where(running, getattr(outcome, name), 0.0)
        merged += running * outcome.merged
        stale += running * outcome.merged * outcome.staleness
        some = running & (outcome.merged > 0)
        last[some] = state.clock[some]
        later = running[:, None] & (time_s >= state.clock[:, None])
        accuracy = np.where(later, outcome.accuracy[:, None], accuracy)
        waiting = running & ~reached
        reached_s[waiting], reached_merges[waiting] = state.clock[waiting], state.version[waiting]
        up_bits += np.where(
            running, outcome.sent_bits - scenario.download_bits * outcome.sent_off, 0
        )
        reached_bits[waiting] = up_bits[waiting]
        reached |= waiting & (outcome.accuracy >= TARGET)
        if problem.done(state).all():
            break
    merges = state.version.astype(np.float64)
    return Played(
        error=total["cost_s"] / scenario.budget_s,
        test_accuracy=total["test_accuracy"],
        reached=reached,
        reached_s=reached_s,
        reached_merges=reached_merges,
        reached_bits=reached_bits,
        merges=merges,
        merge_s=last / np.maximum(merges, 1),
        up_bits=up_bits,
        jobs=total["sent_off"],
        useless=(total["lost"] + total["dropped"]) / np.maximum(total["sent_off"], 1),
        staleness=stale / np.maximum(merged, 1),
        time_s=time_s,
        accuracy=accuracy,
    )


def decide(
    case: Case, slot: Slot, state: State, scenario: Scenario, rng: np.random.Generator
) -> Decision:
    """Draw who is sent off, and say how many steps they take.

    Args:
        case: The protocol.
        slot: The slots, fields (n, ...).
        state: The states, fields (n, ...).
        scenario: The parameters.
        rng: Where the random numbers come from; as many are drawn whatever the protocol.
    """
    score = 1.0 - rng.random((len(state.clock), scenario.clients))  # in (0, 1]
    tier = rng.integers(TIERS, size=(len(state.clock), 1))
    fleet = fleet_now(slot, state, scenario)
    if case.who == "by-size":  # the order of draws without replacement by [Efraimidis2006]
        score = score ** (fleet.samples.mean(axis=-1, keepdims=True) / fleet.samples)
    allowed = _allowed(case.who, fleet, tier, slot, state, scenario)
    return Decision(
        score=np.where(allowed, score, -1.0), effort=_effort(case.effort, fleet, scenario)
    )


def _allowed(
    who: Who, fleet: Fleet, tier: IntArray, slot: Slot, state: State, scenario: Scenario
) -> BoolArray:
    """Return who may be drawn, (n, N)."""
    if who == "in-time":
        limit = np.inf if scenario.deadline is None else scenario.deadline
        return np.asarray(fleet.seconds <= limit)
    if who == "staying":
        world = World(slot, state.clock.shape, scenario)
        return np.asarray(state.clock[:, None] + fleet.seconds <= world.leaves(state.clock))
    if who == "tier":
        return np.asarray(rank(fleet.seconds) * TIERS // scenario.clients == tier)
    return np.ones(fleet.idle.shape, dtype=np.bool_)


def _effort(effort: Effort, fleet: Fleet, scenario: Scenario) -> FloatArray:
    """Return how many of the steps clients take, from -1 to 1, (n, N); (n, 0) if all do."""
    if effort == "full":
        return np.zeros((len(fleet.idle), 0))
    steps = scenario.local_steps
    if effort == "by-speed":
        end = np.median(fleet.seconds, axis=-1, keepdims=True)
        taken = steps * (end - fleet.linking_s) / fleet.computing_s
    else:
        taken = steps * fleet.samples / fleet.samples.max(axis=-1, keepdims=True)
    return effort_of(taken, steps)
