"""Between environment and network."""

import dataclasses
import itertools
from typing import get_args

import numpy as np
import pytest
from gymnasium import spaces
from tiny_problem import TinyProblem

import mec_gym
from agents.distributed_inference.pairs.head import PairsHead
from agents.early_exit.head import BacklogPriceHead
from agents.heads import FlatHead, HeadName, make_head
from agents.solver_agent import SolverAgent
from agents.training_offload.energy_price import EnergyPriceSolver, tune_energy_price
from agents.training_offload.head import EnergyPriceHead
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Scenario as Inference
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario as EarlyExit
from mec_gym.training_offload.model import State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario

PAPER = mec_gym.make_problem("mec/TrainingOffloadPaper-v0")
DRIVE = mec_gym.make_problem("mec/TrainingOffload-v0")


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
    return DRIVE.observe(slot, State(battery, 30.0 - t))


def boxed(low, high):
    problem = TrainingOffload(Scenario())
    problem.action_space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
    return problem


def test_flat_head_scales_to_the_corners():
    head = FlatHead(boxed([0, -2, 5], [1, 4, 6]))
    observation = np.zeros((4, 24), np.float32)
    raw = np.array([[-1, -1, -1], [1, 1, 1], [0, 0, 0], [-7, 7, 0.5]], np.float32)
    action = head.act(observation, raw)
    assert action.dtype == np.float32
    np.testing.assert_allclose(action, [[0, -2, 5], [1, 4, 6], [0.5, 1, 5.5], [0, 4, 5.75]])
    assert head.output_space == spaces.Box(-1.0, 1.0, (3,), np.float32)
    assert head.inputs(observation) is observation
    assert head.usual_reward(observation).tolist() == [0.0] * 4
    assert head.act(observation[0], raw[0]).shape == (3,)
    assert head.usual_reward(observation[0]).shape == ()


def test_flat_head_of_the_registered_ones_stays_inside():
    for problem in (PAPER, DRIVE):
        head = FlatHead(problem)
        assert head.input_space == problem.observation_space
        raw = np.random.default_rng(0).normal(size=(1000, 11)) * 3
        action = head.act(np.zeros((1000, 24), np.float32), raw)
        assert ((action >= 0) & (action <= 1)).all()
        assert (action == 0).any() and (action == 1).any()


def test_flat_head_stays_inside_any_box():
    head = FlatHead(boxed([-1.5813079], [0.4604561]))
    action = head.act(np.zeros((1, 24), np.float32), np.ones((1, 1), np.float32))
    assert (action <= head.box.high).all()


def test_price_head_at_rest_is_the_price_rule(head):
    agent = SolverAgent(DRIVE, EnergyPriceSolver(DRIVE.scenario, tune_energy_price(DRIVE)))
    observation = mid_drive(300)
    action = head.act(observation, np.zeros((300, 2)))
    assert np.array_equal(action, agent.predict(observation)[0])
    assert np.array_equal(head.act(observation[7], np.zeros(2)), action[7])


def test_price_head_turns_the_price_and_the_trust(head):
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


def test_price_head_inputs_are_finite_and_inside(head):
    observation = mid_drive(2000)
    observation[0, :2] = 0.0  # the end of a drive: no battery, no task
    observation[1, :2] = [0.0, 1.0]
    observation[2, :2] = [1.0, 1 / 30]
    inputs = head.inputs(observation)
    assert inputs.dtype == np.float32 and inputs.shape == (2000, 26)
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


@pytest.mark.parametrize("name", ["flat", "price"])
def test_usual_reward_depends_on_nature_only(name, head):
    head = head if name == "price" else FlatHead(DRIVE)
    observation = mid_drive(200)
    usual = head.usual_reward(observation)
    assert usual.shape == (200,) and usual.dtype == np.float64
    other = mid_drive(200, seed=9)
    other[:, 2] = observation[:, 2]  # the same work, everything else different
    assert np.array_equal(head.usual_reward(other), usual)
    if name == "price":
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


def test_price_head_where_no_price_is_needed():
    head = EnergyPriceHead(PAPER)
    assert head.price == 0.01
    observation = PAPER.observe(*mid_paper())
    action = head.act(observation, np.zeros((20, 2)))
    assert all(PAPER.action_space.contains(a) for a in action)


