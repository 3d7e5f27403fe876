"""Where should each piece of a deep-learning job run: device, edge server or cloud?

``import mec_gym`` registers the environments with Gymnasium; see
``mec_gym.ENVIRONMENTS`` for their ids. It loads neither torch nor matplotlib: agents,
evaluation and training are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mec_gym.core.entry import Entry
from mec_gym.core.env import MecEnv
from mec_gym.core.presets import Preset
from mec_gym.core.problem import Problem
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.traces import load_trace, save_trace
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.registration import (
    ENVIRONMENTS,
    make_problem,
    register_own,
    register_room,
    unregister_room,
)

if TYPE_CHECKING:
    from mec_gym.testing import check_agent, check_online_bound, check_problem

__all__ = [  # noqa: RUF022 - in the order in which a reader needs them
    # Environments and their problems.
    "ENVIRONMENTS",
    "MecEnv",
    "MecVectorEnv",
    "Problem",
    "make_problem",
    # Episodes as data.
    "load_trace",
    "rollout",
    "sample_episodes",
    "save_trace",
    # What plays, how good it is, and learning.
    "compare",
    "evaluate",
    "learn",
    "make_agent",
    # Problems of one's own.
    "Entry",
    "Preset",
    "check_agent",
    "check_online_bound",
    "check_problem",
    "register_room",
    "unregister_room",
]
__version__ = "0.1.0"

_LAZY = {
    "check_agent": "mec_gym.testing",
    "check_online_bound": "mec_gym.testing",
    "check_problem": "mec_gym.testing",
    "compare": "train.evaluation",
    "evaluate": "train.evaluation",
    "learn": "train.runs.learn",
    "make_agent": "agents.registry",
}
"""Names that are fetched from where they live when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mec_gym.core.extras import missing_extras_named

    with missing_extras_named():
        value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


register_own()
