"""The heads whose networks turn the price of energy, or the value of the battery."""

import dataclasses

import numpy as np
import pytest
from training_offload.cases import DRIVE, PAPER, drive_price, first_tasks

from agents.solver_agent import SolverAgent
from agents.training_offload.energy_price import EnergyPriceSolver
from agents.training_offload.head import BatteryValueHead, EnergyPriceHead
from agents.training_offload.sdp import StochasticProgramSolver
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.training_offload.model import State
from mec_gym.training_offload.problem import TrainingOffload


@pytest.fixture(scope="module")
def head():
    return EnergyPriceHead(DRIVE)


def mid_drive(n, seed=0):
    """Observations of all kinds of moments of a drive, empty batteries among them."""
    rng = np.random.default_rng(seed)
    trace = sample_episodes(DRIVE, seed, n)
    t = rng.integers(30, size=n)
    slot = arrays.at(trace, (np.arange(n), t))
    battery = np.where(rng.random(n) < 0.1, 0.0, rng.uniform(0, 1000, n))
    return DRIVE.observe(slot, State(battery=battery, tasks_left=30.0 - t))


def test_head_at_rest_is_the_price_rule(head):
    agent = SolverAgent(DRIVE, EnergyPriceSolver(DRIVE.scenario, drive_price()))
    observation = mid_drive(300)
    action = head.act(observation, np.zeros((300, 2)))
    assert np.array_equal(action, agent.predict(observation)[0])
    assert np.array_equal(head.act(observation[7], np.zeros(2)), action[7])


def test_head_turns_the_price_and_the_trust(head):
    observation = mid_drive(300)
    slot, state = DRIVE.decode(observation)
    for raw in ([-1.0, 0.0], [0.4, 0.0], [0.0, 1.0], [0.0, -0.5], [-0.5, 0.7]):
        price = head.price * 8.0 ** raw[0]
        believed = np.maximum(slot.connection_time * 2.0 ** raw[1], 1e-3)
        planned = dataclasses.replace(slot, connection_time=believed)
        decision = EnergyPriceSolver(DRIVE.scenario, price).solve(planned, state).decision
        action = head.act(observation, np.tile(raw, (300, 1)).astype(np.float32))
        np.testing.assert_allclose(action, DRIVE.encode(decision), atol=2e-5)
        assert all(DRIVE.action_space.contains(a) for a in action)
    # Clipped beyond, and a lower price keeps more on the device.
    lowest = head.act(observation, np.tile([-1.0, 0.0], (300, 1)))
    assert np.array_equal(head.act(observation, np.tile([-5.0, 0.0], (300, 1))), lowest)
    assert lowest[:, 0].mean() < head.act(observation, np.zeros((300, 2)))[:, 0].mean() - 0.05


def test_head_inputs_are_finite_and_inside(head):
    observation = mid_drive(500)
    observation[0, :2] = 0.0  # the end of a drive: no battery, no task
    observation[1, :2] = [0.0, 1.0]
    observation[2, :2] = [1.0, 1 / 30]
    inputs = head.inputs(observation)
    assert inputs.dtype == np.float32 and inputs.shape == (500, 26)
    assert np.isfinite(inputs).all()
    assert all(head.input_space.contains(row) for row in inputs)
    assert np.array_equal(inputs[:, :24], observation)
    assert inputs[1, 24:].tolist() == [-2.0, -2.0]
    assert inputs[2, 24:].tolist() == [2.0, 2.0]
    # By hand: 500 J for 15 tasks; an average task of 200 Mbit costs 31.24 J away.
    observation[3, :2] = [0.5, 0.5]
    plenty = np.log(500 / (15 * 31.24))
    expected = [3 * plenty, 12 * plenty]
    np.testing.assert_allclose(head.inputs(observation)[3, 24:], expected, rtol=1e-4)
    assert np.array_equal(head.inputs(observation[3]), head.inputs(observation)[3])


def test_usual_reward_depends_on_nature_only(head):
    observation = mid_drive(200)
    usual = head.usual_reward(observation)
    assert usual.shape == (200,) and usual.dtype == np.float64
    other = mid_drive(200, seed=9)
    other[:, 2] = observation[:, 2]  # the same work, everything else different
    assert np.array_equal(head.usual_reward(other), usual)
    assert len(np.unique(usual)) == len(np.unique(observation[:, 2]))


def test_usual_reward_is_what_the_price_rule_earns(head):
    agent = SolverAgent(DRIVE, EnergyPriceSolver(DRIVE.scenario, head.price))
    trace = sample_episodes(DRIVE, 400, 200)
    result = rollout(DRIVE, agent, trace)
    done = ~result.outcomes.dropped
    observation = DRIVE.observe(trace, DRIVE.start(trace))
    expected = head.usual_reward(observation)[done].sum()
    assert result.rewards[done].sum() == pytest.approx(expected, rel=0.03)
    residual = result.rewards[done] - head.usual_reward(observation)[done]
    assert residual.var() < 0.35 * result.rewards[done].var()


def test_head_where_no_price_is_needed():
    head = EnergyPriceHead(PAPER)
    assert head.price == 0.01
    observation = PAPER.observe(*first_tasks(PAPER, 0, 20))
    action = head.act(observation, np.zeros((20, 2)))
    assert all(PAPER.action_space.contains(a) for a in action)


SHORT = TrainingOffload(dataclasses.replace(DRIVE.scenario, horizon=4, battery=60.0))


@pytest.fixture(scope="module")
def value_head(coarse):
    return BatteryValueHead(SHORT)


def short_drives(n):
    slot = arrays.slot_at(sample_episodes(SHORT, 0, n), 0)
    return SHORT.observe(slot, SHORT.start(slot))


def test_value_head_at_rest_is_the_program(value_head):
    observation = short_drives(60)
    agent = SolverAgent(SHORT, StochasticProgramSolver(SHORT.scenario))
    action = value_head.act(observation, np.zeros((60, 2)))
    assert np.array_equal(action, agent.predict(observation)[0])
    assert np.array_equal(value_head.act(observation[7], np.zeros(2)), action[7])
    again = BatteryValueHead(SHORT, **value_head.parameters())
    assert again.usual_reward(observation) == pytest.approx(value_head.usual_reward(observation))


def test_value_head_turns_the_value_and_the_trust(value_head):
    observation = short_drives(200)
    slot, state = SHORT.decode(observation)

    def outcome(worth, trust):
        action = value_head.act(observation, np.tile([worth, trust], (200, 1)))
        assert all(SHORT.action_space.contains(a) for a in action)
        return SHORT.step(slot, state, SHORT.decision(action))[1]

    # A battery that is worth more is spared, at the price of a longer wait.
    spared, usual, spent = (outcome(worth, 0.0) for worth in (1.0, 0.0, -1.0))
    assert spared.energy_j.mean() < usual.energy_j.mean() < spent.energy_j.mean()
    assert spared.latency_s.mean() > usual.latency_s.mean()
    # Who believes in longer connections sends more to the edge.
    shares = []
    for trust in (1.0, -1.0):
        action = value_head.act(observation, np.tile([0.0, trust], (200, 1)))
        shares.append(float(SHORT.decision(action).edge_share.mean()))
    assert shares[0] > shares[1] + 0.005
    beyond = value_head.act(observation, np.full((200, 2), 5.0))
    assert np.array_equal(beyond, value_head.act(observation, np.ones((200, 2))))
