"""Heads: what stands between an environment and a policy network.

A head turns observations into network inputs and network outputs into actions. It sees
no more than the network does, so a policy with a head is an ordinary agent.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.entries import find_table
from agents.heads.flat import FlatHead
from agents.heads.protocol import Head
from mec_gym.core.problem import AnyProblem
from mec_gym.registration import Room, room_of, rooms

__all__ = ["FlatHead", "Head", "heads_of", "make_head"]


def heads_of(room: Room | None) -> dict[str, str]:
    """Return the heads that fit a package's problems: name -> what the network decides.

    Args:
        room: The package; None for a problem that nobody has registered.
    """
    own = {name: entry.about for name, entry in find_table(room, "HEADS").items()}
    return {"flat": "the action itself", **own}


def make_head(
    name: str, problem: AnyProblem, parameters: Mapping[str, float] | None = None
) -> Head:
    """Make the head of a name for a problem.

    Args:
        name: ``flat``, or a name in the table ``HEADS`` of the problem's package.
        problem: The problem that is played.
        parameters: The parameters of an earlier head, so that a model keeps its meaning wherever
            it is loaded; by default the head finds them out anew.

    Raises:
        ValueError: The name is unknown, or the head does not fit the problem.
    """
    if not isinstance(name, str):
        raise ValueError(f"head must be a name, got {name!r}")
    if name == "flat":
        return FlatHead(problem)
    table = find_table(room_of(problem), "HEADS")
    if name not in table:
        others = [room.name for room in rooms() if name in find_table(room, "HEADS")]
        hint = f" ({name!r} fits {', '.join(others)})" if others else ""
        raise ValueError(
            f"head must be one of {', '.join(['flat', *table])} for {type(problem).__name__}, "
            f"got {name!r}{hint}"
        )
    try:
        head: Head = table[name].make(problem, **(parameters or {}))
    except TypeError as error:
        if not parameters:
            raise
        raise ValueError(f"head {name!r} has no parameters {dict(parameters)}: {error}") from error
    return head
