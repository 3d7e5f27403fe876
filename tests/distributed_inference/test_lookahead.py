"""What a block takes now, and what comes after it, against exhaustive search."""

import dataclasses

import numpy as np
import pytest
from distributed_inference.oracle import (
    costs_of_blocks,
    costs_of_plans,
    delays_of_blocks,
    draw,
    every_plan,
    moving,
    only,
)

from mec_gym.core import arrays
from mec_gym.distributed_inference.lookahead import delay_now, look_ahead


@pytest.mark.parametrize("return_result", [True, False])
@pytest.mark.parametrize("crowd", [0.0, 1.5])
def test_delay_now_and_look_ahead_equal_exhaustive_search(return_result, crowd):
    s = moving(devices=2, servers=3, blocks=4, return_result=return_result, contention=False)
    one = dataclasses.replace(s, devices=1)
    trace = draw(s, 23, 8)
    rng = np.random.default_rng(24)
    extra = crowd * rng.random((8, 3))
    for t in range(4):
        slot = arrays.slot_at(trace, t)
        before = rng.integers(4, size=(8, 2))
        now = delay_now(slot, before, s)
        ahead = look_ahead(slot, s, extra if crowd else 0.0)
        assert now.shape == ahead.shape == (8, 2, 4)
        left = 4 - t
        plans = every_plan(1, 4, left)
        for e, n in np.ndindex(8, 2):
            mine = only(arrays.at(slot, e), n)
            # The result counts as soon as nothing else is left.
            now_s = one if left == 1 else dataclasses.replace(one, return_result=False)
            first = costs_of_plans(now_s, [mine], every_plan(1, 4, 1), start=before[e, n])[:, 0]
            np.testing.assert_allclose(now[e, n], first, rtol=1e-12)
            # all of the rest, less what its first block costs at the place it has been given
            busy = dataclasses.replace(mine, load=mine.load + extra[e])
            rest = [
                dataclasses.replace(busy, bits=busy.bits[:, k:], work=busy.work[:, k:])
                for k in range(left)
            ]
            whole = costs_of_plans(one, rest, plans)[:, 0]
            begin = costs_of_plans(now_s, rest[:1], every_plan(1, 4, 1))[:, 0]
            for p in range(4):
                best = whole[plans[:, 0, 0] == p].min() - begin[p]
                assert ahead[e, n, p] == pytest.approx(best, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("return_result", [True, False])
def test_look_ahead_where_each_block_has_a_deadline(return_result):
    s = moving(
        devices=2, servers=3, blocks=4, return_result=return_result, contention=False,
        deadline_of="block", latency_weight=0.6, miss_cost=1.5,
    )  # fmt: skip
    trace = draw(s, 29, 6)
    late = 0
    for t in range(3):
        slot = arrays.slot_at(trace, t)
        ahead = look_ahead(slot, s)
        plans = every_plan(1, 4, 3 - t)
        for e, n, p in np.ndindex(6, 2, 4):
            mine = only(arrays.at(slot, e), n)
            rest = [
                dataclasses.replace(mine, bits=mine.bits[:, k:], work=mine.work[:, k:])
                for k in range(1, 4 - t)
            ]
            delays = delays_of_blocks(s, rest, plans, start=p)
            best = costs_of_blocks(s, delays, mine.deadline).min() / 0.6
            assert ahead[e, n, p] == pytest.approx(best, rel=1e-9)
            late += best > delays.sum(axis=(1, 2)).min() + 1e-9
    assert late > 20
