"""One agent per device: a problem as a parallel environment of PettingZoo.

    from mec_gym.multi_agent import parallel_env
    env = parallel_env("mec/DistributedInference-v1", reward="team")

It needs the extra ``multi-agent``.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from gymnasium import error, spaces

from mec_gym.core.checks import one_of
from mec_gym.core.devices import device_observations, device_spaces
from mec_gym.core.env import MecEnv
from mec_gym.core.extras import missing_extras_named
from mec_gym.core.problem import AnyProblem
from mec_gym.registration import make_problem

with missing_extras_named():
    from pettingzoo import ParallelEnv

Reward = Literal["team", "own"]


def parallel_env(
    env_id: str,
    scenario: Any = None,
    reward: Reward = "team",
    render_mode: str | None = None,
) -> DevicesEnv:
    """Make the environment of an id in which every device is an agent.

    Args:
        env_id: One of ``mec_gym.ENVIRONMENTS`` whose observations have a row per device.
        scenario: As for ``gymnasium.make``.
        reward: ``team``: each agent is paid what all devices earn together, the joint
            environment's reward; ``own``: each is paid its own part of it.
        render_mode: None, or ``"rgb_array"`` for pictures of all devices.

    Raises:
        ValueError: There is no such id, scenario, reward or render mode, or the problem has no
            devices, or cannot say what each of them earns.
    """
    env = DevicesEnv(make_problem(env_id, scenario), reward, render_mode)
    env.metadata = {**env.metadata, "name": env_id}
    return env


class DevicesEnv(ParallelEnv[str, npt.NDArray[np.float32], Any]):  # type: ignore[misc]
    """The devices of one joint environment, which it equals step for step.

    Each agent sees its own row of the joint observation and what all devices have in common;
    :meth:`state` is the joint observation. All agents begin and end together.

    Args:
        problem: A problem with ``device_columns``; with ``device_rewards`` for own rewards.
        reward: ``team`` or ``own``, see :func:`parallel_env`.
        render_mode: None, or ``"rgb_array"``.

    Raises:
        ValueError: An argument is unknown, or does not fit the problem.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - as in PettingZoo
        **MecEnv.metadata,
        "name": "mec_gym",
        "is_parallelizable": True,
    }

    def __init__(
        self, problem: AnyProblem, reward: Reward = "team", render_mode: str | None = None
    ) -> None:
        one_of("reward", reward, get_args(Reward))
        if reward == "own" and not hasattr(problem, "device_rewards"):
            raise ValueError(
                f"reward must be 'team' for {type(problem).__name__}, which does not say what each "
                f"device earns (device_rewards), got {reward!r}"
            )
        self.problem = problem
        self.reward = reward
        self.render_mode = render_mode
        self.joint = MecEnv(problem, render_mode)
        seen, acts = device_spaces(problem)
        self.possible_agents = [f"device_{i}" for i in range(len(acts))]
        self.agents: list[str] = []
        self.observation_spaces = dict(zip(self.possible_agents, seen, strict=True))
        self.action_spaces = dict(zip(self.possible_agents, acts, strict=True))
        self.state_space = problem.observation_space
        self._joint_observation: npt.NDArray[np.float32] | None = None

    def observation_space(self, agent: str) -> spaces.Box:
        """The space of what an agent sees."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The space of an agent's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, dict[str, Any]]]:
        """Begin an episode, the one that the joint environment begins with this seed.

        Args:
            seed: Seeds this and all later episodes; None goes on with the generator there is.
            options: ``{"trace": trace}`` plays a given episode, as in the joint environment.
                Other options are ignored, since PettingZoo hands on what is meant for others.

        Returns:
            The observation of each agent, and an empty dictionary for each.
        """
        known = {name: value for name, value in (options or {}).items() if name == "trace"}
        self._joint_observation, _ = self.joint.reset(seed=seed, options=known)
        self.agents = list(self.possible_agents)
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, npt.NDArray[np.float32]],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Let every device act at once.

        Args:
            actions: The action of each agent.

        Returns:
            Observations, rewards, terminations, truncations and infos, each by agent. Every
            info holds the parts of the joint outcome.

        Raises:
            ValueError: An agent lacks an action, there is no such agent, or an action is outside
                its space.
        """
        if not self.agents:
            raise error.ResetNeeded("no episode is running: call reset()")
        if set(actions) != set(self.agents):
            missing = sorted(set(self.agents) - set(actions))
            unknown = sorted(set(actions) - set(self.agents), key=str)
            raise ValueError(
                f"actions must hold one action per agent, {missing or 'none'} missing, "
                f"{unknown or 'none'} unknown"
            )
        slot, state = self.joint.now
        joint = np.array([actions[agent] for agent in self.agents])
        observation, reward, terminated, truncated, info = self.joint.step(joint)
        self._joint_observation = observation
        rewards = [reward] * len(self.agents)
        if self.reward == "own":
            decision = self.problem.decision(joint)
            own = self.problem.device_rewards(slot, state, decision)  # type: ignore[attr-defined]
            rewards = own.tolist()
        result = (
            self._observations(),
            dict(zip(self.agents, rewards, strict=True)),
            dict.fromkeys(self.agents, terminated),
            dict.fromkeys(self.agents, truncated),
            {agent: dict(info) for agent in self.agents},
        )
        if terminated or truncated:
            self.agents = []
        return result

    def state(self) -> npt.NDArray[np.float32]:
        """The joint observation, for critics that see all devices."""
        if self._joint_observation is None:
            raise error.ResetNeeded("call reset() before state()")
        return self._joint_observation.copy()

    def render(self) -> npt.NDArray[np.uint8] | None:
        """A picture of the episode so far, (H, W, 3), or None without a render mode."""
        return self.joint.render()

    def close(self) -> None:
        """Release what the joint environment holds."""
        self.joint.close()

    def _observations(self) -> dict[str, npt.NDArray[np.float32]]:
        assert self._joint_observation is not None
        rows = device_observations(self.problem, self._joint_observation)
        return dict(zip(self.agents, rows, strict=True))
