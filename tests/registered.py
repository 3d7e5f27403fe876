"""What tests of registered environments have to be told; see ``tests/<problem>/registered.py``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mec_gym.registration import ROOMS


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One environment.

    Attributes:
        default: Name of the scenario that it plays by default.
        horizon: T of that scenario.
        drawn: Place in the observation of a number that nature draws anew for each slot, or
            places of which one has to differ.
        left: Place in the observation of a number that says how much is left to do when an
            episode is played to the end.
        own: Fields of a scenario of its own, of four steps.
        longer: Fields to change in the default scenario for a longer horizon.
        to_the_end: Fields of a scenario whose episodes have as many steps as they can have; None
            if those of the default scenario do.
        positive: Name of a field that has to be positive.
        reward: What the reward is, told the parts of an outcome.
        slow_presets: Presets whose conformance takes long, and is shown by others.
        large_presets: Presets whose conformance takes hours, because learning in them is real. It
            is shown on small scenarios like them.
        slow_agents: Agents that take long to make, or to decide.
    """

    default: str
    horizon: int
    drawn: int | Sequence[int]
    left: int
    own: Mapping[str, Any]
    longer: Mapping[str, Any]
    reward: Callable[[Mapping[str, float]], float]
    positive: str = "battery"
    to_the_end: Mapping[str, Any] | None = None
    slow_presets: frozenset[str] = frozenset()
    large_presets: frozenset[str] = frozenset()
    slow_agents: frozenset[str] = frozenset()


REGISTERED: dict[str, Registered] = {
    env_id: known
    for room in ROOMS
    for env_id, known in import_module(f"{room}.registered").REGISTERED.items()
}
