"""Lookups against brute force; the optimum of a slot and of an episode against trying all."""

import dataclasses
import functools
import itertools

import early_exit.cases as cases
import layer_graphs
import numpy as np
import pytest
from slow import slow_except

from agents.early_exit.backlog_price import BacklogPriceSolver
from agents.early_exit.rules import SlotOptimumSolver
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.rollout import rollout
from mec_gym.early_exit import exact, model
from mec_gym.early_exit.cuts import heavy_milp
from mec_gym.early_exit.exact import all_decisions, episode_bound, slot_optimum, try_all
from mec_gym.early_exit.lookup import Lookup
from mec_gym.early_exit.model import Decision
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Slot, follow_bandwidth
from mec_gym.network.bandwidth import Regimes

OBJECTIVES = {"light": sum, "heavy": max}


def trips_of(cost, slots, load):
    """The round trip, which counts under light load and where anything is sent, (S, F)."""
    counts = (cost[:, 1] > 0) & (load == "light")
    return slots.round_trip[:, None] * counts


def look(lookup, load, slots):
    return getattr(lookup, load)(slots)


def times_of(cost, slots):
    """Td, Tt, Te of F costs in slots (S,), (S, F, 3), without the round trip."""
    rates = np.stack([slots.device_speed, slots.bandwidth, slots.edge_speed], axis=-1)
    return cost / rates[:, None]


# --- lookups


@pytest.mark.parametrize("load", OBJECTIVES)
def test_lookup_equals_brute_force_over_all_valid_partitions(load):
    """Through the front of the table, against all 2^V assignments of layers, layer by layer."""
    rng = np.random.default_rng(1)
    objective, chosen = OBJECTIVES[load], set()
    for _ in range(60):
        net = cases.random_network(rng, most=8, exits=2)
        table = cases.scenario(network=net.graph, candidates=2000).table
        slots = cases.random_slots(rng, (12,))
        for n, one in enumerate(net.at_exit):
            index, value = look(Lookup(table.fronts[n].cost), load, slots)
            every = [cost for _, cost in layer_graphs.triples(one)]
            for k in range(12):
                device, link, edge, trip = (
                    float(a[k])
                    for a in (
                        slots.device_speed, slots.bandwidth, slots.edge_speed, slots.round_trip
                    )
                )  # fmt: skip

                def time(d, b, e, device=device, link=link, edge=edge, trip=trip):
                    once = trip if b > 0 and load == "light" else 0.0
                    return objective((d / device, b / link, e / edge)) + once

                best = min(time(*cost) for cost in every)
                assert value[k] == pytest.approx(best, rel=1e-12)
                d, b, e = table.fronts[n].cost[index[k]]
                assert time(d, b, e) == pytest.approx(best, rel=1e-12)
                chosen.add((d > 0, e > 0))
    assert chosen == {(False, True), (True, True), (True, False)}


def table_of_points(rng, kind, count):
    """Costs (F, 3) as large fronts have them, and as they do not."""
    if kind == "front":  # on a surface: no point is as good as another in all three
        share = rng.dirichlet((0.7, 0.7, 0.7), count)
        cost = 1.0 / (share + 0.02)
    elif kind == "cloud":
        cost = rng.lognormal(0.0, 1.5, (count, 3))
    elif kind == "zeros":
        cost = rng.lognormal(0.0, 1.0, (count, 3)) * (rng.random((count, 3)) < 0.7)
    elif kind == "flat":  # one number does not vary, one is 0
        cost = np.stack([rng.uniform(1, 9, count), np.full(count, 2.0), np.zeros(count)], axis=-1)
    else:  # many alike
        cost = rng.integers(0, 4, (count, 3)).astype(float)
    return cost * [0.1, 1e5, 0.01]


