"""Pipeline training as it is registered: a golden roll-out, and the order of its agents."""

import gymnasium as gym
import numpy as np
import pytest

import mec_gym
from agents.registry import make_agent
from mec_gym.core.rollout import rollout, sample_episodes

PIPELINE = "mec/PipelineTraining-v0"

# Seed 77; actions of default_rng(2024). Generated once; a change of any digit is a change of the
# physics, of the sampling or of what an action means.
GOLDEN = {
    "reward": [
        -0.8622436959, -0.8483684809, -0.8896046659, -0.8211050282, -0.7159626115, -0.6053556663,
        -0.5819161627, -0.7858407637, -0.7396578508, -0.5078627153, -0.6641677418, -0.3675090239,
    ],
    "minibatch_s": [
        5.369966985, 7.374459641, 7.686848886, 4.711615595, 5.92607518, 4.06991367,
        3.854208563, 6.658106178, 6.696523426, 5.948530741, 7.033239348, 3.826797186,
    ],
    "moving_s": [
        27.26830484, 10.16915448, 10.60165502, 8.876705305, 5.535381724, 10.12640719,
        6.810488507, 12.24076549, 27.65872003, 5.08678711, 14.05332573, 6.799373378,
    ],
}  # fmt: skip


def test_golden_rollout():
    env = gym.make(PIPELINE)
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    found = {name: [] for name in GOLDEN}
    for _ in range(12):
        _, reward, _, _, info = env.step(rng.integers(env.action_space.nvec))
        for name, values in found.items():
            values.append(reward if name == "reward" else info[name])
    for name, values in GOLDEN.items():
        # Exponentials differ in the last digits between machines.
        assert found[name] == pytest.approx(values, rel=1e-8, abs=0), name


@pytest.mark.slow
def test_the_order_of_agents():
    problem = mec_gym.make_problem(PIPELINE)
    trace = sample_episodes(problem, 0, 40)
    bound = problem.bound(trace)
    cost = {"bound": -bound.mean()}
    for name in ("hysteresis", "patience", "myopic", "replan", "keep", "single-device"):
        cost[name] = -rollout(problem, make_agent(name, problem), trace).returns.mean()
    foresees = make_agent("clairvoyant", problem)
    foresees.foresee(trace)
    returns = rollout(problem, foresees, trace).returns
    assert (returns <= bound + 1e-9).all()
    cost["clairvoyant"] = -returns.mean()
    # What the clairvoyant agent gains on the tuned rules is about 0.9 of 60 slots.
    assert cost["bound"] < cost["clairvoyant"]
    assert cost["clairvoyant"] + 0.3 < min(cost["patience"], cost["hysteresis"])
    assert cost["clairvoyant"] + 2.0 > cost["hysteresis"]
    assert cost["hysteresis"] < cost["replan"] < cost["single-device"]
    assert max(cost["hysteresis"], cost["patience"]) < min(cost["myopic"], cost["keep"])
