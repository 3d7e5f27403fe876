"""The environments of one worker: it plays T steps of B of them per update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agents.a3c.settings import A3CSettings
from agents.heads import Head
from agents.networks import PolicyNetwork
from agents.networks.parts import width_of
from mec_gym.core.packing import array_of, pack, unpack
from mec_gym.core.problem import AnyProblem
from mec_gym.core.seeds import TRAIN_SEED
from mec_gym.core.types import BoolArray, FloatArray
from mec_gym.core.vector_env import MecVectorEnv


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What T steps of B environments brought.

    Attributes:
        inputs: Network inputs in the states s_0, ..., s_T, float32 (T + 1, B, D).
        actions: Raw outputs that the network chose, its N parts, (T, B, N).
        rewards: Scaled rewards, (T, B), see :func:`agents.a3c.losses.advantages`.
        ended: Whether an episode ended with the step, (T, B).
        parts: Every cost and gain of the problem by name, (T, B) each.
        episode_returns: Return of each episode that ended.
        episode_lengths: Number of steps of each episode that ended.
    """

    inputs: Tensor
    actions: Tensor
    rewards: FloatArray
    ended: BoolArray
    parts: dict[str, FloatArray]
    episode_returns: list[float]
    episode_lengths: list[int]


class Collector:
    """Plays a policy in B native environments and writes down what happens.

    Args:
        problem: The problem that is played.
        head: The head that stands between environments and network.
        settings: The settings that say what B, T, the discount and the reward's scale are.
        seed: Seed of the run.
        worker: Number of the worker, from 0 on; each worker has generators of its own.
    """

    def __init__(
        self, problem: AnyProblem, head: Head, settings: A3CSettings, seed: int, worker: int
    ) -> None:
        self.head = head
        self.settings = settings
        self.env = MecVectorEnv(problem, settings.num_envs)
        first = TRAIN_SEED + (seed * settings.workers + worker) * settings.num_envs
        self.observation, _ = self.env.reset(seed=first)
        self.generator = torch.Generator()
        self.generator.manual_seed(int(np.random.SeedSequence([seed, worker]).generate_state(1)[0]))
        self._returns = np.zeros(settings.num_envs)
        self._lengths = np.zeros(settings.num_envs, dtype=np.int64)

    @torch.no_grad()
    def collect(self, network: PolicyNetwork) -> Batch:
        """Play the next T steps by drawing from a network's policy."""
        settings, head = self.settings, self.head
        shape = (settings.n_steps, settings.num_envs)
        inputs = torch.empty(shape[0] + 1, shape[1], width_of(head.input_space))
        seen = inputs.numpy()
        actions = torch.empty(*shape, network.choices, dtype=network.action_type)
        raw = actions.numpy().reshape(*shape, *(head.output_space.shape or ()))
        rewards = np.empty(shape)
        ended = np.empty(shape, dtype=np.bool_)
        problem = self.env.problem
        parts = {name: np.empty(shape) for name in (*problem.costs, *problem.gains)}
        episode_returns: list[float] = []
        episode_lengths: list[int] = []
        seen[0] = head.inputs(self.observation)
        for t in range(shape[0]):
            before = self.observation
            actions[t], _, _ = network.choose(inputs[t], self.generator)
            self.observation, reward, terminated, truncated, info = self.env.step(
                head.act(before, raw[t])
            )
            seen[t + 1] = head.inputs(self.observation)
            rewards[t] = (reward - head.usual_reward(before)) * settings.reward_scale
            ended[t] = terminated | truncated
            for name, values in parts.items():
                values[t] = info[name]
            self._returns += reward
            self._lengths += 1
            if ended[t].any():
                if truncated.any():
                    rewards[t, truncated] += settings.gamma * self._last_values(
                        network, info["final_obs"][truncated]
                    )
                over = ended[t]
                episode_returns += self._returns[over].tolist()
                episode_lengths += self._lengths[over].tolist()
                self._returns[over] = 0.0
                self._lengths[over] = 0
        return Batch(
            inputs=inputs,
            actions=actions,
            rewards=rewards,
            ended=ended,
            parts=parts,
            episode_returns=episode_returns,
            episode_lengths=episode_lengths,
        )

    def _last_values(
        self, network: PolicyNetwork, observations: npt.NDArray[np.object_]
    ) -> npt.NDArray[np.float32]:
        """Ask the critic for the values of the states in which time ran out, (n,)."""
        last = self.head.inputs(np.stack(list(observations)))
        _, values = network(torch.from_numpy(last))
        return values.numpy()

    def memory(self) -> bytes:
        """Write down everything that the next steps depend on, but for the network."""
        return pack(
            {
                "env": self.env.state(),
                "returns": self._returns,
                "lengths": self._lengths,
                "generator": self.generator.get_state().numpy(),
            }
        )

    def remember(self, memory: bytes) -> None:
        """Go on from where ``memory`` was taken; no code of it is run.

        Args:
            memory: What :meth:`memory` returned.

        Raises:
            ValueError: The memory is of another problem, or damaged.
        """
        state = unpack(memory)
        self._returns = array_of(state, "returns", self._returns)
        self._lengths = array_of(state, "lengths", self._lengths)
        now = self.generator.get_state().numpy()
        self.generator.set_state(torch.from_numpy(array_of(state, "generator", now)))
        self.observation = self.env.load_state(state["env"])
