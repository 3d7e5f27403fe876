"""EpisodeQueue: the order of episodes, replays in between, and what its state holds."""

import weakref

import numpy as np
import pytest
from target_problem import TargetProblem
from tiny_problem import TinyProblem, episode

from mec_gym.core import arrays
from mec_gym.core.episodes import EpisodeQueue
from mec_gym.core.packing import pack, unpack
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.traces import check_trace

ALL = np.ones(3, bool)


def queue_of(problem, first_seed=0):
    return EpisodeQueue(problem, [np.random.default_rng(first_seed + k) for k in range(3)])


def same(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip(arrays.as_dict(one).values(), arrays.as_dict(other).values(), strict=True)
    )


@pytest.mark.parametrize("problem", [TinyProblem(ahead=2), TargetProblem(ahead=2)])
def test_slots_are_those_of_the_episodes_being_played(problem):
    """Environments are in different episodes and in different slots."""
    queue = queue_of(problem)
    queue.advance(ALL)
    drawn = [problem.sample(np.random.default_rng(k), 2) for k in range(3)]
    assert same(queue.trace(), arrays.stack([arrays.at(d, 0) for d in drawn]))
    queue.advance(np.array([False, True, False]))
    expected = arrays.stack([arrays.at(drawn[k], int(k == 1)) for k in range(3)])
    assert same(queue.trace(), expected)
    t = np.array([0, 4, 2])
    slot = queue.slot(t)
    for i in range(3):
        one = arrays.slot_at(arrays.at(expected, slice(i, i + 1)), t[i])
        assert same(arrays.at(slot, slice(i, i + 1)), one)


@pytest.mark.parametrize("problem", [TinyProblem(ahead=3), TargetProblem(ahead=3)])
def test_refill_keeps_the_replayed_episodes_of_the_others(problem):
    queue = queue_of(problem)
    trace = sample_episodes(problem, 100, 3)
    queue.replay(trace)
    queue.advance(ALL)
    assert same(queue.trace(), trace)
    # Environment 1 goes through what it draws; the others still play the replay.
    drawn = problem.sample(np.random.default_rng(1), 3)
    for k in range(3):
        queue.advance(np.array([False, True, False]))
        assert same(arrays.at(queue.trace(), [0, 2]), arrays.at(trace, [0, 2]))
        assert same(arrays.at(queue.trace(), 1), arrays.at(drawn, k))
    queue.advance(np.array([True, False, False]))
    now = queue.trace()
    assert same(arrays.at(now, 0), arrays.at(problem.sample(np.random.default_rng(0), 3), 0))
    assert same(arrays.at(now, 1), arrays.at(drawn, 2))
    assert same(arrays.at(now, 2), arrays.at(trace, 2))
    last = arrays.slot_at(arrays.at(trace, [2]), 2)
    assert same(arrays.at(queue.slot(np.array([4, 0, 2])), [2]), last)


def test_fresh_episodes_after_a_replay_of_whole_numbers_keep_their_fractions():
    problem = TinyProblem(ahead=1)
    given = arrays.concatenate([episode([8, 6, 4, 2, 10], (2.0, 1.0), k) for k in (1, 3, 5)])
    whole = arrays.map_arrays(lambda a: a.astype(np.int64), given)
    queue = queue_of(problem)
    queue.replay(check_trace(problem, whole))
    queue.advance(ALL)
    queue.advance(np.array([True, False, False]))
    drawn = problem.sample(np.random.default_rng(0), 1)
    assert np.array_equal(queue.trace().work[0], drawn.work[0])


def test_reseeding_one_environment_forgets_what_it_drew_ahead():
    problem = TinyProblem(ahead=3)
    queue = queue_of(problem)
    queue.advance(ALL)
    queue.reseed(1, np.random.default_rng(50))
    queue.advance(ALL)
    now = queue.trace()
    for i, seed, k in ((0, 0, 1), (1, 50, 0), (2, 2, 1)):
        drawn = problem.sample(np.random.default_rng(seed), 3)
        assert same(arrays.at(now, i), arrays.at(drawn, k))


