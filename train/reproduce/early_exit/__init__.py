"""Redo figures 6, 7 and 11 to 17 of [Ding2025] (DAPDEE), beside gains of [Hu2019] (DADS)."""

from __future__ import annotations

from dataclasses import dataclass

from mec_gym.dnn.zoo import load_profile
from train.config import ReproduceRun
from train.reproduce import Findings, Reproduction
from train.reproduce.early_exit import pictures
from train.reproduce.early_exit.study import (
    DADS_NETWORK,
    NETWORKS,
    TITLES,
    Comparison,
    comparisons,
    priced,
)
from train.reproduce.early_exit.tables import dads_table, dapdee_table, exits_table, remark

__all__ = [
    "NETWORKS",
    "REPRODUCTION",
    "TITLES",
    "Comparison",
    "EarlyExitRun",
    "comparisons",
    "priced",
]


@dataclass(frozen=True)
class EarlyExitRun(ReproduceRun):
    """Redo figures 6, 7 and 11 to 17 of [Ding2025] (DAPDEE), beside gains of [Hu2019] (DADS)."""


def compute(run: EarlyExitRun) -> Findings:
    """All figures and tables.

    Args:
        run: The options, none of which counts: nothing is random.
    """
    graphs = {name: load_profile(name) for name in NETWORKS}
    networks = {name: priced(graph) for name, graph in graphs.items()}
    rows = [row for name, graph in graphs.items() for row in comparisons(name, graph)]
    with_exits = {TITLES[n]: network for n, network in networks.items() if n != DADS_NETWORK}
    drawn = {
        "figure_6.png": pictures.partitions_by_requirement(with_exits),
        "figure_7.png": pictures.partitions_by_bandwidth(with_exits),
        "figure_11.png": pictures.by_requirement(with_exits, "accuracy"),
        "figure_12.png": pictures.by_requirement(with_exits, "latency"),
        "figure_13.png": pictures.by_requirement(with_exits, "throughput"),
        "figure_14.png": pictures.gains(rows, "light", "latency"),
        "figure_15.png": pictures.gains(rows, "light", "throughput"),
        "figure_16.png": pictures.gains(rows, "heavy", "latency"),
        "figure_17.png": pictures.gains(rows, "heavy", "throughput"),
        "published.png": pictures.beside_published(rows),
    }
    return Findings(
        rows=rows,
        tables=[dads_table(rows), dapdee_table(rows), exits_table(networks)],
        remark=remark(networks[DADS_NETWORK]),
        pictures=drawn,
    )


REPRODUCTION = Reproduction(
    run=EarlyExitRun,
    compute=compute,
    pictures=(
        "figure_6.png",
        "figure_7.png",
        *(f"figure_{number}.png" for number in range(11, 18)),
        "published.png",
    ),
)
"""What ``mec-gym reproduce early-exit`` does."""
