"""A stochastic dynamic program over the battery of a drive, which plays without training."""

from __future__ import annotations

import numpy as np

from agents.protocol import Solution
from mec_gym.core import arrays
from mec_gym.training_offload.battery_value import fit_battery_value
from mec_gym.training_offload.exact import FLOAT32_MARGIN, SlotFrontier
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.scenario import Scenario, Slot


class StochasticProgramSolver:
    """The split with the best sum of its reward and the value of the battery that it leaves.

    The value is that of :mod:`mec_gym.training_offload.battery_value`, fitted on tasks that nobody
    plays. In it a task's T_ct is known, and tasks are independent. So it does not know that T_ct is
    a guess, which is planned with as if it were true, nor that a slow vehicle will stay slow: on
    ``drive-steady``, where the speed never changes, it plays what is best at speeds drawn anew.

    Args:
        scenario: The parameters.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.value = fit_battery_value(scenario)

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve every task of a batch, fields (...)."""
        scenario, battery = self.scenario, state.battery
        later = np.maximum(np.asarray(state.tasks_left, dtype=np.int64) - 1, 0)
        frontier = SlotFrontier(slot, scenario, margin=FLOAT32_MARGIN)
        limit = battery * (1.0 - FLOAT32_MARGIN)
        corners = frontier.corners()
        usable = (corners.delay <= scenario.deadline) & (corners.energy <= limit[..., None])
        energy = np.where(usable, corners.energy, 0.0)
        after = self.value.of(later[..., None], battery[..., None] - energy)
        worth = np.where(usable, after - corners.delay / scenario.deadline, -np.inf)
        choice = worth.argmax(axis=-1)
        best = np.take_along_axis(worth, choice[..., None], axis=-1)[..., 0]
        decision = frontier.decide(corners, choice)

        # Between two corners, the split that spends just what is left may be better. Where
        # nothing is affordable, this is the cheapest split.
        split, at_limit = frontier.best(limit)
        in_time = split.delay <= scenario.deadline
        spent = np.where(in_time, split.energy, 0.0)
        worth_limit = self.value.of(later, battery - spent) - split.delay / scenario.deadline
        worth_limit = np.where(in_time, worth_limit, -np.inf)
        decision = arrays.where(best > worth_limit, decision, at_limit)
        best = np.maximum(best, worth_limit)

        # A split that the battery cannot pay for drops the task and saves the battery for others.
        all_to_cloud = scenario.energy_per_offloaded_bit > scenario.device_energy
        nobody = np.zeros(np.shape(battery), dtype=np.int64)
        dearest = Decision(
            edge_share=np.zeros(np.shape(battery)),
            cloud_share=np.full(np.shape(battery), float(all_to_cloud)),
            server=nobody,
            next_server=nobody,
        )
        per_bit = max(scenario.energy_per_offloaded_bit, scenario.device_energy)
        can_drop = slot.work * per_bit * (1.0 - FLOAT32_MARGIN) > battery
        drop = can_drop & (self.value.of(later, battery) - 1.0 > best)
        return Solution(decision=arrays.where(drop, dearest, decision), evaluations=0)
