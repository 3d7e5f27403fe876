"""The networks behind SB3's interface: what PPO samples is what it learns from."""

import io

import numpy as np
import pytest
import torch
from aim_problem import AimProblem
from distributed_inference.oracle import contended
from places_problem import PlacesProblem
from slow import slow_except
from stable_baselines3 import PPO
from tiny_problem import TinyDiscrete, TinyProblem

from agents.distributed_inference.pairs.network import PairsNetwork
from agents.networks.sb3_policy import NetworkPolicy
from agents.ppo.model import agent_of, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Channel, Scenario
from mec_gym.testing import check_agent

PLACES = PlacesProblem()
INFERENCE = DistributedInference(contended(channel=Channel(), idle=0.2, background=1.0))
SMALL = {"num_envs": 16, "n_steps": 8, "minibatches": 2, "hidden": 16}
KINDS = {
    "flat": (PLACES, {"network": "flat"}),
    "branches": (PLACES, {"network": "branches"}),
    "soft": (PLACES, {"network": "branches", "sharing": "soft", "output": "tied"}),
    "rows": (INFERENCE, {"network": "branches", "output": "tied"}),
    "pairs": (INFERENCE, {"network": "pairs", "head": "pairs"}),
    "together": (INFERENCE, {"network": "pairs", "head": "pairs", "order": "together"}),
}


def made(kind, seed=0, **changes):
    problem, how = KINDS[kind]
    settings = PPOSettings(**{**SMALL, **how, **changes})
    env = make_vec_env(problem, settings)
    return make_ppo(env, settings, seed), settings, env.head


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().clone()


def shake(model):
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
        if isinstance(model.policy.network, PairsNetwork):
            model.policy.network.log_sharp -= 3.0  # so that draws differ


