"""Devices: how long they take for a layer, and how much power they draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mec_gym.core.checks import non_negative, positive
from mec_gym.core.types import FloatArray
from mec_gym.dnn.graph import LayerGraph


@dataclass(frozen=True, slots=True)
class Device:
    """A processor described by its roofline [Williams2009].

    A layer takes max(FLOP / flops_per_s, bytes / bytes_per_s) + overhead_s.

    Attributes:
        name: Name of the device.
        flops_per_s: Single-precision FLOP/s that the device sustains, not its peak.
        bytes_per_s: Memory bandwidth that the device sustains, byte/s.
        overhead_s: Time to start a layer that computes or moves anything, s.
        power_w: Power that the device draws while it computes, above idle, W.
        source: Where the figures come from.

    Raises:
        ValueError: A rate is not positive, or the overhead or the power is negative.
    """

    name: str
    flops_per_s: float
    bytes_per_s: float
    overhead_s: float
    power_w: float
    source: str = ""

    def __post_init__(self) -> None:
        positive("flops_per_s", self.flops_per_s)
        positive("bytes_per_s", self.bytes_per_s)
        non_negative("overhead_s", self.overhead_s)
        non_negative("power_w", self.power_w)

    def layer_seconds(self, graph: LayerGraph) -> FloatArray:
        """Return the time of every layer of a graph, (V,) s.

        Args:
            graph: A network of V layers.

        Raises:
            ValueError: The FLOPs of some layers could not be counted.
        """
        flops, moved = graph.flops, graph.bytes_moved
        busy = np.maximum(flops / self.flops_per_s, moved / self.bytes_per_s)
        return np.asarray(np.where(busy > 0, busy + self.overhead_s, 0.0))


@dataclass(frozen=True, slots=True)
class Measured:
    """The machine on which a profile's layers were timed, or a slower or faster one.

    Attributes:
        name: Name of the device.
        slowdown: The factor by which its times are longer than the measured ones.
        power_w: Power that the device draws while it computes, above idle, W.

    Raises:
        ValueError: The slowdown is not positive, or the power is negative.
    """

    name: str = "measured"
    slowdown: float = 1.0
    power_w: float = 0.0

    def __post_init__(self) -> None:
        positive("slowdown", self.slowdown)
        non_negative("power_w", self.power_w)

    def layer_seconds(self, graph: LayerGraph) -> FloatArray:
        """Return the time of every layer of a graph, (V,) s.

        Args:
            graph: A network of V layers.

        Raises:
            ValueError: Some layers were not measured.
        """
        return graph.measured_seconds * self.slowdown


RASPBERRY_PI_4 = Device(
    name="Raspberry Pi 4",
    flops_per_s=16e9,
    bytes_per_s=5.5e9,
    overhead_s=100e-6,
    power_w=3.7,
    source=(
        "four Cortex-A72 at 1.5 GHz; high-performance Linpack 8 GFLOP/s in double precision "
        "(Feiereisen 2022), twice that in single as the vector lanes hold twice as many; STREAM "
        "copy 5.5 GB/s (sci-pi.org.uk); 6.4 W busy less 2.7 W idle (the maker's figures); "
        "overhead assumed"
    ),
)
PHONE = Device(
    name="phone",
    flops_per_s=60e9,
    bytes_per_s=14e9,
    overhead_s=50e-6,
    power_w=4.0,
    source=(
        "a high-end phone's four big cores: Cortex-A76 at 2.4 GHz, two 128-bit fused "
        "multiply-adds per cycle are 154 GFLOP/s at the peak, 40 % of it assumed; LPDDR4X-4266 on "
        "64 bit 34 GB/s at the peak, 40 % of it assumed; power and overhead assumed"
    ),
)
EDGE_SERVER = Device(
    name="edge server",
    flops_per_s=230e9,
    bytes_per_s=25e9,
    overhead_s=10e-6,
    power_w=65.0,
    source=(
        "a desktop-class server, four cores with AVX2 at 3.6 GHz: two 256-bit fused multiply-adds "
        "per cycle are 461 GFLOP/s at the peak, half of it assumed; two channels of DDR4-2400 are "
        "38 GB/s, 65 % of it assumed; the processor's thermal design power; overhead assumed"
    ),
)
DEVICES = {"raspberry-pi-4": RASPBERRY_PI_4, "phone": PHONE, "edge-server": EDGE_SERVER}
"""The devices by the name that the command line knows."""
