"""Solvers as agents: through float32 observations and actions, alone and in a batch."""

import dataclasses

import numpy as np
import pytest
from training_offload.oracle import MBIT, VARIANTS, random_scenario, random_slot

import mec_gym
from agents.registry import make_agent
from agents.solver_agent import SolverAgent
from agents.training_offload.energy_price import (
    EnergyPriceSolver,
    EqualBudgetSolver,
    tune_energy_price,
)
from agents.training_offload.exact import ExactSolver
from agents.training_offload.random_split import RandomSplitSolver
from mec_gym.core import arrays
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.training_offload import model
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario, Slot

PAPER = mec_gym.make_problem("mec/TrainingOffloadPaper-v0")
DRIVE = mec_gym.make_problem("mec/TrainingOffload-v0")
DETERMINISTIC = ("device-only", "end-cloud", "end-edge", "exact", "budget", "price")


def first(problem, seed, n):
    slot = arrays.at(sample_episodes(problem, seed, n), (slice(None), 0))
    return slot, problem.start(slot)


def delay_and_energy(scenario, slot, decision):
    rich = State(np.full(slot.work.shape, 1e12), np.ones(slot.work.shape))
    outcome = model.evaluate(slot, rich, decision, scenario)
    delay = np.max([outcome.edge_s, outcome.device_s, outcome.cloud_s], axis=0)
    return delay, outcome.energy_j


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("problem", [PAPER, DRIVE], ids=["paper", "drive"])
def test_single_equals_batch(problem, name):
    agent = make_agent(name, problem)
    slot, state = first(problem, 0, 24)
    # In the middle of a drive, nearly empty batteries among them.
    battery = state.battery * np.linspace(0.005, 1.0, 24)
    state = State(battery, np.arange(24.0) % problem.horizon + 1)
    batch = problem.observe(slot, state)
    actions, memory = agent.predict(batch, "mine", deterministic=True)
    assert memory == "mine"
    assert actions.dtype == np.float32 and actions.shape == (24, 11)
    for i in range(24):
        alone, _ = agent.predict(batch[i])
        assert alone.shape == (11,)
        np.testing.assert_allclose(alone, actions[i], rtol=1e-6, atol=1e-7)
        assert problem.action_space.contains(actions[i])
    # Shapes beyond one batch axis as well.
    folded, _ = agent.predict(batch.reshape(4, 6, -1))
    assert np.array_equal(folded.reshape(24, 11), actions)


def test_device_only_cloud_and_edge_schemes_use_what_they_may():
    slot, state = first(PAPER, 0, 200)
    observation = PAPER.observe(slot, state)
    used = {}
    for name in DETERMINISTIC[:4]:
        decision = PAPER.decision(make_agent(name, PAPER).predict(observation)[0])
        used[name] = (decision.edge_share > 1e-9, decision.cloud_share > 1e-9)
    assert not used["device-only"][0].any() and not used["device-only"][1].any()
    assert not used["end-cloud"][0].any() and used["end-cloud"][1].all()
    assert used["end-edge"][0].all() and not used["end-edge"][1].any()
    assert used["exact"][0].all() and used["exact"][1].all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_through_float32_on_the_paper(variant):
    problem = TrainingOffload(Scenario(variant=variant))
    trace = sample_episodes(problem, 0, 500)
    latency = rollout(problem, make_agent("exact", problem), trace).outcomes.latency_s[:, 0]
    gap = latency / (-problem.bound(trace) * problem.scenario.deadline) - 1.0
    assert (gap > -1e-9).all()
    assert gap.max() < 1e-5  # 0.001 %


@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_through_float32_at_the_corners(variant):
    """Where the optimum stands on a hand-over, rounding must not push it across."""
    rng = np.random.default_rng(5)
    corners = 0
    for _ in range(30):
        problem = TrainingOffload(random_scenario(rng, variant, 2))
        slot = random_slot(rng, (40,), 2)
        slot = dataclasses.replace(slot, connection_estimate=slot.connection_time)
        best, decision = SlotFrontier(slot, problem.scenario).best(problem.scenario.battery)
        route = model.route(slot, decision.server, decision.next_server)
        sides = [
            model.migration_case(best.edge * (1 + e), route, problem.scenario)
            for e in (-1e-5, 1e-5)
        ]
        corners += int((sides[0] != sides[1]).sum())
        trace = arrays.map_arrays(lambda a: a[:, None], slot)
        latency = rollout(problem, make_agent("exact", problem), trace).outcomes.latency_s[:, 0]
        gap = latency / best.delay - 1.0
        assert (gap > -1e-9).all()
        assert gap.max() < 1e-5
    assert corners > 20


