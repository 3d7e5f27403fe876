"""Families of gossip beside each other, and beside what publications report."""

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
from train.reproduce.gossip_training.families import (
    CLAIMS,
    FAMILIES,
    PAYLOADS,
    POLICIES,
    SETTINGS,
    payload_case,
    setting_case,
)
from train.reproduce.gossip_training.play import Played

Plays = Mapping[str, Played]
"""What came of each protocol, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipRow(FamilyRow):
    """One family beside what it is held against, and how devices talked; means over worlds.

    Attributes:
        rounds: Rounds until all budgets were used up.
        waiting: The share of the time that was not spent on training.
        base_waiting: The same of the other one.
        consensus: Distance of models from their mean, averaged over rounds.
        base_consensus: The same of the other one.
    """

    rounds: float
    waiting: float
    base_waiting: float
    consensus: float
    base_consensus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """A policy in a setting.

    Attributes:
        setting: What devices hold, and whether they are equally fast.
        policy: Who listens to whom.
        reached_s: The median of the times until 90 %, s; the budget where that was never reached.
        reached: The share of worlds in which it was reached.
        error: The median of the mean errors over the budget.
        low: The lower quartile.
        high: The upper quartile.
        test_accuracy: The median on test images at the end.
        waiting: The median of the shares of time that were not spent on training.
        sent_mb: The median of what devices sent, MB.
    """

    setting: str
    policy: str
    reached_s: float
    reached: float
    error: float
    low: float
    high: float
    test_accuracy: float
    waiting: float
    sent_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRow:
    """What is lost and saved by sending something else, between equally fast devices.

    Attributes:
        payload: What devices send, and to how many.
        large: Whether the model is ten times as large.
        error: Mean error over the budget.
        low: Lower end of its 95 % interval.
        high: Upper end.
        test_accuracy: On test images at the end.
        round_mb: What devices sent per round, MB.
        sent_mb: What they sent in the end, MB.
    """

    payload: str
    large: bool
    error: float
    low: float
    high: float
    test_accuracy: float
    round_mb: float
    sent_mb: float


def families(plays: Plays) -> list[GossipRow]:
    """Hold each family of the survey's tables against its base.

    Args:
        plays: What came of all protocols.
    """
    return [
        GossipRow(
            **asdict(family_row(family, plays)),
            rounds=mean(plays[family.case].rounds),
            waiting=mean(plays[family.case].waiting),
            base_waiting=mean(plays[family.base].waiting),
            consensus=mean(plays[family.case].consensus),
            base_consensus=mean(plays[family.base].consensus),
        )
        for family in FAMILIES
    ]


def measured(played: Played, measure: str) -> FloatArray:
    """Return what claims are held against, (n,); less is better.

    Where 90 % were never reached, time, rounds and bits of the whole episode count.

    Args:
        played: What came of a protocol.
        measure: Which number.
    """
    values = {
        "error": played.error,
        "test error": 1.0 - played.test_accuracy,
        "s to 90 %": played.reached_s,
        "rounds to 90 %": played.reached_rounds,
        "MB to 90 %": played.reached_bits / MEGABYTE,
        "MB": played.sent_mb,
        "consensus": played.consensus,
    }
    return values[measure]


def claims(plays: Plays) -> list[ClaimRow]:
    """Hold ours against what publications say.

    Args:
        plays: What came of all protocols.
    """
    return claim_rows(CLAIMS, plays, measured)


def settings(plays: Plays) -> list[SettingRow]:
    """Return what becomes of each policy in each setting.

    Args:
        plays: What came of all protocols.
    """
    rows = []
    for setting in SETTINGS:
        for policy in POLICIES:
            played = plays[setting_case(setting, policy)]
            low, high = np.quantile(played.error, (0.25, 0.75))
            rows.append(
                SettingRow(
                    setting=setting,
                    policy=policy,
                    reached_s=float(np.median(played.reached_s)),
                    reached=mean(played.reached),
                    error=float(np.median(played.error)),
                    low=float(low),
                    high=float(high),
                    test_accuracy=float(np.median(played.test_accuracy)),
                    waiting=float(np.median(played.waiting)),
                    sent_mb=float(np.median(played.sent_mb)),
                )
            )
    return rows


def payloads(plays: Plays) -> list[PayloadRow]:
    """Return what becomes of what devices send, for both sizes of the model.

    Args:
        plays: What came of all protocols.
    """
    rows = []
    for large in (False, True):
        for payload in PAYLOADS:
            played = plays[payload_case(payload, large)]
            low, high = interval(played.error)
            rows.append(
                PayloadRow(
                    payload=payload,
                    large=large,
                    error=mean(played.error),
                    low=low,
                    high=high,
                    test_accuracy=mean(played.test_accuracy),
                    round_mb=mean(played.sent_mb / played.rounds),
                    sent_mb=mean(played.sent_mb),
                )
            )
    return rows
