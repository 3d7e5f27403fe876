"""Distributed inference as the pair scorer sees it: numbers for each (device, place)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.distributed_inference.pairs.features import (
    DeviceFeatures,
    Layout,
    PairFeatures,
    columns,
)
from agents.heads.protocol import Head, SizedPart
from mec_gym.core.types import BoolArray, Float32Array, FloatArray
from mec_gym.distributed_inference.lookahead import delay_now, look_ahead
from mec_gym.distributed_inference.model import State, affordable, home_energy
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Slot

if TYPE_CHECKING:
    from agents.heads.protocol import NetworkMaker
    from agents.networks.parts import PolicyNetwork
    from agents.settings import NetworkOptions

NO_BATTERY = 1e-9
"""The least battery, in J, that an energy is divided by."""
MBIT = 1e6
"""Bits of the transfer that ``PairDelays.send`` stands for."""


def make_pairs_network(head: Head, options: NetworkOptions) -> PolicyNetwork:
    """The network of a pairs head; torch is imported only now."""
    from agents.distributed_inference.pairs.network import PairsNetwork

    return PairsNetwork(head, options)


class PairsHead:
    """Numbers for each device and place; the network places the blocks itself.

    The inputs are the records of :mod:`agents.distributed_inference.pairs.features`, in the
    order of :class:`~agents.distributed_inference.pairs.features.Layout`; the raw outputs are
    the places. No number's meaning depends on how many devices and servers there are, so
    neither does a network's size.

    Args:
        problem: The problem that is played.
        foresight: How many blocks ``ahead`` looks ahead, by default to the end of the task.
            What lies beyond has to be learnt: the less foresight, the more there is to learn.
        room_for: Numbers of devices and servers that inputs and outputs have room for, if more
            than the problem has. What fills the excess room does not exist. So problems of
            several sizes fit into one batch.

    Attributes:
        layout: Where the features lie in a row of inputs.

    Raises:
        ValueError: ``room_for`` is less than the problem's own size.
    """

    device_columns = 0
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
        self.layout = layout = Layout(*(room_for or (s.devices, s.servers)))
        if layout.devices < s.devices or layout.servers < s.servers:
            raise ValueError(f"room_for must be at least {(s.devices, s.servers)}, got {room_for}")
        self.input_space: spaces.Space[Any] = spaces.Box(0.0, np.inf, (layout.width,), np.float32)
        self.output_space: spaces.Space[Any] = spaces.MultiDiscrete(
            [layout.places] * layout.devices
        )

    def inputs(self, observation: npt.NDArray[np.float32]) -> Float32Array:
        """Network inputs (..., inputs) for observations (..., observation)."""
        s = self.problem.scenario
        n, p = s.devices, s.servers + 1
        slot, state = self.problem.decode(observation)
        rows = np.zeros((*slot.active.shape[:-1], self.layout.width), dtype=np.float32)
        seen = self.layout.unpack(rows)
        # Who does not exist must choose, too, and its deadline is divided by.
        seen.pair.allowed[..., n:, 0] = 1.0
        seen.device.deadline[..., n:] = 1.0
        pair = PairFeatures(*(column[..., :n, :p] for column in columns(seen.pair)))
        device = DeviceFeatures(*(column[..., :n] for column in columns(seen.device)))

        pair.now[...] = delay_now(slot, state.place, s)
        pair.ahead[...] = look_ahead(slot, s, self._expected_crowd(slot), self.foresight)
        if s.contention:
            self._write_what_is_shared(pair, slot, state)
        rest = slot.work.sum(axis=-1)
        self._write_the_rest_of_the_task(pair, slot, rest)
        pair.send[..., 1:] = MBIT / slot.uplink
        pair.load[..., 1:] = slot.load[..., None, :]
        pair.stays[...] = state.place[..., None] == np.arange(p)
        pair.allowed[...] = self._allowed(slot, state)
        self._write_devices(device, slot, state, home_energy(slot, rest))
        seen.round.rounds_left[...] = state.rounds_left / s.rounds
        seen.round.crowd[...] = slot.active.sum(axis=-1) / s.servers
        return rows

    def _expected_crowd(self, slot: Slot) -> FloatArray | float:
        """Blocks of other devices to expect at each server, (..., M): by the servers' rates."""
        if not self.problem.scenario.contention:
            return 0.0
        others = np.maximum(slot.active.sum(axis=-1, keepdims=True) - 1.0, 0.0)
        total_rate = slot.server_rate.sum(axis=-1, keepdims=True)
        return np.asarray(others * slot.server_rate / total_rate)

    def _write_what_is_shared(
        self, pair: PairFeatures[Float32Array], slot: Slot, state: State
    ) -> None:
        """Fill in ``compute``, ``upload`` and ``download`` of a problem with contention."""
        home = state.place == 0
        bits, work = slot.bits[..., 0], slot.work[..., 0]
        pair.compute[..., 1:] = work[..., None] / slot.server_rate[..., None, :]
        pair.upload[..., 1:] = np.where(home[..., None], bits[..., None] / slot.uplink, 0.0)
        last = (slot.blocks_left == 1.0)[..., None] & self.problem.scenario.return_result
        result = np.where(last, slot.bits[..., 1], 0.0)
        pair.download[..., 1:] = result[..., None] / slot.downlink
        before = np.maximum(state.place - 1, 0)[..., None]
        rate = np.take_along_axis(slot.downlink, before, axis=-1)[..., 0]
        pair.download[..., 0] = np.where(home, 0.0, bits / rate)

    def _write_the_rest_of_the_task(
        self, pair: PairFeatures[Float32Array], slot: Slot, rest: FloatArray
    ) -> None:
        """Fill in ``rest``, ``stay`` and ``leave``; the whole rest is (..., N) FLOP."""
        s = self.problem.scenario
        share = ((1.0 + slot.load) / slot.server_rate)[..., None, :]  # s/FLOP
        following = slot.work[..., 1] if s.blocks > 1 else np.zeros_like(rest)
        for column, flop in ((pair.rest, rest), (pair.stay, following)):
            column[..., 0] = flop / slot.device_rate
            column[..., 1:] = flop[..., None] * share
        to_move = slot.bits[..., 1, None] * (slot.blocks_left[..., None, None] > 1.0)
        pair.leave[..., 0] = (to_move / slot.uplink).min(axis=-1)
        fastest = slot.downlink if s.servers == 1 else np.maximum(slot.downlink, s.backhaul)
        pair.leave[..., 1:] = to_move / fastest

    def _allowed(self, slot: Slot, state: State) -> BoolArray:
        """Which places each device may choose, (..., N, M + 1), at least one.

        Those are the places that its battery can pay; all if it can pay none, for the task is
        lost anyway. A device without a block stays at home.
        """
        allowed = affordable(slot, state, self.problem.scenario)
        allowed |= ~allowed.any(axis=-1, keepdims=True)
        allowed &= slot.active[..., None]
        allowed[..., 0] |= ~slot.active
        return allowed

    def _write_devices(
        self, device: DeviceFeatures[Float32Array], slot: Slot, state: State, needed: FloatArray
    ) -> None:
        """Fill in what is said of the devices that exist; the rest needs (..., N) J at home."""
        device.exists[...] = 1.0
        device.active[...] = slot.active
        device.delay[...] = state.delay
        device.deadline[...] = slot.deadline
        device.blocks_left[...] = slot.blocks_left[..., None] / self.problem.scenario.blocks
        device.energy[...] = np.minimum(needed / np.maximum(state.battery, NO_BATTERY), 1.0)

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The places of the devices that exist."""
        return raw[..., : self.problem.scenario.devices]

    def side_by_side(
        self, sizes: Sequence[tuple[int, int]], reward_scale: float
    ) -> list[SizedPart]:
        """The problem in each of the sizes, with heads that have room for the largest.

        The more devices a problem has, the larger its rewards are. So that none drowns the
        others, rewards are scaled to the number of devices of the head's own problem.

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
        """The head finds nothing out about its problem, so there is nothing to keep."""
        return {}

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> FloatArray:
        """Nothing is subtracted from rewards: 0 for every observation."""
        return np.zeros(observation.shape[:-1])