class CountingProblem(TinyProblem):
    """Counts how many earlier draws are in memory whenever it draws."""

    def __init__(self):
        super().__init__(ahead=2)
        self.drawn, self.held = [], []

    def sample(self, rng, n):
        self.held.append(sum(work() is not None for work in self.drawn))
        trace = super().sample(rng, n)
        self.drawn.append(weakref.ref(trace.work))
        return trace


def test_a_refill_holds_one_environments_draw_at_a_time():
    problem = CountingProblem()
    queue = queue_of(problem)
    for _ in range(3):  # the second refill is in place
        queue.advance(ALL)
    queue_of(problem).load_state(queue.state())
    assert problem.held == [0] * 9


def loaded(problem, content):
    """Another queue, its own generators elsewhere, that goes on from packed content."""
    queue = queue_of(problem, first_seed=70)
    queue.load_state(unpack(content))
    return queue


@pytest.mark.parametrize("problem", [TinyProblem(ahead=200), TargetProblem(ahead=200)])
def test_a_state_holds_no_drawn_episodes_and_draws_them_again(problem):
    queue = queue_of(problem)
    queue.advance(ALL)
    queue.advance(np.array([True, False, True]))
    held = 200 * sum(field.nbytes for field in arrays.as_dict(queue.trace()).values())
    content = pack(queue.state())
    assert len(content) < 10_000 < held / 5
    again = loaded(problem, content)
    for _ in range(201):
        assert same(again.trace(), queue.trace())
        again.advance(ALL)
        queue.advance(ALL)


def test_a_state_from_before_the_first_episode():
    problem = TinyProblem(ahead=2)
    queue = queue_of(problem)
    again = loaded(problem, pack(queue.state()))
    for _ in range(3):
        again.advance(ALL)
        queue.advance(ALL)
        assert same(again.trace(), queue.trace())


@pytest.mark.parametrize("problem", [TinyProblem(ahead=2), TargetProblem(ahead=2)])
def test_a_state_holds_the_episodes_of_a_replay_until_all_are_over(problem):
    """They come from no generator, though the environments had drawn episodes before."""
    queue = queue_of(problem)
    queue.advance(ALL)
    trace = sample_episodes(problem, 100, 3)
    numbers = [field[2].tobytes() for field in arrays.as_dict(trace).values()]
    queue.replay(trace)
    queue.advance(ALL)
    held = []
    for _ in range(3):
        content = pack(queue.state())
        held.append(all(one in content for one in numbers))
        assert same(loaded(problem, content).trace(), queue.trace())
        # The last environment is the last to leave the replay.
        queue.advance(np.array([True, True, sum(held) == 2]))
    assert held == [True, True, False]
    again = loaded(problem, pack(queue.state()))
    for _ in range(4):
        assert same(again.trace(), queue.trace())
        again.advance(ALL)
        queue.advance(ALL)


@pytest.mark.parametrize(
    "change",
    [
        {"generators": []},
        {"next": np.zeros(4, np.int64)},
        {"next": np.array([0, 3, 0])},
        {"current": np.array([0, 2, 0])},
        {"current": np.array([0, -1, 0])},
        {"next": [0, 0, 0]},
    ],
)
def test_a_state_that_does_not_fit_is_refused(change):
    queue = queue_of(TinyProblem(ahead=2))
    queue.advance(ALL)
    before = queue.trace()
    with pytest.raises(ValueError, match=rf"{next(iter(change))}|3 environments"):
        queue.load_state({**queue.state(), **change})
    assert same(queue.trace(), before)


def test_a_replay_of_another_problem_is_refused():
    problem = TinyProblem(ahead=2)
    queue = queue_of(problem)
    queue.replay(sample_episodes(problem, 100, 3))
    queue.advance(ALL)
    state = queue.state()
    state["episodes"]["work"] = state["episodes"]["work"][:, :, :-1]
    with pytest.raises(ValueError, match="work must be an array"):
        queue.load_state(state)
