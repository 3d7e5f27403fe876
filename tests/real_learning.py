"""What the tests of federated and of gossip training check alike."""

import re

import numpy as np
import pytest

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.vector_env import MecVectorEnv

# The clock does not depend on what is learnt. What is learnt does on the last digits of products
# of matrices, which differ between machines, so an image or two may be told otherwise.
LEARNT = {"reward", "accuracy", "test_accuracy", "consensus"}


def check_golden(env, golden, action):
    """Play the episode of seed 77, and compare rewards and infos with what they once were.

    Args:
        env: The environment.
        golden: What is expected of each step, by name.
        action: Draws an action, given a generator.
    """
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    found = {name: [] for name in golden}
    ended = False
    while not ended:
        _, reward, ended, _, info = env.step(action(rng))
        for name, values in found.items():
            values.append(reward if name == "reward" else info[name])
    for name, values in golden.items():
        tolerance = {"abs": 0.01} if name in LEARNT else {"rel": 1e-5, "abs": 0}
        assert found[name] == pytest.approx(values, **tolerance), name


def check_vector(problem, actions, seed=5):
    """A vector of environments equals single ones, bit for bit, over ends and new beginnings.

    Args:
        problem: What is played.
        actions: (steps, environments, ...).
        seed: Seeds the first environment; the others follow.

    Returns:
        How many episodes have ended.
    """
    vector = MecVectorEnv(problem, actions.shape[1])
    singles = [MecEnv(problem) for _ in actions[0]]
    together, _ = vector.reset(seed=seed)
    for i, env in enumerate(singles):
        assert np.array_equal(together[i], env.reset(seed=seed + i)[0])
    ends = 0
    for now in actions:
        together, rewards, terminated, truncated, infos = vector.step(now)
        for i, env in enumerate(singles):
            seen, reward, ended, cut, info = env.step(now[i])
            assert (reward, ended, cut) == (rewards[i], terminated[i], truncated[i])
            parts = infos
            if ended:
                ends += 1
                assert np.array_equal(infos["final_obs"][i], seen)
                parts = infos["final_info"]
                seen, _ = env.reset()
            assert {name: parts[name][i] for name in info} == info
            assert np.array_equal(together[i], seen)
        states = vector.state()["state"]
        for i, env in enumerate(singles):
            for name, values in arrays.as_dict(env.now[1]).items():
                assert np.array_equal(states[name][i], values), name
    return ends


def check_decoded(problem, middle):
    """What is decoded is observed again, and a step can be taken in it, along an episode.

    Args:
        problem: What is played.
        middle: The number of the step that is taken in what is believed, too.

    Returns:
        The states after that step in what is believed and in truth, fields (3, ...).
    """
    trace = sample_episodes(problem, 0, 3)
    policy = UniformPolicy(problem, 1)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        seen = problem.observe(slot, state)
        assert ((seen >= 0) & (seen <= 1)).all()
        believed = problem.decode(seen)
        again = problem.observe(*believed)
        np.testing.assert_allclose(again, seen, rtol=2e-6, atol=2e-7, err_msg=str(t))
        alone = problem.decode(seen[1])
        np.testing.assert_array_equal(problem.observe(*alone), again[1])
        decision = problem.decision(policy.draw(3))
        state, _ = problem.step(slot, state, decision)
        if t == middle:
            after, outcome = problem.step(*believed, decision)
            assert np.isfinite(problem.observe(believed[0], after)).all()
            assert np.isfinite(problem.reward(outcome)).all()
            both = after, state
    return both


def check_refused_unless_used(scenario_type, name, value, without, used):
    """A field that does not count keeps its default; one line says where it counts.

    Args:
        scenario_type: The class of the scenario.
        name: The field.
        value: Another value than its default.
        without: Fields of a scenario in which it does not count.
        used: Fields of one in which it does.
    """
    default = re.escape(repr(getattr(scenario_type(), name)))
    given = re.escape(repr(value))
    words = (
        rf"^{name} must be {default}.* unless \w+ is .*got {given}; .*give {name}={default} too$"
    )
    with pytest.raises(ValueError, match=words) as caught:
        scenario_type(**{name: value}, **without)
    assert "\n" not in str(caught.value)
    assert getattr(scenario_type(**{name: value}, **used), name) == value
