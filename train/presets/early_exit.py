"""Training settings for early-exit partition."""

from __future__ import annotations

from agents.ppo.settings import PPOSettings
from train.presets import TrainingPreset

PPO_PRESETS = {
    "early-exit": TrainingPreset(
        "learn the prices of backlog, one step of look-ahead decides",
        PPOSettings(
            head="congestion",
            num_envs=256,
            n_steps=50,
            learning_rate=5e-4,
            gamma=0.98,
            reward_scale=0.2,
        ),
        400_000,
    ),
}
