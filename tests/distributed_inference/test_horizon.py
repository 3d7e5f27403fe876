"""What is still to place, and what joint plans take, against the rounds that are played."""

import dataclasses

import numpy as np
import pytest
from distributed_inference.oracle import costs_of_plans, delays_of_blocks, draw, moving, slots_of

from mec_gym.core import arrays
from mec_gym.distributed_inference import model
from mec_gym.distributed_inference.horizon import (
    horizon_as_seen,
    horizon_of_trace,
    joint_delays,
)
from mec_gym.distributed_inference.model import Decision
from mec_gym.distributed_inference.problem import DistributedInference


def test_what_is_seen_stays():
    s = moving(devices=2, servers=3, blocks=4, idle=0.3)
    trace = draw(s, 0, 5)
    for t in range(4):
        slot = arrays.slot_at(trace, t)
        h = horizon_as_seen(slot, 4)
        left = 4 - t
        assert (h.blocks == left).all()
        assert np.array_equal(h.active, slot.active)
        # the chain from the current block on, nothing beyond it, and the result apart
        assert np.array_equal(h.bits[..., :left], trace.bits[:, 0, :, t:4])
        assert np.array_equal(h.work[..., :left], trace.work[:, 0, :, t:])
        assert np.array_equal(h.result, trace.bits[:, 0, :, 4])
        assert not h.work[..., left:].any()
        for k in range(4):
            assert np.array_equal(h.uplink[..., k, :], slot.uplink)
            assert np.array_equal(h.downlink[..., k, :], slot.downlink)
            assert np.array_equal(h.load[..., k, :], slot.load)


def test_a_trace_holds_what_each_task_will_meet():
    s = moving(devices=2, servers=3, blocks=4, idle=0.3)
    s = dataclasses.replace(s, tasks=3)
    trace = draw(s, 0, 5)
    h = horizon_of_trace(trace, s)
    assert h.bits.shape == (5, 3, 2, 4)
    for j in range(3):
        first = j * 4
        assert np.array_equal(h.bits[:, j], trace.bits[:, first, :, :4])
        assert np.array_equal(h.result[:, j], trace.bits[:, first, :, 4])
        assert np.array_equal(h.work[:, j], trace.work[:, first])
        assert np.array_equal(h.active[:, j], trace.active[:, first])
        assert np.array_equal(h.device_rate[:, j], trace.device_rate[:, first])
        assert np.array_equal(h.server_rate[:, j], trace.server_rate[:, first])
        for k in range(4):
            assert np.array_equal(h.uplink[:, j, :, k], trace.uplink[:, first + k])
            assert np.array_equal(h.downlink[:, j, :, k], trace.downlink[:, first + k])
            assert np.array_equal(h.load[:, j, k], trace.load[:, first + k])


@pytest.mark.parametrize("contention", [True, False])
@pytest.mark.parametrize("return_result", [True, False])
def test_total_delay_is_what_the_rounds_add_up_to(contention, return_result):
    s = moving(devices=4, servers=3, blocks=4, contention=contention, return_result=return_result)
    s = dataclasses.replace(s, tasks=2, idle=0.25)
    problem = DistributedInference(s)
    rng = np.random.default_rng(3)
    trace = draw(s, 3, 20)
    plan = rng.integers(4, size=(20, 2, 4, 4))
    h = horizon_of_trace(trace, s)
    expected = joint_delays(h, plan, np.zeros((20, 2, 4), dtype=int), s).sum(axis=(-2, -1))
    state = problem.start(arrays.slot_at(trace, 0))
    played = np.zeros((20, 2))
    for t in range(s.rounds):
        decision = Decision(place=plan[:, t // 4, :, t % 4])
        state, outcome = model.evaluate(arrays.slot_at(trace, t), state, decision, s)
        assert not outcome.dropped.any()
        played[:, t // 4] += outcome.latency_s
    np.testing.assert_allclose(expected, played, rtol=1e-12)
    # and what the oracle adds up to
    for e in range(3):
        for j in range(2):
            mine = costs_of_plans(s, slots_of(trace, e, 4 * j, 4), plan[e, j][None])
            assert expected[e, j] == pytest.approx(mine.sum(), rel=1e-12)


def test_total_delay_in_the_middle_of_a_task():
    s = moving(devices=3, servers=2, blocks=4)
    trace = draw(s, 4, 10)
    rng = np.random.default_rng(5)
    start = rng.integers(3, size=(10, 3))
    plan = rng.integers(3, size=(10, 3, 4))
    for t in (1, 3):
        h = horizon_as_seen(arrays.slot_at(trace, t), 4)
        found = joint_delays(h, plan, start, s).sum(axis=(-2, -1))
        for e in range(10):
            slot = arrays.at(trace, (e, t))
            # blocks t .. 3 with the network as it is now
            ahead = [
                dataclasses.replace(slot, bits=slot.bits[:, k:], work=slot.work[:, k:])
                for k in range(4 - t)
            ]
            mine = costs_of_plans(s, ahead, plan[e][None, :, : 4 - t], start=start[e])
            assert found[e] == pytest.approx(mine.sum(), rel=1e-12)


@pytest.mark.parametrize("contention", [True, False])
def test_joint_delays_are_each_block_s_own(contention):
    s = moving(devices=3, servers=2, blocks=3, contention=contention, idle=0.2)
    trace = draw(s, 17, 10)
    rng = np.random.default_rng(18)
    h = horizon_of_trace(trace, s)
    start, plan = rng.integers(3, size=(10, 1, 3)), rng.integers(3, size=(10, 1, 3, 3))
    found = joint_delays(h, plan, start, s)
    for e in range(10):
        mine = delays_of_blocks(s, slots_of(trace, e, 0, 3), plan[e], start=start[e, 0])
        np.testing.assert_allclose(found[e], mine, rtol=1e-12)
