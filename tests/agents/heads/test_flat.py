"""The network decides the action itself."""

import numpy as np
from gymnasium import spaces
from tiny_problem import TinyDiscrete, TinyProblem

from agents.heads import FlatHead
from mec_gym import make_problem


def boxed(low, high):
    problem = TinyProblem()
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
    for problem in map(make_problem, ("mec/TrainingOffloadPaper-v0", "mec/TrainingOffload-v0")):
        head = FlatHead(problem)
        assert head.input_space == problem.observation_space
        raw = np.random.default_rng(0).normal(size=(1000, 11)) * 3
        action = head.act(np.zeros((1000, 24), np.float32), raw)
        assert ((action >= 0) & (action <= 1)).all()
        assert (action == 0).any() and (action == 1).any()


def test_flat_head_stays_inside_any_box():
    head = FlatHead(boxed([-1.5813079], [0.4604561]))
    action = head.act(np.zeros((1, 24), np.float32), np.ones((1, 1), np.float32))
    assert (action <= head.action_space.high).all()


def test_flat_head_counts_from_where_the_space_begins():
    head = FlatHead(TinyDiscrete())
    assert head.output_space == spaces.Discrete(6)
    observation = np.zeros((3, *head.input_space.shape), np.float32)
    action = head.act(observation, np.array([0, 5, 2]))
    assert action.tolist() == [3, 8, 5] and action.dtype == np.int64
    assert head.act(observation[0], np.array(4)).shape == ()
    problem = TinyProblem()
    problem.action_space = spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[7, 0], [0, -1]])
    head = FlatHead(problem)
    assert head.output_space == spaces.MultiDiscrete([2, 3, 4, 5])
    action = head.act(observation, np.array([[0, 1, 2, 3]] * 3))
    assert action.shape == (3, 2, 2) and action[1].tolist() == [[7, 1], [2, 2]]
