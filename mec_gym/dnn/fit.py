"""Times of layers by what they do: a + b FLOP + c bytes per operation, fitted to measured times.

The coefficients are not negative, so that more work never takes less time, and the loss is that
of relative errors, so that a layer of a microsecond counts as much as one of a second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from mec_gym.core.checks import non_negative
from mec_gym.core.files import read_json, write_whole
from mec_gym.core.plain import from_plain
from mec_gym.core.types import FloatArray
from mec_gym.dnn.graph import Layer, LayerGraph

FORMAT = "mec_gym fit of layer times 1"
VIEW = "view"
"""The operation that all layers count as that neither compute nor move anything."""
ANY = "any"
"""The operation of the fit to all layers, for those that were never seen."""
_SAME = {"relu6": "hardtanh", "upsample": "upsamplenearest2d"}  # torch.fx and torch.export
_LEAST_S = 1e-7  # a time that no clock tells from 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What layers of one operation take: start_s + s_per_flop * FLOP + s_per_byte * bytes.

    Attributes:
        operation: What the layers do, see :func:`kind_of`.
        start_s: Time to start a layer, s.
        s_per_flop: Time per FLOP, s.
        s_per_byte: Time per byte moved, s.
        layers: Number of layers to which it was fitted.

    Raises:
        ValueError: A coefficient is negative.
    """

    operation: str
    start_s: float
    s_per_flop: float
    s_per_byte: float
    layers: int = 0

    def __post_init__(self) -> None:
        for name in ("start_s", "s_per_flop", "s_per_byte"):
            non_negative(f"{name} of {self.operation}", getattr(self, name))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well the times of a family of networks are predicted by a fit to all others.

    Attributes:
        family: Name of the family.
        networks: Names of its networks.
        errors: Relative error of each network's whole time: 0.1 if 10 % too long is predicted.
        layer_error: Median relative error of its layers, without sign.
        unseen: Operations that no other family has, for which the fit to all layers stood in.
    """

    family: str
    networks: tuple[str, ...]
    errors: tuple[float, ...]
    layer_error: float
    unseen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """The times of layers on one machine.

    Attributes:
        costs: What each operation takes, one per operation.
        fallback: What layers take whose operation is not among them.
        held_out: The error of such a fit for networks to which it was not fitted.
        provenance: Where the times come from: machine, clock, threads, version of torch. Fits
            that differ only in this are equal.

    Raises:
        ValueError: A cost is none, or an operation stands twice.
    """

    costs: tuple[Cost, ...]
    fallback: Cost
    held_out: tuple[HeldOut, ...] = field(default=(), compare=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.costs, tuple) or not all(
            isinstance(cost, Cost) for cost in (*self.costs, self.fallback)
        ):
            raise ValueError(f"costs must be Costs, got {self.costs!r} and {self.fallback!r}")
        names = [cost.operation for cost in self.costs]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"costs must hold each operation once, {name!r} stands twice")

    def layer_seconds(self, graph: LayerGraph) -> FloatArray:
        """Return the time of every layer of a graph, (V,) s.

        Args:
            graph: A network of V layers; the input takes no time.

        Raises:
            ValueError: The FLOPs of some layers could not be counted.
        """
        by_name = {cost.operation: cost for cost in self.costs}
        costs = [by_name.get(kind, self.fallback) for kind in _kinds(graph)]
        rates = np.array([(c.start_s, c.s_per_flop, c.s_per_byte) for c in costs])
        seconds = (rates * _work(graph)).sum(axis=-1)
        seconds[0] = 0.0
        return np.asarray(seconds)

    def unseen(self, graph: LayerGraph) -> tuple[str, ...]:
        """Return the operations of a graph for which the fallback stands in, sorted."""
        known = {cost.operation for cost in self.costs}
        return tuple(sorted(set(_kinds(graph)[1:]) - known))

    @property
    def median_error(self) -> float:
        """The median over all networks held out of the relative error, without sign."""
        return float(np.median([abs(e) for one in self.held_out for e in one.errors]))

    @property
    def worst(self) -> tuple[str, float]:
        """The network held out whose time is predicted worst, and its relative error."""
        pairs = [p for one in self.held_out for p in zip(one.networks, one.errors, strict=True)]
        return max(pairs, key=lambda pair: abs(pair[1]))


Families = Mapping[str, Sequence[LayerGraph]]
"""Graphs with measured times, by family."""


def fit_layer_times(families: Families, provenance: Mapping[str, Any] | None = None) -> Fit:
    """Fit the times of all layers, and find the error of such a fit for each family held out.

    Args:
        families: Graphs with measured times.
        provenance: Where the times come from.

    Raises:
        ValueError: There are fewer than two families, or a layer has no measured time or no
            known FLOPs.
    """
    if len(families) < 2:
        raise ValueError(f"families must be at least two, got {', '.join(families) or 'none'}")
    held_out = []
    for family, graphs in families.items():
        others = [g for name, some in families.items() if name != family for g in some]
        held_out.append(_error(family, graphs, _fit(others)))
    whole = _fit([graph for some in families.values() for graph in some])
    return Fit(whole.costs, whole.fallback, tuple(held_out), dict(provenance or {}))


def _fit(graphs: Sequence[LayerGraph]) -> Fit:
    kinds = np.concatenate([_kinds(graph)[1:] for graph in graphs])
    work = np.concatenate([_work(graph)[1:] for graph in graphs])
    seconds = np.concatenate([graph.measured_seconds[1:] for graph in graphs])
    costs = (
        fit_cost(k, work[kinds == k], seconds[kinds == k]) for k in sorted(set(kinds.tolist()))
    )
    return Fit(tuple(costs), fit_cost(ANY, work, seconds))


def fit_cost(operation: str, work: FloatArray, seconds: FloatArray) -> Cost:
    """Fit the times of layers of one operation: least squares of the relative errors.

    Args:
        operation: What the layers do.
        work: 1, FLOP and bytes of each layer, (n, 3).
        seconds: Measured times, (n,) s.
    """
    relative = work / np.maximum(seconds, _LEAST_S)[:, None]
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)  # the columns differ by 1e9
    found, _ = nnls(relative / scale, np.ones(len(seconds)))
    start, per_flop, per_byte = (float(c) for c in found / scale)
    return Cost(operation, start, per_flop, per_byte, len(seconds))


def _error(family: str, graphs: Sequence[LayerGraph], fit: Fit) -> HeldOut:
    """The error of a fit on networks that it has not seen."""
    predicted = [fit.layer_seconds(graph)[1:] for graph in graphs]
    measured = [np.maximum(graph.measured_seconds[1:], _LEAST_S) for graph in graphs]
    return HeldOut(
        family,
        tuple(graph.name for graph in graphs),
        tuple(float(p.sum() / m.sum() - 1.0) for p, m in zip(predicted, measured, strict=True)),
        float(np.median(np.abs(np.concatenate(predicted) / np.concatenate(measured) - 1.0))),
        tuple(sorted({name for graph in graphs for name in fit.unseen(graph)})),
    )


def kind_of(layer: Layer) -> str:
    """Return what a layer counts as: the name of its operation, whichever tracer found it."""
    if layer.flops == 0 and not layer.bytes_moved:
        return VIEW
    plain = re.sub(r"norm\dd$", "norm", layer.operation.replace("_", ""))
    return _SAME.get(plain, plain)


def _kinds(graph: LayerGraph) -> list[str]:
    return [kind_of(layer) for layer in graph.layers]


def _work(graph: LayerGraph) -> FloatArray:
    """1, FLOP and bytes of each layer, (V, 3)."""
    return np.stack([np.ones(len(graph)), graph.flops, graph.bytes_moved], axis=-1)


def save_fit(path: str | Path, fit: Fit) -> None:
    """Write a fit to a JSON file; an older file stays whole until the new one is.

    Args:
        path: The file.
        fit: The fit.
    """
    text = json.dumps({"format": FORMAT, **asdict(fit)}, indent=1)
    write_whole(Path(path), text + "\n")


def load_fit(path: str | Path) -> Fit:
    """Read a fit from a JSON file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no fit of this version.
    """
    return fit_of(read_json(path), str(path))


def is_fit(content: Any) -> bool:
    """Whether what a JSON file holds is a fit, be it valid or not."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def fit_of(content: Any, source: str) -> Fit:
    """Return the fit that a JSON file holds.

    Args:
        content: What the file holds.
        source: Name of the file in error messages.

    Raises:
        ValueError: It is no fit of this version.
    """
    if not is_fit(content):
        found = content.get("format") if isinstance(content, dict) else None
        raise ValueError(f"{source} must have the format {FORMAT!r}, got {found!r}")
    plain = {name: value for name, value in content.items() if name != "format"}
    fit: Fit = from_plain(Fit, plain, source)
    return fit
