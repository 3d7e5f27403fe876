"""The bound of early exit for those who do not know the future."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import mec_gym
from agents.early_exit import AGENTS
from agents.early_exit.backlog_price import BacklogPriceSolver
from agents.registry import make_agent
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.online import OffersOnlineBound, has_online_bound, online_bound_of
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.early_exit import backlog_value, model
from mec_gym.early_exit import online_bound as online
from mec_gym.early_exit.backlog_value import Arrival, fit_backlog_value, lag
from mec_gym.early_exit.exact import Levels, all_decisions, slot_optimum
from mec_gym.early_exit.model import State
from mec_gym.early_exit.online_bound import online_bound, penalised_bounds
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import PRESETS, Scenario, follow_bandwidth
from mec_gym.network.bandwidth import Regimes
from mec_gym.network.technologies import LTE

TINY = Scenario(
    bandwidth=Regimes((2e4,), spread=0.0),  # sending anything takes longer than the timeout
    technologies=(LTE,),
    horizon=2,
    arrival_rates=(20.0,),
    load_spread=0.0,
    deadline=(0.045, 0.045),
    urgent_share=0.0,
    latency_weight=0.05,
    battery=1e3,
)
"""Only the time until the second frame is unknown."""
HEAVY = replace(PRESETS["cat1-heavy"].make(), horizon=6)
BOUNDED = ("mixed", "mixed-heavy", "cat1-heavy", "3g-heavy", "4g-heavy")


def tiny_returns(decisions, parts):
    """What first decisions (D,) earn with the best second one, (D, parts).

    Each column is a time until the second frame, in the middle of one of equally likely parts.
    """
    problem = EarlyExitPartition(TINY)
    trace = TINY.sample(np.random.default_rng(0), parts)
    interval = trace.interval.copy()
    interval[:, 0] = -np.log1p(-(np.arange(parts) + 0.5) / parts) / TINY.arrival_rates[0]
    trace = follow_bandwidth(replace(trace, interval=interval))
    first, second = (arrays.slot_at(trace, t) for t in (0, 1))
    decisions = arrays.map_arrays(lambda a: a[:, None], decisions)
    state, outcome = model.evaluate(first, problem.start(first), decisions, TINY)
    shape = np.broadcast_shapes(np.shape(outcome.cost), np.shape(state.battery))
    state = State(
        **{
            name: np.broadcast_to(value, (*shape, *np.shape(value)[2:]))
            for name, value in arrays.as_dict(state).items()
        }
    )
    return np.stack(
        [
            -outcome.cost[a] + slot_optimum(second, arrays.at(state, a), TINY)[1]
            for a in range(shape[0])
        ]
    )


@pytest.fixture(scope="module")
def tiny():
    """The best expected return, and that of somebody who knows when the second frame comes."""
    decisions = all_decisions(TINY)
    best = np.argsort(tiny_returns(decisions, 20).mean(axis=1))[-8:]
    returns = tiny_returns(arrays.at(decisions, best), 1000)
    return returns.mean(axis=1).max(), returns.max(axis=0).mean()


@contextmanager
def changed(module, **values):
    """A module with other constants, and without what was computed with its own ones."""
    caches = (backlog_value.fit_backlog_value, online.online_bound)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(module, name, value)
        for cache in caches:
            cache.cache_clear()
        yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def fine():
    """Backlogs have so many levels that rounding them down hardly matters."""
    with changed(backlog_value, LEVELS=400), changed(online, _EPISODES=256, _MANY=1000):
        yield


@pytest.fixture(scope="module")
def bound():
    """The bound of HEAVY, from fewer episodes."""
    with changed(online, _EPISODES=48, _MANY=1000):
        return online_bound(HEAVY)


def tiny_bounds(value, episodes):
    rng = np.random.default_rng(8)
    return penalised_bounds(TINY.sample(rng, episodes), TINY, value, rng)


def test_the_exact_value_gives_the_best_that_can_be_expected_in_every_episode(tiny, fine):
    optimum, foreseen = tiny
    paid, free = tiny_bounds(fit_backlog_value(TINY, 0.0), 40)
    assert np.ptp(paid) < 1e-9 and free.std() > 0.05
    assert optimum - 1e-4 < paid.mean() < optimum + 1.5e-3
    assert free.mean() == pytest.approx(foreseen, abs=3 * free.std() / np.sqrt(len(free)))


def test_who_knows_the_future_can_expect_more_than_the_bound(tiny, fine):
    optimum, foreseen = tiny
    bound = online_bound(TINY)
    assert optimum - 1e-4 < bound.mean < optimum + 1.5e-3
    assert foreseen > bound.mean + 0.01 > bound.mean + 3 * bound.se


@pytest.mark.parametrize("wrong", ["steep", "upside down", "random"])
def test_a_wrong_value_bounds_it_from_further_above(tiny, wrong):
    value = fit_backlog_value(TINY, 0.0)
    noise = np.random.default_rng(3).normal(scale=0.5, size=value.mean.shape)
    other = {"steep": 3.0 * value.mean, "upside down": -value.mean, "random": noise}[wrong]
    paid, _ = tiny_bounds(replace(value, mean=other), 1000)
    assert paid.mean() > tiny[0] + 3 * paid.std() / np.sqrt(len(paid))


def test_expected_value_when_the_next_frame_comes():
    levels = Levels.of(TINY, 12)
    value = np.random.default_rng(4).normal(size=(2, len(levels.seconds)))
    rate, left = np.array([7.0, 30.0]), np.array([[0.0, 0.011, 0.3], [0.9, 0.05, 2.0]])
    found = Arrival(left, rate, levels).expected(value, lag(value, rate, levels))
    parts = 200_000
    interval = -np.log1p(-(np.arange(parts) + 0.5) / parts) / rate[:, None, None]
    met = np.maximum(left[..., None] - interval, 0.0)
    place = np.searchsorted(levels.seconds, met, side="right") - 1
    expected = np.take_along_axis(value[:, None], place, axis=-1).mean(axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def agents_of(problem):
    price = SolverAgent(problem, BacklogPriceSolver(HEAVY, (10.0, 10.0, 6.0, 0.5)))
    others = {name: make_agent(name, problem) for name in ("exact", "device-only", "random")}
    return {"price": price, **others}


def test_luck_is_nothing_in_expectation(bound):
    problem = EarlyExitPartition(HEAVY)
    trace = problem.sample(np.random.default_rng(11), 600)
    for name, agent in agents_of(problem).items():
        played = rollout(problem, agent, trace)
        luck = bound.luck(trace, played.outcomes)
        assert abs(luck.mean()) < 3 * luck.std() / np.sqrt(len(luck))
        assert (played.returns - luck).mean() < bound.mean + 2 * bound.se
        if name == "price":
            assert (played.returns - luck).std() < 0.9 * played.returns.std()


def test_who_knows_the_future_is_lucky(bound):
    """The best of several agents, chosen in hindsight, is lucky beyond chance."""
    problem = EarlyExitPartition(HEAVY)
    trace = problem.sample(np.random.default_rng(12), 600)
    played = [rollout(problem, agent, trace) for agent in agents_of(problem).values()]
    luck = np.stack([bound.luck(trace, one.outcomes) for one in played])
    best = np.argmax([one.returns for one in played], axis=0)
    chosen = luck[best, np.arange(len(best))]
    assert chosen.mean() > 3 * chosen.std() / np.sqrt(len(best))


def test_who_asks_is_told():
    problem = EarlyExitPartition(TINY)
    assert has_online_bound(problem) and isinstance(problem, OffersOnlineBound)


def test_where_there_is_none():
    assert online_bound_of(EarlyExitPartition(replace(TINY, horizon=1))) is None
    assert online_bound_of(EarlyExitPartition(replace(TINY, horizon=online.LONGEST + 1))) is None


@pytest.mark.slow
def test_none_where_knowing_arrivals_is_worth_nothing():
    assert online_bound(PRESETS["wifi-heavy"].make()) is None


@pytest.mark.slow
@pytest.mark.parametrize("scenario", BOUNDED)
def test_nobody_can_expect_more(scenario):
    problem = mec_gym.make_problem("mec/EarlyExitPartition-v2", scenario)
    bound = problem.online_bound()
    trace = sample_episodes(problem, 0, 100)
    assert bound.se < 0.12
    for name in (*AGENTS, "random"):
        played = rollout(problem, make_agent(name, problem), trace)
        assert (played.returns - bound.luck(trace, played.outcomes)).mean() < bound.mean
