"""The random scheme."""

import numpy as np
import pytest
from training_offload.cases import PAPER, first_tasks

from agents.training_offload.random_split import RandomSplitSolver
from mec_gym.core import arrays


def test_random_split_is_a_dirichlet_on_a_random_pair():
    solver = RandomSplitSolver(3, seed=0)
    slot, state = first_tasks(PAPER, 0, 1)
    wide = arrays.map_arrays(lambda a: np.broadcast_to(a, (6000, *a.shape[1:])), slot)
    decision = solver.solve(wide, state).decision
    device = 1 - decision.edge_share - decision.cloud_share
    for share in (decision.edge_share, decision.cloud_share, device):
        assert share.mean() == pytest.approx(1 / 3, abs=0.01)
        assert share.var() == pytest.approx(1 / 18, abs=0.004)  # Dirichlet(1, 1, 1)
        assert share.min() > -1e-12
    pairs = np.bincount(decision.server * 3 + decision.next_server, minlength=9)
    assert len(pairs) == 9 and (abs(pairs / 6000 - 1 / 9) < 0.02).all()
    alone = solver.solve(arrays.at(slot, 0), arrays.at(state, 0)).decision
    assert [np.shape(field) for field in arrays.as_dict(alone).values()] == [()] * 4
