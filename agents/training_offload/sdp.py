"""A stochastic dynamic program over the battery of a drive, which plays without training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from agents.protocol import Solution
from agents.training_offload.connection_belief import ConnectionBelief
from mec_gym.core import arrays
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.training_offload import model
from mec_gym.training_offload.battery_value import fit_battery_value
from mec_gym.training_offload.exact import FLOAT32_MARGIN, SlotFrontier
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.scenario import Scenario, Slot

_PLANNED = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles of the believed T_ct for which splits are planned."""
_SPLITS = 4
"""The number of splits that are kept of each plan."""


class StochasticProgramSolver:
    """The split with the best sum of its reward and the value of the battery that it leaves.

    The value is that of :mod:`mec_gym.training_offload.battery_value`, fitted on tasks that nobody
    plays. Rewards are averaged over what can be believed of T_ct, see
    :class:`~agents.training_offload.connection_belief.ConnectionBelief`. The splits that are
    compared are the best corners of the frontier for several T_ct, the fastest split that the
    battery can pay for, and one that it may not be able to pay for, which then drops the task and
    saves the battery for others.

    In the value, tasks are independent. On ``drive-steady``, where the speed never changes, it
    therefore does not know that a slow vehicle stays slow: the value of the battery is that of
    speeds drawn anew.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.value = fit_battery_value(scenario)
        self.belief = ConnectionBelief(scenario)

    def solve(
        self, slot: Slot, state: State, worth: npt.ArrayLike = 1.0, trust: npt.ArrayLike = 1.0
    ) -> Solution:
        """Solve every task of a batch, fields (...).

        Args:
            slot: The tasks.
            state: What is left for them.
            worth: A factor of the value of the battery, (...): more saves more of it.
            trust: A factor of all believed T_ct, (...): more sends more to the edge.
        """
        later = np.maximum(np.asarray(state.tasks_left, dtype=np.int64) - 1, 0)
        limit = np.asarray(state.battery * (1.0 - FLOAT32_MARGIN))
        worth, trust = np.asarray(worth)[..., None], np.asarray(trust)[..., None]
        times = self.belief.connection_times(slot) * trust
        points = times.shape[-1]
        planned = sorted({int(quantile * points) for quantile in _PLANNED})
        found = [self._dearest(limit)]
        for point in planned:
            at = replace(slot, connection_time=times[..., point])
            found += self._planned(at, limit, later, worth)
        decisions = arrays.map_arrays(lambda *a: np.stack(a, axis=-1), *found)

        # Every decision meets every T_ct: fields (..., decisions, times).
        after = np.ndim(limit)
        wide = arrays.map_arrays(lambda a: np.expand_dims(a, (after, after + 1)), slot)
        _, outcome = model.evaluate(
            replace(wide, connection_time=times[..., None, :]),
            State(battery=limit[..., None, None], tasks_left=later[..., None, None]),
            arrays.map_arrays(lambda a: a[..., None], decisions),
            self.scenario,
        )
        reward = -outcome.latency_s.mean(axis=-1) / self.scenario.deadline
        left = limit[..., None] - outcome.energy_j[..., 0]
        total = reward + worth * self.value.of(later[..., None], left)
        best = total.argmax(axis=-1)[..., None]
        decision = arrays.map_arrays(
            lambda a: np.take_along_axis(a, best, axis=-1)[..., 0], decisions
        )
        return Solution(decision=decision, evaluations=decisions.server.shape[-1] * points)

    def _planned(
        self, slot: Slot, limit: FloatArray, later: IntArray, worth: FloatArray
    ) -> list[Decision]:
        """The best splits (...) if T_ct is that of the slot, and the fastest affordable one."""
        scenario = self.scenario
        frontier = SlotFrontier(slot, scenario, margin=FLOAT32_MARGIN)
        corners = frontier.corners()
        usable = (corners.delay <= scenario.deadline) & (corners.energy <= limit[..., None])
        energy = np.where(usable, corners.energy, 0.0)
        after = worth * self.value.of(later[..., None], limit[..., None] - energy)
        cost = np.where(usable, corners.delay / scenario.deadline - after, np.inf)
        best = np.argpartition(cost, _SPLITS, axis=-1)[..., :_SPLITS]
        found = [frontier.decide(corners, best[..., k]) for k in range(_SPLITS)]
        return [*found, frontier.best(limit)[1]]

    def _dearest(self, limit: FloatArray) -> Decision:
        """The split that costs most energy, (...)."""
        all_to_cloud = self.scenario.energy_per_offloaded_bit > self.scenario.device_energy
        nobody = np.zeros(np.shape(limit), dtype=np.int64)
        return Decision(
            edge_share=np.zeros(np.shape(limit)),
            cloud_share=np.full(np.shape(limit), float(all_to_cloud)),
            server=nobody,
            next_server=nobody,
        )