def test_best_without_a_limit_is_a_delay_that_can_be_had():
    scenario = Scenario(
        device_compute=1.1 * MBIT, server_uplink=(24 * MBIT,), server_downlink=(5 * MBIT,),
        server_compute=(4.8 * MBIT,), cloud_uplink=2.7 * MBIT, backhaul=82 * MBIT,
    )  # fmt: skip
    both = np.ones((2, 1))
    slot = Slot(
        np.array(117 * MBIT), np.array(5.2), np.array(5.2), np.array(0.0), np.array(0.0),
        both * 24 * MBIT, both * 5 * MBIT, MBIT * np.array([[4.8], [22.0]]),
    )  # fmt: skip
    limited, _ = SlotFrontier(slot, scenario).best(1e9)
    best, decision = SlotFrontier(slot, scenario).best()
    assert delay_and_energy(scenario, slot, decision)[0] == pytest.approx(best.delay, rel=1e-9)
    assert best.delay == limited.delay


def test_exact_at_the_energy_limit():
    """A battery that binds is used up to rounding, and never overdrawn."""
    problem = TrainingOffload(Scenario(battery=24.0, work=(100 * MBIT, 150 * MBIT)))
    trace = sample_episodes(problem, 0, 200)
    result = rollout(problem, make_agent("exact", problem), trace)
    assert not result.outcomes.battery_short.any()
    energy = result.outcomes.energy_j[:, 0]
    assert (energy <= 24.0).all()
    assert (energy > 24.0 * (1 - 1e-5)).sum() > 100
    gap = result.returns / problem.bound(trace) - 1
    assert (gap > -1e-9).all() and gap.max() < 1e-5


def test_budget_by_hand():
    # 100 Mbit: 32.5 J on the device, 0.1562 J a Mbit away from it. Within 20 J at least
    # (32.5 - 20) / (0.325 - 0.1562) = 74.052 Mbit must leave; the fastest split of all keeps more.
    slot, _ = first(PAPER, 0, 1)
    slot = dataclasses.replace(slot, work=np.array([100 * MBIT]))
    solver = EqualBudgetSolver(PAPER.scenario)

    def away(battery, tasks):
        state = State(np.array([battery]), np.array([tasks]))
        decision = solver.solve(slot, state).decision
        return float(decision.edge_share[0] + decision.cloud_share[0])

    assert away(200.0, 10.0) == pytest.approx(0.74052133, rel=1e-5)
    assert away(40.0, 2.0) == pytest.approx(0.74052133, rel=1e-5)
    exact = (
        ExactSolver(PAPER.scenario).solve(slot, State(np.array([1e3]), np.array([1.0]))).decision
    )
    fastest = float(exact.edge_share[0] + exact.cloud_share[0])
    assert fastest < 0.74
    assert away(1000.0, 10.0) == pytest.approx(fastest, rel=1e-9)
    # 15 J pay for no split (15.62 J is the least): the cheapest is taken.
    assert away(150.0, 10.0) == pytest.approx(1.0, rel=1e-9)
    # The last task may use everything; and no task left is no division by zero.
    assert away(20.0, 1.0) == away(20.0, 0.0) == pytest.approx(0.74052133, rel=1e-5)


