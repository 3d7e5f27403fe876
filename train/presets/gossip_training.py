"""Training settings for gossip training."""

from __future__ import annotations

from dataclasses import replace

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from train.presets import real_learning

# The noise is small: by much of it, devices have other partners each time, and what is learnt
# relies on that.
_PPO = PPOSettings(
    head="weights",
    num_envs=16,
    n_steps=64,
    gamma=0.995,
    reward_scale=30.0,
    learning_rate=3e-4,
    log_std_init=-2.5,
    minibatches=8,
)

PPO_PRESETS = {
    "gossip": real_learning(
        "learn when to choose partners otherwise than the linear policy does", _PPO, 200_000
    ),
    "gossip-unaided": real_learning(
        "learn to choose partners from scratch",
        replace(_PPO, head="weights-unaided", log_std_init=-1.0),
        200_000,
    ),
}
_A3C = A3CSettings(
    head="weights",
    num_envs=8,
    n_steps=64,
    gamma=0.995,
    reward_scale=30.0,
    ent_coef=0.0,
    learning_rate=1e-4,
    log_std_init=-2.5,
)

A3C_PRESETS = {
    "gossip": real_learning(
        "learn when to choose partners otherwise than the linear policy does", _A3C, 200_000
    ),
    "mtl-gossip": real_learning(
        "multi-task: the same, a branch for each weight",
        replace(_A3C, network="branches", multi_task=True),
        200_000,
    ),
}
