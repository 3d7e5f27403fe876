"""Every check names the parameter, the value and what is allowed."""

import re

import numpy as np
import pytest
from gymnasium import spaces

from mec_gym.core import actions, checks

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good", "bad", "allowed"),
    [
        (checks.positive, [1, 1e-300, np.float32(2), np.int64(1)], [0, -1, -0.0], "be positive"),
        (checks.non_negative, [0, 0.0, -0.0, 5, np.int8(0)], [-1e-300, -1], "not be negative"),
        (checks.fraction, [0, 1, 0.5, np.float64(1)], [-1e-12, 1 + 1e-12, 2], "in [0, 1]"),
        (
            checks.positive_int,
            [1, 10**12, np.int64(1)],
            [0, -1, 1.0, np.float64(2), "1", None, True, NAN],
            "whole number of at least 1",
        ),
    ],
)
def test_numbers(check, good, bad, allowed):
    for value in good:
        assert check("speed", value) is None
    for value in bad:
        with pytest.raises(ValueError) as error:
            check("speed", value)
        assert str(error.value) == f"speed must {_stem(allowed)}, got {value!r}"


def _stem(allowed):
    stems = {"in [0, 1]": "be in [0, 1]", "whole number of at least 1": "be a " + "whole number"}
    return stems.get(allowed, allowed) + (" of at least 1" if "whole" in allowed else "")


@pytest.mark.parametrize("check", [checks.positive, checks.non_negative, checks.fraction])
@pytest.mark.parametrize("value", [NAN, INF, -INF, "1", None, True, np.bool_(True), [1.0], 1j])
def test_what_is_no_finite_number(check, value):
    message = "must be finite" if isinstance(value, float) else "must be a number"
    with pytest.raises(ValueError, match=f"^speed {message}, got {re.escape(repr(value))}$"):
        check("speed", value)


def test_one_of():
    checks.one_of("variant", "a", ("a", "b"))
    for value in ("c", "", None, 1):
        with pytest.raises(ValueError, match=f"^variant must be one of a, b, got {value!r}$"):
            checks.one_of("variant", value, ("a", "b"))


BOX = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 5], np.float32))
MULTI = spaces.MultiDiscrete([2, 3], start=[0, 10])
DISCRETE = spaces.Discrete(3, start=-1)


@pytest.mark.parametrize(
    ("space", "action", "batch", "dtype"),
    [
        (BOX, [1, 5], (), np.float32),
        (BOX, np.array([[-1.0, 0.0], [1.0, 5.0]]), (2,), np.float32),
        (MULTI, [1, 12], (), np.int64),
        (MULTI, np.zeros((3, 2), np.int8) + np.array([0, 10], np.int8), (3,), np.int64),
        (DISCRETE, -1, (), np.int64),
        (DISCRETE, np.int32(1), (), np.int64),
        (DISCRETE, [0, -1, 1], (3,), np.int64),
    ],
)
def test_actions_in_a_space(space, action, batch, dtype):
    array = actions.action_in_space(space, action, batch)
    assert array.dtype == dtype
    assert np.array_equal(array, action)


@pytest.mark.parametrize(
    ("space", "action", "batch", "message"),
    [
        (BOX, [1], (), r"action must have shape \(2,\), got \(1,\)"),
        (BOX, [[1, 5]], (), r"shape \(2,\), got \(1, 2\)"),
        (BOX, [1, 5], (1,), r"shape \(1, 2\), got \(2,\)"),
        (BOX, [1, 5.001], (), r"lie in \[-1.0, 5.0\].*got np.float64\(5.001\)"),
        (BOX, [3, 0], (), r"got np.int64\(3\)"),  # inside the other dimension's bounds
        (BOX, [np.nan, 0], (), "got np.float64\\(nan\\)"),
        (BOX, [0, np.inf], (), "inf"),
        (BOX, ["a", "b"], (), "real numbers"),
        (BOX, [True, True], (), "real numbers, got bool"),
        (BOX, [None, 0], (), "real numbers, got object"),
        (MULTI, [2, 12], (), r"lie in \[0, 12\]"),
        (MULTI, [1, 9], (), "got np.int64\\(9\\)"),
        (MULTI, [1.0, 12.0], (), "whole numbers.*got float64"),
        (MULTI, [[1, 12], [0, 13]], (2,), "got np.int64\\(13\\)"),
        (DISCRETE, 2, (), r"lie in \[-1, 1\].*got np.int64\(2\)"),
        (DISCRETE, -2, (), "got np.int64\\(-2\\)"),
        (DISCRETE, [0], (), r"shape \(\), got \(1,\)"),
        (DISCRETE, 0.0, (), "whole numbers"),
        (DISCRETE, True, (), "whole numbers"),
        (spaces.MultiBinary(2), [0, 1], (), "action_space must be Box, Discrete or MultiDiscrete"),
    ],
)
def test_actions_outside_a_space(space, action, batch, message):
    with pytest.raises(ValueError, match=message):
        actions.action_in_space(space, action, batch)
