"""Rules of who listens to whom, most of them from publications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from agents.gossip_training.pairs import greedy, lots, pairs_of, talk, turns_of
from agents.protocol import Solution
from agents.trials import best_setting
from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.gossip_training.model import Decision, State, turn_of
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario, Slot

PERIODS = (1, 2, 4, 8, 16)
PARTNERS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class RuleSolver:
    """Decides by the scenario, the slot and the state.

    Attributes:
        scenario: The parameters of the problem.
        rule: Function that decides for a batch.
    """

    scenario: Scenario
    rule: Callable[[Slot, State, Scenario], Decision]

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        return Solution(self.rule(slot, state, self.scenario), 0)


def _everywhere(value: bool, state: State, scenario: Scenario) -> BoolArray:
    return np.full((*state.clock.shape[:-1], len(pairs_of(scenario).first)), value)


def nobody(slot: Slot, state: State, scenario: Scenario) -> Decision:
    """Let every device train alone."""
    return talk(_everywhere(False, state, scenario), scenario)


def neighbours(slot: Slot, state: State, scenario: Scenario) -> Decision:
    """Let every device listen to all to whom it may, as D-PSGD does [Lian2017]."""
    return talk(_everywhere(True, state, scenario), scenario)


def rotation(slot: Slot, state: State, scenario: Scenario) -> Decision:
    """Let pairs talk in turn, so that nobody has two partners at once [Daily2018]."""
    turns = turns_of(scenario)
    now = turn_of(state, scenario) % (turns.max() + 1)
    return talk(turns == now[..., None], scenario)


def one_sided(slot: Slot, state: State, scenario: Scenario) -> Decision:
    """Let each device listen to one other in turn, which need not listen to it [Assran2019].

    They come in the order of how far before it they are.
    """
    listener, speaker = scenario.edges.T
    degree = np.bincount(listener, minlength=scenario.devices)
    order = np.lexsort(((listener - speaker) % scenario.devices, listener))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.repeat(degree.cumsum() - degree, degree)
    listen = place == turn_of(state, scenario)[..., None] % degree[listener]
    return Decision(reduce=np.zeros(listen.shape[:-1], dtype=np.bool_), listen=listen)


@dataclass(frozen=True, slots=True)
class PeriodicSolver:
    """All average all in every k-th round, and train alone in between [Stich2019].

    Attributes:
        scenario: The parameters of the problem.
        period: The number k; with 1, they do so in every round.
    """

    scenario: Scenario
    period: int

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        now = (turn_of(state, self.scenario) + 1) % self.period == 0
        silent = _everywhere(False, state, self.scenario)
        return Solution(talk(silent, self.scenario, reduce=now), 0)


class MatchingSolver:
    """Draws partners anew in every round [Lian2018] [Blot2016] [Jin2016].

    Args:
        scenario: The parameters of the problem.
        partners: How many partners a device has at most.
        seed: Seeds the solver's own generator.
    """

    def __init__(self, scenario: Scenario, partners: int = 1, seed: int = 0) -> None:
        self.scenario = scenario
        self.partners = partners
        self.rng = np.random.default_rng(seed)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Draw one decision per slot of a batch, fields (...)."""
        s = self.scenario
        count = len(pairs_of(s).first)
        drawn = 1.0 - self.rng.random((*state.clock.shape[:-1], count))  # above 0
        return Solution(talk(greedy(drawn, s, self.partners), s), 0)


@dataclass(frozen=True, slots=True)
class AlikeSolver:
    """Pairs devices that hold alike images, or unlike ones, with some chance in it.

    Alike ones are those that have similar targets [Vanhaesebrouck2017]. It knows who is alike only
    where the scenario is ``privileged``; elsewhere, chance alone decides.

    Attributes:
        scenario: The parameters of the problem.
        sign: 1 for alike devices, -1 for unlike ones.
        chance: How much chance counts beside a difference of 1.
    """

    scenario: Scenario
    sign: float
    chance: float = 0.5

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        pairs = pairs_of(self.scenario)
        apart: FloatArray = slot.apart[..., pairs.first, pairs.second]
        drawn = lots(turn_of(state, self.scenario), len(pairs.first))
        score = 2.0 - self.sign * apart + self.chance * drawn
        return Solution(talk(greedy(score, self.scenario), self.scenario), 0)


@lru_cache(maxsize=4)
def tune_period(problem: GossipTraining) -> int:
    """Return the period of all-reduce that does best on the tuning episodes.

    Args:
        problem: The problem that is played.
    """
    s = problem.scenario
    periods = [k for k in PERIODS if k <= s.rounds]
    return best_setting(problem, periods, lambda period: PeriodicSolver(s, period))


@lru_cache(maxsize=4)
def tune_partners(problem: GossipTraining) -> int:
    """Return the number of partners that does best on the tuning episodes.

    Args:
        problem: The problem that is played.
    """
    s = problem.scenario
    pairs = pairs_of(s)
    degree = np.bincount(np.concatenate([pairs.first, pairs.second])).max()
    counts = [k for k in PARTNERS if k <= degree]
    return best_setting(problem, counts, lambda count: MatchingSolver(s, count))
