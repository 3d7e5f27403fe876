"""Models of SB3 as agents, and the episodes that they learn on."""

import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tiny_problem import TinyProblem

import mec_gym
from agents.ppo.model import agent_of, make_ppo, make_vec_env
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


def test_training_episodes_are_not_those_of_tests():
    problem = mec_gym.make_problem("mec/TrainingOffload-v0")
    tested = set(sample_episodes(problem, 0, 500).work[:, 0])
    for seed in (0, 1):
        env = make_vec_env(problem, SETTINGS)
        make_ppo(env, SETTINGS, seed)
        env.reset()
        begun = set(env.env.trace.work[:, 0])
        assert len(begun) == SETTINGS.num_envs and not begun & tested
