"""Early-exit partition as a Problem: its spaces, what an agent sees, and its reward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core import arrays
from mec_gym.core.online import OnlineBound
from mec_gym.core.problem import Episode
from mec_gym.core.types import FloatArray
from mec_gym.early_exit import model
from mec_gym.early_exit.exact import episode_bound
from mec_gym.early_exit.model import Decision, Outcome, State
from mec_gym.early_exit.scenario import Scenario, Slot, arrivals, curve_of
from mec_gym.network.tandem import RateCurve


class EarlyExitPartition:
    """At which exit should the network answer a frame, and where should it be cut?

    **Description.** Frames reach a device, and a network with N exits has to answer each of
    them, [Ding2025]. The device runs the layers before the cut and sends what crosses it to an
    edge server, which runs the rest. An early exit is faster but less accurate. Device, uplink
    and edge server serve one frame after the other, in the order in which frames become ready
    for them. So frames have to wait, and one that is sent as it is may overtake another that is
    still on the device, and delay it. A transfer takes as long as the rate needs, which changes
    meanwhile, and a round trip; bandwidth, loads and the arrival rate change
    over time. One battery pays for computing and for the radio during a whole episode. A frame
    that would take longer than the timeout or more energy than the battery holds is dropped.

    **Observation.** 18 numbers in [0, 1], float32:

    ===== ============================== =========================================
    index meaning                        scale
    ===== ============================== =========================================
    0     bandwidth B                    log, from ``bandwidth.lowest`` to ``.highest``
    1, 2  speed left of device and edge  1 (a share)
    3     arrival rate                   the largest of ``scenario.arrival_rates``
    4     deadline                       ``scenario.deadline[1]``
    5     priority                       1
    6-8   backlog of device, link, edge, ``scenario.timeout_s``
          of frames that none can delay
    9     battery left                   ``scenario.battery``
    10    frames left, this one included ``scenario.horizon``
    11    round-trip time                largest of ``scenario.technologies``
    12    radio's power at a rate of 0   largest of ``scenario.technologies``
    13    its growth with the rate       largest of ``scenario.technologies``
    14    bits that the frames under way x / (x + ``scenario.timeout_s``)
          have yet to send, in s at B
    15    their work for the edge, s     ``scenario.timeout_s``
    16    cost of a second of delay for  x / (x + ``latency_weight`` /
          all of them together           ``deadline[0]``)
    17    the delay that all of them can ``scenario.timeout_s``; 1 if there are none
          bear before one times out, s
    ===== ============================== =========================================

    A frame is under way until it is ready for the edge server; until then a later one may delay
    it. When the next frame comes, and all that follows, is hidden.

    **Action.** ``MultiDiscrete([N, K])``: the exit, and one of its candidate partitions. They
    are ordered by device work: 0 leaves least to the device. If an exit has fewer than K
    candidates, every number beyond means its last one.

    **Reward.** The reward of a frame is the negative sum of five costs:

    * ``accuracy_weight`` * (1 - accuracy of the exit), which is the utility of a right answer
      up to a constant;
    * ``latency_weight`` * P_task * latency / T_deadline;
    * ``miss_weight`` * P_task if the deadline is missed;
    * the latency costs and misses of other frames that it delays;
    * ``energy_weight`` * energy in J, that of transfers which it shifts included.

    Each counts as things stand after the frame, with no other to come, less what it was before.
    So the sum over an episode is the cost of what really happened, and each part is paid by the
    decision that caused it. A frame is dropped if it, or one that it delays, would take longer
    than the timeout, if the battery cannot pay for it, or if too many frames are under way. It
    counts as a wrong answer that took the timeout and missed its deadline.

    **Starting state.** The queues are empty, the battery is full, and all frames are still to
    come. Bandwidth, loads, arrivals, deadlines and priorities are drawn from the scenario.

    **Episode end.** The episode terminates after T frames; it is never truncated.

    **Arguments.** ``gymnasium.make("mec/EarlyExitPartition-v2", scenario=...)`` takes the name
    of a preset (``mixed`` by default), ``csv:PATH`` for a measured uplink, ``profile:PATH`` for
    another network, both with ``+`` between them, or a ``Scenario``.

    **Version history.** v2: device, link and edge serve frames in the order in which they become
    ready (before, in that of their arrival, so that a frame on the device kept the link idle); a
    transfer takes the rates that there are while it lasts (before, that of the frame's arrival);
    the reward counts the delay of others; four more numbers are observed. v1: a round trip per
    transfer, radio power that depends on technology and rate, a battery that can bind, and
    candidates that hold the heavy-load optima at all speeds that occur. v0: first version.

    Args:
        scenario: The parameters.

    Attributes:
        costs: Names of the parts of an ``Outcome`` of which less is better.
        gains: Names of the parts of which more is better.
    """

    costs = ("latency_s", "delay_caused_s", "delay_cost", "energy_j", "dropped")
    gains = ("accuracy",)

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.observation_space = spaces.Box(0.0, 1.0, (18,), np.float32)
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
            + [1.0, scenario.timeout_s, 1.0, scenario.timeout_s]
        )
        # What these are as large as is shown as a half.
        self._halves = np.array(
            [scenario.timeout_s, scenario.latency_weight / scenario.deadline[0] or 1.0]
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
        if not np.allclose(trace.arrival, arrivals(trace.interval), rtol=1e-9, atol=1e-9):
            raise ValueError("trace.arrival must be the sum of the intervals before each frame")
        curve = curve_of(arrays.slot_at(trace, 0))
        if not np.array_equal(curve.time, trace.arrival):
            raise ValueError("trace.uplink must change its rate when frames arrive")
        least, last = curve.rate.min(), curve.rate[:, -1].min()
        if least < 0 or last <= 0:
            raise ValueError(
                "trace.uplink must have rates that are not negative, and a positive last one, got "
                f"{least} and {last}"
            )
        whole = RateCurve.of(curve.time, curve.rate)
        if not np.allclose(curve.bits, whole.bits, rtol=1e-9, atol=1e-6):
            raise ValueError("trace.uplink must hold the bits that its rates send")

    def start(self, slot: Slot) -> State:
        """The state that an episode begins with: the queues are empty and the battery is full."""
        shape = np.shape(slot.bandwidth)
        return State(
            free=np.zeros((*shape, 3)),
            under_way=np.zeros((*shape, model.ROWS, self.scenario.under_way)),
            battery=np.full(shape, float(self.scenario.battery)),
            frames_left=np.full(shape, float(self.scenario.horizon)),
        )

    def observe(self, slot: Slot, state: State) -> npt.NDArray[np.float32]:
        """The observation (..., 18)."""
        parts = np.empty((*np.shape(slot.bandwidth), len(self._scales)))
        parts[..., 0] = np.log(slot.bandwidth / self._lowest) / self._span
        parts[..., 1] = slot.device_speed
        parts[..., 2] = slot.edge_speed
        parts[..., 3] = slot.arrival_rate
        parts[..., 4] = slot.deadline
        parts[..., 5] = slot.priority
        parts[..., 6:9] = model.backlog(slot, state)
        parts[..., 9] = state.battery
        parts[..., 10] = state.frames_left
        parts[..., 11] = slot.round_trip
        parts[..., 12] = slot.base_power
        parts[..., 13] = slot.joule_per_bit
        parts[..., 14:17] = 0.0
        parts[..., 17] = self.scenario.timeout_s
        others = model.others_of(state.under_way)
        if len(others):
            bits, edge_s, weight = (
                others.sum_of(row) for row in (model.BITS, model.EDGE_S, model.WEIGHT)
            )
            unsent = bits / slot.bandwidth
            parts[..., 14] = unsent / (unsent + self._halves[0])
            parts[..., 15] = edge_s
            parts[..., 16] = weight / (weight + self._halves[1])
            slack = others.frame[:, model.LIMIT] - others.frame[:, model.DONE]
            np.minimum.at(parts.reshape(-1, len(self._scales))[:, 17], others.instance, slack)
        parts /= self._scales
        return parts.astype(np.float32)

    def decode(self, observation: npt.NDArray[np.float32]) -> tuple[Slot, State]:
        """Slot and state as the agent believes them to be.

        The hidden interval is its mean, 1 / rate, the frame arrives at 0, and the uplink keeps
        its present rate for ever. All frames under way are believed to be one. It is ready for
        the link when the device has done its work, and if it has nothing to send, it is on its
        way to the edge server. It has no deadline that it could miss, and times out when the
        first of them does.
        """
        parts = np.asarray(observation, dtype=np.float64) * self._scales
        rate, zero = parts[..., 3], np.zeros(parts.shape[:-1])
        bandwidth = self._lowest * np.exp(parts[..., 0] * self._span)
        slot = Slot(
            bandwidth=bandwidth,
            device_speed=parts[..., 1],
            edge_speed=parts[..., 2],
            round_trip=parts[..., 11],
            base_power=parts[..., 12],
            joule_per_bit=parts[..., 13],
            arrival_rate=rate,
            interval=1.0 / np.maximum(rate, np.finfo(np.float32).tiny),
            deadline=parts[..., 4],
            priority=parts[..., 5],
            arrival=zero,
            uplink=np.stack([zero, zero, bandwidth], axis=-1)[..., None],
        )
        state = State(
            free=parts[..., 6:9],
            under_way=self._believed(slot, parts),
            battery=parts[..., 9],
            frames_left=np.rint(parts[..., 10]),
        )
        return slot, state

    def _believed(self, slot: Slot, parts: FloatArray) -> FloatArray:
        """All frames under way as one, from an observation in its units, (..., ROWS, 1)."""
        shown = np.minimum(parts[..., [14, 16]], 1.0 - 1e-7)
        unsent, weight = np.moveaxis(self._halves * shown / (1.0 - shown), -1, 0)
        bits, edge_s = unsent * slot.bandwidth, parts[..., 15]
        trip = slot.round_trip * (bits > 0)
        ready = np.where(bits > 0, parts[..., 6], parts[..., 7] + slot.round_trip)
        way = model.plan(
            replace(slot, arrival=ready),
            parts[..., 6:9],
            model.others_of(np.zeros((*bits.shape, model.ROWS, 0))),
            device_s=np.zeros(bits.shape),
            bits=bits,
            round_trip=trip,
            edge_s=edge_s,
        )
        frame = np.zeros((*bits.shape, model.ROWS, 1))
        for row, value in (
            (model.READY, ready),
            (model.SENT, way.sent),
            (model.DONE, way.done),
            (model.DUE, np.inf),
            (model.LIMIT, way.done + parts[..., 17]),
            (model.FROM, way.bits_from),
            (model.UNTIL, way.bits_until),
            (model.BITS, bits),
            (model.TRIP, trip),
            (model.EDGE_S, edge_s),
            (model.SENDING_S, way.sending_s),
            (model.POWER, slot.base_power),
            (model.WEIGHT, weight),
        ):
            frame[..., row, 0] = np.where((bits > 0) | (edge_s > 0), value, 0.0)
        return frame

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
        """The negative sum of the five costs."""
        return np.asarray(-outcome.cost)

    def done(self, state: State) -> npt.NDArray[np.bool_]:
        """Whether all frames have been dealt with."""
        return np.asarray(state.frames_left <= 0)

    def bound(self, trace: Slot) -> FloatArray:
        """No policy returns more on this trace, (n,); see :func:`episode_bound`."""
        return episode_bound(trace, self.scenario)

    @property
    def has_online_bound(self) -> bool:
        """Whether an online bound is worth computing; it may turn out not to be the lower one."""
        from mec_gym.early_exit.online_bound import may_have_online_bound

        return may_have_online_bound(self.scenario)

    def online_bound(self) -> OnlineBound | None:
        """What no policy can expect that does not know the future, see ``online_bound``.

        It takes most of a minute the first time.
        """
        from mec_gym.early_exit.online_bound import online_bound

        return online_bound(self.scenario)

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """A matplotlib Figure of the episode so far."""
        from mec_gym.early_exit.viewer import draw_episode

        return draw_episode(self.scenario, episode)
