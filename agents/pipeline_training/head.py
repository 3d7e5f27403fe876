"""The head for pipeline training: a network says how long plans last and whom not to trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.pipeline_training.patience import departure_rate, plan_values, tune_patience
from agents.pipeline_training.rules import best_plans
from mec_gym.core.types import FloatArray
from mec_gym.pipeline_training.exact import plan_shares
from mec_gym.pipeline_training.model import Decision
from mec_gym.pipeline_training.plans import all_plans
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import Slot

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker


class PlanHead:
    """The network names the horizon of plans, and how often each device is taken to leave.

    Every plan is scored as by :class:`~agents.pipeline_training.patience.PatienceSolver`: what it
    earns in this slot, moving included, and in the slots of the horizon after it, less what is
    lost when devices leave. Raw outputs lie in [-1, 1]. The first one multiplies the tuned horizon
    by ``SPAN`` ** raw, and the others are added to how often the devices leave by the tuned rule.
    At 0 the decision is that of the rule, so the network learns when to deviate from it.

    Args:
        problem: The problem that is played.
        horizon: The tuned horizon, slots. If it or the risk is None, both are tuned now.
        risk: The tuned number of slots in which a device may leave.

    Raises:
        ValueError: There are too many plans to try them all.
    """

    device_columns = 0
    networks: Mapping[str, NetworkMaker] = {}
    SPAN = 3.0

    def __init__(
        self, problem: PipelineTraining, horizon: float | None = None, risk: float | None = None
    ) -> None:
        self.problem = problem
        all_plans(problem.scenario.blocks, problem.scenario.devices)  # or there are too many
        if horizon is None or risk is None:
            horizon, risk = tune_patience(problem)
        self.horizon, self.risk = horizon, risk
        self._last = np.empty(0, np.float32), np.empty(0)
        size = problem.observation_space.shape[0] + problem.scenario.devices
        self.input_space: spaces.Space[Any] = spaces.Box(0.0, 1.0, (size,), np.float32)
        outputs = 1 + problem.scenario.devices
        self.output_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (outputs,), np.float32)

    def parameters(self) -> dict[str, float]:
        """Return the tuned horizon and the tuned risk."""
        return {"horizon": self.horizon, "risk": self.risk}

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the observation, and how often each device leaves, as history has it."""
        slot, _ = self.problem.decode(observation)
        rate = departure_rate(slot, self.problem.scenario)
        rate = np.where(slot.present, np.minimum(np.sqrt(rate), 1.0), 0.0)
        return np.concatenate([observation, rate.astype(np.float32)], axis=-1)

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the actions of the plans that are best with the horizon and departures named."""
        raw = np.clip(np.asarray(raw, dtype=np.float64), -1.0, 1.0)
        s = self.problem.scenario
        slot, state = self.problem.decode(observation)
        horizon = np.clip(self.horizon * self.SPAN ** raw[..., 0], 1.0, None)
        horizon = np.minimum(horizon, np.maximum(state.slots_left, 1.0))
        leaving = self.risk * departure_rate(slot, s) + raw[..., 1:]
        shares = self._shares(observation, slot)
        plan = best_plans(plan_values(slot, state, shares, s, horizon, leaving), s)
        return self.problem.encode(Decision(place=plan))

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return what the fastest plan would earn if blocks were in their places, (...)."""
        slot, _ = self.problem.decode(observation)
        fastest = self._shares(observation, slot).max(axis=-1)
        return np.where(np.isfinite(fastest), fastest - 1.0, 0.0)

    def _shares(self, observation: npt.NDArray[np.float32], slot: Slot) -> FloatArray:
        """The pace of every plan; a learner asks twice of each observation."""
        seen, shares = self._last
        if not np.array_equal(observation, seen):
            shares = plan_shares(slot, self.problem.scenario)
            self._last = observation.copy(), shares
        return shares
