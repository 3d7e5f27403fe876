"""The value of the battery of a drive."""

from dataclasses import replace

import numpy as np
import pytest

from mec_gym.network.mobility import Road
from mec_gym.training_offload import battery_value
from mec_gym.training_offload.battery_value import (
    BatteryValue,
    corner_choices,
    draw_tasks,
    fit_battery_value,
    independent_tasks,
    offered,
)
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.scenario import PRESETS

DRIVE = PRESETS["drive"].make()
SHORT = replace(DRIVE, horizon=3, battery=100.0)


@pytest.fixture(scope="module")
def short(coarse):
    return fit_battery_value(SHORT)


def test_which_tasks_are_independent():
    assert all(independent_tasks(PRESETS[name].make()) for name in ("drive", "drive-ample"))
    assert independent_tasks(replace(DRIVE, road=None, radio=None))
    assert not independent_tasks(PRESETS["drive-steady"].make())
    # A speed that is drawn anew says nothing, but a place does as long as all go the same way.
    assert not independent_tasks(replace(DRIVE, road=Road(speed_std=0.0)))
    assert not independent_tasks(replace(DRIVE, road=Road(memory=0.9)))


def test_places_are_as_far_from_independent_as_their_spread_says():
    """Where speeds hardly vary, the place one slot later is still known."""
    for road, known in ((Road(speed_std=0.5), True), (Road(), False)):
        scenario = replace(DRIVE, road=road, horizon=2)
        tasks = scenario.sample(np.random.default_rng(0), 1000)
        turn = np.exp(2j * np.pi * tasks.position / road.cell_m)
        along = abs((turn[:, 1] * turn[:, 0].conj()).mean())
        assert along > 0.5 if known else along < 4 / np.sqrt(1000)
        assert independent_tasks(scenario) != known


def test_sizes_are_stratified_and_nothing_else_changes():
    tasks = draw_tasks(DRIVE, 7, 100)
    low, high = DRIVE.work
    assert np.array_equal(
        np.sort(np.floor((tasks.work - low) / (high - low) * 100)), np.arange(100)
    )
    again = draw_tasks(DRIVE, 7, 100)
    assert np.array_equal(tasks.work, again.work) and np.array_equal(tasks.uplink, again.uplink)
    assert not np.array_equal(tasks.uplink, draw_tasks(DRIVE, 8, 100).uplink)
    # Sizes say nothing of the rest.
    many = draw_tasks(DRIVE, 7, 4000)
    assert abs(np.corrcoef(many.work, many.connection_time)[0, 1]) < 4 / np.sqrt(4000)


def test_only_choices_that_none_is_better_than_are_offered():
    found = offered(
        np.array([[5, 3, 3, 8], [2, 9, 4, 4]]),
        np.array([[0.3, 0.5, 0.4, 0.35], [1.2, np.inf, 0.6, 0.6]]),
    )
    assert found.spend.tolist() == [[0, 3, 5], [0, 4, 0]]
    assert found.cost.tolist() == [[1.0, 0.4, 0.3], [1.0, 0.6, np.inf]]


def test_choices_are_corners_rounded_down():
    tasks = draw_tasks(DRIVE, 7, 50)
    choices = corner_choices(tasks, DRIVE, 0.1)
    there = np.isfinite(choices.cost) & (choices.spend > 0)
    frontier = SlotFrontier(tasks, DRIVE)
    for k in range(1, choices.cost.shape[1]):
        split, _ = frontier.best((choices.spend[:, k] + 1) * 0.1)
        rows = there[:, k]
        corner = choices.cost[rows, k] * DRIVE.deadline
        assert rows.any() and (split.delay[rows] <= corner * (1 + 1e-9)).all()


def test_value_where_it_is_known(short: BatteryValue):
    """Without a battery all tasks are dropped; with plenty, the last task is done at its best."""
    assert short.values[:, 0] == pytest.approx([0.0, -1.0, -2.0, -3.0])
    tasks = draw_tasks(SHORT, 1, 4000)
    best = SlotFrontier(tasks, SHORT).best()[0].delay
    plenty = replace(SHORT, battery=350.0)
    assert fit_battery_value(plenty).of(1, 350.0) == pytest.approx(
        -best.mean() / SHORT.deadline, rel=1e-3
    )
    at_30 = SlotFrontier(tasks, SHORT).best(30.0)[0].delay
    assert short.of(1, 30.0) == pytest.approx(
        -np.minimum(at_30 / SHORT.deadline, 1.0).mean(), abs=0.01
    )


def test_value_never_falls_with_the_battery_nor_rises_with_the_tasks(short: BatteryValue):
    assert (np.diff(short.values, axis=1) >= -1e-12).all()
    assert (np.diff(short.values, axis=0) <= 1e-12).all()
    top = battery_value.UNITS
    assert short.unit * top == pytest.approx(100.0)
    assert short.units(np.array([0.0, 100.0, 1e9, 50.0])).tolist() == [0, top, top, top // 2]
