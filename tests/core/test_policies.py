"""Policies without memory, and the one that draws at random."""

import numpy as np
import pytest
from gymnasium import spaces
from tiny_problem import TinyDiscrete, TinyProblem

from mec_gym.core.policies import Memoryless, UniformPolicy


class Sums(Memoryless):
    def act(self, observation, deterministic):
        return observation.sum(axis=-1) * (1 if deterministic else -1)


def test_a_memoryless_policy_hands_the_memory_back():
    observation = np.array([[1.0, 2.0], [3.0, 4.0]])
    memory = object()
    actions, state = Sums().predict(observation, memory, np.ones(2, bool), True)
    assert actions.tolist() == [3, 7] and state is memory
    actions, state = Sums().predict(observation)
    assert actions.tolist() == [-3, -7] and state is None
    with pytest.raises(TypeError, match="act"):
        Memoryless()


def problem_with(space):
    problem = TinyProblem()
    problem.action_space = space
    return problem


BOX = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32))
MULTI = spaces.MultiDiscrete([2, 3], start=[4, -1])


@pytest.mark.parametrize("space", [BOX, MULTI, TinyDiscrete().action_space])
def test_draws_fill_the_space_evenly(space):
    policy = UniformPolicy(problem_with(space), 3)
    drawn = policy.predict(np.zeros((6000, 5)))[0]
    assert drawn.shape == (6000, *space.shape) and drawn.dtype == space.dtype
    assert all(space.contains(action) for action in drawn[:200])
    if isinstance(space, spaces.Box):
        assert drawn.min(axis=0) == pytest.approx(space.low, abs=0.01)
        assert drawn.max(axis=0) == pytest.approx(space.high, abs=0.01)
        assert drawn.mean(axis=0) == pytest.approx([0.0, 2.5], abs=0.1)
    else:
        _, counts = np.unique(drawn, axis=0, return_counts=True)
        assert len(counts) == 6 and (abs(counts - 1000) < 150).all()


def test_one_observation_or_a_batch():
    for space in (BOX, MULTI, TinyDiscrete().action_space):
        policy = UniformPolicy(problem_with(space))
        for batch in ((), (1,), (4,), (2, 3)):
            assert policy.act(np.zeros((*batch, 5))).shape == (*batch, *space.shape)
            assert policy.draw(*batch).shape == (*batch, *space.shape)


def test_a_seed_fixes_the_draws():
    """These are numpy's draws in this order: published results were made with them."""
    policy = UniformPolicy(TinyProblem(), 7)
    rng = np.random.default_rng(7)
    for _ in range(2):
        expected = rng.integers([2, 3], size=(4, 2))
        assert np.array_equal(policy.predict(np.zeros((4, 5)), deterministic=True)[0], expected)
    policy, rng = UniformPolicy(TinyDiscrete(), 7), np.random.default_rng(7)
    assert np.array_equal(policy.act(np.zeros((4, 5))), 3 + rng.integers(6, size=4))
    policy, rng = UniformPolicy(problem_with(BOX), 7), np.random.default_rng(7)
    expected = rng.uniform(BOX.low, BOX.high, (4, 2)).astype(np.float32)
    assert np.array_equal(policy.act(np.zeros((4, 5))), expected)
    assert not np.array_equal(
        UniformPolicy(TinyProblem(), 1).draw(20), UniformPolicy(TinyProblem(), 2).draw(20)
    )


@pytest.mark.parametrize(
    "space",
    [spaces.Box(-np.inf, 1.0, (2,)), spaces.Box(0.0, np.inf, (2,)), spaces.MultiBinary(3)],
    ids=str,
)
def test_spaces_that_cannot_be_drawn_from(space):
    with pytest.raises(ValueError, match=r"action_space.*(Box|MultiBinary)"):
        UniformPolicy(problem_with(space))
