"""The closed-form optimum against linear programs, grids and the model itself.

The LPs come from the scalar oracle: the edge delay is sampled inside each stretch between two
of the oracle's `jumps` and extended to its ends, so segments are closed there. All blocks
(instance x pair x segment) of a chunk of instances are solved as one block-diagonal LP.
"""

import functools
import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import training_offload.oracle as oracle
from scipy.optimize import linprog
from slow import slow_except, slow_off_diagonal
from training_offload.cases import delay_and_energy, rich
from training_offload.oracle import MBIT, VARIANTS, random_scenario, random_slot

from mec_gym.core import arrays
from mec_gym.training_offload import model
from mec_gym.training_offload.exact import (
    Resources,
    SlotFrontier,
    episode_bound,
    segments,
    total_delay_bound,
)
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario, Slot

SCENARIOS, SLOTS = 125, 8  # 1000 instances per variant


def blocks(scenario, slot):
    """Rows (W, a, b, low, high, V_Cl, cloud s/Mbit, P_C, energy saved/Mbit) of one slot ()."""
    rows = []
    servers = range(slot.uplink.shape[-1])
    for i, j in itertools.product(servers, servers):
        k = oracle.link(scenario, slot, i, j)
        for low, high in itertools.pairwise(oracle.jumps(k)):
            high = min(high, k.work)
            if low >= high:
                continue
            p, q = low + (high - low) / 4, high - (high - low) / 4
            at_p, at_q = (oracle.edge(k, x, scenario.variant) for x in (p, q))
            b = (at_q - at_p) / (q - p)
            cloud = oracle.com_c(k, 1.0) + oracle.comp_c(k, 1.0)
            saved = k.p_comp - k.p_radio * (1 + k.rho)
            rows.append((k.work, at_p - b * p, b, low, high, k.comp_l, cloud, k.p_comp, saved))
    return np.array(rows)


def program(table):
    """Constraints and costs of the blocks, variables (on, x, y, T) a block, scaled by `on`."""
    w, a, b, low, high, local, cloud, p_comp, saved = table.T
    nil, one = np.zeros_like(w), np.ones_like(w)
    rows = [
        [a, b, nil, -one],  # edge done by T
        [w / local, -1 / local, -1 / local, -one],  # device
        [nil, nil, cloud, -one],  # cloud
        [-w, one, one, nil],  # x + y <= W
        [low, -one, nil, nil],
        [-high, one, nil, nil],
    ]
    limits = sp.block_diag(np.moveaxis(np.array(rows), -1, 0), format="csr")
    energy = np.stack([w * p_comp, -saved, -saved, nil], axis=-1)
    delay = np.stack([nil, nil, nil, one], axis=-1)
    return limits, energy, delay


def solve(cost, limits, upper, bounds, **equalities):
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(cost, limits, upper, bounds=bounds, method="highs", options=tight, **equalities)
    assert found.status == 0, found.message
    return found


def least(table, price=0.0, limit=None, energy_only=False):
    """min T + price E of each block, with E <= limit; a block alone is one small LP."""
    limits, energy, delay = program(table)
    upper = np.zeros(limits.shape[0])
    if limit is not None:
        limits = sp.vstack([limits, sp.block_diag(energy[:, None, :])])
        upper = np.append(upper, limit)
    cost = energy if energy_only else delay + price * energy
    bounds = [(1, 1), (0, None), (0, None), (0, None)] * len(table)
    found = solve(cost.ravel(), limits, upper, bounds)
    return (cost * found.x.reshape(cost.shape)).sum(axis=-1)


def lp_optimum(tables, limits=None, prices=None):
    """Value of each instance, inf where no block is feasible."""
    owner = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    table = np.concatenate(tables)
    value = np.full(len(table), np.inf)
    if limits is None:
        value = least(table, 0.0 if prices is None else np.asarray(prices)[owner][:, None])
    else:
        limit = np.asarray(limits)[owner]
        possible = least(table, energy_only=True) <= limit
        if possible.any():
            value[possible] = least(table[possible], limit=limit[possible])
    best = np.full(len(tables), np.inf)
    np.minimum.at(best, owner, value)
    return best


