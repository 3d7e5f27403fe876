"""Devices: how long they take for a layer, and how much power they draw."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from mec_gym.core.checks import non_negative, positive
from mec_gym.core.files import read_json
from mec_gym.core.types import FloatArray
from mec_gym.dnn.fit import Fit, fit_of, is_fit, load_fit
from mec_gym.dnn.graph import Layer, LayerGraph, graph_of, load_graph


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
class Profiled:
    """A machine on which a network's layers were timed, or a slower or faster one.

    Attributes:
        profile: A profile with measured times of the same network: its path, or the LayerGraph
            itself. A file is read at once, and the LayerGraph takes the place of its path.
        factor: The factor by which a layer takes longer than it took when it was measured.
        power_w: Power that the device draws while it computes, above idle, W.
        name: Name of the device.

    Raises:
        ValueError: The file is no profile, a layer has no measured time, the factor is not
            positive, or the power is negative.
        FileNotFoundError: There is no such file.
    """

    profile: str | Path | LayerGraph = field(repr=False)
    factor: float = 1.0
    power_w: float = 0.0
    name: str = "profiled"

    def __post_init__(self) -> None:
        given = self.profile
        found = load_graph(given) if isinstance(given, (str, Path)) else given
        if not isinstance(found, LayerGraph):
            raise ValueError(f"profile must be a path or a LayerGraph, got {given!r}")
        _ = found.measured_seconds
        object.__setattr__(self, "profile", found)
        positive("factor", self.factor)
        non_negative("power_w", self.power_w)

    def layer_seconds(self, graph: LayerGraph) -> FloatArray:
        """Return the time of every layer of a graph, (V,) s.

        Args:
            graph: The network, or what one of its exits needs of it, V layers.

        Raises:
            ValueError: The profile is one of another network.
        """
        profile = cast(LayerGraph, self.profile)
        known = {layer.name: layer for layer in profile.layers}
        seconds = []
        for layer in graph.layers:
            timed = known.get(layer.name)
            if timed is None or _work(timed) != _work(layer):
                what = "has no such layer" if timed is None else f"has {_in_words(timed)}"
                raise ValueError(
                    f"profile must be one of {graph.name}, but layer {layer.name!r} of that is "
                    f"{_in_words(layer)}, and {profile.name} {what}"
                )
            seconds.append(timed.seconds)
        return np.array(seconds, dtype=np.float64) * self.factor


def _work(layer: Layer) -> tuple[object, ...]:
    """What must agree if two layers of the same name are the same."""
    return layer.operation, layer.flops, layer.output_bits


def _in_words(layer: Layer) -> str:
    flops = "unknown" if layer.flops is None else f"{layer.flops:.9g}"
    return f"{layer.operation} of {flops} FLOP and {layer.output_bits:.9g} bit"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A machine that ``mec-gym calibrate`` measured, or a slower or faster one.

    It has a time for networks that never ran there. Where they hold operations that the fit does
    not know, the fit to all layers stands in, and a warning names them.

    Attributes:
        fit: The fit: the path of its file, or the Fit itself. A file is read at once, and the Fit
            takes the place of its path.
        factor: The factor by which a layer takes longer than on that machine.
        power_w: Power that the device draws while it computes, above idle, W.
        name: Name of the device.

    Raises:
        ValueError: The file is no fit, the factor is not positive, or the power is negative.
        FileNotFoundError: There is no such file.
    """

    fit: str | Path | Fit = field(repr=False)
    factor: float = 1.0
    power_w: float = 0.0
    name: str = "fitted"

    def __post_init__(self) -> None:
        given = self.fit
        found = load_fit(given) if isinstance(given, (str, Path)) else given
        if not isinstance(found, Fit):
            raise ValueError(f"fit must be a path or a Fit, got {given!r}")
        object.__setattr__(self, "fit", found)
        positive("factor", self.factor)
        non_negative("power_w", self.power_w)

    def layer_seconds(self, graph: LayerGraph) -> FloatArray:
        """Return the time of every layer of a graph, (V,) s.

        Args:
            graph: A network of V layers.

        Raises:
            ValueError: The FLOPs of some layers could not be counted.
        """
        fit = cast(Fit, self.fit)
        seconds, unseen = fit.layer_seconds(graph) * self.factor, fit.unseen(graph)
        if unseen:
            warnings.warn(
                f"{self.name}: the fit has no times of {', '.join(unseen)}; for these layers of "
                f"{graph.name} it takes those of all layers together",
                stacklevel=2,
            )
        return seconds


AnyDevice = Device | Profiled | Fitted
"""What tells how long layers take."""


def read_device(path: str | Path, factor: float = 1.0, power_w: float = 0.0) -> Profiled | Fitted:
    """Return the device whose measured or fitted times a file holds; it is called like the file.

    Args:
        path: A profile with measured times, or what ``mec-gym calibrate`` wrote.
        factor: The factor by which a layer takes longer than the file says.
        power_w: Power that the device draws while it computes, above idle, W.

    Raises:
        ValueError: The file is neither, or a number is out of its range.
        FileNotFoundError: There is no such file.
    """
    content, source = read_json(path), str(path)
    name = Path(path).stem
    if is_fit(content):
        return Fitted(fit_of(content, source), factor, power_w, name)
    return Profiled(graph_of(content, source), factor, power_w, name)


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
