"""How long layers take on this machine, found by running many networks; needs torch."""

from __future__ import annotations

from collections.abc import Callable

from mec_gym.core.checks import positive
from mec_gym.dnn.calibration.networks import calibration_networks
from mec_gym.dnn.fit import Fit, fit_layer_times
from mec_gym.dnn.graph import LayerGraph
from mec_gym.dnn.profile import profile_in_turn

_SAME = ("timed_on", "machine", "threads", "clock", "torch")


def calibrate(
    device: str = "cpu",
    seconds: float = 45.0,
    tell: Callable[[float], object] = lambda share: None,
) -> Fit:
    """Fit the time per operation on this machine, with as many threads as torch is set to use.

    The networks of the zoo, for several sizes of images, and three others, with operations that
    the zoo lacks, run in turn. Each family of them is held out once, to find the error for
    networks that never ran here.

    Args:
        device: Where to run, as torch names it.
        seconds: Wall time for the runs, s. To prepare them takes about half a minute more.
        tell: It is called with the share that is done, [0, 1].

    Raises:
        ValueError: torch cannot use the device, or ``seconds`` is not positive.
    """
    families = time_families(device, seconds, tell)
    timed = [graph for graphs in families.values() for graph in graphs]
    found = [graph.provenance for graph in timed]
    provenance = {key: found[0][key] for key in _SAME}
    provenance["repeats"] = found[0]["repeats"]
    layers = sum(len(graph) for graph in timed)
    provenance["scattered"] = sum(len(one["scattered"]) for one in found) / layers
    return fit_layer_times(families, provenance)


def time_families(
    device: str, seconds: float, tell: Callable[[float], object] = lambda share: None
) -> dict[str, list[LayerGraph]]:
    """Count and time the networks of the calibration, by family; see :func:`calibrate`."""
    positive("seconds", seconds)
    networks = calibration_networks()
    timed = profile_in_turn({name: n for (_, name), n in networks.items()}, device, seconds, tell)
    families: dict[str, list[LayerGraph]] = {}
    for family, name in networks:
        families.setdefault(family, []).append(timed[name])
    return families
