"""Statistics of the regimes against theory, measured traces against hand-made ones."""

import itertools
import math
import re

import numpy as np
import pytest

from mec_gym.network.bandwidth import (
    CAT1,
    G3,
    G4,
    WIFI,
    MeasuredBandwidth,
    Regimes,
    ornstein_uhlenbeck,
)

# --- Ornstein-Uhlenbeck

GAPS = np.array([7.0, 0.5, 0.0, 3.0, 1.25, 40.0, 0.1])  # the first does not matter
MEMORY = np.array([2.0, 5.0, 0.0, 0.3])


def test_noise_is_stationary_and_forgets_as_it_should():
    n = 100_000
    rng = np.random.default_rng(30)
    noise = ornstein_uhlenbeck(rng, np.broadcast_to(GAPS, (n, len(GAPS))), MEMORY)
    assert noise.shape == (n, len(GAPS), len(MEMORY)) and noise.dtype == np.float64
    error = 5.0 / math.sqrt(n)
    assert np.abs(noise.mean(axis=0)).max() < error
    np.testing.assert_allclose((noise**2).mean(axis=0), 1.0, atol=error * math.sqrt(2))
    np.testing.assert_allclose((noise**4).mean(axis=0), 3.0, atol=error * math.sqrt(96))
    moments = np.cumsum(GAPS)
    for c, memory in enumerate(MEMORY):
        for t, u in itertools.combinations(range(len(GAPS)), 2):
            lag = moments[u] - moments[t]
            expected = math.exp(-lag / memory) if memory else 0.0
            assert (noise[:, t, c] * noise[:, u, c]).mean() == pytest.approx(expected, abs=error)
    # Series are independent of each other.
    for c, e in itertools.combinations(range(len(MEMORY)), 2):
        assert np.abs((noise[:, 3, c] * noise[:, 3, e]).mean()) < error


def test_noise_stands_still_while_no_time_passes():
    gaps = np.array([[1.0, 0.0, 2.0, 0.0, 0.0]])
    noise = ornstein_uhlenbeck(np.random.default_rng(31), gaps, [3.0, 0.0])[0]
    assert noise[0, 0] == noise[1, 0] != noise[2, 0] == noise[3, 0] == noise[4, 0]
    assert len(set(noise[:, 1])) == 5  # white noise has no memory at all


def test_gaps_may_differ_between_rows():
    n = 40_000
    gaps = np.tile([[9.0, 0.2], [9.0, 2.0], [9.0, 1e9]], (n, 1))
    noise = ornstein_uhlenbeck(np.random.default_rng(32), gaps, [1.5])
    assert noise.shape == (3 * n, 2, 1)
    noise = noise.reshape(n, 3, 2)
    got = (noise[..., 0] * noise[..., 1]).mean(axis=0)
    expected = [math.exp(-0.2 / 1.5), math.exp(-2.0 / 1.5), 0.0]
    np.testing.assert_allclose(got, expected, atol=5 / math.sqrt(n))


def test_the_first_gap_does_not_matter():
    one, other = (
        ornstein_uhlenbeck(np.random.default_rng(33), np.array([[first, 1.0, 2.0]]), [4.0])
        for first in (0.0, 77.0)
    )
    np.testing.assert_array_equal(one, other)


# --- regimes


def of_regime(regimes, rate):
    """Index of the regime of each rate, where two deviations keep them apart."""
    low = np.array(regimes.means) * math.exp(-2.001 * regimes.spread)
    high = np.array(regimes.means) * math.exp(2.001 * regimes.spread)
    order = np.argsort(low)
    assert (high[order][:-1] < low[order][1:]).all()
    within = (rate[..., None] >= low) & (rate[..., None] <= high)
    assert (within.sum(axis=-1) == 1).all()
    return within.argmax(axis=-1)


def chain_after(count, dwell, gap):
    """Transition probabilities: exp(Q gap), by many small steps."""
    rates = np.full((count, count), 1.0 / (count - 1) / dwell)
    np.fill_diagonal(rates, -1.0 / dwell)
    return np.linalg.matrix_power(np.eye(count) + rates * gap / 2**20, 2**20)


def test_the_published_rates():
    assert (CAT1, G3, G4, WIFI) == (130e3, 1.1e6, 5.85e6, 18.88e6)


