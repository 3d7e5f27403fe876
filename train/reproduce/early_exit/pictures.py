"""Pictures of the figures of [Ding2025], and of our gains beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mec_gym.core.pictures import BLUE, GREEN, GREY, ORANGE, PINK, RED, new_figure, style
from mec_gym.core.types import FloatArray
from mec_gym.early_exit.model import Decision
from train.reproduce.early_exit import study
from train.reproduce.early_exit.schemes import (
    LINKS,
    LOADS,
    SCHEMES,
    Load,
    Network,
    dapdee,
    plan,
    steady,
    times,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from train.reproduce.early_exit.study import Comparison

Measure = Literal["accuracy", "latency", "throughput"]

POINTS = 400
LINK = "4G"  # of the figures over the requirement
LOWEST = 0.1  # gain that is drawn; what is less is written
COLORS = dict(zip(SCHEMES, (GREY, PINK, ORANGE, GREEN, BLUE, RED), strict=True))
LINES: dict[str, dict[str, Any]] = {
    "edge-only": {"lw": 8.0},
    "Neurosurgeon": {"lw": 6.0},
    "DADS": {"lw": 4.0},
    "device-only": {"lw": 2.0},
    "DAPDEE": {"lw": 2.5},
    "exact": {"lw": 1.2, "ls": (0, (3, 2))},
}
"""Schemes often agree: narrow lines lie on broad ones."""
_LOAD_LINES: dict[Load, dict[str, Any]] = {
    "light": {"color": BLUE, "lw": 4.0, "alpha": 0.5},
    "heavy": {"color": RED, "lw": 1.5},
}
_LABELS = {"accuracy": "accuracy, %", "latency": "latency, ms", "throughput": "frames/s"}


def requirements(network: Network) -> FloatArray:
    """Latency requirements from what nobody can meet to what everybody can, (POINTS,) s."""
    slot = steady(LINKS[LINK])
    fastest = min(float(lookup.light(slot)[1]) for lookup in network.lookups)
    slowest = max(float(network.device_only[0]), float(times(network.edge_only, slot)[0]))
    return np.geomspace(0.7 * fastest, 1.4 * slowest, POINTS)


def _tidy(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Give a panel the common look, and a grid that lies behind what is drawn."""
    style(axes, title, xlabel, ylabel)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.25)


def _plain_log(axes: Axes, which: str) -> None:
    """A log scale with plain numbers on it."""
    from matplotlib.ticker import LogLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def partitions_by_requirement(networks: Mapping[str, Network]) -> Figure:
    """Figure 6: what DAPDEE decides as the latency requirement grows."""
    columns = {}
    for title, network in networks.items():
        limits = requirements(network)
        bandwidth = np.full(POINTS, LINKS[LINK])
        columns[title] = (1e3 * limits, steady(bandwidth, limits))
    return _partitions(
        networks, columns, "latency requirement, ms",
        f"Figure 6: DAPDEE's partitions against the latency requirement, {LINK} "
        f"({LINKS[LINK] / 1e6:g} Mbit/s)",
    )  # fmt: skip


def partitions_by_bandwidth(networks: Mapping[str, Network]) -> Figure:
    """Figure 7: what DAPDEE decides as the bandwidth grows."""
    columns = {}
    bandwidth = np.geomspace(min(LINKS.values()), 2.0 * max(LINKS.values()), POINTS)
    for title, network in networks.items():
        limit = float(network.device_only[0]) / 2.0
        columns[title] = (bandwidth / 1e6, steady(bandwidth, limit))
    return _partitions(
        networks, columns, "bandwidth, Mbit/s",
        "Figure 7: DAPDEE's partitions against the bandwidth, "
        "latency requirement half of device-only's latency",
    )  # fmt: skip


