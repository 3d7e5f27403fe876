"""One number for every action."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from tiny_problem import TinyDiscrete, TinyProblem

import mec_gym
from mec_gym.core.env import MecEnv
from mec_gym.wrappers import DiscreteActions, DiscreteView

SPACES = {
    "sizes": spaces.MultiDiscrete([2, 3, 4]),
    "starts": spaces.MultiDiscrete([3, 2], start=[5, -1]),
    "matrix": spaces.MultiDiscrete([[2, 3], [4, 1]]),
    "number": spaces.Discrete(6, start=3),
}


@pytest.mark.parametrize("name", SPACES)
def test_every_action_has_one_number(name):
    space = SPACES[name]
    view = DiscreteView(space)
    if isinstance(space, spaces.Discrete):
        all_actions = np.arange(3, 9)
    else:  # counted by hand, the last choice fastest
        ranges = [range(n) for n in space.nvec.ravel()]
        counted = np.array(list(itertools.product(*ranges)))
        all_actions = counted.reshape(-1, *space.shape) + space.start
    assert view.space == spaces.Discrete(len(all_actions))
    for number, action in enumerate(all_actions):
        found = view.action(number)
        assert np.array_equal(found, action) and found.dtype == space.dtype
        assert space.contains(found if space.shape else space.dtype.type(found))
        assert view.number(action) == number
    numbers = np.array([[0, 3, 1], [5, 2, 0]])
    assert np.array_equal(view.action(numbers), all_actions[numbers])
    assert np.array_equal(view.number(view.action(numbers)), numbers)


@pytest.mark.parametrize("number", [-1, 24, 1.0, True, None, "1", 1j, np.timedelta64(1, "s")])
def test_numbers_of_no_action(number):
    with pytest.raises(ValueError, match=r"action must (hold whole numbers|lie in \[0, 23\])"):
        DiscreteView(SPACES["sizes"]).action(number)


def test_spaces_that_cannot_be_numbered():
    for space in (spaces.Box(0, 1, (2,)), spaces.MultiBinary(3)):
        with pytest.raises(
            ValueError, match=f"Discrete or MultiDiscrete, got {type(space).__name__}"
        ):
            DiscreteView(space)
    with pytest.raises(ValueError, match=f"at most 1000000 actions .* {21**100} "):
        DiscreteView(spaces.MultiDiscrete([21] * 100))


@pytest.mark.parametrize("problem", [TinyProblem(), TinyDiscrete()])
def test_an_environment_of_numbers_plays_the_same(problem):
    env, plain = DiscreteActions(MecEnv(problem)), MecEnv(problem)
    assert env.action_space == spaces.Discrete(6)
    assert np.array_equal(env.reset(seed=3)[0], plain.reset(seed=3)[0])
    for number in (5, 0, 3, 2, 4, 1):
        choice = [number // 3, number % 3] if plain.action_space.shape else number + 3
        one, other = env.step(number), plain.step(np.array(choice))
        assert np.array_equal(one[0], other[0]) and one[1:] == other[1:]
        if one[2]:
            assert np.array_equal(env.reset()[0], plain.reset()[0])
    with pytest.raises(ValueError, match="action"):
        env.step(6)


def test_checkers_and_specs():
    env = DiscreteActions(gym.make("mec/EarlyExitPartition-v2"))
    assert env.action_space.n == np.prod(env.unwrapped.action_space.nvec)
    check_env(env.unwrapped, skip_render_check=True)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, DiscreteActions) and again.action_space == env.action_space
    vector = gym.make_vec(
        "mec/EarlyExitPartition-v2", 3, vectorization_mode="sync", wrappers=[DiscreteActions]
    )
    assert vector.single_action_space == env.action_space
    with pytest.raises(ValueError, match="Box"):
        DiscreteActions(gym.make(next(iter(mec_gym.ENVIRONMENTS))))
