"""Named experiments: settings that are known to work, by environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from agents.a3c.settings import A3CSettings
from agents.ppo import PPOSettings
from train.config import A3CRun, PPORun

S = TypeVar("S")


@dataclass(frozen=True)
class Preset(Generic[S]):
    """Settings and how long they need."""

    about: str
    settings: S
    total_timesteps: int


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

PPO_PRESETS: dict[str, Preset[PPOSettings]] = {
    "drive": Preset(
        "training offload: learn the price of energy, the closed form splits",
        PPOSettings(head="price", n_epochs=2, reward_scale=10.0),
        2_000_000,
    ),
    "flat": Preset(
        "any environment: the network decides everything itself",
        PPOSettings(head="flat"),
        10_000_000,
    ),
    "paper": Preset(
        "one-task training offload: the network decides everything itself",
        PPOSettings(head="flat", num_envs=1024, n_steps=16, minibatches=16, n_epochs=3, gamma=0.0),
        5_000_000,
    ),
    "early-exit": Preset(
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
    "inference": Preset(
        "distributed inference: score every device and place, one device after the other",
        _INFERENCE,
        400_000,
    ),
    "inference-sizes": Preset(
        "the same, learnt on several sizes side by side",
        replace(_INFERENCE, sizes=((5, 3), (10, 4), (20, 4)), num_envs=240),
        200_000,
    ),
    "inference-unaided": Preset(
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
    "inference-flat": Preset(
        "distributed inference: one network for all devices, for comparison",
        replace(_INFERENCE, head="flat", network="flat", hidden=64),
        600_000,
    ),
    "inference-branches": Preset(
        "distributed inference: a branch for each device, for comparison",
        replace(_INFERENCE, head="flat", network="branches", hidden=64),
        600_000,
    ),
}

INFERENCE = "mec/DistributedInference-v0"
DEFAULT_PPO_PRESET = {
    INFERENCE: "inference",
    "mec/EarlyExitPartition-v0": "early-exit",
    "mec/TrainingOffload-v0": "drive",
    "mec/TrainingOffloadPaper-v0": "paper",
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

A3C_PRESETS: dict[str, Preset[A3CSettings]] = {
    "a3c": Preset("score every device and place; one joint action", _PAIRS, 600_000),
    "mtl-a3c": Preset(
        "multi-task: the same, a task for each device's choice, tied in one scorer",
        replace(_PAIRS, multi_task=True),
        600_000,
    ),
    "a3c-unaided": Preset(
        "the scorer without looking ahead: what later blocks cost has to be learnt",
        _UNAIDED,
        400_000,
    ),
    "mtl-a3c-unaided": Preset("multi-task: likewise", replace(_UNAIDED, multi_task=True), 400_000),
    "a3c-flat": Preset("one trunk, one joint action, for comparison", _FLAT, 5_000_000),
    "mtl-a3c-branch": Preset(
        "multi-task as the patent says it: a branch for each device, hard sharing",
        _BRANCH,
        5_000_000,
    ),
    "mtl-a3c-soft": Preset(
        "multi-task: the same with soft sharing", replace(_BRANCH, sharing="soft"), 5_000_000
    ),
    "mtl-a3c-tied": Preset(
        "multi-task: one output that all devices share, soft sharing",
        replace(_BRANCH, sharing="soft", heads="tied"),
        5_000_000,
    ),
    "textbook": Preset(
        "A3C as published: one environment a worker, n-step returns, raw advantages",
        replace(_FLAT, num_envs=1, n_steps=20, gae_lambda=1.0, normalize=False, learning_rate=3e-4),
        500_000,
    ),
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
    chosen = _preset(PPO_PRESETS, name)
    run = PPORun(out, env, name, chosen.total_timesteps, chosen.settings)
    return replace(run, **changes)


def a3c_run(out: Path, env: str, preset: str = "a3c", **changes: Any) -> A3CRun:
    """A run with a preset's values, and whatever else is asked for.

    Args:
        out: Folder of the run.
        env: Environment id.
        preset: Key of ``A3C_PRESETS``.
        **changes: Other fields of ``A3CRun``.

    Raises:
        ValueError: Unknown preset, or a field with a bad value.
    """
    chosen = _preset(A3C_PRESETS, preset)
    run = A3CRun(out, env, preset, chosen.total_timesteps, chosen.settings)
    return replace(run, **changes)


def _preset(presets: Mapping[str, Preset[S]], name: str) -> Preset[S]:
    if name not in presets:
        raise ValueError(f"preset must be one of {', '.join(presets)}, got {name!r}")
    return presets[name]
