"""Named training settings that are known to work, by environment.

Each package with a problem has its own table (``train/presets/<package>.py``); a package outside
mec_gym has it in the module that it registers. This module merges them. It does not load torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from mec_gym.registration import Room, room_of

S = TypeVar("S")

LENGTHS = ("total_timesteps", "eval_every", "eval_episodes", "checkpoint_every")
"""What says how long a run takes, by the names that presets and the options of a run share."""


@dataclass(frozen=True)
class TrainingPreset(Generic[S]):
    """Settings, and how long learning takes with them.

    Attributes:
        about: One line that says what is learnt.
        settings: Everything that shapes learning.
        total_timesteps: Number of environment steps after which no more is learnt.
        eval_every: Number of steps between two evaluations.
        eval_episodes: Number of episodes per evaluation.
        checkpoint_every: Number of steps between two checkpoints.
    """

    about: str
    settings: S
    total_timesteps: int
    eval_every: int = 250_000
    eval_episodes: int = 200
    checkpoint_every: int = 250_000

    @property
    def lengths(self) -> dict[str, int]:
        """Everything that says how long a run takes, by the names that a run's options have."""
        return {name: getattr(self, name) for name in LENGTHS}


def real_learning(about: str, settings: S, total_timesteps: int) -> TrainingPreset[S]:
    """Return a preset for environments that train networks: their episodes take a second or so.

    Args:
        about: One line that says what is learnt.
        settings: Everything that shapes learning.
        total_timesteps: Number of environment steps after which no more is learnt.
    """
    return TrainingPreset(
        about,
        settings,
        total_timesteps,
        eval_every=50_000,
        eval_episodes=20,
        checkpoint_every=25_000,
    )


PPO_FLAT = TrainingPreset(
    "any environment: the network decides the whole action itself", PPOSettings(), 10_000_000
)
A3C_FLAT = TrainingPreset(
    "any environment: the network decides the whole action itself", A3CSettings(), 1_000_000
)
MTL_A3C_FLAT = TrainingPreset(
    "any environment of several choices: a branch for each, hard sharing",
    A3CSettings(network="branches", multi_task=True),
    1_000_000,
)


def _table(room: Room, name: str) -> Mapping[str, Any]:
    return getattr(room.tables("train.presets"), name, {})


def ppo_presets(room: Room) -> dict[str, TrainingPreset[PPOSettings]]:
    """Return PPO's presets for a package's environments, the default of most of them first."""
    return {**_table(room, "PPO_PRESETS"), "flat": PPO_FLAT}


def a3c_presets(room: Room) -> dict[str, TrainingPreset[A3CSettings]]:
    """Return A3C's presets, multi-task ones included, for a package's environments."""
    return {**_table(room, "A3C_PRESETS"), "flat": A3C_FLAT, "mtl-flat": MTL_A3C_FLAT}


def find_ppo_preset(
    env_id: str, name: str | None = None
) -> tuple[str, TrainingPreset[PPOSettings]]:
    """Find a preset of PPO, and return its name and the preset.

    Args:
        env_id: The environment that is to be learnt.
        name: A name among the presets of the environment's package, or ``flat``; by default
            the environment's own.

    Raises:
        ValueError: The environment or the preset is unknown.
    """
    room = _room(env_id)
    presets = ppo_presets(room)
    return _find(presets, name or _table(room, "PPO_DEFAULT").get(env_id, next(iter(presets))))


def find_a3c_preset(
    env_id: str, name: str | None = None, multi_task: bool | None = None
) -> tuple[str, TrainingPreset[A3CSettings]]:
    """Find a preset of A3C, and return its name and the preset.

    Args:
        env_id: The environment that is to be learnt.
        name: A name among the presets of the environment's package, ``flat`` or ``mtl-flat``; by
            default the environment's own.
        multi_task: Whether the preset must be, or must not be, one of multi-task A3C; by default
            either will do.

    Raises:
        ValueError: The environment or the preset is unknown, or the preset is of the other kind.
    """
    room = _room(env_id)
    fitting = {
        known: preset
        for known, preset in a3c_presets(room).items()
        if multi_task in (None, preset.settings.multi_task)
    }
    kind = "A3C" if multi_task is None else "multi-task A3C" if multi_task else "plain A3C"
    if name is None:
        own = _table(room, "A3C_DEFAULT").get(env_id, ())
        name = next(known for known in (*own, *fitting) if known in fitting)
    return _find(fitting, name, f" for {kind}")


def _room(env_id: str) -> Room:
    room = room_of(env_id)
    assert room is not None  # every id belongs to a package
    return room


def _find(
    presets: Mapping[str, TrainingPreset[S]], name: str, what: str = ""
) -> tuple[str, TrainingPreset[S]]:
    if name not in presets:
        raise ValueError(f"preset must be one of {', '.join(presets)}{what}, got {name!r}")
    return name, presets[name]
