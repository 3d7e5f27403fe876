"""A contest: every learner is trained, and everybody plays the same test episodes.

Delays are means over tasks, and split as [Li2024] splits them: computing on devices, computing
on servers, and transfers. A task that was given up counts in the total with more seconds than it
spent, see ``model.failure_cost``; where none is, the parts add up to the total.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from tqdm import tqdm

from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import usable_cores
from agents.a3c.worker import first_network
from agents.heads import make_head
from agents.networks.agent import network_agent
from agents.ppo.settings import PPOSettings
from agents.protocol import Agent
from agents.registry import agents_for, make_agent, references_for
from mec_gym.core import arrays
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import Rollout, sample_episodes
from mec_gym.core.types import FloatArray
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.registration import make_problem
from train.evaluation.evaluate import decision_ms, gap_percent, interval, play_all
from train.presets.distributed_inference import A3C_PRESETS, PPO_PRESETS
from train.runs.learn import Curve, learning_curve

INFERENCE = "mec/DistributedInference-v1"
SCENARIOS = ("patent", "small")
"""``patent`` is the patent's equations literally; in ``small`` devices share servers and bands."""
SEED = 0
"""The seed of the learners; the test episodes are those of seeds 0, 1, ..."""
EPISODES = 500
"""How many test episodes everybody plays at the end."""
CURVE_EPISODES = 100
"""How many of them, the first ones, are played at every point of a learning curve."""
EVALUATIONS = 10
"""How many points a learning curve has after its beginning."""
STEPS = 50_000
"""How many environment steps a learner is given by default."""
FLAT_STEPS = 10
"""Flat networks get so many times the steps: a step costs them about a tenth of the time."""

CLAIMED = {"total": 4.76, "edge": 10.04, "local": 8.03}
"""Percent by which multi-task A3C's delays are below those of the paper's state of the art."""


@dataclass(frozen=True, slots=True)
class Learner:
    """An agent that is trained for the contest.

    Attributes:
        preset: The name of its settings in ``train.presets``.
    """

    preset: str

    def settings(self) -> PPOSettings | A3CSettings:
        """The preset's settings, but with no more workers than there are cores."""
        if self.preset in PPO_PRESETS:
            return PPO_PRESETS[self.preset].settings
        settings = A3C_PRESETS[self.preset].settings
        return replace(settings, workers=min(settings.workers, usable_cores()))

    def steps(self, steps: int) -> int:
        """How many environment steps it is given where others are given ``steps``."""
        return steps if self.settings().network == "pairs" else FLAT_STEPS * steps


LEARNERS = {
    "a3c-flat": Learner("a3c-flat"),
    "mtl-a3c-branch": Learner("mtl-a3c-branch"),
    "mtl-a3c-tied": Learner("mtl-a3c-tied"),
    "ppo-flat": Learner("inference-flat"),
    "ppo-branches": Learner("inference-branches"),
    "a3c": Learner("a3c"),
    "mtl-a3c": Learner("mtl-a3c"),
    "ppo": Learner("inference"),
    "a3c-unaided": Learner("a3c-unaided"),
    "mtl-a3c-unaided": Learner("mtl-a3c-unaided"),
    "ppo-unaided": Learner("inference-unaided"),
}
"""Flat networks and branches, then those with the scorer of (device, place) pairs."""

UNTRAINED = "untrained"
"""Name of the scorer before its first step: a rule that looks ahead is built into it."""

RIVALS = ("a3c-flat", "greedy", "neurosurgeon")
"""What the paper could mean by the state of the art."""
COMPARED = {name: RIVALS for name in ("mtl-a3c-branch", "mtl-a3c-tied")} | {
    "mtl-a3c-unaided": ("a3c-unaided", *RIVALS),
    "mtl-a3c": ("a3c", *RIVALS),
}
"""Forms of multi-task A3C, and what each is held against; A3C with the same network first."""


@dataclass(frozen=True)
class Line:
    """What came of one agent in one scenario.

    Attributes:
        scenario: The name of the scenario.
        agent: The name of the agent.
        preset: The settings that it was trained with, or None if it was not trained.
        steps: The environment steps of its training, or None.
        seconds: The duration of its training, evaluations not counted, or None.
        episodes: How many episodes it played.
        tasks: How many tasks there were in them, the same for every agent.
        return_mean: Its mean return.
        gap_percent: Its mean gap to the bound.
        gap_percent_low: The lower end of the gap's 95 % interval.
        gap_percent_high: The upper end of the gap's 95 % interval.
        clairvoyant_gap_percent: Its mean gap to the clairvoyant's return.
        total_s: The mean delay of a task.
        local_s: The part of the delay that is computing on the device.
        edge_s: The part of the delay that is computing on servers.
        transfer_s: The part of the delay that is transfers.
        missed_percent: The share of tasks that ended late, or of blocks if each has a deadline.
        given_up_percent: The share of tasks that were given up.
        decision_ms: The wall time of a decision when all episodes decide in one batch.
    """

    scenario: str
    agent: str
    preset: str | None
    steps: int | None
    seconds: float | None
    episodes: int
    tasks: int
    return_mean: float
    gap_percent: float
    gap_percent_low: float
    gap_percent_high: float
    clairvoyant_gap_percent: float
    total_s: float
    local_s: float
    edge_s: float
    transfer_s: float
    missed_percent: float
    given_up_percent: float
    decision_ms: float


