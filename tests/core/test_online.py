"""A bound that a problem may offer."""

import numpy as np
from tiny_problem import TinyProblem

from mec_gym.core.online import OffersOnlineBound, OnlineBound, online_bound_of


def test_a_problem_need_not_offer_a_bound():
    bound = OnlineBound(mean=-1.0, se=0.1, luck=lambda trace, outcomes: np.zeros(1))

    class Offering(TinyProblem):
        answer: OnlineBound | None = bound

        def online_bound(self):
            return self.answer

    class Unknown(Offering):
        answer = None

    assert online_bound_of(TinyProblem()) is None and online_bound_of(Unknown()) is None
    assert online_bound_of(Offering()) is bound
    assert isinstance(Unknown(), OffersOnlineBound)
