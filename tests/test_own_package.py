"""A problem of a package outside the repository gets everything that ours have."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import mec_gym

ROOT = Path(__file__).resolve().parents[1]

PACKAGE = '''
"""Which of three machines is the fastest today?"""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from agents.entries import AgentEntry, solver_entry
from agents.heads import FlatHead
from agents.heads.protocol import HeadEntry
from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from agents.protocol import Solution
from mec_gym import Entry, Preset
from train.presets import TrainingPreset


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    seconds: np.ndarray  # (..., 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    left: np.ndarray  # (...)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    machine: np.ndarray  # (..., 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    latency_s: np.ndarray  # (...)


@dataclass(frozen=True, slots=True)
class Scenario:
    slowest: float = 1.0


class Machines:
    """Two jobs a slot, each on one of three machines."""

    costs, gains = ("latency_s",), ()
    horizon, episodes_ahead = 4, 2

    def __init__(self, scenario):
        self.scenario = scenario
        self.observation_space = spaces.Box(0.0, 1.0, (4,), np.float32)
        self.action_space = spaces.MultiDiscrete([3, 3])

    def sample(self, rng, n):
        return Slot(seconds=rng.uniform(0.1, self.scenario.slowest, size=(n, 4, 3)))

    def check(self, trace):
        if (trace.seconds <= 0).any():
            raise ValueError(f"trace.seconds must be positive, got {trace.seconds.min()}")

    def start(self, slot):
        return State(left=np.full(slot.seconds.shape[:-1], 4.0))

    def observe(self, slot, state):
        shares = slot.seconds / self.scenario.slowest
        return np.concatenate([shares, state.left[..., None] / 4], axis=-1).astype(np.float32)

    def decode(self, observation):
        seen = np.asarray(observation, dtype=np.float64)
        return Slot(seconds=seen[..., :3] * self.scenario.slowest), State(left=4 * seen[..., 3])

    def decision(self, action):
        return Decision(machine=np.asarray(action, dtype=np.int64))

    def encode(self, decision):
        return decision.machine

    def step(self, slot, state, decision):
        chosen = decision.machine[..., None] == np.arange(3)
        taken = (slot.seconds[..., None, :] * chosen).sum(axis=(-1, -2))
        return State(left=state.left - 1.0), Outcome(latency_s=taken)

    def reward(self, outcome):
        return -outcome.latency_s

    def done(self, state):
        return state.left <= 0

    def bound(self, trace):
        return -2.0 * trace.seconds.min(axis=-1).sum(axis=-1)

    def draw(self, episode):
        from mec_gym.core.pictures import new_figure

        figure = new_figure(3.0, 2.0)
        figure.add_subplot().plot([outcome.latency_s for outcome in episode.outcomes])
        return figure


class Fastest:
    def __init__(self, scenario):
        pass

    def solve(self, slot, state):
        best = slot.seconds.argmin(axis=-1)
        return Solution(Decision(machine=np.stack([best, best], axis=-1)), 0)


ENVIRONMENTS = {
    "me/Machines-v0": Entry(
        about="two jobs, three machines",
        problem=Machines,
        scenario_type=Scenario,
        presets={"usual": Preset(Scenario, "as usual"),
                 "slow": Preset(lambda: Scenario(slowest=2.0), "slower machines")},
        default="usual",
    )
}
AGENTS = {"fastest": solver_entry("the fastest machine", Fastest)}
HEADS = {"same": HeadEntry("the action itself, under another name", FlatHead)}
PPO_PRESETS = {
    "machines": TrainingPreset("a small network", PPOSettings(
        head="same", network="flat", hidden=8, num_envs=8, n_steps=8, minibatches=2), 512),
}
A3C_PRESETS = {
    "machines-a3c": TrainingPreset("a small network", A3CSettings(
        hidden=8, num_envs=4, n_steps=4, workers=1), 256),
}
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder outside the repository with the package in it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "my_machines.py").write_text(PACKAGE)
    return folder


def run(folder, *words):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "train", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_command_line_trains_compares_and_lists(folder):
    listed = run(folder, "--import", "my_machines", "scenarios")
    assert listed.returncode == 0, listed.stderr
    for name in ("me/Machines-v0", "usual", "slow", "fastest", "same", "machines-a3c"):
        assert name in listed.stdout

    for algo in ("ppo", "a3c"):
        words = (algo, "--env", "me/Machines-v0", "--out", f"runs/{algo}", "--eval-episodes", "4")
        learnt = run(folder, "--import=my_machines", *words)
        assert learnt.returncode == 0, learnt.stderr

    agents = ("--agents", "fastest", "random", "ppo:runs/ppo", "a3c:runs/a3c")
    words = ("compare", "--out", "runs/compared", "--episodes", "20", *agents)
    compared = run(folder, "--import", "my_machines", *words)
    assert compared.returncode == 0, compared.stderr
    rows = json.loads((folder / "runs/compared/results.json").read_text())
    by_name = {row["agent"]: row for row in rows}
    assert list(by_name) == ["fastest", "random", "ppo:runs/ppo", "a3c:runs/a3c"]
    assert by_name["fastest"]["gap_percent_mean"] == pytest.approx(0.0, abs=1e-4)
    assert by_name["random"]["gap_percent_mean"] > 50
    assert "latency_s" in by_name["random"]["outcome_means"]


def test_what_is_no_package_with_a_problem_is_one_line(folder):
    (folder / "empty_module.py").write_text("")
    (folder / "broken_module.py").write_text("1 / 0")
    for module, word in (
        ("empty_module", "ENVIRONMENTS"),
        ("broken_module", "ZeroDivisionError"),
        ("no_such_module", "no_such_module"),
    ):
        done = run(folder, "--import", module, "scenarios")
        assert done.returncode == 2 and word in done.stderr
        assert "Traceback" not in done.stderr and done.stderr.startswith("error: ")
    done = run(folder, "compare", "--env", "me/Machines-v0", "--out", "x")
    assert done.returncode == 2 and "--import" in done.stderr


@pytest.fixture
def registered(folder, monkeypatch):
    """The package registered in this process; forgotten afterwards."""
    monkeypatch.syspath_prepend(str(folder))
    mec_gym.register_room("my_machines")
    yield sys.modules["my_machines"]
    mec_gym.unregister_room("my_machines")
    assert "me/Machines-v0" not in mec_gym.ENVIRONMENTS
    with pytest.raises(ValueError, match="my_machines"):
        mec_gym.unregister_room("my_machines")


def test_python_makes_checks_and_plays_it(registered):
    env = gym.make("me/Machines-v0", scenario="slow")
    env.reset(seed=0)
    _, reward, *_, info = env.step(np.array([0, 1]))
    assert info["latency_s"] == -reward > 0
    assert gym.make_vec("me/Machines-v0", num_envs=5).reset(seed=0)[0].shape == (5, 4)
    mine = gym.make("me/Machines-v0", scenario=registered.Scenario(slowest=7.0))
    again = gym.make(EnvSpec.from_json(mine.spec.to_json()))
    assert again.unwrapped.problem.scenario == registered.Scenario(slowest=7.0)
    assert mine.spec.max_episode_steps == mine.unwrapped.problem.horizon
    mec_gym.check_problem("me/Machines-v0")

    fastest, chance = mec_gym.compare(["fastest", "random"], "me/Machines-v0", episodes=20)
    assert fastest.gap_percent_mean == pytest.approx(0.0, abs=1e-4)
    assert chance.difference_mean == pytest.approx(chance.return_mean - fastest.return_mean)
    with pytest.raises(ValueError, match=r"'price'.*training_offload"):
        mec_gym.make_agent("price", "me/Machines-v0")


def test_registering_again_changes_nothing_and_ids_are_not_taken_twice(registered, monkeypatch):
    before = dict(mec_gym.ENVIRONMENTS)
    mec_gym.register_room("my_machines")
    mec_gym.register_room(registered)
    assert before == mec_gym.ENVIRONMENTS

    other = types.ModuleType("other")
    other.ENVIRONMENTS = {"me/Machines-v0": registered.ENVIRONMENTS["me/Machines-v0"]}
    with pytest.raises(ValueError, match=r"me/Machines-v0.*other"):
        mec_gym.register_room(other)
    other.ENVIRONMENTS = {"me/Other-v0": "a string"}
    with pytest.raises(ValueError, match=r"me/Other-v0.*a string"):
        mec_gym.register_room(other)
    with pytest.raises(ValueError, match="5"):
        mec_gym.register_room(5)
    assert before == mec_gym.ENVIRONMENTS
