"""The agents that have a name: what ``compare --agents`` understands.

Each package with a problem has its own table of them (``agents/<package>/__init__.py``); this
module merges the tables, and adds what plays every problem. It does not load torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agents.entries import AgentEntry
from agents.protocol import Agent
from agents.runs import find_config
from mec_gym.core.extras import missing_extras_named
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.problem import AnyProblem
from mec_gym.registration import Room, make_problem, room_of, rooms

GENERAL = {"random": AgentEntry("uniform over the action space", UniformPolicy)}
"""Agents that play every problem."""

RUNS = {
    "ppo": "a model trained by 'ppo', PATH being its folder",
    "a3c": "likewise, trained by 'a3c'",
    "mtl-a3c": "likewise, trained by 'mtl-a3c'",
}
"""Kinds of runs whose agents are called ``KIND:PATH``."""


def _table(room: Room | None, name: str) -> Mapping[str, AgentEntry]:
    return {} if room is None else getattr(room.tables("agents"), name, {})


def agents_of(room: Room | None) -> dict[str, AgentEntry]:
    """The agents that play a package's problems by name, better ones first by and large.

    Args:
        room: The package; None for a problem that nobody has registered.
    """
    return {**_table(room, "AGENTS"), **GENERAL}


def references_of(room: Room | None) -> dict[str, AgentEntry]:
    """The agents that must :meth:`~agents.protocol.Clairvoyant.foresee` what they play."""
    return dict(_table(room, "REFERENCES"))


def agents_for(problem: AnyProblem) -> tuple[str, ...]:
    """Names of all agents that play a problem, better ones first by and large."""
    return tuple(agents_of(room_of(problem)))


def references_for(problem: AnyProblem) -> tuple[str, ...]:
    """Names of all references that play a problem."""
    return tuple(references_of(room_of(problem)))


def run_of(name: str) -> tuple[str, Path] | None:
    """Kind and folder of the run that an agent's name ``KIND:PATH`` means, or None."""
    kind, _, path = name.partition(":")
    return (kind, Path(path)) if path and kind in RUNS else None


def trained_on(name: str) -> tuple[str, str | None] | None:
    """Environment id and scenario that a run was trained on.

    Args:
        name: An agent's name.

    Returns:
        None if the name means no run.

    Raises:
        ValueError: There is no such run, or its configuration is damaged.
    """
    run = run_of(name)
    if run is None:
        return None
    kind, path = run
    _, config = find_config(path, kind)
    return config["env"], config["scenario"]


def make_agent(
    name: str, problem: AnyProblem | str, seed: int = 0, env_id: str | None = None
) -> Agent:
    """The agent of a name, or of a run that learnt one, as ``ppo:PATH``.

    Args:
        name: A name that ``agents_for`` or ``references_for`` lists; or one of ``RUNS``, a
            colon and a run's folder.
        problem: The problem that it plays, or the id of an environment.
        seed: Seed of the agent's own generator, if it draws anything.
        env_id: If given, a run must have been trained on this environment.

    Raises:
        ValueError: Unknown name, an agent that does not fit, an unusable run.
    """
    if isinstance(problem, str):
        env_id, problem = problem, make_problem(problem)
    run = run_of(name)
    if run is not None:
        return _load_run(*run, problem, env_id)
    room = room_of(problem)
    known = agents_of(room) | references_of(room)
    if name in known:
        return known[name].make(problem, seed)
    others = [r.name for r in rooms() if name in agents_of(r) | references_of(r)]
    hint = f" ({name!r} plays {', '.join(others)})" if others else ""
    allowed = ", ".join([*known, *(f"{kind}:PATH" for kind in RUNS)])
    raise ValueError(
        f"agent must be one of {allowed} to play {type(problem).__name__}, got {name!r}{hint}"
    )


def _load_run(kind: str, path: Path, problem: AnyProblem, env_id: str | None) -> Agent:
    # torch takes seconds to load; nobody else needs it.
    with missing_extras_named():
        if kind == "ppo":
            from agents.ppo.model import load_ppo

            return load_ppo(path, problem, env_id)
        from agents.a3c.agent import load_a3c

        return load_a3c(path, problem, env_id, multi_task=kind == "mtl-a3c")
