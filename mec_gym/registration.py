"""Which problems there are: the packages that bring them, merged into one table of ids.

A package with a problem (a *room* of the house, see docs/development.md) has a table
``ENVIRONMENTS`` of environment ids. The packages of mec_gym itself are named in ``ROOMS``;
any other one joins by :func:`register_room`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode

from mec_gym.core.entry import Entry
from mec_gym.core.env import MecEnv
from mec_gym.core.plain import from_plain
from mec_gym.core.problem import METHODS, AnyProblem
from mec_gym.core.vector_env import MecVectorEnv

ROOMS = (
    "training_offload",
    "early_exit",
    "distributed_inference",
    "pipeline_training",
    "federated_training",
    "gossip_training",
)
"""The packages of mec_gym that hold a problem; a new one is added here and nowhere else."""


@dataclass(frozen=True, slots=True)
class Room:
    """A package with a problem.

    Attributes:
        name: Key of its tables on the floors above: ``agents/<name>/``, ``train/presets/<name>.py``
            and so on. Of a package outside mec_gym, the name of its module.
        module: The module that holds ``ENVIRONMENTS``.
        is_ours: Whether it belongs to mec_gym.
    """

    name: str
    module: ModuleType
    is_ours: bool

    @property
    def environments(self) -> Mapping[str, Entry]:
        """Its environment ids."""
        table: Mapping[str, Entry] = self.module.ENVIRONMENTS
        return table

    def tables(self, floor: str) -> ModuleType:
        """The module that holds its tables on a floor above, such as ``agents``.

        A package outside mec_gym keeps all of its tables in the module that was registered.

        Args:
            floor: The package in which those of mec_gym's own problems lie.
        """
        return import_module(f"{floor}.{self.name}") if self.is_ours else self.module


ENVIRONMENTS: dict[str, Entry] = {}
"""Every environment id that is registered."""
_ROOMS: dict[str, Room] = {}


def rooms() -> tuple[Room, ...]:
    """All packages with a problem, in the order in which they were registered."""
    return tuple(_ROOMS.values())


def register_room(module: ModuleType | str) -> None:
    """Make the environments of a package known, everywhere: to Gymnasium and to ``mec-gym``.

    The module has a table ``ENVIRONMENTS`` of :class:`Entry` by environment id, and may have
    ``AGENTS``, ``REFERENCES``, ``HEADS``, ``PPO_PRESETS``, ``A3C_PRESETS``, ``PPO_DEFAULT`` and
    ``A3C_DEFAULT``; see docs/your_own_problem.md. Registering it once more changes nothing.

    Args:
        module: The module, or its name.

    Raises:
        ValueError: The module has no such table, an entry is of another kind, a problem lacks a
            method, or an id is taken by another package.
        ImportError: There is no module of that name.
    """
    if isinstance(module, str):
        module = import_module(module)
    if not isinstance(module, ModuleType):
        raise ValueError(f"module must be a module or the name of one, got {module!r}")
    _add(Room(module.__name__, module, is_ours=False))


def unregister_room(module: ModuleType | str) -> None:
    """Forget a package again, so that another version of it can be registered.

    Args:
        module: The module, or its name.

    Raises:
        ValueError: No package outside mec_gym is registered under that name.
    """
    name = module if isinstance(module, str) else module.__name__
    room = _ROOMS.get(name)
    if room is None or room.is_ours:
        others = ", ".join(room.name for room in rooms() if not room.is_ours) or "none"
        raise ValueError(f"module must be one that was registered ({others}), got {name!r}")
    for env_id in room.environments:
        del ENVIRONMENTS[env_id], gym.registry[env_id]
    del _ROOMS[name]


def _add(room: Room) -> None:
    if room.name in _ROOMS:
        return
    table = getattr(room.module, "ENVIRONMENTS", None)
    if not isinstance(table, Mapping) or not table:
        raise ValueError(
            f"module {room.module.__name__} must have a table ENVIRONMENTS of environment ids, "
            f"got {table!r}"
        )
    for env_id, entry in table.items():
        if not isinstance(entry, Entry):
            raise ValueError(f"ENVIRONMENTS[{env_id!r}] must be a mec_gym.Entry, got {entry!r}")
        lacks = [name for name in METHODS if not hasattr(entry.problem, name)]
        if lacks:
            raise ValueError(
                f"ENVIRONMENTS[{env_id!r}].problem {entry.problem.__name__} lacks "
                f"{', '.join(lacks)}"
            )
        if env_id in gym.registry:
            raise ValueError(f"environment id {env_id!r} of {room.name} is taken already")
    _ROOMS[room.name] = room
    for env_id, entry in table.items():
        ENVIRONMENTS[env_id] = entry
        gym.register(
            env_id,
            entry_point="mec_gym.registration:make_env",
            vector_entry_point="mec_gym.registration:make_vector_env",
            kwargs={"env_id": env_id},
        )


def register_own() -> None:
    """Register the problems of mec_gym itself."""
    for name in ROOMS:
        _add(Room(name, import_module(f"mec_gym.{name}"), is_ours=True))


def entry_of(env_id: str) -> Entry:
    """The entry of an environment id.

    Raises:
        ValueError: There is no such id.
    """
    if not isinstance(env_id, str) or env_id not in ENVIRONMENTS:
        raise ValueError(
            f"env_id must be one of {', '.join(ENVIRONMENTS)}, got {env_id!r} (a problem of your "
            "own has to be registered first: --import MODULE, or mec_gym.register_room)"
        )
    return ENVIRONMENTS[env_id]


def room_of(problem: AnyProblem | str) -> Room | None:
    """The package that a problem, or an environment id, belongs to.

    Args:
        problem: A Problem, or an id.

    Returns:
        The package; None for a Problem whose class nobody has registered.

    Raises:
        ValueError: There is no such id.
    """
    if isinstance(problem, str):
        entry_of(problem)
        return next(room for room in rooms() if problem in room.environments)
    for room in rooms():
        if any(isinstance(problem, entry.problem) for entry in room.environments.values()):
            return room
    return None


def usual_episodes(problem: AnyProblem) -> int:
    """The number of episodes over which agents of a problem are compared by default.

    Args:
        problem: A Problem; 500 for one whose class nobody has registered.
    """
    for room in rooms():
        for entry in room.environments.values():
            if isinstance(problem, entry.problem):
                return entry.episodes
    return 500


def make_problem(env_id: str, scenario: Any = None) -> AnyProblem:
    """The Problem behind an environment id, for solvers and batch evaluation.

    Args:
        env_id: One of ``ENVIRONMENTS``.
        scenario: A preset's name, or ``KIND:PATH`` of a file (early exit: ``csv`` for a measured
            bandwidth, ``profile`` for a network), or both with ``+`` between them, also with
            ``+FIELD=VALUE`` for every field that differs (``sync+alpha=0.3``); a Scenario of the
            problem's package; or its fields as a dictionary (as ``dataclasses.asdict`` and JSON
            write them). None is the default.

    Raises:
        ValueError: Unknown id or scenario.
    """
    entry = entry_of(env_id)
    if scenario is None:
        scenario = entry.default
    if isinstance(scenario, str):
        named = entry.named(scenario)
        scenario = scenario if named is None else named
    elif isinstance(scenario, Mapping) and is_dataclass(entry.scenario_type):
        scenario = from_plain(entry.scenario_type, scenario, "scenario")
    if not isinstance(scenario, entry.scenario_type):
        raise ValueError(
            f"scenario must be one of {entry.names} or a "
            f"{entry.scenario_type.__module__}.{entry.scenario_type.__name__}, got {scenario!r}"
        )
    problem: AnyProblem = entry.problem(scenario)
    return problem


def make_env(env_id: str, scenario: Any = None, render_mode: str | None = None) -> MecEnv:
    """Entry point of ``gymnasium.make``."""
    return MecEnv(make_problem(env_id, scenario), render_mode)


# Gymnasium reads here which render modes it has to supply itself: "human" and "rgb_array_list".
make_env.metadata = MecEnv.metadata  # type: ignore[attr-defined]


def make_vector_env(
    env_id: str,
    num_envs: int = 1,
    scenario: Any = None,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
) -> MecVectorEnv:
    """Entry point of ``gymnasium.make_vec``.

    ``max_episode_steps=-1`` means no limit, as it does to ``gymnasium.make``.

    Raises:
        ValueError: Unknown scenario, limit or mode, or a render mode: only single environments
            draw.
    """
    if render_mode is not None:
        raise ValueError(
            f"render_mode must be None for the native vector environment, got {render_mode!r}; "
            "use gymnasium.make, or make_vec with vectorization_mode='sync'"
        )
    limit = None if max_episode_steps == -1 else max_episode_steps
    return MecVectorEnv(make_problem(env_id, scenario), num_envs, limit, autoreset_mode)
