"""All plans, the optimum of a slot and of an episode, and the bound: against trying everything."""

import dataclasses
import itertools

import numpy as np
import pytest
from pipeline_training import oracle
from slow import slow_except

from mec_gym.core import arrays
from mec_gym.pipeline_training.exact import (
    best_way,
    episode_bound,
    episode_optimum,
    plan_moving,
    plan_rewards,
    plan_shares,
    slot_optimum,
)
from mec_gym.pipeline_training.model import NOWHERE, Decision, State
from mec_gym.pipeline_training.plans import MOST_PLANS, all_plans, can_try_all, count_plans
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import PRESETS, Scenario

# ---------------------------------------------------------------------------------- plans


@pytest.mark.parametrize(
    ("blocks", "devices", "count"),
    [(6, 4, 544), (8, 4, 1432), (1, 1, 1), (1, 5, 5), (5, 1, 1), (3, 2, 6), (2, 3, 9), (4, 4, 136)],
)
def test_the_number_of_plans(blocks, devices, count):
    plans = all_plans(blocks, devices)
    assert count_plans(blocks, devices) == len(plans.place) == count
    assert len({tuple(place) for place in plans.place.tolist()}) == count


def test_all_plans_are_those_in_which_no_device_has_two_stages():
    for blocks, devices in itertools.product(range(1, 7), range(1, 5)):
        plans = all_plans(blocks, devices)
        expected = oracle.every_plan(blocks, devices)
        assert sorted(map(tuple, plans.place.tolist())) == expected
        for place, uses in zip(plans.place.tolist(), plans.uses, strict=True):
            assert set(np.flatnonzero(uses)) == set(place)
        assert plans.stages.exists.sum(axis=0).tolist() == [
            len(oracle.runs_of(place)) for place in plans.place.tolist()
        ]
        assert (np.diff(plans.stages.exists.sum(axis=0)) >= 0).all()


def test_too_many_plans_are_refused():
    assert can_try_all(8, 4) and can_try_all(1, MOST_PLANS) and not can_try_all(1, MOST_PLANS + 1)
    with pytest.raises(ValueError, match=rf"{MOST_PLANS} plans.*blocks = 8, devices = 6"):
        all_plans(8, 6)


# -------------------------------------------------------------------------------- one slot


def reached(seed, **changes):
    """A random world, its slots (n, ...), and states that random decisions have led to."""
    s = oracle.random_world(seed, **changes)
    problem, rng = PipelineTraining(s), np.random.default_rng(seed)
    trace = problem.sample(rng, 4)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(3):
        slot = arrays.slot_at(trace, t)
        if t or seed % 3:  # some are still at their beginning
            place = rng.integers(s.devices, size=state.place.shape)
            state, _ = problem.step(slot, state, Decision(place=place))
    return problem, arrays.slot_at(trace, 3), state


@pytest.mark.parametrize("memory", [None, "tight"])
def test_every_plan_earns_what_the_environment_pays(memory):
    nobody = 0
    for seed in range(24):
        problem, slot, state = reached(seed, memory=memory)
        s = problem.scenario
        plans = all_plans(s.blocks, s.devices)
        found = plan_rewards(slot, state.place, s)
        share, moving_s = plan_shares(slot, s), plan_moving(slot, state.place, s)
        best, value = slot_optimum(slot, state, s)
        assert found.shape == share.shape == moving_s.shape == (4, len(plans.place))
        for i in range(4):
            one, present = arrays.at(slot, i), slot.present[i]
            _, outcome = problem.step(one, arrays.at(state, i), Decision(place=plans.place))
            paid = problem.reward(outcome)
            possible = ~(plans.uses & ~present).any(axis=1)
            if present.any():
                np.testing.assert_allclose(found[i, possible], paid[possible], rtol=0, atol=1e-13)
                np.testing.assert_allclose(
                    moving_s[i, possible], outcome.moving_s[possible], rtol=1e-12, atol=1e-12
                )
                perfect = s.microbatches * s.samples * s.sample_work / one.speed[present].sum()
                np.testing.assert_allclose(
                    share[i, possible], perfect / outcome.minibatch_s[possible], rtol=1e-13
                )
                assert np.isneginf(found[i, ~possible]).all()
                assert value[i] == found[i, possible].max()
            else:
                nobody += 1
                assert not found[i].any() and not paid.any()
                assert value[i] == 0
            assert np.isneginf(share[i, ~possible]).all()
            # of all decisions, also of those that have to be made valid
            wanted = np.array(list(np.ndindex(*[s.devices] * s.blocks)))
            _, outcome = problem.step(one, arrays.at(state, i), Decision(place=wanted))
            assert value[i] == pytest.approx(problem.reward(outcome).max(), rel=0, abs=1e-13)
            _, outcome = problem.step(one, arrays.at(state, i), arrays.at(best, i))
            assert problem.reward(outcome) == pytest.approx(value[i], rel=0, abs=1e-13)
    assert nobody > 3


