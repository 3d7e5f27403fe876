"""Training settings for training offload."""

from __future__ import annotations

from agents.ppo.settings import PPOSettings
from train.presets import TrainingPreset

PPO_PRESETS = {
    "drive": TrainingPreset(
        "learn the price of energy, the closed form splits",
        PPOSettings(head="price", n_epochs=2, reward_scale=10.0),
        2_000_000,
    ),
    "paper": TrainingPreset(
        "one task: the network decides everything itself",
        PPOSettings(head="flat", num_envs=1024, n_steps=16, minibatches=16, n_epochs=3, gamma=0.0),
        5_000_000,
    ),
}
PPO_DEFAULT = {"mec/TrainingOffload-v0": "drive", "mec/TrainingOffloadPaper-v0": "paper"}