@functools.cache
def instances(variant):
    """(scenario, slots (SLOTS,), energy limits (SLOTS,), blocks of each slot)."""
    rng = np.random.default_rng(VARIANTS.index(variant))
    found = []
    for n in range(SCENARIOS):
        servers = (1, 1, 2, 2, 3)[n % 5]
        scenario = random_scenario(rng, variant, servers)
        slots = random_slot(rng, (SLOTS,), servers)
        all_here = slots.work * scenario.device_energy
        all_away = slots.work * scenario.energy_per_offloaded_bit
        low, high = np.minimum(all_here, all_away), np.maximum(all_here, all_away)
        limit = np.maximum(low + rng.uniform(-0.2, 1.1, SLOTS) * (high - low), 0)
        tables = [blocks(scenario, arrays.at(slots, s)) for s in range(SLOTS)]
        found.append((scenario, slots, limit, tables))
    return found


def chunks(items, size=10):
    return [items[n : n + size] for n in range(0, len(items), size)]


ALL = Resources()
PAPER = {"connection_time": (15.0, 15.0), "work": (350 * MBIT, 350 * MBIT)}


def paper_optimum(servers=1, resources=ALL, **changes):
    """The check values are for the pair MEC 1, MEC 4 alone."""
    base = Scenario()
    scenario = Scenario(
        **PAPER,
        server_uplink=base.server_uplink[:servers],
        server_downlink=base.server_downlink[:servers],
        server_compute=base.server_compute[:servers],
        **changes,
    )
    slot = arrays.at(scenario.sample(np.random.default_rng(0), 1), (0, 0))
    return SlotFrontier(slot, scenario, resources).best()


@pytest.mark.parametrize(
    ("variant", "delay", "edge", "cloud"),
    [
        ("finish", 24.7604, 162.865, 82.880),
        ("split", 25.1890, 159.626, 84.315),
        ("literal", 17.1874, 220.101, 57.531),
    ],
)
def test_optimum_by_hand(variant, delay, edge, cloud):
    split, decision = paper_optimum(variant=variant)
    # Some of the last digits are rounded and others cut off.
    assert split.delay == pytest.approx(delay, abs=1e-4)
    assert split.edge / MBIT == pytest.approx(edge, abs=1e-3)
    assert split.cloud / MBIT == pytest.approx(cloud, abs=1e-3)
    assert (decision.server, decision.next_server) == (0, 0)
    # With all nine pairs the fastest servers are still the best.
    nine, _ = paper_optimum(variant=variant, servers=3)
    assert nine.delay <= split.delay