@pytest.mark.parametrize("means", [(2e6, 1e5), (3e6, 1e5, 4e7), (G3, CAT1, 1e9, 3e7)])
def test_regimes_change_as_a_markov_chain(means):
    regimes = Regimes(means, dwell_s=8.0, spread=0.2, memory_s=3.0)
    n, count = 120_000, len(means)
    gaps = [0.0, 0.5, 30.0, 0.0, 4.0, 1000.0]
    moments = 50.0 + np.cumsum(gaps)
    rate = regimes.sample(np.random.default_rng(34), np.broadcast_to(moments, (n, len(gaps))))
    state = of_regime(regimes, rate)
    for t in range(len(gaps)):
        share = np.bincount(state[:, t], minlength=count) / n
        np.testing.assert_allclose(share, 1.0 / count, atol=5 / math.sqrt(n) * 0.5)
    for t in range(1, len(gaps)):
        expected = chain_after(count, 8.0, gaps[t])
        for i in range(count):
            rows = state[state[:, t - 1] == i, t]
            got = np.bincount(rows, minlength=count) / len(rows)
            np.testing.assert_allclose(got, expected[i], atol=2.5 / math.sqrt(len(rows)))
    assert (state[:, 0] != state[:, 2]).any() and (state[:, 2] == state[:, 3]).all()
    # Over two gaps as over their sum: it is a chain in continuous time.
    both = chain_after(count, 8.0, gaps[1] + gaps[2] + gaps[3] + gaps[4])
    rows = state[state[:, 0] == 1, 4]
    got = np.bincount(rows, minlength=count) / len(rows)
    np.testing.assert_allclose(got, both[1], atol=2.5 / math.sqrt(len(rows)))


def test_stays_last_as_long_as_they_should():
    regimes = Regimes((1e5, 1e6, 1e7), dwell_s=6.0, spread=0.1)
    time = np.broadcast_to(np.arange(0.0, 400.0, 0.05), (60, 8000))
    state = of_regime(regimes, regimes.sample(np.random.default_rng(35), time))
    stays = []
    for row in state:
        changes = np.flatnonzero(np.diff(row)) + 1
        stays += np.diff(changes).tolist()  # whole ones only
    stays = np.array(stays) * 0.05
    # About 3900 stays, exponential: standard deviation as large as the mean.
    assert 3000 < len(stays) < 4500
    assert stays.mean() == pytest.approx(6.0, abs=0.35)
    assert stays.std() == pytest.approx(6.0, abs=0.5)
    assert (stays < 3.0).mean() == pytest.approx(1 - math.exp(-0.5), abs=0.04)


def test_rates_within_a_regime():
    n = 100_000
    means, spread = (1e5, 8e6), 0.4
    regimes = Regimes(means, dwell_s=1e12, spread=spread, memory_s=5.0)
    time = np.broadcast_to([0.0, 2.0], (n, 2))
    rate = regimes.sample(np.random.default_rng(36), time)
    state = of_regime(regimes, rate)
    assert (state[:, 0] == state[:, 1]).all()
    z = np.log(rate / np.array(means)[state]) / spread
    for i, mean in enumerate(means):
        rows = rate[state[:, 0] == i]
        np.testing.assert_allclose(np.median(rows, axis=0), mean, rtol=0.01)
        deviates = z[state[:, 0] == i]
        # Standard normal, limited to two deviations.
        for level, below in [(-1.0, 0.158655), (0.5, 0.691462), (1.5, 0.933193)]:
            np.testing.assert_allclose((deviates < level).mean(axis=0), below, atol=0.011)
        for end in (-2.0, 2.0):
            at_end = np.isclose(deviates, end, atol=1e-9).mean(axis=0)
            np.testing.assert_allclose(at_end, 0.022750, atol=0.004)
    assert np.abs(z).max() <= 2 + 1e-9
    # Correlation exp(-2/5) before the limits; the sign is not touched by them:
    # P(same sign) = 1/2 + asin(r) / pi.
    same = (z[:, 0] * z[:, 1] > 0).mean()
    assert same == pytest.approx(0.5 + math.asin(math.exp(-0.4)) / math.pi, abs=0.008)


