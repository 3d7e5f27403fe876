"""Split a training job over device, edge and cloud while the vehicle moves."""

from mec_gym.core.entry import Entry
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import DRIVE_PRESETS, PAPER_PRESETS, PRESETS, Scenario

__all__ = [
    "DRIVE_PRESETS",
    "ENVIRONMENTS",
    "PAPER_PRESETS",
    "PRESETS",
    "Scenario",
    "TrainingOffload",
]

ENVIRONMENTS = {
    "mec/TrainingOffloadPaper-v0": Entry(
        about="split one training task over device, edge and cloud; connection time known",
        problem=TrainingOffload,
        scenario_type=Scenario,
        presets=PAPER_PRESETS,
        default="paper",
    ),
    "mec/TrainingOffload-v0": Entry(
        about="a drive: 30 training tasks, one battery, connection time estimated",
        problem=TrainingOffload,
        scenario_type=Scenario,
        presets=DRIVE_PRESETS,
        default="drive",
    ),
}