def _partitions(
    networks: Mapping[str, Network], columns: Mapping[str, Any], xlabel: str, title: str
) -> Figure:
    figure = new_figure(11, 8.5)
    panels = figure.subplots(4, len(networks), sharex="col", sharey="row", squeeze=False)
    labels = ("exit", "layers on the device", "work on the device, %", "sent, kbit")
    for column, (name, network) in zip(panels.T, networks.items(), strict=True):
        x, slot = columns[name]
        for load in LOADS:
            for axes, y in zip(column, _decided(network, dapdee(network, load, slot)), strict=True):
                axes.plot(x, y, label=f"{load} load", **_LOAD_LINES[load])
        for axes, label in zip(column, labels, strict=True):
            _tidy(
                axes,
                title=name if axes is column[0] else "",
                xlabel=xlabel if axes is column[-1] else "",
                ylabel=label if axes in panels[:, 0] else "",
            )
        _plain_log(column[-1], "x")
    most = max(len(network.fronts) for network in networks.values())
    panels[0, 0].set_yticks(range(1, most + 1))
    panels[0, 0].set_ylim(0.7, most + 0.3)
    panels[1, 0].set_ylim(bottom=-2)
    panels[2, 0].set_ylim(-5, 105)
    figure.suptitle(title, fontsize=11)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _decided(network: Network, decision: Decision) -> FloatArray:
    """Exit from 1 on, layers on the device, share of the work there in %, kbit sent, (4, X)."""
    found = np.empty((4, len(decision.exit)))
    for k, (n, p) in enumerate(zip(decision.exit, decision.partition, strict=True)):
        one = network.fronts[n]
        device, bits, _ = one.cost[p]
        layers = np.count_nonzero(~one.on_edge[p]) - 1  # the input is no layer
        found[:, k] = n + 1, layers, 100.0 * device / one.cost[:, 0].max(), bits / 1e3
    return found


def by_requirement(networks: Mapping[str, Network], measure: Measure) -> Figure:
    """Figures 11 to 13: accuracy, latency or throughput of all schemes, 4G."""
    number = {"accuracy": 11, "latency": 12, "throughput": 13}[measure]
    about = {
        "accuracy": "accuracy; a line begins where the requirement is met; DAPDEE takes the "
        "deepest exit in time, exact the most accurate one",
        "latency": "latency of a frame that does not wait; dotted: the requirement",
        "throughput": "throughput",
    }[measure]
    figure = new_figure(11, 7)
    panels = figure.subplots(len(LOADS), len(networks), sharex="col", sharey="row", squeeze=False)
    for row, load in zip(panels, LOADS, strict=True):
        for axes, (name, network) in zip(row, networks.items(), strict=True):
            limits = requirements(network)
            slot = steady(np.full(POINTS, LINKS[LINK]), limits)
            for scheme, width in LINES.items():
                found = plan(network, scheme, load, slot)
                latency, throughput = times(found.cost, slot)
                accuracy = 100.0 * network.graph.accuracies[found.exit]
                y = {
                    "accuracy": np.where(latency <= limits * (1 + 1e-9), accuracy, np.nan),
                    "latency": 1e3 * latency,
                    "throughput": throughput,
                }[measure]
                (line,) = axes.plot(1e3 * limits, y, color=COLORS[scheme], label=scheme, **width)
                if measure == "accuracy":  # a mark where the line begins
                    line.set(marker="|", ms=20, mew=2, markevery=[int(np.argmax(y > 0))])
            if measure == "latency":
                axes.plot(1e3 * limits, 1e3 * limits, ":", color="black", lw=1.0)
            _tidy(
                axes,
                title=f"{name}, {load} load",
                xlabel="latency requirement, ms" if row is panels[-1] else "",
                ylabel=_LABELS[measure] if axes is row[0] else "",
            )
            _plain_log(axes, "x")
            if measure != "accuracy":
                _plain_log(axes, "y")
    figure.suptitle(
        f"Figure {number}: {about}\n{LINK} ({LINKS[LINK] / 1e6:g} Mbit/s); lines that coincide lie "
        "on one another",
        fontsize=11,
    )
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False)
    return figure


