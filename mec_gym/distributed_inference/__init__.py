"""Distributed inference: place every block of many devices' networks on many servers.

Each of N devices has a deep neural network to run, which is cut into K blocks. In every
round the agent says where the current block of each device runs: on the device itself or on
one of M servers. Blocks on the same server share its speed, transfers to the same station
share its bandwidth, the network changes from round to round, and every task has a deadline.
The problem is that of [Li2024].

>>> from mec_gym.distributed_inference import DistributedInference, Scenario
>>> problem = DistributedInference(Scenario(devices=8, servers=2))
"""

from mec_gym.core.entry import Entry
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import (
    PRESETS,
    Channel,
    ConstantChannel,
    RandomNetworks,
    Scenario,
    patent,
)
from mec_gym.network.plane import Plane
from mec_gym.network.radio import Radio

__all__ = [
    "ENVIRONMENTS",
    "PRESETS",
    "Channel",
    "ConstantChannel",
    "DistributedInference",
    "Plane",
    "Radio",
    "RandomNetworks",
    "Scenario",
    "patent",
]

ENVIRONMENTS = {
    "mec/DistributedInference-v1": Entry(
        about="place every block of many devices' networks on many servers, round by round",
        problem=DistributedInference,
        scenario_type=Scenario,
        presets=PRESETS,
        default="small",
    ),
}