def test_budget_is_respected_wherever_it_can_be():
    slot, _ = first(DRIVE, 1, 300)
    slot = dataclasses.replace(slot, connection_time=slot.connection_estimate)
    rng = np.random.default_rng(0)
    state = State(rng.uniform(20, 1000, 300), rng.integers(1, 31, 300).astype(float))
    allowed = state.battery / state.tasks_left
    decision = EqualBudgetSolver(DRIVE.scenario).solve(slot, state).decision
    delay, energy = delay_and_energy(DRIVE.scenario, slot, decision)
    cheapest = slot.work * DRIVE.scenario.energy_per_offloaded_bit
    possible = cheapest <= allowed * (1 - 1e-5)
    assert 50 < possible.sum() < 250
    assert (energy[possible] <= allowed[possible]).all()
    np.testing.assert_allclose(energy[~possible], cheapest[~possible], rtol=1e-5)
    fastest, wanted = delay_and_energy(
        DRIVE.scenario, slot, ExactSolver(DRIVE.scenario).solve(slot, DRIVE.start(slot)).decision
    )
    assert (delay >= fastest * (1 - 1e-9)).all()
    ample = wanted < allowed * (1 - 1e-5)
    assert ample.sum() > 20
    np.testing.assert_allclose(delay[ample], fastest[ample], rtol=1e-9)
    tight = possible & ~ample
    assert tight.sum() > 10
    # What is allowed is used, but where a segment's own end stops it from being of use.
    assert (energy[tight] > 0.999 * allowed[tight]).mean() > 0.9


def test_price_zero_is_the_exact_solver_on_an_ample_battery():
    slot, state = first(PAPER, 2, 300)
    free = EnergyPriceSolver(PAPER.scenario, 0.0).solve(slot, state).decision
    exact = ExactSolver(PAPER.scenario).solve(slot, state).decision
    one, other = (delay_and_energy(PAPER.scenario, slot, d) for d in (free, exact))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-9)
    np.testing.assert_allclose(one[1], other[1], rtol=1e-9)


def test_price_zero_is_the_exact_solver_where_the_battery_binds():
    slot, _ = first(PAPER, 2, 100)
    state = State(slot.work * 0.2 / MBIT, np.ones(100))
    free = EnergyPriceSolver(PAPER.scenario, 0.0).solve(slot, state).decision
    exact = ExactSolver(PAPER.scenario).solve(slot, state).decision
    one, other = (delay_and_energy(PAPER.scenario, slot, d)[0] for d in (free, exact))
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_higher_price_never_spends_more_nor_is_it_faster():
    slot, state = first(DRIVE, 3, 300)
    spent, delays = [], []
    for price in (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 1e4):
        decision = EnergyPriceSolver(DRIVE.scenario, price).solve(slot, state).decision
        delay, energy = delay_and_energy(DRIVE.scenario, slot, decision)
        spent.append(energy)
        delays.append(delay)
    assert (np.diff(spent, axis=0) <= 1e-9).all()
    assert (np.diff(delays, axis=0) >= -1e-9).all()
    assert (np.array(spent[-1]) < np.array(spent[0]) - 1).mean() > 0.9
    cheapest = slot.work * DRIVE.scenario.energy_per_offloaded_bit
    np.testing.assert_allclose(spent[-1], cheapest, rtol=1e-5)


def test_price_is_one_for_all_or_one_an_instance():
    slot, state = first(DRIVE, 3, 6)
    prices = np.array([0.0, 0.3, 1.0, 3.0, 0.3, 9.0])
    together = EnergyPriceSolver(DRIVE.scenario, prices).solve(slot, state).decision
    for i, price in enumerate(prices):
        alone = EnergyPriceSolver(DRIVE.scenario, price).solve(slot, state).decision
        for name, field in arrays.as_dict(alone).items():
            assert field[i] == getattr(together, name)[i]


def test_no_decision_is_better_at_the_price():
    """Against 4000 random splits of every task; T_ct is known here."""
    slot, state = first(DRIVE, 4, 40)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet((1.0, 1.0, 0.3), (4000, 40))
    servers = rng.integers(3, size=(2, 4000, 40))
    random = Decision(shares[..., 0], shares[..., 1], servers[0], servers[1])
    wide = arrays.map_arrays(lambda a: np.broadcast_to(a, (4000, *a.shape)), slot)
    delay, energy = delay_and_energy(DRIVE.scenario, wide, random)
    for price in (0.0, 0.7, 2.0, 20.0):
        decision = EnergyPriceSolver(DRIVE.scenario, price).solve(slot, state).decision
        own = delay_and_energy(DRIVE.scenario, slot, decision)
        best = (delay + price * energy).min(axis=0)
        assert (own[0] + price * own[1] <= best * (1 + 1e-5)).all()
        assert (own[0] + price * own[1] > 0.5 * best).all()


