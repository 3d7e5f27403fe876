"""Training settings for pipeline training."""

from __future__ import annotations

from dataclasses import replace

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from train.presets import TrainingPreset

PPO_PRESETS = {
    "pipeline": TrainingPreset(
        "learn how long plans last and whom not to trust; the best of all plans decides",
        PPOSettings(
            head="plans",
            num_envs=256,
            learning_rate=7e-4,
            gamma=0.9,
            reward_scale=3.0,
            log_std_init=-2.0,
        ),
        200_000,
    ),
    "placement": TrainingPreset(
        "as [Mirhoseini2017]: place every block for the time of the slot at hand, for comparison",
        PPOSettings(head="flat", num_envs=64, n_steps=60, gamma=0.0),
        2_000_000,
    ),
}

_PLANS = A3CSettings(
    head="plans",
    num_envs=32,
    n_steps=30,
    gamma=0.9,
    reward_scale=3.0,
    ent_coef=0.0,
    learning_rate=7e-4,
    log_std_init=-2.0,
)

A3C_PRESETS = {
    "pipeline": TrainingPreset(
        "learn how long plans last and whom not to trust; the best of all plans decides",
        _PLANS,
        300_000,
    ),
    "mtl-pipeline": TrainingPreset(
        "multi-task: the same, a branch for each number",
        replace(_PLANS, network="branches", multi_task=True),
        300_000,
    ),
}
