"""DAPDEE on the registered environment; frame by frame: tests/agents/test_partition_agents.py."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import mec_gym
from agents.early_exit.dapdee import (
    HEAVY_FROM,
    DADSSolver,
    DAPDEEAgent,
    Memory,
    load_indicators,
    remember,
)
from agents.early_exit.mincut import weighted_search
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.early_exit.model import service_times
from mec_gym.early_exit.scenario import Scenario
from mec_gym.testing import check_agent

ENV = "mec/EarlyExitPartition-v0"
PROBLEM = mec_gym.make_problem(ENV)
TABLE = PROBLEM.scenario.table


def fresh(indicators):
    zero = np.zeros_like(indicators)
    return Memory(
        np.zeros(len(zero)), indicators, zero, zero, zero, zero, np.full_like(zero, 1 / 7)
    )


def test_running_moments_equal_numpys():
    """Of indicators and of their changes, for five episodes side by side."""
    frames = np.random.default_rng(0).random((40, 5, 7))
    memory = fresh(frames[0])
    for t in range(40):
        memory = remember(memory, frames[t])
        so_far, changes = frames[: t + 1], np.abs(np.diff(frames[: t + 1], axis=0))
        assert memory.seen.tolist() == [t + 1] * 5
        assert np.array_equal(memory.last, frames[t])
        np.testing.assert_allclose(memory.mean, so_far.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(memory.spread / (t + 1), so_far.var(axis=0), atol=1e-14)
        if t:
            np.testing.assert_allclose(memory.change_mean, changes.mean(axis=0), rtol=1e-12)
            variance = memory.change_spread / t
            np.testing.assert_allclose(variance, changes.var(axis=0), atol=1e-14)
        else:
            assert not memory.change_mean.any() and not memory.change_spread.any()


def test_weights_change_exactly_when_a_change_stands_out():
    rng = np.random.default_rng(1)
    # Some steps are ten times as large.
    steps = rng.normal(size=(60, 8, 7)) * np.where(rng.random((60, 8, 7)) < 0.01, 0.1, 0.01)
    frames = 0.5 + np.cumsum(steps, axis=0)
    memory, updates, kept = fresh(frames[0]), 0, 0
    for t in range(60):
        before, memory = memory, remember(memory, frames[t])
        changes = np.abs(np.diff(frames[: t + 1], axis=0))
        stands_out = np.zeros(8, dtype=bool)
        if t >= 3:
            limit = changes[:-1].mean(axis=0) + 2 * changes[:-1].std(axis=0)
            stands_out = (changes[-1] > limit).any(axis=-1)
        deviation = frames[: t + 1].std(axis=0)
        for e in range(8):
            if stands_out[e]:
                expected = deviation[e] / deviation[e].sum()
                np.testing.assert_allclose(memory.weights[e], expected, rtol=1e-6)
            else:
                assert np.array_equal(memory.weights[e], before.weights[e])
        updates, kept = updates + stands_out.sum(), kept + (~stands_out).sum()
        np.testing.assert_allclose(memory.weights.sum(axis=-1), 1.0, rtol=1e-12)
    assert min(updates, kept) > 50


def test_indicators_of_whole_episodes_lie_between_0_and_1():
    trace = sample_episodes(PROBLEM, 0, 20)
    got = load_indicators(PROBLEM.scenario, trace, PROBLEM.start(trace))
    assert got.shape == (20, 100, 7) and ((got >= 0) & (got <= 1)).all()
    assert np.array_equal(got[..., 0], 1.0 - trace.device_speed)
    assert not got[..., 1].any() and not got[..., 4].any()
    assert set(np.unique(got[..., 6])) == {0.5, 1.0}
    assert (got[..., [2, 3, 5]].std(axis=(0, 1)) > 0.05).all()


class Spy:
    """Plays DAPDEE and keeps what went in and out."""

    def __init__(self, problem):
        self.agent, self.seen = DAPDEEAgent(problem), []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        action, memory = self.agent.predict(observation, state, episode_start, deterministic)
        self.seen.append((observation, action, memory))
        return action, memory


def test_modes_and_exits_on_the_default_network():
    """Priority 1 and scores below 0.4 are light, others heavy; the deepest exit in time.

    Deadlines are shorter than the default's, which hardly ever ask for an earlier exit.
    """
    problem = mec_gym.make_problem(ENV, Scenario(deadline=(0.003, 0.04)))
    spy = Spy(problem)
    rollout(problem, spy, sample_episodes(problem, 10, 6))
    counts = dict.fromkeys(("urgent", "heavy", "light", "none in time", "earlier exit"), 0)
    for observation, action, memory in spy.seen[::4]:
        slots, states = problem.decode(observation)
        indicators = load_indicators(problem.scenario, slots, states)
        scores = (memory.weights * indicators).sum(axis=-1)
        for e in range(len(action)):
            slot, urgent = arrays.at(slots, e), slots.priority[e] == 1.0
            heavy = not urgent and scores[e] >= HEAVY_FROM
            counts["urgent" if urgent else "heavy" if heavy else "light"] += 1
            options = []
            for n in reversed(range(4)):
                stages = service_times(TABLE.candidates(n), slot)
                cut = int(weighted_search(stages)[0] if heavy else stages.sum(-1).argmin())
                options.append((stages[cut].sum(), n, cut))
            in_time = [option for option in options if option[0] <= slot.deadline]
            expected = in_time[0] if in_time else min(options, key=lambda option: option[0])
            assert tuple(action[e]) == expected[1:]
            counts["none in time"] += not in_time
            counts["earlier exit"] += expected[1] < 3
    assert min(counts.values()) > 5, counts


def test_dads_on_the_default_problem():
    solver = DADSSolver(PROBLEM.scenario)
    trace = sample_episodes(PROBLEM, 20, 8)
    state = PROBLEM.start(trace)
    choice = solver.solve(trace, state).decision
    stages = service_times(TABLE.candidates(3), arrays.map_arrays(lambda a: a[..., None], trace))
    light = stages.sum(-1).argmin(-1)
    slowest = np.take_along_axis(stages.max(-1), light[..., None], -1)[..., 0]
    heavy = slowest > 1.0 / trace.arrival_rate
    expected = np.where(heavy, weighted_search(stages)[0], light)
    assert np.array_equal(choice.partition, expected) and (choice.exit == 3).all()
    assert 0.05 < heavy.mean() < 0.95


@pytest.mark.parametrize("make", [DAPDEEAgent, lambda p: SolverAgent(p, DADSSolver(p.scenario))])
def test_both_play_the_default_problem(make):
    check_agent(make(PROBLEM), PROBLEM, episodes=12)


def test_a_batch_equals_single_episodes():
    trace = sample_episodes(PROBLEM, 30, 5)
    together = rollout(PROBLEM, DAPDEEAgent(PROBLEM), trace)
    for e in range(5):
        alone = rollout(PROBLEM, DAPDEEAgent(PROBLEM), arrays.at(trace, slice(e, e + 1)))
        assert np.array_equal(alone.rewards[0], together.rewards[e])


def test_memory_begins_anew_where_an_episode_does():
    spy = Spy(PROBLEM)
    rollout(PROBLEM, spy, sample_episodes(PROBLEM, 40, 3))
    observations = [seen for seen, _, _ in spy.seen[:8]]
    agent, memory = DAPDEEAgent(PROBLEM), None
    for t, observation in enumerate(observations):
        begins = np.array([t == 0, t in (0, 5), False])
        _, memory = agent.predict(observation, memory, begins)
    assert memory.seen.tolist() == [8, 3, 8]
    _, first = agent.predict(observations[5], None)
    for later in observations[6:]:
        _, first = agent.predict(later, first)
    for one, other in zip(
        arrays.as_dict(memory).values(), arrays.as_dict(first).values(), strict=True
    ):
        assert np.array_equal(one[1], other[1])
    assert memory.mean[0].tolist() != first.mean[0].tolist()


@pytest.mark.parametrize("make", [DAPDEEAgent, lambda p: SolverAgent(p, DADSSolver(p.scenario))])
def test_sb3_evaluates_on_the_registered_environment(make):
    workers = DummyVecEnv([lambda: Monitor(gym.make(ENV))] * 3)
    workers.seed(60)
    rewards, lengths = evaluate_policy(
        make(PROBLEM), workers, n_eval_episodes=3, return_episode_rewards=True
    )
    result = rollout(PROBLEM, make(PROBLEM), sample_episodes(PROBLEM, 60, 3))
    assert lengths == [100] * 3
    np.testing.assert_allclose(sorted(rewards), sorted(result.returns), atol=1e-6)
    # One environment, without a vector around it, two episodes: the memory is given up between.
    env = Monitor(gym.make(ENV))
    mean, _ = evaluate_policy(make(PROBLEM), env, n_eval_episodes=2)
    assert np.isfinite(mean)