@pytest.mark.parametrize("load", OBJECTIVES)
@pytest.mark.parametrize("count", [1, 63, 64, 65, 129, 1000, 6000])
@pytest.mark.parametrize("kind", ["front", "cloud", "zeros", "flat", "alike"])
def test_lookup_in_large_tables_is_exact(kind, count, load):
    rng = np.random.default_rng(count)
    cost = table_of_points(rng, kind, count)
    slots = cases.random_slots(rng, (300,))
    index, value = look(Lookup(cost), load, slots)
    assert index.shape == value.shape == (300,) and index.dtype == np.int64
    join = {"light": np.sum, "heavy": np.max}[load]
    for k in range(0, 300, 100):
        part = arrays.at(slots, slice(k, k + 100))
        every = join(times_of(cost, part), axis=-1) + trips_of(cost, part, load)
        np.testing.assert_allclose(value[k : k + 100], every.min(axis=1), rtol=1e-14, atol=0)
        got = np.take_along_axis(every, index[k : k + 100, None], axis=1)[:, 0]
        np.testing.assert_allclose(got, every.min(axis=1), rtol=1e-14, atol=0)
    if kind == "front" and count >= 1000:
        assert len(np.unique(index)) > 50


def test_lookup_finds_the_one_good_entry_wherever_it_is():
    rng = np.random.default_rng(3)
    for place in (0, 1, 511, 512, 1500, 1999):
        cost = rng.uniform(1.0, 2.0, (2000, 3)) * [1.0, 1e5, 1.0]
        cost[place] = [1.1, 0.99e5, 0.5]
        slot = arrays.map_arrays(lambda a: a[None], cases.one_slot(device_speed=1.0, edge_speed=1))
        slot = arrays.from_dict(Slot, {**arrays.as_dict(slot), "bandwidth": np.array([1e5])})
        index, value = Lookup(cost).light(slot)
        assert index.tolist() == [place] and value[0] == pytest.approx(2.59, rel=1e-14)


@pytest.mark.parametrize("count", [5, 700])
@pytest.mark.parametrize("batch", [(), (1,), (257,), (3, 4), (0,), (2, 0, 3)])
def test_lookup_of_any_batch(batch, count):
    rng = np.random.default_rng(4)
    lookup = Lookup(table_of_points(rng, "front", count))
    slots = cases.random_slots(rng, batch)
    flat = arrays.map_arrays(np.ravel, slots)
    for load in OBJECTIVES:
        index, value = look(lookup, load, slots)
        assert index.shape == value.shape == batch
        again, same = look(lookup, load, flat)
        assert np.array_equal(np.ravel(index), again) and np.array_equal(np.ravel(value), same)


def test_heavy_equals_the_milp():
    rng = np.random.default_rng(5)
    stages = np.zeros(3, dtype=int)
    for _ in range(100):
        net = cases.random_network(rng, most=9, exits=1)
        one = net.at_exit[0]
        slots = cases.random_slots(rng, (1,))
        table = cases.scenario(network=net.graph, candidates=2000).table
        _, value = Lookup(table.fronts[0].cost).heavy(slots)
        device_s = np.array(one.device) / slots.device_speed
        edge_s = np.array(one.edge) / slots.edge_speed
        on_edge = heavy_milp(net.graph.at_exit(0), device_s, edge_s, float(1 / slots.bandwidth[0]))
        d, b, e = layer_graphs.triple(one, layer_graphs.as_bits(on_edge))
        times = np.array(
            [d / slots.device_speed[0], b / slots.bandwidth[0], e / slots.edge_speed[0]]
        )
        assert value[0] == pytest.approx(times.max(), rel=1e-6)
        assert value[0] <= times.max() * (1 + 1e-12)
        stages[times.argmax()] += 1
    assert stages.min() > 5


def test_the_unsupported_point():
    # Chain with (0, 2, 10), (6, 5, 5), (12, 0, 0) at rates of 1.
    net = cases.network(
        ((0, 1), (1, 2)), (2, 5, 0), (0, 6, 6), (0, 5, 5), ((2, 0.9),), name="chain"
    )
    cost = cases.scenario(network=net).table.candidates(0)
    np.testing.assert_allclose(cost, [(0, 2, 10), (6, 5, 5), (12, 0, 0)])
    slot = cases.one_slot(device_speed=1.0, bandwidth=1.0, edge_speed=1.0)
    assert Lookup(cost).heavy(slot) == (1, 6.0)
    index, value = Lookup(cost).light(slot)
    assert value == 12.0 and index in (0, 2)


