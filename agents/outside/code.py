"""An agent of the user's own code, called MODULE:NAME."""

from __future__ import annotations

from importlib import import_module

from agents.protocol import Agent
from mec_gym.core.problem import AnyProblem


def load_code(module: str, name: str, problem: AnyProblem, seed: int) -> Agent:
    """Take an agent from a module of the user's own; this runs the module.

    Args:
        module: The dotted name of the module; the current directory may hold it.
        name: The name of an object with ``predict``, or of a function (or class) that makes one
            when it is called with the problem and the seed of the agent's own generator.
        problem: The problem that the agent is to play.
        seed: The seed.

    Raises:
        ValueError: There is no such module or name, it raises an error, or what it makes has no
            ``predict``.
    """
    called = f"{module}:{name}"
    try:
        found = getattr(import_module(module), name)
        # A class has the method, too, but not its own data.
        if isinstance(found, type) or not hasattr(found, "predict"):
            found = found(problem, seed)
    except Exception as error:
        raise ValueError(f"agent {called!r}: {type(error).__name__}: {error}") from error
    if not callable(getattr(found, "predict", None)):
        raise ValueError(f"agent {called!r} must be, or make, an agent with predict, got {found!r}")
    agent: Agent = found
    return agent
