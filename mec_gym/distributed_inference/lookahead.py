"""What the current block takes at each place, and what comes after it at the least."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import FloatArray, IntArray
from mec_gym.distributed_inference.horizon import in_double
from mec_gym.distributed_inference.model import lateness_cost
from mec_gym.distributed_inference.scenario import Scenario, Slot


def delay_now(slot: Slot, before: IntArray, scenario: Scenario) -> FloatArray:
    """Compute what the current block takes at each place if no other device shares with it.

    This is the transfer of its input, [Li2024] eq. (5), its computing, eq. (3) and (6), and
    after the last block the return of the result. The other tenants share the server.

    Args:
        slot: The round, fields (...).
        before: Place of the block before, (..., N).
        scenario: The parameters.

    Returns:
        The delays, (..., N, M + 1) s.
    """
    slot = in_double(slot)
    bits, work = slot.bits[..., 0], slot.work[..., 0]
    was_home = before == 0
    index = np.maximum(before - 1, 0)[..., None]
    fetch = bits / np.take_along_axis(slot.downlink, index, axis=-1)[..., 0]
    move = np.where(
        was_home[..., None], bits[..., None] / slot.uplink, (bits / scenario.backhaul)[..., None]
    )
    stays = before[..., None] == np.arange(1, scenario.servers + 1)
    now = np.empty((*before.shape, scenario.servers + 1))
    now[..., 0] = work / slot.device_rate + np.where(was_home, 0.0, fetch)
    share = (1.0 + slot.load) / slot.server_rate
    now[..., 1:] = work[..., None] * share[..., None, :] + np.where(stays, 0.0, move)
    if scenario.return_result:
        last = np.asarray(slot.blocks_left)[..., None, None] == 1.0
        now[..., 1:] += np.where(last, slot.bits[..., 1, None] / slot.downlink, 0.0)
    return now


def look_ahead(
    slot: Slot, scenario: Scenario, crowd: FloatArray | float = 0.0, blocks: int | None = None
) -> FloatArray:
    """Compute the least cost of what comes after the current block, for each place of it.

    That is its delay, and if each block has a deadline, the seconds that cost as much as the
    penalties of late blocks. It assumes that each device is alone, but for ``crowd``, and that
    the network stays as it is. This is the dynamic program of
    :func:`~mec_gym.distributed_inference.exact.viterbi`, from the last block back; as a move
    costs the same between any two servers, it takes O(K M) instead of O(K M^2).

    Args:
        slot: The round, fields (...).
        scenario: The parameters.
        crowd: Blocks of other devices that each server is believed to run, (..., M).
        blocks: How many blocks to look ahead; None looks to the end of the task.

    Returns:
        The costs, (..., N, M + 1) s.
    """

    def cost(delay: FloatArray) -> FloatArray:
        if scenario.deadline_of == "task":
            return delay
        due = slot.deadline[(..., *[None] * (delay.ndim - slot.deadline.ndim))]
        return delay + lateness_cost(delay, due, scenario) / scenario.latency_weight

    slot = in_double(slot)
    share = ((1.0 + slot.load + crowd) / slot.server_rate)[..., None, :]  # s/FLOP
    home_share = 1.0 / slot.device_rate
    send, fetch = 1.0 / slot.uplink, 1.0 / slot.downlink  # s/bit
    left = np.asarray(slot.blocks_left)[..., None]
    # What follows a block that ran at home, or on a server.
    home, edge = np.zeros(slot.bits.shape[:-1]), np.zeros(slot.uplink.shape)
    ahead = scenario.blocks if blocks is None else blocks
    for b in range(min(ahead, scenario.blocks - 1), 0, -1):
        bits = slot.bits[..., b, None]
        runs_home = slot.work[..., b] * home_share
        runs_edge = slot.work[..., b, None] * share
        if scenario.return_result:
            result = np.where(left == b + 1, slot.bits[..., b + 1], 0.0)
            runs_edge = runs_edge + result[..., None] * fetch
        sent = (cost(bits * send + runs_edge) + edge).min(axis=-1)
        moved = (cost(bits / scenario.backhaul + runs_edge) + edge).min(axis=-1, keepdims=True)
        fetched = cost(bits * fetch + runs_home[..., None]) + home[..., None]
        stays = cost(runs_edge) + edge
        exists = left > b
        home = np.where(exists, np.minimum(cost(runs_home) + home, sent), 0.0)
        from_edge = np.minimum(np.minimum(stays, moved), fetched)
        edge = np.where(exists[..., None], from_edge, 0.0)
    return np.concatenate([home[..., None], edge], axis=-1)
