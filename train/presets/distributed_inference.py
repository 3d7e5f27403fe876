"""Training settings for distributed inference."""

from __future__ import annotations

from dataclasses import replace

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from train.presets import TrainingPreset

_INFERENCE = PPOSettings(
    head="pairs",
    network="pairs",
    hidden=32,
    num_envs=256,
    n_steps=32,
    n_epochs=3,
    gamma=0.99,
    reward_scale=0.3,
)

PPO_PRESETS = {
    "inference": TrainingPreset(
        "score every device and place, one device after the other",
        replace(_INFERENCE, n_epochs=2, learning_rate=2e-3),
        400_000,
    ),
    "inference-sizes": TrainingPreset(
        "the same, learnt on several sizes side by side",
        replace(_INFERENCE, sizes=((5, 3), (10, 4), (20, 4)), num_envs=240),
        200_000,
    ),
    "inference-unaided": TrainingPreset(
        "the scorer without looking ahead: what later blocks cost has to be learnt",
        replace(
            _INFERENCE,
            head="pairs-0",
            order="together",
            n_steps=10,
            learning_rate=4e-3,
            gamma=1.0,
            reward_scale=1.0,
        ),
        250_000,
    ),
    "inference-flat": TrainingPreset(
        "one network for all devices, for comparison",
        replace(_INFERENCE, head="flat", network="flat", hidden=64),
        600_000,
    ),
    "inference-branches": TrainingPreset(
        "a branch for each device, for comparison",
        replace(_INFERENCE, head="flat", network="branches", hidden=64),
        600_000,
    ),
}

# Unscaled returns (tens) let the critic drown the actor, and with a smaller bonus some seeds
# of flat networks end with everything on the devices.
_FLAT = A3CSettings(gamma=0.9, reward_scale=0.1, ent_coef=0.05)
_BRANCH = replace(_FLAT, network="branches", multi_task=True)
_PAIRS = A3CSettings(
    head="pairs",
    network="pairs",
    hidden=32,
    gamma=0.99,
    reward_scale=0.1,
    ent_coef=0.001,
    learning_rate=1e-3,
)
_UNAIDED = replace(
    _PAIRS,
    head="pairs-0",
    order="together",
    n_steps=10,
    learning_rate=5e-3,
    gamma=1.0,
    reward_scale=1.0,
    ent_coef=0.0,
    max_grad_norm=2.0,
)

A3C_PRESETS = {
    "a3c": TrainingPreset("score every device and place; one joint action", _PAIRS, 600_000),
    "mtl-a3c": TrainingPreset(
        "multi-task: the same, a task for each device's choice, tied in one scorer",
        replace(_PAIRS, multi_task=True),
        600_000,
    ),
    "a3c-unaided": TrainingPreset(
        "the scorer without looking ahead: what later blocks cost has to be learnt",
        _UNAIDED,
        400_000,
    ),
    "mtl-a3c-unaided": TrainingPreset(
        "multi-task: the scorer without looking ahead, a task for each device's choice",
        replace(_UNAIDED, multi_task=True),
        400_000,
    ),
    "a3c-flat": TrainingPreset("one trunk, one joint action, for comparison", _FLAT, 5_000_000),
    "mtl-a3c-branch": TrainingPreset(
        "multi-task: a branch for each device, with hard sharing instead", _BRANCH, 5_000_000
    ),
    "mtl-a3c-soft": TrainingPreset(
        "multi-task as [Li2024] has it: a branch for each device, soft sharing",
        replace(_BRANCH, sharing="soft"),
        5_000_000,
    ),
    "mtl-a3c-tied": TrainingPreset(
        "multi-task: one output that all devices share, soft sharing",
        replace(_BRANCH, sharing="soft", output="tied"),
        5_000_000,
    ),
    "textbook": TrainingPreset(
        "A3C as published: one environment per worker, n-step returns, raw advantages",
        replace(_FLAT, num_envs=1, n_steps=20, gae_lambda=1.0, normalize=False, learning_rate=3e-4),
        500_000,
    ),
}
