"""Every check names the parameter, the value and what is allowed."""

import dataclasses
import re

import numpy as np
import pytest
from gymnasium import spaces

from mec_gym.core import actions, checks

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good", "bad", "allowed"),
    [
        (
            checks.positive,
            [1, 1e-12, 1e18, np.float32(2), np.int64(1)],
            [0, -1, -0.0],
            "be positive",
        ),
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


@pytest.mark.parametrize("check", [checks.positive, checks.non_negative, checks.fraction])
@pytest.mark.parametrize("value", [1.1e18, 1e300, 10**400])
def test_what_is_too_large_to_compute_with(check, value):
    with pytest.raises(ValueError, match=r"speed must be at most 1e\+18, got 1"):
        check("speed", value)
    checks.non_negative("speed", 1e-300)
    with pytest.raises(ValueError, match="speed must be at least 1e-12, got 1e-300"):
        checks.positive("speed", 1e-300)


def test_decibels():
    for value in (-100, 0, 43.0, 100):
        checks.decibels("power", value)
    for value in (5e5, -5e5, 100.1, NAN, INF, None, "3"):
        with pytest.raises(ValueError, match=f"power must .*{re.escape(repr(value))}$"):
            checks.decibels("power", value)


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
        (BOX, [1, 5.001], (), r"lie in \[0.0, 5.0\] at entry 1 .*got 5\.001$"),
        (BOX, [3, 0], (), r"got 3$"),  # inside the other dimension's bounds
        (BOX, [np.nan, 0], (), "got nan$"),
        (BOX, [0, np.inf], (), "inf"),
        (BOX, ["a", "b"], (), "real numbers"),
        (BOX, [True, True], (), "real numbers, got bool"),
        (BOX, [None, 0], (), "real numbers, got object"),
        (MULTI, [2, 12], (), r"lie in \[0, 1\] at entry 0 "),
        (MULTI, [1, 9], (), r"lie in \[10, 12\] at entry 1 .*got 9$"),
        (MULTI, [1.0, 12.0], (), "whole numbers.*got float64"),
        (MULTI, [[1, 12], [0, 13]], (2,), r"at entry 1, 1 .*got 13$"),
        (DISCRETE, 2, (), r"lie in \[-1, 1\].*got 2$"),
        (DISCRETE, -2, (), "got -2$"),
        (DISCRETE, [0], (), r"shape \(\), got \(1,\)"),
        (DISCRETE, 0.0, (), "whole numbers"),
        (DISCRETE, True, (), "whole numbers"),
        (BOX, [1 + 0j, 0], (), "real numbers, got complex128"),
        (BOX, np.array([1, 0], "m8[s]"), (), r"real numbers, got timedelta64\[s\]"),
        (BOX, np.array([1, 0], "M8[s]"), (), r"real numbers, got datetime64\[s\]"),
        (MULTI, [1 + 0j, 12], (), "whole numbers.*got complex128"),
        (MULTI, np.array([1, 12], "m8[s]"), (), r"whole numbers.*got timedelta64\[s\]"),
        (DISCRETE, np.timedelta64(1, "s"), (), "whole numbers.*got timedelta64"),
        (BOX, [[1], [1, 2]], (), r"shape \(2,\), got \[\[1\], \[1, 2\]\]"),
        (MULTI, None, (), r"shape \(2,\), got \(\)"),
        (DISCRETE, None, (), "whole numbers.*got object"),
        (spaces.MultiBinary(2), [0, 1], (), "action_space must be Box, Discrete or MultiDiscrete"),
    ],
)
def test_actions_outside_a_space(space, action, batch, message):
    with pytest.raises(ValueError, match=message):
        actions.action_in_space(space, action, batch)


UP, DOWN = np.float32(np.inf), np.float32(-np.inf)


def test_rounding_is_clipped_and_nothing_more():
    shares = spaces.Box(0.0, 1.0, (2,), np.float32)
    above = np.nextafter(np.float32(1), UP)
    assert above > 1
    for action in (
        np.array([above, 0.5], np.float32),
        [float(above), 0.5],
        [1.0 + 1e-9, 0.5],
    ):
        assert actions.action_in_space(shares, action).tolist() == [1.0, 0.5]
    # Near 0 as much as near 1: shares are computed from others.
    assert actions.action_in_space(shares, [-1e-7, 1.0]).tolist() == [0.0, 1.0]
    batch = actions.action_in_space(shares, [[above, 0.0], [0.25, -1e-8]], (2,))
    assert batch.tolist() == [[1.0, 0.0], [0.25, 0.0]] and batch.dtype == np.float32
    for action in ([np.nextafter(above, UP), 0.0], [0.0, -1.3e-7], [1.001, 0.0], [above, 2.0]):
        with pytest.raises(ValueError, match="action must lie in"):
            actions.action_in_space(shares, action)
    # Each component by its own bounds.
    assert actions.action_in_space(BOX, [-1.0, np.nextafter(np.float32(5), UP)]).tolist() == [-1, 5]
    assert actions.action_in_space(BOX, [np.nextafter(np.float32(-1), DOWN), 0]).tolist() == [-1, 0]
    with pytest.raises(ValueError, match="lie in"):
        actions.action_in_space(BOX, [1 + 4e-7, 0.0])
    for space, action in ((MULTI, [2, 10]), (DISCRETE, 2)):
        with pytest.raises(ValueError, match="lie in"):
            actions.action_in_space(space, action)


def test_ignored_actions_are_replaced_by_the_lowest():
    ignored = np.array([False, True, False])
    given = np.array([[1, 12], [-7, 99], [0, 10]])
    found = actions.action_in_space(MULTI, given, (3,), ignored)
    assert found.tolist() == [[1, 12], [0, 10], [0, 10]] and given[1].tolist() == [-7, 99]
    found = actions.action_in_space(BOX, [[1, 5], [np.nan, 0], [0, 1]], (3,), ignored)
    assert found.tolist() == [[1, 5], [-1, 0], [0, 1]]
    with pytest.raises(ValueError, match="lie in"):
        actions.action_in_space(MULTI, given, (3,), ~ignored)


def test_numbers_of_numpy_become_plain_ones():
    @dataclasses.dataclass(frozen=True)
    class Thing:
        size: float
        count: int
        on: bool

        def __post_init__(self):
            checks.check_fields(self, positive=("size",), positive_int=("count",), switches=("on",))

    thing = Thing(np.float32(2), np.int64(3), np.bool_(True))
    assert [type(x) for x in dataclasses.astuple(thing)] == [float, int, bool]
    assert thing == Thing(2.0, 3, True)


def test_what_does_not_count_keeps_its_default():
    @dataclasses.dataclass(frozen=True)
    class Thing:
        kind: str = "round"
        radius: float = 2.0
        side: float = 3.0

        def __post_init__(self):
            checks.check_unused(
                self,
                (
                    ('kind is "round"', self.kind == "round", ("radius",)),
                    ('kind is "square"', self.kind == "square", ("side",)),
                ),
            )

    assert Thing(radius=1.0).side == 3.0 and Thing("square", side=1.0).side == 1.0
    message = (
        'radius must be 2.0, its default, unless kind is "round", got 1.0; '
        "with replace(), give radius=2.0 too"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Thing("square", radius=1.0)
    with pytest.raises(ValueError, match=r"^side must be 3\.0, "):
        Thing(side=1.0)
