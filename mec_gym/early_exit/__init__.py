"""Pick an exit of a network, and cut its graph between device and edge server."""

from mec_gym.core.entry import Entry
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import PRESETS, Scenario, from_csv, from_profile
from mec_gym.early_exit.sources import from_device, from_edge

__all__ = [
    "ENVIRONMENTS",
    "PRESETS",
    "EarlyExitPartition",
    "Scenario",
    "from_csv",
    "from_device",
    "from_edge",
    "from_profile",
]

ENVIRONMENTS = {
    "mec/EarlyExitPartition-v2": Entry(
        about="answer at which exit, cut the network where? Frames queue while the network changes",
        problem=EarlyExitPartition,
        scenario_type=Scenario,
        presets=PRESETS,
        default="mixed",
        sources={
            "csv": from_csv,
            "profile": from_profile,
            "device": from_device,
            "edge": from_edge,
        },
    ),
}
