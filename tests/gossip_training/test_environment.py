"""Gossip training as it is registered: a golden roll-out, and a vector against singles."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from registered import REGISTERED
from stable_baselines3.common.env_checker import check_env

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.gossip_training import GossipTraining, Scenario
from mec_gym.gossip_training.scenario import PRESETS
from mec_gym.testing import check_problem

GOSSIP = "mec/GossipTraining-v0"
LARGE = REGISTERED[GOSSIP].large_presets
OWN = REGISTERED[GOSSIP].own

# Seed 77; actions of default_rng(2024). Generated once; a change of any digit is a change of the
# physics, of the sampling or of what an action means.
GOLDEN = {
    "reward": [
        -0.05573561776, -0.03417161321, -0.03204360053, -0.03544631371,
        -0.03747198723, -0.03168237443, -0.02117460799, -0.5728665389,
    ],
    "seconds": [
        6.357675029, 4.167269904, 3.782897774, 4.231997392,
        4.76561416, 4.131978385, 2.656982988, 3.872762242,
    ],
    "waiting_s": [
        3.807308391, 1.441338092, 1.40812269, 1.927928578,
        2.461859517, 1.406786011, 0.1679329414, 1.187688089,
    ],
    "sent_bits": [192e6, 64e6, 128e6, 128e6, 128e6, 64e6, 32e6, 64e6],
    "heard": [3.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.25, 0.5],
    "consensus": [0.0, 0.25633, 0.30015, 0.24559, 0.22131, 0.32576, 0.3317, 0.38024],
    "accuracy": [0.18, 0.14917, 0.17417, 0.205, 0.23083, 0.2025, 0.18583, 0.18167],
    "test_accuracy": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.18889],
}  # fmt: skip

# The clock does not depend on what is learnt. What is learnt does on the last digits of products
# of matrices, which differ between machines, so an image or two may be told otherwise.
LEARNT = {"reward", "accuracy", "test_accuracy", "consensus"}


def test_golden_rollout():
    env = gym.make(GOSSIP, scenario="tiny")
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    found = {name: [] for name in GOLDEN}
    ended = False
    while not ended:
        action = rng.integers(2, size=9)
        action[0] = rng.random() < 0.2
        _, reward, ended, _, info = env.step(action)
        for name, values in found.items():
            values.append(reward if name == "reward" else info[name])
    for name, values in GOLDEN.items():
        tolerance = {"abs": 0.01} if name in LEARNT else {"rel": 1e-5, "abs": 0}
        assert found[name] == pytest.approx(values, **tolerance), name


def check_vector(scenario, steps, num_envs=3, seed=5, all_reduce=0.1):
    """A vector of environments equals single ones, bit for bit, over ends and new beginnings."""
    problem = GossipTraining(scenario)
    actions = UniformPolicy(problem, 2).draw(steps, num_envs)
    rng = np.random.default_rng(1)
    actions[..., 0] = rng.random((steps, num_envs)) < all_reduce
    actions[..., 1:] &= rng.random(actions[..., 1:].shape) < 0.5
    vector = MecVectorEnv(problem, num_envs)
    singles = [MecEnv(problem) for _ in range(num_envs)]
    together, _ = vector.reset(seed=seed)
    for i, env in enumerate(singles):
        assert np.array_equal(together[i], env.reset(seed=seed + i)[0])
    ends = 0
    for t in range(steps):
        together, rewards, terminated, truncated, infos = vector.step(actions[t])
        for i, env in enumerate(singles):
            seen, reward, ended, cut, info = env.step(actions[t, i])
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


def test_a_vector_equals_singles():
    assert check_vector(PRESETS["tiny"].make(), 18) >= 6


VARIANTS = {
    **{name: PRESETS[name].make() for name in sorted(LARGE)},
    "metropolis": Scenario(graph="torus", mixing="metropolis", speed_spread=1.0),
    "push-sum": Scenario(graph="one-sided", mixing="push-sum", speed_spread=1.0),
    "overlap": Scenario(graph="one-sided", mixing="push-sum", overlap=True),
    "choco": Scenario(graph="complete", payload="choco", size_spread=0.5),
    "choco and metropolis": Scenario(payload="choco", mixing="metropolis"),
    "segments": Scenario(graph="complete", payload="segments", overlap=True),
    "class logits": Scenario(graph="geometric", payload="class-logits", size_spread=1.0),
    "shared logits": Scenario(graph="complete", payload="shared-logits", shared=100),
}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", VARIANTS.values(), ids=VARIANTS)
def test_a_vector_equals_singles_over_100_rounds(scenario):
    """With 16 devices; episodes are cut short, so that some end on the way."""
    assert scenario.devices == 16
    assert check_vector(dataclasses.replace(scenario, budget_s=500.0), 100) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LARGE))
def test_conformance_of_small_scenarios_like_the_presets(name):
    """The suite trains for hours in a whole preset; what a preset is about stays."""
    whole = PRESETS[name].make()
    few = {"devices": 5, "rounds": 4, "local_steps": 2, "batch": 4, "hidden": 4}
    check_problem(GossipTraining(dataclasses.replace(whole, **few)))


@pytest.mark.parametrize("changes", [{}, {"graph": "complete", "privileged": True}])
def test_what_stable_baselines_expects(changes):
    check_env(gym.make(GOSSIP, scenario={**OWN, **changes}).unwrapped)
