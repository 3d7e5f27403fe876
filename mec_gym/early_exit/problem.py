"""Early-exit partition as a Problem: its spaces, what an agent sees, and its reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.problem import Episode
from mec_gym.core.types import FloatArray
from mec_gym.early_exit import model
from mec_gym.early_exit.exact import episode_bound
from mec_gym.early_exit.model import Decision, Outcome, State
from mec_gym.early_exit.scenario import Scenario, Slot


class EarlyExitPartition:
    """At which exit should the network answer a frame, and where should it be cut?

    **Description.** Frames reach a device, and a network with N exits has to answer each of
    them, [Ding2025]. The device runs the layers before the cut and sends what crosses it to an
    edge server, which runs the rest. An early exit is faster but less accurate. Device, uplink
    and edge server serve one frame after the other, so frames may have to wait, and a transfer
    takes a round trip longer than its bits need; bandwidth, loads and the arrival rate change
    over time. One battery pays for computing and for the radio during a whole episode. A frame
    that would take longer than the timeout or more energy than the battery holds is dropped.

    **Observation.** 14 numbers in [0, 1], float32:

    ===== ============================== =========================================
    index meaning                        scale
    ===== ============================== =========================================
    0     bandwidth B                    log, from ``bandwidth.lowest`` to ``.highest``
    1, 2  speed left of device and edge  1 (a share)
    3     arrival rate                   the largest of ``scenario.arrival_rates``
    4     deadline                       ``scenario.deadline[1]``
    5     priority                       1
    6-8   backlog of device, link, edge  ``scenario.timeout_s``
    9     battery left                   ``scenario.battery``
    10    frames left, this one included ``scenario.horizon``
    11    round-trip time                largest of ``scenario.technologies``
    12    radio's power at a rate of 0   largest of ``scenario.technologies``
    13    its growth with the rate       largest of ``scenario.technologies``
    ===== ============================== =========================================

    When the next frame comes, and all that follows, is hidden.

    **Action.** ``MultiDiscrete([N, K])``: the exit, and one of its candidate partitions. They
    are ordered by device work: 0 leaves least to the device. If an exit has fewer than K
    candidates, every number beyond means its last one.

    **Reward.** The reward of a frame is the negative sum of four costs:

    * ``accuracy_weight`` * (1 - accuracy of the exit), which is the utility of a right answer
      up to a constant;
    * ``latency_weight`` * P_task * latency / T_deadline;
    * ``miss_weight`` * P_task if the deadline is missed;
    * ``energy_weight`` * energy in J.

    A frame that is dropped counts as a wrong answer that took the timeout and missed its
    deadline.

    **Starting state.** The queues are empty, the battery is full, and all frames are still to
    come. Bandwidth, loads, arrivals, deadlines and priorities are drawn from the scenario.

    **Episode end.** The episode terminates after T frames; it is never truncated.

    **Arguments.** ``gymnasium.make("mec/EarlyExitPartition-v1", scenario=...)`` takes the name
    of a preset (``mixed`` by default), ``csv:PATH`` for a measured uplink, ``profile:PATH`` for
    another network, both with ``+`` between them, or a ``Scenario``.

    **Version history.** v1: a round trip per transfer, radio power that depends on technology
    and rate, a battery that can bind, and candidates that hold the heavy-load optima at all
    speeds that occur. v0: first version.

    Args:
        scenario: The parameters.

    Attributes:
        costs: Names of the parts of an ``Outcome`` of which less is better.
        gains: Names of the parts of which more is better.
    """

    costs = ("latency_s", "energy_j", "dropped")
    gains = ("accuracy",)

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.observation_space = spaces.Box(0.0, 1.0, (14,), np.float32)
        exits, most, _ = scenario.table.cost.shape
        self.action_space = spaces.MultiDiscrete([exits, most])
        self.horizon = scenario.horizon
        self.episodes_ahead = max(1, 1024 // scenario.horizon)
        self._lowest = scenario.bandwidth.lowest
        # A constant bandwidth has no range to scale by.
        self._span = float(np.log(scenario.bandwidth.highest / self._lowest)) or 1.0
        self._scales = np.array(
            [1.0, 1.0, 1.0, max(scenario.arrival_rates), scenario.deadline[1], 1.0]
            + [scenario.timeout_s] * 3
            + [scenario.battery, scenario.horizon]
            + [
                max(values) or 1.0
                for values in zip(
                    *(
                        (radio.round_trip_s, radio.base_power_w, radio.joule_per_bit)
                        for radio in scenario.technologies
                    ),
                    strict=True,
                )
            ]
        )

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T)."""
        return self.scenario.sample(rng, n)

    def check(self, trace: Slot) -> None:
        """Raise ValueError if rates, speeds or deadlines are not positive or others negative."""
        for name in ("bandwidth", "device_speed", "edge_speed", "arrival_rate", "deadline"):
            smallest = getattr(trace, name).min()
            if smallest <= 0:
                raise ValueError(f"trace.{name} must be positive, got {smallest}")
        for name in ("interval", "priority", "round_trip", "base_power", "joule_per_bit"):
            smallest = getattr(trace, name).min()
            if smallest < 0:
                raise ValueError(f"trace.{name} must not be negative, got {smallest}")

    def start(self, slot: Slot) -> State:
        """The state that an episode begins with: the queues are empty and the battery is full."""
        shape = np.shape(slot.bandwidth)
        return State(
            backlog=np.zeros((*shape, 3)),
            battery=np.full(shape, float(self.scenario.battery)),
            frames_left=np.full(shape, float(self.scenario.horizon)),
        )

    def observe(self, slot: Slot, state: State) -> npt.NDArray[np.float32]:
        """The observation (..., 14)."""
        parts = np.empty((*np.shape(slot.bandwidth), len(self._scales)))
        parts[..., 0] = np.log(slot.bandwidth / self._lowest) / self._span
        parts[..., 1] = slot.device_speed
        parts[..., 2] = slot.edge_speed
        parts[..., 3] = slot.arrival_rate
        parts[..., 4] = slot.deadline
        parts[..., 5] = slot.priority
        parts[..., 6:9] = state.backlog
        parts[..., 9] = state.battery
        parts[..., 10] = state.frames_left
        parts[..., 11] = slot.round_trip
        parts[..., 12] = slot.base_power
        parts[..., 13] = slot.joule_per_bit
        parts /= self._scales
        return parts.astype(np.float32)

    def decode(self, observation: npt.NDArray[np.float32]) -> tuple[Slot, State]:
        """Slot and state as the agent knows them; the hidden interval is its mean, 1 / rate."""
        parts = np.asarray(observation, dtype=np.float64) * self._scales
        rate = parts[..., 3]
        slot = Slot(
            bandwidth=self._lowest * np.exp(parts[..., 0] * self._span),
            device_speed=parts[..., 1],
            edge_speed=parts[..., 2],
            round_trip=parts[..., 11],
            base_power=parts[..., 12],
            joule_per_bit=parts[..., 13],
            arrival_rate=rate,
            interval=1.0 / np.maximum(rate, np.finfo(np.float32).tiny),
            deadline=parts[..., 4],
            priority=parts[..., 5],
        )
        state = State(
            backlog=parts[..., 6:9],
            battery=parts[..., 9],
            frames_left=np.rint(parts[..., 10]),
        )
        return slot, state

    def decision(self, action: npt.NDArray[Any]) -> Decision:
        """The decision an action (..., 2) stands for."""
        action = np.asarray(action, dtype=np.int64)
        last = self.scenario.table.sizes[action[..., 0]] - 1
        return Decision(exit=action[..., 0], partition=np.minimum(action[..., 1], last))

    def encode(self, decision: Decision) -> npt.NDArray[np.int64]:
        """The action (..., 2) of a decision."""
        return np.stack([decision.exit, decision.partition], axis=-1).astype(np.int64)

    def step(self, slot: Slot, state: State, decision: Decision) -> tuple[State, Outcome]:
        """Serve one frame, then wait for the next."""
        return model.evaluate(slot, state, decision, self.scenario)

    def reward(self, outcome: Outcome) -> FloatArray:
        """The negative sum of the four costs."""
        return np.asarray(
            -(outcome.accuracy_cost + outcome.latency_cost)
            - (outcome.miss_cost + outcome.energy_cost)
        )

    def done(self, state: State) -> npt.NDArray[np.bool_]:
        """Whether all frames have been dealt with."""
        return np.asarray(state.frames_left <= 0)

    def bound(self, trace: Slot) -> FloatArray:
        """No policy returns more on this trace, (n,); see :func:`episode_bound`."""
        return episode_bound(trace, self.scenario)

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """A matplotlib Figure of the episode so far."""
        from mec_gym.early_exit.viewer import draw_episode

        return draw_episode(self.scenario, episode)
