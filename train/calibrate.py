"""The command that fits the time per operation on this machine."""

from __future__ import annotations

from rich.table import Table
from tqdm import tqdm

from mec_gym.dnn.calibration import calibrate
from mec_gym.dnn.fit import Fit, save_fit
from train.config import CalibrateRun
from train.console import show_table
from train.profile_network import on_threads


def calibrate_machine(run: CalibrateRun) -> Fit:
    """Measure, write the fit and print it. Nothing is written before the end.

    Raises:
        ValueError: The file is there already, or torch cannot use the device.
    """
    if run.out.exists() and not run.overwrite:
        raise ValueError(f"{run.out} exists: give --overwrite or another name")
    form = "{percentage:3.0f}% {bar} {elapsed}<{remaining}"
    with on_threads(run.threads), tqdm(total=1.0, bar_format=form) as bar:
        fit = calibrate(run.device, run.seconds, lambda share: bar.update(share - bar.n))
    save_fit(run.out, fit)
    print_fit(fit)
    print(f"wrote {run.out}")
    return fit


def print_fit(fit: Fit) -> None:
    """Print the coefficients, and how far the fit is off for networks that it has not seen."""
    table = Table(title="time of a layer: start + FLOP / rate + bytes / rate", title_justify="left")
    for column in ("operation", "layers", "start, us", "GFLOP/s", "GB/s"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for cost in (*fit.costs, fit.fallback):
        rates = (f"{1e-9 / c:.3g}" if c else "" for c in (cost.s_per_flop, cost.s_per_byte))
        table.add_row(cost.operation, str(cost.layers), f"{1e6 * cost.start_s:.3g}", *rates)
    show_table(table)
    held = Table(title="each family predicted by a fit to all others", title_justify="left")
    for column in ("family", "error of whole networks, %", "of a layer, median, %", "never seen"):
        held.add_column(column)
    for one in fit.held_out:
        errors = ", ".join(f"{100 * error:+.0f}" for error in one.errors)
        held.add_row(one.family, errors, f"{100 * one.layer_error:.0f}", ", ".join(one.unseen))
    show_table(held)
    name, error = fit.worst
    share = fit.provenance["scattered"]
    print(
        f"networks held out are off by {fit.median_error:.0%} (median); the worst is {name}, "
        f"{error:+.0%}"
    )
    if share > MANY:
        print(
            f"warning: the repeats of {share:.0%} of the layers scatter; calibrate again when "
            "nothing else runs"
        )


MANY = 0.05
"""Share of layers whose repeats may scatter before the command warns."""
