"""Training settings for early-exit partition."""

from __future__ import annotations

from dataclasses import replace

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from train.presets import TrainingPreset

PPO_PRESETS = {
    "early-exit": TrainingPreset(
        "learn the prices of backlog and energy, one step of look-ahead decides",
        PPOSettings(
            head="congestion",
            num_envs=256,
            n_steps=50,
            learning_rate=1e-3,
            gamma=1.0,
            reward_scale=0.2,
        ),
        400_000,
    ),
}

# With the usual noise of exp(-1), which A3C hardly reduces, the mean learns to hedge against it.
_CONGESTION = A3CSettings(
    head="congestion",
    num_envs=64,
    n_steps=50,
    gamma=1.0,
    reward_scale=0.2,
    ent_coef=0.0,
    learning_rate=7e-4,
    log_std_init=-2.0,
)

A3C_PRESETS = {
    "early-exit": TrainingPreset(
        "learn the prices of backlog and energy, one step of look-ahead decides",
        _CONGESTION,
        1_000_000,
    ),
    "mtl-early-exit": TrainingPreset(
        "multi-task: the same, a branch for each price",
        replace(_CONGESTION, network="branches", multi_task=True),
        1_000_000,
    ),
}
