"""The heads name the weights of a linear score, for fleets of any size."""

import dataclasses

import numpy as np
import pytest
from federated_training.agents.fleets import FIVE, five

from agents.federated_training.head import FreeWeightsHead, WeightsHead
from agents.federated_training.linear import CLIENT, NAMES, LinearSolver, linear_solver
from agents.heads import make_head
from mec_gym.core import arrays
from mec_gym.core.rollout import sample_episodes
from mec_gym.federated_training.problem import FederatedTraining

PROBLEM = FederatedTraining(FIVE)


def seen(problem=PROBLEM, episodes=6):
    slot = arrays.slot_at(sample_episodes(problem, 3, episodes), 0)
    return problem.observe(slot, problem.start(slot))


@pytest.mark.parametrize("late", ["keep", "drop"])
def test_at_0_it_decides_as_the_linear_policy_does(late):
    problem = FederatedTraining(dataclasses.replace(FIVE, late=late))
    observation = seen(problem)
    head = WeightsHead(problem)
    decision = linear_solver(problem.scenario).solve(*problem.decode(observation)).decision
    action = head.act(observation, np.zeros((6, len(CLIENT)), np.float32))
    np.testing.assert_array_equal(action, problem.encode(decision))
    free = FreeWeightsHead(problem).act(observation, np.zeros((6, len(CLIENT)), np.float32))
    assert not free.any() and action.any()


def test_raw_outputs_are_added_to_the_weights_and_clipped():
    weights = {name: 0.1 * k - 0.7 for k, name in enumerate(NAMES)}
    head = WeightsHead(PROBLEM, **weights)
    raw = np.array([0.5, -0.25, 0, 0, 0, 0, 0, 3.0])
    changed = np.array([*weights.values()])
    changed[[0, 1, 7]] += [1.0, -0.5, 2.0]
    observation = seen()
    decision = LinearSolver(FIVE, changed).solve(*PROBLEM.decode(observation)).decision
    np.testing.assert_array_equal(
        head.act(observation, np.tile(raw, (6, 1))), PROBLEM.encode(decision)
    )
    again = make_head("weights", PROBLEM, head.parameters())
    assert again.parameters() == head.parameters() == weights


def test_inputs_by_hand():
    slot, state = five(accuracy=0.4, client=[3, -1, -1], absent=(0,))
    inputs = WeightsHead(PROBLEM).inputs(PROBLEM.observe(slot, state))
    assert inputs.shape == WeightsHead(PROBLEM).input_space.shape == (26,)
    usual = FIVE.job_flop / FIVE.speed
    share = np.array([40.0, 10, 30, 20, 50]) / (np.array([40.0, 10, 30, 20, 50]) + usual)
    idle = share[[1, 2, 4]]  # 0 is absent, and 3 is on its way
    assert inputs[0] == pytest.approx(idle.mean(), rel=1e-5)
    assert inputs[7] == pytest.approx(2 * idle.std(), rel=1e-5)
    assert inputs[14] == pytest.approx(share.mean(), rel=1e-5)
    # Accuracy, time, rows in use, clients that are present or on their way, idle ones.
    assert inputs[21:].tolist() == pytest.approx([0.4, 0.0, 1 / 3, 0.8, 0.6])


def test_a_network_plays_fleets_of_any_size():
    shapes = set()
    for clients in (2, 5, 40):
        problem = FederatedTraining(dataclasses.replace(FIVE, clients=clients, at_once=2))
        head, observation = WeightsHead(problem), seen(problem, 2)
        action = head.act(observation, np.zeros((2, len(CLIENT))))
        assert action.shape == (2, clients) and head.inputs(observation).shape == (2, 26)
        shapes.add((head.input_space.shape, head.output_space.shape))
    assert len(shapes) == 1


def test_weights_by_other_names_are_refused():
    with pytest.raises(ValueError, match=r"weights must name one, .*got"):
        WeightsHead(PROBLEM, one=1.0)
