"""Prices of backlog on the default network; small ones: tests/agents/test_partition_agents.py."""

import functools
import json
import math

import numpy as np
import pytest
from gymnasium import spaces
from scipy.integrate import quad
from stable_baselines3 import PPO

import mec_gym
from agents.early_exit.backlog_price import (
    BacklogPriceSolver,
    backlog_at_next_arrival,
    tune_backlog_price,
)
from agents.early_exit.head import BacklogPriceHead
from agents.heads import FlatHead, make_head
from agents.ppo.model import PPOAgent, check_fits, load_ppo, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.seeds import tuning_episodes
from mec_gym.early_exit.exact import slot_optimum, try_all
from mec_gym.early_exit.model import State
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario
from mec_gym.testing import check_agent

DEFAULT = mec_gym.make_problem("mec/EarlyExitPartition-v0")
# Video over a slow network, short: tuned in a second.
BUSY = EarlyExitPartition(Scenario(horizon=20, arrival_rates=(30.0,)))
SETTINGS = PPOSettings(head="congestion", num_envs=4, n_steps=10, minibatches=2)


def moments(problem, n, seed=0):
    """Slots and states of all kinds of moments, (n,)."""
    rng = np.random.default_rng(seed)
    trace = problem.sample(rng, n)
    slots = arrays.at(trace, (np.arange(n), rng.integers(problem.horizon, size=n)))
    backlog = rng.exponential(0.05, (n, 3)) * (rng.random((n, 3)) < 0.6)
    return slots, State(
        np.minimum(backlog, 1.0), rng.uniform(0, 200, n), rng.integers(1, 9, n) * 1.0
    )


@functools.cache
def tuned():
    return tune_backlog_price(BUSY)


@pytest.mark.parametrize("rate", [0.2, 5.0, 30.0])
def test_expected_backlog_is_an_integral(rate):
    free = np.array([0.0, 1e-4, 0.02, 0.3, 1.0])
    expected = [
        quad(lambda t, f=f: max(f - t, 0.0) * rate * math.exp(-rate * t), 0.0, f)[0] for f in free
    ]
    np.testing.assert_allclose(backlog_at_next_arrival(free, rate), expected, rtol=1e-8, atol=1e-13)
    # Between 0 and what there is now, and less the more seldom frames are.
    assert (backlog_at_next_arrival(free, rate) <= free).all()
    assert (backlog_at_next_arrival(free, rate) <= backlog_at_next_arrival(free, 2 * rate)).all()


def test_without_a_price_it_is_the_slots_optimum():
    slots, states = moments(DEFAULT, 400)
    got = BacklogPriceSolver(DEFAULT.scenario, (0.0, 0.0, 0.0)).solve(slots, states).decision
    expected, _ = slot_optimum(slots, states, DEFAULT.scenario)
    assert np.array_equal(DEFAULT.encode(got), DEFAULT.encode(expected))


@pytest.mark.parametrize("stage", range(3))
def test_a_huge_price_leaves_a_stage_as_empty_as_can_be(stage):
    """No decision leaves less backlog there at the next arrival."""
    slots, states = moments(DEFAULT, 300, seed=1)
    price = np.zeros(3)
    price[stage] = 1e12
    solver = BacklogPriceSolver(DEFAULT.scenario, price)
    decision = solver.solve(slots, states).decision
    _, free, _ = try_all(slots, states, DEFAULT.scenario)
    later = backlog_at_next_arrival(free, slots.arrival_rate[:, None, None])
    chosen = np.cumsum([0, *DEFAULT.scenario.table.sizes])[decision.exit] + decision.partition
    left = later[np.arange(300), chosen]
    np.testing.assert_allclose(left[:, stage], later[..., stage].min(axis=1), rtol=1e-9)
    # Something can always be done without it, or is dropped: it gets no work.
    assert (free[np.arange(300), chosen, stage] <= states.backlog[:, stage] + 1e-12).all()
    free_of_charge, _ = slot_optimum(slots, states, DEFAULT.scenario)
    before = np.cumsum([0, *DEFAULT.scenario.table.sizes])[free_of_charge.exit]
    before = later[np.arange(300), before + free_of_charge.partition]
    assert left[:, stage].sum() < before[:, stage].sum()


def test_tuning_never_does_worse_than_no_price_on_its_own_episodes():
    for problem, price in ((BUSY, tuned()), (DEFAULT, tune_backlog_price(DEFAULT, episodes=4))):
        trace = tuning_episodes(problem, 64 if problem is BUSY else 4)
        priced, free = (
            rollout(problem, SolverAgent(problem, BacklogPriceSolver(problem.scenario, p)), trace)
            for p in (price, (0.0,) * 3)
        )
        assert len(price) == 3 and all(type(p) is float and p >= 0 for p in price)
        assert priced.returns.mean() >= free.returns.mean()
    # Where frames are few, a price is no worse either: it may be 0.
    calm = EarlyExitPartition(Scenario(horizon=3, arrival_rates=(0.01,)))
    trace = tuning_episodes(calm, 8)
    price = tune_backlog_price(calm, episodes=8)
    priced, free = (
        rollout(calm, SolverAgent(calm, BacklogPriceSolver(calm.scenario, p)), trace).returns.mean()
        for p in (price, (0.0,) * 3)
    )
    assert priced >= free


def test_the_price_helps_on_other_episodes():
    trace = sample_episodes(BUSY, 0, 100)
    priced, free = (
        rollout(BUSY, SolverAgent(BUSY, BacklogPriceSolver(BUSY.scenario, p)), trace).returns.mean()
        for p in (tuned(), (0.0,) * 3)
    )
    assert priced > free