def mid_paper():
    slot = arrays.at(sample_episodes(PAPER, 0, 20), (slice(None), 0))
    return slot, PAPER.start(slot)


EXITS = EarlyExitPartition(EarlyExit(horizon=10))
PLACES = DistributedInference(Inference(devices=3, servers=2, blocks=4, tasks=1))
# Heads by themselves: of early exit in tests/agents/test_partition_agents.py and
# test_congestion.py, of distributed inference in tests/distributed_inference/agents.
ROOMS = {"paper": PAPER, "drive": DRIVE, "exits": EXITS, "places": PLACES, "tiny": TinyProblem()}
FITS = {
    "flat": dict.fromkeys(ROOMS, FlatHead),
    "price": {"paper": EnergyPriceHead, "drive": EnergyPriceHead},
    "congestion": {"exits": BacklogPriceHead},
    "pairs": {"places": PairsHead},
    "pairs-2": {"places": PairsHead},
    "pairs-0": {"places": PairsHead},
}


@pytest.mark.parametrize(("name", "where"), list(itertools.product(FITS, ROOMS)))
def test_every_head_on_every_problem(name, where):
    """It keeps the promises of agents.heads.protocol.Head, or says that it does not fit."""
    assert set(FITS) == set(get_args(HeadName))
    problem = ROOMS[where]
    if where not in FITS[name]:
        with pytest.raises(ValueError, match=rf"head '{name}' fits .* only, got .*{type(problem)}"):
            make_head(name, problem)
        return
    head = make_head(name, problem)
    assert type(head) is FITS[name][where]
    slot = arrays.at(sample_episodes(problem, 5, 40), (slice(None), 0))
    observation = problem.observe(slot, problem.start(slot))
    head.output_space.seed(0)
    raw = np.stack([head.output_space.sample() for _ in range(40)])
    before = observation.copy()
    inputs, action = head.inputs(observation), head.act(observation, raw)
    usual = head.usual_reward(observation)
    assert np.array_equal(observation, before)
    assert all(head.input_space.contains(row) for row in inputs)
    assert all(problem.action_space.contains(row) for row in action)
    assert usual.shape == (40,) and np.isfinite(usual).all()
    # One by one.
    for k in (0, 7):
        assert np.array_equal(head.inputs(observation[k]), inputs[k])
        assert np.array_equal(head.act(observation[k], raw[k]), action[k])
        np.testing.assert_allclose(head.usual_reward(observation[k]), usual[k], rtol=1e-12)
    # The state, what the agent's own decisions have changed, is not in the usual reward.
    start = problem.start(slot)
    changed = arrays.map_arrays(lambda a: (0.5 * a).astype(a.dtype), start)
    if where == "exits":
        changed = dataclasses.replace(changed, backlog=start.backlog + 0.3)
    other = problem.observe(slot, changed)
    assert not np.array_equal(other, observation)
    np.testing.assert_allclose(head.usual_reward(other), usual, rtol=1e-12)
    # There and back.
    again = make_head(name, problem, head.parameters())
    assert again.parameters() == head.parameters()
    assert all(type(value) is float for value in head.parameters().values())
    assert np.array_equal(again.act(observation, raw), action)
    assert np.array_equal(again.usual_reward(observation), usual)


def test_make_head():
    assert type(make_head("flat", PAPER)) is FlatHead
    assert type(make_head("price", PAPER)) is EnergyPriceHead
    names = ", ".join(FITS)
    with pytest.raises(ValueError, match=f"head must be one of {names}, got 'deep'"):
        make_head("deep", PAPER)
    with pytest.raises(ValueError, match=r"head 'price' fits training offload only.*TinyProblem"):
        make_head("price", TinyProblem())
    # Whole numbers are taken as they are; a Box without an end cannot be scaled to.
    assert make_head("flat", TinyProblem()).output_space == TinyProblem().action_space
    with pytest.raises(ValueError, match="needs a bounded action space, got Box"):
        make_head("flat", boxed([0.0, -np.inf], [1.0, 1.0]))
