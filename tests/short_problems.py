"""Problems whose episodes end early, together, by a time limit or one after the other."""

from target_problem import TargetProblem
from tiny_problem import HORIZON, TinyDiscrete, TinyProblem, episode

from mec_gym.core import arrays

NUM = 4
"""Number of environments that are played side by side."""
PROBLEMS = {
    "ahead 1": TinyProblem(ahead=1),
    "ahead 2": TinyProblem(ahead=2),
    "ahead 3": TinyProblem(ahead=3),
    "discrete": TinyDiscrete(),
    "all end together": TinyProblem(shortest=HORIZON),
    "truncated": TinyProblem(ends=False),
    "target": TargetProblem(ahead=3),
}
WORKS = [8, 6, 4, 2, 10]
UNEQUAL = arrays.concatenate([episode(WORKS, (2.0, 1.0 + k / 4), k) for k in (1, 3, 5, 2)])
"""A trace of TinyProblem whose NUM episodes have different lengths."""
