"""Stable-Baselines3's PPO: a new model, its training environment, and its agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.heads import Head, make_head
from agents.heads.protocol import SizableHead
from agents.networks import make_network
from agents.networks.agent import network_agent, read_tensors, take_parameters
from agents.networks.sb3_policy import NetworkPolicy
from agents.ppo.rollout_buffer import KeptRollout
from agents.ppo.settings import PPOSettings
from agents.ppo.vec_env import MixedVecEnv, SB3VecEnv
from agents.runs import check_spaces, find_run, read_settings
from agents.trained_agent import TrainedAgent
from mec_gym.core.problem import AnyProblem
from mec_gym.core.seeds import TRAIN_SEED
from mec_gym.core.vector_env import MecVectorEnv

MODEL_FILE = "model.zip"

TrainingEnv = SB3VecEnv | MixedVecEnv


def make_vec_env(
    problem: AnyProblem,
    settings: PPOSettings,
    head_parameters: Mapping[str, float] | None = None,
) -> TrainingEnv:
    """Make the training environment: B native environments with the head before them.

    Where several sizes are played, their rewards are scaled to those of the problem's own number
    of devices.

    Args:
        problem: The problem that is learnt.
        settings: Everything that shapes learning.
        head_parameters: What the head found out when learning began; by default it finds it out
            now.

    Raises:
        ValueError: The head does not fit the problem, or cannot be played in several sizes.
    """
    head = make_head(settings.head, problem, head_parameters)
    if not settings.sizes:
        return SB3VecEnv(MecVectorEnv(problem, settings.num_envs), head, settings.reward_scale)
    if not isinstance(head, SizableHead):
        raise ValueError(
            f"sizes must be empty with head {settings.head!r}, got {settings.sizes}: it plays one "
            "size of its problem only"
        )
    parts = []
    for part in head.side_by_side(settings.sizes, settings.reward_scale):
        env = MecVectorEnv(part.problem, settings.num_envs // len(settings.sizes))
        parts.append(SB3VecEnv(env, part.head, part.reward_scale))
    return MixedVecEnv(parts)


def agent_of(model: PPO, head: Head) -> TrainedAgent:
    """Make the agent of a model that learns, or has learnt.

    Args:
        model: SB3's model.
        head: The head of the problem that is to be played.
    """
    if isinstance(model.policy, NetworkPolicy):
        return network_agent(model.policy.network.sized(head), head)
    return _policy_agent(model.policy, head)


def _policy_agent(policy: ActorCriticPolicy, head: Head) -> TrainedAgent:
    def decide(inputs: npt.NDArray[np.float32], deterministic: bool) -> npt.NDArray[Any]:
        return np.asarray(policy.predict(inputs, deterministic=deterministic)[0])

    return TrainedAgent(decide, head, policy)


def _mlp_options(settings: PPOSettings) -> dict[str, Any]:
    """The arguments of SB3's own policy, beyond spaces and learning rate."""
    return {
        "net_arch": [settings.hidden, settings.hidden],
        "log_std_init": settings.log_std_init,
    }


def make_ppo(env: TrainingEnv, settings: PPOSettings, seed: int) -> PPO:
    """Make a new model of SB3's own PPO.

    Small networks are fastest on one thread, so torch is told to use one.

    Args:
        env: The training environment.
        settings: Everything else that shapes learning.
        seed: Seed of the network, the minibatches and the environments.
    """
    torch.set_num_threads(1)
    policy: type[ActorCriticPolicy] = ActorCriticPolicy
    rollout: type[RolloutBuffer] = RolloutBuffer
    about = _mlp_options(settings)
    if settings.network != "mlp":
        policy, rollout = NetworkPolicy, KeptRollout
        about = {"network": settings.network, "head": env.head, "options": settings.options}
    model = PPO(
        policy,
        env,
        learning_rate=settings.learning_rate,
        n_steps=settings.n_steps,
        batch_size=settings.rollout // settings.minibatches,
        n_epochs=settings.n_epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        ent_coef=settings.ent_coef,
        max_grad_norm=settings.max_grad_norm,
        rollout_buffer_class=rollout,
        seed=seed,
        device="cpu",
        policy_kwargs=about | {"optimizer_kwargs": {"fused": settings.fused}},
    )
    if isinstance(model.policy, NetworkPolicy) and isinstance(model.rollout_buffer, KeptRollout):
        model.rollout_buffer.keep = model.policy.keep
    # SB3 seeds the environments seed, seed + 1, ...: the very episodes that tests play.
    env.seed(TRAIN_SEED + seed * settings.num_envs)
    return model


def load_ppo(path: str | Path, problem: AnyProblem, env_id: str | None = None) -> TrainedAgent:
    """Load the agent of a run that ``mec-gym ppo`` wrote; no code of its files is run.

    Of SB3's model file only the weights are read. What else SB3 keeps in it are pickles; the
    settings stand in the run's configuration, too.

    Args:
        path: The run's folder, or a model file in it, as ``best.zip``.
        problem: The problem that the agent is to play; it must show the observations that the
            network was trained on, unless the network fits any size.
        env_id: The id of the environment that the run must have been trained on, in whatever
            scenario; None if any will do.

    Raises:
        ValueError: There is no run, a file is damaged, or the model is of another environment.
    """
    file, config = find_run(path, "PPO", MODEL_FILE, env_id)
    folder = file.parent
    settings = read_settings(PPOSettings, folder, config)
    head = make_head(settings.head, problem, config.get("head"))
    torch.set_num_threads(1)
    name = f"{path} (trained on {config['env']}, {config['scenario']})"
    if settings.network not in head.networks:  # such a network fits any size
        check_spaces(folder, config, head, name)
    weights = read_tensors(file, "policy.pth")
    if settings.network == "mlp":
        with torch.random.fork_rng(devices=[]):
            policy = ActorCriticPolicy(
                head.input_space, head.output_space, lambda _: 0.0, **_mlp_options(settings)
            )
        take_parameters(policy, weights, name)
        return _policy_agent(policy, head)
    network = make_network(settings.network, head, settings.options)
    mine = {key.removeprefix("network."): value for key, value in weights.items()}
    take_parameters(network, mine, name)
    return network_agent(network, head)