def test_the_bounds_are_never_crossed_but_reached():
    for means, spread in [((7e5,), 0.37), ((3e5, 1.9e6), 0.7), ((G4, CAT1, WIFI), 0.311)]:
        regimes = Regimes(means, dwell_s=1.0, spread=spread, memory_s=0.2)
        assert regimes.lowest == pytest.approx(min(means) * math.exp(-2 * spread), rel=1e-15)
        assert regimes.highest == pytest.approx(max(means) * math.exp(2 * spread), rel=1e-15)
        time = np.broadcast_to(np.arange(500.0), (200, 500))
        rate = regimes.sample(np.random.default_rng(37), time)
        assert rate.shape == (200, 500) and rate.dtype == np.float64
        assert rate.min() >= regimes.lowest and rate.max() <= regimes.highest
        assert rate.min() == pytest.approx(regimes.lowest, rel=1e-12)
        assert rate.max() == pytest.approx(regimes.highest, rel=1e-12)


def test_without_spread_a_rate_is_its_regimes():
    regimes = Regimes((2e5, 5e6, 3e7), dwell_s=2.0, spread=0.0)
    rate = regimes.sample(np.random.default_rng(38), np.broadcast_to(np.arange(50.0), (20, 50)))
    assert set(np.unique(rate)) == {2e5, 5e6, 3e7}
    assert (regimes.lowest, regimes.highest) == (2e5, 3e7)


def test_a_single_regime_never_changes():
    regimes = Regimes([4e6], spread=0.0)
    assert regimes.means == (4e6,)
    rate = regimes.sample(np.random.default_rng(39), np.broadcast_to(np.arange(9.0), (5, 9)))
    assert rate.shape == (5, 9) and (rate == 4e6).all()


def test_regimes_follow_the_time_of_their_own_row():
    regimes = Regimes((1e5, 1e7), dwell_s=1.0, spread=0.1)
    time = np.tile([[3.0, 3.0], [0.0, 1e6]], (30_000, 1))
    state = of_regime(regimes, regimes.sample(np.random.default_rng(40), time))
    changed = (state[:, 0] != state[:, 1]).reshape(-1, 2).mean(axis=0)
    assert changed[0] == 0 and changed[1] == pytest.approx(0.5, abs=0.015)


