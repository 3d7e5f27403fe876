"""Training settings for federated training."""

from __future__ import annotations

from dataclasses import replace

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from train.presets import real_learning

# The noise is small: by much of it, other clients go each time, and what is learnt relies on that.
# At -2.5, PPO that plays without noise is worse than where it began, on "sync" above all.
_PPO = PPOSettings(
    head="weights",
    num_envs=32,
    n_steps=64,
    gamma=0.995,
    reward_scale=30.0,
    learning_rate=3e-4,
    log_std_init=-3.5,
    minibatches=8,
)

PPO_PRESETS = {
    "federated": real_learning(
        "learn when to weigh clients otherwise than the linear policy does", _PPO, 200_000
    ),
    "federated-unaided": real_learning(
        "learn to weigh clients from scratch",
        replace(_PPO, head="weights-unaided", log_std_init=-1.5),
        200_000,
    ),
}
# A3C has no limit on how far an update goes; at 1e-4 two of five seeds end 0.008 behind.
_A3C = A3CSettings(
    head="weights",
    num_envs=8,
    n_steps=64,
    gamma=0.995,
    reward_scale=30.0,
    ent_coef=0.0,
    learning_rate=3e-5,
    log_std_init=-3.5,
)

A3C_PRESETS = {
    "federated": real_learning(
        "learn when to weigh clients otherwise than the linear policy does", _A3C, 200_000
    ),
    "mtl-federated": real_learning(
        "multi-task: the same, a branch for each weight",
        replace(_A3C, network="branches", multi_task=True),
        200_000,
    ),
}
