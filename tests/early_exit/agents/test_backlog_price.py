"""The rule that puts a price on backlog, and how its prices are tuned."""

import math

import early_exit.cases as cases
import numpy as np
import pytest
from early_exit.cases import pair
from scipy.integrate import quad
from slow import slow_except

from agents.early_exit.backlog_price import (
    BacklogPriceSolver,
    backlog_at_next_arrival,
    scarcity,
    tune_prices,
)
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.core.seeds import tuning_episodes
from mec_gym.early_exit import model
from mec_gym.early_exit.exact import slot_optimum
from mec_gym.early_exit.model import Decision


@pytest.mark.parametrize("rate", [0.01, 0.7, 5.0, 80.0])
def test_backlog_at_the_next_arrival_is_its_integral(rate):
    free = np.array([0.0, 1e-6, 0.03, 0.4, 2.0])
    expected = [quad(lambda t, f=f: (f - t) * rate * math.exp(-rate * t), 0.0, f)[0] for f in free]
    got = backlog_at_next_arrival(free, rate)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    # Rates and times broadcast.
    wide = backlog_at_next_arrival(free, np.array([[rate], [2 * rate]]))
    assert np.array_equal(wide[0], got) and (wide[1] >= got).all()


def test_without_frames_to_come_no_backlog_is_left():
    assert backlog_at_next_arrival(np.array(0.4), 0.0) == pytest.approx(0.0, abs=1e-6)


def test_scarcity_by_hand():
    """Of 24 frames 6 are left, and of 11 J 5.5, 2.75, 1.1 or nothing."""
    got = scarcity(np.full(4, 6.0) / 24, np.array([5.5, 2.75, 1.1, 0.0]) / 11)
    np.testing.assert_allclose(got[:3], [0.5, 1.0, 2.5], rtol=1e-14)
    assert 1e5 < got[3] < np.inf


def met(kind, shape, seed=20):
    """A problem, and slots and states in it."""
    rng = np.random.default_rng(seed)
    return cases.problem_of(kind), cases.random_slots(rng, shape), cases.random_states(rng, shape)


@pytest.mark.parametrize("kind", ["hand", "random", "default"])
def test_no_price_is_the_slots_optimum(kind):
    problem, slots, now = met(kind, (300,))
    solution = BacklogPriceSolver(problem.scenario, (0.0,) * 4).solve(slots, now)
    expected, _ = slot_optimum(slots, now, problem.scenario)
    assert np.array_equal(problem.encode(solution.decision), problem.encode(expected))
    assert solution.evaluations == problem.scenario.table.sizes.sum()


@pytest.mark.parametrize(
    "price",
    [(3, 0, 0, 0.0), (0, 3, 0, 0.0), (0, 0, 30, 0.0), (0, 0, 0, 4.0), (1, 4, 2, 0.7)],
)
def test_prices_of_each_stage_and_of_energy(price):
    """The least cost + price * backlog + price * energy of all decisions, from the model alone."""
    problem, slots, now = met("random", (200,))
    decision = BacklogPriceSolver(problem.scenario, price).solve(slots, now).decision
    totals, pairs = [], []
    rate = slots.arrival_rate[:, None]
    for n, size in enumerate(problem.scenario.table.sizes):
        for k in range(size):
            choice = Decision(exit=np.full(200, n), partition=np.full(200, k))
            after, outcome = problem.step(slots, now, choice)
            free = np.where(outcome.dropped[:, None], model.all_done(now), model.all_done(after))
            later = free - (1 - np.exp(-rate * free)) / rate
            total = -problem.reward(outcome) + (np.array(price[:3]) * later).sum(-1)
            left = (now.battery / 11.0) / (now.frames_left / 24.0)
            totals.append(total + price[3] / left**4 * outcome.energy_j)
            pairs.append((n, k))
    got = [pairs.index((n, k)) for n, k in zip(decision.exit, decision.partition, strict=True)]
    totals = np.array(totals)
    np.testing.assert_allclose(totals[got, np.arange(200)], totals.min(axis=0), rtol=1e-12)
    assert len(set(got)) > 1


def test_one_price_per_instance():
    problem, slots, now = met("random", (4, 5))
    price = np.random.default_rng(0).lognormal(0, 1.5, (4, 5, 4))
    together = BacklogPriceSolver(problem.scenario, price).solve(slots, now).decision
    for index in np.ndindex(4, 5):
        alone = BacklogPriceSolver(problem.scenario, price[index]).solve(
            arrays.at(slots, index), arrays.at(now, index)
        )
        assert pair(alone.decision) == (together.exit[index], together.partition[index])


@pytest.mark.parametrize(
    ("kind", "battery", "expected"),
    slow_except(
        [("hand", 11.0, (1.7, 1.0, 1.0, 3.0)), ("random", 200.0, (0.0, 0.0, 0.0, 5.1))],
        ("random", 200.0, (0.0, 0.0, 0.0, 5.1)),
    ),
)
def test_tuned_prices_do_best_on_their_own_episodes(kind, battery, expected):
    problem = cases.problem_of(kind, arrival_rates=(14.0, 24.0), horizon=30, battery=battery)
    trace = tuning_episodes(problem, 24)

    def mean_return(price):
        agent = SolverAgent(problem, BacklogPriceSolver(problem.scenario, price))
        return rollout(problem, agent, trace).returns.mean()

    tuned = tune_prices(problem, episodes=24)
    assert all(type(p) is float and p >= 0 for p in tuned)
    # Better than any one price for all stages, whatever energy costs.
    uniform = [
        mean_return((p, p, p, e)) for p in (0.0, 1.0, 3.0, 10.0) for e in (0.0, 0.3, 1.0, 3.0)
    ]
    assert mean_return(tuned) > max(uniform) and mean_return(tuned) > uniform[0] + 0.1
    assert tuned == pytest.approx(expected, rel=1e-9)


def test_prices_are_zero_where_they_cannot_help():
    """The queues are always empty when a frame comes."""
    calm = cases.problem_of("hand", arrival_rates=(0.01,), horizon=3)
    assert tune_prices(calm, episodes=8) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.slow
def test_tuned_prices_help_on_other_episodes():
    problem = cases.problem_of("default", arrival_rates=(30.0,), horizon=20)
    trace = problem.sample(np.random.default_rng(0), 100)
    tuned, free = (
        rollout(problem, SolverAgent(problem, BacklogPriceSolver(problem.scenario, p)), trace)
        for p in (tune_prices(problem), (0.0,) * 4)
    )
    assert tuned.returns.mean() > free.returns.mean()