def test_one_slot_or_many_alike():
    problem = PipelineTraining(Scenario())
    trace = problem.sample(np.random.default_rng(0), 3)
    many = plan_shares(arrays.at(trace, (slice(None), slice(0, 20))), problem.scenario)
    assert many.shape == (3, 20, 544)
    for i, t in ((0, 0), (2, 19), (1, 7)):
        assert np.array_equal(many[i, t], plan_shares(arrays.at(trace, (i, t)), problem.scenario))


def test_on_the_default_scenario_the_environment_pays_the_optimum_of_the_slot():
    problem = PipelineTraining(Scenario())
    trace = problem.sample(np.random.default_rng(1), 8)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(20):
        slot = arrays.slot_at(trace, t)
        best, value = slot_optimum(slot, state, problem.scenario)
        state, outcome = problem.step(slot, state, best)
        np.testing.assert_allclose(problem.reward(outcome), value, rtol=0, atol=1e-13)


# ----------------------------------------------------------------------------- an episode


def returns_of(problem, trace, actions):
    """What the environment pays for actions (n, T, L), (n,)."""
    state, total = problem.start(arrays.slot_at(trace, 0)), 0.0
    for t in range(problem.horizon):
        decision = problem.decision(actions[:, t])
        state, outcome = problem.step(arrays.slot_at(trace, t), state, decision)
        total = total + problem.reward(outcome)
    return total


def test_the_optimum_equals_the_best_of_all_sequences():
    nobody = 0
    for seed in range(24):
        s = oracle.random_world(
            seed,
            blocks=2 + seed % 2,
            devices=2,
            horizon=3,
            stay=(1.0, 3.0),
            memory="tight" if seed % 4 == 0 else None,
        )
        problem = PipelineTraining(s)
        trace = problem.sample(np.random.default_rng(seed), 3)
        decisions = np.array(list(np.ndindex(*[2] * s.blocks)))
        ways = decisions[np.array(list(np.ndindex(*[len(decisions)] * 3)))]  # (K, 3, L)
        values, plans = episode_optimum(trace, s)
        paid = returns_of(problem, trace, np.maximum(plans, 0))
        for i in range(3):
            best = returns_of(problem, oracle.repeated(arrays.at(trace, i), len(ways)), ways).max()
            assert values[i] == pytest.approx(best, rel=0, abs=1e-12)
            assert paid[i] == pytest.approx(best, rel=0, abs=1e-12)
            nobody += not trace.present[i].any(axis=-1).all()
    assert nobody > 5


def test_three_devices_and_three_slots():
    s = oracle.random_world(5, blocks=2, devices=3, horizon=3)
    problem = PipelineTraining(s)
    trace = problem.sample(np.random.default_rng(5), 4)
    decisions = np.array(list(np.ndindex(3, 3)))
    ways = decisions[np.array(list(np.ndindex(9, 9, 9)))]
    values, _ = episode_optimum(trace, s)
    for i in range(4):
        best = returns_of(problem, oracle.repeated(arrays.at(trace, i), len(ways)), ways).max()
        assert values[i] == pytest.approx(best, rel=0, abs=1e-12)


@pytest.mark.parametrize("preset", slow_except(PRESETS, "tiny", "default"))
def test_the_environment_pays_the_optimum(preset):
    problem = PipelineTraining(PRESETS[preset].make())
    trace = problem.sample(np.random.default_rng(2), 2 if preset == "default" else 6)
    values, plans = episode_optimum(trace, problem.scenario)
    assert plans.shape == (len(values), problem.horizon, problem.scenario.blocks)
    paid = returns_of(problem, trace, np.maximum(plans, 0))
    np.testing.assert_allclose(paid, values, rtol=0, atol=1e-12)
    assert (values <= episode_bound(trace, problem.scenario) + 1e-12).all()


def test_the_optimum_where_nobody_is_present():
    """At first, in between and at last; blocks have to come from the store afterwards."""
    s = oracle.random_world(7, blocks=3, devices=2, horizon=7, restart_s=3.0)
    problem = PipelineTraining(s)
    present = np.array([[0, 0], [1, 1], [1, 0], [0, 0], [0, 1], [1, 1], [0, 0]], dtype=bool)
    trace = oracle.trace_of(s, np.stack([present, present[::-1]]), seed=3)
    problem.check(trace)
    values, plans = episode_optimum(trace, s)
    paid = returns_of(problem, trace, np.maximum(plans, 0))
    np.testing.assert_allclose(paid, values, rtol=0, atol=1e-12)
    # By the other way round: the best from each state on, from the last slot on.
    decisions = np.array(oracle.every_plan(3, 2))

    def best(i, t, place):
        if t == 7:
            return 0.0
        slot = arrays.at(trace, (i, t))
        if not slot.present.any():
            return best(i, t + 1, (-1, -1, -1))
        values = []
        for plan in decisions:
            if slot.present[plan].all():
                lost = oracle.pay(s, slot, place, plan).lost_s
                values.append(cached(i, t + 1, tuple(plan)) - lost / s.slot_s)
        return max(values)

    known = {}

    def cached(i, t, place):
        if (i, t, place) not in known:
            known[i, t, place] = best(i, t, place)
        return known[i, t, place]

    for i in range(2):
        assert values[i] == pytest.approx(best(i, 0, (-1, -1, -1)), rel=0, abs=1e-12)


