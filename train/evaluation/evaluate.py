"""Play the same episodes with one agent or several, and sum up what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from agents.protocol import Agent, Clairvoyant
from agents.registry import check_name, make_agent
from mec_gym.core import arrays
from mec_gym.core.checks import positive_int, seed_number
from mec_gym.core.online import OnlineBound, online_bound_of
from mec_gym.core.policies import check_is_agent
from mec_gym.core.problem import AnyProblem, check_is_problem
from mec_gym.core.rollout import Rollout, rollout, sample_episodes
from mec_gym.core.traces import check_trace
from mec_gym.core.types import FloatArray
from mec_gym.registration import make_problem, usual_episodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One agent's line of a comparison.

    The parts of an outcome (``latency_s``, ``energy_j``, ...) are those that the problem's Outcome
    has; see the page of its environment.

    Attributes:
        agent: Name of the agent.
        episodes: Number of episodes, n.
        return_mean: Mean over episodes of the sum of rewards.
        gap_percent_mean: Mean gap to the bound, see :func:`gap_percent`, over the episodes that
            have one; None without any.
        gap_percent_ci95: 95 % bootstrap interval of that mean; None without any.
        online: What the agent can expect, beside the online bound. None unless this was asked for,
            the problem offers one, and the agent does not know the future.
        behind_best_mean: Mean return that is missing to the best known: the best of all compared
            agents on the same episode. None if nobody else has played.
        behind_best_ci95: 95 % bootstrap interval of that mean; None likewise.
        difference_mean: Mean return minus the first agent's on the same episodes.
        difference_ci95: 95 % paired bootstrap interval of that mean.
        decision_ms: Wall time per decision when all episodes decide in one batch, ms.
        outcome_means: Mean of every part of the outcome over all steps.
        outcome_sums: Mean over episodes of the sum of every part over an episode's steps.
        outcome_p95: 95th percentile of every part over all steps.
        rollout: The episodes themselves.
    """

    agent: str
    episodes: int
    return_mean: float
    gap_percent_mean: float | None
    gap_percent_ci95: tuple[float, float] | None
    online: Expectation | None
    behind_best_mean: float | None
    behind_best_ci95: tuple[float, float] | None
    difference_mean: float
    difference_ci95: tuple[float, float]
    decision_ms: float
    outcome_means: dict[str, float]
    outcome_sums: dict[str, float]
    outcome_p95: dict[str, float]
    rollout: Rollout = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers by name, without the episodes."""
        names = (name for name in arrays.field_names(type(self)) if name != "rollout")
        numbers = {name: getattr(self, name) for name in names}
        return numbers | {"online": None if self.online is None else asdict(self.online)}


Z95 = NormalDist().inv_cdf(0.975)
"""So many standard errors to either side are an interval of 95 %."""


def gap_percent(returns: FloatArray, bound: FloatArray) -> FloatArray:
    """Return how far returns (n,) stay below their bounds (n,), in percent of the bound.

    100 (bound - return) / |bound| per episode. An episode whose bound is 0, up to rounding, has no
    gap: NaN.
    """
    size = np.abs(bound)
    size = np.where(size < 1e-9, np.nan, size)
    return np.asarray(100.0 * (bound - returns) / size)


def known_gaps(returns: FloatArray, bound: FloatArray | None) -> FloatArray | None:
    """Return the gaps of all episodes that have one; None if there is no bound or no gap."""
    if bound is None:
        return None
    gaps = gap_percent(returns, bound)
    gaps = gaps[~np.isnan(gaps)]
    return gaps if gaps.size else None


def interval(values: FloatArray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (percentile) of a mean over episodes."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    from scipy.stats import bootstrap  # takes most of a second to load

    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def decision_ms(played: Rollout) -> float:
    """Return the wall time per decision when all episodes decide in one batch, ms."""
    return 1e3 * played.decision_seconds / int(played.played.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What an agent can expect per episode, however easy or hard its own episodes were.

    Attributes:
        bound: What no policy can expect that does not know the future.
        bound_se: Standard error of the bound.
        expected_return: Mean return less what was luck, see
            :class:`mec_gym.core.online.OnlineBound`.
        expected_return_ci95: 95 % bootstrap interval of it.
        gap_percent: The gap between the two, in percent of the bound.
        gap_percent_ci95: 95 % interval of it: the bootstrap interval over the agent's episodes, and
            the standard error of the bound, whose squares are added.
    """

    bound: float
    bound_se: float
    expected_return: float
    expected_return_ci95: tuple[float, float]
    gap_percent: float
    gap_percent_ci95: tuple[float, float]


