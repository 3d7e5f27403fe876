"""The reference of distributed inference: it knows the whole episode beforehand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import IntArray
from mec_gym.distributed_inference.descent import coordinate_descent, descend_on_cost
from mec_gym.distributed_inference.exact import joint_costs, plan_alone
from mec_gym.distributed_inference.horizon import horizon_of_trace
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Slot


def clairvoyant_plan(problem: DistributedInference, trace: Slot) -> IntArray:
    """Plan by coordinate descent on the true trace: the reference for what foresight is worth.

    The plan is the best of descents on the reward from four beginnings, two of which are the
    ends of descents on the sum of delays. It is blind to batteries and not always the optimum:
    it was 0 to 4 % away from it on instances small enough to try everything.

    Args:
        problem: The problem that is played.
        trace: The episodes, fields of shape (n, T, ...).

    Returns:
        The place of every block, (n, T, N).
    """
    s = problem.scenario
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=np.int64)
    shape = (*home.shape, s.blocks)
    best_alone = plan_alone(h, s, home)[0]
    beginnings = (
        coordinate_descent(h, s, home, plan=best_alone),
        coordinate_descent(h, s, home, plan=np.zeros(shape, dtype=np.int64)),
        best_alone,
        np.random.default_rng(0).integers(s.servers + 1, size=shape),
    )
    spent = np.zeros(home.shape)
    plans = np.stack([descend_on_cost(h, s, home, p, spent) for p in beginnings])
    best = joint_costs(h, s, home, plans, spent)[0].argmin(axis=0)
    plan = np.take_along_axis(plans, best[None, ..., None, None], axis=0)[0]  # (n, J, N, K)
    rounds: IntArray = np.swapaxes(plan, -1, -2).reshape(len(plan), s.rounds, s.devices)
    return rounds


class ClairvoyantAgent:
    """Plays :func:`clairvoyant_plan` of the episodes that it has been shown beforehand.

    Args:
        problem: The problem that is played.
    """

    def __init__(self, problem: DistributedInference) -> None:
        self.problem = problem
        self._plan: IntArray | None = None

    def foresee(self, trace: Slot) -> None:
        """Plan for the episodes of a trace, fields of shape (n, T, ...)."""
        self._plan = clairvoyant_plan(self.problem, trace)

    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Return the planned actions for observations (n, observation) of the next round.

        Args:
            observation: Observations of all episodes that were shown, in their order.
            state: Number of the round, as the last call returned it; None in the first round.
            episode_start: Not used.
            deterministic: Not used: the plan is fixed.

        Raises:
            ValueError: The agent has not been shown these episodes.
        """
        batch = np.shape(observation)[:-1]
        if self._plan is None or math.prod(batch) != len(self._plan):
            raise ValueError("agent must foresee the episodes that it plays, and has not")
        t = 0 if state is None else state
        return self._plan[:, t].reshape(*batch, -1), t + 1
