"""The options of the subcommands: each class is a command line (tyro)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from mec_gym.core.checks import check_fields, one_of, positive_int, seed_number
from mec_gym.dnn.zoo import input_shapes, profile_names
from train.presets import LENGTHS, find_a3c_preset, find_ppo_preset

DEFAULT_ENV = "mec/TrainingOffload-v0"
"""The environment that is played if nobody asks for another."""

FREE = (*LENGTHS, "online_bound", "rule")
"""Fields of a :class:`TrainRun` that may change when the run is resumed."""

INPUT_TYPES = (
    "float32", "float64", "float16", "bfloat16", "complex64", "int64", "int32", "int16", "int8",
    "uint8", "bool",
)  # fmt: skip
"""Types that torch gives to inputs of networks."""

S = TypeVar("S")


@dataclass(frozen=True)
class Choice:
    """The options that decide the defaults of all others of a training run.

    Attributes:
        env: Id of the environment.
        preset: Name of the settings to begin from; by default the environment's own.
    """

    env: str = DEFAULT_ENV
    preset: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainRun(Generic[S]):
    """Train an agent.

    Attributes:
        out: Folder of the run.
        env: Id of the environment.
        preset: Name of the settings to begin from; by default the environment's own.
        total_timesteps: Number of environment steps, all environments together.
        settings: Everything that shapes learning.
        scenario: Name of a scenario or KIND:PATH, with +FIELD=VALUE for each field that shall
            differ, such as sync+alpha=0.3; by default the environment's own. With csv:PATH, a
            measured uplink, there are also --bandwidth-unit, if no heading names it, and
            --max-gap, in median steps.
        seed: Seed of networks, environments and minibatches.
        resume: Whether to go on with the run in ``out`` from its last checkpoint.
        eval_every: Number of steps between two evaluations.
        eval_episodes: Number of episodes per evaluation; their seeds are 1 000 000 and up.
        rule: Name of the agent to beat, whose return is a line beside the learner's; by default
            the environment's first one in ``mec-gym scenarios``; ``none`` for no line.
        online_bound: Whether to log the bound for those who do not know the future, where the
            environment offers one; computing it takes ten seconds or a minute at the start.
        checkpoint_every: Number of steps between two checkpoints.
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
    rule: str | None = None
    online_bound: bool = False
    checkpoint_every: int = 250_000

    def __post_init__(self) -> None:
        check_fields(self, positive_int=LENGTHS)
        seed_number("seed", self.seed)


@dataclass(frozen=True, kw_only=True)
class PPORun(TrainRun[PPOSettings]):
    """Train PPO. From Python, :func:`ppo_run` fills in a preset's values."""


@dataclass(frozen=True, kw_only=True)
class A3CRun(TrainRun[A3CSettings]):
    """Train A3C or multi-task A3C. From Python, :func:`a3c_run` fills in a preset's values."""


def ppo_run(out: Path, env: str, preset: str | None = None, **changes: Any) -> PPORun:
    """Describe a run of PPO with the values of a preset, and whatever else is asked for.

    Args:
        out: Folder of the run.
        env: Id of the environment.
        preset: Name of a preset, see ``mec-gym scenarios``; by default the environment's own.
        **changes: Values of other fields of :class:`PPORun`.

    Raises:
        ValueError: The environment or the preset is unknown, or a field has a bad value.
    """
    name, chosen = find_ppo_preset(env, preset)
    values = {**chosen.lengths, "settings": chosen.settings, **changes}
    return PPORun(out=out, env=env, preset=name, **values)


def a3c_run(
    out: Path,
    env: str,
    preset: str | None = None,
    multi_task: bool | None = None,
    **changes: Any,
) -> A3CRun:
    """Describe a run of A3C with the values of a preset, and whatever else is asked for.

    Args:
        out: Folder of the run.
        env: Id of the environment.
        preset: Name of a preset, see ``mec-gym scenarios``; by default the environment's first
            that fits.
        multi_task: Whether the preset must be, or must not be, one of multi-task A3C; None if
            either will do.
        **changes: Values of other fields of :class:`A3CRun`.

    Raises:
        ValueError: The environment or the preset is unknown, or a field has a bad value.
    """
    name, chosen = find_a3c_preset(env, preset, multi_task)
    values = {**chosen.lengths, "settings": chosen.settings, **changes}
    return A3CRun(out=out, env=env, preset=name, **values)


@dataclass(frozen=True, kw_only=True)
class PlayRun:
    """Let agents play.

    Attributes:
        env: Id of the environment; by default the one that the (first) run among the agents was
            trained on, or mec/TrainingOffload-v0 if there is no run among them.
        scenario: Name of a scenario or KIND:PATH, with +FIELD=VALUE for each field that shall
            differ, such as sync+alpha=0.3; by default the one that the run was trained on if the
            run decides the environment, else the environment's own. With csv:PATH, a measured
            uplink, there are also --bandwidth-unit, if no heading names it, and --max-gap, in
            median steps.
        episodes: Number of episodes; by default 500, or 40 where real networks are trained, which
            takes long.
        seed: Episode i is the one that ``env.reset(seed=seed + i)`` begins.
        overwrite: Whether files that are already there are replaced.
    """

    env: str | None = None
    scenario: str | None = None
    episodes: int | None = None
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.episodes is not None:
            positive_int("episodes", self.episodes)
        seed_number("seed", self.seed)


