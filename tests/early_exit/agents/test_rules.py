"""Rules of one frame on paper and against second opinions, and what the agents' names mean."""

import early_exit.cases as cases
import layer_graphs
import numpy as np
import pytest
from early_exit.cases import HAND_EARLY, HAND_LATE, idle, one_slot, pair

from agents.early_exit.backlog_price import BacklogPriceSolver, tune_prices
from agents.early_exit.dapdee import choose_exit
from agents.early_exit.mincut import weighted_search
from agents.early_exit.rules import (
    ExactLoadSolver,
    FixedCutSolver,
    NeurosurgeonSolver,
    SlotOptimumSolver,
    nearest_candidate,
    prefix_costs,
)
from agents.registry import make_agent
from mec_gym.early_exit.exact import slot_optimum
from mec_gym.early_exit.lookup import Lookup
from mec_gym.early_exit.model import service_times
from mec_gym.early_exit.problem import EarlyExitPartition

HAND = cases.scenario()


def layer_times(scenario, graph):
    return [d.layer_seconds(graph) for d in (scenario.device, scenario.edge)]


def test_device_only_and_edge_only_by_hand():
    slots = cases.random_slots(np.random.default_rng(0), (2, 3))
    for on_edge, expected in ((False, HAND_LATE[-1]), (True, HAND_LATE[0])):
        solution = FixedCutSolver(HAND, on_edge).solve(slots, idle((2, 3)))
        assert solution.decision.exit.shape == solution.decision.partition.shape == (2, 3)
        assert (solution.decision.exit == 1).all() and solution.evaluations == 0
        cost = HAND.table.cost[1, solution.decision.partition]
        np.testing.assert_allclose(cost, np.broadcast_to(expected, (2, 3, 3)), rtol=1e-12)


def test_nearest_candidate_by_hand():
    late = np.array(HAND_LATE)
    assert nearest_candidate(HAND, 1, late).tolist() == list(range(7))
    assert nearest_candidate(HAND, 0, np.array(HAND_EARLY)).tolist() == [0, 1, 2]
    # The largest of the three differences counts, in units of 0.16 s, 6000 bits and 0.019 s: the
    # next candidate is 400 bits off.
    assert nearest_candidate(HAND, 1, late[4] + [0.0105, 0, 0]) == 4
    assert nearest_candidate(HAND, 1, late[4] + [0.0108, 0, 0]) == 5
    assert nearest_candidate(HAND, 1, np.array([0.05, 6000.0, 0.017])) == 0
    assert nearest_candidate(HAND, 1, late[[[6, 2], [3, 1]]]).tolist() == [[6, 2], [3, 1]]


def test_prefix_costs():
    """Every tensor that something behind the cut reads is charged, and it is charged once."""
    graph = HAND.table.fronts[1].graph
    expected = [HAND_LATE[k] for k in (0, 1, 2, 4, 5, 6)]
    np.testing.assert_allclose(prefix_costs(graph, *layer_times(HAND, graph)), expected, rtol=1e-12)
    for one in layer_graphs.random_cases(32, 60):
        count = len(one.bits)
        on_edge = [tuple(int(v > cut) for v in range(count)) for cut in range(count)]
        assert all(layer_graphs.valid(one.links, x) for x in on_edge)
        expected = [layer_graphs.triple(one, x) for x in on_edge]
        np.testing.assert_allclose(prefix_costs(one.graph, *one.times), expected, rtol=1e-12)


def test_neurosurgeon_by_hand():
    solver = NeurosurgeonSolver(HAND)
    # At full speed and 20 kbit/s: 0.319, 0.155, 0.197, (0.225), 0.167, 0.156, 0.16.
    slot = one_slot(device_speed=1.0, edge_speed=1.0, bandwidth=2e4)
    solution = solver.solve(slot, idle())
    assert pair(solution.decision) == (1, 1) and solution.evaluations == 6
    slot = one_slot(device_speed=1.0, edge_speed=1.0, bandwidth=1.8e4)
    assert pair(solver.solve(slot, idle()).decision) == (1, 5)  # 0.166, 0.1582, 0.16
    for bandwidth, expected in ((1e6, 0), (1.0, 6)):
        decision = solver.solve(one_slot(bandwidth=bandwidth), idle()).decision
        assert pair(decision) == (1, expected)


@pytest.mark.parametrize("chain", [True, False])
def test_neurosurgeon_is_exact_on_chains_and_not_on_graphs(chain):
    rng = np.random.default_rng(1)
    worse = 0
    for _ in range(20):
        if chain:
            count = int(rng.integers(2, 8))
            bits = 5e3 * rng.lognormal(0, 1, count)
            both = [np.append(0, s * rng.lognormal(0, 1, count - 1)) for s in (0.03, 0.004)]
            links = [(v, v + 1) for v in range(count - 1)]
            graph = cases.network(links, bits, *both, ((count - 1, 0.9),))
            problem = EarlyExitPartition(cases.scenario(network=graph, candidates=2000))
        else:
            problem, _ = cases.random_problem(rng)
        scenario, slots = problem.scenario, cases.random_slots(rng, (50,))
        front = scenario.table.fronts[-1]
        exact = Lookup(front.cost).light(slots)[1]
        cuts = prefix_costs(front.graph, *layer_times(scenario, front.graph))
        best = Lookup(cuts).light(slots)[1]
        assert (best >= exact * (1 - 1e-12)).all()
        worse += (best > exact * (1 + 1e-9)).sum()
        # What is played is a candidate, so it is never better than the best of them.
        decision = NeurosurgeonSolver(scenario).solve(slots, idle((50,))).decision
        assert (decision.exit == scenario.exits - 1).all()
        chosen = scenario.table.cost[decision.exit, decision.partition]
        played = np.diagonal(cases.times_in_all(chosen, slots))
        assert (played >= exact * (1 - 1e-12)).all()
        if chain:
            np.testing.assert_allclose(played, exact, rtol=1e-12)
    assert worse == 0 if chain else worse > 10


