"""Heads for training offload: a network outputs two numbers, an exact solver splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.protocol import Solver
from agents.solver_agent import SolverAgent
from agents.training_offload.energy_price import EnergyPriceSolver, tune_energy_price
from agents.training_offload.sdp import StochasticProgramSolver
from mec_gym.core.rollout import rollout
from mec_gym.core.seeds import tuning_episodes
from mec_gym.training_offload.problem import TrainingOffload

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker


class DriveHead:
    """What the heads of a drive share: the inputs, two outputs, and the usual reward.

    Besides the observation, the network sees the logarithm of battery / (tasks left * the energy of
    an average task that is offloaded completely), at two scales: in theory the value of a joule
    depends on the battery and the tasks left.

    Args:
        problem: The problem that is played.
        rule: The solver whose decisions are made where both outputs are 0.
        reward_per_work: The reward of the largest task under the rule; by default it is measured
            now.
    """

    device_columns = 0
    networks: Mapping[str, NetworkMaker] = {}
    SCALES = (3.0, 12.0)

    def __init__(
        self, problem: TrainingOffload, rule: Solver, reward_per_work: float | None
    ) -> None:
        scenario = problem.scenario
        self.problem = problem
        box = problem.observation_space
        extra = np.full(len(self.SCALES), 2.0, np.float32)
        self.input_space: spaces.Space[Any] = spaces.Box(
            np.concatenate([box.low, -extra]), np.concatenate([box.high, extra]), dtype=np.float32
        )
        self.output_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._usual_energy = sum(scenario.work) / 2 * scenario.energy_per_offloaded_bit
        if reward_per_work is None:
            reward_per_work = self._measure_reward_per_work(rule)
        self._reward_per_work = reward_per_work

    def _measure_reward_per_work(self, rule: Solver) -> float:
        """The reward of the largest task under the rule, on episodes to tune on."""
        problem = self.problem
        trace = tuning_episodes(problem, 64)
        usual = rollout(problem, SolverAgent(problem, rule), trace)
        done = ~usual.outcomes.dropped
        return float(usual.rewards[done].sum() / trace.work[done].sum() * problem.scenario.work[1])

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The observation, and how far the battery goes for the tasks left, (..., inputs)."""
        scenario = self.problem.scenario
        battery = np.maximum(observation[..., 0] * scenario.battery, 1e-9)
        tasks = np.maximum(observation[..., 1] * scenario.horizon, 1.0)
        plenty = np.log(battery / (tasks * self._usual_energy))
        extra = [np.clip(scale * plenty, -2.0, 2.0)[..., None] for scale in self.SCALES]
        return np.concatenate([observation, *extra], axis=-1).astype(np.float32)

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """A reward in proportion to the size of the task, as the rule earns it, (...)."""
        return np.asarray(self._reward_per_work * observation[..., 2], dtype=np.float64)


class EnergyPriceHead(DriveHead):
    """The network outputs an energy price and how far to trust T_ct; the split follows.

    Both outputs lie in [-1, 1]. The energy price is ``price`` * SPAN ** output[0] in s/J, and
    the task is planned for a connection time of estimate * TRUST ** output[1].
    :class:`~agents.training_offload.energy_price.EnergyPriceSolver` answers with the best split
    at that price, so (0, 0) is the rule of the tuned price itself, and the network learns when
    to leave it.

    Args:
        problem: The problem that is played.
        price: The tuned energy price, s/J; by default it is tuned now.
        reward_per_work: The reward of the largest task under the rule of the tuned price; by
            default it is measured now.
    """

    SPAN = 8.0
    TRUST = 2.0

    def __init__(
        self,
        problem: TrainingOffload,
        price: float | None = None,
        reward_per_work: float | None = None,
    ) -> None:
        # A price of 0, tuned where the battery never binds, could not be scaled.
        self.price = max(tune_energy_price(problem), 0.01) if price is None else price
        rule = EnergyPriceSolver(problem.scenario, self.price)
        super().__init__(problem, rule, reward_per_work)

    def parameters(self) -> dict[str, float]:
        """The tuned energy price and the measured reward, as the arguments are called."""
        return {"price": self.price, "reward_per_work": self._reward_per_work}

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Solve every task at the price that the network has put out for it."""
        slot, state = self.problem.decode(observation)
        raw = np.clip(np.asarray(raw, dtype=np.float64), -1.0, 1.0)
        believed = np.maximum(slot.connection_time * self.TRUST ** raw[..., 1], 1e-3)
        slot = dataclasses.replace(slot, connection_time=believed)
        solver = EnergyPriceSolver(self.problem.scenario, self.price * self.SPAN ** raw[..., 0])
        return self.problem.encode(solver.solve(slot, state).decision)


class BatteryValueHead(DriveHead):
    """The network corrects what the stochastic program makes of the battery and of T_ct.

    Both outputs lie in [-1, 1]. The value of the battery that a split leaves counts SPAN **
    output[0] times, which multiplies the program's price of energy, -dV/db. All connection times
    that :class:`~agents.training_offload.connection_belief.ConnectionBelief` believes in are
    multiplied by TRUST ** output[1]. At (0, 0) the decision is that of the agent ``sdp``, so the
    network learns what the program does not know.

    Args:
        problem: The problem that is played.
        reward_per_work: The reward of the largest task under ``sdp``; by default it is measured
            now.
    """

    SPAN = 1.5
    TRUST = 1.5

    def __init__(self, problem: TrainingOffload, reward_per_work: float | None = None) -> None:
        self._program = StochasticProgramSolver(problem.scenario)
        super().__init__(problem, self._program, reward_per_work)

    def parameters(self) -> dict[str, float]:
        """The measured reward, as the argument is called."""
        return {"reward_per_work": self._reward_per_work}

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Solve every task with the program as the network has corrected it."""
        slot, state = self.problem.decode(observation)
        raw = np.clip(np.asarray(raw, dtype=np.float64), -1.0, 1.0)
        found = self._program.solve(
            slot, state, worth=self.SPAN ** raw[..., 0], trust=self.TRUST ** raw[..., 1]
        )
        return self.problem.encode(found.decision)
