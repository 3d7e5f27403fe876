"""The head with which a network names backlog prices, and the models behind it."""

import dataclasses
import json

import early_exit.cases as cases
import numpy as np
import pytest
from gymnasium import spaces

from agents.early_exit.backlog_price import BacklogPriceSolver, tune_prices
from agents.early_exit.head import BacklogPriceHead
from agents.heads import FlatHead, make_head
from agents.ppo.model import agent_of, load_ppo, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from agents.runs import check_spaces, head_config
from agents.solver_agent import SolverAgent
from mec_gym.testing import check_agent

HAND = cases.problem_of("hand")
SHORT = cases.problem_of("hand", horizon=10)
PRICES = {"device": 2.5, "link": 4.0, "edge": 1.25, "energy": 0.75}
SETTINGS = PPOSettings(head="congestion", num_envs=4, n_steps=10, minibatches=2)


@pytest.fixture(scope="module", params=["hand", "default"])
def head(request):
    return BacklogPriceHead(cases.problem_of(request.param), **PRICES)


def rule(head, price, observation):
    """What the rule of these prices decides."""
    solver = BacklogPriceSolver(head.problem.scenario, price)
    return SolverAgent(head.problem, solver).predict(observation)[0]


def test_at_rest_it_is_the_rule_of_its_prices(head):
    observation = cases.moments(head.problem, 300)
    assert head.output_space == spaces.Box(-1.0, 1.0, (4,), np.float32)
    action = head.act(observation, np.zeros((300, 4), np.float32))
    assert np.array_equal(action, rule(head, (2.5, 4.0, 1.25, 0.75), observation))
    assert np.array_equal(head.act(observation[5], np.zeros(4, np.float32)), action[5])


def test_raw_outputs_turn_each_price(head):
    """By a factor of up to 3 or 1 / 3."""
    observation = cases.moments(head.problem, 400, seed=1)
    for raw in ([1, 0, 0, 0], [0, -1, 0.5, 1], [-0.3, 0.9, 1, 0], [-1, -1, -1, -1]):
        price = np.array([2.5, 4.0, 1.25, 0.75]) * 3.0 ** np.array(raw, dtype=float)
        rows = np.tile(raw, (400, 1)).astype(np.float64)
        assert np.array_equal(head.act(observation, rows), rule(head, price, observation))
    # Outputs beyond [-1, 1] are clipped.
    ends = [head.act(observation, np.full((400, 4), raw)) for raw in (-1.0, 1.0, -7.0, 9.0)]
    assert np.array_equal(ends[0], ends[2]) and np.array_equal(ends[1], ends[3])
    assert not np.array_equal(ends[0], ends[1])
    # Each instance has outputs of its own.
    odd = np.arange(400)[:, None] % 2 == 1
    mixed = head.act(observation, np.where(odd, 1.0, -1.0) * np.ones(4))
    assert np.array_equal(mixed, np.where(odd, ends[1], ends[0]))


def test_it_is_tuned_and_keeps_what_it_found():
    problem = cases.problem_of("hand", arrival_rates=(14.0, 24.0), horizon=30)
    tuned = make_head("congestion", problem)
    expected = np.maximum(tune_prices(problem), (1.0, 1.0, 1.0, 0.1))
    assert type(tuned) is BacklogPriceHead and tuned.price.tolist() == expected.tolist()
    kept = tuned.parameters()
    assert list(kept) == ["device", "link", "edge", "energy"]
    assert all(type(value) is float for value in kept.values())
    again = make_head("congestion", problem, PRICES)
    assert again.price.tolist() == [2.5, 4.0, 1.25, 0.75] and again.parameters() == PRICES
    # A price that is too small to be scaled is raised.
    assert BacklogPriceHead(HAND, 0.0, 0.2, 3.0, 0.0).price.tolist() == [1.0, 1.0, 3.0, 0.1]
    with pytest.raises(ValueError, match="price"):
        make_head("congestion", problem, {"price": 1.0})


