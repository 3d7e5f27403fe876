"""What is written down while an agent learns."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, Logger

from agents.protocol import Agent
from agents.sb3_vec import MixedVecEnv, SB3VecEnv
from mec_gym.core import arrays
from mec_gym.core.pictures import new_figure
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import Rollout, rollout, sample_episodes
from mec_gym.core.seeds import EVAL_SEED
from train.evaluate import summarise


class Evaluation:
    """Plays the same episodes each time: seeds 1 000 000 and up, which no training meets.

    Args:
        problem: What is played.
        agent: The agent that learns.
        episodes: Episodes of an evaluation.
    """

    def __init__(self, problem: AnyProblem, agent: Agent, episodes: int) -> None:
        self.problem = problem
        self.agent = agent
        self.trace = sample_episodes(problem, EVAL_SEED, episodes)
        self.bound = problem.bound(self.trace)

    def record(self, logger: Logger) -> None:
        """Play and tell the logger return, gap and a picture of the decisions."""
        played = rollout(self.problem, self.agent, self.trace)
        result = summarise("learner", played, self.bound, played.returns)
        for name in (
            "return_mean", "latency_s_mean", "latency_s_p95", "energy_j_mean", "drops_mean",
            "gap_percent_mean",
        ):  # fmt: skip
            logger.record(f"eval/{name}", getattr(result, name))
        logger.record(
            "eval/decisions",
            Figure(decisions_figure(played), close=False),
            exclude=("stdout", "log", "json", "csv"),
        )


def record_rollout(
    logger: Logger, latency: npt.NDArray[Any], energy: float, dropped: float
) -> None:
    """Tell the logger what happened while learning.

    Args:
        logger: SB3's.
        latency: Of steps, s.
        energy: Mean of a step, J.
        dropped: Mean of a step.
    """
    logger.record("rollout/latency_s_mean", float(latency.mean()))
    logger.record("rollout/latency_s_p95", float(np.percentile(latency, 95)))
    logger.record("rollout/energy_j_per_step", energy)
    logger.record("rollout/drop_rate", dropped)


class Metrics(BaseCallback):
    """Latency, energy and drops of every rollout; return and gap of every evaluation.

    Args:
        problem: What is played.
        agent: The agent that learns.
        eval_every: Steps between two evaluations.
        eval_episodes: Episodes of an evaluation.
    """

    def __init__(
        self, problem: AnyProblem, agent: Agent, eval_every: int, eval_episodes: int
    ) -> None:
        super().__init__()
        self.eval_every = eval_every
        self.evaluation = Evaluation(problem, agent, eval_episodes)
        self._latency: list[Any] = []
        self._energy: list[Any] = []
        self._dropped: list[Any] = []
        self._clock = (0.0, 0)

    def _on_training_start(self) -> None:
        self._clock = (time.perf_counter(), self.num_timesteps)
        # A run that is resumed has been evaluated up to here.
        self._evaluated = self.num_timesteps // self.eval_every
        if self.num_timesteps == 0:
            self.evaluate()

    def _on_step(self) -> bool:
        env = self.training_env
        assert isinstance(env, (SB3VecEnv, MixedVecEnv))
        self._latency.append(env.parts["latency_s"])
        self._energy.append(env.parts["energy_j"])
        self._dropped.append(env.parts["dropped"])
        return True

    def _on_rollout_end(self) -> None:
        record_rollout(
            self.logger,
            np.concatenate(self._latency),
            float(np.mean(self._energy)),
            float(np.mean(self._dropped)),
        )
        self._latency, self._energy, self._dropped = [], [], []
        then, steps = self._clock
        now = time.perf_counter()
        self.logger.record("time/steps_per_second", (self.num_timesteps - steps) / (now - then))
        self._clock = (now, self.num_timesteps)

    def _on_rollout_start(self) -> None:
        if self.num_timesteps // self.eval_every > self._evaluated:
            self._evaluated = self.num_timesteps // self.eval_every
            self.evaluate()

    def _on_training_end(self) -> None:
        self.evaluate()

    def evaluate(self) -> None:
        """Play the evaluation episodes and write everything down."""
        self.evaluation.record(self.logger)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)


def decisions_figure(played: Rollout) -> Any:
    """How each part of the decision is spread over episodes, slot by slot.

    Of parts (n, T) and of whole numbers (n, T, N), all N together.
    """
    names = [
        name
        for name, field in arrays.as_dict(played.decisions).items()
        if np.ndim(field) == 2 or (np.ndim(field) == 3 and np.issubdtype(field.dtype, np.integer))
    ]
    figure = new_figure(10, 2.2 * len(names))
    axes = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        values = getattr(played.decisions, name)
        if values.ndim == 3:
            values = values.swapaxes(1, 2).reshape(-1, values.shape[1])
        slots = np.arange(1, values.shape[1] + 1)
        axis.set_title(name.replace("_", " "), loc="left", fontsize="medium")
        if len(slots) == 1:
            axis.hist(values[:, 0], bins=40)
            axis.set_ylabel("episodes")
            continue
        if np.issubdtype(values.dtype, np.integer):
            shares = [(values == k).mean(axis=0) for k in range(int(values.max()) + 1)]
            axis.stackplot(slots, shares, labels=[str(k) for k in range(len(shares))])
            axis.set_ylabel("share of episodes")
        else:
            low, middle, high = np.percentile(values, [10, 50, 90], axis=0)
            axis.fill_between(slots, low, high, alpha=0.3, label="10-90 %")
            axis.plot(slots, middle, marker=".", label="median")
        axis.legend(bbox_to_anchor=(1, 1), loc="lower right", ncols=9, fontsize="x-small")
        axis.set_xlim(0.5, slots[-1] + 0.5)
        axis.set_xlabel("slot")
    return figure
