"""Ours beside the published as tables, and what a reader of them must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from train.reproduce.early_exit.schemes import LINKS, LOADS, Load, Network, steady
from train.reproduce.early_exit.study import (
    BEST,
    DADS_LATENCY,
    DADS_NETWORK,
    DADS_THROUGHPUT,
    DAPDEE_LATENCY,
    DAPDEE_LOSS,
    DAPDEE_THROUGHPUT,
    DEVICES,
    NETWORKS,
    TITLES,
    Comparison,
    largest,
    pick,
    published_line,
)


def _columns(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def dads_table(rows: Sequence[Comparison]) -> Table:
    """ResNet18 beside [Hu2019]."""
    encodings = NETWORKS[DADS_NETWORK]
    variants = [(device, encoding) for device in DEVICES for encoding in encodings]
    table = _columns(
        f"{TITLES[DADS_NETWORK]}: gains of DADS over device-only\n"
        "(latency: light load; throughput: heavy load, by weighted search and by the exact cut)",
        ("",),
        (
            "published",
            *(f"{device.replace('Raspberry ', '')}\n{encoding}" for device, encoding in variants),
            *(f"needs\n{encoding}" for encoding in encodings),
        ),
    )
    parts: tuple[tuple[str, Load, str, dict[str, float]], ...] = (
        ("latency", "light", "DADS", DADS_LATENCY),
        ("throughput", "heavy", "DADS", DADS_THROUGHPUT),
        ("throughput, exact", "heavy", "exact", DADS_THROUGHPUT),
    )
    for part, load, scheme, published in parts:
        for link, gain in published.items():
            those = pick(rows, network=TITLES[DADS_NETWORK], load=load, link=link)
            cells = [
                f"{row.latency_speed_up if load == 'light' else row.throughput_gain:.2f}"
                for device, encoding in variants
                for row in pick(those, device=device, input=encoding, scheme=scheme)
            ]
            # Asked of the exact cut; for light load DADS's is exact.
            if load == "light" or scheme == "exact":
                cells += [
                    f"{row.slowdown_for_published:.1f}"
                    for encoding in encodings
                    for row in pick(those, device=variants[0][0], input=encoding, scheme="DADS")
                ]
            last = link == list(LINKS)[-1]
            table.add_row(f"{part}, {link}", f"{gain:.2f}", *cells, end_section=last)
    return table


def dapdee_table(rows: Sequence[Comparison]) -> Table:
    """VGG16 and AlexNet beside [Ding2025]."""
    table = _columns(
        f"Gains of DAPDEE over device-only, {BEST}\n"
        "(in brackets: DADS, which always answers at the deepest exit)",
        ("network", "device", "input"),
        ("latency, light", "latency, heavy", "throughput, heavy", "accuracy lost, %"),
    )
    table.add_row(
        "published", "", "", *(f"{x:.1f}" for x in DAPDEE_LATENCY.values()),
        f"{DAPDEE_THROUGHPUT:.1f}", f"< {100 * DAPDEE_LOSS:.1f}", end_section=True,
    )  # fmt: skip
    for name, encodings in NETWORKS.items():
        if name == DADS_NETWORK:
            continue
        for device in DEVICES:
            for encoding in encodings:
                about = {"network": TITLES[name], "device": device, "input": encoding}
                those = pick(rows, **about)
                (light,), (heavy,) = (pick(those, load=load, link=BEST) for load in LOADS)
                plain = [largest(pick(those, load=load, scheme="DADS"), load) for load in LOADS]
                lost = max(light.accuracy_loss or 0.0, heavy.accuracy_loss or 0.0)
                table.add_row(
                    *about.values(),
                    f"{light.latency_speed_up:.2f} ({plain[0].latency_speed_up:.2f})",
                    f"{heavy.latency_speed_up:.2f} ({plain[1].latency_speed_up:.2f})",
                    f"{heavy.throughput_gain:.2f} ({plain[1].throughput_gain:.2f})",
                    f"{100 * lost:.2f}",
                )
        table.add_section()
    return table


def exits_table(networks: Mapping[str, Network]) -> Table:
    """What each exit of VGG16 and AlexNet gives and costs, on the first device, 32 bit."""
    table = _columns(
        f"Exits on a {next(iter(DEVICES))}: measured accuracy; least latency, ms",
        ("network", "exit"),
        ("accuracy, %", "lost, %", "device-only", *LINKS),
    )
    slot = steady(list(LINKS.values()))
    for name, network in networks.items():
        for n, one in enumerate(network.graph.exits):
            if one.accuracy is None:
                continue
            _, latency = network.lookups[n].light(slot)
            cells = [network.fronts[n].cost[:, 0].max(), *latency]
            table.add_row(
                TITLES[name], one.name, f"{100 * one.accuracy:.2f}",
                f"{100 * network.loss[n]:.2f}", *(f"{1e3 * x:.1f}" for x in cells),
            )  # fmt: skip
        table.add_section()
    return table


def remark(network: Network) -> str:
    """What a reader of the tables must know.

    Args:
        network: The network that is held against DADS, on our first device.
    """
    device, edge = 1e3 * network.device_only[0], 1e3 * network.edge_only[2]
    _, bits, miss = published_line()
    sent = bits * network.device_only[0] / 1e3
    return (
        "Assumptions: the devices of both papers, their arrival rates and their requirements are "
        "not among what we have of them. Ours are rooflines of a Raspberry Pi 4 and of a "
        f"desktop-class server ({device:.0f} ms and {edge:.0f} ms for ResNet18); VGG16 and AlexNet "
        "see 32 x 32 images of digits, which are easy. Coding an input costs neither time nor "
        "accuracy here.\n"
        "'needs' is how many times slower than our Raspberry Pi 4 a device must be for the exact "
        "cut to gain what is published: it differs from link to link, so no speed of the device "
        "explains all that is published. The published latencies in 3G, 4G and WiFi are, to within "
        f"{100 * abs(miss):.0f} %, those of one cut that sends {sent:.0f} kbit, a compressed "
        "frame.\n"
        "Latency under heavy load is that of a frame that never waits. Nothing is tuned to come "
        "near the published figures. The README of train/reproduce/early_exit says more."
    )