def test_baselines_by_hand():
    end_cloud, decision = paper_optimum(resources=Resources(edge=False))
    assert end_cloud.delay == pytest.approx(46.310, abs=5e-4)
    assert decision.edge_share == 0
    end_edge, decision = paper_optimum(resources=Resources(cloud=False))
    assert end_edge.delay == pytest.approx(32.348, abs=5e-4)
    assert decision.cloud_share == 0
    alone, _ = paper_optimum(resources=Resources(edge=False, cloud=False))
    assert alone.delay == pytest.approx(350 / 4.2105, rel=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_segments_follow_the_oracle(variant):
    for scenario, slots, _, _ in instances(variant)[:40]:
        found = segments(slots, scenario)
        servers = scenario.servers
        for n, pair in itertools.product(range(SLOTS), range(servers**2)):
            k = oracle.link(scenario, arrays.at(slots, n), *divmod(pair, servers))
            piece = arrays.at(found, (n, pair))
            for m in np.flatnonzero(piece.low < piece.high):
                for share in (1e-3, 0.5, 1 - 1e-3):
                    x = piece.low[m] + share * (piece.high[m] - piece.low[m])
                    line = piece.intercept[m] + piece.slope[m] * x
                    expected = oracle.edge(k, x / MBIT, variant)
                    assert line == pytest.approx(expected, rel=1e-9)
            covered = np.maximum(piece.high - piece.low, 0).sum()
            assert covered == pytest.approx(slots.work[n], rel=1e-9)


@pytest.mark.parametrize(("variant", "limited"), slow_off_diagonal(VARIANTS, [True, False]))
def test_best_equals_linear_programs(variant, limited):
    seen = {"dear": 0, "cheap": 0, "impossible": 0, "binding": 0}
    for chunk in chunks(instances(variant)):
        limits = np.concatenate([limit for _, _, limit, _ in chunk])
        tables = [table for *_, of_slots in chunk for table in of_slots]
        expected = lp_optimum(tables, limits if limited else None)
        got = np.concatenate(
            [
                SlotFrontier(slots, scenario).best(limit if limited else np.inf)[0].delay
                for scenario, slots, limit, _ in chunk
            ]
        )
        assert (np.isinf(got) == np.isinf(expected)).all()
        possible = np.isfinite(expected)
        np.testing.assert_allclose(got[possible], expected[possible], rtol=1e-8)
        saved = np.array([table[0, -1] for table in tables])
        seen["dear"] += (possible & (saved < 0)).sum()
        seen["cheap"] += (possible & (saved > 0)).sum()
        seen["impossible"] += (~possible).sum()
        if limited:
            free = np.concatenate([SlotFrontier(s, c).best()[0].delay for c, s, _, _ in chunk])
            seen["binding"] += (possible & (got > free * (1 + 1e-6))).sum()
    if limited:  # else the comparison says little
        assert min(seen.values()) > 50, seen


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_model_agrees_with_the_returned_split(variant, limited):
    for scenario, slots, limit, _ in instances(variant):
        split, decision = SlotFrontier(slots, scenario).best(limit if limited else np.inf)
        possible = np.isfinite(split.delay)
        state = State(battery=limit, tasks_left=np.ones(SLOTS)) if limited else rich((SLOTS,))
        _, outcome = model.evaluate(slots, state, decision, scenario)
        assert (outcome.battery_short == ~possible).all()
        assert (outcome.energy_j <= state.battery).all()
        for got, promised in (
            (outcome.latency_s, split.delay),
            (outcome.energy_j, split.energy),
            (decision.edge_share * slots.work, split.edge),
        ):
            np.testing.assert_allclose(got[possible], promised[possible], rtol=1e-9, atol=1e-9)


def grid(servers, points):
    """Decisions (P, 1): every pair with a triangle of shares."""
    share = np.linspace(0, 1, points)
    x, y, pair = (a.ravel() for a in np.meshgrid(share, share, np.arange(servers**2)))
    keep = x + y <= 1
    i, j = np.divmod(pair[keep], servers)
    return Decision(
        edge_share=x[keep, None],
        cloud_share=y[keep, None],
        server=i[:, None],
        next_server=j[:, None],
    )


def near(decision, rng, size):
    """Decisions (size, B) close to the given ones (B,)."""
    shape = (size, *decision.edge_share.shape)
    step = 10.0 ** rng.uniform(-7, -1, shape)
    x = np.clip(decision.edge_share + step * rng.standard_normal(shape), 0, 1)
    y = np.clip(decision.cloud_share + step * rng.standard_normal(shape), 0, 1 - x)
    server, next_server = (
        np.broadcast_to(a, shape) for a in (decision.server, decision.next_server)
    )
    return Decision(edge_share=x, cloud_share=y, server=server, next_server=next_server)


@pytest.mark.parametrize(("variant", "limited"), slow_off_diagonal(VARIANTS, [True, False]))
def test_no_grid_beats_it(variant, limited):
    rng = np.random.default_rng(3)
    for scenario, slots, limit, _ in instances(variant)[:30]:
        split, best = SlotFrontier(slots, scenario).best(limit if limited else np.inf)
        state = State(battery=limit, tasks_left=np.ones(SLOTS)) if limited else rich((SLOTS,))
        for decision in (grid(scenario.servers, 50), near(best, rng, 500)):
            _, outcome = model.evaluate(slots, state, decision, scenario)
            delay = np.where(outcome.dropped, np.inf, outcome.latency_s).min(axis=0)
            assert (delay >= split.delay * (1 - 1e-9)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_corners_price_like_linear_programs(variant):
    rng = np.random.default_rng(4)
    signs = set()
    for chunk in chunks(instances(variant)[:40]):
        price = rng.choice([0.0, 1.0], len(chunk) * SLOTS, p=[0.1, 0.9])
        price *= 10 ** rng.uniform(-2, 2, price.shape)
        expected = lp_optimum([t for *_, of_slots in chunk for t in of_slots], prices=price)
        got = []
        for (scenario, slots, _, _), p in zip(chunk, price.reshape(-1, SLOTS), strict=True):
            corners = SlotFrontier(slots, scenario).corners()
            exists = np.isfinite(corners.delay)
            cost = corners.delay + p[:, None] * np.where(exists, corners.energy, 0.0)
            got.append(cost.min(axis=-1))
            signs.add(scenario.device_energy > scenario.energy_per_offloaded_bit)
        np.testing.assert_allclose(np.concatenate(got), expected, rtol=1e-8)
    assert signs == {True, False}


@pytest.mark.parametrize("variant", slow_except(VARIANTS, "finish"))
def test_corners_can_be_reached(variant):
    for scenario, slots, _, _ in instances(variant)[:40]:
        frontier = SlotFrontier(slots, scenario)
        corners = frontier.corners()
        for c in range(corners.delay.shape[-1]):
            decision = frontier.decide(corners, np.full(SLOTS, c))
            corner = arrays.slot_at(corners, c)
            real = np.isfinite(corner.delay)
            if not real.any():
                continue
            _, outcome = model.evaluate(
                *(arrays.at(a, real) for a in (slots, rich((SLOTS,)), decision)), scenario
            )
            np.testing.assert_allclose(outcome.latency_s, corner.delay[real], rtol=1e-9)
            np.testing.assert_allclose(outcome.energy_j, corner.energy[real], rtol=1e-9)


def tiny_drives(rng, variant, horizon, drives=4, servers=2):
    """Few tasks, a battery that pays for some of them, a deadline that some cannot meet."""
    scenario = random_scenario(
        rng,
        variant,
        servers,
        horizon=horizon,
        deadline=float(rng.uniform(15, 60)),
        handover_s=float(rng.uniform(0.5, 3)),
    )
    trace = random_slot(rng, (drives, horizon), servers)
    per_bit = min(scenario.device_energy, scenario.energy_per_offloaded_bit)
    battery = float(rng.uniform(0.6, 1.6) * per_bit * trace.work.sum(axis=1).mean())
    return arrays.from_dict(Scenario, arrays.as_dict(scenario) | {"battery": battery}), trace


def relaxed_drive(scenario, drive):
    """The Lagrangian bound as one LP: mix each task's segments and a free drop."""
    tables = [blocks(scenario, arrays.at(drive, t)) for t in range(len(drive.work))]
    owner = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    limits, energy, delay = program(np.concatenate(tables))
    tasks = len(tables)
    on = np.zeros((tasks, limits.shape[1] + tasks))
    on[owner, np.arange(len(owner)) * 4] = 1
    on[:, limits.shape[1] :] = np.eye(tasks)  # the drops
    limits = sp.vstack([limits, sp.csr_matrix(energy.reshape(1, -1))])
    limits = sp.hstack([limits, sp.csr_matrix((limits.shape[0], tasks))])
    upper = np.append(np.zeros(limits.shape[0] - 1), scenario.battery)
    cost = np.append(delay.ravel(), np.full(tasks, scenario.deadline))
    return solve(cost, limits, upper, (0, None), A_eq=on, b_eq=np.ones(tasks)).fun


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_bound_is_the_best_lagrangian(variant):
    rng = np.random.default_rng(5)
    binding = 0
    for horizon in (2, 3, 3, 3, 4, 4, 5, 5):
        scenario, trace = tiny_drives(rng, variant, horizon)
        got = total_delay_bound(trace, scenario)
        expected = [relaxed_drive(scenario, arrays.at(trace, n)) for n in range(len(got))]
        np.testing.assert_allclose(got, expected, rtol=1e-7)
        free = SlotFrontier(trace, scenario).best()[0].delay
        binding += (got > np.minimum(free, scenario.deadline).sum(axis=1) * (1 + 1e-6)).sum()
    assert binding > 8


def cheapest_plan(delay, energy, battery):
    """Least total delay over all choices of one option a task (T, K) that the battery pays."""
    plans = [(0.0, 0.0)]
    for d, e in zip(delay, energy, strict=True):
        order = np.argsort(d)
        front = order[e[order] <= np.minimum.accumulate(e[order])]  # no option beats these
        both = [(a + d[o], b + e[o]) for a, b in plans for o in front if b + e[o] <= battery]
        plans, lowest = [], np.inf
        for plan in sorted(both):
            if plan[1] < lowest:
                plans.append(plan)
                lowest = plan[1]
    return plans[0][0]


@pytest.mark.parametrize("variant", slow_except(VARIANTS, "finish"))
def test_no_plan_beats_the_bound(variant):
    rng = np.random.default_rng(6)
    for _ in range(3):
        scenario, trace = tiny_drives(rng, variant, horizon=3)
        bound = total_delay_bound(trace, scenario)
        flat = arrays.map_arrays(lambda a: a.reshape(-1, *a.shape[2:]), trace)
        shape = trace.work.shape
        _, outcome = model.evaluate(flat, rich(flat.work.shape), grid(2, 25), scenario)
        delay = outcome.latency_s.T.reshape(*shape, -1)
        energy = np.where(outcome.dropped, 0.0, outcome.energy_j).T.reshape(*shape, -1)
        free_drop = np.full((*shape, 1), scenario.deadline)
        delay = np.concatenate([delay, free_drop], axis=-1)
        energy = np.concatenate([energy, 0 * free_drop], axis=-1)
        for n in range(len(bound)):
            assert cheapest_plan(delay[n], energy[n], scenario.battery) >= bound[n] * (1 - 1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_played_policy_beats_the_bound(variant):
    rng = np.random.default_rng(7)
    scenario, trace = tiny_drives(rng, variant, horizon=3)
    problem = TrainingOffload(scenario)
    many = arrays.map_arrays(lambda a: np.repeat(a[None], 2000, axis=0), trace)
    state, total = problem.start(arrays.at(many, (slice(None), slice(None), 0))), 0.0
    for t in range(3):
        action = rng.uniform(size=(*state.battery.shape, *problem.action_space.shape))
        slot = arrays.at(many, (slice(None), slice(None), t))
        state, outcome = problem.step(slot, state, problem.decision(action))
        total = total + problem.reward(outcome)
    assert problem.done(state).all()
    assert (total <= problem.bound(trace)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_bound_of_a_single_task_is_its_optimum(variant):
    rng = np.random.default_rng(8)
    for _ in range(5):
        scenario, trace = tiny_drives(rng, variant, horizon=1)
        tables = [blocks(scenario, arrays.at(trace, (n, 0))) for n in range(4)]
        best = lp_optimum(tables, np.full(4, scenario.battery))
        expected = np.minimum(best, scenario.deadline)
        np.testing.assert_allclose(total_delay_bound(trace, scenario), expected, rtol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bound_of_an_ample_battery_is_the_sum_of_optima(variant):
    rng = np.random.default_rng(9)
    scenario, trace = tiny_drives(rng, variant, horizon=4)
    ample = arrays.from_dict(Scenario, arrays.as_dict(scenario) | {"battery": 1e6})
    best = [
        lp_optimum([blocks(ample, arrays.at(trace, (n, t))) for t in range(4)]) for n in range(4)
    ]
    expected = np.minimum(best, ample.deadline).sum(axis=1)
    np.testing.assert_allclose(total_delay_bound(trace, ample), expected, rtol=1e-8)
    returns = -expected / ample.deadline
    np.testing.assert_allclose(episode_bound(trace, ample), returns, rtol=1e-8)


@pytest.mark.parametrize("resources", [Resources(edge=False), Resources(cloud=False)])
def test_fewer_resources_under_an_energy_limit(resources):
    """Against the same grid with the unused share at 0."""
    for scenario, slots, limit, _ in instances("finish")[:20]:
        split, _ = SlotFrontier(slots, scenario, resources).best(limit)
        share = np.linspace(0, 1, 4001)[:, None]
        for i, j in itertools.product(range(scenario.servers), repeat=2):
            zero = np.zeros_like(share)
            x, y = (share, zero) if resources.edge else (zero, share)
            decision = Decision(
                edge_share=x,
                cloud_share=y,
                server=np.full(share.shape, i),
                next_server=np.full(share.shape, j),
            )
            state = State(battery=limit, tasks_left=np.ones(SLOTS))
            _, outcome = model.evaluate(slots, state, decision, scenario)
            delay = np.where(outcome.dropped, np.inf, outcome.latency_s).min(axis=0)
            assert (delay >= split.delay * (1 - 1e-9)).all()
            if scenario.servers == 1:  # and the grid comes close
                assert (delay <= split.delay * 1.01).all()


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_wider_margin_survives_a_float32_action(variant, limited):
    for scenario, slots, limit, _ in instances(variant)[:40]:
        problem = TrainingOffload(scenario)
        limit = limit if limited else np.full(SLOTS, 1e9)
        split, decision = SlotFrontier(slots, scenario, margin=1e-6).best(limit)
        played = problem.decision(problem.encode(decision))
        _, outcome = model.evaluate(
            slots, State(battery=limit, tasks_left=np.ones(SLOTS)), played, scenario
        )
        possible = np.isfinite(split.delay)
        assert not outcome.dropped[possible].any()
        np.testing.assert_allclose(outcome.latency_s[possible], split.delay[possible], rtol=1e-4)


def one_server(**changes):
    """MEC1 -> MEC4 of the paper, W = 350 Mbit, T_ct = 15 s."""
    rates = {"server_uplink": (15e6,), "server_downlink": (15e6,), "server_compute": (13.4e6,)}
    scenario = Scenario(**{**PAPER, **rates, **changes})
    return scenario, arrays.at(scenario.sample(np.random.default_rng(0), 1), (0, 0))


# Faults of earlier versions, each with its smallest example.


def test_limit_of_the_device_alone():
    scenario, slot = one_server(device_energy=0.1 / MBIT)  # offloading costs 0.1562 J/Mbit
    split, _ = SlotFrontier(slot, scenario).best(350 * MBIT * scenario.device_energy)
    assert split.delay == pytest.approx(350 / 4.2105, rel=1e-9)


def test_limit_of_full_offloading():
    scenario, slot = one_server(device_energy=0.17 / MBIT)
    split, _ = SlotFrontier(slot, scenario).best(350 * MBIT * scenario.energy_per_offloaded_bit)
    assert np.isfinite(split.delay)


def test_fallback_is_the_cheapest_split():
    scenario, slot = one_server(device_energy=0.1 / MBIT)
    split, decision = SlotFrontier(slot, scenario).best(10.0)
    assert np.isinf(split.delay)
    assert (decision.edge_share, decision.cloud_share) == (0, 0)


def test_device_alone_cannot_save_energy():
    scenario, slot = one_server()
    split, _ = SlotFrontier(slot, scenario, Resources(edge=False, cloud=False)).best(100.0)
    assert np.isinf(split.delay)


def test_the_bound_with_free_computing():
    changes = {"horizon": 3, "battery": 5.0}
    free, slot = one_server(device_energy=0.0, **changes)
    nearly, _ = one_server(device_energy=1e-9 / MBIT, **changes)
    trace = arrays.map_arrays(lambda a: np.stack([a] * 3)[None], slot)
    assert total_delay_bound(trace, free) == pytest.approx(
        total_delay_bound(trace, nearly), rel=1e-6
    )


def test_fallback_is_the_fastest_of_the_cheapest_splits():
    """Offloading everything costs the same however it is divided; the delay does not."""
    scenario, slot = one_server()
    cheapest = 350 * MBIT * scenario.energy_per_offloaded_bit
    affordable, _ = SlotFrontier(slot, scenario).best(cheapest * (1 + 1e-9))
    split, decision = SlotFrontier(slot, scenario).best(cheapest / 2)
    assert np.isinf(split.delay)
    assert split.energy == pytest.approx(cheapest)
    _, outcome = model.evaluate(slot, rich(()), decision, scenario)
    assert outcome.latency_s == pytest.approx(affordable.delay, rel=1e-6)


def test_best_without_a_limit_is_a_delay_that_can_be_had():
    scenario = Scenario(
        device_compute=1.1 * MBIT,
        server_uplink=(24 * MBIT,),
        server_downlink=(5 * MBIT,),
        server_compute=(4.8 * MBIT,),
        cloud_uplink=2.7 * MBIT,
        backhaul=82 * MBIT,
    )
    both = np.ones((2, 1))
    slot = Slot(
        work=np.array(117 * MBIT),
        connection_time=np.array(5.2),
        connection_estimate=np.array(5.2),
        position=np.array(0.0),
        speed=np.array(0.0),
        uplink=both * 24 * MBIT,
        downlink=both * 5 * MBIT,
        compute=MBIT * np.array([[4.8], [22.0]]),
    )
    limited, _ = SlotFrontier(slot, scenario).best(1e9)
    best, decision = SlotFrontier(slot, scenario).best()
    assert delay_and_energy(scenario, slot, decision)[0] == pytest.approx(best.delay, rel=1e-9)
    assert best.delay == limited.delay
