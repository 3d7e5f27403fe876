"""Federated training as it is registered: a golden roll-out, and a vector against singles."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from real_learning import check_golden, check_vector
from registered import REGISTERED

from mec_gym.core.policies import UniformPolicy
from mec_gym.federated_training import FederatedTraining, Scenario
from mec_gym.federated_training.scenario import PRESETS
from mec_gym.testing import check_problem

LARGE = REGISTERED["mec/FederatedTraining-v0"].large_presets

FEDERATED = "mec/FederatedTraining-v0"

# Seed 77; actions of default_rng(2024). Generated once; a change of any digit is a change of the
# physics, of the sampling or of what an action means.
GOLDEN = {
    "reward": [
        -0.09452746, -0.04639405, -0.08428561, -0.1264147, -0.07582134,
        -0.01777188, -0.01799738, -0.05643979, -0.03567245, -0.2291535,
    ],
    "seconds": [
        21.40244399, 11.00254201, 20.47423694, 32.97775354, 19.69385437,
        4.913883977, 5.241956298, 14.10994842, 10.97613764, 23.0242563,
    ],
    "sent_off": [3, 2, 2, 1, 3, 2, 2, 2, 2, 2],
    "staleness": [0, 0, 0, 1.5, 0, 0.5, 0.5, 0.5, 0, 0],
    "compute_j": [
        246.8798167, 13.00912245, 57.49204951, 5.878634522, 37.3516225,
        8.490003571, 33.59185401, 196.3790389, 11.192885, 15.93108994,
    ],
    "send_j": [
        31.76788606, 10.57681669, 11.52928454, 2.850769775, 33.51944931,
        5.568176888, 12.17432113, 28.69077511, 9.886307665, 23.14247704,
    ],
    "accuracy": [0.15667, 0.17667, 0.23333, 0.23, 0.27667, 0.31333, 0.2, 0.35, 0.15667, 0.27],
    "test_accuracy": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0.253],
}  # fmt: skip


def test_golden_rollout():
    env = gym.make(FEDERATED, scenario="tiny")
    check_golden(env, GOLDEN, lambda rng: rng.uniform(-1, 1, 8).astype(np.float32))


def ends_of(scenario, steps):
    problem = FederatedTraining(scenario)
    return check_vector(problem, UniformPolicy(problem, 2).draw(steps, 3))


def test_a_vector_equals_singles():
    tiny = PRESETS["tiny"].make()
    assert ends_of(tiny, 25) >= 6


VARIANTS = {
    **{name: preset.make() for name, preset in PRESETS.items() if name != "tiny"},
    "SCAFFOLD": Scenario(control_variates=True, control_steps=True, normalise=True),
    "compressed": Scenario(payload="low-rank", server_momentum=0.5, look_ahead=True),
    "significant": Scenario(payload="significant", pull=0.1),
    "elastic": Scenario(merge="elastic", server_rate=0.3, feature_spread=0.5),
    "importance": Scenario(importance=True, growth_s=2000.0, sliding=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", VARIANTS.values(), ids=VARIANTS)
def test_a_vector_equals_singles_over_100_steps(scenario):
    """With 50 clients; episodes are cut short, so that some end on the way."""
    ends_of(dataclasses.replace(scenario, clients=50, budget_s=800.0), 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LARGE))
def test_conformance_of_small_scenarios_like_the_presets(name):
    """The suite trains for hours in a whole preset; what a preset is about stays."""
    whole = PRESETS[name].make()
    few = {"clients": 6, "at_once": 3, "quorum": min(whole.quorum, 3), "decisions": 4}
    small = {"local_steps": 2, "batch": 4, "hidden": 4, "bin_s": 100.0}
    check_problem(FederatedTraining(dataclasses.replace(whole, **few, **small)))
