"""The head for early exit: a network names prices, and one step of look-ahead decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.early_exit.backlog_price import BacklogPriceSolver, scarcity, tune_prices
from mec_gym.early_exit.exact import slot_optimum
from mec_gym.early_exit.problem import EarlyExitPartition

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker


class BacklogPriceHead:
    """The network names the price of a second of backlog at each stage, and that of a joule.

    Raw outputs lie in [-1, 1], and a price is tuned price * SPAN ** raw. The decision is that of
    :class:`~agents.early_exit.backlog_price.BacklogPriceSolver`. At (0, 0, 0, 0) it is the tuned
    rule, whose prices are raised to ``LEAST`` where they were tuned lower. So the network learns
    when to deviate from the tuned rule.

    Args:
        problem: The problem that is played.
        device: The tuned price of the device's backlog, 1/s. If one of the four is
            None, all of them are tuned now.
        link: The tuned price of the link's backlog, 1/s.
        edge: The tuned price of the edge's backlog, 1/s.
        energy: The tuned price of energy, 1/J.
    """

    device_columns = 0
    networks: Mapping[str, NetworkMaker] = {}
    SPAN = 3.0
    LEAST = (1.0, 1.0, 1.0, 0.1)  # three in 1/s, one in 1/J; a price of 0 could not be scaled

    def __init__(
        self,
        problem: EarlyExitPartition,
        device: float | None = None,
        link: float | None = None,
        edge: float | None = None,
        energy: float | None = None,
    ) -> None:
        self.problem = problem
        if device is None or link is None or edge is None or energy is None:
            device, link, edge, energy = tune_prices(problem)
        self.price = np.maximum([device, link, edge, energy], self.LEAST)
        self.input_space: spaces.Space[Any] = spaces.Box(
            -1.0, 1.0, problem.observation_space.shape, np.float32
        )
        self.output_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (4,), np.float32)

    def parameters(self) -> dict[str, float]:
        """The tuned prices by stage, and that of energy."""
        names = ("device", "link", "edge", "energy")
        return dict(zip(names, self.price.tolist(), strict=True))

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The observation, but for the backlogs and the battery.

        In place of each backlog, and of the work under way, stands its square root: what matters
        is about as long as a service time, which is short beside the timeout that they are scaled
        by. In place of the battery stands 3 * log of its scarcity, clipped to [-1, 1]: what decides
        is whether the battery lasts, and a few percent matter.
        """
        inputs = observation.copy()
        for column in (6, 7, 8, 14, 15, 16):
            inputs[..., column] = np.sqrt(observation[..., column])
        frames = np.maximum(observation[..., 10], 1e-6)  # after the last frame none is left
        scarce = scarcity(frames, observation[..., 9])
        inputs[..., 9] = np.clip(3.0 * np.log(scarce), -1.0, 1.0)
        return inputs

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The actions at the prices that the raw outputs name."""
        raw = np.clip(np.asarray(raw, dtype=np.float64), -1.0, 1.0)
        solver = BacklogPriceSolver(self.problem.scenario, self.price * self.SPAN**raw)
        return self.problem.encode(solver.solve(*self.problem.decode(observation)).decision)

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The most that the frame could earn with empty queues and a full battery."""
        slot, _ = self.problem.decode(observation)
        return slot_optimum(slot, self.problem.start(slot), self.problem.scenario)[1]
