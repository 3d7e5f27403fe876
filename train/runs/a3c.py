"""An A3C run in a folder; the parent of the workers writes it."""

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
from agents.a3c.collector import Collector
from agents.a3c.shared_adam import SharedAdam
from agents.a3c.trainer import Memory, Trainer
from agents.a3c.worker import Report, first_network
from agents.heads import Head, make_head
from agents.networks import PolicyNetwork
from agents.networks.agent import network_agent, save_network
from agents.trained_agent import TrainedAgent
from mec_gym.core.problem import AnyProblem
from mec_gym.registration import make_problem
from train.config import FREE, A3CRun
from train.evaluation.tensorboard import Evaluation, record_rollout
from train.runs.best import NOTE_FILE, BestModel
from train.runs.folder import (
    COMMON_FILES,
    advance,
    known_head,
    open_checkpoint,
    opened,
    print_end,
    progress_bar,
    start_log,
    write_checkpoint,
)
from train.runs.interrupts import HOW_TO_GO_ON, Interrupted, StopFlag, stop_on_interrupt

BEST_FILE = "best.pt"
RUN_FILES = (*COMMON_FILES, MODEL_FILE, BEST_FILE, NOTE_FILE)
_LEARNER = "learner.pt"
LOG_EVERY = 2.0
"""Shortest time between two rows of rollout statistics, s."""


def save_checkpoint(folder: Path, memory: Memory) -> None:
    """Write everything the run consists of into a checkpoint."""
    learner = io.BytesIO()
    torch.save(memory.adam, learner)
    parts = {_LEARNER: learner.getvalue()}
    parts |= {_worker(i): content for i, content in enumerate(memory.workers)}
    write_checkpoint(folder, memory.steps, parts)


def load_checkpoint(path: Path, run: A3CRun, problem: AnyProblem, head: Head) -> Memory:
    """Read a checkpoint, and check that it is one of this run.

    No code is run: the checkpoint holds tensors, arrays and JSON.

    Raises:
        ValueError: The file is damaged, or was written by another version.
    """
    settings = run.settings
    names = [_worker(i) for i in range(settings.workers)]
    network = first_network(problem, head, settings, run.seed)
    with open_checkpoint(path, [_LEARNER, *names]) as (steps, parts):
        adam = torch.load(io.BytesIO(parts[_LEARNER]), weights_only=True)
        SharedAdam(torch.nn.utils.parameters_to_vector(network.parameters())).load_state(adam)
        for i, name in enumerate(names):
            Collector(problem, head, settings, run.seed, i).remember(parts[name])
    return Memory(steps=steps, adam=adam, workers=[parts[name] for name in names])


def _worker(index: int) -> str:
    return f"worker-{index}.npz"


class Progress:
    """Gathers what workers report and hands it to the logger from time to time.

    Attributes:
        steps: Number of environment steps that have been reported.

    Args:
        logger: SB3's logger.
        bar: The bar that shows how far the run is.
        steps: Number of environment steps that had been played before.
        rollout: Number of environment steps per update.
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
        """Add a report, and write a row if the last one is old."""
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
        """End a row of the log at a number of environment steps."""
        self.logger.record("time/total_timesteps", steps, exclude="tensorboard")
        self.logger.dump(steps)


def train_a3c(run: A3CRun) -> TrainedAgent:
    """Begin or resume a run.

    The folder ``run.out`` comes to hold config.json, progress.csv, TensorBoard events,
    checkpoints/, best.pt (the model with the highest evaluation) and, at the end, model.pt.
    Between two evaluations or checkpoints workers are asynchronous; there they pause for a
    moment, so that everything written is consistent and, with one worker, reproducible.

    Raises:
        ValueError: A name is unknown, the problem has no parallel choices, the folder is in
            use, the checkpoint is damaged, or the settings are not those that the run was begun
            with.
        ChildProcessError: A worker failed or died; the last checkpoint is as it was.
        Interrupted: Ctrl-C or SIGTERM came; the run can be resumed.
    """
    problem = make_problem(run.env, run.scenario)
    with opened(run, RUN_FILES, FREE) as checkpoint:
        return _train(run, problem, checkpoint)


def _train(run: A3CRun, problem: AnyProblem, checkpoint: Path | None) -> TrainedAgent:
    folder, settings = run.out, run.settings
    head = make_head(settings.head, problem, known_head(run))
    memory = None if checkpoint is None else load_checkpoint(checkpoint, run, problem, head)
    torch.set_num_threads(1)
    network = first_network(problem, head, settings, run.seed)
    agent = network_agent(network, head)
    trainer = Trainer(problem, head, settings, run.seed, run.total_timesteps, memory)
    if trainer.steps >= run.total_timesteps:
        print(f"{folder} is complete: {trainer.steps} steps")
    else:
        evaluation = Evaluation(problem, agent, run.eval_episodes, run.rule, run.online_bound)
        logger = start_log(run, head)
        bar = progress_bar(run.total_timesteps, trainer.steps)
        progress = Progress(logger, bar, trainer.steps, settings.rollout)
        try:
            _learn(run, trainer, network, evaluation, progress)
        finally:
            bar.close()
            logger.close()
    trainer.copy_to(network)
    save_network(folder / MODEL_FILE, network)
    print_end(run, "mtl-a3c" if settings.multi_task else "a3c", MODEL_FILE)
    return agent


def _learn(
    run: A3CRun,
    trainer: Trainer,
    network: PolicyNetwork,
    evaluation: Evaluation,
    progress: Progress,
) -> None:
    """Learn from milestone to milestone until the run is complete."""
    stop, best = StopFlag(), BestModel(run.out / BEST_FILE, run.resume)
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
                due = [next_multiple(steps, n) for n in (run.eval_every, run.checkpoint_every)]
                trainer.release(min(*due, run.total_timesteps))
            # What was copied is saved and evaluated while the workers go on. A run that is
            # stopped here is evaluated when it is resumed.
            if memory is not None:
                save_checkpoint(run.out, memory)
            if evaluate and not stop.stop:
                result = evaluation.record(progress.logger)
                progress.dump(steps)
                best.offer(result.return_mean, steps, lambda path: save_network(path, network))
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


def next_multiple(steps: int, every: int) -> int:
    """Return the first multiple of ``every`` beyond ``steps``."""
    return (steps // every + 1) * every
