"""Which episodes may be used for what: four ranges of seeds that never meet.

An agent is only as good as it is on episodes that nobody tuned or trained it on. Tests play
the seeds from 0 on, as users do; an evaluation while learning plays those from ``EVAL_SEED``
on; learning itself begins at ``TRAIN_SEED``, which lies beyond every seed that ``checks``
accepts from a user; and prices are tuned on episodes of a generator that is seeded with two
numbers or three, which no single seed can equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mec_gym.core.problem import AnyProblem

TEST_SEED = 0
"""First seed of the episodes that results are reported on."""
EVAL_SEED = 1_000_000
"""First seed of the episodes that a learner is evaluated on while it learns."""
TRAIN_SEED = 1 << 31
"""First seed of training episodes."""
_TUNING_ENTROPY = (0x7E57, 0x5EED)


def tuning_generator(part: int) -> np.random.Generator:
    """A generator of what is fitted beforehand; each part (1, 2, ...) has one of its own.

    It is seeded with three numbers, which no single seed and not the pair of
    :func:`tuning_episodes` can equal.
    """
    return np.random.default_rng((*_TUNING_ENTROPY, part))


def tuning_episodes(problem: AnyProblem, episodes: int) -> Any:
    """Episodes to tune on, the same at every call, fields (episodes, T, ...)."""
    return problem.sample(np.random.default_rng(_TUNING_ENTROPY), episodes)
