"""Models of SB3 as agents, and the episodes that they learn on."""

import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tiny_problem import TinyProblem

import mec_gym
from agents.ppo.model import agent_of, check_fits, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from mec_gym.core.env import MecEnv
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.testing import check_agent

PAPER = mec_gym.make_problem("mec/TrainingOffloadPaper-v0")
SETTINGS = PPOSettings(num_envs=4, n_steps=30, minibatches=2, hidden=8)


def learnt(problem):
    env = make_vec_env(problem, SETTINGS)
    model = make_ppo(env, SETTINGS, seed=0)
    model.learn(SETTINGS.rollout)
    return model, env.head


@pytest.mark.parametrize("problem", [PAPER, TinyProblem()], ids=["box", "whole numbers"])
def test_sb3_evaluates_a_trained_agent_as_rollout_does(problem):
    """Of whole numbers SB3's policy draws the action itself; a Box is scaled by the head."""
    model, head = learnt(problem)
    agent = agent_of(model, head)
    check_agent(agent, problem, episodes=8)
    workers = DummyVecEnv([lambda: Monitor(MecEnv(problem))] * 6)
    workers.seed(7)
    rewards, _ = evaluate_policy(agent, workers, n_eval_episodes=6, return_episode_rewards=True)
    result = rollout(problem, agent, sample_episodes(problem, 7, 6))
    np.testing.assert_allclose(sorted(rewards), sorted(result.returns), atol=1e-6)


def test_models_are_for_spaces_of_their_own():
    model, head = learnt(PAPER)
    check_fits(model, head, "mine")
    two = (10e6, 9e6)
    smaller = mec_gym.training_offload.Scenario(
        server_uplink=two, server_downlink=two, server_compute=two
    )
    narrow = make_vec_env(mec_gym.make_problem("mec/TrainingOffloadPaper-v0", smaller), SETTINGS)
    with pytest.raises(ValueError, match=r"mine .*observations .*\(24,\).*\(\d+,\)"):
        check_fits(model, narrow.head, "mine")
    # Trained with a flat head on 24 inputs; the price head would show 26.
    priced = PPOSettings(head="price", num_envs=4, n_steps=30, minibatches=2)
    with pytest.raises(ValueError, match=r"mine .*observations .*\(24,\).*\(26,\)"):
        check_fits(model, make_vec_env(PAPER, priced).head, "mine")


def test_training_episodes_are_not_those_of_tests():
    problem = mec_gym.make_problem("mec/TrainingOffload-v0")
    tested = set(sample_episodes(problem, 0, 500).work[:, 0])
    for seed in (0, 1):
        env = make_vec_env(problem, SETTINGS)
        make_ppo(env, SETTINGS, seed)
        env.reset()
        begun = set(env.env.trace.work[:, 0])
        assert len(begun) == SETTINGS.num_envs and not begun & tested
