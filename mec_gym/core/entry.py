"""What stands behind an environment id."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
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
            it. With ``+`` it is added to a preset or another kind if its function takes a
            ``scenario`` to begin from.
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

    @property
    def names(self) -> str:
        """What :meth:`named` takes, in words."""
        kinds = (f"{kind}:PATH" for kind in self.sources)
        return f"{', '.join([*self.presets, *kinds])} (each also with +FIELD=VALUE)"

    def named(self, text: str) -> Any:
        """Make the scenario that a text names.

        Such a text is a preset, ``KIND:PATH`` of a file, or a few of them: ``sync+images:a.npz``,
        ``csv:a.csv+unit=kbit/s+profile:b.json``. Behind them, ``+FIELD=VALUE`` changes single
        fields of the scenario: ``sync+alpha=0.3+at_once=5``.

        Args:
            text: The text.

        Returns:
            The scenario; None if the text begins with no preset, and with no kind and path.

        Raises:
            ValueError: A kind stands twice or is not one to combine, there is no such option or
                field, or a field has a value that is not allowed.
        """
        kinds = "|".join(map(re.escape, self.sources))
        scenario: Any = None
        done: set[str] = set()
        changes: dict[str, Any] = {}
        for part in re.split(rf"\+(?=(?:{kinds}):.)", text) if kinds else [text]:
            whole, *pairs = re.split(r"\+(?=[a-z_]+=)", part)
            options: dict[str, Any] = dict(pair.split("=", 1) for pair in pairs)
            kind, _, path = whole.partition(":")
            if not done and whole in self.presets:
                scenario = self.presets[whole].make()
            elif path and kind in self.sources:
                if kind in done:
                    raise ValueError(f"scenario {text!r}: {kind} cannot be added once more")
                scenario = self._from_source(kind, path, options, scenario, text)
            else:
                return None
            done.add(kind)
            changes |= options
        if not changes:
            return scenario
        known = {one.name for one in fields(scenario)} if is_dataclass(scenario) else set()
        for name in (name for name in changes if name not in known):
            raise ValueError(f"scenario {text!r}: there is no option or field {name!r}")
        return replace(scenario, **{name: _value(written) for name, written in changes.items()})

    def _from_source(
        self, kind: str, path: str, options: dict[str, Any], begin_from: Any, text: str
    ) -> Any:
        """Make a scenario of a file, and take the options that are the function's out of all."""
        make = self.sources[kind]
        known = list(inspect.signature(make).parameters)[1:]
        mine = {name: options.pop(name) for name in known if name in options}
        if "scenario" in mine:
            raise ValueError(f"scenario {text!r}: {kind} has no option 'scenario'")
        if begin_from is not None:
            if "scenario" not in known:
                raise ValueError(f"scenario {text!r}: {kind} cannot be added to what stands before")
            mine["scenario"] = begin_from
        return make(path, **mine)


def _value(written: str) -> Any:
    """What stands behind ``FIELD=``: a value as Python writes it, or a text."""
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written
