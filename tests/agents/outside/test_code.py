"""Agents of the user's own code."""

import sys

import numpy as np
import pytest

import mec_gym
from agents.registry import make_agent

PAPER = "mec/TrainingOffloadPaper-v0"
CODE = """
import numpy as np


class Constant:
    def __init__(self, problem, seed=0):
        self.problem, self.seed = problem, seed

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        batch = np.shape(observation)[:-1]
        low = self.problem.action_space.low
        return np.broadcast_to(low, (*batch, *low.shape)), state


def make(problem, seed):
    return Constant(problem, seed)


class Ready(Constant):
    def __init__(self):
        pass

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((*np.shape(observation)[:-1], 11), np.float32), state


ready = Ready()


def broken(problem, seed):
    raise RuntimeError("out of wood")


def wrong(problem, seed):
    return 5
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my_own_agents.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    yield tmp_path
    sys.modules.pop("my_own_agents", None)


def test_functions_classes_and_objects(here):
    problem = mec_gym.make_problem(PAPER)
    for name in ("make", "Constant"):
        agent = make_agent(f"my_own_agents:{name}", problem, seed=7)
        assert agent.problem is problem and agent.seed == 7
    ready = make_agent("my_own_agents:ready", problem)
    assert ready is sys.modules["my_own_agents"].ready
    made, other = mec_gym.compare(["my_own_agents:make", "my_own_agents:ready"], PAPER, 5)
    assert made.agent == "my_own_agents:make"
    assert made.return_mean == other.return_mean < 0
    assert np.isfinite(made.return_mean)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_own_agents:nobody", "AttributeError.*nobody"),
        ("no_such_agents:make", r"agent must be one of .*MODULE:NAME.*no_such_agents:make"),
        ("no.such.agents:make", "agent must be one of"),
        ("my_own_agents:broken", "RuntimeError: out of wood"),
        ("my_own_agents:wrong", "with predict, got 5"),
        ("my_own_agents:np", "TypeError"),
        ("my_own_agents:", r"agent must be one of .*MODULE:NAME"),
        ("my own agents:make", r"agent must be one of .*sb3:PATH"),
        (":make", "agent must be one of"),
    ],
)
def test_what_is_no_agent_is_named(here, name, message):
    with pytest.raises(ValueError, match=message):
        make_agent(name, PAPER)