def test_price_never_overdraws():
    slot, _ = first(DRIVE, 5, 200)
    cheapest = slot.work * DRIVE.scenario.energy_per_offloaded_bit
    state = State(cheapest * np.linspace(0.9, 3.0, 200), np.full(200, 5.0))
    agent = SolverAgent(DRIVE, EnergyPriceSolver(DRIVE.scenario, 0.0))
    action, _ = agent.predict(DRIVE.observe(slot, state))
    energy = delay_and_energy(DRIVE.scenario, slot, DRIVE.decision(action))[1]
    affordable = cheapest < state.battery * (1 - 1e-5)
    assert (energy[affordable] <= state.battery[affordable]).all()
    assert not affordable.all()
    # Where nothing is affordable the cheapest loses least.
    np.testing.assert_allclose(energy[~affordable], cheapest[~affordable], rtol=1e-4)


def test_tuned_price_beats_its_neighbours():
    price = tune_energy_price(DRIVE)
    assert 0.5 < price < 5.0

    def mean(trace, factor):
        agent = SolverAgent(DRIVE, EnergyPriceSolver(DRIVE.scenario, price * factor))
        return rollout(DRIVE, agent, trace).returns.mean()

    # On the episodes that it was tuned on: no better than it, whatever is tried.
    own = DRIVE.sample(np.random.default_rng(128), 128)
    best = mean(own, 1.0)
    step = (1 / 0.36) ** (1 / 8)
    assert best >= max(mean(own, f) for f in (1 / step, step, 1 / step**2, step**2))
    # On others: clearly better than less, or than none. (More changes little: from about this
    # price on every task leaves the device altogether.)
    fresh = sample_episodes(DRIVE, 9000, 128)
    there = mean(fresh, 1.0)
    assert there > mean(fresh, 0.5) + 0.05
    assert there > mean(fresh, 0.0) + 3.0


def test_nothing_to_tune_where_the_battery_never_binds():
    assert tune_energy_price(PAPER, episodes=16) == 0.0


def test_random_agent_is_uniform_and_reproducible():
    agent = UniformPolicy(PAPER, seed=4)
    observation = np.zeros((3000, 24), np.float32)
    actions, memory = agent.predict(observation, state=5)
    assert memory == 5 and actions.dtype == np.float32 and actions.shape == (3000, 11)
    assert np.allclose(actions.mean(axis=0), 0.5, atol=0.03)
    assert np.allclose(actions.std(axis=0), np.sqrt(1 / 12), atol=0.02)
    again = UniformPolicy(PAPER, seed=4)
    assert np.array_equal(again.predict(observation)[0], actions)
    assert not np.array_equal(UniformPolicy(PAPER, seed=5).predict(observation)[0], actions)
    assert not np.array_equal(agent.predict(observation)[0], actions)
    assert agent.predict(observation[0])[0].shape == (11,)


def test_random_split_is_a_dirichlet_on_a_random_pair():
    solver = RandomSplitSolver(3, seed=0)
    slot, state = first(PAPER, 0, 1)
    wide = arrays.map_arrays(lambda a: np.broadcast_to(a, (6000, *a.shape[1:])), slot)
    decision = solver.solve(wide, state).decision
    device = 1 - decision.edge_share - decision.cloud_share
    for share in (decision.edge_share, decision.cloud_share, device):
        assert share.mean() == pytest.approx(1 / 3, abs=0.01)
        assert share.var() == pytest.approx(1 / 18, abs=0.004)  # Dirichlet(1, 1, 1)
        assert share.min() > -1e-12
    pairs = np.bincount(decision.server * 3 + decision.next_server, minlength=9)
    assert len(pairs) == 9 and (abs(pairs / 6000 - 1 / 9) < 0.02).all()
    alone = solver.solve(arrays.at(slot, 0), arrays.at(state, 0)).decision
    assert [np.shape(field) for field in arrays.as_dict(alone).values()] == [()] * 4
