"""A worker without its process: what it collects, learns and remembers."""

import itertools
import multiprocessing

import numpy as np
import pytest
import torch
from aim_problem import AimProblem
from places_problem import PlacesProblem
from slow import slow_except
from tiny_problem import TinyDiscrete, TinyProblem

from agents.a3c.collector import Collector
from agents.a3c.settings import A3CSettings
from agents.a3c.shared_adam import SharedAdam
from agents.a3c.worker import Learner, Report, Shared, Task, clip, first_network
from agents.heads import FlatHead, make_head
from agents.networks.agent import network_agent
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.seeds import TRAIN_SEED
from mec_gym.core.vector_env import MecVectorEnv

PROBLEM = PlacesProblem()
SMALL = A3CSettings(num_envs=6, n_steps=5, hidden=8, workers=2)


def learner(settings=SMALL, problem=PROBLEM, seed=0, total=1000, worker=0, head=None):
    head = head or make_head("flat", problem)
    network = first_network(problem, head, settings, seed)
    adam = SharedAdam(torch.nn.utils.parameters_to_vector(network.parameters()))
    lock = multiprocessing.get_context("spawn").Lock()
    shared = Shared(adam, torch.zeros(2, dtype=torch.int64), lock)
    return Learner(
        Task(problem=problem, head=head, settings=settings, seed=seed, total_timesteps=total),
        shared,
        worker,
    )


def parameters(one):
    return one.shared.adam.parameters.clone()


class Usual(FlatHead):
    """A head that knows something about rewards, and scales inputs."""

    def inputs(self, observation):
        return 2.0 * observation

    def usual_reward(self, observation):
        return -observation[..., 0].astype(np.float64)


def test_a_batch_is_what_the_environments_say():
    settings = A3CSettings(num_envs=6, n_steps=5, hidden=8, reward_scale=3.0)
    one = learner(settings, head=Usual(PROBLEM))
    batch = one.collector.collect(one.network)
    env = MecVectorEnv(PROBLEM, 6)
    observation, _ = env.reset(seed=TRAIN_SEED)
    assert batch.inputs.shape == (6, 6, 13) and batch.actions.shape == (5, 6, 3)
    for t in range(5):
        assert np.array_equal(batch.inputs[t].numpy(), 2.0 * observation)
        usual = -observation[:, 0].astype(np.float64)
        observation, reward, terminated, _, info = env.step(batch.actions[t].numpy())
        np.testing.assert_allclose(batch.rewards[t], 3.0 * (reward - usual))
        assert np.array_equal(batch.ended[t], terminated) and terminated.all() == (t == 3)
        assert np.array_equal(batch.parts["latency_s"][t], info["latency_s"])
    assert np.array_equal(batch.inputs[5].numpy(), 2.0 * observation)
    assert batch.episode_lengths == [4] * 6
    # What is reported are the environment's own rewards.
    np.testing.assert_allclose(batch.episode_returns, -batch.parts["latency_s"][:4].sum(axis=0))
    again = one.collector.collect(one.network)
    assert torch.equal(again.inputs[0], batch.inputs[5])


def test_time_running_out_is_no_end_of_the_world():
    """Where an episode is truncated, what the critic expects further on is part of the reward."""
    settings = A3CSettings(num_envs=6, n_steps=5, hidden=8, gamma=0.5)
    ends, goes_on = learner(settings), learner(settings, PlacesProblem(ends=False))
    with torch.no_grad():
        for one in (ends, goes_on):
            one.network.value.bias.fill_(10.0)
    plain, cut = (one.collector.collect(one.network) for one in (ends, goes_on))
    assert torch.equal(plain.actions, cut.actions)
    assert np.array_equal(plain.ended, cut.ended) and cut.ended[3].all()
    np.testing.assert_array_equal(cut.rewards[[0, 1, 2, 4]], plain.rewards[[0, 1, 2, 4]])
    env = MecVectorEnv(goes_on.task.problem, 6)
    env.reset(seed=TRAIN_SEED)
    for t in range(4):
        *_, info = env.step(cut.actions[t].numpy())
    with torch.no_grad():
        last = goes_on.network(torch.from_numpy(np.stack(list(info["final_obs"]))))[1].numpy()
    np.testing.assert_allclose(cut.rewards[3] - plain.rewards[3], 0.5 * last, rtol=1e-5)
    assert (last > 5).all()


def test_training_episodes_are_a_workers_own_and_not_those_of_tests():
    settings = A3CSettings(num_envs=6, workers=2)
    head = make_head("flat", PROBLEM)
    tested = set(sample_episodes(PROBLEM, 0, 300).cost[:, 0].sum(axis=(1, 2)))
    seen = []
    for seed in (0, 1):
        for worker in (0, 1):
            made = Collector(PROBLEM, head, settings, seed, worker)
            seen += made.env.trace.cost[:, 0].sum(axis=(1, 2)).tolist()
    assert len(set(seen)) == 24 and not set(seen) & tested
    one, other = (Collector(PROBLEM, head, settings, 0, worker) for worker in (0, 1))
    assert one.generator.initial_seed() != other.generator.initial_seed()


