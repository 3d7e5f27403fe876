"""What stands behind an environment id."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mec_gym.core.checks import positive_int
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
            scenario is named ``KIND:PATH``, with options of the function as ``+NAME=TEXT`` behind
            it. Kinds are combined with ``+`` if their functions take a ``scenario`` to begin from.
        episodes: The number of episodes over which agents are compared unless another one is asked
            for; fewer where an episode takes long.

    Raises:
        ValueError: ``default`` is not among the presets, ``problem`` is not a class, or
            ``episodes`` is not a whole number of at least 1.
    """

    about: str
    problem: type[Any]
    scenario_type: type[Any]
    presets: Mapping[str, Preset[Any]]
    default: str
    sources: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    episodes: int = 500

    def __post_init__(self) -> None:
        if not isinstance(self.problem, type):
            raise ValueError(f"problem must be a class, got {self.problem!r}")
        positive_int("episodes", self.episodes)
        if self.default not in self.presets:
            raise ValueError(
                f"default must be one of {', '.join(self.presets)}, got {self.default!r}"
            )

    def from_sources(self, text: str) -> Any:
        """Make the scenario that a text such as ``csv:a.csv+unit=kbit/s+profile:b.json`` names.

        Args:
            text: Kinds and paths, and options.

        Returns:
            The scenario; None if the text does not begin with a kind and a path.

        Raises:
            ValueError: A kind stands twice, is not one to combine, or has no such option.
        """
        kinds = "|".join(map(re.escape, self.sources))
        if not kinds or not re.match(rf"(?:{kinds}):.", text):
            return None
        scenario: Any = None
        done: set[str] = set()
        for part in re.split(rf"\+(?=(?:{kinds}):.)", text):
            whole, *pairs = re.split(r"\+(?=[a-z_]+=)", part)
            kind, _, path = whole.partition(":")
            make = self.sources[kind]
            options: dict[str, Any] = dict(pair.split("=", 1) for pair in pairs)
            known = list(inspect.signature(make).parameters)[1:]
            wrong = [name for name in options if name not in known or name == "scenario"]
            if wrong:
                raise ValueError(f"scenario {text!r}: {kind} has no option {wrong[0]!r}")
            if kind in done or (done and "scenario" not in known):
                raise ValueError(f"scenario {text!r}: {kind} cannot be added to what stands before")
            if done:
                options["scenario"] = scenario
            scenario = make(path, **options)
            done.add(kind)
        return scenario