def test_a_seed_fixes_the_bandwidth():
    time = np.broadcast_to(np.arange(30.0), (4, 30))
    measured = MeasuredBandwidth(tuple(range(999)), tuple(range(1, 1000)))
    for source in (Regimes((1e5, 1e7)), measured):
        one, again, other = (source.sample(np.random.default_rng(s), time) for s in (1, 1, 2))
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()
        assert len({tuple(row) for row in one}) == 4  # rows differ as well


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": ()}, "means must hold numbers"),
        ({"means": 5.0}, "means must hold numbers"),
        ({"means": (1.0, 0.0)}, r"means\[1\] must be positive"),
        ({"means": (-1.0, 2.0)}, r"means\[0\] must be positive"),
        ({"means": (1.0, math.inf)}, r"means\[1\] must be finite"),
        ({"means": ("1", 2.0)}, r"means\[0\] must be a number"),
        ({"dwell_s": 0.0}, "dwell_s must be positive"),
        ({"dwell_s": math.nan}, "dwell_s must be finite"),
        ({"spread": -0.1}, "spread must not be negative"),
        ({"spread": 2.1}, "spread must be at most 2"),
        ({"memory_s": -1.0}, "memory_s must not be negative"),
    ],
)
def test_bad_regimes_are_named(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Regimes(**{"means": (1e6, 2e6), **changes})


def test_limits_of_regimes_are_allowed():
    assert Regimes((1.0,), spread=2.0, memory_s=0.0).spread == 2.0


# --- measured traces

# Steps of 2, 1, 2, 5 s, the median is 2: it lasts until 32, 12 s in all.
TRACE = MeasuredBandwidth((20.0, 22.0, 23.0, 25.0, 30.0), (5.0, 7.0, 11.0, 13.0, 17.0))
PERIOD = 12.0


class At:
    """Enters the trace at given moments."""

    def __init__(self, *moments):
        self.moments = moments

    def uniform(self, low, high, size):
        assert (low, high, size) == (0.0, PERIOD, (len(self.moments), 1))
        return np.array(self.moments).reshape(size)


@pytest.mark.parametrize(
    ("enter", "time", "rates"),
    [
        (
            0.0,
            [0, 1.99, 2, 2.99, 3, 4.99, 5, 9.99, 10, 11.99],
            [5, 5, 7, 7, 11, 11, 13, 13, 17, 17],
        ),
        (0.0, [12, 14, 15, 17, 22, 24, 1200 + 3], [5, 7, 11, 13, 17, 5, 11]),
        (4.5, [0, 0.4, 0.5, 3.5, 5.4, 5.5, 7.5, 9.5], [11, 11, 13, 13, 13, 17, 5, 7]),
        (11.75, [0, 0.25, 2.25, 12.0, 12.25], [17, 5, 7, 17, 5]),
        (2.0, [120.0, 120.5, 121.0, 123.0], [7, 7, 11, 13]),  # time counts from 0
    ],
)
def test_measured_rates_by_hand(enter, time, rates):
    got = TRACE.sample(At(enter), np.array([time], dtype=float))
    assert got.tolist() == [rates]


def test_rows_enter_a_trace_at_moments_of_their_own():
    time = np.array([[0.0, 3.0], [0.0, 4.5], [1.0, 2.5]])
    got = TRACE.sample(At(0.0, 6.0, 9.5), time)
    assert got.tolist() == [[5, 11], [13, 17], [17, 5]]


def test_a_trace_is_entered_anywhere():
    n = 40_000
    got = TRACE.sample(np.random.default_rng(41), np.zeros((n, 1)))[:, 0]
    share = [(got == rate).mean() for rate in TRACE.rate]
    np.testing.assert_allclose(share, np.array([2, 1, 2, 5, 2]) / 12, atol=2.5 / math.sqrt(n))
    # Within a step as well: how long the first rate goes on is spread evenly.
    time = np.broadcast_to(np.arange(0.0, 6.0, 0.1), (n, 60))
    rate = TRACE.sample(np.random.default_rng(42), time)
    first = rate[rate[:, 0] == 13]
    left = (first == 13).cumprod(axis=1).sum(axis=1) * 0.1
    assert left.mean() == pytest.approx(2.55, abs=0.06) and left.max() == pytest.approx(5.0)
    # Two moments, one period apart.
    later = np.array([[0.0, PERIOD / 2, PERIOD]]).repeat(500, axis=0)
    rate = TRACE.sample(np.random.default_rng(43), later)
    assert (rate[:, 0] == rate[:, 2]).all() and (rate[:, 0] != rate[:, 1]).all()


def test_the_bounds_of_a_trace():
    trace = MeasuredBandwidth((-3, 0, 4, 6), (8, 2, 30, 4))
    assert (trace.lowest, trace.highest) == (2.0, 30.0)
    assert trace.time == (-3.0, 0.0, 4.0, 6.0) and trace.rate == (8.0, 2.0, 30.0, 4.0)
    got = trace.sample(np.random.default_rng(44), np.broadcast_to(np.arange(50.0), (30, 50)))
    assert set(np.unique(got)) == {2.0, 4.0, 8.0, 30.0}


@pytest.mark.parametrize(
    ("time", "rate", "message"),
    [
        ((), (), "time and rate must hold .* at least 2 values, got 0 and 0"),
        ((0.0,), (1.0,), "at least 2 values, got 1 and 1"),
        ((0.0, 1.0, 2.0), (1.0, 2.0), "the same number .* got 3 and 2"),
        ((0.0, 1.0), (0.0, 0.0), "rate must not be 0"),
        ((0.0, 1.0), (-1.0, 1.0), r"rate\[0\] must not be negative, got -1"),
        ((0.0, 1.0), ("1", 1.0), r"rate\[0\] must be a number"),
        ((0.0, 1.0), (1.0, math.nan), r"rate\[1\] must be finite"),
        ((0.0, 2.0, 2.0), (1.0, 1.0, 1.0), r"time must increase, got 2\.0 and then 2\.0"),
        ((0.0, 2.0, 1.0), (1.0, 1.0, 1.0), r"time must increase, got 2\.0 and then 1\.0"),
        ((0.0, math.nan), (1.0, 1.0), "time must be finite, got nan"),
        ((0.0, math.inf), (1.0, 1.0), "time must be finite, got inf"),
        ((-math.inf, 0.0), (1.0, 1.0), "time must be finite, got -inf"),
        ((0.0, 1.0, 2.0, math.inf), (1.0,) * 4, "time must be finite, got inf"),
        ((math.inf, math.inf), (1.0, 1.0), "time must be finite, got inf"),
        ((0, 1, 2, 3, 8.5), (1.0,) * 5, "time must have no gaps: 5.5 s between 3 and 8.5"),
        ((0, 7, 8, 9, 10), (1.0,) * 5, "time must have no gaps: 7 s between 0 and 7"),
    ],
)
def test_bad_traces_are_named(time, rate, message):
    with pytest.raises(ValueError, match=message):
        MeasuredBandwidth(time, rate)


def test_what_counts_as_a_gap_is_the_users_choice():
    time, rate = (0.0, 1.0, 2.0, 3.0, 8.0), (1.0,) * 5
    assert MeasuredBandwidth(time, rate).max_gap == 5.0  # five median steps are none yet
    with pytest.raises(
        ValueError, match=r"5 s between 3 and 8 .* max_gap = 4\.5 median steps of 1 s"
    ):
        MeasuredBandwidth(time, rate, max_gap=4.5)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"^max_gap must be"):
            MeasuredBandwidth(time, rate, max_gap=wrong)


