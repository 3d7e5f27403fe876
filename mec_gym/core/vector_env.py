"""MecVectorEnv: any problem as one batched Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import error
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from mec_gym.core import arrays
from mec_gym.core.actions import action_in_space
from mec_gym.core.checks import positive_int
from mec_gym.core.env import trace_in_options
from mec_gym.core.episodes import EpisodeQueue
from mec_gym.core.packing import array_of
from mec_gym.core.problem import AnyProblem
from mec_gym.core.types import BoolArray, FloatArray


class MecVectorEnv(VectorEnv[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[Any]]):
    """Plays any :class:`~mec_gym.core.problem.Problem` in B environments at once.

    It equals B single environments that are seeded ``seed + i``, bit for bit. An episode that
    ends is replaced by the next within the same step (Gymnasium's autoreset mode SAME_STEP);
    its last observation and info are ``infos["final_obs"]`` and ``infos["final_info"]``.

    Args:
        problem: The problem that is played.
        num_envs: B, the number of environments.

    Raises:
        ValueError: ``num_envs`` is below 1; on reset, the trace does not hold B episodes of
            this problem; on step, an action is outside the space.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - an instance variable in Gymnasium
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, problem: AnyProblem, num_envs: int = 1) -> None:
        positive_int("num_envs", num_envs)
        self.problem = problem
        self.num_envs = int(num_envs)
        self.single_observation_space = problem.observation_space
        self.single_action_space = problem.action_space
        self.observation_space = batch_space(problem.observation_space, num_envs)
        self.action_space = batch_space(problem.action_space, num_envs)
        self._queue: EpisodeQueue | None = None
        self._t = np.zeros(num_envs, dtype=np.int64)
        self._slot: Any = None
        self._state: Any = None
        self._all = np.ones(num_envs, dtype=np.bool_)

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

        Returns:
            The first observations, (B, observation), and an empty dictionary.
        """
        trace = trace_in_options(options, self.problem, self.num_envs)
        seeds: Sequence[int | None]
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise ValueError(f"seed must hold {self.num_envs} seeds, got {len(seeds)}")
        if self._queue is None:
            self._queue = EpisodeQueue(self.problem, [seeding.np_random(s)[0] for s in seeds])
        else:
            for row, one in enumerate(seeds):
                if one is not None:
                    self._queue.reseed(row, seeding.np_random(one)[0])
        if trace is not None:
            self._queue.replay(trace)
        self._queue.advance(self._all)
        self._t[:] = 0
        self._slot = self._queue.slot(self._t)
        self._state = self.problem.start(self._slot)
        return self.problem.observe(self._slot, self._state), {}

    def step(
        self, actions: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float32], FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Apply one action per environment; where an episode ends, the next one begins.

        Args:
            actions: The actions, (B, ...).

        Returns:
            The observations, (B, observation); rewards, terminations and truncations, (B,);
            and the parts of the outcomes, (B,), each with a mask of where it is valid.
        """
        if self._queue is None:
            raise error.ResetNeeded("call reset() before step()")
        problem = self.problem
        decision = problem.decision(
            action_in_space(self.single_action_space, actions, (self.num_envs,))
        )
        self._state, outcome = problem.step(self._slot, self._state, decision)
        reward = problem.reward(outcome)
        self._t += 1
        terminated = problem.done(self._state)
        truncated = ~terminated & (self._t >= problem.horizon)
        ended = terminated | truncated

        parts = arrays.as_dict(outcome)
        infos = self._with_masks(parts, ~ended)
        if not ended.any():
            self._slot = self._queue.slot(self._t)
        else:
            infos["final_obs"] = self._final_observations(ended)
            infos["final_info"] = self._with_masks(parts, ended)
            infos["_final_obs"] = infos["_final_info"] = ended
            self._queue.advance(ended)
            self._t[ended] = 0
            self._slot = self._queue.slot(self._t)
            fresh = problem.start(self._slot)
            self._state = fresh if ended.all() else arrays.where(ended, fresh, self._state)
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
        slot = queue.slot(t)
        fields = state["state"]
        for name, field in fields.items():
            if np.shape(field)[:1] != (self.num_envs,):
                raise ValueError(f"state.{name} must have {self.num_envs} rows")
        record = arrays.from_dict(type(self.problem.start(slot)), fields)
        observation = self.problem.observe(slot, record)
        self._queue, self._t, self._slot, self._state = queue, t, slot, record
        return observation

    def _final_observations(self, ended: BoolArray) -> npt.NDArray[np.object_]:
        """The last observations of the episodes that ended.

        They show the last slot, since there is no next one.
        """
        rows = np.flatnonzero(ended)
        last = self.problem.observe(arrays.at(self._slot, rows), arrays.at(self._state, rows))
        final = np.full(self.num_envs, None, dtype=object)
        final[rows] = np.fromiter(last, dtype=object, count=len(rows))
        return final

    @staticmethod
    def _with_masks(parts: dict[str, Any], mask: BoolArray) -> dict[str, Any]:
        """The parts, and for each of them where it is valid, as Gymnasium names it."""
        infos = dict(parts)
        infos.update({f"_{name}": mask for name in parts})
        return infos
