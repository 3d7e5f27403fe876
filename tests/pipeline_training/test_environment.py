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
        -0.7965322601, -0.8433732974, -0.8773160072, -0.8225633105, -0.7179230156, -0.5616767589,
        -0.5423597603, -0.7562839404, -0.8020945326, -0.5078627153, -0.6641677418, -0.3675090239,
    ],
    "minibatch_s": [
        4.782495165, 6.619279871, 7.124058741, 4.711615595, 5.92607518, 3.949375509,
        3.51684111, 5.903993769, 6.696523426, 5.948530741, 7.033239348, 3.826797186,
    ],
    "moving_s": [
        16.94381957, 13.79860211, 9.12215236, 9.293442514, 5.911292319, 6.247023977,
        6.874336999, 11.80523472, 35.41498313, 5.08678711, 14.05332573, 6.799373378,
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
