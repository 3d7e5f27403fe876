"""Training offload as it is registered: golden roll-outs, and the order of its agents."""

import gymnasium as gym
import numpy as np
import pytest

import mec_gym
from agents.registry import make_agent
from mec_gym.core.rollout import rollout, sample_episodes

PAPER, DRIVE = "mec/TrainingOffloadPaper-v0", "mec/TrainingOffload-v0"

# Seed 77; actions of default_rng(2024), most of the work to the edge. Generated once; a change
# of any digit is a change of the physics, of the sampling or of what an action means.
GOLDEN = {
    PAPER: (
        [
            -0.1451866752, -0.1111222009, -0.08196179741, -0.0803082385, -0.09657903261,
            -0.09668553847, -0.1696002374, -0.04153096258, -0.07694395337, -0.1458440619,
            -0.1330407626, -0.1492753165,
        ],
        [2, 4, 4, 4, 4, 1, 1, 4, 2, 1, 2, 4],
    ),
    DRIVE: (
        [
            -0.1508654293, -0.1195876043, -0.08950650746, -0.07456625031, -0.1234088339,
            -0.09518980142, -0.172778822, -0.06235698299, -0.07694395337, -0.1420958355,
            -0.1820798648, -0.2045165073,
        ],
        [4, 2, 1, 4, 1, 4, 1, 3, 4, 1, 1, 1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("env_id", [PAPER, DRIVE])
def test_golden_rollout(env_id):
    env = gym.make(env_id)
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    rewards, cases = [], []
    for _ in range(12):
        action = rng.uniform(0, 1, env.action_space.shape).astype(np.float32)
        action[:2] = 0.6 + 0.4 * action[:2]
        _, reward, terminated, _, info = env.step(action)
        rewards.append(reward)
        cases.append(info["case"])
        if terminated:
            env.reset()
    assert rewards == pytest.approx(GOLDEN[env_id][0], rel=1e-9, abs=0)
    assert cases == GOLDEN[env_id][1]
    assert set(cases) >= {1, 2, 4}


def test_no_return_is_below_what_dropping_everything_gives():
    for env_id in (PAPER, DRIVE):
        problem = mec_gym.make_problem(env_id)
        trace = sample_episodes(problem, 0, 40)
        for name in ("exact", "device-only", "random-split", "random"):
            returns = rollout(problem, make_agent(name, problem), trace).returns
            assert (returns >= -problem.horizon).all(), name


@pytest.mark.slow
def test_the_order_of_agents_on_the_drive():
    problem = mec_gym.make_problem(DRIVE)
    trace = sample_episodes(problem, 0, 200)
    delay = {"bound": -problem.bound(trace).mean() * problem.scenario.deadline}
    drops = {}
    for name in ("price", "budget", "exact", "random-split"):
        result = rollout(problem, make_agent(name, problem), trace)
        delay[name] = result.outcomes.latency_s.sum(axis=1).mean()
        drops[name] = result.outcomes.dropped.sum(axis=1).mean()
    assert delay["bound"] * 1.05 < delay["price"] < 1.25 * delay["bound"]
    assert delay["price"] * 1.05 < delay["budget"]
    assert delay["budget"] * 1.5 < delay["exact"]
    assert delay["exact"] > 1.5 * delay["price"]
    assert delay["random-split"] > 1.1 * delay["exact"]
    assert drops["price"] < 1.0 < 4.0 < drops["exact"]


def test_on_the_paper_the_exact_agent_is_the_bound():
    problem = mec_gym.make_problem(PAPER)
    trace = sample_episodes(problem, 0, 200)
    for name in ("exact", "budget", "price"):
        returns = rollout(problem, make_agent(name, problem), trace).returns
        np.testing.assert_allclose(returns, problem.bound(trace), rtol=1e-5)