def test_gradients_do_not_pile_up():
    """k identical updates have k identical gradients."""
    one = learner()
    with torch.no_grad():
        batch = one.collector.collect(one.network)
    one.backward(batch, 0.01)
    first = one.flat.gradient.clone()
    assert first.abs().sum() > 0
    for _ in range(3):
        one.backward(batch, 0.01)
        assert torch.equal(one.flat.gradient, first)
    # Also through a whole update: what is pushed is this update's gradient alone.
    pushed = []
    one.shared.adam.step = lambda gradient, rate: pushed.append(gradient.clone())
    memory = one.collector.memory()
    for _ in range(3):
        one.collector.remember(memory)
        one.shared.clock[0] = 0  # the bonus falls with it
        one.update()
    assert torch.equal(pushed[0], pushed[1]) and torch.equal(pushed[0], pushed[2])
    assert pushed[0].norm() <= SMALL.max_grad_norm * 1.0001


def test_the_gradient_is_that_of_the_loss():
    """Written out with torch's own distributions, on a network of its own."""
    settings = A3CSettings(
        num_envs=6, n_steps=4, hidden=8, normalize=False, gae_lambda=1.0, network="branches",
        multi_task=True, sharing="soft", sharing_weight=0.1, value_coef=0.5,
    )  # fmt: skip
    one = learner(settings)
    with torch.no_grad():
        one.network.trunk[0].bias += 0.3
    batch = one.collector.collect(one.network)
    one.backward(batch, 0.05)
    other = first_network(PROBLEM, one.task.head, settings, 0)
    other.load_state_dict(one.network.state_dict())
    # Four steps are a whole episode: returns are sums of the rewards to come.
    assert batch.ended[3].all()
    returns = torch.from_numpy(batch.rewards[::-1].cumsum(axis=0)[::-1].copy()).float().flatten()
    logits, values = other(batch.inputs[:4].flatten(0, 1))
    loss = 0.5 * 0.5 * (values - returns).square().mean() + other.sharing_loss()
    for n in range(3):
        task = torch.distributions.Categorical(logits=logits[:, n])
        surprise = -task.log_prob(batch.actions[..., n].flatten())
        loss = loss + (surprise * (returns - values).detach() - 0.05 * task.entropy()).mean() / 3
    loss.backward()
    expected = torch.cat([p.grad.ravel() for p in other.parameters()])
    assert other.sharing_loss() > 0
    torch.testing.assert_close(one.flat.gradient, expected, rtol=1e-4, atol=1e-6)


def test_clipping():
    gradient = torch.tensor([3.0, 4.0])
    assert clip(gradient, 10.0) == 5.0 and gradient.tolist() == [3.0, 4.0]
    assert clip(gradient, 0.5) == 5.0
    assert gradient.tolist() == pytest.approx([0.3, 0.4])
    with pytest.raises(FloatingPointError, match="learning_rate"):
        clip(torch.tensor([1.0, torch.nan]), 1.0)


class Dead:
    def is_alive(self):
        return False


def test_who_waits_for_a_lock_of_the_dead_gives_up(monkeypatch):
    """A worker killed while it steps never returns the lock, and the parent may be gone too."""
    one = learner()
    monkeypatch.setattr(multiprocessing, "parent_process", Dead)
    one.update()  # nobody holds it: nobody asks
    one.shared.lock.acquire()
    with pytest.raises(EOFError, match="parent"):
        one.update()


def test_rates_fall_to_their_end():
    settings = A3CSettings(num_envs=2, n_steps=5, learning_rate=0.1, ent_coef=0.4, ent_coef_end=0.2)
    one = learner(settings, total=40)
    rates, coefficients = [], []
    one.shared.adam.step = lambda gradient, rate: rates.append(rate)
    backward = one.backward
    one.backward = lambda batch, coef: coefficients.append(coef) or backward(batch, coef)
    for _ in range(6):
        one.update()
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0, 0.0])
    assert coefficients == pytest.approx([0.4, 0.35, 0.3, 0.25, 0.2, 0.2])
    assert one.shared.steps == 60


def test_a_seed_decides_everything():
    runs = [learner(seed=seed) for seed in (0, 0, 1)]
    before = torch.get_rng_state()
    for one in runs:
        for _ in range(4):
            one.update()
    assert torch.equal(torch.get_rng_state(), before)
    same, again, other = map(parameters, runs)
    assert torch.equal(same, again) and not torch.equal(same, other)
    assert not torch.equal(same, parameters(learner()))


def test_who_remembers_goes_on_as_if_nothing_had_happened():
    one, other = learner(), learner()
    for _ in range(3):
        one.update()
    memory = one.collector.memory()
    other.shared.adam.load_state(one.shared.adam.state())
    other.shared.clock[0] = one.shared.steps
    other.collector.remember(memory)
    for _ in range(3):
        one.update()
        other.update()
    assert torch.equal(parameters(one), parameters(other))