def test_a_head_at_rest_is_the_tuned_rule():
    """With prices of at least LEAST."""
    problem, price = BUSY, np.maximum(tuned(), BacklogPriceHead.LEAST)
    head = make_head("congestion", problem)
    assert head.price.tolist() == price.tolist()
    observation = problem.observe(*moments(problem, 200, seed=2))
    rule = SolverAgent(problem, BacklogPriceSolver(problem.scenario, price))
    action = head.act(observation, np.zeros((200, 3), np.float32))
    assert np.array_equal(action, rule.predict(observation)[0])
    # Again from its parameters, without tuning.
    again = make_head("congestion", problem, head.parameters())
    assert again.parameters() == head.parameters()
    raw = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    assert np.array_equal(again.act(observation, raw), head.act(observation, raw))
    with pytest.raises(TypeError):
        make_head("congestion", problem, {"price": 1.0})


def test_span_of_the_prices():
    assert BacklogPriceHead.SPAN == 8.0 and BacklogPriceHead.LEAST == 1.0
    head = BacklogPriceHead(DEFAULT, 0.0, 3.0, 2.0)
    observation = DEFAULT.observe(*moments(DEFAULT, 300, seed=3))
    changed = []
    for stage in range(3):
        for raw, factor in ((1.0, 8.0), (-1.0, 1 / 8), (0.5, math.sqrt(8)), (3.0, 8.0)):
            price = np.array([1.0, 3.0, 2.0])
            price[stage] *= factor
            rows = np.zeros((300, 3))
            rows[:, stage] = raw
            rule = SolverAgent(DEFAULT, BacklogPriceSolver(DEFAULT.scenario, price))
            action = head.act(observation, rows)
            assert np.array_equal(action, rule.predict(observation)[0])
            changed.append((action != head.act(observation, np.zeros((300, 3)))).any())
    assert sum(changed) > 6


def test_inputs_lie_inside_the_input_space():
    head = BacklogPriceHead(DEFAULT, 1.0, 1.0, 1.0)
    observation = DEFAULT.observe(*moments(DEFAULT, 500, seed=4))
    observation[0], observation[1] = 0.0, 1.0
    inputs = head.inputs(observation)
    assert inputs.dtype == np.float32 and all(head.input_space.contains(row) for row in inputs)
    assert (inputs[:, 6:9] >= observation[:, 6:9]).all()


def test_a_flat_head_passes_whole_numbers_through():
    for problem in (DEFAULT, BUSY):
        flat = FlatHead(problem)
        assert flat.output_space == problem.action_space == spaces.MultiDiscrete([4, 32])
        raw = np.random.default_rng(0).integers([4, 32], size=(50, 2))
        assert flat.act(np.zeros((50, 11), np.float32), raw) is raw


def model_of(problem, head):
    env = make_vec_env(problem, PPOSettings(head=head, num_envs=4, n_steps=10, minibatches=2))
    return make_ppo(env, SETTINGS, seed=0), env.head


def test_models_of_another_multidiscrete_do_not_fit():
    model, head = model_of(BUSY, "flat")
    check_fits(model, head, "it")
    fewer = EarlyExitPartition(Scenario(candidates=31))
    message = r"it is a model of another environment: it acts in MultiDiscrete\(\[ 4 32\]\)"
    with pytest.raises(ValueError, match=rf"{message}, this one in MultiDiscrete\(\[ 4 31\]\)"):
        check_fits(model, FlatHead(fewer), "it")
    # A network with fewer exits.
    other = EarlyExitPartition(Scenario(network="alexnet-digits"))
    assert other.action_space != BUSY.action_space
    with pytest.raises(ValueError, match=message):
        check_fits(model, FlatHead(other), "it")
    # Prices in place of a pair of whole numbers.
    with pytest.raises(ValueError, match=r"its actions have shape \(2,\), this one's \(3,\)"):
        check_fits(model, BacklogPriceHead(BUSY, 1.0, 1.0, 1.0), "it")


def test_models_of_prices_fit_any_table():
    """What the network writes are three prices, whatever there is to choose among."""
    model = PPO("MlpPolicy", make_vec_env(BUSY, SETTINGS), n_steps=10, batch_size=20, device="cpu")
    for problem in (BUSY, EarlyExitPartition(Scenario(candidates=31))):
        head = BacklogPriceHead(problem, 1.0, 2.0, 3.0)
        check_fits(model, head, "it")
        check_agent(PPOAgent(model, head), problem, episodes=3)


def test_a_saved_run_keeps_its_prices(tmp_path):
    """They are in config.json: no other tuning when it is loaded."""
    model, _ = model_of(BUSY, "congestion")
    model.save(tmp_path / "model.zip")
    config = {
        "env": "mec/EarlyExitPartition-v0",
        "settings": {"head": "congestion"},
        "head": {"device": 5.0, "link": 6.0, "edge": 7.0},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_ppo(tmp_path, DEFAULT)
    assert loaded.head.price.tolist() == [5.0, 6.0, 7.0]
    observation = DEFAULT.observe(*moments(DEFAULT, 20))
    expected = PPOAgent(model, BacklogPriceHead(DEFAULT, 5.0, 6.0, 7.0))
    action = loaded.predict(observation, deterministic=True)[0]
    assert np.array_equal(action, expected.predict(observation, deterministic=True)[0])
