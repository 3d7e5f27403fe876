"""Distributed inference as the pair scorer sees it: numbers for each (device, place)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.placement import affordable
from mec_gym.distributed_inference.exact import delay_now, look_ahead
from mec_gym.distributed_inference.problem import DistributedInference

PAIR = (
    "now", "ahead", "compute", "upload", "download", "rest", "send", "load", "stays", "allowed",
)  # fmt: skip
DEVICE = ("active", "delay", "deadline", "blocks_left", "energy")
ROUND = ("rounds_left", "crowd")

Float32Array = npt.NDArray[np.float32]


class PairsHead:
    """Numbers for each device and place, in seconds; the network places the blocks itself.

    Inputs are N (M + 1) rows of ``PAIR``, N rows of ``DEVICE`` and one of ``ROUND``:

    - ``now``, ``ahead``: delay of the current block at the place, and the least delay of all
      that comes after it, as in :func:`~mec_gym.distributed_inference.exact.look_ahead`;
    - ``compute``, ``upload``, ``download``: what the block would take of the server, of its
      station's band up and of a band down, without other tenants; 0 if nothing is shared;
    - ``rest``: computing all the rest of the task at the place; ``send``: 1 Mbit to the
      station; ``load``: tenants; ``stays``: whether the block before ran there;
      ``allowed``: whether the place may be chosen;
    - ``active``; ``delay``: so far; ``deadline``; ``blocks_left``: share of K; ``energy``:
      that of computing all the rest at home, share of what the battery holds, at most 1;
    - ``rounds_left``: share of all; ``crowd``: devices with a task per server.

    No number depends on how many devices and servers there are, so neither does a network.

    Args:
        problem: The problem played.
        foresight: Whether ``ahead`` is told; else it is 0, and has to be learnt.
    """

    def __init__(self, problem: DistributedInference, foresight: bool = True) -> None:
        self.problem = problem
        self.foresight = foresight
        s = problem.scenario
        self.device_columns = 0
        pairs = s.devices * (s.servers + 1)
        size = pairs * len(PAIR) + s.devices * len(DEVICE) + len(ROUND)
        self.input_space: spaces.Space[Any] = spaces.Box(0.0, np.inf, (size,), np.float32)
        self.output_space: spaces.Space[Any] = problem.action_space

    def inputs(self, observation: npt.NDArray[np.float32]) -> Float32Array:
        """Network inputs (..., inputs) for observations (..., observation)."""
        s = self.problem.scenario
        slot, state = self.problem.decode(observation)
        batch, n, p = slot.active.shape[:-1], s.devices, s.servers + 1
        size = n * p * len(PAIR)
        seen = np.zeros((*batch, *self.input_space.shape), dtype=np.float32)  # type: ignore[misc]
        flat = np.zeros((*batch, n, p, len(PAIR)), dtype=np.float32)
        pair = {name: flat[..., i] for i, name in enumerate(PAIR)}
        active = slot.active
        # What others can be expected to place on each server.
        others = np.maximum(active.sum(axis=-1, keepdims=True) - 1.0, 0.0)
        crowd = others * slot.server_rate / slot.server_rate.sum(axis=-1, keepdims=True)
        pair["now"][...] = delay_now(slot, state.place, s)
        if self.foresight:
            pair["ahead"][...] = look_ahead(slot, s, crowd if s.contention else 0.0)
        home = state.place == 0
        bits, work = slot.bits[..., 0], slot.work[..., 0]
        if s.contention:
            pair["compute"][..., 1:] = work[..., None] / slot.server_rate[..., None, :]
            pair["upload"][..., 1:] = np.where(home[..., None], bits[..., None] / slot.uplink, 0.0)
            last = (slot.blocks_left == 1.0)[..., None] & s.return_result
            result = np.where(last, slot.bits[..., 1], 0.0)
            pair["download"][..., 1:] = result[..., None] / slot.downlink
            before = np.maximum(state.place - 1, 0)[..., None]
            rate = np.take_along_axis(slot.downlink, before, axis=-1)[..., 0]
            pair["download"][..., 0] = np.where(home, 0.0, bits / rate)
        rest = slot.work.sum(axis=-1)
        pair["rest"][..., 0] = rest / slot.device_rate
        pair["rest"][..., 1:] = (
            rest[..., None] * ((1.0 + slot.load) / slot.server_rate)[..., None, :]
        )
        pair["send"][..., 1:] = 1e6 / slot.uplink
        pair["load"][..., 1:] = slot.load[..., None, :]
        pair["stays"][...] = state.place[..., None] == np.arange(p)
        allowed = affordable(slot, state, s)
        allowed |= ~allowed.any(axis=-1, keepdims=True)
        allowed &= active[..., None]
        allowed[..., 0] |= ~active
        pair["allowed"][...] = allowed
        seen[..., :size] = flat.reshape(*batch, size)
        needed = s.energy_coefficient * slot.device_rate**2 * rest
        per_device = np.stack(
            [
                active,
                state.delay,
                slot.deadline,
                np.broadcast_to(slot.blocks_left[..., None] / s.blocks, active.shape),
                np.minimum(needed / np.maximum(state.battery, 1e-9), 1.0),
            ],
            axis=-1,
        )
        seen[..., size : size + n * len(DEVICE)] = per_device.reshape(*batch, -1)
        seen[..., -2] = state.rounds_left / s.rounds
        seen[..., -1] = active.sum(axis=-1) / s.servers
        return seen

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The places themselves."""
        return raw

    def parameters(self) -> dict[str, float]:
        """None."""
        return {}

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """0."""
        return np.zeros(observation.shape[:-1])
