"""Devices, and how long and at what energy they run a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mec_gym.core.checks import non_negative, positive
from mec_gym.core.types import FloatArray
from mec_gym.dnn.graph import LayerGraph


@dataclass(frozen=True, slots=True)
class Device:
    """A processor described by its roofline (Williams, Waterman & Patterson 2009).

    A layer takes max(FLOP / flops_per_s, bytes / bytes_per_s) + overhead_s.

    Attributes:
        name: Of the device.
        flops_per_s: Sustained single-precision FLOP/s, not the peak.
        bytes_per_s: Sustained memory bandwidth, byte/s.
        overhead_s: Time to start a layer that computes or moves anything, s.
        power_w: Power drawn while it computes, above idle, W.
        source: Where the figures come from.

    Raises:
        ValueError: A rate that is not positive, a negative overhead or power.
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
        """Time of every layer of a graph, (V,) s.

        Raises:
            ValueError: Layers whose FLOPs could not be counted.
        """
        flops, moved = graph.flops, graph.bytes_moved
        busy = np.maximum(flops / self.flops_per_s, moved / self.bytes_per_s)
        return np.asarray(np.where(busy > 0, busy + self.overhead_s, 0.0))


@dataclass(frozen=True, slots=True)
class Measured:
    """The machine on which a profile's layers were timed, or one so much slower.

    Attributes:
        name: Of the device.
        slowdown: Its times are the measured ones times this.
        power_w: Power drawn while it computes, above idle, W.

    Raises:
        ValueError: A slowdown that is not positive, or a negative power.
    """

    name: str = "measured"
    slowdown: float = 1.0
    power_w: float = 0.0

    def __post_init__(self) -> None:
        positive("slowdown", self.slowdown)
        non_negative("power_w", self.power_w)

    def layer_seconds(self, graph: LayerGraph) -> FloatArray:
        """Time of every layer of a graph, (V,) s.

        Raises:
            ValueError: Layers that were not measured.
        """
        return graph.measured_seconds * self.slowdown


RASPBERRY_PI_4 = Device(
    "Raspberry Pi 4",
    16e9,
    5.5e9,
    100e-6,
    3.7,
    "four Cortex-A72 at 1.5 GHz; high-performance Linpack 8 GFLOP/s in double precision "
    "(Feiereisen 2022), twice that in single as the vector lanes hold twice as many; STREAM copy "
    "5.5 GB/s (sci-pi.org.uk); 6.4 W busy less 2.7 W idle (the maker's figures); overhead assumed",
)
PHONE = Device(
    "phone",
    60e9,
    14e9,
    50e-6,
    4.0,
    "a high-end phone's four big cores: Cortex-A76 at 2.4 GHz, two 128-bit fused multiply-adds a "
    "cycle are 154 GFLOP/s at the peak, 40 % of it assumed; LPDDR4X-4266 on 64 bit 34 GB/s at the "
    "peak, 40 % of it assumed; power and overhead assumed",
)
EDGE_SERVER = Device(
    "edge server",
    230e9,
    25e9,
    10e-6,
    65.0,
    "a desktop-class server, four cores with AVX2 at 3.6 GHz: two 256-bit fused multiply-adds a "
    "cycle are 461 GFLOP/s at the peak, half of it assumed; two channels of DDR4-2400 are 38 GB/s, "
    "65 % of it assumed; the processor's thermal design power; overhead assumed",
)
DEVICES = {"raspberry-pi-4": RASPBERRY_PI_4, "phone": PHONE, "edge-server": EDGE_SERVER}
"""By the name the command line knows."""
