"""A scenario that has a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

ScenarioT = TypeVar("ScenarioT")


@dataclass(frozen=True, slots=True)
class Preset(Generic[ScenarioT]):
    """A named scenario, made only when it is asked for.

    Attributes:
        make: Builds the scenario.
        about: One line that says what is special about it.
    """

    make: Callable[[], ScenarioT]
    about: str
