"""Settings of PPO: what is refused, and what reaches the model."""

import pytest

import mec_gym
from agents.ppo.model import make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 0}, "num_envs .*got 0"),
        ({"n_steps": 1.5}, r"n_steps .*got 1\.5"),
        ({"n_epochs": 0}, "n_epochs .*got 0"),
        ({"hidden": 0}, "hidden .*got 0"),
        ({"order": "random"}, "order .*sequential, together.*'random'"),
        ({"learning_rate": 0.0}, r"learning_rate .*got 0\.0"),
        ({"clip_range": 0.0}, r"clip_range .*got 0\.0"),
        ({"gamma": 1.1}, r"gamma .*\[0, 1\].*got 1\.1"),
        ({"gae_lambda": -0.1}, r"gae_lambda .*got -0\.1"),
        ({"ent_coef": -1.0}, r"ent_coef .*got -1\.0"),
        ({"log_std_init": float("nan")}, "log_std_init .*got nan"),
        ({"fused": 1}, "fused .*got 1"),
        ({"minibatches": 0}, "minibatches .*got 0"),
        ({"num_envs": 5, "n_steps": 3, "minibatches": 2}, "minibatches .*= 15.*got 2"),
        ({"num_envs": 2, "n_steps": 3, "minibatches": 6}, "minibatches .*at least 2, got 6"),
        ({"sizes": ((2, 1),)}, r"sizes .*\(2, 1\).*'mlp'"),
        ({"sizes": ((2, 1), (3, 0)), "network": "pairs"}, r"sizes .*\(3, 0\)"),
        ({"sizes": ((2, 1, 1),), "network": "pairs"}, r"sizes .*\(2, 1, 1\)"),
        ({"sizes": ((2, 1), (3, 2)), "network": "pairs", "num_envs": 5}, "sizes .*num_envs = 5"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        PPOSettings(**{"minibatches": 1, **changes})


def test_settings_reach_the_model():
    settings = PPOSettings(
        num_envs=3, n_steps=8, minibatches=4, n_epochs=2, learning_rate=0.02, gamma=0.9,
        gae_lambda=0.8, clip_range=0.3, ent_coef=0.01, max_grad_norm=0.7, log_std_init=-2.0,
        hidden=5, reward_scale=3.0, fused=False,
    )  # fmt: skip
    env = make_vec_env(mec_gym.make_problem("mec/TrainingOffloadPaper-v0"), settings)
    model = make_ppo(env, settings, seed=1)
    assert (env.num_envs, env.reward_scale) == (3, 3.0)
    assert (model.n_steps, model.batch_size, model.n_epochs) == (8, 6, 2)
    assert (model.gamma, model.gae_lambda, model.ent_coef) == (0.9, 0.8, 0.01)
    assert (model.max_grad_norm, model.clip_range(0.5), model.seed) == (0.7, 0.3, 1)
    assert model.learning_rate == 0.02
    assert model.policy.log_std.tolist() == [-2.0] * 11
    assert model.policy.mlp_extractor.policy_net[2].out_features == 5
    assert model.policy.optimizer.defaults["fused"] is False
