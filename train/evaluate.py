"""How good is an agent? Identical episodes for all, measured against the bound."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from agents.protocol import Agent, Clairvoyant
from mec_gym.core import arrays
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import Rollout, rollout
from mec_gym.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Result:
    """One agent's line of a comparison.

    Attributes:
        agent: Its name.
        episodes: n.
        return_mean: Mean sum of rewards.
        latency_s_mean: Mean latency of a step, s; a dropped task counts its deadline.
        latency_s_p95: 95th percentile of it over all steps, s.
        energy_j_mean: Mean energy of an episode, J.
        drops_mean: Mean number of dropped tasks an episode.
        gap_percent_mean: Mean of 100 (bound - return) / |bound| over episodes.
        gap_percent_ci95: 95 % bootstrap interval of that mean.
        difference_mean: Mean return minus the first agent's on the same episodes.
        difference_ci95: 95 % paired bootstrap interval of that mean.
        decision_ms: Wall time of a decision when all episodes decide in one batch, ms.
        outcome_means: Mean over steps of every part of the problem's outcome.
    """

    agent: str
    episodes: int
    return_mean: float
    latency_s_mean: float
    latency_s_p95: float
    energy_j_mean: float
    drops_mean: float
    gap_percent_mean: float
    gap_percent_ci95: tuple[float, float]
    difference_mean: float
    difference_ci95: tuple[float, float]
    decision_ms: float
    outcome_means: dict[str, float]


def gap_percent(returns: FloatArray, bound: FloatArray) -> FloatArray:
    """How far returns (n,) stay below their bounds (n,), in percent of the bound."""
    return np.asarray(100.0 * (bound - returns) / np.abs(bound))


def interval(values: FloatArray) -> tuple[float, float]:
    """95 % bootstrap interval (percentile) of a mean over episodes."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def summarise(name: str, played: Rollout, bound: FloatArray, first_returns: FloatArray) -> Result:
    """The line of one agent.

    Args:
        name: Of the agent.
        played: Its episodes.
        bound: Of each episode's return, (n,).
        first_returns: Returns of the agent it is compared with, (n,).
    """
    gaps = gap_percent(played.returns, bound)
    differences = played.returns - first_returns
    steps = played.played
    latency = played.outcomes.latency_s[steps]
    return Result(
        agent=name,
        episodes=len(gaps),
        return_mean=float(played.returns.mean()),
        latency_s_mean=float(latency.mean()),
        latency_s_p95=float(np.percentile(latency, 95)),
        energy_j_mean=float((played.outcomes.energy_j * steps).sum(axis=1).mean()),
        drops_mean=float((played.outcomes.dropped * steps).sum(axis=1).mean()),
        gap_percent_mean=float(gaps.mean()),
        gap_percent_ci95=interval(gaps),
        difference_mean=float(differences.mean()),
        difference_ci95=interval(differences),
        decision_ms=1e3 * played.decision_seconds / int(steps.sum()),
        outcome_means={
            part: float(field[steps].mean())
            for part, field in arrays.as_dict(played.outcomes).items()
        },
    )


def play_all(problem: AnyProblem, agent: Agent, trace: Any) -> Rollout:
    """Let an agent play a trace (n, T, ...), shown to it first if it is clairvoyant."""
    begin = time.perf_counter()
    if isinstance(agent, Clairvoyant):
        agent.foresee(trace)
    planned = time.perf_counter() - begin
    played = rollout(problem, agent, trace)
    return replace(played, decision_seconds=played.decision_seconds + planned)


def evaluate(
    problem: AnyProblem,
    name: str,
    agent: Agent,
    trace: Any,
    bound: FloatArray,
    first_returns: FloatArray | None = None,
) -> tuple[Result, Rollout]:
    """Let an agent play a trace (n, T, ...) and sum it up."""
    played = play_all(problem, agent, trace)
    first = played.returns if first_returns is None else first_returns
    return summarise(name, played, bound, first), played
