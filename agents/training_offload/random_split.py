"""The random scheme of [Chen2025]."""

from __future__ import annotations

import numpy as np

from agents.protocol import Solution
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.scenario import Slot


class RandomSplitSolver:
    """A Dirichlet(1, 1, 1) split and a random pair of servers, [Chen2025] section 4.

    The paper does not say how the split is distributed; the Dirichlet distribution is assumed.

    Args:
        servers: The number of servers per region, S.
        seed: Seeds the solver's own generator.
    """

    def __init__(self, servers: int, seed: int = 0) -> None:
        self.servers = servers
        self.rng = np.random.default_rng(seed)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Draw one decision per task of a batch, fields (...)."""
        batch = np.shape(slot.work)
        shares = self.rng.dirichlet((1.0, 1.0, 1.0), batch)
        pair = self.rng.integers(self.servers, size=(2, *batch))
        decision = Decision(
            edge_share=shares[..., 0],
            cloud_share=shares[..., 1],
            server=pair[0],
            next_server=pair[1],
        )
        return Solution(decision=decision, evaluations=0)
