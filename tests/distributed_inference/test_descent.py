"""Local search for joint plans against exhaustive search."""

import dataclasses

import numpy as np
from distributed_inference.oracle import (
    contended,
    costs_of_blocks,
    costs_of_delays,
    costs_of_plans,
    delays_of_blocks,
    draw,
    every_plan,
    moving,
    slots_of,
)

from mec_gym.distributed_inference.descent import coordinate_descent, descend_on_cost
from mec_gym.distributed_inference.exact import joint_costs, plan_alone
from mec_gym.distributed_inference.horizon import horizon_of_trace, joint_delays
from mec_gym.distributed_inference.scenario import patent

# Mean gaps of coordinate descent to the joint optimum on small contended instances, N = 3, M = 2,
# K = 3; measured: 1.4 to 4.6 % from the plans alone, 0.2 % as the best of three beginnings.
GAP, GAP_OF_THREE = 0.08, 0.015
# Of the descent on the reward, where deadlines make local optima deep: 2 to 12 %.
REWARD_GAP = 0.2


def test_coordinate_descent_is_close_to_the_best_joint_plan():
    s = contended()  # N = 3, M = 2, K = 3
    draws = 30
    trace = draw(s, 7, draws)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    found = coordinate_descent(h, s, home)[:, 0]
    naive = plan_alone(h, s, home)[0][:, 0]
    random = np.random.default_rng(6).integers(3, size=(draws, 1, 3, 3))
    more = [coordinate_descent(h, s, home, plan=p)[:, 0] for p in (0 * random, random)]
    plans = every_plan(3, 3, 3)  # 19683
    gaps, of_three, blind = [], [], []
    for e in range(draws):
        slots = slots_of(trace, e, 0, 3)
        best = costs_of_plans(s, slots, plans).sum(axis=1).min()
        trial = np.stack([found[e], naive[e], *(p[e] for p in more)])
        mine, other, *rest = costs_of_plans(s, slots, trial).sum(axis=1)
        gaps.append(mine / best - 1)
        of_three.append(min(mine, *rest) / best - 1)
        blind.append(other / best - 1)
        # no change of one device helps
        alternatives = every_plan(1, 3, 3)[:, 0]
        for n in range(3):
            trial = np.repeat(found[e][None], len(alternatives), axis=0)
            trial[:, n] = alternatives
            assert costs_of_plans(s, slots, trial).sum(axis=1).min() >= mine * (1 - 1e-9)
    assert min(of_three) > -1e-12
    assert np.mean(gaps) < GAP
    assert np.mean(of_three) < GAP_OF_THREE
    assert np.mean(blind) > 0.12  # the instances are contended


def test_local_optimality_on_a_moving_channel_from_any_beginning():
    s = moving(devices=4, servers=2, blocks=3, idle=0.2)
    trace = draw(s, 8, 15)
    h = horizon_of_trace(trace, s)
    rng = np.random.default_rng(9)
    start = rng.integers(3, size=h.active.shape)
    beginning = rng.integers(3, size=(15, 1, 4, 3))
    kept = beginning.copy()
    found = coordinate_descent(h, s, start, plan=beginning, sweeps=50)
    assert np.array_equal(beginning, kept)  # the caller's plan is the caller's
    before = joint_delays(h, beginning, start, s).sum(axis=(-2, -1))
    after = joint_delays(h, found, start, s).sum(axis=(-2, -1))
    assert (after <= before * (1 + 1e-12)).all()
    assert (after < before * 0.9).mean() > 0.8
    alternatives = every_plan(1, 3, 3)[:, 0]
    for e in range(15):
        slots = slots_of(trace, e, 0, 3)
        for n in range(4):
            trial = np.repeat(found[e], len(alternatives), axis=0)
            trial[:, n] = alternatives
            costs = costs_of_plans(s, slots, trial, start=start[e, 0]).sum(axis=1)
            assert costs.min() >= after[e, 0] * (1 - 1e-9)


def test_coordinate_descent_takes_only_what_is_allowed_at_first():
    s = contended()
    trace = draw(s, 10, 20)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    allowed = np.random.default_rng(11).random((*home.shape, 3)) < 0.5
    allowed[..., 0] |= ~allowed.any(axis=-1)
    found = coordinate_descent(h, s, home, allowed=allowed)
    assert np.take_along_axis(allowed, found[..., :1], axis=-1).all()
    plans = every_plan(3, 3, 3)
    gaps = []
    for e in range(20):
        may = np.stack([allowed[e, 0, n][plans[:, n, 0]] for n in range(3)]).all(axis=0)
        slots = slots_of(trace, e, 0, 3)
        best = costs_of_plans(s, slots, plans[may]).sum(axis=1).min()
        gaps.append(costs_of_plans(s, slots, found[e]).sum() / best - 1)
    assert min(gaps) > -1e-12
    assert np.mean(gaps) < GAP