def seen(model, n=40):
    """What the policy is shown in the first slots of episodes."""
    problem, head = model.env.get_attr("problem")[0], model.env.head
    slot = sample_episodes(problem, 0, n)
    observation = problem.observe(slot, problem.start(slot))[:, 0]
    return observation, torch.from_numpy(head.inputs(observation))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_is_what_is_evaluated(kind):
    model, *_ = made(kind)
    shake(model)
    policy = model.policy
    _, inputs = seen(model)
    with torch.no_grad():
        places, values, log_prob = policy(inputs)
        # The buffer keeps actions as floats.
        again, same, entropy = policy.evaluate_actions(inputs, places.float())
        torch.testing.assert_close(policy.predict_values(inputs), values, rtol=1e-5, atol=1e-5)
        logits, expected = policy.network(inputs, places)
    choices = len(model.action_space.nvec)
    assert places.shape == (40, choices) and values.shape == (40, 1)
    torch.testing.assert_close(again, values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(same, log_prob, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(values[:, 0], expected, rtol=1e-5, atol=1e-5)
    # Against torch's own distributions, one a choice.
    own = [torch.distributions.Categorical(logits=logits[:, n]) for n in range(choices)]
    its = torch.stack([one.log_prob(places[:, n]) for n, one in enumerate(own)])
    torch.testing.assert_close(log_prob, its.sum(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        entropy, torch.stack([one.entropy() for one in own]).sum(0), rtol=1e-4, atol=1e-4
    )
    assert len(torch.unique(log_prob)) > 10
    # Other actions have other chances; the values are the same.
    other = (places + 1) % int(model.action_space.nvec[0])
    with torch.no_grad():
        same, far, _ = policy.evaluate_actions(inputs, other)
    assert not torch.allclose(far, log_prob, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(same, values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_deterministic_is_greedy(kind):
    model, _, head = made(kind)
    shake(model)
    observation, inputs = seen(model)
    greedy, _, _ = model.policy.network.choose(inputs, greedy=True)
    assert np.array_equal(model.predict(inputs.numpy(), deterministic=True)[0], greedy.numpy())
    assert torch.equal(model.policy(inputs, deterministic=True)[0], greedy)
    drawn = model.predict(inputs.numpy())[0]
    assert not np.array_equal(drawn, greedy.numpy())
    agent = agent_of(model, head)
    assert agent.network.value.weight is model.policy.network.value.weight
    action = agent.predict(observation, deterministic=True)[0]
    assert np.array_equal(action, head.act(observation, greedy.numpy()))
    check_agent(agent, model.env.get_attr("problem")[0], episodes=4)
    with pytest.raises(NotImplementedError, match="evaluate_actions"):
        model.policy.get_distribution(inputs)


def test_settings_reach_the_network():
    model, *_ = made("together", hidden=7, fused=False)
    network = model.policy.network
    assert type(network) is PairsNetwork and not network.sequential
    assert network.score.in_features == 7
    assert model.policy.optimizer.defaults["fused"] is False
    model, *_ = made("soft")
    assert model.policy.optimizer.defaults["fused"] is True
    assert model.policy.network.critic_trunk is not None
    # The optimiser holds all parameters of the network and of nothing else.
    held = [p for group in model.policy.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.policy.network.parameters()}
    assert len(held) == len(list(model.policy.parameters()))


@pytest.mark.parametrize("kind", ["soft", "pairs"])
def test_a_saved_model_is_the_model(kind):
    model, settings, head = made(kind)
    model.learn(settings.rollout)
    buffer = io.BytesIO()
    model.save(buffer)
    buffer.seek(0)
    loaded = PPO.load(buffer, device="cpu")
    assert torch.equal(weights(loaded), weights(model))
    _, inputs = seen(model)
    for ours, theirs in zip(
        loaded.policy(inputs, deterministic=True),
        model.policy(inputs, deterministic=True),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    # Its optimiser goes on where it was, too.
    states = [m.policy.optimizer.state_dict()["state"] for m in (model, loaded)]
    assert states[0].keys() == states[1].keys() and states[0]
    for key, state in states[0].items():
        assert torch.equal(state["exp_avg"], states[1][key]["exp_avg"])
    agent = agent_of(loaded, head)
    check_agent(agent, KINDS[kind][0], episodes=4)


def test_a_policy_can_be_saved_alone(tmp_path):
    """As any of SB3's: what it was made with comes back."""
    model, *_ = made("together")
    shake(model)
    model.policy.save(str(tmp_path / "policy.pt"))
    loaded = NetworkPolicy.load(str(tmp_path / "policy.pt"), device="cpu")
    assert type(loaded.network) is PairsNetwork and not loaded.network.sequential
    _, inputs = seen(model)
    for ours, theirs in zip(loaded.network(inputs), model.policy.network(inputs), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["branches", "pairs"])
def test_a_seed_decides_everything(kind):
    found = []
    for seed in (0, 0, 1):
        model, settings, _ = made(kind, seed)
        model.learn(2 * settings.rollout)
        found.append(weights(model))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("network", slow_except(["flat", "branches"], "flat"))
def test_ppo_learns_the_optimum(network):
    """Exactly: the policy plays as the one that no policy can beat."""
    settings = PPOSettings(
        network=network, num_envs=64, n_steps=8, minibatches=4, learning_rate=5e-3, hidden=32
    )
    env = make_vec_env(PLACES, settings)
    model = make_ppo(env, settings, seed=0)
    agent = agent_of(model, env.head)
    trace = sample_episodes(PLACES, 0, 100)
    bound = PLACES.bound(trace)

    def gap():
        return float(((bound - rollout(PLACES, agent, trace).returns) / -bound).mean())

    before = gap()
    assert before > 1.0
    model.learn(30_000)
    assert gap() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_ppo_learns_what_lies_ahead():
    """The prior that does not look ahead is short-sighted; a few rollouts mend part of that."""
    problem = DistributedInference(Scenario(devices=3, servers=2, blocks=5, tasks=1))
    settings = PPOSettings(
        head="pairs-0", network="pairs", hidden=16, num_envs=128, n_steps=10, minibatches=8,
        n_epochs=3, learning_rate=4e-3, gamma=0.99, reward_scale=0.3,
    )  # fmt: skip
    env = make_vec_env(problem, settings)
    model = make_ppo(env, settings, seed=0)
    agent = agent_of(model, env.head)
    trace = sample_episodes(problem, 0, 100)
    before = rollout(problem, agent, trace).returns
    model.learn(6 * settings.rollout)
    gained = rollout(problem, agent, trace).returns - before
    assert gained.mean() > 0.15 * -before.mean()
    assert gained.mean() > 4 * gained.std() / 10


OTHERS = {"unequal": TinyProblem(), "one": TinyDiscrete(), "numbers": AimProblem()}


@pytest.mark.parametrize("kind", slow_except(OTHERS, "numbers"))
def test_ppo_learns_with_actions_of_every_kind(kind):
    problem = OTHERS[kind]
    settings = PPOSettings(
        network="flat", num_envs=64, n_steps=8, minibatches=4, learning_rate=5e-3, hidden=32
    )
    env = make_vec_env(problem, settings)
    model = make_ppo(env, settings, seed=0)
    agent = agent_of(model, env.head)
    trace = sample_episodes(problem, 0, 200)
    bound = problem.bound(trace)
    before = float((bound - rollout(problem, agent, trace).returns).mean())
    model.learn(20_000)
    after = float((bound - rollout(problem, agent, trace).returns).mean())
    assert 0.0 <= after < (0.02 if kind == "numbers" else 0.5) * before
    check_agent(agent, problem, episodes=4)
    _, inputs = seen(model)
    with torch.no_grad():
        actions, values, log_prob = model.policy(inputs)
        assert actions.shape == (40, *model.action_space.shape)
        again, same, _ = model.policy.evaluate_actions(inputs, actions.float())
    torch.testing.assert_close(same, log_prob)
    torch.testing.assert_close(again, values)
