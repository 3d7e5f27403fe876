"""MecVectorEnv: any problem as one batched Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import error
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from mec_gym.core import arrays
from mec_gym.core.actions import action_in_space
from mec_gym.core.checks import positive_int
from mec_gym.core.env import checked_options
from mec_gym.core.episodes import EpisodeQueue
from mec_gym.core.packing import array_of
from mec_gym.core.problem import AnyProblem
from mec_gym.core.traces import check_trace
from mec_gym.core.types import BoolArray, FloatArray


class MecVectorEnv(VectorEnv[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[Any]]):
    """Plays any :class:`~mec_gym.core.problem.Problem` in B environments at once.

    It equals B single environments that are seeded ``seed + i``, bit for bit. What becomes of
    an episode that ends is said by Gymnasium's autoreset mode:

    - SAME_STEP: the next episode begins within the same step. The last observation and info of
      the ended one are ``infos["final_obs"]`` and ``infos["final_info"]``.
    - NEXT_STEP: the next episode begins with the next step, which ignores the action of that
      environment and pays 0.
    - DISABLED: no step is possible until ``reset(options={"reset_mask": ended})``.

    Args:
        problem: The problem that is played.
        num_envs: B, the number of environments.
        max_episode_steps: The number of steps after which an episode is truncated, as
            Gymnasium's TimeLimit would do it; None for no limit but the problem's horizon.
        autoreset_mode: One of Gymnasium's modes, or its value.

    Raises:
        ValueError: ``num_envs`` or ``max_episode_steps`` is below 1, or there is no such mode; on
            reset, an option or the seeds do not fit B environments of this problem; on step,
            an action is outside the space.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - an instance variable in Gymnasium
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        problem: AnyProblem,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
    ) -> None:
        positive_int("num_envs", num_envs)
        if max_episode_steps is not None:
            positive_int("max_episode_steps", max_episode_steps)
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError as unknown:
            modes = ", ".join(mode.value for mode in AutoresetMode)
            raise ValueError(
                f"autoreset_mode must be one of {modes}, got {autoreset_mode!r}"
            ) from unknown
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self._spec: EnvSpec | None = None
        self.problem = problem
        self.num_envs = int(num_envs)
        self.max_episode_steps = max_episode_steps
        self.single_observation_space = problem.observation_space
        self.single_action_space = problem.action_space
        self.observation_space = batch_space(problem.observation_space, num_envs)
        self.action_space = batch_space(problem.action_space, num_envs)
        self._queue: EpisodeQueue | None = None
        self._t = np.zeros(num_envs, dtype=np.int64)
        self._slot: Any = None
        self._state: Any = None
        self._all = np.ones(num_envs, dtype=np.bool_)
        # Where an episode has ended and no other one has begun yet, (B,).
        self._waiting = np.zeros(num_envs, dtype=np.bool_)

    @property
    def spec(self) -> EnvSpec | None:
        """How ``gymnasium.make_vec`` made it; ``max_episode_steps`` is where episodes end."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        steps = self.problem.horizon
        if self.max_episode_steps is not None:
            steps = min(steps, self.max_episode_steps)
        self._spec = spec and replace(spec, max_episode_steps=steps)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin an episode in every environment.

        Args:
            seed: Environment i is seeded ``seed + i``, or ``seed[i]``; with None, it goes on
                with the generator that it has.
            options: ``{"trace": trace}`` plays episode i of a trace of B episodes in
                environment i, fields (B, T, ...), as :attr:`trace` returns them.
                ``{"reset_mask": mask}`` leaves those environments as they are where the mask,
                (B,) of bool, is False; their seeds and episodes are not used.

        Returns:
            The first observations, (B, observation), and an empty dictionary.
        """
        asked = checked_options(options, ("trace", "reset_mask"))
        mask = self._reset_mask(asked)
        trace = asked.get("trace")
        if trace is not None:
            trace = check_trace(self.problem, trace, self.num_envs)
        seeds = self._seeds(seed)
        if self._queue is None:
            self._queue = EpisodeQueue(self.problem, [seeding.np_random(s)[0] for s in seeds])
        else:
            for row, one in enumerate(seeds):
                if one is not None and mask[row]:
                    self._queue.reseed(row, seeding.np_random(one)[0])
        if trace is not None:
            self._queue.replay(trace, mask)
        self._begin(mask)
        self._waiting = self._waiting & ~mask
        return self.problem.observe(self._slot, self._state), {}

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float32], FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Apply one action per environment; where an episode ends, see the class.

        Args:
            actions: The actions, (B, ...).

        Returns:
            The observations, (B, observation); rewards, terminations and truncations, (B,);
            and the parts of the outcomes, (B,), each with a mask of where it is valid.
        """
        if self._queue is None:
            raise error.ResetNeeded("call reset() before step()")
        problem, waiting = self.problem, self._waiting
        some_wait = bool(waiting.any())
        if some_wait and self.autoreset_mode is AutoresetMode.DISABLED:
            raise error.ResetNeeded(
                f"the episodes of environments {np.flatnonzero(waiting).tolist()} are over: call "
                "reset(options={'reset_mask': terminated | truncated})"
            )
        decision = problem.decision(
            action_in_space(
                self.single_action_space, actions, (self.num_envs,), waiting if some_wait else None
            )
        )
        self._state, outcome = problem.step(self._slot, self._state, decision)
        reward = problem.reward(outcome)
        self._t += 1
        terminated = problem.done(self._state)
        truncated = ~terminated & (self._t >= problem.horizon)
        # There is no next slot; where only the limit ends an episode, there may be one.
        over = terminated | truncated
        if self.max_episode_steps is not None:
            truncated = truncated | (self._t >= self.max_episode_steps)
        played = ~waiting
        if some_wait:
            reward = np.where(played, reward, 0.0)
            terminated, truncated = terminated & played, truncated & played
        ended = terminated | truncated
        parts = arrays.as_dict(outcome)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            infos = self._with_masks(parts, ~ended)
            if ended.any():
                infos["final_obs"] = self._final_observations(ended, over)
                infos["final_info"] = self._with_masks(parts, ended)
                infos["_final_obs"] = infos["_final_info"] = ended
                self._begin(ended)
            else:
                self._slot = self._queue.slot(self._t)
        else:
            infos = self._with_masks(parts, played)
            self._t -= over
            self._begin(waiting)
            self._waiting = ended
        return problem.observe(self._slot, self._state), reward, terminated, truncated, infos

    @property
    def trace(self) -> Any:
        """A copy of nature's part of the episodes that are being played, hidden parts included.

        Its fields are (B, T, ...), or (B, 1, ...) for what holds during a whole episode.
        """
        if self._queue is None:
            raise error.ResetNeeded("call reset() before asking for the trace")
        return self._queue.trace()

    def state(self) -> dict[str, Any]:
        """Return all that the next steps depend on, as arrays and plain values.

        :func:`mec_gym.core.packing.pack` writes it; drawn episodes are no part of it, they are
        drawn again.
        """
        if self._queue is None:
            raise error.ResetNeeded("call reset() before asking for the state")
        return {
            "queue": self._queue.state(),
            "t": self._t.copy(),
            "waiting": self._waiting.copy(),
            "state": arrays.as_dict(self._state),
        }

    def load_state(self, state: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Go on from where :meth:`state` was called, bit for bit.

        Args:
            state: What :meth:`state` returned, of as many environments of the same problem.

        Returns:
            The observations as they were then, (B, observation).

        Raises:
            ValueError: The state is of another problem, or damaged.
        """
        queue = EpisodeQueue(self.problem, [seeding.np_random(0)[0] for _ in self._all])
        queue.load_state(state["queue"])
        t = array_of(state, "t", self._t)
        if ((t < 0) | (t >= self.problem.horizon)).any():
            raise ValueError(f"t must be in [0, {self.problem.horizon}), got {t}")
        waiting = array_of(state, "waiting", self._waiting)
        slot = queue.slot(t)
        fields = state["state"]
        for name, field in fields.items():
            if np.shape(field)[:1] != (self.num_envs,):
                raise ValueError(f"state.{name} must have {self.num_envs} rows")
        record = arrays.from_dict(type(self.problem.start(slot)), fields)
        observation = self.problem.observe(slot, record)
        self._queue, self._t, self._waiting = queue, t, waiting
        self._slot, self._state = slot, record
        return observation

    def _begin(self, mask: BoolArray) -> None:
        """Begin the next episode where the mask holds, and read every environment's slot."""
        assert self._queue is not None
        self._queue.advance(mask)
        self._t[mask] = 0
        self._slot = self._queue.slot(self._t)
        if mask.any():
            fresh = self.problem.start(self._slot)
            self._state = fresh if mask.all() else arrays.where(mask, fresh, self._state)

    def _reset_mask(self, options: Mapping[str, Any]) -> BoolArray:
        """The environments that a reset is for, (B,)."""
        if options.get("reset_mask") is None:
            return self._all
        mask = np.asarray(options["reset_mask"])
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(
                f"reset_mask must hold {self.num_envs} values of bool, at least one of them True, "
                f"got {options['reset_mask']!r}"
            )
        if self._queue is None and not mask.all():
            raise error.ResetNeeded("the first reset() must be one of all environments")
        return mask

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One seed per environment; None where it goes on with its generator."""
        if seed is None or isinstance(seed, (int, np.integer)):
            return [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        if not isinstance(seed, (Sequence, np.ndarray)) or len(seed) != self.num_envs:
            raise ValueError(f"seed must be a number or hold {self.num_envs} seeds, got {seed!r}")
        return list(seed)

    def _final_observations(self, ended: BoolArray, over: BoolArray) -> npt.NDArray[np.object_]:
        """The last observations of the episodes that ended.

        They show the last slot, unless there is a next one, which a limit has cut off.
        """
        rows = np.flatnonzero(ended)
        slot = self._slot
        if self.max_episode_steps is not None:
            assert self._queue is not None
            slot = self._queue.slot(self._t - over)
        last = self.problem.observe(arrays.at(slot, rows), arrays.at(self._state, rows))
        final = np.full(self.num_envs, None, dtype=object)
        final[rows] = np.fromiter(last, dtype=object, count=len(rows))
        return final

    @staticmethod
    def _with_masks(parts: dict[str, Any], mask: BoolArray) -> dict[str, Any]:
        """The parts, and for each of them where it is valid, as Gymnasium names it."""
        infos = dict(parts)
        infos.update({f"_{name}": mask for name in parts})
        return infos
