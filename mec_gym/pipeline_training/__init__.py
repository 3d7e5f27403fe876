"""Pipeline training: cut one network over devices that come and go.

In every slot the agent says which of M devices trains which of the L blocks of a network.
Minibatches pass through the stages as in GPipe or in 1F1B, blocks that change their device have
to be moved, and devices leave and return. The setting is that of [Wang2023], section 2.2.2.

>>> from mec_gym.pipeline_training import PipelineTraining, Scenario
>>> problem = PipelineTraining(Scenario(devices=3, schedule="gpipe"))
"""

from mec_gym.core.entry import Entry
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import PRESETS, Scenario, from_profile, history

__all__ = ["ENVIRONMENTS", "PRESETS", "PipelineTraining", "Scenario", "history"]

ENVIRONMENTS = {
    "mec/PipelineTraining-v0": Entry(
        about="cut one network over devices that come and go, slot by slot",
        problem=PipelineTraining,
        scenario_type=Scenario,
        presets=PRESETS,
        default="default",
        sources={"profile": from_profile},
    ),
}
