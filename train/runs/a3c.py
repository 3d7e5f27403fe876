"""An A3C run: a folder as PPO's, written by the parent of the workers."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from tqdm import tqdm

from agents.a3c.agent import MODEL_FILE
from agents.a3c.trainer import Memory, Trainer
from agents.a3c.worker import Report, first_network
from agents.heads import make_head
from agents.networks import PolicyNetwork
from agents.networks.agent import network_agent, save_network
from agents.runs import CONFIG_FILE, read_config
from agents.trained_agent import TrainedAgent
from mec_gym.registration import make_problem
from train.config import A3CRun
from train.evaluation.tensorboard import Evaluation, record_rollout
from train.runs.folder import (
    advance,
    begin,
    open_checkpoint,
    progress_bar,
    start_log,
    write_checkpoint,
)
from train.runs.interrupts import HOW_TO_GO_ON, Interrupted, StopFlag, stop_on_interrupt

RUN_FILES = (CONFIG_FILE, MODEL_FILE, "progress.csv", "checkpoints")
LOG_EVERY = 2.0
"""Seconds between two rows of rollout statistics, at least."""


def save_checkpoint(folder: Path, memory: Memory) -> None:
    """Write everything the run consists of."""
    learner = io.BytesIO()
    torch.save(memory.adam, learner)
    parts = {"learner.pt": learner.getvalue()}
    parts |= {_worker(i): content for i, content in enumerate(memory.workers)}
    write_checkpoint(folder, memory.steps, parts)


def load_checkpoint(path: Path, workers: int) -> Memory:
    """Read a checkpoint.

    Only open checkpoints you trust: the workers will unpickle their parts.

    Raises:
        ValueError: The file is truncated or damaged.
    """
    names = [_worker(i) for i in range(workers)]
    with open_checkpoint(path, ["learner.pt", *names]) as parts:
        adam = torch.load(io.BytesIO(parts["learner.pt"]), weights_only=True)
    steps = int(path.stem.removeprefix("step-"))
    return Memory(steps, adam, [parts[name] for name in names])


def _worker(index: int) -> str:
    return f"worker-{index}.pkl"


class Progress:
    """What workers report, gathered and handed to the logger from time to time.

    Attributes:
        steps: Of which something has been reported.

    Args:
        logger: SB3's.
        bar: Shows how far the run is.
        steps: That had been played before.
        rollout: Steps of an update.
    """

    def __init__(self, logger: Logger, bar: tqdm[Any], steps: int, rollout: int) -> None:
        self.logger = logger
        self.steps = steps
        self._bar = bar
        self._rollout = rollout
        self._gathered = Report()
        self.begin()

    def begin(self) -> None:
        """Start the clock."""
        self._clock = time.monotonic()

    def add(self, report: Report) -> None:
        """Take up a report; write a row if the last one is old."""
        self._gathered.add(report)
        self.steps += report.updates * self._rollout
        advance(self._bar, self.steps)
        if time.monotonic() - self._clock >= LOG_EVERY:
            self.write()

    def write(self) -> None:
        """Write a row of everything since the last one, if there is anything."""
        gathered, logger = self._gathered, self.logger
        if not gathered.updates:
            return
        record_rollout(logger, gathered.means(gathered.outcomes), gathered.samples)
        if gathered.episode_returns:
            logger.record("rollout/ep_rew_mean", float(np.mean(gathered.episode_returns)))
            logger.record("rollout/ep_len_mean", float(np.mean(gathered.episode_lengths)))
        for name, value in gathered.means(gathered.sums).items():
            logger.record(f"train/{name}", value)
        logger.record("train/n_updates", self.steps // self._rollout)
        steps, seconds = gathered.updates * self._rollout, time.monotonic() - self._clock
        logger.record("time/steps_per_second", steps / seconds)
        self.dump(self.steps)
        self._gathered = Report()
        self.begin()

    def dump(self, steps: int) -> None:
        """End a row."""
        self.logger.record("time/total_timesteps", steps, exclude="tensorboard")
        self.logger.dump(steps)


def train_a3c(run: A3CRun) -> TrainedAgent:
    """Begin or resume a run.

    Writes into ``run.out``: config.json, progress.csv, TensorBoard events, checkpoints/
    and, at the end, model.pt. Between two evaluations or checkpoints workers are
    asynchronous; there they pause for a moment, so that everything written is consistent
    and, with one worker, reproducible.

    Raises:
        ValueError: Unknown names, a problem without parallel choices, a folder in use, a
            damaged checkpoint, or other settings than the run was begun with.
        ChildProcessError: A worker failed or died; the last checkpoint is as it was.
        Interrupted: After Ctrl-C; the run can be resumed.
    """
    folder, settings = run.out, run.settings
    problem = make_problem(run.env, run.scenario)
    checkpoint = begin(run, RUN_FILES, run.free)
    memory = None if checkpoint is None else load_checkpoint(checkpoint, settings.workers)
    # What the head found out is part of the run.
    known = read_config(folder / CONFIG_FILE).get("head") if run.resume else None
    head = make_head(settings.head, problem, known)
    torch.set_num_threads(1)
    network = first_network(problem, head, settings, run.seed)
    agent = network_agent(network, head)
    trainer = Trainer(problem, head, settings, run.seed, run.total_timesteps, memory)
    if trainer.steps >= run.total_timesteps:
        print(f"{folder} is complete: {trainer.steps} steps")
    else:
        evaluation = Evaluation(problem, agent, run.eval_episodes)
        logger = start_log(run, head.parameters())
        bar = progress_bar(run.total_timesteps, trainer.steps)
        progress = Progress(logger, bar, trainer.steps, settings.rollout)
        try:
            _learn(run, trainer, network, evaluation, progress)
        finally:
            bar.close()
            logger.close()
    trainer.copy_to(network)
    save_network(folder / MODEL_FILE, network)
    return agent


def _learn(
    run: A3CRun,
    trainer: Trainer,
    network: PolicyNetwork,
    evaluation: Evaluation,
    progress: Progress,
) -> None:
    """From milestone to milestone until the run is complete."""
    stop = StopFlag()
    with stop_on_interrupt(stop, "update"), trainer:
        trainer.wait(stop.asked)
        progress.begin()
        steps = trainer.steps
        save, evaluate = False, True
        while trainer.ready:
            over = stop.stop or steps >= run.total_timesteps
            trainer.copy_to(network)
            memory = trainer.memory() if save or over else None
            if not over:
                milestones = (_next(steps, run.eval_every), _next(steps, run.checkpoint_every))
                trainer.release(min(*milestones, run.total_timesteps))
            # While the workers go on: of what was copied. A run that is stopped here is
            # evaluated when it is resumed.
            if memory is not None:
                save_checkpoint(run.out, memory)
            if evaluate and not stop.stop:
                evaluation.record(progress.logger)
                progress.dump(steps)
            if over:
                break
            trainer.wait(stop.asked, progress.add)
            progress.write()
            before, steps = steps, trainer.steps
            save = steps // run.checkpoint_every > before // run.checkpoint_every
            evaluate = (
                steps // run.eval_every > before // run.eval_every or steps >= run.total_timesteps
            )
        if steps < run.total_timesteps:
            raise Interrupted(HOW_TO_GO_ON)


def _next(steps: int, every: int) -> int:
    """The first multiple of ``every`` beyond ``steps``."""
    return (steps // every + 1) * every
