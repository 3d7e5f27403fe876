"""Search for the weights of a linear policy, for one scenario.

The search is the cross-entropy method with noise [SzitaLorincz2006]. In every generation, policies
are drawn from a normal distribution, all of them play the same worlds, and the best ones say from
where the next generation is drawn. Worlds are new in every generation, so that weights do not fit
a few of them. The file is written after every generation; ``--resume`` goes on from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.linear_policy import LinearPolicy, check_weights, read_weights
from agents.trials import MOST_AT_ONCE, play
from mec_gym.core.checks import check_fields, positive_int, reason_of
from mec_gym.core.files import write_whole
from mec_gym.core.problem import AnyProblem
from mec_gym.core.types import FloatArray
from mec_gym.registration import make_problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the weights are searched for.

    Attributes:
        seed: Seeds the draws of weights and of worlds.
        population: The number of policies per generation.
        elite: The number of them that the next generation is drawn after.
        worlds: The number of episodes that each policy plays.
        spread: Standard deviation of the first generation.
        noise: Standard deviation that is added in the first generation; it falls linearly to 0
            at two thirds of the generations, so that the search does not settle too soon.

    Raises:
        ValueError: A setting is outside its range.
    """

    seed: int = 0
    population: int = 24
    elite: int = 6
    worlds: int = 6
    spread: float = 0.7
    noise: float = 0.4

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive_int=("population", "elite", "worlds"),
            positive=("spread",),
            non_negative=("noise",),
            at_most={"elite": self.population, "population": 10_000, "worlds": 10_000},
        )
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {self.seed!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a search is.

    Attributes:
        mean: The middle of the distribution, (weights,); it is the policy that has been found.
        deviation: Its standard deviations, (weights,).
        history: The mean return of the elite in each generation that is done.
    """

    mean: FloatArray
    deviation: FloatArray
    history: tuple[float, ...] = ()


def begin(policy: LinearPolicy, settings: Settings) -> Progress:
    """Return the distribution that the first generation is drawn from."""
    mean = np.array([policy.begin.get(name, 0.0) for name in policy.names])
    return Progress(mean=mean, deviation=np.full(len(mean), settings.spread))


def next_generation(
    policy: LinearPolicy,
    problem: AnyProblem,
    settings: Settings,
    before: Progress,
    generations: int,
) -> Progress:
    """Draw one generation, let it play, and move the distribution to its best policies.

    Args:
        policy: Whose weights are searched for.
        problem: The problem that is played.
        settings: How the weights are searched for.
        before: How far the search is.
        generations: How many there will be in total.
    """
    number = len(before.history)
    # Two numbers: no single seed of another generator can equal them.
    rng = np.random.default_rng((settings.seed, number))
    drawn = rng.normal(before.mean, before.deviation, (settings.population, len(before.mean)))
    drawn[0] = before.mean
    trace = problem.sample(rng, settings.worlds)
    most = max(1, MOST_AT_ONCE // settings.worlds)
    blocks = [drawn[i : i + most] for i in range(0, settings.population, most)]
    returns = np.concatenate(
        [
            play(problem, policy.solver(problem, block[:, None]), len(block), trace)
            for block in blocks
        ]
    ).mean(axis=-1)
    best = np.argsort(-returns, kind="stable")[: settings.elite]
    noise = settings.noise * max(0.0, 1.0 - 1.5 * (number + 1) / generations)
    return Progress(
        mean=drawn[best].mean(axis=0),
        deviation=np.sqrt(drawn[best].var(axis=0) + noise**2),
        history=(*before.history, float(returns[best].mean())),
    )


def report(
    policy: LinearPolicy, scenario: str, settings: Settings, progress: Progress, generations: int
) -> dict[str, Any]:
    """Return what is written into the file: the weights, and how they were found."""
    options = " ".join(f"--{name} {value}" for name, value in asdict(settings).items())
    return {
        "scenario": scenario,
        "command": f"{policy.command} --scenario {scenario} --out weights.json "
        f"--generations {generations} {options}",
        "settings": asdict(settings),
        "generations": generations,
        "done": len(progress.history),
        "history": [round(value, 5) for value in progress.history],
        "weights": dict(zip(policy.names, progress.mean.tolist(), strict=True)),
        "deviations": dict(zip(policy.names, progress.deviation.tolist(), strict=True)),
    }


def resumed(policy: LinearPolicy, path: Path, scenario: str, settings: Settings) -> Progress:
    """Read how far the search of a file is.

    Raises:
        ValueError: The file is none of a search, or one with another scenario or other settings.
    """
    found = read_weights(path, policy.names)
    for name, here in (("scenario", scenario), ("settings", asdict(settings))):
        if found.get(name) != here:
            raise ValueError(f"{path} has {name} {found.get(name)!r}, not {here!r}")
    return Progress(
        mean=check_weights(found["weights"], policy.names),
        deviation=check_weights(found["deviations"], policy.names),
        history=tuple(found["history"]),
    )


def scenario_of(text: str) -> Any:
    """Return the fields of a scenario from a JSON file, or the name of a preset as it is."""
    if not text.endswith(".json"):
        return text
    try:
        return json.loads(Path(text).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"scenario {text} cannot be read: {reason_of(error)}") from error


def run(
    policy: LinearPolicy,
    scenario: str,
    out: Path,
    settings: Settings,
    generations: int,
    resume: bool,
    say: Callable[[str], None],
) -> Progress:
    """Search, and write the file after every generation.

    Args:
        policy: Whose weights are searched for.
        scenario: The name of a preset, or a JSON file with the fields of a scenario.
        out: The file.
        settings: How the weights are searched for.
        generations: How many there are in total.
        resume: Whether to go on from the file.
        say: It is told how far the search is.

    Raises:
        ValueError: The scenario is unknown, or the file is there and is not to be gone on from,
            or cannot be.
    """
    positive_int("generations", generations)
    problem = make_problem(policy.environment, scenario_of(scenario))
    if out.exists() and not resume:
        raise ValueError(f"out {out} is already there: choose another file, or --resume")
    progress = resumed(policy, out, scenario, settings) if out.exists() else begin(policy, settings)
    started = time.monotonic()
    first = len(progress.history)
    while len(progress.history) < generations:
        progress = next_generation(policy, problem, settings, progress, generations)
        found = report(policy, scenario, settings, progress, generations)
        write_whole(out, json.dumps(found, indent=2) + "\n")
        done = len(progress.history)
        left = (time.monotonic() - started) / (done - first) * (generations - done)
        say(
            f"generation {done} of {generations}: the best {settings.elite} return "
            f"{progress.history[-1]:.4f} on average; about {left:.0f} s left"
        )
    return progress


def main(policy: LinearPolicy, args: Sequence[str] | None = None) -> int:
    """Read the options, search, and return the exit status."""
    usual = Settings()
    parser = argparse.ArgumentParser(
        prog=policy.command, description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--scenario",
        default=policy.usual_scenario,
        help="a preset, or a .json file with the fields of one",
    )
    parser.add_argument("--out", type=Path, required=True, help="the file for the weights")
    parser.add_argument("--generations", type=int, default=20)
    for name, value in asdict(usual).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--resume", action="store_true", help="go on from the file, if it is there")
    given = parser.parse_args(args)
    try:
        settings = Settings(**{name: getattr(given, name) for name in asdict(usual)})
        run(
            policy,
            given.scenario,
            given.out,
            settings,
            given.generations,
            given.resume,
            lambda line: print(line, flush=True),
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; go on with the same command and --resume", file=sys.stderr)
        return 130
    return 0
