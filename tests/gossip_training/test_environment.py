"""Gossip training as it is registered: a golden roll-out, and a vector against singles."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from real_learning import check_golden, check_vector
from registered import REGISTERED
from stable_baselines3.common.env_checker import check_env

from mec_gym.core.policies import UniformPolicy
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


def draw_action(rng):
    action = rng.integers(2, size=9)
    action[0] = rng.random() < 0.2
    return action


def test_golden_rollout():
    check_golden(gym.make(GOSSIP, scenario="tiny"), GOLDEN, draw_action)


def ends_of(scenario, steps):
    problem = GossipTraining(scenario)
    actions = UniformPolicy(problem, 2).draw(steps, 3)
    rng = np.random.default_rng(1)
    actions[..., 0] = rng.random((steps, 3)) < 0.1
    actions[..., 1:] &= rng.random(actions[..., 1:].shape) < 0.5
    return check_vector(problem, actions)


def test_a_vector_equals_singles():
    assert ends_of(PRESETS["tiny"].make(), 18) >= 6


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
    assert ends_of(dataclasses.replace(scenario, budget_s=500.0), 100) > 0


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