# --- CSV files


def read(tmp_path, text, **more):
    path = tmp_path / "trace.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return MeasuredBandwidth.from_csv(path, **more)


@pytest.mark.parametrize(
    "text",
    [
        "0,5000\n1.5,7e6\n3,1250\n",
        "time,bandwidth\n0,5000\n1.5,7e6\n3,1250\n",
        "time (s), rate (bit/s)\r\n0, 5000\r\n1.5, 7e6\r\n3, 1250\r\n",
        "0,5000\n\n1.5,7e6\n3,1250",  # an empty line, no end of line at the end
        "\n  \n\ntime,bandwidth\n,\n0,5000\n \t\n\n1.5,7e6\n,\n3,1250\n\n , \n",
        '"t","b"\n"0","5000"\n"1.5","7e6"\n"3","1250"\n\n\n',
        "\ufefftime,bandwidth\n0,5000\n1.5,7e6\n3,1250\n",  # as spreadsheets write it
        "\ufeff0,5000\n1.5,7e6\n3,1250\n",
        "temps,débit\n0,5000\n1.5,7e6\n3,1250\n",
        "timestamp_ms,kbps\n0,5\n1500,7e3\n3000,1.25\n",
        "time (min),throughput (MB/s)\n0,0.000625\n0.025,0.875\n0.05,0.00015625\n",
    ],
)
def test_files_that_can_be_read(tmp_path, text):
    assert read(tmp_path, text) == MeasuredBandwidth((0.0, 1.5, 3.0), (5e3, 7e6, 1250.0))
    path = tmp_path / "trace.csv"
    assert MeasuredBandwidth.from_csv(str(path)).rate == (5e3, 7e6, 1250.0)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("t,b\n0,5\n1,x\n", 3, "must be two numbers .* got '1,x'"),
        ("t,b\nt,b\n0,5\n1,6\n", 2, "must be two numbers .* got 't,b'"),
        ("0,5\n1,\n2,6\n", 2, "must be two numbers .* got '1,'"),
        ("0,5\n,5\n2,6\n", 2, "must be two numbers .* got ',5'"),
        ("0,5\n1\n2,6\n", 2, "must be two numbers .* got '1'"),
        ("0,5\n1,6,7\n2,6\n", 2, "must be two numbers .* got '1,6,7'"),
        ("0,5\n1,6,\n2,6\n", 2, "must be two numbers .* got '1,6,'"),
        ("0,5\n   \n2,x\n", 3, "must be two numbers .* got '2,x'"),
        ("0;5\n1;6\n", 1, "must be two numbers .* got '0;5'"),
        ("t,b,c\n0,5,1\n1,6,1\n", 1, "must be two numbers .* got 't,b,c'"),
        ("t,\n0,5\n1,6\n", 1, "must be two numbers .* got 't,'"),
        (" ,b\n0,5\n1,6\n", 1, "must be two numbers .* got ' ,b'"),
        ("bandwidth\n5\n6\n", 1, "must be two numbers .* got 'bandwidth'"),
        ("0,5\n1,nan\n2,6\n", 2, "must be two numbers .* got '1,nan'"),
        ("0,5\n1,inf\n2,6\n", 2, "must be two numbers .* got '1,inf'"),
        ("0,5\n-inf,7\n2,6\n", 2, "must be two numbers .* got '-inf,7'"),
        ("0,5\n1,1e999\n2,6\n", 2, "must be two numbers .* got '1,1e999'"),
        ("t,b\n0,5\n1,-2.5\n2,6\n", 3, "bandwidth must not be negative, got -2.5"),
        ("t,b\n0,5\n\n1,6\n1,7\n", 5, r"time must increase, got 1\.0 and then 1\.0"),
        ("0,5\n1,6\n0.5,7\n", 3, r"time must increase, got 1\.0 and then 0\.5"),
        # A first line with a number in it is no heading.
        ("0,nan\n1,5\n2,6\n", 1, "must be two numbers .* got '0,nan'"),
        ("0,n/a\n1,5\n2,6\n", 1, "must be two numbers .* got '0,n/a'"),
        ("inf,4\n1,5\n2,6\n", 1, "must be two numbers .* got 'inf,4'"),
        ("start,4\n1,5\n2,6\n", 1, "must be two numbers .* got 'start,4'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, line, message):
    place = re.escape(f"{tmp_path / 'trace.csv'}, line {line}")
    with pytest.raises(ValueError, match=f"^{place}:? {message}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least 2 values, got 0 and 0"),
        ("\n\n", "at least 2 values, got 0 and 0"),
        ("time,bandwidth\n", "at least 2 values, got 0 and 0"),
        ("time,bandwidth\n0,5\n", "at least 2 values, got 1 and 1"),
        ("0,5e3\n1,6e3\n2,7e3\n3,7e3\n9,8e3\n", "time must have no gaps: 6 s between 3 and 9"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / 'trace.csv'))}.*{message}"):
        read(tmp_path, text)


