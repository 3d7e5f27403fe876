"""Learning without a run's folder: an agent in one call, or the curve of how fast it learns."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import Trainer
from agents.a3c.worker import Report, first_network
from agents.heads import Head, make_head
from agents.networks.agent import network_agent
from agents.ppo.learning import learn as learn_ppo
from agents.ppo.model import agent_of, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from agents.protocol import Agent
from agents.trained_agent import TrainedAgent
from mec_gym.core.checks import one_of, positive_int, seed_number
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import rollout
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.registration import make_problem
from train.presets import TrainingPreset, find_a3c_preset, find_ppo_preset
from train.runs.folder import advance, progress_bar
from train.runs.interrupts import StopFlag, stop_on_interrupt
from train.runs.ppo import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How an agent got better while it learnt.

    Attributes:
        agent: The agent as it was at the end.
        steps: Number of environment steps at each evaluation, (E,).
        seconds: Time spent on training at each evaluation, evaluations not counted, s, (E,).
        returns: Return of every test episode at each evaluation, (E, n).
    """

    agent: TrainedAgent
    steps: IntArray
    seconds: FloatArray
    returns: FloatArray


class _Clock:
    """Evaluates an agent and counts the time in between."""

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

    def curve(self, agent: TrainedAgent) -> Curve:
        return Curve(
            agent=agent,
            steps=np.array(self.steps),
            seconds=np.array(self.seconds),
            returns=np.stack(self.returns),
        )


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


def learning_curve(
    problem: AnyProblem,
    settings: PPOSettings | A3CSettings,
    seed: int,
    total_timesteps: int,
    trace: Any,
    evaluations: int = 10,
) -> Curve:
    """Train an agent and evaluate it on the way.

    Args:
        problem: The problem that is learnt.
        settings: Settings of PPO or of A3C, which also decide the learner.
        seed: Seed of networks, environments and minibatches.
        total_timesteps: Number of environment steps.
        trace: The test episodes, fields of shape (n, T, ...).
        evaluations: Number of evaluations after the one before learning begins; the last one is
            at the end.
    """
    milestones = [total_timesteps * k // evaluations for k in range(1, evaluations + 1)]
    head = make_head(settings.head, problem)
    if isinstance(settings, PPOSettings):
        env = make_vec_env(problem, settings)
        model = make_ppo(env, settings, seed)
        agent = agent_of(model, head)
        clock = _Clock(problem, agent, trace)
        clock.evaluate(0)
        learn_ppo(model, total_timesteps, [_Milestones(clock, milestones[:-1])])
        clock.evaluate(model.num_timesteps)
        return clock.curve(agent)
    network = first_network(problem, head, settings, seed)
    agent = network_agent(network, head)
    with Trainer(problem, head, settings, seed, total_timesteps) as trainer:
        trainer.wait()  # until the processes are there: their start is no part of learning
        clock = _Clock(problem, agent, trace)
        clock.evaluate(0)
        for milestone in milestones:
            trainer.release(milestone)
            trainer.wait()
            trainer.copy_to(network)
            clock.evaluate(trainer.steps)
    return clock.curve(agent)


def learn(
    env_id: str,
    algo: str = "ppo",
    preset: str | None = None,
    total_timesteps: int | None = None,
    seed: int = 0,
    scenario: Any = None,
    **settings: Any,
) -> TrainedAgent:
    """Train an agent and return it; nothing is written.

    For a run that is logged, evaluated on the way and can be resumed, use ``mec-gym ppo`` and
    ``mec-gym a3c``. Ctrl-C ends learning early, and the agent is returned as it is then.

    Args:
        env_id: Id of the environment.
        algo: Name of the learner: ``ppo``, ``a3c``, or ``mtl-a3c`` for multi-task A3C.
        preset: Name of a preset, see ``mec-gym scenarios``; by default the environment's own.
        total_timesteps: Number of environment steps; by default as many as the preset needs.
        seed: Seed of networks, environments and minibatches.
        scenario: Name of a scenario, ``KIND:PATH`` or a Scenario; by default the environment's
            own.
        **settings: Settings that differ from the preset's, fields of ``PPOSettings`` or
            ``A3CSettings``.

    Raises:
        ValueError: A name is unknown, or a setting has a bad value.
    """
    one_of("algo", algo, ("ppo", "a3c", "mtl-a3c"))
    chosen: TrainingPreset[PPOSettings] | TrainingPreset[A3CSettings]
    if algo == "ppo":
        _, chosen = find_ppo_preset(env_id, preset)
    else:
        _, chosen = find_a3c_preset(env_id, preset, multi_task=algo == "mtl-a3c")
    known = {field.name for field in fields(chosen.settings)}
    if not known.issuperset(settings):
        unknown = ", ".join(sorted(set(settings) - known))
        raise ValueError(f"settings must be among {', '.join(sorted(known))}, got {unknown}")
    total = chosen.total_timesteps if total_timesteps is None else total_timesteps
    positive_int("total_timesteps", total)
    seed_number("seed", seed)
    shaped = replace(chosen.settings, **settings)
    problem = make_problem(env_id, scenario)
    head = make_head(shaped.head, problem)
    if isinstance(shaped, PPOSettings):
        return _learn_ppo(problem, head, shaped, seed, total)
    return _learn_a3c(problem, head, shaped, seed, total)


def _learn_ppo(
    problem: AnyProblem, head: Head, settings: PPOSettings, seed: int, total: int
) -> TrainedAgent:
    model = make_ppo(make_vec_env(problem, settings), settings, seed)
    bar = Progress(total)
    try:
        with stop_on_interrupt(bar, "step"):
            learn_ppo(model, total, [bar])
    finally:
        bar.close()
    return agent_of(model, head)


def _learn_a3c(
    problem: AnyProblem, head: Head, settings: A3CSettings, seed: int, total: int
) -> TrainedAgent:
    network = first_network(problem, head, settings, seed)
    bar, flag = progress_bar(total, 0), StopFlag()
    played = 0

    def show(report: Report) -> None:
        nonlocal played
        played += report.updates * settings.rollout
        advance(bar, played)

    try:
        with (
            stop_on_interrupt(flag, "update"),
            Trainer(problem, head, settings, seed, total) as trainer,
        ):
            trainer.wait(flag.asked)
            if not flag.stop:
                trainer.release(total)
                trainer.wait(flag.asked, show)
            trainer.copy_to(network)
    finally:
        bar.close()
    return network_agent(network, head)