def test_the_best_way_from_where_blocks_are():
    for seed in range(6):
        problem, _, state = reached(seed, blocks=3, devices=3)
        s = problem.scenario
        slots = arrays.at(problem.sample(np.random.default_rng(seed + 50), 1), (0, slice(0, 2)))
        decisions = np.array(oracle.every_plan(3, 3))
        for place in state.place:
            value, way = best_way(slots, place, s)
            first = State(place=place, slots_left=np.array(8.0))
            middle, one = problem.step(arrays.at(slots, 0), first, Decision(place=decisions))
            wide = State(place=middle.place[:, None], slots_left=np.array(7.0))
            _, two = problem.step(arrays.at(slots, 1), wide, Decision(place=decisions))
            total = problem.reward(one)[:, None] + problem.reward(two)
            assert value == pytest.approx(total.max(), rel=0, abs=1e-12)
            middle, one = problem.step(
                arrays.at(slots, 0), first, Decision(place=np.maximum(way[0], 0))
            )
            _, two = problem.step(
                arrays.at(slots, 1), middle, Decision(place=np.maximum(way[1], 0))
            )
            total = problem.reward(one) + problem.reward(two)
            assert value == pytest.approx(float(total), rel=0, abs=1e-12)


def test_the_best_way_where_plans_are_paid_for():
    """Against all sequences, each of which pays for the plans that its slots begin with."""
    nobody = 0
    for seed in range(8):
        s = oracle.random_world(seed, blocks=3, devices=2, horizon=3, stay=(1.0, 2.0))
        problem = PipelineTraining(s)
        slots = arrays.at(problem.sample(np.random.default_rng(seed), 1), 0)
        plans = [tuple(plan) for plan in all_plans(3, 2).place] + [(NOWHERE,) * 3]
        paid = np.random.default_rng(seed + 9).normal(size=(3, len(plans)))
        decisions = np.array(list(np.ndindex(2, 2, 2)))
        ways = decisions[np.array(list(np.ndindex(*[len(decisions)] * 3)))]  # (K, 3, L)
        trace = oracle.repeated(slots, len(ways))
        state, total = problem.start(arrays.slot_at(trace, 0)), np.zeros(len(ways))
        for t in range(3):
            if t:
                total -= paid[t, [plans.index(tuple(place)) for place in state.place]]
            decision = problem.decision(ways[:, t])
            state, outcome = problem.step(arrays.slot_at(trace, t), state, decision)
            total += problem.reward(outcome)
        value, _ = best_way(slots, np.full(3, NOWHERE), s, paid)
        assert value == pytest.approx(total.max(), rel=0, abs=1e-12)
        nobody += not slots.present[:2].any(axis=-1).all()
    assert nobody > 0


