"""A problem that core has never heard of, through everything that core offers."""

import itertools

import numpy as np
import pytest
from tiny_problem import BANK, HORIZON, TinyDiscrete, TinyProblem, episode, random_actions

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.testing import check_problem


class Fixed:
    """Plays actions (T, n, ...) regardless."""

    def __init__(self, actions):
        self.actions, self.t = actions, 0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.t += 1
        return self.actions[self.t - 1], state


def test_check_problem_passes():
    check_problem(TinyProblem(shortest=HORIZON))
    check_problem(TinyDiscrete(shortest=HORIZON))
    check_problem(TinyProblem(ends=False, ahead=1))


def test_check_problem_passes_when_episodes_end_early():
    assert sample_episodes(TinyProblem(), 1, 1).length[0, 0] < HORIZON
    check_problem(TinyProblem(), seed=1)


def test_bound_by_hand():
    # d = 8, 4, 2, 1, 6 with machine 1; savings 4, 2, 2, 1, 1, .5, .5, .25, 3, 1.5.
    trace = episode([16, 8, 4, 2, 12], (1.0, 2.0), 5)
    assert TinyProblem().bound(trace) == pytest.approx([-(21 - 4 - 3 - 2)])
    # Two jobs only: 4, 2, 2.
    assert TinyProblem().bound(episode([16, 8, 4, 2, 12], (1.0, 2.0), 2)) == pytest.approx([-4.0])


@pytest.mark.parametrize("ends", [True, False])
def test_bound_is_the_optimum_of_all_sequences(ends):
    """Every one of the 3^5 ways to spend, on the faster machine, is played."""
    problem = TinyProblem(ends=ends)
    for seed in range(12):
        one = sample_episodes(problem, seed, 1)
        units = np.array(list(itertools.product(range(3), repeat=HORIZON)))
        trace = arrays.map_arrays(lambda a: np.repeat(a, len(units), axis=0), one)  # noqa: B023
        machine = trace.speed.argmax(axis=-1)
        played = rollout(problem, Fixed(np.stack([machine, units], axis=-1).swapaxes(0, 1)), trace)
        assert played.returns.max() == pytest.approx(problem.bound(one)[0], rel=1e-12)


def test_bound_holds_for_random_play():
    problem = TinyProblem()
    trace = sample_episodes(problem, 0, 500)
    returns = rollout(problem, Fixed(random_actions(problem, 1, HORIZON, 500)), trace).returns
    assert (returns <= problem.bound(trace) + 1e-12).all()
    assert returns.mean() < problem.bound(trace).mean() - 1.0


def test_single_environment_terminates_when_the_jobs_are_done():
    env = MecEnv(TinyProblem())
    for length in range(1, HORIZON + 1):
        env.reset(options={"trace": episode([5] * HORIZON, (2.0, 1.0), length)})
        ends = [env.step([0, 0])[2:4] for _ in range(length)]
        assert ends == [(False, False)] * (length - 1) + [(True, False)]


def test_single_environment_truncates_what_never_says_done():
    env = MecEnv(TinyProblem(ends=False))
    for _ in range(3):
        env.reset()
        ends = [env.step([0, 0])[2:4] for _ in range(HORIZON)]
        assert ends == [(False, False)] * (HORIZON - 1) + [(False, True)]


def test_vector_terminates_and_truncates_likewise():
    trace = arrays.concatenate([episode([5] * HORIZON, (2.0, 1.0), k) for k in (1, 3, 5)])
    still = np.zeros((3, 2), dtype=np.int64)

    vector = MecVectorEnv(TinyProblem(shortest=HORIZON), 3)
    vector.reset(seed=0, options={"trace": trace})
    terminated = []
    for _ in range(HORIZON):
        *_, now, truncated, _ = vector.step(still)
        terminated.append(now.tolist())
        assert not truncated.any()
    # Every later episode has the full length, so nothing else ends within five steps.
    assert np.array(terminated).T.tolist() == [
        [True, False, False, False, False],
        [False, False, True, False, False],
        [False, False, False, False, True],
    ]

    vector = MecVectorEnv(TinyProblem(ends=False), 3)
    vector.reset(seed=0, options={"trace": trace})
    for t in range(2 * HORIZON):
        *_, now, truncated, _ = vector.step(still)
        assert not now.any()
        assert truncated.tolist() == [t % HORIZON == HORIZON - 1] * 3


def test_what_is_asked_beyond_the_bank_is_dropped():
    env = MecEnv(TinyProblem())
    observation, _ = env.reset(options={"trace": episode([8, 6, 4, 4, 4], (2.0, 1.0), 5)})
    assert observation == pytest.approx([1, 1, 0.8, 0.5, 0.25])
    observation, reward, _, _, info = env.step([0, 2])
    assert (reward, info) == (
        -1.0,
        {"latency_s": 1.0, "energy_j": 2, "dropped": False, "machine": 0},
    )
    assert observation == pytest.approx([1 / BANK, 0.8, 0.6, 0.5, 0.25])
    observation, reward, _, _, info = env.step([1, 2])
    assert (reward, info) == (
        -9.0,
        {"latency_s": 9.0, "energy_j": 0, "dropped": True, "machine": 1},
    )
    assert observation == pytest.approx([1 / BANK, 0.6, 0.4, 0.5, 0.25])