@dataclass(frozen=True)
class CompareRun(PlayRun):
    """Let several agents play the same episodes and compare them with the first one.

    Attributes:
        out: Folder for results.json, results.csv, comparison.png and the trace.
        agents: Names of agents, see ``mec-gym scenarios``, or runs as ``ppo:PATH``; by default
            every named agent that plays the environment.
        trace: File of the episodes to play, instead of drawn ones; ``episodes`` then chooses none.
        online_bound: Whether to compute the bound for those who do not know the future, where the
            environment offers one; it takes ten seconds or a minute and goes with no ``trace``.
    """

    out: Path
    agents: tuple[str, ...] = ()
    trace: Path | None = None
    online_bound: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.agents)) < len(self.agents):
            raise ValueError(f"agents must hold each name once, got {' '.join(self.agents)}")


@dataclass(frozen=True)
class EvaluateRun(PlayRun):
    """Let one agent play and print what came of it.

    Attributes:
        agent: Name of an agent, see ``mec-gym scenarios``, or a run as ``ppo:PATH``.
        picture: PNG file for a picture of the first episode.
        online_bound: Whether to compute the bound for those who do not know the future, where the
            environment offers one; it takes ten seconds or a minute.
    """

    agent: Annotated[str, tyro.conf.Positional]
    picture: Path | None = None
    online_bound: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_picture(self.picture)


@dataclass(frozen=True)
class ReproduceRun:
    """Redo a paper's published figures; each reproduction adds options of its own.

    Attributes:
        out: The folder for the pictures and the tables.
        overwrite: Whether results that are already in ``out`` are replaced.
    """

    out: Path
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """The frames that a network takes.

    Attributes:
        input: Shape of a frame, batch axis included, such as 1,3,224,224; one per input. Only
            the profiles that ship know theirs.
        input_type: Type of the inputs, such as int64 for tokens or float16 for a network of half
            precision; one for all, or one per input.
    """

    input: tuple[str, ...] = ()
    input_type: tuple[str, ...] = ("float32",)

    def check_frames(self, network: str) -> None:
        """Fill in the shapes that a network of that name has, and check all.

        Raises:
            ValueError: There are no shapes, or types and shapes do not fit.
        """
        if not self.input and network in profile_names():
            texts = (",".join(map(str, shape)) for shape in input_shapes(network))
            object.__setattr__(self, "input", tuple(texts))
        if not self.input:
            raise ValueError("input must hold at least one shape")
        _ = self.shapes
        if len(self.input_type) not in (1, len(self.input)):
            raise ValueError(
                f"input_type must hold one type, or one per input ({len(self.input)}), got "
                f"{len(self.input_type)}"
            )
        for kind in self.input_type:
            one_of("input_type", kind, INPUT_TYPES)

    @property
    def types(self) -> tuple[str, ...]:
        """The type of each input."""
        repeat = len(self.input) if len(self.input_type) == 1 else 1
        return self.input_type * repeat

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each input.

        Raises:
            ValueError: A shape is not positive whole numbers with commas between them.
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


@dataclass(frozen=True, kw_only=True)
class ProfileRun(FrameOptions):
    """Count any torch module: FLOPs, bytes and output of each layer, and who reads it.

    Attributes:
        module: MODULE[:FACTORY]. MODULE is a name to import, also from the current directory,
            or a .py file. FACTORY is in it: a torch module, its class, or a function without
            arguments that makes one; by default ``model``, or the only class of a torch module.
            Or a file of ``torch.export.save`` (.pt2), or of ``torch.save`` (.pt) if the network
            consists of modules of ``torch.nn``. Or a profile that ships, such as
            mobilenetv2-digits, whose network is built with random weights.
        out: File for the profile; its name must end in .json.
        measure: Whether each layer is also timed on this machine, see ``device``. It takes as
            long as some forty frames.
        device: Device on which each layer is timed: cpu or cuda; cpu if only ``measure`` is given.
        threads: Threads of the processor while layers are timed. With one, their time is CPU
            time, without that of other programs; with more, it is wall time.
        picture: PNG file for a picture of the graph.
        overwrite: Whether files that are already there are replaced.
    """

    module: Annotated[str, tyro.conf.Positional]
    out: Path
    measure: bool = False
    device: str | None = None
    threads: int = 1
    picture: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.out.suffix != ".json":
            raise ValueError(f"out must end in .json, got {self.out}")
        _check_picture(self.picture)
        positive_int("threads", self.threads)
        self.check_frames(self.module)

    @property
    def timed_on(self) -> str | None:
        """The device on which layers are timed, if they are."""
        return self.device if self.device is not None or not self.measure else "cpu"


@dataclass(frozen=True, kw_only=True)
class CalibrateRun:
    """Measure how long each kind of operation takes on this machine: a + b FLOP + c bytes.

    Networks that never ran here then have a time, see ``Fitted``. Let nothing else run meanwhile.

    Attributes:
        out: File for the fit; its name must end in .json.
        seconds: Wall time for the runs, s. To prepare them takes about half a minute more; on a
            slow machine the five rounds that there must be may take longer.
        device: Device that is measured: cpu or cuda.
        threads: Threads of the processor. With one, times are CPU time; with more, wall time.
        overwrite: Whether a file that is already there is replaced.
    """

    out: Path
    seconds: float = 45.0
    device: str = "cpu"
    threads: int = 1
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.out.suffix != ".json":
            raise ValueError(f"out must end in .json, got {self.out}")
        check_fields(self, positive=("seconds",), positive_int=("threads",))


def _check_picture(path: Path | None) -> None:
    if path is not None and path.suffix != ".png":
        raise ValueError(f"picture must end in .png, got {path}")