@dataclass(frozen=True)
class Reduction:
    """By how many percent a multi-task A3C's mean delays are below another agent's.

    A negative number says that they are above.

    Attributes:
        scenario: The name of the scenario.
        agent: The name of the multi-task A3C.
        against: The name of the other agent.
        best: Whether the other agent has the least total delay of ``RIVALS``.
        total_percent: The reduction of the total delay.
        total_low: The lower end of its 95 % interval over test episodes.
        total_high: The upper end of its 95 % interval over test episodes.
        edge_percent: The reduction of computing on servers.
        local_percent: The reduction of computing on devices.
        claimed_total_percent: The paper's reduction of the total delay.
        claimed_edge_percent: The paper's reduction of computing on servers.
        claimed_local_percent: The paper's reduction of computing on devices.
    """

    scenario: str
    agent: str
    against: str
    best: bool
    total_percent: float
    total_low: float
    total_high: float
    edge_percent: float
    local_percent: float
    claimed_total_percent: float = CLAIMED["total"]
    claimed_edge_percent: float = CLAIMED["edge"]
    claimed_local_percent: float = CLAIMED["local"]


@dataclass(frozen=True)
class Point:
    """A point of a learning curve: the mean gap to the bound on the first test episodes."""

    scenario: str
    agent: str
    steps: int
    seconds: float
    gap_percent: float


@dataclass(frozen=True)
class Contest:
    """What came of one scenario that everybody played.

    Attributes:
        lines: What came of each agent, the smallest gap first.
        reductions: The multi-task A3Cs held against the others.
        points: The points of all learning curves.
    """

    lines: Sequence[Line]
    reductions: Sequence[Reduction]
    points: Sequence[Point]


def contests(steps: int = STEPS) -> dict[str, Contest]:
    """The contest of every scenario, by its name.

    Args:
        steps: How many environment steps every learner is given (flat networks ``FLAT_STEPS``
            times as many).

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the message says what had been done.
    """
    found = {}
    with tqdm(desc="scenarios", unit="agent", leave=False) as bar, _telling(bar):
        problems = {name: make_problem(INFERENCE, name) for name in SCENARIOS}
        bar.reset(sum(2 * len(LEARNERS) + 1 + len(_named(p)) for p in problems.values()))
        for name, problem in problems.items():
            found[name] = contest(name, problem, steps, bar)
    return found