@pytest.mark.parametrize("load", ["light", "heavy"])
def test_exact_load_solver(load):
    rng = np.random.default_rng(2)
    for exits in (1, 3):
        problem, net = cases.random_problem(rng, exits=exits)
        slots = cases.random_slots(rng, (2, 30))
        solution = ExactLoadSolver(problem.scenario, load).solve(slots, idle((2, 30)))
        decision = solution.decision
        assert (decision.exit == exits - 1).all() and decision.exit.shape == (2, 30)
        assert solution.evaluations == problem.scenario.table.sizes[-1]
        every = np.array([cost for _, cost in layer_graphs.triples(net.at_exit[-1])])
        candidates = problem.scenario.table.candidates(exits - 1)
        if load == "light":
            times, known = (cases.times_in_all(cost, slots) for cost in (every, candidates))
        else:
            times, known = (
                service_times(cost, cases.widen(slots)).max(-1) for cost in (every, candidates)
            )
        got = np.take_along_axis(known, decision.partition[..., None], -1)[..., 0]
        np.testing.assert_allclose(got, times.min(-1), rtol=1e-12)


def test_slot_optimum_solver_looks_at_queues_and_battery():
    rng = np.random.default_rng(3)
    problem, _ = cases.random_problem(rng)
    slots, now = cases.random_slots(rng, (200,)), cases.random_states(rng, (200,))
    solution = SlotOptimumSolver(problem.scenario).solve(slots, now)
    reward = problem.reward(problem.step(slots, now, solution.decision)[1])
    np.testing.assert_allclose(reward, slot_optimum(slots, now, problem.scenario)[1], rtol=1e-13)
    assert solution.evaluations == problem.scenario.table.sizes.sum()
    blind = SlotOptimumSolver(problem.scenario).solve(slots, idle((200,))).decision
    assert (problem.reward(problem.step(slots, now, blind)[1]) < reward - 1e-6).any()


def test_names_mean_what_they_say():
    """Each name is known by what it decides, on a network on which they all differ."""
    rng = np.random.default_rng(10)
    problem, _ = cases.random_problem(rng, horizon=20, arrival_rates=(14.0, 24.0))
    scenario, table = problem.scenario, problem.scenario.table
    last = scenario.exits - 1
    observation = cases.moments(problem, 200, seed=7)
    slots, now = problem.decode(observation)
    stages = service_times(table.candidates(last), cases.widen(slots))  # (n, F, 3)
    light = cases.times_in_all(table.candidates(last), slots).argmin(-1)
    heavy = stages.max(-1).argmin(-1)
    search, _ = weighted_search(stages)
    slowest = np.take_along_axis(stages.max(-1), light[:, None], -1)[:, 0]
    graph = table.fronts[-1].graph
    prefixes = prefix_costs(graph, *layer_times(scenario, graph))
    prefix = cases.times_in_all(prefixes, slots).argmin(-1)
    cuts = {
        "exact-light": light,
        "mincut": light,
        "exact-heavy": heavy,
        "weighted-search": search,
        "dads": np.where(slowest * slots.arrival_rate > 1.0, search, light),
        "neurosurgeon": nearest_candidate(scenario, last, prefixes[prefix]),
        "device-only": np.full(200, table.sizes[last] - 1),
        "edge-only": np.zeros(200),
    }
    tuned = BacklogPriceSolver(scenario, tune_prices(problem)).solve(slots, now)
    optimum, _ = slot_optimum(slots, now, scenario)
    lookups = [Lookup(table.candidates(n)) for n in range(scenario.exits)]
    light_load = choose_exit(lookups, slots, np.zeros(200, dtype=bool))
    expected = {
        **{name: (np.full(200, last), cut) for name, cut in cuts.items()},
        "exact": (optimum.exit, optimum.partition),
        "price": (tuned.decision.exit, tuned.decision.partition),
        "dapdee": (light_load.exit, light_load.partition),
    }
    played = {}
    for name, (exits, partitions) in expected.items():
        played[name] = make_agent(name, problem).predict(observation)[0]
        rows = slots.priority == 1.0 if name == "dapdee" else slice(None)  # those are light
        assert np.array_equal(played[name][rows], np.stack([exits, partitions], -1)[rows]), name
    # All rules differ somewhere, except for the two that solve the same problem.
    distinct = {action.tobytes() for action in played.values()}
    assert len(distinct) == len(played) - 1
