"""What the subcommands can be told. Each class is a command line (tyro)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from mec_gym.core.checks import positive_int, seed_number
from train.presets import find_a3c_preset, find_ppo_preset

DEFAULT_ENV = "mec/TrainingOffload-v0"


S = TypeVar("S")


@dataclass(frozen=True)
class Choice:
    """What decides a training run's defaults.

    Attributes:
        env: Environment id.
        preset: Named settings; by default those of the environment.
    """

    env: str = DEFAULT_ENV
    preset: str | None = None


@dataclass(frozen=True)
class TrainRun(Generic[S]):
    """Train an agent.

    Attributes:
        out: Folder of the run.
        env: Environment id.
        preset: Named settings; by default those of the environment.
        total_timesteps: Environment steps, all environments together.
        settings: Everything that shapes learning.
        scenario: Preset name or KIND:PATH; by default the environment's own.
        seed: Of networks, environments and minibatches.
        resume: Go on with the run in ``out`` from its last checkpoint.
        eval_every: Steps between two evaluations.
        eval_episodes: Episodes of an evaluation, seeds 1 000 000 and up.
        checkpoint_every: Steps between two checkpoints.
    """

    out: Path
    env: str
    preset: str
    total_timesteps: int
    settings: S
    scenario: str | None = None
    seed: int = 0
    resume: bool = False
    eval_every: int = 250_000
    eval_episodes: int = 200
    checkpoint_every: int = 250_000

    def __post_init__(self) -> None:
        for name in ("total_timesteps", "eval_every", "eval_episodes", "checkpoint_every"):
            positive_int(name, getattr(self, name))
        seed_number("seed", self.seed)

    @property
    def free(self) -> tuple[str, ...]:
        """What may change when the run is resumed."""
        return ("total_timesteps", "eval_every", "eval_episodes", "checkpoint_every")


@dataclass(frozen=True)
class PPORun(TrainRun[PPOSettings]):
    """Train PPO. From Python, :func:`ppo_run` fills in a preset's values."""


@dataclass(frozen=True)
class A3CRun(TrainRun[A3CSettings]):
    """Train A3C or multi-task A3C. From Python, :func:`a3c_run` fills in a preset's values."""


def ppo_run(out: Path, env: str, preset: str | None = None, **changes: Any) -> PPORun:
    """A run with a preset's values, and whatever else is asked for.

    Args:
        out: Folder of the run.
        env: Environment id.
        preset: Name of a preset, see ``mec-gym scenarios``; by default the environment's own.
        **changes: Other fields of :class:`PPORun`.

    Raises:
        ValueError: Unknown environment or preset, or a field with a bad value.
    """
    name, chosen = find_ppo_preset(env, preset)
    run = PPORun(out, env, name, chosen.total_timesteps, chosen.settings)
    return replace(run, **changes)


def a3c_run(
    out: Path,
    env: str,
    preset: str | None = None,
    multi_task: bool | None = None,
    **changes: Any,
) -> A3CRun:
    """A run with a preset's values, and whatever else is asked for.

    Args:
        out: Folder of the run.
        env: Environment id.
        preset: Name of a preset, see ``mec-gym scenarios``; by default the environment's first
            that fits.
        multi_task: Whether it must be, or must not be, multi-task A3C.
        **changes: Other fields of :class:`A3CRun`.

    Raises:
        ValueError: Unknown environment or preset, or a field with a bad value.
    """
    name, chosen = find_a3c_preset(env, preset, multi_task)
    run = A3CRun(out, env, name, chosen.total_timesteps, chosen.settings)
    return replace(run, **changes)


@dataclass(frozen=True)
class CompareRun:
    """Let several agents play the same episodes and compare them pairwise.

    Attributes:
        out: Folder for results.json, results.csv, comparison.png and the trace.
        env: Environment id; by default the one that the (first) run among the agents was
            trained on, else mec/TrainingOffload-v0.
        scenario: Preset name or KIND:PATH; by default what the run was trained on, if that decides
            the environment, else the environment's own.
        agents: Names, see ``scenarios``, or runs as ``ppo:PATH``; differences are to the
            first. By default every named agent that plays the environment.
        episodes: Number of episodes.
        seed: Episode i is what ``env.reset(seed=seed + i)`` begins.
        trace: Play the episodes of this file; ``episodes`` then counts for nothing.
        overwrite: Replace the results in ``out``.
    """

    out: Path
    env: str | None = None
    scenario: str | None = None
    agents: tuple[str, ...] = ()
    episodes: int = 500
    seed: int = 0
    trace: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        positive_int("episodes", self.episodes)
        seed_number("seed", self.seed)


@dataclass(frozen=True)
class EvaluateRun:
    """Let one agent play and print what came of it.

    Attributes:
        agent: A name, see ``scenarios``, or a run as ``ppo:PATH``.
        env: Environment id; by default the one that the (first) run among the agents was
            trained on, else mec/TrainingOffload-v0.
        scenario: Preset name or KIND:PATH; by default what the run was trained on, if that decides
            the environment, else the environment's own.
        episodes: Number of episodes.
        seed: Episode i is what ``env.reset(seed=seed + i)`` begins.
        picture: Write a picture of the first episode to this PNG file.
        overwrite: Replace the picture if there is one.
    """

    agent: Annotated[str, tyro.conf.Positional]
    env: str | None = None
    scenario: str | None = None
    episodes: int = 500
    seed: int = 0
    picture: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        positive_int("episodes", self.episodes)
        seed_number("seed", self.seed)
        if self.picture is not None and self.picture.suffix != ".png":
            raise ValueError(f"picture must end in .png, got {self.picture}")


@dataclass(frozen=True)
class ReproduceRun:
    """Redo a paper's published figures; each reproduction adds options of its own.

    Attributes:
        out: The folder for the pictures and the tables.
        overwrite: Whether results that are already in ``out`` are replaced.
    """

    out: Path
    overwrite: bool = False


@dataclass(frozen=True)
class ProfileRun:
    """Count any torch module: FLOPs, bytes and output of each layer, and who reads it.

    Attributes:
        module: MODULE[:FACTORY]. MODULE is a name to import, also from the current directory,
            or a .py file. FACTORY is in it: a torch module, its class, or a function without
            arguments that makes one; by default ``model``, or the only class of a torch module.
        out: File for the profile, to end in .json.
        input: Shape of a frame, batch axis included, such as 1,3,224,224; one for each input.
        device: Also time each layer there: cpu or cuda.
        picture: Write a picture of the graph to this PNG file.
        overwrite: Replace the files if there are any.
    """

    module: Annotated[str, tyro.conf.Positional]
    out: Path
    input: tuple[str, ...]
    device: str | None = None
    picture: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.out.suffix != ".json":
            raise ValueError(f"out must end in .json, got {self.out}")
        if self.picture is not None and self.picture.suffix != ".png":
            raise ValueError(f"picture must end in .png, got {self.picture}")
        if not self.input:
            raise ValueError("input must hold at least one shape")
        _ = self.shapes

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each input.

        Raises:
            ValueError: Not positive whole numbers with commas between them.
        """
        found = []
        for text in self.input:
            sizes = text.split(",")
            if not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
                raise ValueError(
                    f"input must be positive whole numbers such as 1,3,224,224, got {text!r}"
                )
            found.append(tuple(int(size) for size in sizes))
        return tuple(found)
