"""A family beside what it is held against, and a claim of a publication beside ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray
from train.evaluation.evaluate import interval

MEGABYTE = 8e6  # bit
AGREES, OPEN, DISAGREES = "agrees", "open", "does not agree"


class Played(Protocol):
    """What came of one protocol, in each of n worlds."""

    @property
    def error(self) -> FloatArray:
        """Mean error over the budget, (n,)."""

    @property
    def test_accuracy(self) -> FloatArray:
        """Accuracy on test images at the end, (n,)."""

    @property
    def reached(self) -> BoolArray:
        """Whether the accuracy whose time is kept was ever reached, (n,)."""

    @property
    def reached_s(self) -> FloatArray:
        """The time until then, or the whole budget, (n,) s."""

    @property
    def sent_mb(self) -> FloatArray:
        """What was sent, (n,) MB."""


P = TypeVar("P", bound=Played)


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the survey's tables.

    Attributes:
        table: The number of the table.
        reference: The reference as the survey numbers it, and its key here.
        what: What the family changes, in a few words.
        case: The protocol.
        base: The protocol that it is held against.
    """

    table: int
    reference: str
    what: str
    case: str
    base: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a publication says of two protocols.

    Attributes:
        source: The key of the publication.
        says: What it says.
        measure: What is held against it; less is better.
        better: The protocol that is said to be better.
        worse: The other one.
        margin: By what share of the other one it may be worse, if it is only said to be as good.
    """

    source: str
    says: str
    measure: str
    better: str
    worse: str
    margin: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """One family beside what it is held against; means over worlds.

    Attributes:
        table: The number of the survey's table.
        reference: The survey's reference.
        what: What the family changes.
        case: The protocol.
        base: The protocol that it is held against.
        error: Mean error over the budget.
        base_error: The same of the other one.
        difference: The first minus the second.
        low: Lower end of its 95 % interval.
        high: Upper end.
        test_accuracy: On test images at the end.
        base_test_accuracy: The same of the other one.
        reached_s: The time until the accuracy whose time is kept, s; the budget where it was never
            reached.
        base_reached_s: The same of the other one.
        reached: The share of worlds in which it was reached.
        sent_mb: What was sent, MB.
        base_sent_mb: The same of the other one.
    """

    table: int
    reference: str
    what: str
    case: str
    base: str
    error: float
    base_error: float
    difference: float
    low: float
    high: float
    test_accuracy: float
    base_test_accuracy: float
    reached_s: float
    base_reached_s: float
    reached: float
    sent_mb: float
    base_sent_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """What a publication says, and ours.

    Attributes:
        source: The key of the publication.
        says: What it says.
        measure: What is compared; less is better.
        better: The protocol that is said to be better, or as good.
        worse: The other one.
        ours_better: The mean of the first over our worlds.
        ours_worse: The mean of the second.
        difference: The first minus the second.
        low: Lower end of its paired 95 % interval.
        high: Upper end.
        allowed: By how much the first may be worse: 0, unless it is only said to be as good.
        verdict: Whether ours agrees; open if the interval holds ``allowed``.
    """

    source: str
    says: str
    measure: str
    better: str
    worse: str
    ours_better: float
    ours_worse: float
    difference: float
    low: float
    high: float
    allowed: float
    verdict: str


def mean(values: FloatArray | BoolArray) -> float:
    """Return the mean over worlds."""
    return float(np.mean(values))


def family_row(family: Family, plays: Mapping[str, P]) -> FamilyRow:
    """Hold a family against its base.

    Args:
        family: The family.
        plays: What came of all protocols, by their names.
    """
    ours, base = plays[family.case], plays[family.base]
    low, high = interval(ours.error - base.error)
    return FamilyRow(
        table=family.table,
        reference=family.reference,
        what=family.what,
        case=family.case,
        base=family.base,
        error=mean(ours.error),
        base_error=mean(base.error),
        difference=mean(ours.error - base.error),
        low=low,
        high=high,
        test_accuracy=mean(ours.test_accuracy),
        base_test_accuracy=mean(base.test_accuracy),
        reached_s=mean(ours.reached_s),
        base_reached_s=mean(base.reached_s),
        reached=mean(ours.reached),
        sent_mb=mean(ours.sent_mb),
        base_sent_mb=mean(base.sent_mb),
    )


def verdict(low: float, high: float, allowed: float = 0.0) -> str:
    """Say whether a difference agrees with a claim that it is below what is allowed.

    Args:
        low: Lower end of its interval.
        high: Upper end.
        allowed: What is allowed.
    """
    if high < allowed:
        return AGREES
    return DISAGREES if low > allowed else OPEN


def claim_rows(
    claims: Sequence[Claim],
    plays: Mapping[str, P],
    measured: Callable[[P, str], FloatArray],
) -> list[ClaimRow]:
    """Hold ours against what publications say.

    Args:
        claims: What they say.
        plays: What came of all protocols, by their names.
        measured: Function that returns a measure of what came of a protocol, (n,).
    """
    rows = []
    for claim in claims:
        better, worse = (
            measured(plays[name], claim.measure) for name in (claim.better, claim.worse)
        )
        low, high = interval(better - worse)
        allowed = claim.margin * mean(worse)
        rows.append(
            ClaimRow(
                source=claim.source,
                says=claim.says,
                measure=claim.measure,
                better=claim.better,
                worse=claim.worse,
                ours_better=mean(better),
                ours_worse=mean(worse),
                difference=mean(better - worse),
                low=low,
                high=high,
                allowed=allowed,
                verdict=verdict(low, high, allowed),
            )
        )
    return rows
