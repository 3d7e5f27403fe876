"""A PPO run in a folder."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from agents.heads import make_head
from agents.networks.agent import take_parameters
from agents.ppo.learning import learn
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
from mec_gym.core.packing import array_of, pack, unpack
from mec_gym.core.problem import AnyProblem
from mec_gym.registration import make_problem
from train.config import FREE, PPORun
from train.evaluation.tensorboard import Evaluation, Metrics
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
from train.runs.generators import generator_states, restore_generators
from train.runs.interrupts import HOW_TO_GO_ON, Interrupted, stop_on_interrupt

BEST_FILE = "best.zip"
RUN_FILES = (*COMMON_FILES, MODEL_FILE, BEST_FILE, NOTE_FILE)
_LEARNER, _STATE = "learner.pt", "state.npz"


def save_model(path: Path, model: PPO) -> None:
    """Write a model as SB3 does, whole or not at all."""
    buffer = io.BytesIO()
    model.save(buffer)
    write_whole(path, buffer.getvalue())


def save_checkpoint(folder: Path, model: PPO, env: TrainingEnv) -> None:
    """Write everything the run consists of: networks, optimiser, environments, generators.

    It must be called between two rollouts. A run that is resumed from here goes on bit for bit
    as if it had never stopped.
    """
    learner = io.BytesIO()
    policy = model.policy
    torch.save(
        {"policy": policy.state_dict(), "optimiser": policy.optimizer.state_dict()["state"]},
        learner,
    )
    state = {
        "env": env.state(),
        "generators": generator_states(),
        "updates": model._n_updates,
        "episode_starts": model._last_episode_starts,
        "episodes": list(model.ep_info_buffer or ()),
    }
    parts = {_LEARNER: learner.getvalue(), _STATE: pack(state)}
    write_checkpoint(folder, model.num_timesteps, parts)


def load_checkpoint(path: Path, model: PPO, env: TrainingEnv) -> None:
    """Bring a new model and its environment to where a checkpoint was written.

    No code is run: the checkpoint holds tensors, arrays and JSON.

    Args:
        path: The file of the checkpoint.
        model: A new model of the same settings.
        env: Its environment.

    Raises:
        ValueError: The file is damaged, or was written by another version.
    """
    with open_checkpoint(path, (_LEARNER, _STATE)) as (steps, parts):
        learner = torch.load(io.BytesIO(parts[_LEARNER]), weights_only=True)
        take_parameters(model.policy, learner["policy"], str(path))
        _restore(model.policy.optimizer, learner["optimiser"])
        state = unpack(parts[_STATE])
        model._last_obs = env.load_state(state["env"])
        starts = np.zeros(env.num_envs, dtype=np.bool_)
        model._last_episode_starts = array_of(state, "episode_starts", starts)
        model._n_updates = int(state["updates"])
        model.num_timesteps = steps
        model.ep_info_buffer = deque(
            ({name: float(one[name]) for name in ("r", "l", "t")} for one in state["episodes"]),
            maxlen=model._stats_window_size,
        )
        model.ep_success_buffer = deque(maxlen=model._stats_window_size)
        restore_generators(state["generators"])


def _restore(optimiser: torch.optim.Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Give an optimiser its moments; rates and the like are those that it was made with."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for number, moments in state.items():
        shape = parameters[number].shape
        needs = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
        if {name: moment.shape for name, moment in moments.items()} != needs:
            raise ValueError(f"the moments of parameter {number} do not fit")
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


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
    checkpoints/, best.zip (the model with the highest evaluation) and, at the end, model.zip.

    Raises:
        ValueError: A name is unknown, the folder is in use, the checkpoint is damaged, the
            settings are not those that the run was begun with, or the policy is no longer
            finite; the last checkpoint is from before.
        Interrupted: Ctrl-C or SIGTERM came; the run can be resumed.
    """
    problem = make_problem(run.env, run.scenario)
    with opened(run, RUN_FILES, FREE) as checkpoint:
        return _train(run, problem, checkpoint)


def _train(run: PPORun, problem: AnyProblem, checkpoint: Path | None) -> TrainedAgent:
    folder = run.out
    env = make_vec_env(problem, run.settings, known_head(run))
    model = make_ppo(env, run.settings, run.seed)
    if checkpoint is not None:
        load_checkpoint(checkpoint, model, env)
    assert env.head is not None
    agent = agent_of(model, make_head(run.settings.head, problem, env.head.parameters()))
    left = run.total_timesteps - model.num_timesteps
    if left <= 0:
        print(f"{folder} is complete: {model.num_timesteps} steps")
    else:
        evaluation = Evaluation(problem, agent, run.eval_episodes, run.rule, run.online_bound)
        model.set_logger(start_log(run, env.head))
        bar = Progress(run.total_timesteps)
        best = BestModel(folder / BEST_FILE, run.resume)

        def keep(return_mean: float) -> None:
            best.offer(return_mean, model.num_timesteps, lambda path: save_model(path, model))

        metrics = Metrics(evaluation, run.eval_every, keep)
        saver = Checkpoints(folder, run.checkpoint_every)
        # The saver comes last, so that what is saved has been evaluated.
        try:
            with stop_on_interrupt(saver, "rollout"):
                learn(model, left, [bar, metrics, saver], reset_num_timesteps=False)
        finally:
            bar.close()
            model.logger.close()
        save_checkpoint(folder, model, env)
    save_model(folder / MODEL_FILE, model)
    print_end(run, "ppo", MODEL_FILE)
    return agent