def test_the_limit_of_gaps_reaches_the_file(tmp_path):
    text = "0,5e3\n1,6e3\n2,7e3\n3,7e3\n9,8e3\n"
    assert read(tmp_path, text, max_gap=6.0).max_gap == 6.0
    with pytest.raises(ValueError, match="max_gap must be positive"):
        read(tmp_path, text, max_gap=-1.0)


@pytest.mark.parametrize(
    ("heading", "unit", "rate"),
    [
        ("time,throughput_mbps", None, 5e6),
        ("TIME,RATE(MBit/s)", None, 5e6),
        ("time,kbps", None, 5e3),
        ("time,MB/s", "Mbyte/s", 4e7),
        ("time,DL_bitrate", "kbit/s", 5e3),
        ("time,DL_KBPS", "kbps", 5e3),
        ("time,bandwidth", "bit/s", 5.0),  # whoever says it is believed
        ("time,bandwidth", "Tbps", 5e12),
        (None, "Mbps", 5e6),
    ],
)
def test_a_unit_is_obeyed(tmp_path, heading, unit, rate):
    text = (f"{heading}\n" if heading else "") + "0,5\n1,5\n2,10\n"
    assert read(tmp_path, text, unit=unit).rate == (rate, rate, 2 * rate)


@pytest.mark.parametrize(
    ("text", "unit", "message"),
    [
        ("time,DL_bitrate\n0,5000\n1,6000\n", None, r"DL_bitrate.*--bandwidth-unit"),
        ("time,THROUGHPUT_MBPS\n0,5\n1,6\n", None, r"'MBPS'.*bytes.*--bandwidth-unit"),
        ("time,rate (Mb)\n0,5\n1,6\n", None, r"'Mb'.*amount"),
        ("ms,bytes\n0,5000\n1,6000\n", None, r"'bytes'.*amount"),
        ("time,rate (widgets)\n0,5\n1,6\n", None, "'widgets'"),
        ("time,kbps_mbps\n0,5\n1,6\n", None, "several units"),
        ("time_ms_s,kbps\n0,5\n1,6\n", None, "time_ms_s.*several units"),
        ("time,kbps\n0,5\n1,6\n", "Mbps", "unit .*'kbps', got 'Mbps'"),
        ("kbps,time_s\n5,0\n6,1\n", None, "first column .*'kbps'"),
        ("time,bandwidth\n0,5\n1,999\n2,1\n", None, "median of 5 .*--bandwidth-unit"),
        ("0,2e12\n1,3e12\n2,1\n", None, r"median of 2e\+12 .*--bandwidth-unit"),
        ("time,kbps\n0,5\n1,6\n", "fast", "unit .*'fast'"),
        ("timestamp,kbps\n0,5\n1000,6\n2000,6\n", None, "time .*steps of 1000.*time_ms"),
        ("timestamp,kbps\n1519231e6,5\n1519231000100,6\n", None, r"time .*1\.51923e\+12.*time_ms"),
    ],
)
def test_an_unclear_or_impossible_unit_is_refused_with_the_fix(tmp_path, text, unit, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, unit=unit)


