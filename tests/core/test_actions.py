"""Actions from outside, for every kind of space."""

import numpy as np
import pytest
from gymnasium import spaces

from mec_gym.core.actions import action_in_space

BOX = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32))
MULTI = spaces.MultiDiscrete([2, 3], start=[4, -1])
SINGLE = spaces.Discrete(6, start=3)


@pytest.mark.parametrize(
    ("space", "action", "batch"),
    [
        (BOX, [-1.0, 5.0], ()),
        (BOX, [[0, 0], [1, 5], [0.25, 2.5]], (3,)),
        (MULTI, [5, 1], ()),
        (MULTI, [[4, -1], [5, 0]], (2,)),
        (SINGLE, 8, ()),
        (SINGLE, np.int32(3), ()),
        (SINGLE, [[3, 4, 5], [6, 7, 8]], (2, 3)),
    ],
)
def test_what_is_in_the_space_comes_back_in_its_type(space, action, batch):
    found = action_in_space(space, action, batch)
    assert found.dtype == space.dtype and found.shape == batch + space.shape
    assert found.tolist() == np.asarray(action).tolist()


@pytest.mark.parametrize(
    ("space", "action", "batch", "message"),
    [
        (BOX, [0.0], (), r"\(2,\).*\(1,\)"),
        (BOX, [0.0, 1.0], (2,), r"\(2, 2\).*\(2,\)"),
        (BOX, [0.0, 5.5], (), r"5\.5"),
        (BOX, [-1.5, 0.0], (), r"-1\.5"),
        (BOX, [np.nan, 0.0], (), "nan"),
        (BOX, [[0.0, 0.0], [0.0, np.inf]], (2,), "inf"),
        (BOX, ["a", "b"], (), "action"),
        (MULTI, [6, 0], (), r"action.*6"),
        (MULTI, [4, 2], (), r"action.*2"),
        (MULTI, [4.0, 0.0], (), "float64"),
        (SINGLE, 2, (), r"\[3, 8\].*2"),
        (SINGLE, 9, (), r"\[3, 8\].*9"),
        (SINGLE, True, (), "bool"),
        (SINGLE, [3], (), r"\(\).*\(1,\)"),
        (spaces.MultiBinary(2), [0, 1], (), "MultiBinary"),
    ],
)
def test_what_is_not_in_the_space_is_refused(space, action, batch, message):
    with pytest.raises(ValueError, match=message):
        action_in_space(space, action, batch)
