"""MecEnv: any problem as one Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from mec_gym.core import arrays
from mec_gym.core.actions import action_in_space
from mec_gym.core.checks import one_of
from mec_gym.core.episodes import EpisodeQueue
from mec_gym.core.extras import missing_extras_named
from mec_gym.core.problem import AnyProblem, Episode
from mec_gym.core.traces import check_trace

_ONE = np.ones(1, dtype=np.bool_)


def checked_options(
    options: Mapping[str, Any] | None, allowed: tuple[str, ...]
) -> Mapping[str, Any]:
    """The options of a reset, empty if there are none, or a ValueError.

    Args:
        options: What ``reset`` was given.
        allowed: The options that there are.

    Raises:
        ValueError: The options are no dictionary, or one of them does not exist.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ValueError(f"options must be a dictionary or None, got {options!r}")
    unknown = sorted(set(options) - set(allowed), key=str)
    if unknown:
        raise ValueError(f"reset options must be among {allowed}, got {unknown}")
    return options


class MecEnv(gym.Env[npt.NDArray[np.float32], npt.NDArray[Any]]):
    """Plays any :class:`~mec_gym.core.problem.Problem`, one step at a time.

    ``reset(seed=s)`` fixes every episode that follows, whatever is played. The ``info`` of a
    step holds the parts of the step's outcome as plain numbers.

    Args:
        problem: The problem that is played.
        render_mode: None, or ``"rgb_array"`` for pictures.

    Raises:
        ValueError: The render mode is unknown; on reset, the trace is not one of this problem;
            on step, the action is outside the space.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - an instance variable in Gymnasium
        "render_modes": ["rgb_array"],
        "render_fps": 1,
    }

    def __init__(self, problem: AnyProblem, render_mode: str | None = None) -> None:
        if render_mode is not None:
            one_of("render_mode", render_mode, ("rgb_array",))
        self._spec: EnvSpec | None = None
        self.problem = problem
        self.render_mode = render_mode
        self.observation_space = problem.observation_space
        self.action_space = problem.action_space
        self._queue: EpisodeQueue | None = None
        self._t = -1
        # Slots are views of this copy: later episodes overwrite the queue, but never the copy.
        self._episode: Any = None
        self._slot: Any = None
        self._state: Any = None
        self._states: list[Any] = []  # the first ones, as far as anybody has asked for them
        self._decisions: list[Any] = []
        self._outcomes: list[Any] = []

    @property
    def spec(self) -> EnvSpec | None:
        """How ``gymnasium.make`` made it; ``max_episode_steps`` is the horizon of its scenario."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        # Gymnasium leaves it empty: the id has no limit, since every scenario has its own.
        self._spec = spec and replace(spec, max_episode_steps=self.problem.horizon)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seeds the generator of this and all later episodes; with None, the
                environment goes on with the generator that it has.
            options: ``{"trace": trace}`` plays the given episode instead of a drawn one:
                fields (T, ...), as :attr:`trace` returns them, or (1, T, ...).

        Returns:
            The first observation, and an empty dictionary.
        """
        trace = checked_options(options, ("trace",)).get("trace")
        if trace is not None:
            trace = check_trace(self.problem, trace, episodes=1)
        super().reset(seed=seed)
        if self._queue is None or seed is not None:
            self._queue = EpisodeQueue(self.problem, [self.np_random])
        if trace is not None:
            self._queue.replay(trace)
        self._queue.advance(_ONE)
        self._t = 0
        self._episode = self._queue.episode(0)
        self._slot = arrays.slot_of(self._episode, 0)
        self._state = self.problem.start(self._slot)
        self._states, self._decisions, self._outcomes = [self._state], [], []
        return self.problem.observe(self._slot, self._state), {}

    def step(
        self, action: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Apply an action to the slot at hand.

        Args:
            action: An action in the space.

        Returns:
            The observation, the reward, whether the problem says that the episode has ended,
            whether its T slots are over without that, and the parts of the outcome.
        """
        if self._queue is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        if self._t >= self.problem.horizon:
            raise gym.error.ResetNeeded("the episode is over: call reset()")
        problem = self.problem
        # The decision may be a view of the action, and the caller may write to that again.
        decision = problem.decision(action_in_space(self.action_space, action).copy())
        state, outcome = problem.step(self._slot, self._state, decision)
        self._state = state
        self._decisions.append(decision)
        self._outcomes.append(outcome)
        self._t += 1
        terminated = bool(problem.done(state))
        truncated = not terminated and self._t >= problem.horizon
        if terminated:
            self._t = problem.horizon
        if self._t < problem.horizon:
            self._slot = arrays.slot_of(self._episode, self._t)
        info = {name: value.item() for name, value in arrays.as_dict(outcome).items()}
        observation = problem.observe(self._slot, state)
        return observation, float(problem.reward(outcome)), terminated, truncated, info

    @property
    def trace(self) -> Any:
        """A copy of nature's part of the episode that is being played, hidden parts included.

        Its fields are (T, ...), or (1, ...) for what holds during the whole episode.
        ``reset(options={"trace": trace})`` plays it again.
        """
        if self._queue is None:
            raise gym.error.ResetNeeded("call reset() before asking for the trace")
        return self._queue.episode(0)

    @property
    def now(self) -> tuple[Any, Any]:
        """The slot and the state that the next action meets."""
        if self._queue is None:
            raise gym.error.ResetNeeded("call reset() before asking for slot and state")
        return self._slot, self._state

    @property
    def episode(self) -> Episode[Any, Any, Any, Any]:
        """What has happened so far in the episode that is being played.

        States may be large, since they may hold the weights of models. So those that are past are
        not kept but computed again from the trace and the decisions, when they are asked for.
        """
        trace = self.trace
        while len(self._states) < len(self._decisions):
            t = len(self._states) - 1
            slot = arrays.slot_of(self._episode, t)
            self._states.append(self.problem.step(slot, self._states[t], self._decisions[t])[0])
        if len(self._states) == len(self._decisions):
            self._states.append(self._state)
        return Episode(
            trace=trace,
            states=self._states.copy(),
            decisions=self._decisions.copy(),
            outcomes=self._outcomes.copy(),
        )

    def render(self) -> npt.NDArray[np.uint8] | None:
        """A picture of the episode so far, (H, W, 3), or None without a render mode.

        Raises:
            MissingExtra: matplotlib is not installed; the message says how to install it.
        """
        if self.render_mode is None:
            gym.logger.warn("render() needs gym.make(..., render_mode='rgb_array')")
            return None
        if self._queue is None:
            raise gym.error.ResetNeeded("call reset() before render()")
        with missing_extras_named():
            from mec_gym.core.pictures import to_array

            return to_array(self.problem.draw(self.episode))
