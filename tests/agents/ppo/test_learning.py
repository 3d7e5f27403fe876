"""The learning rate of each update: it falls from the first to the last, and none of them is 0."""

import pytest

import mec_gym
from agents.ppo.learning import learn
from agents.ppo.model import make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings

SETTINGS = PPOSettings(
    num_envs=2, n_steps=5, minibatches=2, n_epochs=1, hidden=4, learning_rate=0.04
)


class Rates:
    """Note the learning rate that each update of a model used."""

    def __init__(self, model):
        self.rates, train = [], model.train

        def noted():
            train()
            self.rates.append(model.policy.optimizer.param_groups[0]["lr"])

        model.train = noted


@pytest.mark.parametrize(
    ("steps", "rates"),
    [
        (10, [0.04]),  # one rollout
        (40, [0.04, 0.03, 0.02, 0.01]),
        (25, [0.04, 0.024, 0.008]),  # the last rollout is longer than what is left
    ],
)
def test_every_update_has_a_rate_above_zero(steps, rates):
    env = make_vec_env(mec_gym.make_problem("mec/TrainingOffloadPaper-v0"), SETTINGS)
    model = make_ppo(env, SETTINGS, seed=0)
    noted = Rates(model)
    learn(model, steps, [])
    assert noted.rates == pytest.approx(rates)


def test_a_run_that_goes_on_has_the_rates_of_the_whole_run():
    env = make_vec_env(mec_gym.make_problem("mec/TrainingOffloadPaper-v0"), SETTINGS)
    model = make_ppo(env, SETTINGS, seed=0)
    model.num_timesteps = 30
    noted = Rates(model)
    learn(model, 20, [], reset_num_timesteps=False)
    assert noted.rates == pytest.approx([0.016, 0.008])
