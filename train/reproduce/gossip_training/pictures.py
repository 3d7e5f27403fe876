"""Pictures of who listens to whom, of the families, and of what is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mec_gym.core.pictures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SMALL,
    new_figure,
    style,
)
from train.reproduce.families.pictures import draw_over_time, legend_below, point
from train.reproduce.families.rows import FamilyRow
from train.reproduce.gossip_training.families import PAYLOADS, POLICIES, SETTINGS, setting_case
from train.reproduce.gossip_training.study import PayloadRow, Plays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLACK = "#222222"
_POLICY_COLORS = dict(zip(POLICIES, (BLUE, GREEN, PINK, ORANGE, RED, GREY), strict=True))
_PAYLOAD_LOOKS = dict(
    zip(
        PAYLOADS,
        (
            *((GREEN, "o"), (GREEN, "^"), (GREEN, "v"), (BLUE, "o"), (_BLACK, "o"), (_BLACK, "s")),
            *((ORANGE, "^"), (ORANGE, "v")),
        ),
        strict=True,
    )
)


def draw_settings(plays: Plays) -> Figure:
    """The error over time by who listens to whom, in all settings.

    Args:
        plays: What came of all protocols.
    """
    panels = {
        setting: {policy: plays[setting_case(setting, policy)] for policy in POLICIES}
        for setting in SETTINGS
    }
    return draw_over_time(panels, _POLICY_COLORS)


def draw_families(rows: Sequence[FamilyRow]) -> Figure:
    """By how much each family changes the error, with its interval.

    Args:
        rows: The rows of all tables.
    """
    figure = new_figure(10, 0.8 + 0.24 * len(rows))
    axes = figure.subplots()
    for place, r in enumerate(rows):
        color = BLUE if r.high < 0 else RED if r.low > 0 else GREY
        axes.errorbar(
            [r.difference],
            [place],
            xerr=[[r.difference - r.low], [r.high - r.difference]],
            fmt="o",
            color=color,
            ms=5,
            capsize=3,
            lw=1,
        )
    names = [f"{r.what}  {r.reference}" for r in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=SMALL)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(0, color=GREY, lw=0.8)
    axes.grid(alpha=0.25, axis="x")
    style(axes, "", "change of the mean error over the budget (left of 0: it helps)")
    return figure


def draw_payloads(rows: Sequence[PayloadRow]) -> Figure:
    """The error over what devices send, for both sizes of the model.

    Args:
        rows: All payloads and sizes.
    """
    figure = new_figure(10, 4.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, large, title in zip(
        panels, (False, True), ("Model of 32 Mbit", "Model of 320 Mbit"), strict=True
    ):
        for r in rows:
            if r.large == large:
                color, mark = _PAYLOAD_LOOKS[r.payload]
                point(axes, r.round_mb, r.error, r.low, r.high, color, mark, r.payload)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        style(axes, title, "sent by all devices per round (MB)")
    panels[0].set_ylabel("mean error over the budget", fontsize=SMALL)
    legend_below(figure, panels[0], columns=4)
    return figure
