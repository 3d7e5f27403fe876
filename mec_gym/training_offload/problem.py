"""Training offload as a Problem: spaces, observations, actions and the reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.online import OnlineBound
from mec_gym.core.problem import Episode
from mec_gym.core.types import FloatArray
from mec_gym.training_offload import model
from mec_gym.training_offload.exact import episode_bound
from mec_gym.training_offload.model import Decision, Outcome, State
from mec_gym.training_offload.scenario import Scenario, Slot


class TrainingOffload:
    """Split every training task over device, edge and cloud while the vehicle moves.

    **Description.** A vehicle has T tasks, one after the other. Each task trains on W bits of
    data, and any share of them may be trained on the device, on an edge server i of the region
    that the vehicle is in, or in the cloud; the three work side by side. If the vehicle leaves
    the region before the results of server i are back, the rest goes through a server j of the
    next region, which was chosen beforehand. The equations are those of [Chen2025]. As in that
    paper, at most one hand-over happens per task: after it, the vehicle stays connected to
    server j until the results have arrived. One battery has to last for all tasks. On a drive
    the vehicle knows its connection time T_ct only as an estimate from its measured place and
    speed; these errors and the radio are added here.

    **Observation.** ``Box(0, 1)`` of float32, 6 + 6 S numbers for S servers per region:

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
             rate: (2, S) each, the
             region's servers first, then
             those of the next region
    ======== ============================== ==================================

    The true T_ct and all later tasks are hidden.

    **Action.** ``Box(0, 1)`` of 2 + S * S numbers:

    * 0: the share of W that leaves the device;
    * 1: the share of this that goes to the edge (the rest goes to the cloud);
    * 2..: a score for each pair (i, j), row by row; the pair of the highest score is taken,
      the first one on a tie.

    **Reward.** The reward of a task is -T / D_m, its latency divided by the deadline. A task is
    dropped, with reward -1, if it misses the deadline or needs more energy than the battery
    holds; in the latter case it is not started and costs nothing.

    **Starting state.** The battery is full, and all tasks are still to come. Sizes, rates and
    the drive are drawn from the scenario.

    **Episode end.** The episode terminates after T tasks; it is never truncated.

    **Arguments.** ``gymnasium.make("mec/TrainingOffload-v0", scenario=...)`` takes the name of
    a preset or a ``Scenario``; ``drive``, 30 tasks on the road, is the default.
    ``mec/TrainingOffloadPaper-v0`` is the problem of [Chen2025] itself, one task with known
    T_ct; its default is ``paper``.

    **Version history.** v0: first version.

    Args:
        scenario: The parameters.

    Attributes:
        costs: Names of the parts of an ``Outcome`` of which less is better.
        gains: Names of the parts of which more is better.
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
        """Raise ValueError unless work, times and rates are positive.

        A T_ct of 0 would mean that the vehicle never leaves.
        """
        for name in (
            "work",
            "connection_time",
            "connection_estimate",
            "uplink",
            "downlink",
            "compute",
        ):
            smallest = getattr(trace, name).min()
            if smallest <= 0:
                raise ValueError(f"trace.{name} must be positive, got {smallest}")

    def start(self, slot: Slot) -> State:
        """The battery is full, and all tasks are still to come."""
        shape = np.shape(slot.work)
        return State(
            battery=np.full(shape, self.scenario.battery),
            tasks_left=np.full(shape, float(self.scenario.horizon)),
        )

    def observe(self, slot: Slot, state: State) -> npt.NDArray[np.float32]:
        """The observation, (..., 6 + 6 S); of T_ct it shows the estimate only."""
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
        """Slot and state as the agent knows them; T_ct is its estimate."""
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
        return slot, State(battery=parts[..., 0], tasks_left=np.rint(parts[..., 1]))

    def decision(self, action: npt.NDArray[Any]) -> Decision:
        """The split that an action (..., 2 + S * S) stands for."""
        action = np.asarray(action)
        offloaded = action[..., 0].astype(np.float64)
        edge = offloaded * action[..., 1]
        pair = action[..., 2:].argmax(axis=-1)
        server, next_server = np.divmod(pair, self.scenario.servers)
        return Decision(
            edge_share=edge,
            cloud_share=offloaded - edge,
            server=server,
            next_server=next_server,
        )

    def encode(self, decision: Decision) -> npt.NDArray[np.float32]:
        """The action that stands for a decision: its pair scores 1, all others score 0."""
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
        return model.evaluate(slot, state, decision, self.scenario)

    def reward(self, outcome: Outcome) -> FloatArray:
        """The reward -T / D_m, (...); a dropped task counts as D_m."""
        return -outcome.latency_s / self.scenario.deadline

    def done(self, state: State) -> npt.NDArray[np.bool_]:
        """Whether all tasks have been dealt with."""
        return np.asarray(state.tasks_left <= 0)

    def bound(self, trace: Slot) -> FloatArray:
        """An upper bound on the return of any policy, see ``exact.episode_bound``."""
        return episode_bound(trace, self.scenario)

    @property
    def has_online_bound(self) -> bool:
        """Whether the scenario has an online bound."""
        from mec_gym.training_offload.online_bound import has_online_bound

        return has_online_bound(self.scenario)

    def online_bound(self) -> OnlineBound | None:
        """What no policy can expect that does not know the future, see ``online_bound``.

        It takes some ten seconds the first time.
        """
        from mec_gym.training_offload.online_bound import online_bound

        return online_bound(self.scenario)

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """A matplotlib Figure of the episode so far."""
        from mec_gym.training_offload.viewer import draw_episode

        return draw_episode(self.scenario, episode)
