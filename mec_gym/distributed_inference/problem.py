"""Distributed inference as a Problem: spaces, observations, actions and the reward."""

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
    """Place every block of many devices' networks on many servers, round by round.

    **Description.** Each of N devices has a task, a deep neural network to run, that is cut
    into K blocks. In every round all devices place their current block at once: on the
    device itself or on one of M servers. Blocks on the same server share its speed with each
    other and with other tenants, and transfers over the same station share its band; a block's
    input has to be moved from where the block before ran. After K rounds the tasks end and
    the next ones begin; an episode has J tasks per device. The problem is that of [Li2024];
    the sharing and a network that changes from round to round are added here, and the
    scenario ``patent`` leaves them out.

    **Observation.** ``Box(0, 1)`` of float32. The first N rows have ``device_columns`` = 2 K +
    8 + 2 M numbers each, one row per device:

    ============== =============================================== =========================
    columns        meaning                                         scale
    ============== =============================================== =========================
    K + 1          bits into the current block, the next, ..., of  the most of any block
                   the result; 0 beyond the last
    K              work of the current block, the next, ...        the most of any block
    1              whether it has a block to place                 1
    1              place of the block before                       M
    1              time that the task has taken, D                 D / (D + rho)
    1              deadline rho, of the task or of each block      the longest
    1              battery                                         ``scenario.battery``
    1              device rate mu                                  ``scenario.device_rate[1]``
    1              power while it computes, tau mu^3               ``scenario.compute_power[1]``
    M, M           uplink, downlink                                ``channel.fastest``
    ============== =============================================== =========================

    They are followed by 2 M + 2 numbers that all devices have in common: M background loads
    (scale: the largest), M server rates (``scenario.server_rate[1]``), the blocks left (K) and
    the rounds left (J K). A device whose task was given up has no block to place, like an idle
    device; the row of an idle device shows the chain that it would have had. The future of
    channel, loads and tasks is hidden.

    **Action.** ``MultiDiscrete([M + 1] * N)``: 0 is the device itself, and m is server m. The
    action of a device without a block to place is ignored.

    **Reward.** The reward of a round is -(``latency_weight`` * sum of the devices' delays +
    penalties of what is late and of tasks that are given up), [Li2024] eq. (11) and (12).
    ``scenario.deadline_of`` says whether a task is due as a whole or each of its blocks. A device
    whose battery cannot pay for its block gives its task up.

    **Starting state.** The inputs of all tasks are on their devices, the batteries are full,
    and no round has been played. Rates, loads, tasks and deadlines are drawn from the
    scenario.

    **Episode end.** The episode terminates after J K rounds; it is never truncated.

    **Arguments.** ``gymnasium.make("mec/DistributedInference-v1", scenario=...)`` takes the
    name of a preset (``small`` by default) or a ``Scenario``.

    **Version history.** v1: channel of [TR36942] and [TR36814], inputs of 8 bits per value, a
    power per device, deadlines per block in ``patent``. v0: first version.

    Args:
        scenario: The parameters.

    Attributes:
        costs: Names of the parts of an ``Outcome`` of which less is better.
        gains: Names of the parts of which more is better.
        device_columns: The number of columns of a device's row of the observation, F. The
            observation begins with N rows of F numbers, one per device; what follows them
            is common to all devices.
    """

    costs: tuple[str, ...] = ("latency_s", "energy_j", "dropped", "penalty")
    gains: tuple[str, ...] = ()

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = s = scenario
        self.device_columns = 2 * s.blocks + 8 + 2 * s.servers
        size = s.devices * self.device_columns + 2 * s.servers + 2
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        self.action_space = spaces.MultiDiscrete([s.servers + 1] * s.devices)
        self.horizon = s.rounds
        self.episodes_ahead = max(1, 4096 // (s.rounds * s.devices))
        bits, work = s.largest
        row = np.concatenate(
            [
                np.full(s.blocks + 1, bits),
                np.full(s.blocks, work),
                [1.0, s.servers, 1.0, s.longest_deadline, s.battery],
                [s.device_rate[1], s.compute_power[1]],
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
        """Return the same problem with another number of devices and servers.

        Args:
            devices: The number of devices, N.
            servers: The number of servers, M.
        """
        return DistributedInference(replace(self.scenario, devices=devices, servers=servers))

    def sample(self, rng: np.random.Generator, n: int) -> Slot:
        """Draw n episodes, fields (n, T, ...)."""
        return self.scenario.sample(rng, n)

    def check(self, trace: Slot) -> None:
        """Check that a trace makes sense.

        Args:
            trace: Fields (n, T, ...).

        Raises:
            ValueError: A rate or a deadline is not positive, a size or a load is negative, or
                something changes within a task that must not: who is active, deadlines,
                computing rates, and the chain of blocks.
        """
        positive = ("blocks_left", "deadline", "uplink", "downlink", "device_rate", "server_rate")
        for name in (*positive, "compute_power"):
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
        for name in ("active", "deadline", "device_rate", "compute_power", "server_rate"):
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
        """Begin with every task's input on its device, full batteries and all rounds to come."""
        shape = np.shape(slot.active)
        return State(
            place=np.zeros(shape, dtype=np.int64),
            delay=np.zeros(shape),
            failed=np.zeros(shape, dtype=np.bool_),
            battery=np.full(shape, float(self.scenario.battery)),
            rounds_left=np.full(shape[:-1], float(self.horizon)),
        )

    def observe(self, slot: Slot, state: State) -> npt.NDArray[np.float32]:
        """Return the observation, (..., N * device_columns + 2 M + 2)."""
        s = self.scenario
        batch = np.shape(slot.active)[:-1]
        seen = np.empty((*batch, *self.observation_space.shape), dtype=np.float32)
        # A view of the first N rows: what is written to it is written to the observation.
        head = seen[..., : s.devices * self.device_columns]
        rows = np.lib.stride_tricks.as_strided(
            head,
            (*batch, s.devices, self.device_columns),
            (*head.strides[:-1], self.device_columns * head.itemsize, head.itemsize),
        )
        k, scale = s.blocks, self._row_scale
        rows[..., : k + 1] = slot.bits * scale[0]
        rows[..., k + 1 : 2 * k + 1] = slot.work * scale[k + 1]
        column = 2 * k + 1
        rows[..., column] = slot.active & ~state.failed
        rows[..., column + 1] = state.place * scale[column + 1]
        rows[..., column + 2] = state.delay / (state.delay + slot.deadline)
        rows[..., column + 3] = slot.deadline * scale[column + 3]
        rows[..., column + 4] = state.battery * scale[column + 4]
        rows[..., column + 5] = slot.device_rate * scale[column + 5]
        rows[..., column + 6] = slot.compute_power * scale[column + 6]
        column, m = column + 7, s.servers
        for rate in (slot.uplink, slot.downlink):
            rows[..., column : column + m] = rate * scale[column]
            column += m
        tail, tail_scale = seen[..., s.devices * self.device_columns :], self._tail_scale
        tail[..., :m] = slot.load * tail_scale[:m]
        tail[..., m : 2 * m] = slot.server_rate * tail_scale[m : 2 * m]
        tail[..., 2 * m] = slot.blocks_left * tail_scale[2 * m]
        tail[..., 2 * m + 1] = state.rounds_left * tail_scale[2 * m + 1]
        return seen

    def decode(self, observation: npt.NDArray[np.float32]) -> tuple[Slot, State]:
        """Return slot and state as the agent knows them; who failed looks idle."""
        s = self.scenario
        seen = np.asarray(observation, dtype=np.float64)
        batch = seen.shape[:-1]
        rows = seen[..., : s.devices * self.device_columns].reshape(
            *batch, s.devices, self.device_columns
        )
        rows = rows / self._row_scale
        tail = seen[..., s.devices * self.device_columns :] / self._tail_scale
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
            uplink=rows[..., column + 7 : column + 7 + m],
            downlink=rows[..., column + 7 + m :],
            load=tail[..., :m],
            device_rate=rows[..., column + 5],
            compute_power=rows[..., column + 6],
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
        """Return the decision that an action (..., N) stands for."""
        return Decision(place=np.asarray(action, dtype=np.int64))

    def encode(self, decision: Decision) -> npt.NDArray[np.int64]:
        """Return the action (..., N) of a decision."""
        return np.asarray(decision.place, dtype=np.int64)

    def step(self, slot: Slot, state: State, decision: Decision) -> tuple[State, Outcome]:
        """Run the current block of every device."""
        return model.evaluate(slot, state, decision, self.scenario)

    def reward(self, outcome: Outcome) -> FloatArray:
        """Return -(beta * latency + penalty), summed over the devices, (...)."""
        return np.asarray(-self.scenario.latency_weight * outcome.latency_s - outcome.penalty)

    def device_rewards(self, slot: Slot, state: State, decision: Decision) -> FloatArray:
        """Return what each device adds to the reward of a round, (..., N)."""
        each = model.device_round(slot, state, decision, self.scenario)
        latency_s = each.step_s + each.given_up_s
        return np.asarray(-self.scenario.latency_weight * latency_s - each.penalty)

    def done(self, state: State) -> npt.NDArray[np.bool_]:
        """Tell whether all rounds have been played, (...)."""
        return np.asarray(state.rounds_left <= 0)

    def bound(self, trace: Slot) -> FloatArray:
        """Return what no policy exceeds on this trace, (n,), by :func:`episode_bound`."""
        return episode_bound(trace, self.scenario)

    def draw(self, episode: Episode[Slot, State, Decision, Outcome]) -> Any:
        """Return a matplotlib Figure of the episode so far."""
        from mec_gym.distributed_inference.viewer import draw_episode

        return draw_episode(self.scenario, episode)
