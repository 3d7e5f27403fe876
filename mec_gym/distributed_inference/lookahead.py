"""What the current block takes at each place, and what comes after it at the least."""

from __future__ import annotations

import numpy as np

from mec_gym.core.types import FloatArray, IntArray
from mec_gym.distributed_inference.horizon import in_double
from mec_gym.distributed_inference.scenario import Scenario, Slot


def delay_now(slot: Slot, before: IntArray, scenario: Scenario) -> FloatArray:
    """Compute what the current block takes at each place if no other device shares with it.

    This is the transfer of its input, [Li2024] eq. (5), and its computing, eq. (3) and (6);
    the other tenants share the server. The return of a result is not counted.

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
    return now


def look_ahead(
    slot: Slot, scenario: Scenario, crowd: FloatArray | float = 0.0, blocks: int | None = None
) -> FloatArray:
    """Compute the least delay of what comes after the current block, for each place of it.

    It assumes that each device is alone, but for ``crowd``, and that the network stays as it
    is. This is the dynamic program of
    :func:`~mec_gym.distributed_inference.exact.viterbi`, from the last block back; as a move
    costs the same between any two servers, it takes O(K M) instead of O(K M^2).

    Args:
        slot: The round, fields (...).
        scenario: The parameters.
        crowd: Blocks of other devices that each server is believed to run, (..., M).
        blocks: How many blocks to look ahead; None looks to the end of the task.

    Returns:
        The delays, (..., N, M + 1) s, the result's return included if it is in sight.
    """
    slot = in_double(slot)
    share = ((1.0 + slot.load + crowd) / slot.server_rate)[..., None, :]  # s/FLOP
    home_share = 1.0 / slot.device_rate
    send, fetch = 1.0 / slot.uplink, 1.0 / slot.downlink  # s/bit
    result = np.asarray(slot.blocks_left)[..., None]  # index of the result in bits
    home, edge = np.zeros(slot.bits.shape[:-1]), np.zeros(slot.uplink.shape)
    last = scenario.blocks if blocks is None else min(blocks, scenario.blocks)
    for b in range(last, 0, -1):
        bits = slot.bits[..., b, None]
        if b < scenario.blocks:  # now home and edge hold what follows from running b there
            home = home + slot.work[..., b] * home_share
            edge = edge + slot.work[..., b, None] * share
        moved = edge.min(axis=-1, keepdims=True) + bits / scenario.backhaul
        fetched = bits * fetch
        from_home = np.minimum(home, (bits * send + edge).min(axis=-1))
        from_edge = np.minimum(np.minimum(edge, moved), fetched + home[..., None])
        over = result == b
        home = np.where(over, 0.0, from_home)
        returned = fetched if scenario.return_result else 0.0
        edge = np.where(over[..., None], returned, from_edge)
    return np.concatenate([home[..., None], edge], axis=-1)