def expectation(played: Rollout, online: OnlineBound, trace: Any) -> Expectation:
    """Work out what an agent can expect that has played a trace (n, T, ...).

    Args:
        played: The episodes that it played, without knowing the future.
        online: The problem's online bound.
        trace: The trace.
    """
    fair = played.returns - online.luck(trace, played.outcomes)
    gaps = 100.0 * (online.mean - fair) / abs(online.mean)
    gap = float(gaps.mean())
    # By how much the gap changes with the bound, which other episodes have shown.
    of_bound = Z95 * 100.0 * abs(float(fair.mean())) / online.mean**2 * online.se
    low, high = (abs(end - gap) for end in interval(gaps))
    return Expectation(
        bound=online.mean,
        bound_se=online.se,
        expected_return=float(fair.mean()),
        expected_return_ci95=interval(fair),
        gap_percent=gap,
        gap_percent_ci95=(gap - math.hypot(low, of_bound), gap + math.hypot(high, of_bound)),
    )


def summarise(
    name: str,
    played: Rollout,
    bound: FloatArray | None,
    first_returns: FloatArray | None = None,
    online: Expectation | None = None,
) -> Result:
    """Sum up what one agent played.

    Args:
        name: Name of the agent.
        played: The episodes that it played.
        bound: Bound on each episode's return, (n,); None without one.
        first_returns: Returns of the agent that it is compared with, (n,); by default its own.
        online: What it can expect, beside the online bound; None if that is not known.
    """
    gaps = known_gaps(played.returns, bound)
    first = played.returns if first_returns is None else first_returns
    differences = played.returns - first
    steps = played.played
    parts = {
        part: np.asarray(values, dtype=np.float64)  # flags become 0 and 1
        for part, values in arrays.as_dict(played.outcomes).items()
    }
    return Result(
        agent=name,
        episodes=len(played.returns),
        return_mean=float(played.returns.mean()),
        gap_percent_mean=None if gaps is None else float(gaps.mean()),
        gap_percent_ci95=None if gaps is None else interval(gaps),
        online=online,
        behind_best_mean=None,
        behind_best_ci95=None,
        difference_mean=float(differences.mean()),
        difference_ci95=interval(differences),
        decision_ms=decision_ms(played),
        outcome_means={part: float(values[steps].mean()) for part, values in parts.items()},
        outcome_sums={
            part: float((values * steps).sum(axis=1).mean()) for part, values in parts.items()
        },
        outcome_p95={
            part: float(np.percentile(values[steps], 95)) for part, values in parts.items()
        },
        rollout=played,
    )


def behind_best(results: Sequence[Result]) -> list[FloatArray]:
    """Return what each result's returns lack to the best of all on the same episode, (n,) each."""
    best = np.max([result.rollout.returns for result in results], axis=0)
    return [best - result.rollout.returns for result in results]


def with_best_known(results: Sequence[Result]) -> list[Result]:
    """Return results of the same episodes that also say how far they are behind the best."""
    if len(results) < 2:
        return list(results)
    return [
        replace(result, behind_best_mean=float(lack.mean()), behind_best_ci95=interval(lack))
        for result, lack in zip(results, behind_best(results), strict=True)
    ]


def play_all(problem: AnyProblem, agent: Agent, trace: Any) -> Rollout:
    """Let an agent play a trace (n, T, ...), shown to it first if it is clairvoyant."""
    begin = time.perf_counter()
    if isinstance(agent, Clairvoyant):
        agent.foresee(trace)
    planned = time.perf_counter() - begin
    played = rollout(problem, agent, trace)
    return replace(played, decision_seconds=played.decision_seconds + planned)


def evaluate(
    agent: str | Agent,
    problem: str | AnyProblem,
    episodes: int | None = None,
    seed: int = 0,
    trace: Any = None,
    online_bound: bool = False,
) -> Result:
    """Let one agent play, and sum up what it played.

    Args:
        agent: A name, see :func:`agents.registry.make_agent`, or anything with SB3's ``predict``.
        problem: A Problem, or the id of an environment.
        episodes: Number of episodes; by default 500, or fewer where an episode takes long.
        seed: Episode i is the one that ``env.reset(seed=seed + i)`` begins.
        trace: Episodes to play instead of drawn ones, fields of shape (n, T, ...); then
            ``episodes`` and ``seed`` choose none.
        online_bound: Whether to compute the online bound where the problem offers one, which may
            take a minute. It bounds an expectation over drawn episodes, so it goes with no trace.

    Raises:
        ValueError: The id or the agent is unknown, or the trace does not fit.
    """
    named = {agent if isinstance(agent, str) else type(agent).__name__: agent}
    return compare(named, problem, episodes, seed, trace, online_bound)[0]


