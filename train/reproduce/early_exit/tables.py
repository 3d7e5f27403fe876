"""Ours beside the published, as tables and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from mec_gym.network.bandwidth import CAT1, WIFI
from train.reproduce.early_exit.comparison import (
    BEST,
    DADS_LATENCY,
    DADS_NETWORK,
    DADS_THROUGHPUT,
    DAPDEE_LATENCY,
    DAPDEE_LOSS,
    DAPDEE_THROUGHPUT,
    DEVICES,
    INPUTS,
    NETWORKS,
    TITLES,
    Comparison,
    largest,
    pick,
)
from train.reproduce.early_exit.schemes import LINKS, LOADS, Load, Network, steady


def _columns(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def dads_table(rows: Sequence[Comparison]) -> Table:
    """ResNet18 beside DADS."""
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
    """VGG16 and AlexNet beside the seed."""
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


def published_line() -> tuple[float, float, float]:
    """What DADS's speed-ups say of any testbed, from 3G and WiFi; 4G is the test.

    With D the time of device-only the speed-up is D / T. A cut that stays the same takes
    T / D = c + b / B: c is the work, b the bits, each by D.

    Returns:
        c; b in bit/s; by how much the line misses T / D in 4G, relative.
    """
    share = {link: 1.0 / gain for link, gain in DADS_LATENCY.items()}
    b = (share["3G"] - share["WiFi"]) / (1.0 / LINKS["3G"] - 1.0 / LINKS["WiFi"])
    c = share["WiFi"] - b / LINKS["WiFi"]
    return c, b, (c + b / LINKS["4G"]) / share["4G"] - 1.0


def remark(networks: Mapping[str, Network], rows: Sequence[Comparison]) -> str:
    """What a reader must know, with the numbers that were found."""
    return "\n".join(
        [
            _about_devices(networks[DADS_NETWORK]),
            _about_dads(networks[DADS_NETWORK], rows),
            *(
                _about_exits(networks[name], pick(rows, network=TITLES[name]))
                for name in NETWORKS
                if name != DADS_NETWORK
            ),
            "Latency under heavy load is that of a frame that never waits. Nothing is tuned to "
            "come near the published figures.",
        ]
    )


def _about_devices(network: Network) -> str:
    device, edge = network.device_only[0], network.edge_only[2]
    return (
        "Assumptions: the devices of both sources, their arrival rates and requirements are not "
        "among what we have of them. Ours are rooflines of a Raspberry Pi 4 and of a "
        f"desktop-class server: {1e3 * device:.0f} ms and {1e3 * edge:.0f} ms for ResNet18, a "
        f"ratio of {device / edge:.1f} (ncnn measured 176 ms on a Raspberry Pi 4). A Raspberry Pi "
        f"3 is taken to be {DEVICES['Raspberry Pi 3']:g} times slower, as ncnn measured. VGG16 and "
        "AlexNet see 32 x 32 images of digits, not CIFAR-10. Coding an input in 8 bit or JPEG is "
        "taken to cost neither time nor accuracy."
    )


def _about_dads(network: Network, rows: Sequence[Comparison]) -> str:
    bits = network.edge_only[1]
    those = pick(rows, network=TITLES[DADS_NETWORK], scheme="DADS", load="light")
    plain, jpeg = (
        [
            row.slowdown_for_published or 0.0
            for row in pick(those, device="Raspberry Pi 4", input=encoding)
        ]
        for encoding in ("32 bit", "JPEG")
    )
    c, b, miss = published_line()
    sent = b * network.device_only[0]
    return (
        "ResNet18: sent as the network reads it, 32 bit a value, a frame has "
        f"{bits / 1e6:.1f} Mbit and takes {1e3 * bits / WIFI:.0f} ms in WiFi alone; the whole "
        f"network takes {1e3 * network.device_only[0]:.0f} ms on the device. 'needs' is how many "
        "times slower than our Raspberry Pi 4 a device must be for the exact cut to gain what is "
        f"published. That differs from link to link (latency: {min(plain):.0f} to {max(plain):.0f} "
        f"times with 32 bit, {min(jpeg):.1f} to {max(jpeg):.1f} with JPEG), so no speed of the "
        "device explains them all; what is sent matters more. The published latencies in 3G, 4G "
        f"and WiFi are, to within {100 * abs(miss):.0f} %, those of one cut (work {c:.3f} of "
        f"device-only's time) which with our Raspberry Pi 4 would send {sent / 1e3:.0f} kbit: a "
        f"compressed frame, {bits / sent:.0f} times less than 32 bit a value (our JPEG: "
        f"{bits * INPUTS['JPEG'] / 1e3:.0f} kbit). In CAT1 this cut would take {c + b / CAT1:.2f} "
        f"of device-only's time, and {1 / DADS_LATENCY['CAT1']:.2f} is published: another cut, "
        "which none of our variants has. Published throughput falls from 4G to WiFi, which the "
        "largest possible one cannot do; for which load it holds we do not know."
    )


def _about_exits(network: Network, rows: Sequence[Comparison]) -> str:
    graph = network.graph
    best = pick(rows, scheme="DAPDEE", link=BEST)
    light, heavy = ([r.latency_speed_up for r in pick(best, load=load)] for load in LOADS)
    gain = [r.throughput_gain for r in pick(best, load="heavy")]
    enough = network.loss <= DAPDEE_LOSS
    images = graph.provenance["training"]["test_images"]
    worse = "; ".join(
        f"{one.name} loses {100 * loss:.2f} %"
        for one, loss, fine in zip(graph.exits, network.loss, enough, strict=True)
        if not fine
    )
    return (
        f"{graph.name}: over devices and inputs DAPDEE gains at most {min(light):.1f} to "
        f"{max(light):.1f} (latency, light load; published {DAPDEE_LATENCY['light']}), "
        f"{min(heavy):.1f} to {max(heavy):.1f} (heavy; {DAPDEE_LATENCY['heavy']}) and "
        f"{min(gain):.1f} to {max(gain):.1f} (throughput; {DAPDEE_THROUGHPUT}) with exits that "
        f"lose at most {100 * DAPDEE_LOSS:g} %. {np.count_nonzero(enough)} of "
        f"{len(enough)} exits do{f' ({worse}, and is left out)' if worse else ''}. Digits are "
        f"easy: one of {images} test images is {100 / images:.2f} %, so this says little about the "
        "loss on CIFAR-10."
    )
