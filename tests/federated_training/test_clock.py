"""When a job is done: by hand, and against an integral that is added up piece by piece."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.federated_training.clock import bin_of, finish, leaving

# -------------------------------------------------------------------------------- by hand


def test_bins():
    times = np.array([0.0, 4.999, 5.0, 9.0, 10.0, 14.9, 15.0, 1e9])
    assert bin_of(times, 5.0, 3).tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    assert bin_of(np.array([[7.0], [0.0]]), 5.0, 2).tolist() == [[1], [0]]


@pytest.mark.parametrize("bin_s", [0.1, 0.7, 2.4, 8.4, 16.1, 20.0, 33.3])
def test_edges_belong_to_the_bin_that_they_begin(bin_s):
    """Floor division puts about half of the multiples of 0.1 into the bin before."""
    number = np.arange(2000)
    edges = number * bin_s
    assert (bin_of(edges, bin_s, 2000) == number).all()
    before = np.nextafter(edges[1:], 0.0)
    assert (bin_of(before, bin_s, 2000) == number[:-1]).all()


RATES = np.array([[2.0, 10.0, 1.0]])  # bins of 5 s: 10, 50, then 1 per s


@pytest.mark.parametrize(
    ("begin", "amount", "expected"),
    [
        (0.0, 6.0, 3.0),
        (1.5, 4.0, 3.5),
        (0.0, 10.0, 5.0),
        (0.0, 30.0, 7.0),  # 10 until 5 s, and 20 at 10
        (4.0, 32.0, 8.0),  # 2 until 5 s
        (5.0, 50.0, 10.0),
        (0.0, 63.0, 13.0),  # 60 until 10 s
        (8.0, 120.0, 110.0),  # 20 until 10 s; the last bin holds on
        (200.0, 7.0, 207.0),  # it begins there
        (0.0, 0.0, 0.0),
        (7.25, 0.0, 7.25),
    ],
)
def test_finish_by_hand(begin, amount, expected):
    found = finish(RATES, np.array([begin]), np.array([amount]), 5.0)
    assert found.tolist() == pytest.approx([expected], abs=1e-12)


def test_many_jobs_at_once_are_each_as_alone():
    rng = np.random.default_rng(0)
    rate, begin, amount = rng.random((50, 7)), 9 * rng.random(50), 8 * rng.random(50)
    together = finish(rate, begin, amount, 1.25)
    for j in range(50):
        row = slice(j, j + 1)
        assert together[row].tolist() == finish(rate[row], begin[row], amount[row], 1.25).tolist()


def test_leaving_by_hand():
    present = np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], dtype=bool)

    def at(time):
        return leaving(present, np.full(3, time), 5.0).tolist()

    assert at(0.0) == at(9.9) == [10.0, np.inf, 20.0]
    assert at(15.0) == at(19.9) == [np.inf, np.inf, 20.0]  # the last bin holds on
    assert leaving(present[:1], np.array([5.0]), 5.0).tolist() == [10.0]
    assert leaving(present[:2], np.array([300.0, 300.0]), 5.0).tolist() == [np.inf] * 2


# ------------------------------------------------------------------------------ properties

POSITIVE = st.floats(0.01, 100.0)


def passed_by(rate, begin, end, bin_s):
    """The integral of the rate from begin to end, bin by bin."""
    total, edge = 0.0, 0
    while True:
        low = edge * bin_s
        last = edge == len(rate) - 1
        high = np.inf if last else (edge + 1) * bin_s
        total += rate[edge] * max(0.0, min(end, high) - max(begin, low))
        if last:
            return total
        edge += 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rate=st.lists(POSITIVE, min_size=1, max_size=8),
    begin=st.floats(0.0, 60.0),
    amount=st.floats(0.0, 500.0),
    bin_s=st.floats(0.1, 20.0),
)
def test_as_much_has_passed_as_had_to(rate, begin, amount, bin_s):
    end = float(finish(np.array([rate]), np.array([begin]), np.array([amount]), bin_s)[0])
    assert end >= begin - 1e-9
    assert passed_by(rate, begin, end, bin_s) == pytest.approx(amount, rel=1e-9, abs=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    rate=st.lists(POSITIVE, min_size=1, max_size=5),
    begin=st.floats(0.0, 30.0),
    seconds=st.floats(0.0, 30.0),
    bin_s=st.floats(0.5, 10.0),
)
def test_against_a_sum_over_short_intervals(rate, begin, seconds, bin_s):
    pieces = 20_000
    middle = begin + seconds * (np.arange(pieces) + 0.5) / pieces
    amount = np.array(rate)[bin_of(middle, bin_s, len(rate))].sum() * seconds / pieces
    end = float(finish(np.array([rate]), np.array([begin]), np.array([amount]), bin_s)[0])
    # A piece on the border of two bins has the wrong rate, and the slowest has to make up for it.
    error = (len(rate) + 1) * seconds / pieces * max(rate) / min(rate)
    assert end == pytest.approx(begin + seconds, abs=error + 1e-9)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    rate=st.lists(POSITIVE, min_size=1, max_size=8),
    begin=st.floats(0.0, 60.0),
    first=st.floats(0.0, 300.0),
    second=st.floats(0.0, 300.0),
    bin_s=st.floats(0.1, 20.0),
)
def test_two_amounts_take_as_long_as_their_sum(rate, begin, first, second, bin_s):
    table = np.array([rate])

    def ends(start, amount):
        return finish(table, np.array([start]), np.array([amount]), bin_s)[0]

    together = ends(begin, first + second)
    assert ends(ends(begin, first), second) == pytest.approx(together, rel=1e-9, abs=1e-6)
    assert together >= ends(begin, first) - 1e-9


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    present=st.lists(st.booleans(), min_size=1, max_size=12),
    time=st.floats(0.0, 80.0),
    bin_s=st.floats(0.5, 10.0),
)
def test_leaving_against_counting(present, time, bin_s):
    table = np.array([present])
    now = int(bin_of(np.array(time), bin_s, len(present)))
    later = [k * bin_s for k in range(now + 1, len(present)) if not present[k]]
    expected = min(later, default=np.inf)
    assert leaving(table, np.array([time]), bin_s).tolist() == [expected]
    assert expected > time - 1e-9