def compare(
    agents: Sequence[str] | Mapping[str, str | Agent],
    problem: str | AnyProblem,
    episodes: int | None = None,
    seed: int = 0,
    trace: Any = None,
    online_bound: bool = False,
) -> list[Result]:
    """Let several agents play the same episodes; differences are to the first one.

    Args:
        agents: Names, see :func:`agents.registry.make_agent`; or agents by the names that their
            lines shall have.
        problem: A Problem, or the id of an environment.
        episodes: Number of episodes; by default 500, or fewer where an episode takes long.
        seed: Episode i is the one that ``env.reset(seed=seed + i)`` begins.
        trace: Episodes to play instead of drawn ones, fields of shape (n, T, ...); then
            ``episodes`` and ``seed`` choose none.
        online_bound: Whether to compute the online bound where the problem offers one, which may
            take a minute. It bounds an expectation over drawn episodes, so it goes with no trace.

    Raises:
        ValueError: The id or an agent is unknown, there is no agent, or the trace does not fit.
    """
    if isinstance(agents, str):
        raise ValueError(f"agents must be a list of names, got {agents!r}; try [{agents!r}]")
    env_id = problem if isinstance(problem, str) else None
    problem = make_problem(problem) if isinstance(problem, str) else problem
    check_is_problem(problem)
    named = dict(agents) if isinstance(agents, Mapping) else {name: name for name in agents}
    if len(named) < len(agents):
        raise ValueError(f"agents must hold each name once, got {', '.join(map(str, agents))}")
    episodes = usual_episodes(problem) if episodes is None else episodes
    positive_int("episodes", episodes)
    seed_number("seed", seed)
    if online_bound and trace is not None:
        raise ValueError(
            "online_bound must be False with a trace: it is known for drawn episodes only"
        )
    players = make_agents(named, problem, seed, env_id)
    trace = (
        sample_episodes(problem, seed, episodes) if trace is None else check_trace(problem, trace)
    )
    online = online_bound_of(problem) if online_bound else None
    return with_best_known(list(results_of(players, problem, trace, problem.bound(trace), online)))


def make_agents(
    named: Mapping[str, str | Agent], problem: AnyProblem, seed: int, env_id: str | None
) -> dict[str, Agent]:
    """Make the agents of a comparison, before any of them plays; all names are checked first.

    Args:
        named: Names of agents, or agents, by the names that their lines shall have.
        problem: The problem that they play.
        seed: Seed of agents that draw.
        env_id: The id of the environment, see :func:`agents.registry.make_agent`.

    Raises:
        ValueError: An agent is unknown, does not fit the problem, or is none.
    """
    for agent in named.values():
        if isinstance(agent, str):
            check_name(agent, problem)
        else:
            check_is_agent(agent)
    return {
        name: make_agent(agent, problem, seed, env_id) if isinstance(agent, str) else agent
        for name, agent in named.items()
    }


def results_of(
    players: Mapping[str, Agent],
    problem: AnyProblem,
    trace: Any,
    bound: FloatArray | None,
    online: OnlineBound | None = None,
) -> Iterator[Result]:
    """Yield results one after the other, each as soon as its agent has played.

    Args:
        players: Agents by name; differences are to the first one.
        problem: The problem that they play.
        trace: The episodes, fields (n, T, ...), as ``check_trace`` returns them.
        bound: Bound on each episode's return, (n,); None without one.
        online: Bound on the expected return; None without one.

    Raises:
        ValueError: There is no agent.
    """
    if not players:
        raise ValueError("agents must hold at least one agent, got none")
    first: FloatArray | None = None
    for name, player in players.items():
        played = play_all(problem, player, trace)
        expected = None
        if online is not None and not isinstance(player, Clairvoyant):
            expected = expectation(played, online, trace)
        result = summarise(name, played, bound, first, expected)
        first = result.rollout.returns if first is None else first
        yield result
