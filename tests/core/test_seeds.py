"""The ranges of seeds do not meet."""

import numpy as np
import pytest
from tiny_problem import TinyProblem

from mec_gym.core.checks import seed_number
from mec_gym.core.seeds import EVAL_SEED, TEST_SEED, TRAIN_SEED, tuning_episodes


def test_training_begins_where_no_users_seed_reaches():
    assert TEST_SEED == 0 < EVAL_SEED < TRAIN_SEED
    seed_number("seed", TRAIN_SEED - 1)
    with pytest.raises(ValueError, match=rf"seed.*{TRAIN_SEED}"):
        seed_number("seed", TRAIN_SEED)


def test_tuning_episodes_are_the_same_at_every_call_and_nobody_elses():
    problem = TinyProblem()
    trace = tuning_episodes(problem, 5)
    assert np.array_equal(trace.work, tuning_episodes(problem, 5).work)
    assert trace.work.shape[0] == 5
    for seed in (*range(50), EVAL_SEED, TRAIN_SEED, 0x7E57, 0x5EED):
        other = problem.sample(np.random.default_rng(seed), 5)
        assert not np.isin(trace.work, other.work).any()
