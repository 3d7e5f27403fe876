"""Families of federated training beside each other, and beside what publications report."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray
from train.evaluation.evaluate import interval
from train.reproduce.federated_training.families import (
    CASES,
    CLAIMS,
    FAMILIES,
    PAYLOADS,
    QUORUMS,
    SKEWS,
    Measure,
    payload_case,
    quorum_case,
    skew_case,
)
from train.reproduce.federated_training.play import Played, play

MEGABYTE = 8e6  # bit
AGREES, OPEN, DISAGREES = "agrees", "open", "does not agree"

Plays = Mapping[str, Played]
"""What came of each protocol, by its name."""


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
        reached_s: The time until 80 %, s, the budget where that was never reached.
        base_reached_s: The same of the other one.
        reached: The share of worlds in which it was reached.
        merges: How often the server merged.
        up_mb: What clients sent, MB.
        base_up_mb: The same of the other one.
        useless: The share of jobs whose updates were lost or dropped.
        staleness: Mean staleness of what was merged.
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
    merges: float
    up_mb: float
    base_up_mb: float
    useless: float
    staleness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """What a publication says, and ours.

    Attributes:
        source: The key of the publication.
        says: What it says.
        measure: What is compared; less is better.
        better: The protocol that is said to be better.
        worse: The other one.
        ours_better: The mean of the first over our worlds.
        ours_worse: The mean of the second.
        difference: The first minus the second.
        low: Lower end of its paired 95 % interval.
        high: Upper end.
        verdict: Whether ours agrees; open if the interval holds 0.
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
    verdict: str


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


def play_all(worlds: int, workers: int) -> dict[str, Played]:
    """Play all protocols in the same worlds.

    Args:
        worlds: The number of worlds.
        workers: The number of processes; what comes out does not depend on it.
    """
    one = partial(play, worlds=worlds)
    if workers == 1:
        return {name: one(case) for name, case in CASES.items()}
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        # Ctrl-C ends a worker without a word of its own.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )
    with pool:
        return dict(zip(CASES, pool.map(one, CASES.values()), strict=True))


def families(plays: Plays) -> list[FamilyRow]:
    """Hold each family of the survey's tables against its base.

    Args:
        plays: What came of all protocols.
    """
    rows = []
    for family in FAMILIES:
        ours, base = plays[family.case], plays[family.base]
        low, high = interval(ours.error - base.error)
        rows.append(
            FamilyRow(
                table=family.table,
                reference=family.reference,
                what=family.what,
                case=family.case,
                base=family.base,
                error=_mean(ours.error),
                base_error=_mean(base.error),
                difference=_mean(ours.error - base.error),
                low=low,
                high=high,
                test_accuracy=_mean(ours.test_accuracy),
                base_test_accuracy=_mean(base.test_accuracy),
                reached_s=_mean(ours.reached_s),
                base_reached_s=_mean(base.reached_s),
                reached=_mean(ours.reached),
                merges=_mean(ours.merges),
                up_mb=_mean(ours.up_bits) / MEGABYTE,
                base_up_mb=_mean(base.up_bits) / MEGABYTE,
                useless=_mean(ours.useless),
                staleness=_mean(ours.staleness),
            )
        )
    return rows


def measured(played: Played, measure: Measure) -> FloatArray:
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


def verdict(low: float, high: float) -> str:
    """Say whether a difference agrees with a claim that it is below 0.

    Args:
        low: Lower end of its interval.
        high: Upper end.
    """
    if high < 0:
        return AGREES
    return DISAGREES if low > 0 else OPEN


def claims(plays: Plays) -> list[ClaimRow]:
    """Hold ours against what publications say.

    Args:
        plays: What came of all protocols.
    """
    rows = []
    for claim in CLAIMS:
        better, worse = (
            measured(plays[name], claim.measure) for name in (claim.better, claim.worse)
        )
        low, high = interval(better - worse)
        rows.append(
            ClaimRow(
                source=claim.source,
                says=claim.says,
                measure=claim.measure,
                better=claim.better,
                worse=claim.worse,
                ours_better=_mean(better),
                ours_worse=_mean(worse),
                difference=_mean(better - worse),
                low=low,
                high=high,
                verdict=verdict(low, high),
            )
        )
    return rows


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
                    merge_s=_mean(played.merge_s),
                    error=_mean(played.error),
                    low=low,
                    high=high,
                    test_accuracy=_mean(played.test_accuracy),
                    staleness=_mean(played.staleness),
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
                    error=_mean(played.error),
                    low=low,
                    high=high,
                    test_accuracy=_mean(played.test_accuracy),
                    up_mb=_mean(played.up_bits) / MEGABYTE,
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
                error=_mean(played.error),
                low=low,
                high=high,
                test_error=_mean(wrong),
                test_low=test_low,
                test_high=test_high,
            )
        )
    return rows


def _mean(values: FloatArray | BoolArray) -> float:
    return float(np.mean(values))
