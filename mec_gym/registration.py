"""One table: environment id -> problem, scenarios, default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from mec_gym.core.env import MecEnv
from mec_gym.core.problem import AnyProblem
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import PRESETS as DISTRIBUTED_INFERENCE_PRESETS
from mec_gym.distributed_inference.scenario import Scenario as DistributedInferenceScenario
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import PRESETS as EARLY_EXIT_PRESETS
from mec_gym.early_exit.scenario import Scenario as EarlyExitScenario
from mec_gym.early_exit.scenario import from_csv as early_exit_from_csv
from mec_gym.early_exit.scenario import from_profile as early_exit_from_profile
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import DRIVE_PRESETS, PAPER_PRESETS
from mec_gym.training_offload.scenario import Scenario as TrainingOffloadScenario

ROOMS: tuple[str, ...] = ("training_offload", "early_exit", "distributed_inference")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the table.

    Attributes:
        about: One line.
        problem: Scenario -> Problem.
        scenario_type: What ``scenario=`` may be besides a name.
        presets: The named scenarios, each with ``make()`` and ``about``.
        default: Name of the scenario played unless another is asked for.
        sources: What makes a scenario of the user's own file, by kind: a scenario may also
            be named ``KIND:PATH``.
    """

    about: str
    problem: Callable[[Any], AnyProblem]
    scenario_type: type
    presets: Mapping[str, Any]
    default: str
    sources: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)


ENVIRONMENTS: dict[str, Entry] = {
    "mec/TrainingOffloadPaper-v0": Entry(
        "split one training task over device, edge and cloud; connection time known",
        TrainingOffload,
        TrainingOffloadScenario,
        PAPER_PRESETS,
        "paper",
    ),
    "mec/TrainingOffload-v0": Entry(
        "a drive: 30 training tasks, one battery, connection time estimated",
        TrainingOffload,
        TrainingOffloadScenario,
        DRIVE_PRESETS,
        "drive",
    ),
    "mec/EarlyExitPartition-v0": Entry(
        "answer at which exit, cut the network where? Frames queue while the network changes",
        EarlyExitPartition,
        EarlyExitScenario,
        EARLY_EXIT_PRESETS,
        "mixed",
        {"csv": early_exit_from_csv, "profile": early_exit_from_profile},
    ),
    "mec/DistributedInference-v0": Entry(
        "place every block of many devices' networks on many servers, round by round",
        DistributedInference,
        DistributedInferenceScenario,
        DISTRIBUTED_INFERENCE_PRESETS,
        "small",
    ),
}


def make_problem(env_id: str, scenario: Any = None) -> AnyProblem:
    """The Problem behind an environment id, for solvers and batch evaluation.

    Args:
        env_id: One of ``ENVIRONMENTS``.
        scenario: A preset's name, ``KIND:PATH`` of a file (early exit: ``csv`` for a measured
            bandwidth, ``profile`` for a network), or a Scenario of the room; None for the
            default.

    Raises:
        ValueError: Unknown id or scenario.
    """
    entry = ENVIRONMENTS.get(env_id)
    if entry is None:
        raise ValueError(f"env_id must be one of {', '.join(ENVIRONMENTS)}, got {env_id!r}")
    if scenario is None:
        scenario = entry.default
    allowed = ", ".join([*entry.presets, *(f"{kind}:PATH" for kind in entry.sources)])
    if isinstance(scenario, str):
        kind, _, path = scenario.partition(":")
        if scenario in entry.presets:
            scenario = entry.presets[scenario].make()
        elif kind in entry.sources and path:
            scenario = entry.sources[kind](path)
    if not isinstance(scenario, entry.scenario_type):
        raise ValueError(
            f"scenario must be one of {allowed} or a "
            f"{entry.scenario_type.__module__}.{entry.scenario_type.__name__}, got {scenario!r}"
        )
    return entry.problem(scenario)


def make_env(env_id: str, scenario: Any = None, render_mode: str | None = None) -> MecEnv:
    """Entry point of ``gymnasium.make``."""
    return MecEnv(make_problem(env_id, scenario), render_mode)


def make_vector_env(
    env_id: str, num_envs: int = 1, scenario: Any = None, render_mode: str | None = None
) -> MecVectorEnv:
    """Entry point of ``gymnasium.make_vec``.

    Raises:
        ValueError: Unknown scenario, or a render mode: only single environments draw.
    """
    if render_mode is not None:
        raise ValueError(
            f"render_mode must be None for the native vector environment, got {render_mode!r}; "
            "use gymnasium.make, or make_vec with vectorization_mode='sync'"
        )
    return MecVectorEnv(make_problem(env_id, scenario), num_envs)


def register_all() -> None:
    """Register every row with Gymnasium."""
    for env_id in ENVIRONMENTS:
        gym.register(
            env_id,
            entry_point="mec_gym.registration:make_env",
            vector_entry_point="mec_gym.registration:make_vector_env",
            kwargs={"env_id": env_id},
        )
