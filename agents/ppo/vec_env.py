"""The native vector environment as a VecEnv of Stable-Baselines3.

SB3 does not accept Gymnasium vector environments (SB3 issues 1568, 1608, 1745, 2106).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from agents.heads import Head
from mec_gym.core.packing import array_of
from mec_gym.core.vector_env import MecVectorEnv


class SB3VecEnv(VecEnv):
    """The native vector environment behind SB3's interface, with episode statistics.

    ``infos[i]`` holds ``episode`` (as SB3's VecMonitor writes it), ``terminal_observation``,
    ``TimeLimit.truncated`` and the outcome's parts where an episode has ended, and is empty
    elsewhere: one dictionary per environment and step would cost more than the step.

    Args:
        env: The native vector environment.
        head: The head that stands between environment and network; None passes everything
            through.
        reward_scale: The factor that rewards are multiplied by after the head's usual reward
            is subtracted; episode statistics keep the environment's own rewards.
    """

    def __init__(
        self, env: MecVectorEnv, head: Head | None = None, reward_scale: float = 1.0
    ) -> None:
        self.env = env
        self.head = head
        self.reward_scale = reward_scale
        self.parts: dict[str, npt.NDArray[Any]] = {}
        self._observation: npt.NDArray[np.float32] = np.empty(0, np.float32)
        self._actions: npt.NDArray[Any] = np.empty(0)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        self._begin = time.time()
        super().__init__(
            env.num_envs,
            env.single_observation_space if head is None else head.input_space,
            env.single_action_space if head is None else head.output_space,
        )

    def _inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return observation if self.head is None else self.head.inputs(observation)

    def reset(self) -> npt.NDArray[np.float32]:
        """Begin anew; what ``seed()`` and ``set_options()`` were given is used once.

        Raises:
            ValueError: Environments were given different options.
        """
        seeds = None if all(s is None for s in self._seeds) else self._seeds
        if any(options != self._options[0] for options in self._options):
            raise ValueError("options must be the same for all environments of a native batch")
        self._observation, _ = self.env.reset(seed=seeds, options=self._options[0])
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return self._inputs(self._observation)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        """Step; ``self.parts`` then holds each part of the outcome of this step, (B,)."""
        before, actions = self._observation, self._actions
        if self.head is not None:
            actions = self.head.act(before, actions)
        self._observation, reward, terminated, truncated, info = self.env.step(actions)
        self._returns += reward
        self._lengths += 1
        done = terminated | truncated
        # At the top level and in final_info stand the same arrays, of all environments.
        self.parts = {name: info[name] for name in info if not name.startswith(("_", "final_"))}
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        elapsed = round(time.time() - self._begin, 6)
        ended = np.flatnonzero(done)
        last = self._inputs(np.stack(info["final_obs"][ended])) if len(ended) else ()
        for i, terminal in zip(ended, last, strict=True):
            infos[i] = {name: array[i] for name, array in self.parts.items()}
            infos[i]["episode"] = {
                "r": float(self._returns[i]),
                "l": int(self._lengths[i]),
                "t": elapsed,
            }
            infos[i]["terminal_observation"] = terminal
            infos[i]["TimeLimit.truncated"] = bool(truncated[i])
        self._returns[done] = 0.0
        self._lengths[done] = 0
        if self.head is not None:
            reward = reward - self.head.usual_reward(before)
        learnt = (reward * self.reward_scale).astype(np.float32)
        return self._inputs(self._observation), learnt, done, infos

    def state(self) -> dict[str, Any]:
        """Return all that the next steps depend on, as arrays and plain values."""
        return {
            "env": self.env.state(),
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
        }

    def load_state(self, state: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Go on from where :meth:`state` was called, bit for bit.

        Args:
            state: What :meth:`state` returned, of as many environments with the same head.

        Returns:
            What the policy saw then, (B, inputs).

        Raises:
            ValueError: The state is of another problem, or damaged.
        """
        self._returns = array_of(state, "returns", self._returns)
        self._lengths = array_of(state, "lengths", self._lengths)
        self._observation = self.env.load_state(state["env"])
        self._reset_seeds()
        self._reset_options()
        return self._inputs(self._observation)

    def close(self) -> None:
        """Close the native vector environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return the vector environment's attribute, once per index."""
        return [getattr(self.env, attr_name)] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Raise ValueError: single environments of a batch cannot be reached."""
        raise ValueError("the environments of a native batch share their attributes")

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Raise ValueError: single environments of a batch cannot be reached."""
        raise ValueError("the environments of a native batch have no methods of their own")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Answer as if each environment were wrapped in a Monitor.

        It is: ``infos[i]["episode"]`` holds the true return and length.
        """
        return [issubclass(Monitor, wrapper_class)] * self._count(indices)

    def _count(self, indices: VecEnvIndices) -> int:
        if indices is None:
            return self.num_envs
        return len(indices) if isinstance(indices, Sequence) else 1


class MixedVecEnv(VecEnv):
    """Several native vector environments, side by side in one batch.

    So one policy learns several sizes of a problem in every minibatch. Their heads must make
    inputs and take outputs of the same shape.

    Args:
        parts: The environments, each with its head.

    Raises:
        ValueError: The parts have different spaces.
    """

    def __init__(self, parts: Sequence[SB3VecEnv]) -> None:
        self.envs = list(parts)
        self._ends = np.cumsum([env.num_envs for env in self.envs])
        first = self.envs[0]
        for env in self.envs[1:]:
            if (env.observation_space, env.action_space) != (
                first.observation_space,
                first.action_space,
            ):
                raise ValueError(
                    f"all parts must have the spaces {first.observation_space}, "
                    f"{first.action_space}, got {env.observation_space}, {env.action_space}"
                )
        super().__init__(int(self._ends[-1]), first.observation_space, first.action_space)

    @property
    def head(self) -> Head | None:
        """The head of the first part."""
        return self.envs[0].head

    @property
    def parts(self) -> dict[str, npt.NDArray[Any]]:
        """Each part of the outcome of the last step by name, (B,)."""
        names = self.envs[0].parts
        return {name: np.concatenate([env.parts[name] for env in self.envs]) for name in names}

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the environments with seed, seed + 1, ..."""
        super().seed(seed)
        for env, end in zip(self.envs, self._ends, strict=True):
            env.seed(None if seed is None else seed + int(end) - env.num_envs)
        return self._seeds

    def reset(self) -> npt.NDArray[np.float32]:
        """Begin anew.

        Raises:
            ValueError: Options were set; the parts play different problems.
        """
        if any(self._options):
            raise ValueError(f"options are not for a mixed batch, got {self._options[0]}")
        self._reset_seeds()
        return np.concatenate([env.reset() for env in self.envs])

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for ``step_wait``."""
        for env, its in zip(self.envs, np.split(actions, self._ends[:-1]), strict=True):
            env.step_async(its)

    def step_wait(
        self,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[Any], list[dict[str, Any]]]:
        """Step every part and return what all of them return, in one batch."""
        seen, rewards, done, infos = zip(*(env.step_wait() for env in self.envs), strict=True)
        together = [info for part in infos for info in part]
        return np.concatenate(seen), np.concatenate(rewards), np.concatenate(done), together

    def state(self) -> dict[str, Any]:
        """Return all that the next steps depend on, as arrays and plain values."""
        return {"parts": [env.state() for env in self.envs]}

    def load_state(self, state: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Go on from where :meth:`state` was called; see :meth:`SB3VecEnv.load_state`."""
        self._reset_seeds()
        parts = zip(self.envs, state["parts"], strict=True)
        return np.concatenate([env.load_state(one) for env, one in parts])

    def close(self) -> None:
        """Close every part."""
        for env in self.envs:
            env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of every environment.

        Raises:
            ValueError: Only some of the environments are asked for.
        """
        if indices is not None:
            raise ValueError("the environments of a mixed batch have no attributes of their own")
        return [value for env in self.envs for value in env.get_attr(attr_name)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Raise ValueError: single environments of a batch cannot be reached."""
        self.envs[0].set_attr(attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Raise ValueError: single environments of a batch cannot be reached."""
        return self.envs[0].env_method(method_name, *method_args, indices=indices, **method_kwargs)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Answer as if each environment were wrapped in a Monitor."""
        return self.envs[0].env_is_wrapped(wrapper_class, list(self._get_indices(indices)))
