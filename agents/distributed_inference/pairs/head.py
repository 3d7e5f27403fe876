"""Distributed inference as the pair scorer sees it: numbers for each (device, place)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.heads.protocol import Head, SizedPart
from mec_gym.core.types import Float32Array
from mec_gym.distributed_inference.exact import delay_now, look_ahead
from mec_gym.distributed_inference.model import affordable, home_energy
from mec_gym.distributed_inference.problem import DistributedInference

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker
    from agents.networks.parts import NetworkOptions, PolicyNetwork

PAIR = (
    "now", "ahead", "compute", "upload", "download", "stay", "leave", "rest", "send", "load",
    "stays", "allowed",
)  # fmt: skip
DEVICE = ("exists", "active", "delay", "deadline", "blocks_left", "energy")
ROUND = ("rounds_left", "crowd")


def make_pairs_network(head: Head, options: NetworkOptions) -> PolicyNetwork:
    """The network of a pairs head; torch is imported only now."""
    from agents.distributed_inference.pairs.network import PairsNetwork

    return PairsNetwork(head, options)


class PairsHead:
    """Numbers for each device and place, in seconds; the network places the blocks itself.

    Inputs are N (M + 1) rows of ``PAIR``, N rows of ``DEVICE`` and one of ``ROUND``:

    - ``now``, ``ahead``: delay of the current block at the place, and the least delay of all
      that comes after it, as in :func:`~mec_gym.distributed_inference.exact.look_ahead`;
    - ``compute``, ``upload``, ``download``: what the block would take of the server, of its
      station's band up and of a band down, without other tenants; 0 if nothing is shared;
    - ``stay``: computing the next block there, too; ``leave``: moving its bits to the best place
      for that, other than there;
    - ``rest``: computing all the rest of the task at the place; ``send``: 1 Mbit to the
      station; ``load``: tenants; ``stays``: whether the block before ran there;
      ``allowed``: whether the place may be chosen;
    - ``exists``, ``active``; ``delay``: so far; ``deadline``; ``blocks_left``: share of K;
      ``energy``: of computing all the rest at home, share of the battery's, at most 1;
    - ``rounds_left``: share of all; ``crowd``: devices with a task per server.

    No number depends on how many devices and servers there are, so neither does a network.

    Args:
        problem: The problem played.
        foresight: Blocks that ``ahead`` looks ahead, by default to the end of the task; what
            lies beyond has to be learnt.
        room_for: Devices and servers that inputs and outputs have room for, if more than the
            problem has; what is in excess exists not. So problems of several sizes fit into
            one batch.

    Raises:
        ValueError: Not enough room.
    """

    networks: Mapping[str, NetworkMaker] = {"pairs": make_pairs_network}

    def __init__(
        self,
        problem: DistributedInference,
        foresight: int | None = None,
        room_for: tuple[int, int] | None = None,
    ) -> None:
        self.problem = problem
        self.foresight = foresight
        s = problem.scenario
        self.size = room_for or (s.devices, s.servers)
        if self.size[0] < s.devices or self.size[1] < s.servers:
            raise ValueError(f"room_for must be at least {(s.devices, s.servers)}, got {room_for}")
        self.device_columns = 0
        devices, places = self.size[0], self.size[1] + 1
        size = devices * (places * len(PAIR) + len(DEVICE)) + len(ROUND)
        self.input_space: spaces.Space[Any] = spaces.Box(0.0, np.inf, (size,), np.float32)
        self.output_space: spaces.Space[Any] = spaces.MultiDiscrete([places] * devices)

    def inputs(self, observation: npt.NDArray[np.float32]) -> Float32Array:
        """Network inputs (..., inputs) for observations (..., observation)."""
        s = self.problem.scenario
        slot, state = self.problem.decode(observation)
        batch, n, p = slot.active.shape[:-1], s.devices, s.servers + 1
        room, places = self.size[0], self.size[1] + 1
        pairs = np.zeros((*batch, room, places, len(PAIR)), dtype=np.float32)
        devices = np.zeros((*batch, room, len(DEVICE)), dtype=np.float32)
        pair = {name: pairs[..., :n, :p, i] for i, name in enumerate(PAIR)}
        device = {name: devices[..., :n, i] for i, name in enumerate(DEVICE)}
        active = slot.active
        # What others can be expected to place on each server.
        others = np.maximum(active.sum(axis=-1, keepdims=True) - 1.0, 0.0)
        crowd = others * slot.server_rate / slot.server_rate.sum(axis=-1, keepdims=True)
        pair["now"][...] = delay_now(slot, state.place, s)
        expected = crowd if s.contention else 0.0
        pair["ahead"][...] = look_ahead(slot, s, expected, self.foresight)
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
        share = ((1.0 + slot.load) / slot.server_rate)[..., None, :]
        rest = slot.work.sum(axis=-1)
        following = slot.work[..., 1] if s.blocks > 1 else np.zeros_like(rest)
        for name, flop in (("rest", rest), ("stay", following)):
            pair[name][..., 0] = flop / slot.device_rate
            pair[name][..., 1:] = flop[..., None] * share
        to_move = slot.bits[..., 1, None] * (slot.blocks_left[..., None, None] > 1.0)
        pair["leave"][..., 0] = (to_move / slot.uplink).min(axis=-1)
        fastest = slot.downlink if s.servers == 1 else np.maximum(slot.downlink, s.backhaul)
        pair["leave"][..., 1:] = to_move / fastest
        pair["send"][..., 1:] = 1e6 / slot.uplink
        pair["load"][..., 1:] = slot.load[..., None, :]
        pair["stays"][...] = state.place[..., None] == np.arange(p)
        allowed = affordable(slot, state, s)
        allowed |= ~allowed.any(axis=-1, keepdims=True)
        allowed &= active[..., None]
        allowed[..., 0] |= ~active
        pair["allowed"][...] = allowed
        pairs[..., n:, 0, PAIR.index("allowed")] = 1.0  # they must choose, too
        device["exists"][...] = 1.0
        device["active"][...] = active
        device["delay"][...] = state.delay
        devices[..., DEVICE.index("deadline")] = 1.0
        device["deadline"][...] = slot.deadline
        device["blocks_left"][...] = slot.blocks_left[..., None] / s.blocks
        device["energy"][...] = np.minimum(
            home_energy(slot, rest, s) / np.maximum(state.battery, 1e-9), 1.0
        )
        whole = np.stack([state.rounds_left / s.rounds, active.sum(axis=-1) / s.servers], axis=-1)
        rows = (pairs.reshape(*batch, -1), devices.reshape(*batch, -1), whole.astype(np.float32))
        return np.concatenate(rows, axis=-1)

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The places of the devices that exist."""
        return raw[..., : self.problem.scenario.devices]

    def side_by_side(
        self, sizes: Sequence[tuple[int, int]], reward_scale: float
    ) -> list[SizedPart]:
        """The problem in each of the sizes, with heads that have room for the largest.

        A problem of many devices has a large reward in every round, one of few a small one.
        So that none drowns the others, rewards are scaled to the number of devices of the
        head's own problem.

        Args:
            sizes: Numbers of devices and of servers, each at least 1.
            reward_scale: What rewards of the head's own problem are multiplied by.
        """
        room_for = (max(n for n, _ in sizes), max(m for _, m in sizes))
        parts = []
        for devices, servers in sizes:
            sized = self.problem.sized(devices, servers)
            head = PairsHead(sized, self.foresight, room_for)
            scale = reward_scale * self.problem.scenario.devices / devices
            parts.append(SizedPart(sized, head, scale))
        return parts

    def parameters(self) -> dict[str, float]:
        """None."""
        return {}

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """0."""
        return np.zeros(observation.shape[:-1])
