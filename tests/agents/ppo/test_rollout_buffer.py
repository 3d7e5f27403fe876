"""What is kept from a roll-out is learnt from as its observations would be."""

import pytest
import torch
from distributed_inference.oracle import contended
from places_problem import PlacesProblem
from stable_baselines3.common.buffers import RolloutBuffer

from agents.ppo import rollout_buffer
from agents.ppo.model import make_ppo, make_vec_env
from agents.ppo.rollout_buffer import KeptRollout
from agents.ppo.settings import PPOSettings
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Channel

PLACES = PlacesProblem()
INFERENCE = DistributedInference(contended(channel=Channel(), idle=0.2, background=1.0))
PAIRS = {"network": "pairs", "head": "pairs"}
KINDS = {
    "flat": (PLACES, {"network": "flat"}),
    "pairs": (INFERENCE, PAIRS),
    "together": (INFERENCE, {**PAIRS, "order": "together"}),
    "blocks due": (
        DistributedInference(contended(channel=Channel(), deadline_of="block")),
        PAIRS,
    ),
}


def made(kind, **changes):
    problem, how = KINDS[kind]
    settings = PPOSettings(num_envs=16, n_steps=8, minibatches=2, hidden=16, **how, **changes)
    return make_ppo(make_vec_env(problem, settings), settings, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_the_observations_teach(kind, monkeypatch):
    """Two roll-outs of several passes each; what is kept is computed in parts."""
    monkeypatch.setattr(rollout_buffer, "CHUNK", 50)
    mine, plain = made(kind), made(kind)
    assert isinstance(mine.rollout_buffer, KeptRollout)
    plain.rollout_buffer = RolloutBuffer(
        plain.n_steps, plain.observation_space, plain.action_space, "cpu",
        plain.gae_lambda, plain.gamma, plain.n_envs,
    )  # fmt: skip
    start = torch.nn.utils.parameters_to_vector(mine.policy.parameters()).detach().clone()
    learnt = []
    for model in (mine, plain):
        torch.manual_seed(0)
        model.set_random_seed(0)
        model.learn(2 * model.n_steps * model.n_envs)
        learnt.append(torch.nn.utils.parameters_to_vector(model.policy.parameters()))
    torch.testing.assert_close(*learnt, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(start, learnt[0], atol=1e-3)


def test_it_is_computed_once_for_all_passes():
    model = made("pairs", n_epochs=3)
    looks = []
    look = model.policy.network._look
    model.policy.network._look = lambda inputs: looks.append(len(inputs)) or look(inputs)
    model.learn(2 * model.n_steps * model.n_envs)
    # Besides what is played, and the values after the last step.
    assert sum(n for n in looks if n > model.n_envs) == 2 * model.n_steps * model.n_envs


def test_sb3s_own_policy_has_sb3s_own_rollout():
    settings = PPOSettings(num_envs=4, n_steps=8, minibatches=2)
    model = make_ppo(make_vec_env(PLACES, settings), settings, seed=0)
    assert type(model.rollout_buffer) is RolloutBuffer
