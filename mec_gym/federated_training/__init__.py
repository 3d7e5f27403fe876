"""Federated training: a server and clients that come and go train one model together.

In every step the agent says whom the server sends off, and how many. Clients receive the model,
train it on images of their own, and send what they learnt; the server merges what has arrived.
Learning is real, and the clock is modelled. The setting is that of [Wang2023], sections 2.1.1 and
2.2.1.

>>> from mec_gym.federated_training import FederatedTraining, Scenario
>>> problem = FederatedTraining(Scenario(clients=12, at_once=4, quorum=4, late="drop"))
"""

from mec_gym.core.entry import Entry
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import PRESETS, Scenario, from_images, from_profile

__all__ = ["ENVIRONMENTS", "PRESETS", "FederatedTraining", "Scenario"]

ENVIRONMENTS = {
    "mec/FederatedTraining-v0": Entry(
        about="decide who trains next, while a server learns from clients that come and go",
        problem=FederatedTraining,
        scenario_type=Scenario,
        presets=PRESETS,
        default="semi-async",
        episodes=40,
        sources={"profile": from_profile, "images": from_images},
    ),
}