def test_reports_add_up():
    one = learner()
    total = Report()
    reports = [one.update() for _ in range(3)]
    for report in reports:
        total.add(report)
    assert total.updates == 3 and len(total.samples["latency_s"]) == 90
    outcomes, sums = total.means(total.outcomes), total.means(total.sums)
    assert set(outcomes) == {"latency_s", "energy_j", "dropped"}
    assert outcomes["latency_s"] == pytest.approx(total.samples["latency_s"].mean())
    assert sums["lag"] == 0.0 and outcomes["dropped"] == 0.0
    # 15 steps are three episodes of four.
    assert total.episode_lengths == [4] * 18
    assert 0 < sums["entropy"] <= np.log(3) + 1e-6


LEARNING = {
    "a3c": {},
    "mtl-a3c": {"network": "branches", "multi_task": True},
    "soft": {"network": "branches", "multi_task": True, "sharing": "soft"},
    "tied": {"network": "branches", "multi_task": True, "output": "tied"},
    "textbook": {"num_envs": 1, "n_steps": 20, "normalize": False, "learning_rate": 1e-3},
}


@pytest.mark.parametrize("name", slow_except(LEARNING, "a3c"))
def test_learns_the_optimum(name):
    """Exactly: the policy plays as the one that no policy can beat."""
    problem = PlacesProblem(devices=2, places=2) if name == "textbook" else PROBLEM
    total = 10_000 if name == "textbook" else 160_000
    base = {"num_envs": 64, "n_steps": 8, "learning_rate": 3e-3, "workers": 1}
    one = learner(A3CSettings(**{**base, **LEARNING[name]}), problem, total=total)
    while one.shared.steps < total:
        one.update()
    trace = sample_episodes(problem, 0, 100)
    played = rollout(problem, network_agent(one.network, one.task.head), trace)
    gap = (problem.bound(trace) - played.returns) / -problem.bound(trace)
    assert gap == pytest.approx(0.0, abs=1e-9)


KINDS = {"unequal": TinyProblem(), "one": TinyDiscrete(), "numbers": AimProblem()}


@pytest.mark.parametrize(
    ("kind", "network"),
    slow_except(
        itertools.product(KINDS, ["flat", "branches"]), ("unequal", "branches"), ("numbers", "flat")
    ),
)
def test_learns_with_actions_of_every_kind(kind, network):
    """Most of the gap goes within seconds; what stays is what only the bound foresees."""
    problem, total = KINDS[kind], 40_000
    settings = A3CSettings(
        num_envs=64, n_steps=4, learning_rate=5e-3, workers=1, hidden=32, network=network,
        multi_task=network == "branches" and kind != "one",
    )  # fmt: skip
    one = learner(settings, problem, total=total)
    trace = sample_episodes(problem, 0, 200)

    def gap():
        agent = network_agent(one.network, one.task.head)
        return float((problem.bound(trace) - rollout(problem, agent, trace).returns).mean())

    before = gap()
    while one.shared.steps < total:
        one.update()
    assert 0.0 <= gap() < (0.02 if kind == "numbers" else 0.5) * before


def test_numbers_are_learnt_by_the_gaussians_own_loss():
    """Written out with torch's own distribution; what was drawn counts, not what was clipped."""
    settings = A3CSettings(
        num_envs=6, n_steps=4, hidden=8, normalize=False, gae_lambda=1.0, value_coef=0.5,
        log_std_init=0.5,
    )  # fmt: skip
    one = learner(settings, KINDS["numbers"])
    batch = one.collector.collect(one.network)
    assert batch.actions.dtype == torch.float32 and (batch.actions.abs() > 1).any()
    one.backward(batch, 0.05)
    other = first_network(one.task.problem, one.task.head, settings, 0)
    returns = torch.from_numpy(batch.rewards[::-1].cumsum(axis=0)[::-1].copy()).float().flatten()
    outputs, values = other(batch.inputs[:4].flatten(0, 1))
    policy = torch.distributions.Normal(outputs[..., 0], outputs[..., 1].exp())
    surprise = -policy.log_prob(batch.actions.flatten(0, 1)).sum(dim=-1)
    loss = (surprise * (returns - values).detach() - 0.05 * policy.entropy().sum(dim=-1)).mean()
    (loss + 0.5 * 0.5 * (values - returns).square().mean()).backward()
    expected = torch.cat([p.grad.ravel() for p in other.parameters()])
    torch.testing.assert_close(one.flat.gradient, expected, rtol=1e-4, atol=1e-6)


def test_multi_task_needs_several_choices():
    head = make_head("flat", KINDS["one"])
    with pytest.raises(ValueError, match=r"multi_task .*TinyDiscrete.*'flat'.*single choice"):
        first_network(KINDS["one"], head, A3CSettings(multi_task=True), 0)
