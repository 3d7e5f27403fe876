"""Named experiments: settings that are known to work, by environment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.ppo import PPOSettings
from train.config import PPORun


@dataclass(frozen=True, slots=True)
class PPOPreset:
    """Settings and how long they need."""

    about: str
    settings: PPOSettings
    total_timesteps: int


PPO_PRESETS: dict[str, PPOPreset] = {
    "drive": PPOPreset(
        "training offload: learn the price of energy, the closed form splits",
        PPOSettings(head="price", n_epochs=2, reward_scale=10.0),
        2_000_000,
    ),
    "flat": PPOPreset(
        "any environment: the network decides everything itself",
        PPOSettings(head="flat"),
        10_000_000,
    ),
    "paper": PPOPreset(
        "one-task training offload: the network decides everything itself",
        PPOSettings(head="flat", num_envs=1024, n_steps=16, minibatches=16, n_epochs=3, gamma=0.0),
        5_000_000,
    ),
    "early-exit": PPOPreset(
        "early exit: learn the prices of backlog, one step of look-ahead decides",
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

DEFAULT_PPO_PRESET = {
    "mec/EarlyExitPartition-v0": "early-exit",
    "mec/TrainingOffload-v0": "drive",
    "mec/TrainingOffloadPaper-v0": "paper",
}


def ppo_run(out: Path, env: str, preset: str | None = None, **changes: Any) -> PPORun:
    """A run with a preset's values, and whatever else is asked for.

    Args:
        out: Folder of the run.
        env: Environment id.
        preset: Key of ``PPO_PRESETS``; by default the environment's own.
        **changes: Other fields of ``PPORun``.

    Raises:
        ValueError: Unknown preset, or a field with a bad value.
    """
    name = preset or DEFAULT_PPO_PRESET.get(env, "flat")
    if name not in PPO_PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PPO_PRESETS)}, got {name!r}")
    chosen = PPO_PRESETS[name]
    run = PPORun(out, env, name, chosen.total_timesteps, chosen.settings)
    return replace(run, **changes)
