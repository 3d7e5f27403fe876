"""The agents that have a name: what ``mec-gym compare --agents`` understands.

Each package with a problem has its own table of agents (``agents/<package>/__init__.py``). This
module merges the tables and adds the agents that play every problem. It does not load torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agents.entries import AgentEntry, find_table
from agents.outside.code import load_code
from agents.protocol import Agent
from agents.runs import find_config
from mec_gym.core.extras import missing_extras_named
from mec_gym.core.modules import is_module
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.problem import AnyProblem, check_is_problem
from mec_gym.registration import Room, make_problem, room_of, rooms

GENERAL = {"random": AgentEntry("draws uniformly from the action space", UniformPolicy)}
"""Agents that play every problem."""

RUNS = {
    "ppo": "a model trained by 'ppo', PATH being its folder",
    "a3c": "a model trained by 'a3c', PATH being its folder",
    "mtl-a3c": "a model trained by 'mtl-a3c', PATH being its folder",
}
"""Kinds of runs whose agents are called ``KIND:PATH``, each with a line about it."""

OUTSIDE = {
    "sb3:PATH": "a model that a script of yours saved with Stable-Baselines3, PATH being the file",
    "MODULE:NAME": "an agent of yours, or a function of (problem, seed) that makes it",
}
"""The names of agents that were made elsewhere, each with a line about it."""


def agents_of(room: Room | None) -> dict[str, AgentEntry]:
    """Return the agents that play a package's problems, by name.

    They are ordered by and large from the best one to the worst one.

    Args:
        room: The package; None for a problem that nobody has registered.
    """
    return {**find_table(room, "AGENTS"), **GENERAL}


def references_of(room: Room | None) -> dict[str, AgentEntry]:
    """Return the agents that must :meth:`~agents.protocol.Clairvoyant.foresee` what they play.

    Args:
        room: The package; None for a problem that nobody has registered.
    """
    return dict(find_table(room, "REFERENCES"))


def agents_for(problem: AnyProblem) -> tuple[str, ...]:
    """List the names of all agents that play a problem, by and large from best to worst."""
    return tuple(agents_of(room_of(problem)))


def references_for(problem: AnyProblem) -> tuple[str, ...]:
    """List the names of all references that play a problem."""
    return tuple(references_of(room_of(problem)))


def run_of(name: str) -> tuple[str, Path] | None:
    """Return kind and folder of the run that a name ``KIND:PATH`` means; None if it means none."""
    kind, _, path = name.partition(":")
    return (kind, Path(path)) if path and kind in RUNS else None


def trained_on(name: str) -> tuple[str, str | None] | None:
    """Return the environment id and the scenario that a run was trained on.

    Args:
        name: The name of an agent.

    Returns:
        The id and the scenario's name (None for the environment's own), or None if the agent's
        name does not mean a run.

    Raises:
        ValueError: There is no such run, or its configuration is damaged.
    """
    run = run_of(name)
    if run is None:
        return None
    kind, path = run
    _, config = find_config(path, kind)
    return config["env"], config["scenario"]


def check_name(name: str, problem: AnyProblem) -> None:
    """Check that a name means an agent or a reference that plays a problem, or a run or code.

    Raises:
        ValueError: It means nothing, or an agent of other problems.
    """
    _maker(name, problem, None)


def _maker(name: str, problem: AnyProblem, env_id: str | None) -> Callable[[int], Agent]:
    """Find what makes the agent of a name: a function of the seed.

    Raises:
        ValueError: The name means nothing, or an agent of other problems.
    """
    room = room_of(problem)
    known = agents_of(room) | references_of(room)
    if name in known:
        return lambda seed: known[name].make(problem, seed)
    run = run_of(name)
    if run is not None:
        return lambda seed: _load_run(*run, problem, env_id)
    place, _, rest = name.rpartition(":")
    if rest and name.startswith("sb3:"):
        return lambda seed: _load_sb3(name.removeprefix("sb3:"), problem)
    if rest and is_module(place):
        return lambda seed: load_code(place, rest, problem, seed)
    others = [r.name for r in rooms() if name in agents_of(r) | references_of(r)]
    hint = f" ({name!r} plays {', '.join(others)})" if others else ""
    allowed = ", ".join([*known, *(f"{kind}:PATH" for kind in RUNS), *OUTSIDE])
    raise ValueError(
        f"agent must be one of {allowed} to play {type(problem).__name__}, got {name!r}{hint}"
    )


def make_agent(
    name: str, problem: AnyProblem | str, seed: int = 0, env_id: str | None = None
) -> Agent:
    """Make the agent of a name, or load the one that a run has learnt (``ppo:PATH``).

    Args:
        name: A name that ``agents_for`` or ``references_for`` lists; or one of ``RUNS``, a
            colon and the folder of a run; or a name as in ``OUTSIDE``.
        problem: The problem that the agent plays, or the id of an environment.
        seed: Seed of the agent's own generator, for agents that draw.
        env_id: The id of the environment that a run must have been trained on; None if the
            problem may be any that the model fits.

    Raises:
        ValueError: The name is unknown, the agent does not fit the problem, or the run is
            unusable.
    """
    if isinstance(problem, str):
        env_id, problem = problem, make_problem(problem)
    check_is_problem(problem)
    if not isinstance(name, str):
        raise ValueError(f"name must be the name of an agent, got {name!r}")
    return _maker(name, problem, env_id)(seed)


def _load_sb3(path: str, problem: AnyProblem) -> Agent:
    with missing_extras_named():
        from agents.outside.sb3 import load_sb3

        return load_sb3(path, problem)


def _load_run(kind: str, path: Path, problem: AnyProblem, env_id: str | None) -> Agent:
    # torch takes seconds to load; nobody else needs it.
    with missing_extras_named():
        if kind == "ppo":
            from agents.ppo.model import load_ppo

            return load_ppo(path, problem, env_id)
        from agents.a3c.agent import load_a3c

        return load_a3c(path, problem, env_id, multi_task=kind == "mtl-a3c")