# --- outages


def test_what_comes_in_an_outage_waits_for_the_first_step_after_it():
    # Steps of 2, 1, 2, 5, 2 s: nothing from 2 to 5, then 30 bit/s until 10; nothing from 10 on.
    trace = MeasuredBandwidth((20.0, 22.0, 23.0, 25.0, 30.0), (5.0, 0.0, 0.0, 30.0, 0.0))
    time = [0.0, 1.5, 2.0, 4.0, 4.5, 5.0, 9.0, 10.0, 11.0]
    got = trace.sample(At(0.0), np.array([time]))[0]
    sent, after = 5 * 30.0, 2 * 5.0  # in the first step after each outage, bit
    expected = [5, 5, sent / 8, sent / 6, sent / 5.5, 30, 30, after / 4, after / 3]
    assert got == pytest.approx(expected, rel=1e-12)
    assert (trace.lowest, trace.highest) == (pytest.approx(after / 4), 30.0)
    # At the very end of a trace, after an outage, its last rate holds.
    ended = MeasuredBandwidth((0.0, 1.0, 1.5), (5.0, 0.0, 7.0))
    assert ended.rate_after(np.array([1.0, 2.0, 2.25])) == pytest.approx([5.25 / 1.25, 7, 7])
    drawn = trace.sample(np.random.default_rng(3), np.broadcast_to(np.arange(9.0), (999, 9)))
    assert drawn.min() >= trace.lowest and drawn.max() <= trace.highest


def test_the_mean_rate_between_two_moments():
    """What is sent between them, in seconds: the bits of a trace are those of the gaps."""
    # Steps of 2, 1, 2, 5, 2 s at 5, 0, 0, 30 and 0 bit/s, then again; 160 bits in 12 s.
    trace = MeasuredBandwidth((20.0, 22.0, 23.0, 25.0, 30.0), (5.0, 0.0, 0.0, 30.0, 0.0))
    time = [0.0, 1.0, 3.0, 4.0, 4.0, 6.0, 11.0, 13.0, 38.0, 39.0]
    rate, mean = trace.sample_gaps(At(0.0), np.array([time]))
    assert np.array_equal(rate, trace.sample(At(0.0), np.array([time])))
    # 5 bits; 5 until 2; nothing; no time, so the rate at this moment; 30 from 5 on; 120; 5; two
    # rounds of 160 and 5 from 12 + 1 to 36 + 2; and nothing. After the last, the rate there.
    expected = [5, 5 / 2, 0, rate[0, 4], 30 / 2, 120 / 5, 5 / 2, 325 / 25, 0]
    np.testing.assert_allclose(mean[0, :-1], [*expected], rtol=1e-12)
    assert mean[0, -1] == rate[0, -1] > 0


def test_outages_in_a_file(tmp_path):
    text = "t,kbps\n" + "".join(f"{t},{0 if t % 3 else 9}\n" for t in range(30))
    assert read(tmp_path, text).lowest == pytest.approx(9e3 / 3)
    with pytest.raises(ValueError, match="rate must not be 0"):
        read(tmp_path, "0,0\n1,0\n2,0\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no_such\.csv"):
        MeasuredBandwidth.from_csv(tmp_path / "no_such.csv")


@pytest.mark.parametrize("content", [b"0,5\n1,\xff\n", b"\x00\x01\x02,\xfe\n"])
def test_no_text_at_all(tmp_path, content):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "trace.csv"))):
        read(tmp_path, content)
