"""Gossip training: devices train one model together without a server.

In every round the agent says who listens to whom. The setting is that of [Wang2023], section 2.1.2.
"""

from mec_gym.core.entry import Entry
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import PRESETS, Scenario, from_images, from_profile

__all__ = ["ENVIRONMENTS", "PRESETS", "GossipTraining", "Scenario", "from_images", "from_profile"]

ENVIRONMENTS = {
    "mec/GossipTraining-v0": Entry(
        about="decide who listens to whom, while devices train without a server",
        problem=GossipTraining,
        scenario_type=Scenario,
        presets=PRESETS,
        default="unequal",
        sources={"profile": from_profile, "images": from_images},
        episodes=40,
    ),
}
