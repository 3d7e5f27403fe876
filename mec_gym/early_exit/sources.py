"""Scenarios whose devices are machines that were measured: what ``device:PATH`` stands for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mec_gym.dnn.devices import AnyDevice, read_device
from mec_gym.early_exit.scenario import Scenario


def from_device(
    path: str | Path,
    scenario: Scenario | None = None,
    factor: float | str = 1.0,
    power_w: float | str | None = None,
) -> Scenario:
    """A scenario with a device that was measured.

    Args:
        path: A profile of the scenario's network with times that were measured on the device
            (``mec-gym profile --measure``), or the device's fit (``mec-gym calibrate``).
        scenario: What all else is taken from; by default the default scenario.
        factor: The factor by which a layer takes longer than the file says.
        power_w: Power that the device draws while it computes, above idle, W; by default that of
            the scenario's device, in whose place it comes.

    Raises:
        ValueError: The file is neither, its network is another one, or a number is out of range.
    """
    begin = scenario or Scenario()
    return replace(begin, device=_read(path, begin.device, factor, power_w))


def from_edge(
    path: str | Path,
    scenario: Scenario | None = None,
    factor: float | str = 1.0,
    power_w: float | str | None = None,
) -> Scenario:
    """A scenario with an edge server that was measured.

    Args:
        path: A profile or a fit.
        scenario: What all else is taken from; by default the default scenario.
        factor: The factor by which a layer takes longer than the file says.
        power_w: Power of the edge server, W; no cost depends on it.

    Raises:
        ValueError: See :func:`from_device`.
    """
    begin = scenario or Scenario()
    return replace(begin, edge=_read(path, begin.edge, factor, power_w))


def _read(
    path: str | Path, instead_of: AnyDevice, factor: float | str, power_w: float | str | None
) -> AnyDevice:
    power = instead_of.power_w if power_w is None else _number("power_w", power_w)
    return read_device(path, _number("factor", factor), power)


def _number(name: str, value: float | str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"{name} must be a number, got {value!r}") from error
