"""Distributed inference as it is registered: a golden roll-out, and the order of its agents."""

import gymnasium as gym
import numpy as np
import pytest

import mec_gym
from agents.registry import make_agent
from mec_gym.core.rollout import rollout, sample_episodes

PLACE = "mec/DistributedInference-v1"

# Seed 77; actions of default_rng(2024). Generated once; a change of any digit is a change of the
# physics, of the sampling or of what an action means. One of a deadline missed by far among
# them: a reward far below minus the latency.
GOLDEN = (
    [
        -0.8476051313, -7.182398996, -20.67639396, -0.5735527882, -0.1507321921, -2.059670413,
        -1.016229557, -7.657709812, -0.279321486, -16.29166608, -0.3192605422, -12.68080691,
    ],
    [
        0.8476051313, 7.182398996, 20.67639396, 0.5735527882, 0.1507321921, 2.059670413,
        1.016229557, 0.1577098121, 0.279321486, 16.29166608, 0.3192605422, 12.68080691,
    ],
)  # fmt: skip


def test_golden_rollout():
    env = gym.make(PLACE)
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    rewards, latencies, finished = [], [], []
    for _ in range(12):
        _, reward, _, _, info = env.step(rng.integers(env.action_space.nvec))
        rewards.append(reward)
        latencies.append(info["latency_s"])
        finished.append(int(info["finished"]))
    # Rates are drawn in single precision, whose exponentials differ between machines.
    assert rewards == pytest.approx(GOLDEN[0], rel=1e-5, abs=0)
    assert latencies == pytest.approx(GOLDEN[1], rel=1e-5, abs=0)
    assert finished == [0] * 7 + [5] + [0] * 4


@pytest.mark.slow
def test_the_order_of_agents():
    problem = mec_gym.make_problem(PLACE)
    trace = sample_episodes(problem, 0, 60)
    bound = problem.bound(trace)
    cost = {"bound": -bound.mean()}
    names = ("deadline-descent", "coordinate-descent", "viterbi", "edge-only", "device-only")
    for name in names:
        cost[name] = -rollout(problem, make_agent(name, problem), trace).returns.mean()
    foresees = make_agent("clairvoyant", problem)
    foresees.foresee(trace)
    returns = rollout(problem, foresees, trace).returns
    assert (returns <= bound).all()
    cost["clairvoyant"] = -returns.mean()
    assert cost["bound"] * 1.2 < cost["clairvoyant"] * 1.05 < cost["deadline-descent"]
    assert cost["deadline-descent"] * 1.05 < cost["coordinate-descent"]
    assert cost["coordinate-descent"] * 1.3 < cost["viterbi"]
    assert cost["viterbi"] < cost["edge-only"]
    assert cost["edge-only"] * 1.2 < cost["device-only"]
