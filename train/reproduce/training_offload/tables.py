"""Our reductions beside the paper's as a table, and what a reader of it must know."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from mec_gym.training_offload.scenario import VARIANTS, Variant
from train.reproduce.training_offload.study import FIGURES, SCHEMES, Curves

REMARK = (
    "Figure 6 cannot be reached with baselines treated alike: where each resource works at a "
    "constant rate, the reductions against end-cloud and end-edge sum to at most 100 %, and "
    "66.47 + 48.83 = 115.3 % is claimed. Nothing here is tuned to it. Users share nothing in the "
    "model, so how many there are changes nothing but chance. The README of "
    "train/reproduce/training_offload says more."
)


def reductions_table(found: Mapping[int, Mapping[Variant, Curves]]) -> Table:
    """Ours and, in brackets, the paper's: a line per figure and variant.

    Args:
        found: The curves by number of the figure and variant.
    """
    table = Table(title="Reduction of the mean delay by end-edge-cloud, ours (claimed), %")
    for column in ("figure", "variant"):
        table.add_column(column)
    for column in (*(f"against {scheme}" for scheme in SCHEMES[1:]), "first two's sum"):
        table.add_column(column, justify="right")
    for number, variants in found.items():
        claimed = FIGURES[number].claimed
        for variant, curve in variants.items():
            ours = curve.reductions()
            pairs = [*zip(ours, claimed, strict=True), (ours[:2].sum(), sum(claimed[:2]))]
            cells = [f"{a:.2f} ({b:.2f})" for a, b in pairs]
            table.add_row(str(number), variant, *cells, end_section=variant == VARIANTS[-1])
    return table
