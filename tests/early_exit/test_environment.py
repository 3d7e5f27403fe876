"""Early exit as it is registered: a golden roll-out, scenarios from files, the order of agents."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

import mec_gym
from agents.registry import make_agent
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.dnn.graph import save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.testing import check_problem

EXIT = "mec/EarlyExitPartition-v2"

# Seed 77; actions of default_rng(2024). Generated once; a change of any digit is a change of the
# physics, of the sampling or of what an action means.
GOLDEN = (
    [
        -1.438118854, -12.81010348, -11.02998141, -0.7733044982, -0.1278644617, -12.95664111,
        -0.8357910881, -11.83065795, -1.051218615, -10.92660367, -11.63951064, -1.039212742,
    ],
    [
        0.9423186951, 1.0, 1.0, 0.4470553885, 0.03283349182, 1.0, 0.5798581283, 1.0,
        0.485145158, 1.0, 1.0, 0.649361004,
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
    # Rules that are blind to the battery run out of it.
    assert cost["price"] * 10 < cost["exact"]
    assert cost["exact"] < cost["dapdee"] < cost["dads"] < cost["device-only"]


@pytest.mark.slow
def test_how_often_the_battery_binds():
    """The tuned rule makes ends meet; who always stays on the device or always sends does not."""
    problem = mec_gym.make_problem(EXIT)
    trace = sample_episodes(problem, 0, 100)
    short, rich = {}, {}
    ample = mec_gym.make_problem(EXIT, dataclasses.replace(problem.scenario, battery=1e6))
    for name in ("price", "device-only", "edge-only"):
        agent = make_agent(name, problem)
        outcomes = rollout(problem, agent, trace).outcomes
        short[name] = outcomes.battery_short.any(axis=1).mean()
        spent = rollout(ample, make_agent(name, ample), trace).outcomes.energy_j.sum(axis=1)
        rich[name] = (spent > problem.scenario.battery).mean()
    assert short["price"] < 0.05 and min(short["device-only"], short["edge-only"]) > 0.7
    # With more energy the rule would spend it.
    assert 0.2 < rich["price"] < 0.8


def test_files_are_combined(tmp_path):
    measured, network = tmp_path / "up+link.csv", tmp_path / "mine.json"
    measured.write_text("time,kbps\n0,700\n1,900\n2,800\n9,800\n")
    save_graph(network, load_profile("alexnet-digits"))
    csv, profile = f"csv:{measured}+max_gap=8+unit=kbit/s", f"profile:{network}"
    for name in (f"{csv}+{profile}", f"{profile}+{csv}"):
        scenario = mec_gym.make_problem(EXIT, name).scenario
        assert scenario.bandwidth.rate == (7e5, 9e5, 8e5, 8e5)
        assert scenario.graph == load_profile("alexnet-digits")
    for name, message in (
        (f"{csv}+{csv}", "csv cannot be added"),
        (f"{profile}+unit=kbit/s", "there is no option or field 'unit'"),
        (f"csv:{measured}+scenario=x", "csv has no option 'scenario'"),
        (f"csv:{measured}+max_gap=wide", "max_gap must be a number, got 'wide'"),
        (f"csv:{measured}", "time must have no gaps"),
    ):
        with pytest.raises(ValueError, match=message):
            mec_gym.make_problem(EXIT, name)


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
