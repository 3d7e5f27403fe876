"""Play whole traces in one batch; evaluation, tuning and tests are made of this."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.actions import action_in_space
from mec_gym.core.checks import positive_int, seed_number
from mec_gym.core.env import MecEnv
from mec_gym.core.policies import Predictor, check_is_agent
from mec_gym.core.problem import AnyProblem, check_is_problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """n finished episodes of at most T steps.

    Attributes:
        returns: The sum of rewards of each episode, (n,).
        rewards: The reward of each step, (n, T); it is 0 after an episode's end.
        outcomes: The outcomes of the steps, fields (n, T, ...).
        decisions: The decisions of the steps, fields (n, T, ...).
        played: Whether each slot was played before the episode's end, (n, T). Outcomes and
            decisions where it was not mean nothing.
        decision_seconds: The wall time spent in ``predict`` for all episodes together, s.
    """

    returns: npt.NDArray[np.float64]
    rewards: npt.NDArray[np.float64]
    outcomes: Any
    decisions: Any
    played: npt.NDArray[np.bool_]
    decision_seconds: float


def sample_episodes(problem: AnyProblem, seed: int, episodes: int) -> Any:
    """The first episode of each of the seeds ``seed``, ``seed + 1``, and so on.

    Args:
        problem: The problem whose episodes are drawn.
        seed: The first seed. Episode i is the one that ``env.reset(seed=seed + i)`` begins.
        episodes: The number of episodes, at least 1.

    Returns:
        A trace of this many episodes.

    Raises:
        ValueError: ``episodes`` is below 1, ``seed`` is no seed, or ``problem`` is no Problem.
    """
    check_is_problem(problem)
    positive_int("episodes", episodes)
    seed_number("seed", seed)
    first = []
    for i in range(episodes):
        env = MecEnv(problem)
        env.reset(seed=seed + i)
        first.append(env.trace)
    return arrays.stack(first)


def rollout(problem: AnyProblem, agent: Predictor, trace: Any) -> Rollout:
    """Let an agent play every episode of a trace, with one batch of decisions per slot.

    Args:
        problem: The problem that is played.
        agent: The agent, which is asked with ``deterministic=True``. Its actions for episodes
            that have ended are ignored, but must lie in the space as well.
        trace: A trace of n episodes.

    Raises:
        ValueError: An action of the agent is outside the space, it is no agent, or the problem is
            no Problem.
    """
    check_is_problem(problem)
    check_is_agent(agent)
    state = problem.start(arrays.slot_at(trace, 0))
    running = ~problem.done(state)
    n = len(running)
    rewards = np.zeros((n, problem.horizon))
    played = np.zeros((n, problem.horizon), dtype=np.bool_)
    outcomes, decisions = [], []
    memory: Any = None
    seconds = 0.0
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        observation = problem.observe(slot, state)
        begin = time.perf_counter()
        action, memory = agent.predict(
            observation, memory, episode_start=np.full(n, t == 0), deterministic=True
        )
        seconds += time.perf_counter() - begin
        decision = problem.decision(action_in_space(problem.action_space, action, (n,)))
        state, outcome = problem.step(slot, state, decision)
        rewards[:, t] = np.where(running, problem.reward(outcome), 0.0)
        played[:, t] = running
        outcomes.append(outcome)
        decisions.append(decision)
        running = running & ~problem.done(state)

    def over_time(records: list[Any]) -> Any:
        return arrays.map_arrays(lambda *a: np.stack(a, axis=1), *records)

    return Rollout(
        returns=rewards.sum(axis=1),
        rewards=rewards,
        outcomes=over_time(outcomes),
        decisions=over_time(decisions),
        played=played,
        decision_seconds=seconds,
    )