def gains(rows: Sequence[Comparison], load: Load, measure: Measure) -> Figure:
    """Figures 14 to 17: gains over device-only in four networks, first device, 32 bit."""
    number = {
        ("light", "latency"): 14, ("light", "throughput"): 15,
        ("heavy", "latency"): 16, ("heavy", "throughput"): 17,
    }[load, measure]  # fmt: skip
    device, encoding = next(iter(study.DEVICES)), next(iter(study.INPUTS))
    those = study.pick(rows, device=device, input=encoding, load=load)
    field = "latency_speed_up" if measure == "latency" else "throughput_gain"
    figure = new_figure(12, 4.8)
    panels = figure.subplots(1, len(study.NETWORKS), sharey=True)
    for axes, name in zip(panels, study.NETWORKS, strict=True):
        title = study.TITLES[name]
        here = study.pick(those, network=title)
        schemes = [s for s in SCHEMES[1:] if study.pick(here, scheme=s)]
        width = 0.8 / len(schemes)
        for k, scheme in enumerate(schemes):
            values = [getattr(row, field) for row in study.pick(here, scheme=scheme)][: len(LINKS)]
            x = np.arange(len(LINKS)) + (k - (len(schemes) - 1) / 2) * width
            height = np.maximum(values, LOWEST) - 1.0
            axes.bar(x, height, width, bottom=1.0, color=COLORS[scheme], label=scheme)
            for place, value in zip(x, values, strict=True):
                if value < LOWEST:
                    axes.text(
                        place, LOWEST * 1.1, f"{value:.2g}", ha="center", va="bottom",
                        rotation="vertical", fontsize=8, color="white",
                    )  # fmt: skip
        published = _published(name, load, measure)
        if isinstance(published, dict):
            axes.plot(list(published.values()), "D", color="black", ms=6, label="published: DADS")
        elif published is not None:
            axes.axhline(
                published, color="black", ls="--", lw=1.2, label="published: DAPDEE, up to"
            )
        axes.axhline(1.0, color="black", lw=0.8)
        axes.set_xticks(range(len(LINKS)), list(LINKS))
        ylabel = f"{measure}: times better than device-only" if axes is panels[0] else ""
        _tidy(axes, title, ylabel=ylabel)
        _plain_log(axes, "y")
    panels[0].set_ylim(LOWEST, 20)
    caption = (
        f"Figure {number}: {measure} over device-only, {load} load, {device}, {encoding}\n"
        f"DAPDEE and exact may lose {100 * study.DAPDEE_LOSS:g} % of accuracy; no bar: as "
        "device-only"
    )
    if (load, measure) == ("heavy", "latency"):
        caption += (
            "\nexact lies below the others where it pays for throughput with latency: under heavy "
            "load it minimises the slowest stage (figure 17)"
        )
    figure.suptitle(caption, fontsize=11)
    handles: dict[str, Any] = {}
    for axes in panels:
        found, names = axes.get_legend_handles_labels()
        handles |= dict(zip(names, found, strict=True))
    names = sorted(handles, key=lambda n: SCHEMES.index(n) if n in SCHEMES else len(SCHEMES))
    figure.legend(
        [handles[n] for n in names], names, loc="outside lower center", ncols=7, frameon=False
    )
    return figure


def _published(name: str, load: Load, measure: Measure) -> dict[str, float] | float | None:
    """What is published of a panel of figures 14 to 17: one number per link, or the largest.

    Of throughput neither source says, as far as it is available, under which load.
    """
    if name != study.DADS_NETWORK:
        return study.DAPDEE_LATENCY[load] if measure == "latency" else study.DAPDEE_THROUGHPUT
    if measure == "throughput":
        return study.DADS_THROUGHPUT
    return study.DADS_LATENCY if load == "light" else None


def beside_published(rows: Sequence[Comparison]) -> Figure:
    """ResNet18 on every device with every input, beside DADS."""
    name = study.DADS_NETWORK
    figure = new_figure(11, 5)
    panels = figure.subplots(1, 2, sharey=True)
    parts: tuple[tuple[Load, str, Any], ...] = (
        ("light", "latency", study.DADS_LATENCY),
        ("heavy", "throughput", study.DADS_THROUGHPUT),
    )
    inputs = dict(zip(study.NETWORKS[name], (RED, ORANGE, BLUE), strict=True))
    for axes, (load, measure, published) in zip(panels, parts, strict=True):
        field = "latency_speed_up" if measure == "latency" else "throughput_gain"
        for device, marks in zip(study.DEVICES, ("o-", "s--"), strict=True):
            for encoding, color in inputs.items():
                those = study.pick(
                    rows, network=study.TITLES[name], device=device, input=encoding,
                    load=load, scheme="exact",
                )  # fmt: skip
                y = [getattr(row, field) for row in those]
                axes.plot(list(LINKS), y, marks, color=color, ms=5, label=f"{device}, {encoding}")
        axes.plot(
            list(LINKS),
            list(published.values()),
            "D:",
            color="black",
            ms=7,
            label="DADS, published",
        )
        ylabel = "times better than device-only" if axes is panels[0] else ""
        _tidy(axes, f"{measure}, {load} load", ylabel=ylabel)
        _plain_log(axes, "y")
    figure.suptitle(
        f"{study.TITLES[name]}: the best that partitions can gain, and what DADS published",
        fontsize=11,
    )
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure
