"""Three stages in a row: by hand, against a discrete-event simulation, and properties."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import slow_except
from stages import simulate

from mec_gym.core import arrays
from mec_gym.network import tandem
from mec_gym.network.tandem import RateCurve, serve_by_readiness, travel

# 100 bit/s until 2 s, an outage until 3 s, then 50 bit/s, and from 7 s on 400 bit/s.
STEPS = RateCurve.of([1.0, 2.0, 3.0, 7.0], [100.0, 0.0, 50.0, 400.0])


def array(*values):
    return np.array(values, dtype=float)


# --- by hand


def test_the_curve_by_hand():
    assert STEPS.bits.tolist() == [0, 100, 100, 300]
    moments = array(1, 1.25, 2, 2.5, 3, 5, 7, 9)
    assert STEPS.bits_until(moments).tolist() == [0, 25, 100, 100, 100, 200, 300, 1100]
    # 100 bits have been sent at 2 s, when the outage begins, and one more at 3.02 s.
    bits = array(0, 25, 100, 101, 200, 300, 1100)
    np.testing.assert_allclose(STEPS.when(bits), [1, 1.25, 2, 3.02, 5, 7, 9], rtol=1e-15)


def test_a_link_that_begins_or_ends_with_an_outage():
    ends = RateCurve.of([0.0, 4.0], [10.0, 0.0])
    assert ends.when(array(40, 41)).tolist() == [4.0, np.inf]
    start, finish = serve_by_readiness(array(1, 3.5, 3.6), array(20, 20, 5), 0.0, ends)
    assert start.tolist() == [1.0, 3.5, np.inf] and finish.tolist() == [3.0, np.inf, np.inf]
    begins = RateCurve.of([0.0, 4.0], [0.0, 10.0])
    start, finish = serve_by_readiness(array(1.0), array(20), 0.0, begins)
    assert (start, finish) == (1.0, 6.0)


def test_a_curve_must_make_sense():
    for time, rate, name in (
        ([0.0, 2.0, 1.0], 1.0, "time"),
        ([0.0, np.nan], 1.0, "time"),
        ([0.0, 1.0], [1.0, -1e-9], "rate"),
        ([0.0, 1.0], [np.inf, 1.0], "rate"),
    ):
        with pytest.raises(ValueError, match=name):
            RateCurve.of(time, rate)


def test_the_rate_changes_within_a_transfer():
    """130 bits from 1.5 s on: 50 until the outage, then 80 at 50 bit/s from 3 s on."""
    start, finish = serve_by_readiness(array(1.5), array(130), 0.0, STEPS)
    assert (start, finish) == (1.5, 4.6)
    # The rate at its begin would have said 2.8 s. The next, ready at 2.1 s, follows: 120 bits
    # until 7 s, and 280 more in 0.7 s.
    start, finish = serve_by_readiness(array(1.5, 2.1), array(130, 400), 0.0, STEPS)
    np.testing.assert_allclose(start, [1.5, 4.6], rtol=1e-15)
    np.testing.assert_allclose(finish, [4.6, 7.7], rtol=1e-15)
    # A link that is busy until 6 s: 50 bits until 7 s, and 80 at 400 bit/s.
    _, finish = serve_by_readiness(array(1.5), array(130), 6.0, STEPS)
    assert finish == pytest.approx(7.2, rel=1e-15)


def test_a_frame_overtakes():
    """A later frame that is sent raw is ready for the link first.

    Frame 0 arrives at 0 and is on the device until 3; frame 1 arrives at 1 and is sent as it is:
    1 to 3.5; so frame 0 is sent from 3.5 to 4.5 and not from 3 to 4. Frame 2 arrives at 2 and
    stays on the device: 3 to 3.7. Frame 3 arrives at 2.5, with edge work only: 2.5 to 7.5. Frame
    1 has a round trip of 1.5, 5, and is ready for the edge before frame 0 (0.75, 5.25).
    """
    way = travel(
        arrival=array(0, 1, 2, 2.5),
        device_s=array(3, 0, 0.7, 0),
        bits=array(20, 50, 0, 0),
        edge_s=array(0.3, 0.2, 0, 5),
        curve=RateCurve.of([0.0], [20.0]),
        round_trip=array(0.75, 1.5, 9, 9),
    )
    expected = {
        "device_start": [0, 1, 3, 2.5],
        "device_finish": [3, 1, 3.7, 2.5],
        "link_start": [3.5, 1, 3.7, 2.5],
        "link_finish": [4.5, 3.5, 3.7, 2.5],
        "edge_ready": [5.25, 5, 3.7, 2.5],
        "edge_start": [7.7, 7.5, 3.7, 2.5],
        "edge_finish": [8.0, 7.7, 3.7, 7.5],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(way, name), value, rtol=1e-15, err_msg=name)
    assert set(expected) == set(arrays.field_names(type(way)))


def test_frames_that_are_ready_together_keep_their_order():
    start, finish = serve_by_readiness(array(1, 0.5, 1, 1), array(2, 0, 3, 1))
    assert start.tolist() == [1, 0.5, 3, 6] and finish.tolist() == [3, 0.5, 6, 7]


# --- against a simulation


def random_frames(rng, count):
    gaps = rng.exponential(0.35, count)
    arrival = np.cumsum(gaps) - gaps[0]
    device_s, bits, edge_s = (
        rng.exponential(0.3, (count, 3)) * (rng.random((count, 3)) < 0.7) * [1.0, 1e4, 1.0]
    ).T
    trip = rng.choice([0.0, 0.1, 0.4], count)
    return arrival, device_s, bits, edge_s, trip


def random_rates(rng, until):
    """Moments about every 0.1 s or 2 s, and rates over two decades, outages among them."""
    gaps = rng.exponential(rng.choice([0.1, 2.0]), 3000)
    time = np.cumsum(gaps) - gaps[0]
    time = time[time < until]
    rate = 10 ** rng.uniform(3.5, 5.5, len(time)) * (rng.random(len(time)) < 0.8)
    rate[-1] = 2e4
    return time, rate


@pytest.mark.parametrize("seed", slow_except(range(8), 0, 1))
def test_it_equals_a_discrete_event_simulation(seed):
    rng = np.random.default_rng(seed)
    frames = random_frames(rng, 300)
    arrival, device_s, bits, edge_s, trip = frames
    time, rate = random_rates(rng, arrival[-1])
    times, done = simulate(*frames, time.tolist(), rate.tolist())
    way = travel(arrival, device_s, bits, edge_s, RateCurve.of(time, rate), trip)
    for stage, (name, work) in enumerate((("device", device_s), ("link", bits), ("edge", edge_s))):
        for column, end in enumerate(("start", "finish")):
            found = np.where(work > 0, getattr(way, f"{name}_{end}"), np.nan)
            np.testing.assert_allclose(found, times[:, stage, column], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(way.edge_finish, done, rtol=1e-9, atol=1e-9)
    # Some overtake others at the link and at the edge, and most kinds of ways occur.
    for ready, work in ((way.device_finish, bits), (way.edge_ready, edge_s)):
        assert (np.diff(ready[work > 0]) < 0).sum() > 5
    kinds = np.stack([device_s > 0, bits > 0, edge_s > 0], axis=-1)
    assert len(np.unique(kinds, axis=0)) == 8


SOME = st.one_of(st.just(0.0), st.floats(0.01, 3.0))
FRAMES = st.lists(st.tuples(SOME, SOME, SOME, SOME, SOME), min_size=1, max_size=7)
PIECES = st.lists(st.tuples(st.floats(0.01, 2.0), SOME), max_size=5)


@given(FRAMES, PIECES, st.floats(0.1, 5.0))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_few_frames_equal_the_simulation(frames, pieces, last):
    """Ties, outages and rates that change just when something happens."""
    gap, device_s, bits, edge_s, trip = np.array(frames).T
    # No two moments are the same by chance only; ties are tested by hand.
    arrival = np.cumsum(gap + np.sqrt(2) * 1e-6)
    time = np.cumsum([0.0, *(length for length, _ in pieces)])
    rate = np.array([*(r for _, r in pieces), last])
    device_s = np.where(device_s > 0, device_s + np.sqrt(3) * 1e-6 * np.arange(len(frames)), 0)
    trip = trip + np.sqrt(5) * 1e-6 * np.arange(len(frames))
    _, done = simulate(arrival, device_s, bits, edge_s, trip, time.tolist(), rate.tolist())
    way = travel(arrival, device_s, bits, edge_s, RateCurve.of(time, rate), trip)
    np.testing.assert_allclose(way.edge_finish, done, rtol=1e-9, atol=1e-9)


# --- properties


@pytest.mark.parametrize("count", [2, 7, 900])
def test_the_curve_and_its_inverse(count):
    """In every way of searching: counting, by halves, and along one axis."""
    assert (6 * count * (count + 40) > tandem._FEW) == (count == 900)
    rng = np.random.default_rng(count)
    time = np.cumsum(rng.exponential(0.5, (6, count)), axis=-1)
    rate = rng.uniform(1.0, 9.0, (6, count)) * (rng.random((6, count)) < 0.8)
    rate[:, -1] = 3.0
    curve = RateCurve.of(time, rate)
    inside = time[:, :1] + rng.random((6, 40)) * 1.2 * (time[:, -1:] - time[:, :1])
    moment = np.concatenate([time, inside], axis=-1)
    bits = curve.bits_until(moment)
    # The integral of the rate, added up piece by piece.
    ends = np.append(time[:, 1:], np.full((6, 1), np.inf), axis=-1)
    length = np.clip(moment[..., None], time[:, None], ends[:, None]) - time[:, None]
    np.testing.assert_allclose(bits, (length * rate[:, None]).sum(axis=-1), rtol=1e-12)
    back = curve.when(bits)
    np.testing.assert_allclose(curve.bits_until(back), bits, rtol=1e-12)
    assert (back <= moment * (1 + 1e-12)).all()  # the first moment at which they are sent
    for row in range(6):
        alone = arrays.at(curve, row)
        assert np.array_equal(alone.bits_until(moment[row]), bits[row])
        assert np.array_equal(alone.when(bits[row]), back[row])


def test_leading_axes_are_broadcast():
    rng = np.random.default_rng(3)
    shape = (4, 3, 6)
    ready = rng.random(shape)
    work = rng.random((4, 1, 6)) * (rng.random(shape) < 0.8)
    free = rng.random((3,))
    curve = RateCurve.of(np.cumsum(rng.random((4, 1, 9)), axis=-1) - 1.0, rng.random((4, 1, 9)))
    for given_curve in (None, curve):
        start, finish = serve_by_readiness(ready, work, free, given_curve)
        assert start.shape == finish.shape == shape
        for i, j in itertools.product(range(4), range(3)):
            own = None if given_curve is None else arrays.at(curve, (i, 0))
            alone = serve_by_readiness(ready[i, j], work[i, j], free[j], own)
            assert np.array_equal(alone[0], start[i, j]) and np.array_equal(alone[1], finish[i, j])


def test_who_is_not_delayed_keeps_his_times_to_the_last_digit():
    rng = np.random.default_rng(0)
    ready = rng.random((50, 12)) * 9
    work = (0.1 + 0.5 * rng.random((50, 12))) * (rng.random((50, 12)) < 0.8)
    more = (np.concatenate([a, np.full((50, 1), b)], axis=-1) for a, b in ((ready, 4), (work, 0.4)))
    more = tuple(more)
    for curve in (None, RateCurve.of(np.arange(12.0), rng.uniform(0.8, 1.7, 12))):
        before = serve_by_readiness(ready, work, 0.3, curve)
        after = serve_by_readiness(*more, 0.3, curve)
        for old, new in zip(before, after, strict=True):
            kept = old == new[:, :-1]
            assert (new[:, :-1][~kept] > old[~kept] + 1e-9).all()
            assert kept[ready <= 4.0].all()
            later = (ready > 4.0) & (work > 0)
            assert 0.1 < kept[later].mean() < 0.9


def test_no_frames_at_all():
    way = travel(*np.zeros((4, 2, 0)), STEPS)
    assert all(field.shape == (2, 0) for field in arrays.as_dict(way).values())


def test_no_work_is_no_wait():
    rng = np.random.default_rng(5)
    ready = rng.random((5, 4))
    for curve in (None, STEPS):
        start, finish = serve_by_readiness(ready + 1, np.zeros(4), 9.0, curve)
        assert np.array_equal(start, ready + 1) and np.array_equal(finish, ready + 1)
    assert tandem.serve_by_readiness(np.zeros((2, 1)), np.ones(1), 4.0)[1].tolist() == [[5], [5]]
