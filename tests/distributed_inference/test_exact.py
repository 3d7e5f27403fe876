"""Optimal plans against exhaustive search, and the bound against everything that can be played."""

import dataclasses

import numpy as np
import pytest
from distributed_inference.oracle import (
    contended,
    costs_of_blocks,
    costs_of_delays,
    costs_of_plans,
    delays_of_blocks,
    draw,
    every_plan,
    moving,
    only,
    slots_of,
)

from agents.distributed_inference.planners import CoordinateDescentSolver, ExhaustiveSolver
from agents.distributed_inference.rules import SequentialGreedySolver
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.distributed_inference import exact
from mec_gym.distributed_inference.exact import plan_alone
from mec_gym.distributed_inference.horizon import (
    demand_per_device,
    horizon_of_trace,
    take_devices,
)
from mec_gym.distributed_inference.model import Decision
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import (
    ConstantChannel,
    RandomNetworks,
    Scenario,
    patent,
)


def by_task(s):
    """The same, the whole task having the deadline."""
    return dataclasses.replace(s, deadline_of="task")


# ------------------------------------------------------------------------- plans


@pytest.mark.parametrize(
    ("scenario", "draws"),
    [
        (by_task(patent(devices=2, servers=1, blocks=5)), 50),
        (by_task(patent(devices=1, servers=2, blocks=4)), 100),
        (by_task(patent(devices=2, servers=3, blocks=3)), 50),
        (moving(devices=2, servers=2, blocks=4, contention=False), 50),
        (moving(devices=2, servers=2, blocks=3, contention=False, return_result=False), 50),
    ],
)
def test_alone_equals_exhaustive_search(scenario, draws):
    s = scenario
    trace = draw(s, s.servers, draws)
    h = horizon_of_trace(trace, s)
    start = np.random.default_rng(1).integers(s.servers + 1, size=h.active.shape)
    start[: draws // 2] = 0
    plan, cost = plan_alone(h, s, start)
    assert plan.shape == (draws, 1, s.devices, s.blocks)
    one = dataclasses.replace(s, devices=1)
    plans = every_plan(1, s.servers + 1, s.blocks)
    different = set()
    for e in range(draws):
        for n in range(s.devices):
            slots = [only(slot, n) for slot in slots_of(trace, e, 0, s.blocks)]
            costs = costs_of_plans(one, slots, plans, start=start[e, 0, n])[:, 0]
            assert cost[e, 0, n] == pytest.approx(costs.min(), rel=1e-12)
            mine = costs_of_plans(one, slots, plan[e, 0, n][None, None], start=start[e, 0, n])
            assert mine[0, 0] == pytest.approx(costs.min(), rel=1e-12)
            different.add(tuple(plan[e, 0, n]))
    assert len(different) > 3  # not always the same answer


def test_viterbi_by_hand():
    # Two places, three blocks, from place 1. Places cost 5 1 | 2 9 | 1 3, moves 0->1: 4, 3, 2;
    # 1->0: 1, 1, 6. Best: stay (1), go home (1 + 2), stay (1) = 5; staying away costs 13.
    place = np.array([[5.0, 1.0], [2.0, 9.0], [1.0, 3.0]])
    move = np.array([[[0, 4], [1, 0]], [[0, 3], [1, 0]], [[0, 2], [6, 0]]], dtype=float)
    path, cost = exact.viterbi(place, move, np.array(1))
    assert path.tolist() == [1, 0, 0]
    assert cost == 5
    # From home: away at once costs 4 + 1 + 1 + 2 + 1 = 9, home throughout 5 + 2 + 1 = 8.
    path, cost = exact.viterbi(place, move, np.array(0))
    assert path.tolist() == [0, 0, 0]
    assert cost == 8


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_viterbi_equals_exhaustive_search_on_arbitrary_costs(rounds):
    rng = np.random.default_rng(rounds)
    batch, places = (20, 3), 3
    place = rng.random((*batch, rounds, places))
    move = rng.random((*batch, rounds, places, places))  # not even 0 for staying
    start = rng.integers(places, size=batch)
    path, cost = exact.viterbi(place, move, start)
    best = np.full(batch, np.inf)
    mine = np.zeros(batch)
    for plan in every_plan(1, places, rounds)[:, 0]:
        total = np.zeros(batch)
        for i in np.ndindex(batch):
            before = start[i]
            for k, p in enumerate(plan):
                total[i] += place[i][k, p] + move[i][k, before, p]
                before = p
            if (plan == path[i]).all():
                mine[i] = total[i]
        best = np.minimum(best, total)
    np.testing.assert_allclose(cost, best, rtol=1e-12)
    np.testing.assert_allclose(mine, best, rtol=1e-12)


@pytest.mark.parametrize("return_result", [True, False])
def test_marginal_costs_are_what_a_device_adds_to_the_total(return_result):
    """Cost of any plan of a device given the others = total with it - total without it."""
    s = moving(devices=4, servers=2, blocks=3, return_result=return_result, idle=0.2)
    trace = draw(s, 15, 12)
    rng = np.random.default_rng(16)
    h = horizon_of_trace(trace, s)
    start = rng.integers(3, size=h.active.shape)
    plan = rng.integers(3, size=(12, 1, 4, 3))
    mine = every_plan(1, 3, 3)[:, 0]
    each = demand_per_device(h, plan, start, s)
    for n in range(4):
        others = arrays.map_arrays(lambda a, n=n: a.sum(axis=-3) - a[..., n, :, :], each)
        place, move = exact.step_costs(take_devices(h, n), s, others)
        for e in range(12):
            if not trace.active[e, 0, n]:
                continue
            slots = slots_of(trace, e, 0, 3)
            trial = np.repeat(plan[e], len(mine), axis=0)
            trial[:, n] = mine
            active = trace.active[e, 0].copy()
            with_it = costs_of_plans(s, slots, trial, start=start[e, 0]).sum(axis=1)
            active[n] = False
            without = costs_of_plans(s, slots, trial, start=start[e, 0], active=active).sum(axis=1)
            for i, path in enumerate(mine):
                cost, before = 0.0, start[e, 0, n]
                for k, p in enumerate(path):
                    cost += place[e, 0, k, p] + move[e, 0, k, before, p]
                    before = p
                assert cost == pytest.approx(with_it[i] - without[i], rel=1e-9)


def test_what_a_task_costs():
    s = contended(latency_weight=2.0, miss_cost=0.25, late_weight=0.6)
    # rho = 4: in time at 3; late by half at 6; by more than twice at 20
    found = exact.task_costs(np.array([3.0, 6.0, 20.0]), np.full(3, 4.0), s)
    assert found.tolist() == pytest.approx([6, 12 + 0.25 + 0.3, 40 + 0.25 + 1.2])


# -------------------------------------------------------------- all joint plans


def test_exhaustive_search_finds_the_best_joint_plan(monkeypatch):
    s = contended(deadline_factor=(0.3, 0.9), miss_cost=1.0, late_weight=1.0, idle=0.2)
    trace = draw(s, 23, 6)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    deadline = trace.deadline[:, ::3]
    spent = np.random.default_rng(24).uniform(0, 0.4, size=home.shape) * deadline
    plan, cost = exact.exhaustive(h, s, home, spent)
    plans = every_plan(3, 3, 3)
    for e in range(6):
        active = trace.active[e, 0]
        slots = slots_of(trace, e, 0, 3)
        all_costs = costs_of_delays(
            s, (spent[e, 0] + costs_of_plans(s, slots, plans))[:, active], deadline[e, 0, active]
        )
        assert cost[e, 0] == pytest.approx(all_costs.min(), rel=1e-12)
        delay = spent[e, 0] + costs_of_plans(s, slots, plan[e])
        again = costs_of_delays(s, delay[:, active], deadline[e, 0, active])
        assert again[0] == pytest.approx(cost[e, 0], rel=1e-12)
    # In many parts as in one, and one instance as in a batch.
    monkeypatch.setattr(exact, "MOST_PLANS", 3**9)
    assert np.array_equal(exact.exhaustive(h, s, home, spent)[0], plan)
    with pytest.raises(ValueError, match=r"19683.*4\^\(3 \* 3\) = 2.62e\+05"):
        exact.exhaustive(h, dataclasses.replace(s, servers=3), home, spent)


@pytest.mark.parametrize("contention", [True, False])
def test_exhaustive_search_where_each_block_has_a_deadline(contention):
    s = contended(
        deadline_of="block", late_weight=1.0, miss_cost=0.2, idle=0.2, contention=contention
    )
    trace = draw(s, 26, 6)
    h = horizon_of_trace(trace, s)
    home = np.zeros(h.active.shape, dtype=int)
    plan, cost = exact.exhaustive(h, s, home, np.zeros(home.shape))
    plans = every_plan(3, 3, 3)
    for e in range(6):
        active, slots = trace.active[e, 0], slots_of(trace, e, 0, 3)
        deadline = trace.deadline[e, 0, active]
        costs = costs_of_blocks(s, delays_of_blocks(s, slots, plans)[:, active], deadline)
        assert cost[e, 0] == pytest.approx(costs.min(), rel=1e-12)
        again = costs_of_blocks(s, delays_of_blocks(s, slots, plan[e])[:, active], deadline)
        assert again[0] == pytest.approx(cost[e, 0], rel=1e-12)


@pytest.mark.parametrize("return_result", [True, False])
def test_alone_where_each_block_has_a_deadline_equals_exhaustive_search(return_result):
    """The plan is that of the least cost, which is often not the fastest one."""
    s = moving(
        devices=2, servers=2, blocks=4, contention=False, return_result=return_result,
        deadline_of="block", latency_weight=0.7, miss_cost=1.5, late_weight=0.4,
    )  # fmt: skip
    trace = draw(s, 27, 30)
    h = horizon_of_trace(trace, s)
    start = np.random.default_rng(28).integers(3, size=h.active.shape)
    plan, cost = plan_alone(h, s, start)
    plans = every_plan(1, 3, 4)
    slower = 0
    for e, n in np.ndindex(30, 2):
        slots = [only(slot, n) for slot in slots_of(trace, e, 0, 4)]
        deadline = trace.deadline[e, 0, n : n + 1]
        delays = delays_of_blocks(s, slots, plans, start=start[e, 0, n])
        costs = costs_of_blocks(s, delays, deadline)
        assert 0.7 * cost[e, 0, n] == pytest.approx(costs.min(), rel=1e-9)
        mine = delays_of_blocks(s, slots, plan[e, :, n][:, None], start=start[e, 0, n])
        assert costs_of_blocks(s, mine, deadline)[0] == pytest.approx(costs.min(), rel=1e-9)
        slower += mine.sum() > delays.sum(axis=(1, 2)).min() * (1 + 1e-9)
    assert slower > 5


def test_the_exhaustive_solver_is_never_beaten_where_nothing_changes():
    s = contended(blocks=3, deadline_factor=(0.3, 0.9), battery=1e6)
    problem = DistributedInference(s)
    trace = draw(s, 25, 15)
    returns = {
        name: rollout(problem, SolverAgent(problem, solver), trace).returns
        for name, solver in {
            "all": ExhaustiveSolver(s),
            "descent": CoordinateDescentSolver(s, deadlines=True),
            "delays": CoordinateDescentSolver(s),
            "greedy": SequentialGreedySolver(s),
        }.items()
    }
    best = returns.pop("all")
    assert np.all(best <= problem.bound(trace) + 1e-9)
    for name, others in returns.items():
        # Observations are of single precision.
        assert np.all(others <= best + 1e-5), name
        assert others.mean() < best.mean(), name


# --------------------------------------------------------------------- the bound


def returns_of_all_plans(s, trace, episode, plans):
    """Returns of joint plans of whole one-task episodes, with batteries and deadlines."""
    problem = DistributedInference(s)
    slots = slots_of(trace, episode, 0, s.rounds)
    state = problem.start(slots[0])
    state = arrays.map_arrays(lambda a: np.broadcast_to(a, (len(plans), *a.shape)), state)
    total = np.zeros(len(plans))
    dropped = np.zeros(len(plans), dtype=int)
    for t, slot in enumerate(slots):
        wide = arrays.map_arrays(lambda a: np.broadcast_to(a, (len(plans), *a.shape)), slot)
        state, outcome = problem.step(wide, state, Decision(place=plans[..., t]))
        total += problem.reward(outcome)
        dropped += outcome.dropped
    return total, dropped


TIGHT = {"deadline_factor": (0.1, 0.6), "late_weight": 0.7, "latency_weight": 0.8, "idle": 0.1}
HARSH = {
    "plenty": {},
    "penniless": {"battery": 0.4, "compute_power": (0.2, 16.0), "harvest": 0.05},
    # giving up costs less than the time it saves: a clairvoyant may want to
    "giving up pays": {
        "battery": 0.05,
        "compute_power": (0.2, 16.0),
        "deadline_factor": (0.01, 0.1),
        "miss_cost": 0.01,
    },
}


@pytest.mark.parametrize("blocks", [2, 3])
@pytest.mark.parametrize("deadline_of", ["task", "block"])
@pytest.mark.parametrize("case", HARSH)
def test_no_joint_plan_beats_the_bound(case, deadline_of, blocks):
    s = moving(devices=2, servers=2, blocks=blocks, **{**TIGHT, **HARSH[case]})
    s = dataclasses.replace(s, deadline_of=deadline_of)
    draws = 20
    trace = draw(s, 13, draws)
    bound = exact.episode_bound(trace, s)
    assert bound.shape == (draws,)
    plans = every_plan(2, 3, blocks)
    dropped = 0
    slack = []
    for e in range(draws):
        total, gone = returns_of_all_plans(s, trace, e, plans)
        assert total.max() <= bound[e] + 1e-9 * abs(bound[e])
        slack.append(total.max() - bound[e])
        dropped += gone.sum()
    assert (dropped > 0) == (case != "plenty")
    if case == "plenty":
        assert -np.mean(slack) < 0.3 * -np.mean(bound)  # and it is not idle talk


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("deadline_of", ["task", "block"])
def test_the_bound_is_reached_by_one_device_alone(tasks, deadline_of):
    s = moving(devices=1, servers=2, blocks=2, contention=False)
    s = dataclasses.replace(
        s, tasks=tasks, idle=0.2, deadline_factor=(0.4, 0.9), latency_weight=0.7,
        deadline_of=deadline_of,
    )  # fmt: skip
    draws = 40
    trace = draw(s, 14, draws)
    bound = exact.episode_bound(trace, s)
    plans = every_plan(1, 3, s.rounds)
    late = 0
    for e in range(draws):
        total, gone = returns_of_all_plans(s, trace, e, plans)
        assert not gone.any()
        assert total.max() == pytest.approx(bound[e], rel=1e-9, abs=1e-12)
        late += bound[e] < -1
    assert late > 3


def test_the_bound_when_giving_up_is_the_least_evil():
    # One device, no server worth going to: at home 10 s, of which 1 s is allowed: late by 9,
    # which counts as 2. Done: 10 + 0.5 + 0.5 * 2 = 11.5. Given up: 3 + 0.5 + 1 = 4.5.
    s = Scenario(
        devices=1,
        servers=1,
        blocks=2,
        tasks=1,
        networks=RandomNetworks(bits=(1e9, 1e9), work=(5e9, 5e9)),
        channel=ConstantChannel(rate=(1e6, 1e6)),
        device_rate=(1e9, 1e9),
        deadline_factor=(0.1, 0.1),
        idle=0.0,
        battery=1.0,
        compute_power=(1e7, 1e7),
    )
    trace = draw(s, 0, 1)
    assert exact.episode_bound(trace, s).tolist() == pytest.approx([-4.5])
    total, gone = returns_of_all_plans(s, trace, 0, every_plan(1, 2, 2))
    assert gone.all()
    assert total.max() == pytest.approx(-4.5)  # and it is reached


def test_the_bound_of_who_is_idle_is_nothing():
    s = moving(devices=2, servers=2, blocks=2)
    trace = draw(s, 0, 3)
    idle = dataclasses.replace(trace, active=np.zeros_like(trace.active))
    assert exact.episode_bound(idle, s).tolist() == [0, 0, 0]


def test_batteries_that_last_whatever_is_decided():
    # At home 2 * 3 J, sent 1 W * 2 * 4 Mbit at 1 Mbit/s.
    s = Scenario(
        devices=1, servers=1, blocks=2, tasks=1, idle=0.0, channel=ConstantChannel(rate=(1e6, 1e6)),
        networks=RandomNetworks(bits=(4e6, 4e6), work=(1e9, 1e9)), device_rate=(1e9, 1e9),
        compute_power=(3.0, 3.0), background=0.0,
    )  # fmt: skip
    for battery, may in ((7.9, True), (8.1, False)):
        poor = dataclasses.replace(s, battery=battery)
        assert exact.may_run_empty(draw(poor, 0, 1), poor).tolist() == [[may]]
