"""The heads name the weights by which partners are chosen, for any number of devices."""

import dataclasses

import numpy as np
import pytest

from agents.gossip_training.head import FreeWeightsHead, WeightsHead
from agents.gossip_training.linear import NAMES, LinearSolver, linear_solver
from agents.gossip_training.pairs import lots
from agents.heads import make_head
from mec_gym.core import arrays
from mec_gym.core.rollout import sample_episodes
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario

FIVE = Scenario(
    devices=5, graph="complete", hidden=4, local_steps=1, batch=4, rounds=8, speed_spread=1.0
)
PROBLEM = GossipTraining(FIVE)


def seen(problem=PROBLEM, episodes=6):
    slot = arrays.slot_at(sample_episodes(problem, 3, episodes), 0)
    return problem.observe(slot, problem.start(slot))


@pytest.mark.parametrize("fields", [{}, {"speed_spread": 0.0}, {"graph": "torus"}])
def test_at_0_it_decides_as_the_linear_policy_does(fields):
    problem = GossipTraining(dataclasses.replace(FIVE, **fields))
    observation = seen(problem)
    decision = linear_solver(problem.scenario).solve(*problem.decode(observation)).decision
    nothing = np.zeros((6, len(NAMES)), np.float32)
    action = WeightsHead(problem).act(observation, nothing)
    np.testing.assert_array_equal(action, problem.encode(decision))
    assert not FreeWeightsHead(problem).act(observation, nothing).any() and action.any()


def test_raw_outputs_are_added_to_the_weights_and_clipped():
    weights = {name: 0.1 * k - 0.7 for k, name in enumerate(NAMES)}
    head = WeightsHead(PROBLEM, **weights)
    raw = np.zeros(len(NAMES))
    raw[[0, 1, -1]] = 0.5, -0.25, 3.0
    changed = np.array([*weights.values()])
    changed[[0, 1, -1]] += [0.5, -0.25, 1.0]
    observation = seen()
    decision = LinearSolver(FIVE, changed).solve(*PROBLEM.decode(observation)).decision
    np.testing.assert_array_equal(
        head.act(observation, np.tile(raw, (6, 1))), PROBLEM.encode(decision)
    )
    again = make_head("weights", PROBLEM, head.parameters())
    assert again.parameters() == head.parameters() == weights


def test_inputs_by_hand():
    slot = arrays.slot_at(sample_episodes(PROBLEM, 3, 1), 0)
    compute = np.array([[0.6, 1.8, 0.3, 1.2, 5.4]])  # usual are 3 * 0.1e9 * 4 / 2e9 = 0.6 s
    slot = dataclasses.replace(slot, compute_s=compute, rate=np.full((1, 5), 16e6))
    state = PROBLEM.start(slot)
    clock = np.array([[0.0, 100.0, 200.0, 300.0, 400.0]])
    state = dataclasses.replace(state, clock=clock, rounds_left=np.array([2.0]))
    (inputs,) = WeightsHead(PROBLEM).inputs(PROBLEM.observe(slot, state))
    share = np.array([1 / 2, 3 / 4, 1 / 3, 2 / 3, 9 / 10])
    assert inputs.shape == WeightsHead(PROBLEM).input_space.shape == (23,)
    assert inputs[:3].tolist() == pytest.approx([share.mean(), 0.5, 0.1], rel=1e-5)
    assert inputs[5] == pytest.approx(2 * share.std(), rel=1e-5) and inputs[6] == 0.0
    assert inputs[[10, 12, 15, 17]].tolist() == pytest.approx([1 / 3, 0.0, 0.9, 0.2], rel=1e-5)
    trained = (clock + compute)[0]
    waiting = (trained.max() - trained).mean()
    expected = [2 / 8, waiting / (waiting + 0.6), lots(np.array(6), 1)[0]]
    assert inputs[20:].tolist() == pytest.approx(expected, rel=1e-4)


def test_a_network_plays_any_number_of_devices():
    shapes = set()
    for devices in (2, 5, 40):
        problem = GossipTraining(dataclasses.replace(FIVE, devices=devices))
        head, observation = WeightsHead(problem), seen(problem, 2)
        action = head.act(observation, np.zeros((2, len(NAMES))))
        assert action.shape == (2, 1 + devices * (devices - 1))
        assert head.inputs(observation).shape == (2, 23)
        shapes.add((head.input_space.shape, head.output_space.shape))
    assert len(shapes) == 1


def test_weights_by_other_names_are_refused():
    with pytest.raises(ValueError, match=r"weights must name pair one, .*got"):
        WeightsHead(PROBLEM, one=1.0)
