"""A bound that a problem may offer."""

import numpy as np
from tiny_problem import TinyProblem

from mec_gym.core.online import OnlineBound, has_online_bound, online_bound_of


def test_a_problem_need_not_offer_a_bound():
    bound = OnlineBound(mean=-1.0, se=0.1, luck=lambda trace, outcomes: np.zeros(1))

    class Offering(TinyProblem):
        has_online_bound = True

        def online_bound(self):
            return bound

    class Unknown(Offering):
        has_online_bound = False

        def online_bound(self):
            raise AssertionError("nobody asks for what is not offered")

    for problem in (TinyProblem(), Unknown()):
        assert not has_online_bound(problem) and online_bound_of(problem) is None
    assert has_online_bound(Offering()) and online_bound_of(Offering()) is bound
