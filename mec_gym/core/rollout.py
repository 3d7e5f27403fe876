"""Play whole traces in one batch: what evaluation, tuning and tests are made of."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.actions import action_in_space
from mec_gym.core.checks import positive_int
from mec_gym.core.env import MecEnv
from mec_gym.core.problem import AnyProblem


class Predictor(Protocol):
    """Whatever maps a batch of observations to a batch of actions, as SB3's models do."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions (B, ...) for observations (B, ...), and a memory that is handed back."""
        ...


@dataclass(frozen=True, slots=True)
class Rollout:
    """n finished episodes.

    Attributes:
        returns: (n,) sum of rewards.
        rewards: (n, T); 0 after an episode's end.
        outcomes: The problem's outcome record, fields (n, T).
        decisions: The problem's decision record, fields (n, T).
        played: (n, T) whether the slot was played before the episode's end.
        decision_seconds: Wall time spent in ``predict``, all episodes together.
    """

    returns: npt.NDArray[np.float64]
    rewards: npt.NDArray[np.float64]
    outcomes: Any
    decisions: Any
    played: npt.NDArray[np.bool_]
    decision_seconds: float


def sample_episodes(problem: AnyProblem, seed: int, episodes: int) -> Any:
    """The first episode of each of the seeds seed, seed + 1, ..., fields (episodes, T, ...).

    Episode i is what ``env.reset(seed=seed + i)`` begins.
    """
    positive_int("episodes", episodes)
    first = []
    for i in range(episodes):
        env = MecEnv(problem)
        env.reset(seed=seed + i)
        first.append(env.trace)
    return arrays.stack(first)


def rollout(problem: AnyProblem, agent: Predictor, trace: Any) -> Rollout:
    """Let an agent play every episode of a trace, one batched decision a slot.

    Args:
        problem: What is played.
        agent: Asked with ``deterministic=True``.
        trace: Fields (n, T, ...).

    Raises:
        ValueError: The agent's action is outside the space.
    """
    slot = arrays.at(trace, (slice(None), 0))
    state = problem.start(slot)
    running = ~problem.done(state)
    n = len(running)
    rewards = np.zeros((n, problem.horizon))
    played = np.zeros((n, problem.horizon), dtype=np.bool_)
    outcomes, decisions = [], []
    memory: Any = None
    seconds = 0.0
    for t in range(problem.horizon):
        slot = arrays.at(trace, (slice(None), t))
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
        rewards.sum(axis=1), rewards, over_time(outcomes), over_time(decisions), played, seconds
    )