@contextmanager
def _telling(bar: tqdm[None]) -> Iterator[None]:
    """Say how far one had come when Ctrl-C came."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{bar.n} of {bar.total} parts were done, the last begun: {bar.desc.rstrip(': ')}; "
            "nothing was written"
        ) from None


def _named(problem: AnyProblem) -> tuple[str, ...]:
    return (*agents_for(problem), *references_for(problem))


def contest(scenario: str, problem: AnyProblem, steps: int, bar: tqdm[None]) -> Contest:
    """Train all learners, and let everybody play the same test episodes.

    Args:
        scenario: The name of the problem's scenario.
        problem: The problem that is played.
        steps: How many environment steps every learner is given, see :func:`contests`.
        bar: The bar that shows how far the contest is.
    """
    trace = sample_episodes(problem, SEED, EPISODES)
    first = arrays.at(trace, slice(CURVE_EPISODES))
    bound = problem.bound(trace)
    assert bound is not None  # this problem has one
    curves: dict[str, Curve] = {}
    for name, learner in LEARNERS.items():
        bar.set_description(f"{scenario}: {name} learns")
        total = learner.steps(steps)
        curves[name] = learning_curve(problem, learner.settings(), SEED, total, first, EVALUATIONS)
        bar.update()

    agents: dict[str, Agent] = {name: make_agent(name, problem, SEED) for name in _named(problem)}
    agents[UNTRAINED] = untrained(problem)
    agents |= {name: curve.agent for name, curve in curves.items()}
    played: dict[str, Rollout] = {}
    milliseconds: dict[str, float] = {}
    for name, agent in agents.items():
        bar.set_description(f"{scenario}: {name} plays")
        played[name] = play_all(problem, agent, trace)
        milliseconds[name] = decision_ms(played[name])
        bar.update()

    deadlines = cast(DistributedInference, problem).scenario.deadlines_per_task
    lines = [
        line(scenario, name, rollout, bound, played["clairvoyant"], milliseconds[name], deadlines)
        for name, rollout in played.items()
    ]
    lines = [
        replace(
            one,
            preset=LEARNERS[one.agent].preset,
            steps=int(curves[one.agent].steps[-1]),
            seconds=float(curves[one.agent].seconds[-1]),
        )
        if one.agent in curves
        else one
        for one in lines
    ]
    points = [
        Point(scenario, name, int(done), float(s), float(gap_percent(r, bound[: len(r)]).mean()))
        for name, c in curves.items()
        for done, s, r in zip(c.steps, c.seconds, c.returns, strict=True)
    ]
    return Contest(
        sorted(lines, key=lambda one: one.gap_percent), compared(scenario, played), points
    )


def untrained(problem: AnyProblem) -> Agent:
    """The scorer of (device, place) pairs before it learns."""
    settings = A3C_PRESETS["a3c"].settings
    head = make_head(settings.head, problem)
    return network_agent(first_network(problem, head, settings, SEED), head)


def per_episode(played: Rollout, part: str) -> FloatArray:
    """A part of the outcome, summed over each episode, (n,)."""
    return np.asarray(
        (getattr(played.outcomes, part) * played.played).sum(axis=1, dtype=np.float64)
    )


def line(
    scenario: str,
    agent: str,
    played: Rollout,
    bound: FloatArray,
    clairvoyant: Rollout,
    decision_ms: float,
    deadlines: int,
) -> Line:
    """The line of one agent, which does not yet say how it was trained.

    Args:
        scenario: The name of the scenario.
        agent: The name of the agent.
        played: What it played, n episodes.
        bound: The bound of each episode, (n,).
        clairvoyant: What the clairvoyant played, the same episodes.
        decision_ms: The wall time of a decision.
        deadlines: The number of deadlines of a task.
    """
    gaps = gap_percent(played.returns, bound)
    low, high = interval(gaps)
    given_up = per_episode(played, "dropped").sum()
    tasks = per_episode(played, "finished").sum() + given_up

    def per_task(part: str) -> float:
        return float(per_episode(played, part).sum() / tasks)

    return Line(
        scenario=scenario,
        agent=agent,
        preset=None,
        steps=None,
        seconds=None,
        episodes=len(gaps),
        tasks=int(tasks),
        return_mean=float(played.returns.mean()),
        gap_percent=float(gaps.mean()),
        gap_percent_low=low,
        gap_percent_high=high,
        clairvoyant_gap_percent=float(gap_percent(played.returns, clairvoyant.returns).mean()),
        total_s=per_task("latency_s"),
        local_s=per_task("local_s"),
        edge_s=per_task("edge_s"),
        transfer_s=per_task("transfer_s"),
        missed_percent=100.0 * per_task("deadline_missed") / deadlines,
        given_up_percent=float(100.0 * given_up / tasks),
        decision_ms=decision_ms,
    )


def compared(scenario: str, played: Mapping[str, Rollout]) -> list[Reduction]:
    """Every multi-task A3C that was trained, against all that it is held against.

    Args:
        scenario: The name of the scenario.
        played: What each agent played, by its name; all of them the same episodes.
    """

    def reduction(part: str, agent: str, other: str) -> float:
        ours, theirs = (per_episode(played[a], part).sum() for a in (agent, other))
        return float(100.0 * (1.0 - ours / theirs)) if theirs > 0 else float("nan")

    there = [name for name in RIVALS if name in played]
    best = min(there, key=lambda name: per_episode(played[name], "latency_s").sum())
    found = []
    for agent, others in COMPARED.items():
        for other in others:
            if agent not in played or other not in played:
                continue
            low, high = reduction_interval(
                per_episode(played[agent], "latency_s"), per_episode(played[other], "latency_s")
            )
            found.append(
                Reduction(
                    scenario=scenario,
                    agent=agent,
                    against=other,
                    best=other == best,
                    total_percent=reduction("latency_s", agent, other),
                    total_low=low,
                    total_high=high,
                    edge_percent=reduction("edge_s", agent, other),
                    local_percent=reduction("local_s", agent, other),
                )
            )
    return found


def reduction_interval(ours: FloatArray, theirs: FloatArray) -> tuple[float, float]:
    """The 95 % paired bootstrap interval of the reduction of a mean, in percent.

    Args:
        ours: The sum of delays in each episode, (n,).
        theirs: The same of the other agent, (n,).
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(2000, len(ours)))
    values = 100.0 * (1.0 - ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1))
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
