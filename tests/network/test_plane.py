"""Stations and walks in a square, and the noise that drives them, against theory."""

import math

import numpy as np
import pytest

from mec_gym.network.gaussian import correlate, white_noise
from mec_gym.network.plane import Plane

# ------------------------------------------------------------------------------ stations


def test_stations_by_hand():
    plane = Plane(side_m=600.0)
    assert plane.stations(1).tolist() == [[300, 300]]
    assert plane.stations(2).tolist() == [[150, 300], [450, 300]]
    # two rows: the first of two, the second of one
    assert plane.stations(3).tolist() == [[150, 150], [450, 150], [300, 450]]
    assert plane.stations(4).tolist() == [[150, 150], [450, 150], [150, 450], [450, 450]]
    five = [[100, 150], [300, 150], [500, 150], [150, 450], [450, 450]]
    assert plane.stations(5).tolist() == pytest.approx(np.array(five))


@pytest.mark.parametrize("count", range(1, 41))
def test_stations_are_spread_evenly(count):
    side = 500.0
    found = Plane(side_m=side).stations(count)
    assert found.shape == (count, 2)
    assert (found > 0).all()
    assert (found < side).all()
    rows, per_row = np.unique(found[:, 1], return_counts=True)
    assert np.ptp(per_row) <= 1  # evenly filled
    assert abs(len(rows) - math.sqrt(count)) <= 0.5  # about as many rows as columns
    np.testing.assert_allclose(rows, (np.arange(len(rows)) + 0.5) * side / len(rows))
    for row, width in zip(rows, per_row, strict=True):
        columns = np.sort(found[found[:, 1] == row, 0])
        np.testing.assert_allclose(columns, (np.arange(width) + 0.5) * side / width)
    # no two closer than the side of 2/3 of a station's share of the square
    apart = np.hypot(*(found[:, None] - found[None]).T) + np.eye(count) * 1e9
    assert apart.min() > 0.66 * side / math.sqrt(count)


@pytest.mark.parametrize("bad", [0, -1, 2.5])
def test_there_must_be_a_station(bad):
    with pytest.raises(ValueError, match=f"stations must be a whole number.*{bad}"):
        Plane().stations(bad)


# ---------------------------------------------------------------------------------- walks


def test_a_walk_has_time_first_and_stays_inside():
    plane = Plane(side_m=40.0, speed_std=15.0)  # across the square in a few steps
    walk = plane.walk(np.random.default_rng(0), (50, 4), 200, 1.0)
    assert walk.shape == (200, 2, 50, 4)
    assert walk.min() >= 0
    assert walk.max() <= 40 * (1 + 1e-6)
    # and everywhere in it, from the first to the last moment: uniform stays uniform
    for t in (0, 1, 100, 199):
        for axis in range(2):
            x = walk[t, axis].ravel() / 40
            assert x.mean() == pytest.approx(0.5, abs=4.5 * math.sqrt(1 / 12 / 200))
            assert x.std() == pytest.approx(math.sqrt(1 / 12), rel=0.2)
    counts, _ = np.histogram(walk, bins=8, range=(0, 40))
    assert np.abs(counts / walk.size - 1 / 8).max() < 0.01
    r = np.corrcoef(walk[:, 0].ravel(), walk[:, 1].ravel())[0, 1]
    assert abs(r) < 0.05


def test_velocities_have_their_spread_and_memory():
    # so large a square that hardly anybody meets the border
    plane = Plane(side_m=1e5, speed_std=6.0, memory=0.7)
    step_s = 2.0
    walk = plane.walk(np.random.default_rng(1), (4000,), 9, step_s).astype(np.float64)
    inside = ((walk > 500) & (walk < 1e5 - 500)).all(axis=(0, 1))
    velocity = np.diff(walk, axis=0)[..., inside] / step_s  # (8, 2, devices)
    assert velocity.mean() == pytest.approx(0, abs=0.15)
    for t in range(8):  # stationary from the start
        assert velocity[t].std() == pytest.approx(6.0, rel=0.05)
    assert (np.abs(velocity) < 6.0).mean() == pytest.approx(0.6827, abs=0.02)  # normal
    for apart in (1, 2, 4):
        r = np.corrcoef(velocity[apart:].ravel(), velocity[:-apart].ravel())[0, 1]
        assert r == pytest.approx(0.7**apart, abs=0.04)
    r = np.corrcoef(velocity[:, 0].ravel(), velocity[:, 1].ravel())[0, 1]
    assert abs(r) < 0.04


def test_the_border_reflects():
    # Constant velocity (memory 1): the path is a triangle wave, so that each step covers the
    # same way but for those that meet the border.
    plane = Plane(side_m=100.0, speed_std=10.0, memory=1.0)
    walk = plane.walk(np.random.default_rng(2), (300,), 60, 1.0).astype(np.float64)
    first = walk[1] - walk[0]
    bounced = ~np.isclose(np.abs(first), np.abs(walk[2] - walk[1]), rtol=1e-2, atol=1e-2)
    start, velocity = walk[0][~bounced], first[~bounced]
    # unfold: where it would be without borders, folded by hand
    time = np.arange(60)[:, None]
    free = np.mod(start + velocity * time, 200.0)
    folded = np.where(free > 100, 200 - free, free)
    agree = np.isclose(walk[:, ~bounced], folded, atol=0.02)
    assert agree.all(axis=0).mean() > 0.9  # first steps across a border twice are not seen
    assert (~bounced).mean() > 0.7


def test_who_does_not_move_stays():
    walk = Plane(speed_std=0.0).walk(np.random.default_rng(3), (10,), 5, 1.0)
    np.testing.assert_allclose(walk, np.broadcast_to(walk[:1], walk.shape), rtol=1e-6)
    assert len(np.unique(walk[0])) == 20


def test_a_walk_of_one_moment():
    assert Plane().walk(np.random.default_rng(4), (3,), 1, 1.0).shape == (1, 2, 3)


# ---------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (0, 4)])
def test_noise_has_the_shape_asked_for(shape):
    noise = white_noise(np.random.default_rng(5), shape)
    assert noise.shape == shape
    assert np.isfinite(noise).all()


def test_white_noise_is_standard_normal():
    noise = white_noise(np.random.default_rng(6), (200_001,)).astype(np.float64)
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.var() == pytest.approx(1, abs=0.015)
    assert (noise**3).mean() == pytest.approx(0, abs=0.05)
    assert (noise**4).mean() == pytest.approx(3, abs=0.12)
    for z, p in [(0.5, 0.6915), (1.0, 0.8413), (2.0, 0.9772), (3.0, 0.99865)]:
        error = 4.5 * math.sqrt(p * (1 - p) / noise.size)
        assert (noise < z).mean() == pytest.approx(p, abs=error)
        assert (noise > -z).mean() == pytest.approx(p, abs=error)
    # no memory, nor between the halves that it is made of
    half = noise.size // 2
    for apart in (1, 2, half, half + 1):
        assert abs(np.corrcoef(noise[apart:], noise[:-apart])[0, 1]) < 0.02


@pytest.mark.parametrize("memory", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 13])
def test_correlate_equals_a_slow_loop(memory, steps):
    white = np.random.default_rng(7).standard_normal((steps, 4)).astype(np.float32)
    expected = [white[0].astype(np.float64)]
    for w in white[1:]:
        expected.append(memory * expected[-1] + math.sqrt(1 - memory**2) * w)
    np.testing.assert_allclose(correlate(white.copy(), memory), expected, atol=2e-6)
