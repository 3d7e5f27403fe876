"""Where should each piece of a deep-learning job run: device, edge server or cloud?

``import mec_gym`` registers the environments with Gymnasium; see
``mec_gym.ENVIRONMENTS`` for their ids.
"""

from mec_gym.core.env import MecEnv
from mec_gym.core.problem import Problem
from mec_gym.core.traces import load_trace, save_trace
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.registration import ENVIRONMENTS, make_problem, register_all

__all__ = [
    "ENVIRONMENTS",
    "MecEnv",
    "MecVectorEnv",
    "Problem",
    "load_trace",
    "make_problem",
    "save_trace",
]
__version__ = "0.1.0"

register_all()
