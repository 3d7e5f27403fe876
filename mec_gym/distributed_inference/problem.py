"""Distributed inference as a Problem: spaces, observe/decode, reward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.problem import Episode
from mec_gym.core.types import FloatArray
from mec_gym.distributed_inference import model
from mec_gym.distributed_inference.exact import episode_bound
from mec_gym.distributed_inference.model import Decision, Outcome, State
from mec_gym.distributed_inference.scenario import Scenario, Slot


class DistributedInference:
    """Round by round: where does the current block of every device run?

    **Observation**, float32 in [0, 1]. First N rows of 2 K + 7 + 2 M numbers, one a device:

    ============== =============================================== =========================
    columns        meaning                                         scale
    ============== =============================================== =========================
    K + 1          bits into the current block, the next, ..., of  the most of any block
                   the result; 0 beyond the last
    K              work of the current block, the next, ...        the most of any block
    1              whether it has a block to place                 1
    1              place of the block before                       M
    1              time the task has taken, D                      D / (D + rho)
    1              deadline rho                                    the longest
    1              battery                                         ``scenario.battery``
    1              device rate mu                                  ``scenario.device_rate[1]``
    M, M           uplink, downlink                                ``channel.fastest``
    ============== =============================================== =========================

    then M background loads (largest), M server rates (``scenario.server_rate[1]``), the
    blocks left (K) and the rounds left (J K). A task that was given up has no block to place,
    as an idle device, whose row tells the chain it would have had; what is to come of channel,
    loads and tasks is hidden.

    **Action**, MultiDiscrete [M + 1] * N: 0 the device itself, m server m. A device without
    a block to place may say anything.

    **Reward** of a round: -(``latency_weight`` * sum of the devices' delays + penalties of
    tasks that end late or are given up), seed 002, (11) and (12).

    Args:
        scenario: The parameters.
    """

    costs = ("latency_s", "energy_j", "dropped", "penalty")
    gains = ()

    @property
    def device_columns(self) -> int:
        """Width of one of the N rows that observations begin with."""
        return self.width

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = s = scenario
        self.width = 2 * s.blocks + 7 + 2 * s.servers
        size = s.devices * self.width + 2 * s.servers + 2
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        self.action_space = spaces.MultiDiscrete([s.servers + 1] * s.devices)
        self.horizon = s.rounds
        self.episodes_ahead = max(1, 4096 // (s.rounds * s.devices))
        bits, work = s.largest
        row = np.concatenate(
            [
                np.full(s.blocks + 1, bits),
                np.full(s.blocks, work),
                [1.0, s.servers, 1.0, s.longest_deadline, s.battery, s.device_rate[1]],
                np.full(2 * s.servers, s.channel.fastest),
            ]
        )
        # A little less than 1 / row, so that what is largest does not round to more than 1.
        self._row_scale = np.nextafter((1.0 / row).astype(np.float32), np.float32(0))
        self._tail_scale = 1.0 / np.concatenate(
            [
                np.full(s.servers, s.largest_load or 1.0),
                np.full(s.servers, s.server_rate[1]),
                [s.blocks, s.rounds],
            ]
        )

    def sized(self, devices: int, servers: int) -> DistributedInference:
        """The same problem with N and M of one's own."""
        return DistributedInference(replace(self.scenario, devices=devices, servers=servers))

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...)."""
        return self.scenario.sample(rng, n)

    def check(self, trace: Slot) -> None:
        """Rates and deadlines positive, sizes and loads not negative, each task one task.

        Raises:
            ValueError: Else; within a task who is active, deadlines, computing rates and the
                chain of its blocks stay what they are.
        """
        for name in ("blocks_left", "deadline", "uplink", "downlink", "device_rate", "server_rate"):
            smallest = getattr(trace, name).min()
            if smallest <= 0:
                raise ValueError(f"trace.{name} must be positive, got {smallest}")
        for name in ("bits", "work", "load"):
            smallest = getattr(trace, name).min()
            if smallest < 0:
                raise ValueError(f"trace.{name} must not be negative, got {smallest}")
        s = self.scenario
        expected = s.blocks - np.arange(self.horizon) % s.blocks
        if not np.array_equal(
            trace.blocks_left, np.broadcast_to(expected, trace.blocks_left.shape)
        ):
            raise ValueError(f"trace.blocks_left must be {expected.tolist()} in every episode")
        for name in ("active", "deadline", "device_rate", "server_rate"):
            field = getattr(trace, name)
            by_task = field.reshape(-1, s.tasks, s.blocks, field.shape[-1])
            if (by_task != by_task[:, :, :1]).any():
                raise ValueError(f"trace.{name} must not change within a task of {s.blocks} rounds")
        for name in ("bits", "work"):
            field = getattr(trace, name)
            by_task = field.reshape(-1, s.tasks, s.blocks, *field.shape[2:])
            goes_on = by_task[:, :, 1:, :, :-1] == by_task[:, :, :-1, :, 1:]
            if not goes_on.all() or by_task[:, :, 1:, :, -1].any():
                raise ValueError(
                    f"trace.{name} of a round must be those of the round before moved up by one, "
                    "with 0 at the end, within each task"
                )

    def start(self, slot: Slot) -> State:
        """Every task's input on its device, full batteries, all rounds to come."""
        shape = np.shape(slot.active)
        return State(
            place=np.zeros(shape, dtype=np.int64),
            delay=np.zeros(shape),
            failed=np.zeros(shape, dtype=np.bool_),
            battery=np.full(shape, float(self.scenario.battery)),
            rounds_left=np.full(shape[:-1], float(self.horizon)),
        )

    def observe(self, slot: Slot, state: State) -> npt.NDArray[np.float32]:
        """The observation (..., N * width + 2 M + 2)."""
        s = self.scenario
        batch = np.shape(slot.active)[:-1]
        seen = np.empty((*batch, *self.observation_space.shape), dtype=np.float32)
        # A view of the first N rows: what is written to it is written to the observation.
        head = seen[..., : s.devices * self.width]
        rows = np.lib.stride_tricks.as_strided(
            head,
            (*batch, s.devices, self.width),
            (*head.strides[:-1], self.width * head.itemsize, head.itemsize),
        )
        k, scale = s.blocks, self._row_scale
        np.multiply(slot.bits, scale[: k + 1], out=rows[..., : k + 1], casting="same_kind")
        np.multiply(
            slot.work, scale[k + 1 : 2 * k + 1], out=rows[..., k + 1 : 2 * k + 1],
            casting="same_kind",
        )  # fmt: skip
        column = 2 * k + 1
        rows[..., column] = slot.active & ~state.failed
        rows[..., column + 1] = state.place * scale[column + 1]
        rows[..., column + 2] = state.delay / (state.delay + slot.deadline)
        rows[..., column + 3] = slot.deadline * scale[column + 3]
        rows[..., column + 4] = state.battery * scale[column + 4]
        rows[..., column + 5] = slot.device_rate * scale[column + 5]
        column, m = column + 6, s.servers
        for rate in (slot.uplink, slot.downlink):
            np.multiply(
                rate, scale[column], out=rows[..., column : column + m], casting="same_kind"
            )
            column += m
        tail, tail_scale = seen[..., s.devices * self.width :], self._tail_scale
        tail[..., :m] = slot.load * tail_scale[:m]
        tail[..., m : 2 * m] = slot.server_rate * tail_scale[m : 2 * m]
        tail[..., 2 * m] = slot.blocks_left * tail_scale[2 * m]
        tail[..., 2 * m + 1] = state.rounds_left * tail_scale[2 * m + 1]
        return seen

    def decode(self, observation: npt.NDArray[np.float32]) -> tuple[Slot, State]:
        """Slot and state as the agent knows them; who failed looks idle."""
        s = self.scenario
        seen = np.asarray(observation, dtype=np.float64)
        batch = seen.shape[:-1]
        rows = seen[..., : s.devices * self.width].reshape(*batch, s.devices, self.width)
        rows = rows / self._row_scale
        tail = seen[..., s.devices * self.width :] / self._tail_scale
        k, m = s.blocks, s.servers
        column = 2 * k + 1
        deadline, active = rows[..., column + 3], rows[..., column] > 0.5
        spent = np.minimum(rows[..., column + 2], 1.0 - 1e-9)
        slot = Slot(
            bits=rows[..., : k + 1],
            work=rows[..., k + 1 : 2 * k + 1],
            blocks_left=np.rint(tail[..., 2 * m]),
            active=active,
            deadline=deadline,
            uplink=rows[..., column + 6 : column + 6 + m],
            downlink=rows[..., column + 6 + m :],
            load=tail[..., :m],
            device_rate=rows[..., column + 5],
            server_rate=tail[..., m : 2 * m],
        )
        state = State(
            place=np.rint(rows[..., column + 1]).astype(np.int64),
            delay=deadline * spent / (1.0 - spent),
            failed=np.zeros(active.shape, dtype=np.bool_),
            battery=rows[..., column + 4],
            rounds_left=np.rint(tail[..., 2 * m + 1]),
        )
        return slot, state

    def decision(self, action: npt.NDArray[Any]) -> Decision:
        """The decision an action (..., N) stands for."""
        return Decision(np.asarray(action, dtype=np.int64))

    def encode(self, decision: Decision) -> npt.NDArray[np.int64]:
        """The action (..., N) of a decision."""
        return np.asarray(decision.place, dtype=np.int64)

    def step(self, slot: Slot, state: State, decision: Decision) -> tuple[State, Outcome]:
        """Run the current block of every device."""
        return model.evaluate(slot, state, decision, self.scenario)

    def reward(self, outcome: Outcome) -> FloatArray:
        """-(beta * latency + penalty), summed over devices."""
        return np.asarray(-self.scenario.latency_weight * outcome.latency_s - outcome.penalty)

    def done(self, state: State) -> npt.NDArray[np.bool_]:
        """Whether all rounds have been played."""
        return np.asarray(state.rounds_left <= 0)

    def bound(self, trace: Slot) -> FloatArray:
        """No policy returns more on this trace, (n,); see :func:`episode_bound`."""
        return episode_bound(trace, self.scenario)

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """A matplotlib Figure of the episode so far."""
        from mec_gym.distributed_inference.viewer import draw_episode

        return draw_episode(self.scenario, episode)
