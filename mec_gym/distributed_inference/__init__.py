"""Place every block of many devices' networks on many servers, round by round."""

from mec_gym.core.entry import Entry
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import PRESETS, Scenario

__all__ = ["ENVIRONMENTS", "PRESETS", "DistributedInference", "Scenario"]

ENVIRONMENTS = {
    "mec/DistributedInference-v0": Entry(
        about="place every block of many devices' networks on many servers, round by round",
        problem=DistributedInference,
        scenario_type=Scenario,
        presets=PRESETS,
        default="small",
    ),
}
