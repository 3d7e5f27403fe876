"""What stands behind an environment id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mec_gym.core.presets import Preset


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One environment id: what stands behind ``gymnasium.make(id)``.

    Attributes:
        about: One line that says what is asked of the agent.
        problem: The Problem class, called with a scenario.
        scenario_type: The class that ``scenario=`` must be an instance of, if no name is given.
        presets: The scenarios that have a name.
        default: Name of the scenario that is played unless another is asked for.
        sources: Functions that make a scenario of a file of the user's own, by kind: such a
            scenario is named ``KIND:PATH``.

    Raises:
        ValueError: ``default`` is not among the presets, or ``problem`` is not a class.
    """

    about: str
    problem: type[Any]
    scenario_type: type[Any]
    presets: Mapping[str, Preset[Any]]
    default: str
    sources: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.problem, type):
            raise ValueError(f"problem must be a class, got {self.problem!r}")
        if self.default not in self.presets:
            raise ValueError(
                f"default must be one of {', '.join(self.presets)}, got {self.default!r}"
            )