def test_without_contention_the_descent_is_exact():
    s = dataclasses.replace(patent(devices=3, servers=2, blocks=3), deadline_of="task")
    trace = draw(s, 12, 20)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    best = plan_alone(h, s, home)[1].sum(axis=-1)
    found = coordinate_descent(h, s, home)
    np.testing.assert_allclose(joint_delays(h, found, home, s).sum(axis=(-2, -1)), best, rtol=1e-12)


def test_without_contention_the_descent_improves_a_given_plan():
    s = dataclasses.replace(patent(devices=3, servers=2, blocks=3), deadline_of="task")
    trace = draw(s, 12, 20)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    best = plan_alone(h, s, home)[1].sum(axis=-1)
    found = coordinate_descent(h, s, home, plan=np.zeros((20, 1, 3, 3), dtype=int))
    np.testing.assert_allclose(joint_delays(h, found, home, s).sum(axis=(-2, -1)), best, rtol=1e-12)


def test_descent_on_the_reward_is_close_to_the_best_joint_plan():
    s = contended(deadline_factor=(0.3, 0.9), miss_cost=1.0, late_weight=1.0, idle=0.1)
    draws = 30
    trace = draw(s, 19, draws)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    deadline = trace.deadline[:, ::3]
    spent = np.random.default_rng(20).uniform(0, 0.4, size=home.shape) * deadline
    begin = coordinate_descent(h, s, home)
    kept = begin.copy()
    found = descend_on_cost(h, s, home, begin, spent)
    assert np.array_equal(begin, kept)
    plans = every_plan(3, 3, 3)
    gaps, before = [], []
    for e in range(draws):
        slots = slots_of(trace, e, 0, 3)
        active = trace.active[e, 0]

        def cost(trial, slots=slots, e=e, active=active):
            delay = spent[e, 0] + costs_of_plans(s, slots, trial)
            return costs_of_delays(s, delay[:, active], deadline[e, 0, active])

        best = cost(plans).min()
        if not active.any():
            continue
        gaps.append(cost(found[e])[0] / best - 1)
        before.append(cost(begin[e])[0] / best - 1)
        assert gaps[-1] <= before[-1] + 1e-12  # never worse than where it began
    assert min(gaps) > -1e-12
    assert np.mean(gaps) < REWARD_GAP
    assert np.mean(gaps) < np.mean(before)


def test_descent_on_the_reward_takes_only_what_is_allowed_at_first():
    s = contended()
    trace = draw(s, 21, 20)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    allowed = np.random.default_rng(22).random((*home.shape, 3)) < 0.5
    allowed[..., 1] |= ~allowed.any(axis=-1)
    begin = coordinate_descent(h, s, home, allowed=allowed)
    found = descend_on_cost(h, s, home, begin, np.zeros(home.shape), allowed=allowed)
    assert np.take_along_axis(allowed, found[..., :1], axis=-1).all()
    assert not np.array_equal(found, begin)


def test_descent_on_the_reward_where_each_block_has_a_deadline():
    s = contended(deadline_of="block", miss_cost=4.0, late_weight=1.0, idle=0.1)
    draws = 30
    trace = draw(s, 21, draws)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    begin = coordinate_descent(h, s, home)
    found = descend_on_cost(h, s, home, begin, np.zeros(home.shape))
    plans = every_plan(3, 3, 3)
    gaps, before = [], []
    for e in range(draws):
        active, slots = trace.active[e, 0], slots_of(trace, e, 0, 3)

        def cost(trial, e=e, active=active, slots=slots):
            delays = delays_of_blocks(s, slots, trial)[:, active]
            return costs_of_blocks(s, delays, trace.deadline[e, 0, active])

        best = cost(plans).min()
        gaps.append(cost(found[e])[0] / best - 1)
        before.append(cost(begin[e])[0] / best - 1)
    assert min(gaps) > -1e-12
    assert np.mean(gaps) < 0.1
    assert np.mean(gaps) < 0.5 * np.mean(before)


def test_descent_on_the_reward_is_exact_without_contention():
    s = patent(devices=3, servers=2, blocks=4)
    trace = draw(s, 22, 20)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    found = descend_on_cost(h, s, home, coordinate_descent(h, s, home), np.zeros(home.shape))
    cost, _ = joint_costs(h, s, home, found, np.zeros(home.shape))
    np.testing.assert_allclose(cost, plan_alone(h, s, home)[1].sum(axis=-1), rtol=1e-9)
