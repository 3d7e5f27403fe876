"""A bound for those who cannot see the future, and how much of a return was luck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mec_gym.core.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineBound:
    """What no policy can expect that does not know the future.

    It bounds an *expectation*, so it must never be set against the mean return over a few
    episodes, which may be easier or harder than usual. ``luck`` says how much easier.

    Attributes:
        mean: The bound on the expected return.
        se: Its standard error.
        luck: Function of a trace (n, T, ...) and of the outcomes of playing it, fields (n, T,
            ...): how much better than usual the slots were, seen from the states in which they
            were met, (n,). Its expectation is 0 for every policy that does not know the future.
            So the mean of return - luck estimates the expected return, and far more exactly than
            the mean return does.
    """

    mean: float
    se: float
    luck: Callable[[Any, Any], FloatArray]


@runtime_checkable
class OffersOnlineBound(Protocol):
    """A problem that may know an online bound; a Problem need not have these two."""

    @property
    def has_online_bound(self) -> bool:
        """Whether one may be known for the problem's scenario; this is answered at once."""
        ...

    def online_bound(self) -> OnlineBound | None:
        """The bound, which may take a minute the first time, or None where none is known."""
        ...


def has_online_bound(problem: Any) -> bool:
    """Whether a problem may know an online bound; nothing is computed yet."""
    return isinstance(problem, OffersOnlineBound) and problem.has_online_bound


def online_bound_of(problem: Any) -> OnlineBound | None:
    """The online bound of a problem; None if it offers none."""
    return problem.online_bound() if has_online_bound(problem) else None
