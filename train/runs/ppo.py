"""A PPO run in a folder."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from tqdm import tqdm

from agents.heads import make_head
from agents.ppo.model import (
    MODEL_FILE,
    TrainingEnv,
    agent_of,
    make_ppo,
    make_vec_env,
)
from agents.ppo.vec_env import MixedVecEnv, SB3VecEnv
from agents.trained_agent import TrainedAgent
from mec_gym.core.files import write_whole
from mec_gym.registration import make_problem
from train.config import FREE, PPORun
from train.evaluation.tensorboard import Evaluation, Metrics
from train.runs.folder import (
    COMMON_FILES,
    advance,
    begin_run,
    open_checkpoint,
    progress_bar,
    start_log,
    write_checkpoint,
)
from train.runs.interrupts import HOW_TO_GO_ON, Interrupted, stop_on_interrupt

RUN_FILES = (*COMMON_FILES, MODEL_FILE)
_PARTS = ("model.zip", "env.pkl", "random.pkl")


def _model_bytes(model: PPO) -> bytes:
    buffer = io.BytesIO()
    model.save(buffer)
    return buffer.getvalue()


def save_checkpoint(folder: Path, model: PPO, env: TrainingEnv) -> None:
    """Write everything the run consists of: networks, optimiser, environments, generators.

    It must be called between two rollouts. A run that is resumed from here goes on bit for bit
    as if it had never stopped.
    """
    # SB3 shuffles minibatches with numpy's global generator.
    state = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002
    contents = (_model_bytes(model), pickle.dumps(env), pickle.dumps(state))
    write_checkpoint(folder, model.num_timesteps, dict(zip(_PARTS, contents, strict=True)))


def load_checkpoint(path: Path) -> tuple[PPO, TrainingEnv]:
    """Read a checkpoint and restore the generators.

    Only open checkpoints you trust: they are pickles, as SB3's models are.

    Raises:
        ValueError: The file is truncated or damaged.
    """
    with open_checkpoint(path, _PARTS) as parts:
        env = pickle.loads(parts["env.pkl"])
        state = pickle.loads(parts["random.pkl"])
        model = PPO.load(io.BytesIO(parts["model.zip"]), env=env, device="cpu", force_reset=False)
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])
    torch.set_num_threads(1)
    return model, env


class Progress(BaseCallback):
    """Shows a progress bar over the whole run, what was played before a resume included.

    Attributes:
        stop: Whether learning is to end after this step.

    Args:
        total: Number of environment steps of the whole run.
    """

    def __init__(self, total: int) -> None:
        super().__init__()
        self.stop = False
        self._total = total
        self._bar: tqdm[Any] | None = None

    def _on_training_start(self) -> None:
        self._bar = progress_bar(self._total, self.num_timesteps)

    def _on_step(self) -> bool:
        assert self._bar is not None
        advance(self._bar, self.num_timesteps)
        return not self.stop

    def close(self) -> None:
        """Close the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


class Checkpoints(BaseCallback):
    """Writes a checkpoint now and then, and stops between two rollouts when asked to.

    Attributes:
        stop: Whether learning is to end after this rollout.

    Args:
        folder: The folder of the run.
        every: Number of environment steps between two checkpoints.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__()
        self.folder = folder
        self.every = every
        self.stop = False
        self._saved = 0

    def _on_training_start(self) -> None:
        self._saved = self.num_timesteps // self.every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        number = self.num_timesteps // self.every
        if number > self._saved or self.stop:
            self._saved = number
            self.save()
        if self.stop:
            raise Interrupted(HOW_TO_GO_ON)

    def save(self) -> None:
        """Write a checkpoint."""
        assert isinstance(self.model, PPO) and isinstance(
            self.training_env, (SB3VecEnv, MixedVecEnv)
        )
        save_checkpoint(self.folder, self.model, self.training_env)


def train_ppo(run: PPORun) -> TrainedAgent:
    """Begin or resume a run.

    The folder ``run.out`` comes to hold config.json, progress.csv, TensorBoard events,
    checkpoints/ and, at the end, model.zip.

    Raises:
        ValueError: A name is unknown, the folder is in use, the checkpoint is damaged, or the
            settings are not those that the run was begun with.
        Interrupted: Ctrl-C or SIGTERM came; the run can be resumed.
    """
    folder = run.out
    problem = make_problem(run.env, run.scenario)
    checkpoint = begin_run(run, RUN_FILES, FREE)
    if checkpoint is not None:
        model, env = load_checkpoint(checkpoint)
    else:
        env = make_vec_env(problem, run.settings)
        model = make_ppo(env, run.settings, run.seed)
    assert env.head is not None
    agent = agent_of(model, make_head(run.settings.head, problem, env.head.parameters()))
    left = run.total_timesteps - model.num_timesteps
    if left <= 0:
        print(f"{folder} is complete: {model.num_timesteps} steps")
    else:
        evaluation = Evaluation(problem, agent, run.eval_episodes, run.rule)
        model.set_logger(start_log(run, env.head.parameters()))
        bar = Progress(run.total_timesteps)
        metrics = Metrics(evaluation, run.eval_every)
        saver = Checkpoints(folder, run.checkpoint_every)
        # The saver comes last, so that what is saved has been evaluated.
        callbacks = CallbackList([bar, metrics, saver])
        try:
            with stop_on_interrupt(saver, "rollout"):
                model.learn(left, callback=callbacks, reset_num_timesteps=False)
        finally:
            bar.close()
            model.logger.close()
        save_checkpoint(folder, model, env)
    write_whole(folder / MODEL_FILE, _model_bytes(model))
    return agent
