"""rollout() is stepping MecEnv, episode by episode."""

import numpy as np
import pytest
import target_problem
from target_problem import TargetProblem, training
from tiny_problem import HORIZON, Decision, TinyDiscrete, TinyProblem

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.rollout import rollout, sample_episodes

N = 20


class Greedy:
    """A deterministic function of the observation; notes how it is asked."""

    def __init__(self, problem):
        self.problem, self.calls = problem, []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.calls.append((state, episode_start, deterministic))
        slot, _ = self.problem.decode(observation)
        units = np.clip(np.floor(slot.work / 3.0), 0, 2).astype(int)  # asks beyond the bank
        decision = Decision(machine=slot.speed[..., 1] > slot.speed[..., 0], units=units)
        return self.problem.encode(decision), (state or 0) + 1


@pytest.mark.parametrize("problem", [TinyProblem(), TinyDiscrete(), TinyProblem(ends=False)])
def test_equals_stepping_one_by_one(problem):
    trace = sample_episodes(problem, 3, N)
    agent = Greedy(problem)
    result = rollout(problem, agent, trace)
    assert result.rewards.shape == result.played.shape == (N, HORIZON)
    lengths = []
    for i in range(N):
        env = MecEnv(problem)
        observation, _ = env.reset(seed=3 + i)
        for name, field in arrays.as_dict(env.trace).items():
            assert np.array_equal(field, getattr(trace, name)[i])
        total, ended, t = 0.0, False, 0
        while not ended:
            action, _ = agent.predict(observation)
            decision = problem.decision(action)
            observation, reward, terminated, truncated, info = env.step(action)
            total += reward
            assert reward == result.rewards[i, t]
            assert result.played[i, t]
            assert info == {k: v[i, t] for k, v in arrays.as_dict(result.outcomes).items()}
            assert decision.units == result.decisions.units[i, t]
            assert decision.machine == result.decisions.machine[i, t]
            ended, t = terminated or truncated, t + 1
        assert result.returns[i] == pytest.approx(total, rel=1e-14)
        assert not result.played[i, t:].any()
        assert (result.rewards[i, t:] == 0).all()
        lengths.append(t)
    assert (result.played.sum(axis=1) == lengths).all()
    if problem.ends:
        assert lengths == trace.length[:, 0].tolist()
        assert set(lengths) == set(range(1, HORIZON + 1))
    else:
        assert lengths == [HORIZON] * N
    assert result.outcomes.dropped[result.played].any()


def test_how_the_agent_is_asked():
    problem = TinyProblem()
    agent = Greedy(problem)
    result = rollout(problem, agent, sample_episodes(problem, 0, 4))
    assert [state for state, _, _ in agent.calls] == [None, *range(1, HORIZON)]
    starts = [start.tolist() for _, start, _ in agent.calls]
    assert starts == [[True] * 4] + [[False] * 4] * (HORIZON - 1)
    assert all(deterministic for _, _, deterministic in agent.calls)
    assert result.decision_seconds > 0.0


class First:
    """Asks client 0 except in the episodes of ``others``, which ask client 1."""

    def __init__(self, *others):
        self.others = list(others)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        actions = np.zeros(len(observation), dtype=np.int64)
        actions[self.others] = 1
        return actions, state


def test_episodes_end_where_a_target_is_reached():
    """Errors by hand: halved three times, or 1/10 at once; client 1 never gets there."""
    trace = arrays.concatenate(
        [training([0.5, 0.5], (2, 3)), training([0.9, 0.5], (4, 1)), training([0.5, 0.5], (2, 3))]
    )
    result = rollout(TargetProblem(), First(2), trace)
    rounds = [3, 1, target_problem.HORIZON]
    assert result.played.sum(axis=1).tolist() == rounds
    assert result.returns.tolist() == [-6.0, -4.0, -18.0]
    assert result.rewards[0].tolist() == [-2, -2, -2, 0, 0, 0]
    assert result.outcomes.progress[0, :3] == pytest.approx([0.5, 0.25, 0.125])
    # w = (-0.3, 0.4) after one step towards (-0.6, 0.8); (0.6, 0.8) is sqrt(0.97) away.
    assert result.outcomes.progress[2, 0] == pytest.approx(1 - 0.97**0.5)


def test_a_bad_action_is_refused():
    problem = TinyProblem()

    class Bad:
        def predict(self, observation, *_, **__):
            return np.full((len(observation), 2), 2), None

    with pytest.raises(ValueError, match="must lie in"):
        rollout(problem, Bad(), sample_episodes(problem, 0, 4))


def test_sample_episodes():
    problem = TinyProblem(ahead=3)
    trace = sample_episodes(problem, 40, 3)
    for i in range(3):
        drawn = problem.sample(np.random.default_rng(40 + i), 3)
        assert np.array_equal(trace.speed[i], drawn.speed[0])
    for number in (0, -1, 2.0):
        with pytest.raises(ValueError, match="episodes"):
            sample_episodes(problem, 0, number)
