"""Runs on distributed inference: several sizes at once, and agents that play any size."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from slow import slow_except
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.ppo.model import load_ppo, make_ppo, make_vec_env
from agents.registry import make_agent
from mec_gym import make_problem
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.seeds import EVAL_SEED
from mec_gym.testing import check_agent
from train.config import a3c_run, ppo_run
from train.runs.a3c import train_a3c
from train.runs.ppo import train_ppo

ENV = "mec/DistributedInference-v1"
ROLLOUT = 48
SMALL = {"num_envs": 6, "n_steps": 8, "minibatches": 2, "n_epochs": 1, "hidden": 8}
SIZES = {"sizes": ((2, 1), (3, 2)), "learning_rate": 0.01}


def ppo(out, preset, rollouts=1, **changes):
    run = ppo_run(out, ENV, preset, total_timesteps=rollouts * ROLLOUT, eval_episodes=4)
    settings = dataclasses.replace(run.settings, **SMALL, **changes)
    return dataclasses.replace(run, settings=settings, eval_every=2 * ROLLOUT)


def a3c(out, preset):
    run = a3c_run(out, ENV, preset, total_timesteps=64, eval_episodes=2)
    small = {"workers": 1, "num_envs": 4, "n_steps": 4, "hidden": 8}
    return dataclasses.replace(run, settings=dataclasses.replace(run.settings, **small))


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()


def actions(agent, problem, n=30):
    slot = sample_episodes(problem, 0, n)
    observation = problem.observe(slot, problem.start(slot))[:, 0]
    return agent.predict(observation, deterministic=True)[0]


@pytest.fixture(scope="module")
def problem():
    return make_problem(ENV)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A run of several sizes."""
    out = tmp_path_factory.mktemp("run") / "ppo"
    return out, train_ppo(ppo(out, "inference-sizes", 5, **SIZES))


def test_what_a_run_of_several_sizes_leaves_behind(several, problem):
    out, agent = several
    config = json.loads((out / "config.json").read_text())
    assert config["settings"]["sizes"] == [[2, 1], [3, 2]]
    assert (config["env"], config["preset"], config["head"]) == (ENV, "inference-sizes", {})
    loaded = load_ppo(out, problem, ENV)
    np.testing.assert_array_equal(weights(loaded.network), weights(agent.network))
    events = EventAccumulator(str(out), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    # Evaluations are of the problem's own size; what is learnt is of all.
    assert [e.step for e in events.Scalars("eval/return_mean")] == [0, 96, 192, 240]
    returns = rollout(problem, loaded, sample_episodes(problem, EVAL_SEED, 4)).returns
    assert events.Scalars("eval/return_mean")[-1].value == pytest.approx(returns.mean(), rel=1e-5)
    assert events.Scalars("rollout/ep_len_mean")[-1].value == problem.horizon
    assert {"rollout/latency_s_mean", "train/value_loss"} <= set(events.Tags()["scalars"])


def test_a_run_of_several_sizes_learns(several, problem, tmp_path):
    settings = ppo(tmp_path, "inference-sizes", **SIZES).settings
    untrained = weights(make_ppo(make_vec_env(problem, settings), settings, seed=0).policy)
    learnt = weights(several[1].network)
    assert not np.array_equal(untrained, learnt)
    np.testing.assert_allclose(untrained, learnt, atol=0.1)  # the same, after five small steps


@pytest.mark.parametrize("kind", slow_except(["sizes", "ppo", "a3c", "mtl-a3c"], "sizes"))
def test_pair_scorers_play_any_size(several, problem, tmp_path, kind):
    """Nothing but the network is taken along."""
    out = tmp_path / kind
    if kind == "sizes":
        out, agent = several
    elif kind == "ppo":
        agent = train_ppo(ppo(out, "inference"))
    else:
        agent = train_a3c(a3c(out, kind))
    name = f"{kind if kind.endswith('a3c') else 'ppo'}:{out}"
    same = actions(make_agent(name, problem, env_id=ENV), problem)
    np.testing.assert_array_equal(same, actions(agent, problem))
    for size in ((1, 1), (2, 6), (9, 3)):
        sized = problem.sized(*size)
        loaded = make_agent(name, sized, env_id=ENV)
        np.testing.assert_array_equal(weights(loaded.network), weights(agent.network))
        assert actions(loaded, sized).shape == (30, size[0])
        check_agent(loaded, sized, episodes=3)


@pytest.mark.parametrize(
    "preset", slow_except(["inference-flat", "inference-branches"], "inference-flat")
)
def test_flat_runs_play_their_own_size_only(tmp_path, problem, preset):
    out = tmp_path / "ppo"
    agent = train_ppo(ppo(out, preset))
    np.testing.assert_array_equal(actions(load_ppo(out, problem), problem), actions(agent, problem))
    for size in ((4, 3), (5, 2)):
        with pytest.raises(ValueError, match=rf"{out}.* another environment.* inputs are"):
            make_agent(f"ppo:{out}", problem.sized(*size), env_id=ENV)
