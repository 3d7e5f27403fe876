"""Learning in one call, and curves of how good the agent was, when, after how many seconds."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from places_problem import ENV, PlacesProblem
from slow import slow_except

import mec_gym
from agents.a3c.settings import A3CSettings
from agents.ppo import learning
from agents.ppo.model import agent_of, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from mec_gym.core.rollout import rollout, sample_episodes
from train.runs import learn as module
from train.runs import ppo as runs_ppo
from train.runs.learn import learning_curve

PROBLEM = PlacesProblem(devices=2, places=2)
TRACE = sample_episodes(PROBLEM, 0, 30)
BOUND = PROBLEM.bound(TRACE)
PPO = PPOSettings(
    network="flat", num_envs=16, n_steps=8, minibatches=2, hidden=16, learning_rate=5e-3
)
A3C = A3CSettings(workers=1, num_envs=16, n_steps=8, hidden=16, learning_rate=5e-3)
SETTINGS = {"ppo": PPO, "a3c": A3C}
PPO_FAST = slow_except(SETTINGS, "ppo")
ROLLOUT = 128
TOTAL = 62 * ROLLOUT


def parameters(agent):
    return torch.nn.utils.parameters_to_vector(agent.network.parameters()).detach()


def weights(curve):
    return parameters(curve.agent)


@functools.cache
def found(name):
    """Evaluated at the beginning and four times."""
    return learning_curve(PROBLEM, SETTINGS[name], 0, TOTAL, TRACE, evaluations=4)


@pytest.mark.parametrize("name", PPO_FAST)
def test_what_a_curve_holds(name):
    curve = found(name)
    assert multiprocessing.active_children() == []
    # After 15.5, 31, 46.5 and 62 rollouts are asked for; evaluated is between two.
    assert (curve.steps / ROLLOUT).tolist() == [0, 16, 31, 47, 62]
    assert curve.steps.dtype == np.int64
    assert curve.seconds.shape == (5,) and curve.seconds[0] >= 0
    assert (np.diff(curve.seconds) > 0).all()
    assert curve.returns.shape == (5, 30)
    assert (curve.returns <= BOUND + 1e-9).all()
    last = rollout(PROBLEM, curve.agent, TRACE).returns
    np.testing.assert_array_equal(curve.returns[-1], last)
    # It learns, and what is evaluated is the agent of that moment.
    means = curve.returns.mean(axis=1)
    assert means[-1] > means[0] + 0.5 * -BOUND.mean()
    assert means[0] < means[1] <= means[-1]


@pytest.mark.parametrize("name", PPO_FAST)
def test_a_seed_decides_everything_but_the_seconds(name):
    again = learning_curve(PROBLEM, SETTINGS[name], 0, TOTAL, TRACE, evaluations=4)
    assert torch.equal(weights(again), weights(found(name)))
    np.testing.assert_array_equal(again.returns, found(name).returns)
    np.testing.assert_array_equal(again.steps, found(name).steps)
    other = learning_curve(PROBLEM, SETTINGS[name], 1, 4 * ROLLOUT, TRACE, evaluations=1)
    assert other.steps.tolist() == [0, 4 * ROLLOUT]
    assert not np.array_equal(other.returns[0], found(name).returns[0])


@pytest.mark.slow
def test_evaluations_change_nothing():
    """A curve of PPO is a run of PPO; of A3C, the same with more looks at it."""
    curve = found("ppo")  # before the model, which seeds the generator of all
    env = make_vec_env(PROBLEM, PPO)
    model = make_ppo(env, PPO, seed=0)
    begin = rollout(PROBLEM, agent_of(model, env.head), TRACE).returns
    np.testing.assert_array_equal(curve.returns[0], begin)
    learning.learn(model, TOTAL, [])
    plain = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
    assert torch.equal(plain, weights(curve))
    more = learning_curve(PROBLEM, A3C, 0, TOTAL, TRACE, evaluations=2)
    assert torch.equal(weights(more), weights(found("a3c")))
    assert more.steps.tolist() == [0, 31 * ROLLOUT, TOTAL]
    np.testing.assert_array_equal(more.returns, found("a3c").returns[[0, 2, 4]])


def test_rollouts_longer_than_milestones():
    """Each evaluation counts once, however many milestones a rollout passes."""
    curve = learning_curve(PROBLEM, PPO, 0, 2 * ROLLOUT, TRACE, evaluations=10)
    assert curve.steps.tolist() == [0, ROLLOUT, 2 * ROLLOUT]
    assert curve.returns.shape == (3, 30)


class Clock:
    """Time passes while an agent is evaluated, and nowhere else."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def evaluate(self, *arguments):
        self.now += 100.0
        return rollout(*arguments)


