"""The log of an agent that learns; docs/training.md explains every name in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from platform import python_version
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, HParam, Logger, TensorBoardOutputFormat

from agents.ppo.vec_env import MixedVecEnv, SB3VecEnv
from agents.protocol import Agent
from agents.registry import agents_for, make_agent
from mec_gym.core.checks import one_of
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.seeds import EVAL_SEED
from mec_gym.core.types import FloatArray
from train.evaluation.evaluate import Result, expectation, interval, play_all, summarise
from train.evaluation.online import computed_online_bound
from train.evaluation.pictures import decisions_figure

_NAMES = {"energy_j": "energy_j_per_step", "dropped": "drop_rate"}
"""Parts of the outcome whose mean per step has a name of its own."""


_ONLY_TENSORBOARD = ("stdout", "log", "json", "csv")
_LIBRARIES = ("mec-gym", "gymnasium", "numpy", "stable-baselines3", "torch")
_LAYOUT = {
    "evaluation": {
        "return, bound and best rule": [
            "Multiline",
            ["eval/return_mean", "eval/return_bound", "eval/return_rule"],
        ],
        "return with its 95 % interval": [
            "Margin",
            ["eval/return_mean", "eval/return_ci95_low", "eval/return_ci95_high"],
        ],
        "expected return and online bound": [
            "Multiline",
            ["eval/online_expected_return", "eval/online_bound"],
        ],
    }
}
"""The pages of TensorBoard's tab CUSTOM SCALARS: lines that belong into one chart."""


def record_configuration(logger: Logger, config: Mapping[str, Any]) -> None:
    """Log what a run is: as a text, as hyperparameters, and how its lines belong together.

    Args:
        logger: SB3's logger.
        config: The configuration of the run, as it stands in its file.
    """
    flat = dict(_flattened(config))
    rows = [*flat.items(), ("python", python_version())]
    rows += [(name, version(name)) for name in _LIBRARIES]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    text = f"| setting | value |\n|---|---|\n{table}"
    logger.record("run/configuration", text, exclude=_ONLY_TENSORBOARD)
    plain = {
        name: value if isinstance(value, (bool, int, float)) else str(value)
        for name, value in flat.items()
    }
    # The value is only a place for the tag, which every evaluation writes.
    hyperparameters = HParam(plain, {"eval/return_mean": 0.0})
    logger.record("run/hyperparameters", hyperparameters, exclude=_ONLY_TENSORBOARD)
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_custom_scalars(_LAYOUT)


def _flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class Evaluation:
    """Plays the same episodes each time: those of seeds 1 000 000 and up, which no training meets.

    Args:
        problem: The problem that is played.
        agent: The agent that learns.
        episodes: Number of episodes per evaluation.
        rule: Name of the agent that the learner is to beat, which plays the same episodes once;
            by default the first one that plays the problem; ``none`` for none.
        online: Whether to compute the online bound, if the problem offers one.

    Raises:
        ValueError: No agent of that name plays the problem.
    """

    def __init__(
        self,
        problem: AnyProblem,
        agent: Agent,
        episodes: int,
        rule: str | None = None,
        online: bool = False,
    ) -> None:
        self.problem = problem
        self.agent = agent
        self.trace = sample_episodes(problem, EVAL_SEED, episodes)
        self.bound = problem.bound(self.trace)
        self.rule_return: float | None = None
        names = agents_for(problem)
        name = rule or names[0]
        one_of("rule", name, (*names, "none"))
        if name != "none":
            played = play_all(problem, make_agent(name, problem), self.trace)
            self.rule_return = float(played.returns.mean())
        self.online = computed_online_bound(problem) if online else None

    def record(self, logger: Logger) -> Result:
        """Play, and log the return, the gap, costs, gains and a picture of the decisions."""
        played = rollout(self.problem, self.agent, self.trace)
        online = self.online
        expected = None if online is None else expectation(played, online, self.trace)
        result = summarise("learner", played, self.bound, online=expected)
        low, high = interval(result.rollout.returns)
        logger.record("eval/return_mean", result.return_mean)
        logger.record("eval/return_ci95_low", low)
        logger.record("eval/return_ci95_high", high)
        if self.bound is not None:
            logger.record("eval/return_bound", float(self.bound.mean()))
        if self.rule_return is not None:
            logger.record("eval/return_rule", self.rule_return)
        for part in (*self.problem.costs, *self.problem.gains):
            if part.endswith("_s"):
                logger.record(f"eval/{part}_mean", result.outcome_means[part])
                logger.record(f"eval/{part}_p95", result.outcome_p95[part])
            elif part.endswith("_j"):
                logger.record(f"eval/{part}_mean", result.outcome_sums[part])
            elif part == "dropped":
                logger.record("eval/drops_mean", result.outcome_sums[part])
            else:
                logger.record(f"eval/{part}_mean", result.outcome_means[part])
        if result.gap_percent_mean is not None:
            logger.record("eval/gap_percent_mean", result.gap_percent_mean)
        if result.online is not None:
            logger.record("eval/online_bound", result.online.bound)
            logger.record("eval/online_expected_return", result.online.expected_return)
            logger.record("eval/online_gap_percent", result.online.gap_percent)
        logger.record(
            "eval/decisions",
            Figure(decisions_figure(result.rollout), close=False),
            exclude=_ONLY_TENSORBOARD,
        )
        return result


def record_rollout(
    logger: Logger, means: Mapping[str, float], samples: Mapping[str, FloatArray]
) -> None:
    """Log what happened while learning.

    Args:
        logger: SB3's logger.
        means: Mean per step of every cost and gain of the problem, by name.
        samples: Values of those that are times, s; their 95th percentile is logged.
    """
    for part, mean in means.items():
        logger.record(f"rollout/{_NAMES.get(part, f'{part}_mean')}", mean)
    for part, values in samples.items():
        logger.record(f"rollout/{part}_p95", float(np.percentile(values, 95)))


class Metrics(BaseCallback):
    """Logs costs and gains of every rollout, and every evaluation.

    Args:
        evaluation: The evaluation that is repeated.
        eval_every: Number of environment steps between two evaluations.
        take: Function that is given the mean return of each evaluation.
    """

    def __init__(
        self, evaluation: Evaluation, eval_every: int, take: Callable[[float], None]
    ) -> None:
        super().__init__()
        self.take = take
        self.eval_every = eval_every
        self.evaluation = evaluation
        problem = evaluation.problem
        self._parts: dict[str, list[Any]] = {part: [] for part in (*problem.costs, *problem.gains)}
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
        for part, values in self._parts.items():
            values.append(env.parts[part])
        return True

    def _on_rollout_end(self) -> None:
        seen = {part: np.concatenate(values) for part, values in self._parts.items()}
        record_rollout(
            self.logger,
            {part: float(values.mean()) for part, values in seen.items()},
            {part: values for part, values in seen.items() if part.endswith("_s")},
        )
        for values in self._parts.values():
            values.clear()
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
        """Play the evaluation episodes and end the row of the log."""
        self.take(self.evaluation.record(self.logger).return_mean)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