# --- the optimum of a slot


def test_all_decisions():
    decisions = all_decisions(cases.scenario())
    pairs = list(zip(decisions.exit.tolist(), decisions.partition.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (0, 2)] + [(1, k) for k in range(7)]


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_slot_optimum_equals_trying_everything(seed, busy):
    """On the whole state: if frames are under way, what they lose counts."""
    rng = np.random.default_rng(seed)
    net = cases.random_network(rng, exits=3)
    problem = EarlyExitPartition(
        cases.scenario(network=net.graph, candidates=2000, arrival_rates=(15.0,))
    )
    slots, now = cases.random_slots(rng, (80,)), cases.random_states(rng, (80,))
    if busy:
        slots, now = cases.busy_states(problem, rng, 80)
    decision, reward = slot_optimum(slots, now, problem.scenario)
    sizes = problem.scenario.table.sizes
    pairs = [(n, k) for n, size in enumerate(sizes) for k in range(size)]
    every = np.empty((len(pairs), 80))
    frees, spent = np.empty((len(pairs), 80, 3)), np.empty((len(pairs), 80))
    before = model.all_done(now) - slots.arrival[:, None]
    for row, (n, k) in enumerate(pairs):
        choice = Decision(exit=np.full(80, n), partition=np.full(80, k))
        after, outcome = problem.step(slots, now, choice)
        every[row] = problem.reward(outcome)
        spent[row] = outcome.energy_j
        # Without anybody after it, what is left after the step is all that there is to do.
        lasting = model.all_done(after) - slots.arrival[:, None]
        frees[row] = np.where(outcome.dropped[:, None], before, lasting)
    np.testing.assert_allclose(reward, every.max(axis=0), rtol=1e-13)
    got = problem.reward(problem.step(slots, now, decision)[1])
    np.testing.assert_allclose(got, every.max(axis=0), rtol=1e-13)
    assert decision.exit.shape == decision.partition.shape == reward.shape == (80,)
    # What it is made of, and other batches.
    _, free, cost, energy = try_all(slots, now, problem.scenario)
    np.testing.assert_allclose(cost.T, -every, rtol=1e-12)
    np.testing.assert_allclose(energy.T, spent, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(np.moveaxis(free, 1, 0), np.maximum(frees, 0.0), atol=1e-12)
    _, folded = slot_optimum(
        *(
            arrays.map_arrays(lambda a: a.reshape(4, 20, *a.shape[1:]), part)
            for part in (slots, now)
        ),
        problem.scenario,
    )
    assert np.array_equal(folded.ravel(), reward)
    alone, single = slot_optimum(arrays.at(slots, 7), arrays.at(now, 7), problem.scenario)
    assert single == reward[7] and np.shape(alone.exit) == ()
    assert len(np.unique(decision.exit)) > 1
    if busy:
        assert model.occupied(now.under_way).sum() > 20


def test_slot_optimum_by_hand():
    """Early and late answers, here and there, in the hand network."""
    scenario = cases.scenario()
    now = cases.state_of(np.zeros(3), 11.0, 3.0)

    def best(slot, state=now):
        decision, reward = slot_optimum(slot, state, scenario)
        return (int(decision.exit), int(decision.partition)), float(reward)

    # A good link: the late exit on the edge, 6000 bits in 6 ms, 0.019 / 0.5 s.
    choice, reward = best(cases.one_slot(bandwidth=1e6))
    assert choice == (1, 0)
    assert reward == pytest.approx(
        -(2.7 * 0.05 + 0.31 * 0.4 * 0.044 / 0.25 + 0.17 * 1.9 * 0.006), rel=1e-12
    )
    # No link at all: the late exit on the device, 0.2 s.
    assert best(cases.one_slot(bandwidth=1.0))[0] == (1, 6)
    # ... in too great a hurry for it: 0.0625 s for the early one, cheaper by the miss.
    hurry = cases.one_slot(bandwidth=1.0, deadline=0.1, priority=1.0)
    choice, reward = best(hurry)
    assert choice == (0, 2)
    assert reward == pytest.approx(-(2.7 * 0.3 + 0.31 * 0.625 + 0.17 * 3 * 0.05), rel=1e-12)
    # The device is busy for long and there is no link: nothing can be started.
    stuck = cases.state_of([0.89, 0, 0], 11.0, 3.0)
    _, reward = best(hurry, stuck)
    assert reward == pytest.approx(-(2.7 + 0.31 * 9.0 + 1.3), rel=1e-12)


# --- the bound of an episode


def tiny_network(rng, bits=4e3, device_s=0.04, edge_s=0.01, raw=None):
    """A chain of three layers with a head on its first: 3 + 3 partitions at the most."""
    links = ((0, 1), (1, 2), (1, 3))
    times = [np.append(0.0, scale * rng.lognormal(0, 0.5, 3)) for scale in (device_s, edge_s)]
    early, late = np.sort(rng.uniform(0.5, 1.0, 2))
    sizes = bits * rng.lognormal(0, 0.8, 4)
    sizes[0] = raw or sizes[0]
    return cases.network(links, sizes, *times, ((3, float(early)), (2, float(late))))


def tiny_scenario(rng, horizon=5, **changes):
    net = tiny_network(rng, *changes.pop("scale", ()), raw=changes.pop("raw", None))
    values = {
        "network": net,
        "horizon": horizon,
        "bandwidth": Regimes((3e4, 3e5), dwell_s=0.3, spread=0.3, memory_s=0.2),
        "load_memory_s": 0.3,
        "battery": 50.0,
        "timeout_s": 0.6,
        "arrival_frames": 2.0,
        "under_way": horizon,
    }
    return cases.scenario(**{**values, **changes})


REGIMES = {
    "usual": {},
    "light": {"arrival_rates": (0.5, 2.0)},
    "heavy": {"arrival_rates": (20.0, 60.0)},
    "flood": {"arrival_rates": (500.0,)},
    "timeouts": {
        "arrival_rates": (30.0,),
        "timeout_s": 0.15,
        "deadline": (0.05, 0.15),
        "scale": (8e3, 0.06, 0.02),
    },
    "battery": {"battery": 0.25, "arrival_rates": (10.0,)},
    "empty battery": {"battery": 0.03, "arrival_rates": (10.0,)},
    "urgent": {"urgent_share": 1.0, "arrival_rates": (30.0,), "miss_weight": 9.0},
    "device": {"scale": (4e3, 0.15, 0.003), "arrival_rates": (10.0,)},
    "link": {"scale": (3e4, 0.05, 0.003), "arrival_rates": (10.0,)},
    "edge": {"scale": (1e3, 0.3, 0.1), "arrival_rates": (10.0,)},
    "nothing but accuracy": {
        "latency_weight": 0.0,
        "miss_weight": 0.0,
        "energy_weight": 0.0,
        "arrival_rates": (60.0,),
        "timeout_s": 0.1,
        "deadline": (0.05, 0.1),
    },
}


@functools.cache
def tiny_episodes(regime, networks=5, episodes=10):
    """(problem, trace, exhaustive optimum) of some networks; 50 episodes per regime."""
    rng = np.random.default_rng(list(REGIMES).index(regime))
    found = []
    for k in range(networks):
        problem = EarlyExitPartition(tiny_scenario(rng, 4 + k % 2, **REGIMES[regime]))
        trace = problem.sample(rng, episodes)
        found.append((problem, trace, cases.exhaustive_best(problem, trace)))
    return found


def test_exhaustive_search_by_hand():
    """The tree is walked as a loop over all sequences would, each of them simulated."""
    rng = np.random.default_rng(2)
    problem = EarlyExitPartition(tiny_scenario(rng, 3, arrival_rates=(25.0,), battery=0.5))
    trace = problem.sample(rng, 2)
    best = cases.exhaustive_best(problem, trace)
    decisions, scenario = all_decisions(problem.scenario), problem.scenario
    pairs = list(zip(decisions.exit.tolist(), decisions.partition.tolist(), strict=True))
    for e in range(2):
        one = arrays.at(trace, e)
        weight = scenario.latency_weight * one.priority / one.deadline
        largest = -np.inf
        for sequence in itertools.product(pairs, repeat=3):
            exits, cuts = np.array(sequence).T
            found = cases.simulated(problem, one, exits, cuts)
            latency, late = np.full(3, scenario.timeout_s), np.ones(3, dtype=bool)
            right = np.zeros(3)
            latency[found.started], late[found.started] = found.latency, found.late
            right[found.started] = scenario.accuracy[exits[found.started]]
            cost = scenario.accuracy_weight * (1 - right) + weight * latency
            cost = cost + scenario.miss_weight * one.priority * late
            total = -cost.sum() - scenario.energy_weight * found.joules.sum()
            largest = max(largest, total)
        assert best[e] == pytest.approx(largest, rel=1e-9)


MOST_SLOW = slow_except(REGIMES, "usual", "timeouts", "battery")


@pytest.mark.parametrize("regime", MOST_SLOW)
def test_the_bound_is_never_below_the_clairvoyant_optimum(regime):
    matters = False
    for problem, trace, best in tiny_episodes(regime):
        # With few levels and many; by the problem's own door as well.
        for levels in (2, 13, 64):
            bound = episode_bound(trace, problem.scenario, levels)
            assert bound.shape == best.shape
            assert (bound >= best - 1e-9 * np.abs(best)).all()
        assert np.array_equal(problem.bound(trace), episode_bound(trace, problem.scenario))
        matters |= (bound < idle_optimum(problem, trace) - 1e-6).any()
    # It is no mere sum of slots, wherever frames can meet in a queue.
    assert matters or regime in ("light", "empty battery")


@pytest.mark.parametrize(
    "regime", slow_except(["battery", "empty battery", "usual"], "battery", "usual")
)
def test_the_price_of_energy_tightens_the_bound_where_the_battery_binds(regime, monkeypatch):
    gained = []
    for problem, trace, _ in tiny_episodes(regime):
        bound = problem.bound(trace)
        with monkeypatch.context() as patch:
            patch.setattr(exact, "PRICES", np.zeros(0))
            free = problem.bound(trace)
        assert (bound <= free).all()
        gained.append(free - bound)
    gained = np.concatenate(gained)
    if regime == "usual":  # 50 J are never spent
        assert (gained == 0).all()
    else:
        assert gained.mean() > 0.3


def idle_optimum(problem, trace):
    """Sum of the optima of the slots with empty queues and a full battery, (n,)."""
    shape = (*trace.bandwidth.shape[:2], 3, trace.uplink.shape[-1])
    slots = dataclasses.replace(trace, uplink=np.broadcast_to(trace.uplink, shape))
    state = problem.start(slots)
    state = dataclasses.replace(state, free=state.free + slots.arrival[..., None])
    return slot_optimum(slots, state, problem.scenario)[1].sum(axis=1)


@pytest.mark.parametrize("regime", MOST_SLOW)
def test_the_bound_is_no_looser_than_idle_slots(regime, monkeypatch):
    """But for energy, which is counted at the highest rate that may come.

    Between two ticks of its ruler it may take a rate for a better one; here they are very close.
    """
    monkeypatch.setattr(exact, "_WINDOW", 4096)
    for problem, trace, _ in tiny_episodes(regime):
        problem = EarlyExitPartition(dataclasses.replace(problem.scenario, energy_weight=0.0))
        bound, idle = problem.bound(trace), idle_optimum(problem, trace)
        if problem.scenario.battery > 1:  # who cannot pay earns less
            assert (bound <= idle + 2e-3 * np.abs(idle)).all()


def test_the_bound_is_tight_when_frames_never_meet():
    rng = np.random.default_rng(40)
    for _ in range(5):
        problem = EarlyExitPartition(tiny_scenario(rng, 5, arrival_rates=(1e-3, 2e-3), battery=1e6))
        trace = problem.sample(rng, 10)
        trace.interval[:] += problem.scenario.timeout_s
        trace = follow_bandwidth(trace)
        best = cases.exhaustive_best(problem, trace)
        np.testing.assert_allclose(problem.bound(trace), best, rtol=1e-9)
        np.testing.assert_allclose(idle_optimum(problem, trace), best, rtol=1e-12)
    # Longer, and with a network of a hundred partitions.
    net = cases.random_network(rng, most=10, exits=3)
    problem = EarlyExitPartition(
        cases.scenario(network=net.graph, candidates=2000, horizon=30, battery=1e6)
    )
    trace = problem.sample(rng, 20)
    trace.interval[:] = 1.01 * problem.scenario.timeout_s
    trace = follow_bandwidth(trace)
    np.testing.assert_allclose(problem.bound(trace), idle_optimum(problem, trace), rtol=1e-9)
    agent = SolverAgent(problem, SlotOptimumSolver(problem.scenario))
    # Observations are float32: of two decisions that are nearly as good it may take the other.
    np.testing.assert_allclose(
        rollout(problem, agent, trace).returns, problem.bound(trace), rtol=1e-4
    )


ONE_STAGE = {
    # Sending is out of the question: both exits on the device, or nothing.
    "device": ((1e7, 0.06, 0.01), {"bandwidth": Regimes((2e4,))}),
    # The device is out of the question and the edge takes no time: all is sent raw.
    "raw": ((4e3, 10.0, 1e-9), {"bandwidth": Regimes((5e4,), spread=0.0)}),
    # At a rate that changes, energy is counted at the highest that may come.
    "any rate": (
        (4e3, 10.0, 1e-9),
        {"bandwidth": Regimes((5e4,), memory_s=0.1), "energy_weight": 0},
    ),
    # The link alone is slow, and who does not compute first has far too much to send.
    "computed": (
        (4e3, np.array([1e-3, 10.0, 10.0]), 1e-9),
        {"bandwidth": Regimes((5e4,), spread=0.0), "raw": 1e7},
    ),
}


@pytest.mark.parametrize("stage", slow_except(ONE_STAGE, "raw"))
def test_the_bound_is_nearly_tight_where_only_one_queue_matters(stage, monkeypatch):
    """There the relaxation relaxes nothing but the backlog's last digits."""
    monkeypatch.setattr(exact, "_WINDOW", 1024)
    scale, changes = ONE_STAGE[stage]
    rng = np.random.default_rng(50)
    gaps, queue = [], []
    for _ in range(4):
        scenario = tiny_scenario(
            rng, 5, scale=scale, arrival_rates=(12.0, 30.0), **changes, latency_weight=0.9
        )
        problem = EarlyExitPartition(scenario)
        trace = problem.sample(rng, 20)
        best = cases.exhaustive_best(problem, trace)
        bound = episode_bound(trace, scenario, levels=600)
        assert (bound >= best - 1e-9 * np.abs(best)).all()
        gaps.append((bound - best) / np.abs(best))
        queue.append((idle_optimum(problem, trace) - best) / np.abs(best))
    gaps, queue = np.concatenate(gaps), np.concatenate(queue)
    assert gaps.mean() < 0.006 and np.quantile(gaps, 0.9) < 0.005, (gaps.mean(), gaps.max())
    assert queue.mean() > 0.1  # while queues cost a lot


def test_more_levels_never_loosen_the_bound():
    rng = np.random.default_rng(60)
    net = cases.random_network(rng, exits=2)
    scenario = cases.scenario(network=net.graph, candidates=2000, arrival_rates=(15.0, 40.0))
    trace = scenario.sample(rng, 25)
    bounds = [episode_bound(trace, scenario, levels) for levels in (2, 12, 40, 150, 600)]
    for few, many in itertools.pairwise(bounds):
        # Grids are not nested: a single episode may lose a little.
        assert (many <= few + 1e-3 * np.abs(few)).all()
        assert many.mean() <= few.mean() + 1e-9
    assert bounds[-1].mean() < bounds[0].mean() - 1e-4


@pytest.mark.parametrize("regime", MOST_SLOW)
def test_a_finer_nested_grid_never_loosens_the_bound(regime):
    """Twice as many steps keep every level there was: then no episode may lose anything."""
    tightened = 0
    for problem, trace, _ in tiny_episodes(regime)[:2]:
        for chain in ((13, 25, 49, 97), (12, 23, 45)):
            bounds = [episode_bound(trace, problem.scenario, levels) for levels in chain]
            for few, many in itertools.pairwise(bounds):
                assert (many <= few + 1e-9 * np.abs(few)).all()
                tightened += (many < few - 1e-9).sum()
    assert tightened > 0 or regime in ("light", "empty battery")


@pytest.mark.parametrize("regime", MOST_SLOW)
def test_no_grid_loses_what_the_coarse_one_found(regime):
    """The 12 levels on which each queue is tried are a bound whatever the fine grid says."""
    for problem, trace, _ in tiny_episodes(regime)[:3]:
        found = [
            exact.queue_values(
                trace, problem.scenario, queue, 12, np.zeros((len(trace.interval), 1))
            )
            for queue in ("device", "raw", "computed")
        ]
        coarse = np.min(found, axis=0)[:, 0]
        for levels in (2, 5, 13, 30):
            assert (episode_bound(trace, problem.scenario, levels) <= coarse).all()


@pytest.mark.parametrize(
    "load",
    slow_except(["light", "heavy", "short of battery", "short of time"], "short of battery"),
)
def test_no_agent_beats_the_bound(load):
    changes = {
        "light": {"arrival_rates": (3.0,)},
        "heavy": {"arrival_rates": (12.0, 40.0)},
        "short of battery": {"arrival_rates": (12.0,), "battery": 1.0},
        "short of time": {"arrival_rates": (25.0,), "timeout_s": 0.3, "deadline": (0.1, 0.3)},
    }[load]
    rng = np.random.default_rng(70)
    gaps = {}
    for exits in (2, 3):
        net = cases.random_network(rng, exits=exits)
        problem = EarlyExitPartition(
            cases.scenario(network=net.graph, candidates=2000, horizon=40, **changes)
        )
        trace = problem.sample(rng, 40)
        bound = problem.bound(trace)
        agents = {
            "random": UniformPolicy(problem, 5),
            "greedy": SolverAgent(problem, SlotOptimumSolver(problem.scenario)),
            **{
                f"price {p}": SolverAgent(
                    problem, BacklogPriceSolver(problem.scenario, (p, p, p, 0.1 * p))
                )
                for p in (0.3, 2.0, 9.0)
            },
        }
        for name, agent in agents.items():
            returns = rollout(problem, agent, trace).returns
            assert (returns <= bound + 1e-9 * np.abs(bound)).all(), name
            gaps.setdefault(name, []).append((bound - returns).mean() / np.abs(bound).mean())
    assert min(gaps["greedy"]) < min(gaps["random"])


def test_the_bound_of_a_batch_is_that_of_its_episodes():
    """Across the chunks that are worked on at a time too: nobody's bound depends on the others."""
    rng = np.random.default_rng(80)
    scenario = tiny_scenario(rng, 5, arrival_rates=(20.0,))
    trace = scenario.sample(rng, 200)
    together = episode_bound(trace, scenario)
    for i in range(0, 200, 3):
        assert episode_bound(arrays.at(trace, slice(i, i + 1)), scenario) == together[i]
    assert episode_bound(arrays.at(trace, slice(0, 0)), scenario).shape == (0,)


def test_each_episode_has_the_stage_that_bounds_it_best():
    """Episodes whose device or link is scarce, in one batch: each as tight as by itself."""
    rng = np.random.default_rng(81)
    scenario = tiny_scenario(
        rng,
        5,
        scale=(4e3, 0.04, 0.02),
        arrival_rates=(12.0,),
        latency_weight=0.9,
        bandwidth=Regimes((1.0, 1e9)),
    )
    problem = EarlyExitPartition(scenario)
    trace = scenario.sample(rng, 60)
    kind = np.arange(60) % 2
    trace.bandwidth[:] = np.array([1.0, 5e4])[kind, None]
    trace.device_speed[:] = np.array([0.9, 1e-3])[kind, None]
    trace.edge_speed[:] = 0.9
    trace.edge_speed[kind == 1] = 1e6  # takes no time
    trace = follow_bandwidth(trace)
    best = cases.exhaustive_best(problem, trace)
    gap = (episode_bound(trace, scenario, levels=600) - best) / np.abs(best)
    queue = (idle_optimum(problem, trace) - best) / np.abs(best)
    for k in range(2):
        assert gap[kind == k].mean() < 0.01 < 0.05 < queue[kind == k].mean()


@pytest.mark.parametrize("levels", [2, 64])
def test_a_frame_that_is_done_exactly_at_the_timeout_may_be_served(levels):
    """The fastest decision takes the timeout to the last digit, and every other one longer."""
    rng = np.random.default_rng(95)
    used = set()
    for _ in range(60):
        net = tiny_network(rng)
        wide = cases.scenario(network=net, horizon=1, timeout_s=1e3, battery=1e9, energy_weight=0)
        trace = wide.sample(rng, 1)
        trace.bandwidth[:] = 10 ** rng.uniform(4.0, 6.0)
        trace = follow_bandwidth(trace)
        now = EarlyExitPartition(wide).start(arrays.slot_at(trace, 0))
        decisions, free, _, _ = try_all(arrays.slot_at(trace, 0), now, wide)
        exact = float(free.max(axis=-1).min())
        fastest = free.max(axis=-1).argmin()
        used.add(tuple((free[0, fastest] > 0).tolist()))
        problem = EarlyExitPartition(
            cases.scenario(
                network=net,
                horizon=1,
                timeout_s=exact,
                deadline=(exact / 2, exact),
                battery=1e9,
                energy_weight=0.0,
            )
        )
        trace.deadline[:] = exact
        best = cases.exhaustive_best(problem, trace)
        right = problem.scenario.accuracy[decisions.exit[fastest]]
        priority = float(trace.priority[0, 0])
        assert best[0] == pytest.approx(-2.7 * (1 - right) - 0.31 * priority, rel=1e-12)
        bound = episode_bound(trace, problem.scenario, levels)
        np.testing.assert_allclose(bound, best, rtol=1e-9)
    assert len(used) >= 2


@pytest.mark.parametrize("networks", slow_except([8, 40], 8))
def test_rounding_is_on_the_side_of_the_bound(networks):
    """Deadlines, timeouts and arrivals that are met to the last digit, in hundredths of a second.

    They have no finite binary form, so that sums in another order differ by a rounding.
    """
    rng = np.random.default_rng(90)
    met = 0
    for _ in range(networks):
        costs = [np.append(0, rng.integers(1, most, 3)) for most in (5, 8, 5)]
        bits, device_s, edge_s = (
            c * unit for c, unit in zip(costs, (100, 0.01, 0.01), strict=True)
        )
        net = cases.network(
            ((0, 1), (1, 2), (1, 3)), [300, *bits[1:]], device_s, edge_s, ((3, 0.6), (2, 0.9))
        )
        problem = EarlyExitPartition(
            cases.scenario(
                network=net,
                horizon=4,
                timeout_s=0.2,
                deadline=(0.1, 0.2),
                battery=99.0,
                miss_weight=5.0,
                bandwidth=Regimes((1e4,), spread=0.0),
            )
        )
        trace = problem.sample(rng, 20)
        trace.device_speed[:] = trace.edge_speed[:] = 1.0
        trace.interval[:] = rng.integers(0, 12, (20, 4)) * 0.01
        trace = follow_bandwidth(trace)
        trace.deadline[:] = rng.integers(10, 21, (20, 4)) * 0.01
        best = cases.exhaustive_best(problem, trace)
        for levels in (2, 13, 41, 300):
            bound = episode_bound(trace, problem.scenario, levels)
            assert (bound >= best - 1e-9 * np.abs(best)).all()
        met += (bound - best < 1e-9).sum()
    assert met > 2.5 * networks  # often it is met exactly