@pytest.mark.parametrize("name", PPO_FAST)
def test_evaluations_take_no_time(monkeypatch, name):
    """Seconds are those of training, however slow the test is."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "rollout", clock.evaluate)
    curve = learning_curve(PROBLEM, SETTINGS[name], 0, 2 * ROLLOUT, TRACE, evaluations=2)
    assert clock.now == 300.0 and curve.seconds.tolist() == [0.0, 0.0, 0.0]


def test_an_mlp_has_a_curve_too():
    settings = PPOSettings(num_envs=16, n_steps=8, minibatches=2, hidden=16)
    curve = learning_curve(PROBLEM, settings, 0, 2 * ROLLOUT, TRACE, evaluations=2)
    assert curve.steps.tolist() == [0, ROLLOUT, 2 * ROLLOUT]
    last = rollout(PROBLEM, curve.agent, TRACE).returns
    np.testing.assert_array_equal(curve.returns[-1], last)


SMALL = {"num_envs": 8, "n_steps": 4, "hidden": 8, "network": "flat"}
ALGOS = {"ppo": {**SMALL, "minibatches": 2}, "a3c": {**SMALL, "workers": 1}}


@pytest.mark.parametrize("algo", slow_except(ALGOS, "ppo"))
def test_an_agent_in_one_call(places, algo):
    def learn(seed):
        return mec_gym.learn(
            ENV, algo, "flat", total_timesteps=96, seed=seed, scenario="three", **ALGOS[algo]
        )

    agent, *others = (learn(seed) for seed in (0, 0, 1))
    first, again, other = map(parameters, (agent, *others))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert multiprocessing.active_children() == []
    assert max(p.shape[0] for p in agent.network.parameters()) < 64  # hidden = 8 was heard
    mec_gym.check_agent(agent, ENV, episodes=8)
    assert mec_gym.evaluate(agent, ENV, episodes=8).agent == "TrainedAgent"


def test_it_learns_what_a_curve_learns(places):
    """The same seed and settings, whoever calls."""
    agent = mec_gym.learn(ENV, "ppo", "flat", total_timesteps=96, **ALGOS["ppo"])
    problem = mec_gym.make_problem(ENV)
    trace = sample_episodes(problem, 0, 2)
    curve = learning_curve(problem, PPOSettings(**ALGOS["ppo"]), 0, 96, trace)
    assert torch.equal(parameters(agent), parameters(curve.agent))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_id": "mec/Nothing-v0"}, "env_id .*'mec/Nothing-v0'"),
        ({"algo": "dqn"}, "algo .*ppo, a3c, mtl-a3c.*'dqn'"),
        ({"preset": "nothing"}, "preset .*flat.*'nothing'"),
        ({"algo": "mtl-a3c", "preset": "flat"}, "preset.*multi-task.*'flat'"),
        ({"scenario": "nowhere"}, "scenario .*three.*'nowhere'"),
        ({"telepathy": 1}, "settings .*hidden.*telepathy"),
        ({"workers": 1}, "settings .*workers"),
        ({"head": "price"}, "head .*flat.*'price'"),
        ({"gamma": 2.0}, r"gamma .*2\.0"),
        ({"total_timesteps": 0}, "total_timesteps .*0"),
        ({"seed": -1}, "seed .*-1"),
    ],
)
def test_bad_input(places, changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        mec_gym.learn(**{"env_id": ENV, **changes})


@pytest.mark.parametrize("algo", slow_except(ALGOS, "ppo"))
def test_ctrl_c_returns_the_agent_as_it_is(places, monkeypatch, algo):
    """Long before its time."""
    before = signal.getsignal(signal.SIGINT)
    advance = module.advance if algo == "a3c" else runs_ppo.advance

    pressed = []

    def press(bar, steps):
        if not pressed:  # a second time would stop it at once
            pressed.append(steps)
            os.kill(os.getpid(), signal.SIGINT)
        advance(bar, steps)

    monkeypatch.setattr(module if algo == "a3c" else runs_ppo, "advance", press)
    agent = mec_gym.learn(ENV, algo, "flat", total_timesteps=10**9, **ALGOS[algo])
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGINT) is before
    mec_gym.check_agent(agent, ENV, episodes=4)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    """Workers import the script that starts them; they must not learn, too."""
    script = tmp_path / "script.py"
    script.write_text(
        "import mec_gym\n"
        "mec_gym.learn('mec/TrainingOffloadPaper-v0', 'a3c', total_timesteps=2000)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )  # fmt: skip
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr.splitlines()[-1]
    assert done.stderr.count("Traceback") == 1