def test_inputs_hold_the_roots_of_the_backlogs_and_how_scarce_energy_is(head):
    observation = cases.moments(head.problem, 500, seed=2)
    observation[0], observation[1] = 0.0, 1.0
    before = observation.copy()
    inputs = head.inputs(observation)
    assert np.array_equal(observation, before)  # left as it was
    assert inputs.dtype == np.float32 and inputs.shape == (500, 18)
    assert all(head.input_space.contains(row) for row in inputs)
    roots = [6, 7, 8, 14, 15, 16]
    np.testing.assert_allclose(inputs[:, roots] ** 2, observation[:, roots], atol=1e-6)
    scarce = 3 * np.log(observation[1:, 10] / observation[1:, 9])
    assert scarce.min() < -1 and (np.abs(scarce) < 1).any() and scarce.max() > 1
    np.testing.assert_allclose(inputs[1:, 9], np.clip(scarce, -1, 1), atol=1e-5)
    assert inputs[0, 9] == 0  # no frames are left, and no energy
    others = [*roots, 9]
    assert np.array_equal(np.delete(inputs, others, 1), np.delete(observation, others, 1))
    assert np.array_equal(head.inputs(observation[3]), inputs[3])


def test_the_usual_reward_is_natures():
    """It is the best of a frame that finds empty queues and a full battery."""
    head = BacklogPriceHead(HAND, **PRICES)
    observation = cases.moments(HAND, 100, seed=3)
    usual = head.usual_reward(observation)
    other = observation.copy()
    other[:, 6:11] = np.random.default_rng(0).random((100, 5))
    assert np.array_equal(head.usual_reward(other), usual)
    slot, _ = HAND.decode(observation)
    for k in range(0, 100, 9):
        alone = cases.arrays.at(slot, k)
        best = max(
            cases.reward_of(cases.answer(alone, [0, 0, 0], 11.0, cost, right, HAND.scenario)[1])
            for table, right in ((cases.HAND_EARLY, 0.7), (cases.HAND_LATE, 0.95))
            for cost in table
        )
        assert usual[k] == pytest.approx(best, rel=1e-9)
    assert head.usual_reward(observation[0]) == usual[0]


# --- models


def test_models_of_another_multidiscrete_do_not_fit(tmp_path):
    config, mine = head_config(FlatHead(HAND)), FlatHead(HAND)
    check_spaces(tmp_path, config, mine, "it")
    # Another number of candidates or of exits, and prices in place of two whole numbers.
    wider, _ = cases.random_problem(np.random.default_rng(10))
    deeper, _ = cases.random_problem(np.random.default_rng(10), exits=3)
    for head, found in (
        (FlatHead(wider), r"\[2, 7\].*\[2, 9\]"),
        (FlatHead(deeper), r"\[2, 7\].*\[3, "),
        (BacklogPriceHead(HAND, **PRICES), r"\[2, 7\].*Box\(4,\)"),
    ):
        with pytest.raises(ValueError, match=f"^it .* outputs are .*{found}"):
            check_spaces(tmp_path, config, head, "it")


def test_models_of_prices_fit_any_table(tmp_path):
    """What the network writes are four prices, whatever there is to choose among."""
    env = make_vec_env(SHORT, SETTINGS)
    model = make_ppo(env, SETTINGS, seed=0)
    for problem in (SHORT, cases.problem_of("random", horizon=10)):
        head = BacklogPriceHead(problem, **PRICES)
        check_spaces(tmp_path, head_config(env.head), head, "it")
        check_agent(agent_of(model, head), problem, episodes=3)


def test_a_saved_run_keeps_its_prices(tmp_path):
    """They are in config.json, so they are not tuned again when it is loaded."""
    model = make_ppo(make_vec_env(SHORT, SETTINGS), SETTINGS, seed=0)
    model.save(tmp_path / "model.zip")
    env_id = "mec/EarlyExitPartition-v2"
    config = {"env": env_id, "scenario": None, "settings": dataclasses.asdict(SETTINGS)}
    config |= head_config(BacklogPriceHead(SHORT, **PRICES))
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_ppo(tmp_path, HAND)
    assert loaded.head.price.tolist() == [2.5, 4.0, 1.25, 0.75]
    observation = cases.moments(HAND, 20)
    expected = agent_of(model, BacklogPriceHead(HAND, **PRICES))
    action = loaded.predict(observation, deterministic=True)[0]
    assert np.array_equal(action, expected.predict(observation, deterministic=True)[0])
