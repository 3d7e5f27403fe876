"""Early exit as it is registered: a golden roll-out, scenarios from files, the order of agents."""

import gymnasium as gym
import numpy as np
import pytest

import mec_gym
from agents.registry import make_agent
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.dnn.graph import save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.testing import check_problem

EXIT = "mec/EarlyExitPartition-v1"

# Seed 77; actions of default_rng(2024). Generated once; a change of any digit is a change of the
# physics, of the sampling or of what an action means.
GOLDEN = (
    [
        -1.283772976, -2.791575574, -11.02998141, -0.7657495612, -0.1278644617, -12.95664111,
        -10.90329015, -11.83065795, -0.902739252, -10.92660367, -11.63951064, -11.17160505,
    ],
    [
        0.8825347697, 0.8305912274, 1.0, 0.4762004276, 0.03283349182, 1.0, 1.0, 1.0, 0.335203254,
        1.0, 1.0, 1.0,
    ],
)  # fmt: skip


def test_golden_rollout():
    env = gym.make(EXIT)
    env.reset(seed=77)
    rng = np.random.default_rng(2024)
    rewards, latencies = [], []
    for _ in range(12):
        _, reward, _, _, info = env.step(rng.integers(env.action_space.nvec))
        rewards.append(reward)
        latencies.append(info["latency_s"])
    assert rewards == pytest.approx(GOLDEN[0], rel=1e-9, abs=0)
    assert latencies == pytest.approx(GOLDEN[1], rel=1e-9, abs=0)


@pytest.mark.slow
def test_the_order_of_agents():
    problem = mec_gym.make_problem(EXIT)
    trace = sample_episodes(problem, 0, 200)
    cost = {"bound": -problem.bound(trace).mean()}
    for name in ("price", "exact", "dapdee", "dads", "device-only"):
        result = rollout(problem, make_agent(name, problem), trace)
        cost[name] = -result.returns.mean()
    assert cost["bound"] * 1.05 < cost["price"] < 1.3 * cost["bound"]
    assert cost["price"] * 1.2 < cost["exact"]
    assert cost["exact"] * 1.2 < cost["dapdee"] < cost["dads"] < cost["device-only"]


@pytest.mark.slow
def test_scenarios_from_files(tmp_path):
    measured = tmp_path / "uplink.csv"
    measured.write_text("time,bit/s\n" + "".join(f"{t},{1e6 * (1 + t % 3)}\n" for t in range(30)))
    env = gym.make(EXIT, scenario=f"csv:{measured}")
    env.reset(seed=0)
    assert set(np.unique(env.unwrapped.trace.bandwidth)) <= {1e6, 2e6, 3e6}
    check_problem(EXIT, f"csv:{measured}")
    save_graph(tmp_path / "mine.json", load_profile("alexnet-digits"))
    problem = mec_gym.make_problem(EXIT, f"profile:{tmp_path / 'mine.json'}")
    assert problem.scenario.graph == load_profile("alexnet-digits")
    save_graph(tmp_path / "bare.json", load_profile("alexnet-exits"))
    for name, message in (
        (f"profile:{tmp_path / 'bare.json'}", "'exit 1'"),
        ("csv:", "scenario .*csv:PATH.*'csv:'"),
        ("photo:x.png", "scenario .*csv:PATH.*photo:x.png"),
    ):
        with pytest.raises(ValueError, match=message):
            mec_gym.make_problem(EXIT, name)
    with pytest.raises(FileNotFoundError):
        mec_gym.make_problem(EXIT, "csv:nowhere.csv")
    with pytest.raises(ValueError, match=rf"scenario .*'csv:{measured}'"):
        mec_gym.make_problem("mec/TrainingOffload-v0", f"csv:{measured}")
