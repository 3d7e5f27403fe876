"""Spaces, observation, action."""

import dataclasses

import numpy as np
import pytest

from mec_gym.core import arrays
from mec_gym.core.traces import check_trace
from mec_gym.early_exit.model import Decision, State
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario, Slot
from mec_gym.network.bandwidth import Regimes
from mec_gym.testing import check_problem

SCENARIO = Scenario(
    network="alexnet-digits",
    bandwidth=Regimes((2e6, 8e6), spread=0.0),
    horizon=40,
    arrival_rates=(4.0, 16.0),
    deadline=(0.1, 0.2),
    timeout_s=0.5,
    battery=80.0,
)
PROBLEM = EarlyExitPartition(SCENARIO)


def one_slot(**changes):
    fields = {
        "bandwidth": 4e6,
        "device_speed": 0.7,
        "edge_speed": 0.3,
        "arrival_rate": 4.0,
        "interval": 0.125,
        "deadline": 0.15,
        "priority": 0.5,
    } | changes
    return Slot(**{name: np.array(value) for name, value in fields.items()})


def test_the_observation_by_hand():
    state = State(np.array([0.1, 0.2, 0.4]), np.array(20.0), np.array(10.0))
    seen = PROBLEM.observe(one_slot(), state)
    # 4 Mbit/s is half way between 2 and 8 on a log scale.
    expected = [0.5, 0.7, 0.3, 0.25, 0.75, 0.5, 0.2, 0.4, 0.8, 0.25, 0.25]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert seen.dtype == np.float32
    slot, again = PROBLEM.decode(seen)
    for name, value in arrays.as_dict(one_slot()).items():
        hidden = 0.25 if name == "interval" else value  # its mean, 1 / rate
        np.testing.assert_allclose(getattr(slot, name), hidden, rtol=1e-5)
    np.testing.assert_allclose(again.backlog, state.backlog, rtol=1e-6)
    assert again.frames_left == 10.0 and again.battery == pytest.approx(20.0)
    other = PROBLEM.observe(one_slot(interval=9.0), state)
    assert np.array_equal(seen, other)  # when the next frame comes is hidden


def test_a_constant_bandwidth_can_be_observed():
    problem = EarlyExitPartition(
        dataclasses.replace(SCENARIO, bandwidth=Regimes((3e6,), spread=0.0))
    )
    slot = problem.sample(np.random.default_rng(0), 2)
    state = problem.start(arrays.at(slot, (slice(None), 0)))
    seen = problem.observe(arrays.at(slot, (slice(None), 0)), state)
    assert (seen[:, 0] == 0.0).all()
    assert problem.decode(seen)[0].bandwidth.tolist() == [3e6, 3e6]
    check_problem(problem)


def test_actions_beyond_an_exits_candidates_are_its_last():
    exits, most = PROBLEM.action_space.nvec
    sizes = SCENARIO.table.sizes
    assert exits == 3 and most == sizes.max()
    action = np.stack(np.meshgrid(np.arange(exits), np.arange(most), indexing="ij"), -1)
    decision = PROBLEM.decision(action)
    expected = np.minimum(np.arange(most), sizes[:, None] - 1)
    np.testing.assert_array_equal(decision.partition, expected)
    np.testing.assert_array_equal(decision.exit, action[..., 0])
    encoded = PROBLEM.encode(decision)
    assert encoded.dtype == PROBLEM.action_space.dtype
    np.testing.assert_array_equal(PROBLEM.decision(encoded).partition, decision.partition)


def test_a_step_by_hand():
    # All on the device, exit 2: 12 ms of work at 0.7 of the speed; the link is busy, which is
    # of no concern to it.
    last = SCENARIO.table.sizes[1] - 1
    work = SCENARIO.table.cost[1, last, 0]
    state = State(np.array([0.02, 0.3, 0.0]), np.array(50.0), np.array(5.0))
    decision = Decision(np.array(1), np.array(last))
    after, outcome = PROBLEM.step(one_slot(), state, decision)
    assert outcome.latency_s == pytest.approx(0.02 + work / 0.7, rel=1e-12)
    np.testing.assert_allclose(
        after.backlog, [max(0.02 + work / 0.7 - 0.125, 0.0), 0.175, 0.0], atol=1e-12
    )
    assert after.battery == pytest.approx(50.0 - work * SCENARIO.device.power_w, rel=1e-12)
    assert after.frames_left == 4.0
    accuracy = SCENARIO.accuracy[1]
    cost = (
        10.0 * (1 - accuracy)
        + 0.2 * 0.5 * outcome.latency_s / 0.15
        + 0.05 * work * SCENARIO.device.power_w
    )
    assert PROBLEM.reward(outcome) == pytest.approx(-cost, rel=1e-12)


@pytest.mark.parametrize("network", ["alexnet-digits", "googlenet-digits"])
def test_conformance(network):
    check_problem(EarlyExitPartition(dataclasses.replace(SCENARIO, network=network, horizon=25)))


def test_conformance_with_a_battery_that_runs_out_and_few_seconds():
    tight = dataclasses.replace(SCENARIO, battery=0.4, timeout_s=0.2, arrival_rates=(60.0,))
    check_problem(EarlyExitPartition(tight))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bandwidth", 0.0, "trace.bandwidth must be positive"),
        ("deadline", -1.0, "trace.deadline must be positive"),
        ("interval", -0.5, "trace.interval must not be negative"),
        ("bandwidth", 1e9, "beyond the scenario's range"),
        ("priority", 2.0, "beyond the scenario's range"),
    ],
)
def test_traces_that_make_no_sense(name, value, message):
    trace = PROBLEM.sample(np.random.default_rng(0), 2)
    getattr(trace, name)[1, 3] = value
    with pytest.raises(ValueError, match=message):
        check_trace(PROBLEM, trace)
