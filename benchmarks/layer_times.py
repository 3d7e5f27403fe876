"""How well the time of a network is predicted: by a roofline, by a fit, by its own profile."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn

from benchmarks.measure import Report, Row
from mec_gym.core.types import FloatArray
from mec_gym.dnn.calibration import time_families
from mec_gym.dnn.devices import Device
from mec_gym.dnn.fit import Fit, fit_layer_times
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile import profile
from mec_gym.dnn.zoo import NETWORKS, build

SIZES = (32, 224)
CALIBRATION = 20
"""A calibration takes so many times as long as a measurement."""
WAYS = ("roofline", "fit", "profile")


def measure(seconds: float, repeats: int) -> Report:
    """Predict the time of each network of the zoo, and then let it run.

    Args:
        seconds: Least wall time for the runs of one network, s.
        repeats: Number of times that each network is profiled and run; all of them in turn.
    """
    torch.set_num_threads(1)
    families = time_families("cpu", CALIBRATION * seconds)
    fits, rooflines = _without_own(families)
    networks = {(name, size): build(name, image_size=size) for size in SIZES for name in NETWORKS}
    found: dict[tuple[str, int], list[tuple[LayerGraph, float]]] = {key: [] for key in networks}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(repeats):
            for (name, size), module in networks.items():
                frame = torch.rand(1, 3, size, size)
                graph = profile(module, frame, "cpu", name=name)
                found[name, size].append((graph, _real(module, frame, seconds)))
    rows: list[Row] = []
    errors: dict[str, list[float]] = {way: [] for way in WAYS}
    for (name, size), runs in found.items():
        real = median(one for _, one in runs)
        graph = runs[0][0]
        off = {
            "roofline": rooflines[name].layer_seconds(graph).sum() / real - 1,
            "fit": fits[name].layer_seconds(graph).sum() / real - 1,
            # Of each run, with the profile made just before.
            "profile": median(one.measured_seconds.sum() / own - 1 for one, own in runs),
        }
        for way in WAYS:
            errors[way].append(abs(off[way]))
        text = {f"{way}, %": f"{100 * off[way]:+.0f}" for way in WAYS}
        rows.append({"network": name, "image": size, "ms": 1e3 * real, **text})
    for what, of in (("median", np.median), ("worst", np.max)):
        text = {f"{way}, %": f"{100 * float(of(errors[way])):.0f}" for way in WAYS}
        rows.append({"network": what, "image": "", "ms": "", **text})
    notes = [
        "CPU time of one thread. Errors are those of the predicted time of a whole network, "
        "relative to the median time of the network itself.",
        "roofline: max(FLOP / a, bytes / b) + c, with the a, b and c that suit the layers of all "
        "other families best; fit: a + b FLOP + c bytes per operation, fitted to all other "
        "families; profile: the sum of the layers, measured just before.",
        _sums(families),
    ]
    return Report("Predicted time of networks against their real time", rows, notes)


def _real(module: nn.Module, frame: torch.Tensor, seconds: float) -> float:
    """The median CPU time of a network called as a whole, s."""
    module.eval()
    times: list[float] = []
    begin = time.perf_counter()
    with torch.no_grad():
        module(frame)
        while len(times) < 5 or time.perf_counter() < begin + seconds:
            start = time.thread_time()
            module(frame)
            times.append(time.thread_time() - start)
    return median(times)


def _without_own(
    families: Mapping[str, Sequence[LayerGraph]],
) -> tuple[dict[str, Fit], dict[str, Device]]:
    """For each network of the zoo, the fit and the roofline of all families but its own."""
    fits, rooflines = {}, {}
    for name in NETWORKS:
        others = {family: graphs for family, graphs in families.items() if family != name}
        fits[name] = fit_layer_times(others)
        rooflines[name] = _roofline([graph for graphs in others.values() for graph in graphs])
    return fits, rooflines


def _roofline(graphs: Sequence[LayerGraph]) -> Device:
    """The roofline whose mean error over the layers, as a factor, is the least."""
    flops = np.concatenate([graph.flops[1:] for graph in graphs])
    moved = np.concatenate([graph.bytes_moved[1:] for graph in graphs])
    seconds = np.concatenate([graph.measured_seconds[1:] for graph in graphs])
    busy = (flops + moved > 0) & (seconds > 0)
    flops, moved, seconds = flops[busy], moved[busy], seconds[busy]

    def loss(logs: FloatArray) -> float:
        rate, bandwidth, start = np.exp(logs)
        predicted = np.maximum(flops / rate, moved / bandwidth) + start
        return float(np.mean(np.abs(np.log(predicted / seconds))))

    best = minimize(loss, np.log([50e9, 10e9, 10e-6]), method="Nelder-Mead")
    rate, bandwidth, start = np.exp(best.x)
    return Device("this machine", float(rate), float(bandwidth), float(start), 0.0)


def _sums(families: Mapping[str, Sequence[LayerGraph]]) -> str:
    ratios = [
        graph.measured_seconds.sum() / graph.provenance["whole_s"]
        for graphs in families.values()
        for graph in graphs
    ]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return (
        f"The sum of the layers against the module called as a whole, over {len(ratios)} networks "
        f"that were timed in turn: median {middle:.2f}, quartiles {low:.2f} to {high:.2f}."
    )
