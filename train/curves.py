"""How fast agents learn: evaluations on the way, in steps and in seconds of training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.callbacks import BaseCallback

from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import Trainer
from agents.a3c.worker import first_network
from agents.heads import make_head
from agents.networks.agent import NetworkAgent
from agents.ppo import PPOAgent, PPOSettings, agent_of, make_ppo, make_vec_env
from agents.protocol import Agent
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import rollout
from mec_gym.core.types import FloatArray


@dataclass(frozen=True, slots=True)
class Curve:
    """One run.

    Attributes:
        agent: As it was at the end.
        steps: Environment steps at each evaluation, (E,).
        seconds: Of training, evaluations not counted, (E,).
        returns: Of every episode of the test at each evaluation, (E, n).
    """

    agent: PPOAgent | NetworkAgent
    steps: npt.NDArray[np.int64]
    seconds: FloatArray
    returns: FloatArray


class _Clock:
    """Evaluates, and counts the time in between."""

    def __init__(self, problem: AnyProblem, agent: Agent, trace: Any) -> None:
        self.problem, self.agent, self.trace = problem, agent, trace
        self.steps: list[int] = []
        self.seconds: list[float] = []
        self.returns: list[FloatArray] = []
        self._spent = 0.0
        self._since = time.perf_counter()

    def evaluate(self, steps: int) -> None:
        self._spent += time.perf_counter() - self._since
        self.steps.append(steps)
        self.seconds.append(self._spent)
        self.returns.append(rollout(self.problem, self.agent, self.trace).returns)
        self._since = time.perf_counter()

    def curve(self, agent: PPOAgent | NetworkAgent) -> Curve:
        return Curve(agent, np.array(self.steps), np.array(self.seconds), np.stack(self.returns))


class _Milestones(BaseCallback):
    """Evaluates at the first rollout after each milestone."""

    def __init__(self, clock: _Clock, milestones: list[int]) -> None:
        super().__init__()
        self.clock, self.left = clock, milestones

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.left and self.num_timesteps >= self.left[0]:
            self.left = [m for m in self.left if m > self.num_timesteps]
            self.clock.evaluate(self.num_timesteps)


def learn(
    problem: AnyProblem,
    settings: PPOSettings | A3CSettings,
    seed: int,
    total_timesteps: int,
    trace: Any,
    evaluations: int = 10,
) -> Curve:
    """Train from scratch, without a run's folder.

    Args:
        problem: What is learnt.
        settings: Of PPO or A3C, which says which it is.
        seed: Of networks, environments and minibatches.
        total_timesteps: Environment steps.
        trace: Episodes of the test, fields (n, T, ...).
        evaluations: Between the beginning and the end, the end included.
    """
    milestones = [total_timesteps * k // evaluations for k in range(1, evaluations + 1)]
    head = make_head(settings.head, problem)
    if isinstance(settings, PPOSettings):
        env = make_vec_env(problem, settings)
        model = make_ppo(env, settings, seed)
        agent = agent_of(model, head)
        clock = _Clock(problem, agent, trace)
        clock.evaluate(0)
        model.learn(total_timesteps, callback=_Milestones(clock, milestones[:-1]))
        clock.evaluate(model.num_timesteps)
        return clock.curve(agent)
    network = first_network(problem, head, settings, seed)
    agent = NetworkAgent(network, head)
    with Trainer(problem, head, settings, seed, total_timesteps) as trainer:
        trainer.wait()  # processes begin
        clock = _Clock(problem, agent, trace)
        clock.evaluate(0)
        for milestone in milestones:
            trainer.release(milestone)
            trainer.wait()
            trainer.copy_to(network)
            clock.evaluate(trainer.steps)
    return clock.curve(agent)