def test_long_chains_on_two_devices():
    """Plans are told apart although there are more assignments than an integer can count."""
    blocks = 70
    s = Scenario(
        network=oracle.network([1e9] * blocks, [1e3] * (blocks + 1), [1e7] * blocks),
        blocks=blocks,
        devices=2,
        horizon=3,
        stay=None,
        load_spread=1.0,
        memory_of_load=0.0,
        slot_s=600.0,
    )
    problem = PipelineTraining(s)
    trace = problem.sample(np.random.default_rng(0), 3)
    values, plans = episode_optimum(trace, s)
    assert (plans[:, 1:] != plans[:, :-1]).any(axis=-1).sum() > 3
    paid = returns_of(problem, trace, np.maximum(plans, 0))
    np.testing.assert_allclose(paid, values, rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------- bound


def check_bound(problem, seeds, optimum=True):
    s = problem.scenario
    for seed in seeds:
        rng = np.random.default_rng(seed)
        trace = problem.sample(rng, 4)
        bound = episode_bound(trace, s)
        assert (bound <= 0).all()
        tolerance = 1e-12
        if optimum:
            assert (episode_optimum(trace, s)[0] <= bound + tolerance).all()
        actions = rng.integers(s.devices, size=(4, s.horizon, s.blocks))
        assert (returns_of(problem, trace, actions) <= bound + tolerance).all()
        stays = np.broadcast_to(np.sort(actions[:, :1]), actions.shape)
        assert (returns_of(problem, trace, stays) <= bound + tolerance).all()


def test_the_bound_is_never_beaten():
    for seed in range(15):
        memory = "tight" if seed % 3 == 0 else None
        check_bound(PipelineTraining(oracle.random_world(seed, memory=memory)), [seed])


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny", "default", "heavy"])
def test_the_bound_is_never_beaten_on_500_episodes(preset):
    problem = PipelineTraining(PRESETS[preset].make())
    check_bound(problem, range(125), optimum=preset == "tiny")


def test_the_bound_by_hand():
    """One device alone: nothing is lost but that all blocks have to come from the store."""
    s = oracle.random_world(3, blocks=2, devices=1, store=1e8, stay=None)
    problem = PipelineTraining(s)
    trace = problem.sample(np.random.default_rng(3), 5)
    moving_s = 2 * s.chain.weights.sum() / trace.store[:, 0, 0] + s.restart_s
    assert (moving_s < s.slot_s).all()
    np.testing.assert_allclose(episode_bound(trace, s), -moving_s / s.slot_s, rtol=1e-12)
    np.testing.assert_allclose(
        episode_optimum(trace, s)[0], -moving_s / s.slot_s, rtol=0, atol=1e-12
    )


def test_the_bound_of_many_episodes_is_that_of_each():
    problem = PipelineTraining(dataclasses.replace(Scenario(), horizon=7))
    trace = problem.sample(np.random.default_rng(4), 9)
    bound = episode_bound(trace, problem.scenario)
    alone = [
        episode_bound(arrays.at(trace, slice(i, i + 1)), problem.scenario).item() for i in range(9)
    ]
    assert bound.tolist() == alone


# --------------------------------------------------------------------------- too many plans


def large_world(seed, **changes):
    """A world with more plans than are tried."""
    values = {"blocks": 7, "devices": 5, "restart_s": 0.0, "state_copies": 0.0, **changes}
    world = oracle.random_world(seed, **values)
    assert not can_try_all(world.blocks, world.devices)
    return world


@pytest.mark.parametrize("memory", [None, "tight"])
def test_the_bound_where_there_are_too_many_plans(memory):
    nobody = closest = 0
    for seed in range(4):
        s = large_world(seed, memory=memory, stay=(1.0, 3.0), away=6.0)
        problem = PipelineTraining(s)
        rng = np.random.default_rng(seed)
        trace = problem.sample(rng, 4)
        bound = episode_bound(trace, s)
        nobody += (~trace.present.any(axis=-1)).sum()
        assert np.isfinite(bound).all() and (bound <= 0).all()
        # The best of many plans in each slot; moving is free here.
        best = np.full((4, s.horizon), -np.inf)
        for _ in range(60):
            place = np.sort(rng.integers(s.devices, size=(4, s.horizon, s.blocks)))
            place = rng.permutation(s.devices)[place]
            start = problem.start(trace)
            _, outcome = problem.step(trace, start, Decision(place=place))
            best = np.maximum(best, problem.reward(outcome))
        assert (best.sum(axis=1) <= bound + 1e-12).all()
        closest = max(closest, (bound / best.sum(axis=1)).max())
    assert nobody > 3
    if memory is None:
        assert closest > 0.3  # so it says something


def test_the_bound_of_larger_fleets_than_the_program_takes():
    s = large_world(0, blocks=4, devices=14)
    problem = PipelineTraining(s)
    rng = np.random.default_rng(0)
    trace = problem.sample(rng, 3)
    bound = episode_bound(trace, s)
    # The four fastest of those that are present have four of all devices' shares at most.
    speed = np.sort(np.where(trace.present, trace.speed, 0.0))
    share = speed[..., -4:].sum(axis=-1) / np.maximum(speed.sum(axis=-1), 1.0)
    share[~trace.present.any(axis=-1)] = 1.0
    np.testing.assert_allclose(bound, (share - 1).sum(axis=1), rtol=1e-12)
    actions = rng.integers(14, size=(3, s.horizon, 4))
    assert (returns_of(problem, trace, actions) <= bound).all()


def test_both_bounds_where_both_can_be_had(monkeypatch):
    """Without moving, the bound by the period is above the one by all plans."""
    for seed in range(10):
        s = oracle.random_world(seed, restart_s=0.0, state_copies=0.0)
        trace = s.sample(np.random.default_rng(seed), 3)
        exact = episode_bound(trace, s)
        with monkeypatch.context() as patch:
            patch.setattr("mec_gym.pipeline_training.exact.can_try_all", lambda *_: False)
            loose = episode_bound(trace, s)
        assert (exact <= loose + 1e-12).all()
