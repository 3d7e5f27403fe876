"""A learning curve says how good the agent was, when, and after how many seconds."""

import multiprocessing
import time

import numpy as np
import pytest
import torch
from places_problem import PlacesProblem

from agents.a3c.settings import A3CSettings
from agents.trained_agent import TrainedAgent
from agents.ppo.settings import PPOSettings
from agents.ppo.model import agent_of, make_ppo, make_vec_env
from mec_gym.core.rollout import rollout, sample_episodes
from train import curves
from train.runs.learn import learn

PROBLEM = PlacesProblem(devices=2, places=2)
TRACE = sample_episodes(PROBLEM, 0, 30)
BOUND = PROBLEM.bound(TRACE)
PPO = PPOSettings(
    network="flat", num_envs=16, n_steps=8, minibatches=2, hidden=16, learning_rate=5e-3
)
A3C = A3CSettings(workers=1, num_envs=16, n_steps=8, hidden=16, learning_rate=5e-3)
SETTINGS = {"ppo": PPO, "a3c": A3C}
ROLLOUT = 128
TOTAL = 62 * ROLLOUT


def weights(curve):
    return torch.nn.utils.parameters_to_vector(curve.agent.network.parameters()).detach()


@pytest.fixture(scope="module")
def found():
    """Evaluated at the beginning and four times."""
    return {
        name: learn(PROBLEM, settings, 0, TOTAL, TRACE, evaluations=4)
        for name, settings in SETTINGS.items()
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_what_a_curve_holds(found, name):
    curve = found[name]
    assert multiprocessing.active_children() == []
    # After 15.5, 31, 46.5 and 62 rollouts are asked for; evaluated is between two.
    assert (curve.steps / ROLLOUT).tolist() == [0, 16, 31, 47, 62]
    assert curve.steps.dtype == np.int64
    assert curve.seconds.shape == (5,) and curve.seconds[0] >= 0
    assert (np.diff(curve.seconds) > 0).all() and curve.seconds[-1] < 60
    assert curve.returns.shape == (5, 30)
    assert (curve.returns <= BOUND + 1e-9).all()
    assert type(curve.agent) is TrainedAgent
    last = rollout(PROBLEM, curve.agent, TRACE).returns
    np.testing.assert_array_equal(curve.returns[-1], last)
    # It learns, and what is evaluated is the agent of that moment.
    means = curve.returns.mean(axis=1)
    assert means[-1] > means[0] + 0.5 * -BOUND.mean()
    assert means[0] < means[1] <= means[-1]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_seed_decides_everything_but_the_seconds(found, name):
    again = learn(PROBLEM, SETTINGS[name], 0, TOTAL, TRACE, evaluations=4)
    assert torch.equal(weights(again), weights(found[name]))
    np.testing.assert_array_equal(again.returns, found[name].returns)
    np.testing.assert_array_equal(again.steps, found[name].steps)
    other = learn(PROBLEM, SETTINGS[name], 1, 4 * ROLLOUT, TRACE, evaluations=1)
    assert other.steps.tolist() == [0, 4 * ROLLOUT]
    assert not np.array_equal(other.returns[0], found[name].returns[0])


def test_evaluations_change_nothing(found):
    """A curve of PPO is a run of PPO; of A3C, the same with more looks at it."""
    env = make_vec_env(PROBLEM, PPO)
    model = make_ppo(env, PPO, seed=0)
    begin = rollout(PROBLEM, agent_of(model, env.head), TRACE).returns
    np.testing.assert_array_equal(found["ppo"].returns[0], begin)
    model.learn(TOTAL)
    plain = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
    assert torch.equal(plain, weights(found["ppo"]))
    more = learn(PROBLEM, A3C, 0, TOTAL, TRACE, evaluations=2)
    assert torch.equal(weights(more), weights(found["a3c"]))
    assert more.steps.tolist() == [0, 31 * ROLLOUT, TOTAL]
    np.testing.assert_array_equal(more.returns, found["a3c"].returns[[0, 2, 4]])


def test_rollouts_longer_than_milestones():
    """Each evaluation counts once, however many milestones a rollout passes."""
    curve = learn(PROBLEM, PPO, 0, 2 * ROLLOUT, TRACE, evaluations=10)
    assert curve.steps.tolist() == [0, ROLLOUT, 2 * ROLLOUT]
    assert curve.returns.shape == (3, 30)


@pytest.mark.parametrize("name", SETTINGS)
def test_evaluations_take_no_time(monkeypatch, name):
    """Seconds are those of training, however slow the test is."""

    def slow(*arguments):
        time.sleep(1.0)
        return rollout(*arguments)

    monkeypatch.setattr(curves, "rollout", slow)
    begin = time.perf_counter()
    curve = learn(PROBLEM, SETTINGS[name], 0, 2 * ROLLOUT, TRACE, evaluations=1)
    whole = time.perf_counter() - begin
    assert 0 < curve.seconds[-1] < whole - 1.9


def test_an_mlp_has_a_curve_too():
    settings = PPOSettings(num_envs=16, n_steps=8, minibatches=2, hidden=16)
    curve = learn(PROBLEM, settings, 0, 2 * ROLLOUT, TRACE, evaluations=2)
    assert curve.steps.tolist() == [0, ROLLOUT, 2 * ROLLOUT]
    last = rollout(PROBLEM, curve.agent, TRACE).returns
    np.testing.assert_array_equal(curve.returns[-1], last)
