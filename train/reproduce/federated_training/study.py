"""Families of federated training beside each other, and beside what publications report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from mec_gym.core.types import FloatArray
from train.evaluation.evaluate import interval
from train.reproduce.families.rows import (
    MEGABYTE,
    ClaimRow,
    FamilyRow,
    claim_rows,
    family_row,
    mean,
)
from train.reproduce.federated_training.families import (
    CLAIMS,
    FAMILIES,
    PAYLOADS,
    QUORUMS,
    SKEWS,
    payload_case,
    quorum_case,
    skew_case,
)
from train.reproduce.federated_training.play import Played

Plays = Mapping[str, Played]
"""What came of each protocol, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRow(FamilyRow):
    """One family beside what it is held against, and what the server did; means over worlds.

    Attributes:
        merges: How often the server merged.
        useless: The share of jobs whose updates were lost or dropped.
        staleness: Mean staleness of what was merged.
    """

    merges: float
    useless: float
    staleness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumRow:
    """How often the server merges, and what becomes of it, if it waits for K of 10 clients.

    Attributes:
        quorum: K.
        kept: Whether those that come later go on (K-async), or are dropped (K-sync).
        merge_s: From one merge to the next, s.
        error: Mean error over the budget.
        low: Lower end of its 95 % interval.
        high: Upper end.
        test_accuracy: At the end.
        staleness: Mean staleness of what was merged.
    """

    quorum: int
    kept: bool
    merge_s: float
    error: float
    low: float
    high: float
    test_accuracy: float
    staleness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRow:
    """What is lost and saved by sending less.

    Attributes:
        payload: What clients send.
        large: Whether the model is ten times as large.
        share: What an update takes, as a share of all weights.
        error: Mean error over the budget.
        low: Lower end of its 95 % interval.
        high: Upper end.
        test_accuracy: At the end.
        up_mb: What clients sent during the episode, MB.
    """

    payload: str
    large: bool
    share: float
    error: float
    low: float
    high: float
    test_accuracy: float
    up_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SkewRow:
    """What is learnt from images of unlike classes by equally fast clients.

    Attributes:
        alpha: The parameter of the Dirichlet distribution per class; infinite: images alike.
        error: Mean error over the budget.
        low: Lower end of its 95 % interval.
        high: Upper end.
        test_error: 1 - accuracy on test images at the end.
        test_low: Lower end of its 95 % interval.
        test_high: Upper end.
    """

    alpha: float
    error: float
    low: float
    high: float
    test_error: float
    test_low: float
    test_high: float


def families(plays: Plays) -> list[ServerRow]:
    """Hold each family of the survey's tables against its base.

    Args:
        plays: What came of all protocols.
    """
    return [
        ServerRow(
            **asdict(family_row(family, plays)),
            merges=mean(plays[family.case].merges),
            useless=mean(plays[family.case].useless),
            staleness=mean(plays[family.case].staleness),
        )
        for family in FAMILIES
    ]


def measured(played: Played, measure: str) -> FloatArray:
    """Return what claims are held against, (n,); less is better.

    Where 80 % were never reached, time, merges and bits of the whole episode count.

    Args:
        played: What came of a protocol.
        measure: Which number.
    """
    values = {
        "error": played.error,
        "test error": 1.0 - played.test_accuracy,
        "s to 80 %": played.reached_s,
        "merges to 80 %": played.reached_merges,
        "MB to 80 %": played.reached_bits / MEGABYTE,
        "s per merge": played.merge_s,
    }
    return values[measure]


def claims(plays: Plays) -> list[ClaimRow]:
    """Hold ours against what publications say.

    Args:
        plays: What came of all protocols.
    """
    return claim_rows(CLAIMS, plays, measured)


def quorums(plays: Plays) -> list[QuorumRow]:
    """Return what becomes of waiting for more clients or fewer.

    Args:
        plays: What came of all protocols.
    """
    rows = []
    for kept in (False, True):
        for quorum in QUORUMS:
            played = plays[quorum_case(quorum, kept)]
            low, high = interval(played.error)
            rows.append(
                QuorumRow(
                    quorum=quorum,
                    kept=kept,
                    merge_s=mean(played.merge_s),
                    error=mean(played.error),
                    low=low,
                    high=high,
                    test_accuracy=mean(played.test_accuracy),
                    staleness=mean(played.staleness),
                )
            )
    return rows


def payloads(plays: Plays) -> list[PayloadRow]:
    """Return what becomes of sending less, for both sizes of the model.

    Args:
        plays: What came of all protocols.
    """
    rows = []
    for large in (False, True):
        whole = plays[payload_case(PAYLOADS[0], large)]
        per_job = whole.up_bits.sum() / whole.jobs.sum()
        for payload in PAYLOADS:
            played = plays[payload_case(payload, large)]
            low, high = interval(played.error)
            rows.append(
                PayloadRow(
                    payload=payload,
                    large=large,
                    share=float(played.up_bits.sum() / played.jobs.sum() / per_job),
                    error=mean(played.error),
                    low=low,
                    high=high,
                    test_accuracy=mean(played.test_accuracy),
                    up_mb=mean(played.sent_mb),
                )
            )
    return rows


def skews(plays: Plays) -> list[SkewRow]:
    """Return what becomes of more and more skew.

    Args:
        plays: What came of all protocols.
    """
    rows = []
    for alpha in (np.inf, *SKEWS):
        played = plays["equal, iid" if np.isinf(alpha) else skew_case(alpha)]
        low, high = interval(played.error)
        wrong = 1.0 - played.test_accuracy
        test_low, test_high = interval(wrong)
        rows.append(
            SkewRow(
                alpha=float(alpha),
                error=mean(played.error),
                low=low,
                high=high,
                test_error=mean(wrong),
                test_low=test_low,
                test_high=test_high,
            )
        )
    return rows
