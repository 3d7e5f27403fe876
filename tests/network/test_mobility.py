"""Drives against a slow walk along the same speeds, and the statistics of the speeds."""

import dataclasses
import math

import numpy as np
import pytest

from mec_gym.network.mobility import Drive, Road

ROAD = Road(cell_m=430.0, mean_speed=17.0, speed_std=5.0, memory=0.7, min_speed=8.0, step_s=3.0)


def walk(speeds, step_s, begin, until):
    """Place at time `until` of a vehicle that changes its speed every step_s seconds."""
    place, left = begin, until
    for speed in speeds:
        if left <= step_s:
            return place + speed * left
        place += speed * step_s
        left -= step_s
    raise AssertionError("the path of speeds is too short")


def time_to_reach(speeds, step_s, begin, goal):
    place, time = begin, 0.0
    for speed in speeds:
        if place + speed * step_s >= goal:
            return time + (goal - place) / speed
        place += speed * step_s
        time += step_s
    raise AssertionError("the path of speeds is too short")


@pytest.mark.parametrize("slot_s", [180.0, 7.3, 3.0])  # with and without a common measure
@pytest.mark.parametrize("horizon", [1, 6])
def test_drive_equals_a_slow_walk(monkeypatch, slot_s, horizon):
    paths = []
    draw = Road.speeds

    def remember(self, rng, n, steps):
        paths.append(draw(self, rng, n, steps))
        return paths[-1]

    monkeypatch.setattr(Road, "speeds", remember)
    drive = ROAD.drive(np.random.default_rng(1), 40, horizon, slot_s)
    (speeds,) = paths
    crossed = 0
    for n in range(40):
        begin = drive.position[n, 0]
        for t in range(horizon):
            now = walk(speeds[n], ROAD.step_s, begin, t * slot_s)
            cells, position = divmod(now, ROAD.cell_m)
            assert drive.position[n, t] == pytest.approx(position, abs=1e-6)
            leaves = time_to_reach(speeds[n], ROAD.step_s, begin, (cells + 1) * ROAD.cell_m)
            assert drive.connection_time[n, t] == pytest.approx(leaves - t * slot_s, abs=1e-6)
            assert drive.speed[n, t] == speeds[n, int(t * slot_s / ROAD.step_s + 1e-9)]
            crossed += cells > 0
    if horizon > 1 and slot_s > 100:
        assert crossed > 100  # else no border was tested


def test_drives_stay_within_what_is_promised():
    drive = ROAD.drive(np.random.default_rng(2), 3000, 4, 50.0)
    assert ((drive.position >= 0) & (drive.position < ROAD.cell_m)).all()
    assert ((drive.speed >= ROAD.min_speed) & (drive.speed <= ROAD.max_speed)).all()
    assert (drive.connection_time > 0).all()
    assert (drive.connection_time <= ROAD.longest_connection_s).all()
    assert ROAD.longest_connection_s == pytest.approx(430 / 8)
    # A drive begins anywhere in the cell: mean 215, standard deviation 430 / sqrt(12).
    assert drive.position[:, 0].mean() == pytest.approx(215.0, abs=9)
    assert drive.position[:, 0].std() == pytest.approx(124.13, abs=4)


def test_speeds_are_stationary_gauss_markov():
    # Limits eight deviations away, so that they do not bend the statistics.
    road = Road(mean_speed=20.0, speed_std=2.0, memory=0.8, min_speed=4.0, max_speed=36.0)
    n, steps = 40_000, 25
    speeds = road.speeds(np.random.default_rng(3), n, steps)
    assert speeds.shape == (n, steps)
    error = 5 / math.sqrt(n)
    for column in (0, 1, 5, steps - 1):
        assert speeds[:, column].mean() == pytest.approx(20.0, abs=2 * error)
        assert speeds[:, column].std() == pytest.approx(2.0, abs=2 * error)
    for column, lag in [(0, 1), (10, 1), (steps - 2, 1), (3, 3)]:
        got = np.corrcoef(speeds[:, column], speeds[:, column + lag])[0, 1]
        assert got == pytest.approx(0.8**lag, abs=error)


def test_speeds_are_kept_between_the_limits():
    road = Road(speed_std=30.0)
    speeds = road.speeds(np.random.default_rng(4), 100, 50)
    assert (speeds.min(), speeds.max()) == (road.min_speed, road.max_speed)


def test_without_errors_a_steady_vehicle_knows_when_it_leaves():
    road = Road(memory=1.0, position_error_m=0.0, speed_error=0.0)
    rng = np.random.default_rng(5)
    drive = road.drive(rng, 200, 5, 47.0)
    assert np.ptp(drive.speed, axis=1).max() == 0 and drive.speed[:, 0].std() > 1
    position, speed, estimate = road.measure(rng, drive)
    np.testing.assert_array_equal(position, drive.position)
    np.testing.assert_array_equal(speed, drive.speed)
    np.testing.assert_allclose(estimate, drive.connection_time, rtol=1e-9, atol=1e-6)


def test_measurement_errors_have_the_stated_size():
    road = Road(cell_m=500.0, position_error_m=6.0, speed_error=0.5)
    middle = np.full((50_000, 1), 250.0)
    drive = Drive(position=middle, speed=np.full_like(middle, 20.0), connection_time=middle / 20)
    position, speed, estimate = road.measure(np.random.default_rng(6), drive)
    assert (position - 250).mean() == pytest.approx(0.0, abs=0.15)
    assert position.std() == pytest.approx(6.0, abs=0.1)
    assert (speed - 20).mean() == pytest.approx(0.0, abs=0.0125)
    assert speed.std() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(position[:, 0], speed[:, 0])[0, 1]) < 0.025
    np.testing.assert_allclose(estimate, (500 - position) / speed, rtol=1e-12)


def test_measurements_end_at_the_borders():
    road = Road(position_error_m=1e4, speed_error=1e3)
    drive = road.drive(np.random.default_rng(7), 100, 2, 60.0)
    position, speed, estimate = road.measure(np.random.default_rng(8), drive)
    assert (position.min(), position.max()) == (0.0, road.cell_m)
    assert (speed.min(), speed.max()) == (road.min_speed, road.max_speed)
    assert estimate.min() == 0 and estimate.max() <= road.longest_connection_s


def test_station_distance():
    road = Road(cell_m=500.0, offset_m=40.0)
    # 3-4-5: 30 m beside the centre is 50 m away.
    np.testing.assert_allclose(road.station_distance([250.0, 280.0, 220.0]), [40.0, 50.0, 50.0])
    assert road.station_distance(0.0) == pytest.approx(math.sqrt(250**2 + 40**2))


def test_a_seed_fixes_the_drive():
    first, again, other = (ROAD.drive(np.random.default_rng(s), 6, 4, 50.0) for s in (9, 9, 10))
    for field in dataclasses.fields(Drive):
        same = getattr(again, field.name)
        np.testing.assert_array_equal(getattr(first, field.name), same)
        assert (getattr(other, field.name) != same).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0.0) for name in ("cell_m", "mean_speed", "min_speed", "max_speed", "step_s")),
        *((name, -1.0) for name in ("offset_m", "speed_std", "position_error_m", "speed_error")),
        *((name, math.nan) for name in ("cell_m", "speed_std", "memory")),
        ("step_s", "5"),
        ("memory", 1.1),
        ("memory", -0.1),
        ("mean_speed", 7.0),  # below min_speed
        ("mean_speed", 36.0),  # above max_speed
    ],
)
def test_bad_parameters_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        Road(**{"min_speed": 8.0, "max_speed": 35.0, name: value})
