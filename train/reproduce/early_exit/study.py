"""What is compared: our variants of devices and inputs, and the published gains.

Two sets of numbers are published. [Hu2019] (DADS), on which [Ding2025] builds, gives for ResNet18
the speed-up over device-only in each of four networks; the abstract of [Ding2025] (DAPDEE) gives
the largest over CAT1, 3G and 4G for VGG16 and AlexNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mec_gym.dnn.devices import EDGE_SERVER, RASPBERRY_PI_4
from mec_gym.dnn.graph import LayerGraph
from train.reproduce.early_exit.schemes import (
    LINKS,
    LOADS,
    SCHEMES,
    Load,
    Network,
    plan_within,
    price_network,
    slowdown_for,
    steady,
    times,
)

DEVICES = {"Raspberry Pi 4": 1.0, "Raspberry Pi 3": 1.6}
"""How many times slower each is than the roofline of the first."""
INPUTS = {"32 bit": 1.0, "8 bit": 1 / 4, "JPEG": 1 / 40}
"""Size of an input that is sent as it is, as a share of 32 bit per value."""
NETWORKS: dict[str, tuple[str, ...]] = {
    "vgg16-digits": ("32 bit", "8 bit"),
    "alexnet-digits": ("32 bit", "8 bit"),
    "resnet18": ("32 bit", "8 bit", "JPEG"),
}
"""Profiles, and the inputs that are tried."""
TITLES = {
    "vgg16-digits": "VGG16, 32 x 32",
    "alexnet-digits": "AlexNet, 32 x 32",
    "resnet18": "ResNet18, 224 x 224",
}
DADS_NETWORK = "resnet18"
DAPDEE_LINKS = ("CAT1", "3G", "4G")
BEST = "largest of " + ", ".join(DAPDEE_LINKS)

DADS_LATENCY = dict(zip(LINKS, (1.46, 4.14, 7.23, 8.32), strict=True))
"""[Hu2019]: speed-up of the latency of ResNet18 over device-only, light load."""
DADS_THROUGHPUT = dict(zip(LINKS, (2.03, 8.30, 9.78, 9.31), strict=True))
"""[Hu2019]: the same of the throughput."""
DAPDEE_LATENCY: dict[Load, float] = {"light": 7.5, "heavy": 7.7}
"""[Ding2025], abstract: largest speed-up of the latency. It is printed as a percentage; beside a
throughput of 9.9 times it is surely a factor."""
DAPDEE_THROUGHPUT = 9.9
"""[Ding2025], abstract: largest gain of the throughput."""
DAPDEE_LOSS = 0.012
"""[Ding2025], abstract: accuracy lost is always below 1.2 %."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One scheme in one network, beside device-only and what is published.

    Attributes:
        network: The title of the neural network.
        device: The name of the device.
        input: How an input is coded that is sent as it is.
        load: ``light`` or ``heavy``.
        link: The name of the uplink, or ``BEST``.
        scheme: The name of the scheme.
        exit: The exit that answers, or None under ``BEST``.
        latency_s: The latency of a frame that never waits, or None under ``BEST``.
        frames_per_s: The throughput, or None under ``BEST``.
        latency_speed_up: How many times shorter than device-only's the latency is.
        throughput_gain: How many times device-only's the throughput is.
        accuracy_loss: The share of right answers that is lost against the deepest exit, or None
            if accuracies were not measured.
        published_latency_speed_up: The published speed-up, if there is one.
        published_throughput_gain: The published gain, if there is one.
        slowdown_for_published: How many times slower than our first device a device must be for
            the exact cut to gain what is published, if that is published.
    """

    network: str
    device: str
    input: str
    load: str
    link: str
    scheme: str
    exit: str | None
    latency_s: float | None
    frames_per_s: float | None
    latency_speed_up: float
    throughput_gain: float
    accuracy_loss: float | None
    published_latency_speed_up: float | None = None
    published_throughput_gain: float | None = None
    slowdown_for_published: float | None = None


def with_input(graph: LayerGraph, share: float) -> LayerGraph:
    """The same network, its input sent in fewer bits."""
    first = replace(graph.layers[0], output_bits=graph.layers[0].output_bits * share)
    return replace(graph, layers=(first, *graph.layers[1:]))


def priced(graph: LayerGraph) -> Network:
    """A network on the first device and the edge server."""
    return price_network(graph, RASPBERRY_PI_4, EDGE_SERVER)


def comparisons(name: str, graph: LayerGraph) -> list[Comparison]:
    """Every scheme on every device, input, load and link.

    DAPDEE and exact may choose an exit that loses at most ``DAPDEE_LOSS``; see
    :func:`plan_within`. Published figures stand beside DADS (light load: latency; heavy load:
    throughput) and, as the largest over its links, beside DAPDEE.

    Args:
        name: The name of the profile, one of ``NETWORKS``.
        graph: The profile.
    """
    found = []
    for encoding in NETWORKS[name]:
        network = priced(with_input(graph, INPUTS[encoding]))
        for device, slowdown in DEVICES.items():
            for load in LOADS:
                about = (TITLES[name], device, encoding, load)
                found += _compare(network, about, slowdown, load, name == DADS_NETWORK)
    return found


def _compare(
    network: Network, about: tuple[str, str, str, str], slowdown: float, load: Load, dads: bool
) -> list[Comparison]:
    slot = steady(list(LINKS.values()), slowdown=slowdown)
    alone = times(network.device_only, slot)
    exits = network.graph.exits
    rows = []
    for scheme in SCHEMES:
        if scheme == "DAPDEE" and len(exits) == 1:
            continue
        plan = plan_within(network, scheme, load, slot, DAPDEE_LOSS)
        latency, throughput = times(plan.cost, slot)
        of_scheme = [
            Comparison(
                *about,
                link=link,
                scheme=scheme,
                exit=exits[plan.exit[k]].name,
                latency_s=float(latency[k]),
                frames_per_s=float(throughput[k]),
                latency_speed_up=float(alone[0][k] / latency[k]),
                throughput_gain=float(throughput[k] / alone[1][k]),
                accuracy_loss=float(network.loss[plan.exit[k]]) if len(exits) > 1 else None,
            )
            for k, link in enumerate(LINKS)
        ]
        if dads and scheme == "DADS":
            of_scheme = [_beside_dads(network, row, load) for row in of_scheme]
        if scheme == "DAPDEE":
            of_scheme.append(largest(of_scheme, load))
        rows += of_scheme
    return rows


def _beside_dads(network: Network, row: Comparison, load: Load) -> Comparison:
    published = (DADS_LATENCY if load == "light" else DADS_THROUGHPUT)[row.link]
    slowdown = slowdown_for(network, load, LINKS[row.link], published)
    if load == "light":
        row = replace(row, published_latency_speed_up=published)
    else:
        row = replace(row, published_throughput_gain=published)
    return replace(row, slowdown_for_published=slowdown)


def largest(rows: Sequence[Comparison], load: Load) -> Comparison:
    """The largest gains over ``DAPDEE_LINKS``, beside those of [Ding2025].

    Args:
        rows: One scheme under one load, a row per link.
        load: The load.
    """
    those = [row for row in rows if row.link in DAPDEE_LINKS]
    return replace(
        rows[0],
        link=BEST,
        exit=None,
        latency_s=None,
        frames_per_s=None,
        latency_speed_up=max(row.latency_speed_up for row in those),
        throughput_gain=max(row.throughput_gain for row in those),
        accuracy_loss=max(row.accuracy_loss or 0.0 for row in those),
        published_latency_speed_up=DAPDEE_LATENCY[load],
        published_throughput_gain=DAPDEE_THROUGHPUT if load == "heavy" else None,
    )


def pick(rows: Sequence[Comparison], **wanted: str) -> list[Comparison]:
    """The rows whose fields have the wanted values."""
    return [row for row in rows if all(getattr(row, k) == v for k, v in wanted.items())]


def published_line() -> tuple[float, float, float]:
    """What the speed-ups of [Hu2019] say of any testbed: the line through 3G and WiFi.

    With D the time of device-only the speed-up is D / T. A cut that stays the same takes
    T / D = c + b / B at a bandwidth B, where c is its work and b its bits, each divided by D.
    4G is the test.

    Returns:
        c; b in bit/s; by how much the line misses T / D in 4G, relative.
    """
    share = {link: 1.0 / gain for link, gain in DADS_LATENCY.items()}
    b = (share["3G"] - share["WiFi"]) / (1.0 / LINKS["3G"] - 1.0 / LINKS["WiFi"])
    c = share["WiFi"] - b / LINKS["WiFi"]
    return c, b, (c + b / LINKS["4G"]) / share["4G"] - 1.0
