"""Training offload as a Problem: spaces, observe/decode, reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.problem import Episode
from mec_gym.core.types import FloatArray
from mec_gym.training_offload import model
from mec_gym.training_offload.exact import drive_bound
from mec_gym.training_offload.model import Decision, Outcome, State
from mec_gym.training_offload.scenario import Scenario, Slot


class TrainingOffload:
    """Where to train each task of a drive: device, edge server or cloud.

    **Observation**, float32 in [0, 1], 6 + 6 S numbers for S servers a region:

    ======== ============================== ==================================
    index    meaning                        scale
    ======== ============================== ==================================
    0        battery left                   ``scenario.battery``
    1        tasks left, this one included  ``scenario.horizon``
    2        size of the task W             ``scenario.work[1]``
    3        measured place in the cell     ``road.cell_m`` (0 without a road)
    4        measured speed                 ``road.max_speed`` (0 without one)
    5        estimate of T_ct               ``scenario.longest_connection_s``
    6..      uplink, downlink, training     ``scenario.largest_rate``
             rate: (2, S) each, the cell's
             servers first, then the next's
    ======== ============================== ==================================

    **Action**, Box [0, 1] of 2 + S*S numbers:

    * 0: share of W that leaves the device; 1: share of that which goes to the edge (the
      rest goes to the cloud);
    * 2..: a score for each pair (i, j), row by row; the highest wins, the first on a tie.

    **Reward** of a task: -T / D_m, and -1 if it is dropped.

    As in the paper, a task meets one hand-over at most: server j stays within reach until
    the results are back, however long that takes.

    Args:
        scenario: The parameters.
    """

    costs = ("latency_s", "energy_j", "dropped")
    gains = ()

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        servers = scenario.servers
        self.observation_space = spaces.Box(0.0, 1.0, (6 + 6 * servers,), np.float32)
        self.action_space = spaces.Box(0.0, 1.0, (2 + servers * servers,), np.float32)
        self.horizon = scenario.horizon
        # Long enough that drawing is cheap; 4096 queues then take about 200 MB.
        self.episodes_ahead = max(1, 256 // scenario.horizon)
        road = scenario.road
        self._scales = np.concatenate(
            [
                [scenario.battery, scenario.horizon, scenario.work[1]],
                [road.cell_m if road else 1.0, road.max_speed if road else 1.0],
                [scenario.longest_connection_s],
                np.full(6 * servers, scenario.largest_rate),
            ]
        )

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...)."""
        return self.scenario.sample(rng, n)

    def check(self, trace: Slot) -> None:
        """Work, times and rates must be positive: T_ct = 0 would be read as "never leaves"."""
        for name in (
            "work", "connection_time", "connection_estimate", "uplink", "downlink", "compute",
        ):  # fmt: skip
            smallest = getattr(trace, name).min()
            if smallest <= 0:
                raise ValueError(f"trace.{name} must be positive, got {smallest}")

    def start(self, slot: Slot) -> State:
        """A full battery and all tasks to come."""
        shape = np.shape(slot.work)
        return State(
            np.full(shape, self.scenario.battery), np.full(shape, float(self.scenario.horizon))
        )

    def observe(self, slot: Slot, state: State) -> npt.NDArray[np.float32]:
        """The observation (..., 6 + 6 S); T_ct itself is not shown, only its estimate."""
        batch = np.shape(slot.work)
        parts = np.empty((*batch, len(self._scales)))
        parts[..., 0] = state.battery
        parts[..., 1] = state.tasks_left
        parts[..., 2] = slot.work
        parts[..., 3] = slot.position
        parts[..., 4] = slot.speed
        parts[..., 5] = slot.connection_estimate
        servers = 2 * self.scenario.servers
        for k, rates in enumerate((slot.uplink, slot.downlink, slot.compute)):
            begin = 6 + k * servers
            parts[..., begin : begin + servers] = rates.reshape(*batch, servers)
        observation: npt.NDArray[np.float32] = (parts / self._scales).astype(np.float32)
        return observation

    def decode(self, observation: npt.NDArray[np.float32]) -> tuple[Slot, State]:
        """Slot and state as the agent knows them: T_ct is the estimate of it."""
        parts = np.asarray(observation, dtype=np.float64) * self._scales
        batch = parts.shape[:-1]
        rates = parts[..., 6:].reshape(*batch, 3, 2, self.scenario.servers)
        slot = Slot(
            work=parts[..., 2],
            connection_time=parts[..., 5],
            connection_estimate=parts[..., 5],
            position=parts[..., 3],
            speed=parts[..., 4],
            uplink=rates[..., 0, :, :],
            downlink=rates[..., 1, :, :],
            compute=rates[..., 2, :, :],
        )
        return slot, State(parts[..., 0], np.rint(parts[..., 1]))

    def decision(self, action: npt.NDArray[Any]) -> Decision:
        """The split an action (..., 2 + S*S) stands for."""
        action = np.asarray(action)
        offloaded = action[..., 0].astype(np.float64)
        edge = offloaded * action[..., 1]
        pair = action[..., 2:].argmax(axis=-1)
        server, next_server = np.divmod(pair, self.scenario.servers)
        return Decision(edge, offloaded - edge, server, next_server)

    def encode(self, decision: Decision) -> npt.NDArray[np.float32]:
        """The action of a decision; its pair scores 1, the others 0."""
        offloaded = np.clip(decision.edge_share + decision.cloud_share, 0.0, 1.0)
        to_edge = np.divide(
            decision.edge_share, offloaded, out=np.zeros_like(offloaded), where=offloaded > 0
        )
        servers = self.scenario.servers
        pair = decision.server * servers + decision.next_server
        scores = pair[..., None] == np.arange(servers * servers)
        shares = np.stack([offloaded, np.clip(to_edge, 0.0, 1.0)], axis=-1)
        return np.concatenate([shares, scores], axis=-1).astype(np.float32)

    def step(self, slot: Slot, state: State, decision: Decision) -> tuple[State, Outcome]:
        """Train one task."""
        outcome = model.evaluate(slot, state, decision, self.scenario)
        return State(state.battery - outcome.energy_j, state.tasks_left - 1.0), outcome

    def reward(self, outcome: Outcome) -> FloatArray:
        """-T / D_m; a dropped task counts as D_m."""
        return -outcome.latency_s / self.scenario.deadline

    def done(self, state: State) -> npt.NDArray[np.bool_]:
        """Whether all tasks have been dealt with."""
        return np.asarray(state.tasks_left <= 0)

    def bound(self, trace: Slot) -> FloatArray:
        """No policy returns more on this trace, (n,); see :func:`drive_bound`."""
        return -drive_bound(trace, self.scenario) / self.scenario.deadline

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """A matplotlib Figure of the episode so far."""
        from mec_gym.training_offload.viewer import draw_episode

        return draw_episode(self.scenario, episode)
