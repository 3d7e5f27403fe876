"""Spaces, observation, action."""

import dataclasses

import early_exit.cases as cases
import numpy as np
import pytest
from slow import slow_except

from agents.registry import agents_for, make_agent
from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.traces import check_trace, load_trace, save_trace
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.early_exit import model
from mec_gym.early_exit.model import Decision
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario, Slot, follow_bandwidth, uplink_of
from mec_gym.network.bandwidth import Regimes
from mec_gym.network.technologies import RadioTechnology
from mec_gym.testing import check_agent, check_problem

SCENARIO = Scenario(
    network="alexnet-digits",
    bandwidth=Regimes((2e6, 8e6), spread=0.0),
    technologies=(
        RadioTechnology("slow", base_power_w=0.5, joule_per_bit=8e-7, round_trip_s=0.02),
        RadioTechnology("quick", base_power_w=2.0, joule_per_bit=2e-7, round_trip_s=0.08),
    ),
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
        "round_trip": 0.06,
        "base_power": 0.5,
        "joule_per_bit": 2e-7,
        "device_speed": 0.7,
        "edge_speed": 0.3,
        "arrival_rate": 4.0,
        "interval": 0.125,
        "deadline": 0.15,
        "priority": 0.5,
        "arrival": 3.0,
    } | changes
    fields.setdefault("uplink", uplink_of([fields["arrival"]], [fields["bandwidth"]]))
    return Slot(**{name: np.array(value) for name, value in fields.items()})


def test_the_observation_by_hand():
    state = cases.state_of([0.1, 0.2, 0.4], 20.0, 10.0, arrival=3.0)
    seen = PROBLEM.observe(one_slot(), state)
    # 4 Mbit/s is half way between 2 and 8 on a log scale. Nothing is under way.
    expected = [0.5, 0.7, 0.3, 0.25, 0.75, 0.5, 0.2, 0.4, 0.8, 0.25, 0.25, 0.75, 0.25, 0.25]
    expected += [0.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert seen.dtype == np.float32
    slot, again = PROBLEM.decode(seen)
    for name, value in arrays.as_dict(one_slot()).items():
        # The interval's mean, 1 / rate; a rate that lasts; a clock that starts now.
        value = {"interval": 0.25, "arrival": 0.0, "uplink": [[0], [0], [4e6]]}.get(name, value)
        np.testing.assert_allclose(getattr(slot, name), value, rtol=1e-5)
    np.testing.assert_allclose(again.free, [0.1, 0.2, 0.4], rtol=1e-6)
    assert not again.under_way.any()
    assert again.frames_left == 10.0 and again.battery == pytest.approx(20.0)
    other = PROBLEM.observe(one_slot(interval=9.0), state)
    assert np.array_equal(seen, other)  # when the next frame comes is hidden


def test_a_constant_bandwidth_can_be_observed():
    problem = EarlyExitPartition(
        dataclasses.replace(
            SCENARIO,
            horizon=10,
            bandwidth=Regimes((3e6,), spread=0.0),
            technologies=SCENARIO.technologies[:1],
        )
    )
    slot = problem.sample(np.random.default_rng(0), 2)
    state = problem.start(arrays.slot_at(slot, 0))
    seen = problem.observe(arrays.slot_at(slot, 0), state)
    assert (seen[:, 0] == 0.0).all()
    assert problem.decode(seen)[0].bandwidth.tolist() == [3e6, 3e6]


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
    state = cases.state_of([0.02, 0.3, 0.0], 50.0, 5.0, arrival=3.0)
    decision = Decision(exit=np.array(1), partition=np.array(last))
    after, outcome = PROBLEM.step(one_slot(), state, decision)
    assert outcome.latency_s == pytest.approx(0.02 + work / 0.7, rel=1e-12)
    now = dataclasses.replace(one_slot(), arrival=np.array(3.125))
    backlog = [max(0.02 + work / 0.7 - 0.125, 0.0), 0.175, 0.0]
    np.testing.assert_allclose(model.backlog(now, after), backlog, atol=1e-12)
    assert after.battery == pytest.approx(50.0 - work * SCENARIO.device.power_w, rel=1e-12)
    assert after.frames_left == 4.0
    accuracy = SCENARIO.accuracy[1]
    cost = (
        10.0 * (1 - accuracy)
        + 0.2 * 0.5 * outcome.latency_s / 0.15
        + 0.05 * work * SCENARIO.device.power_w
    )
    assert PROBLEM.reward(outcome) == pytest.approx(-cost, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["alexnet-digits", "googlenet-digits"])
def test_conformance(network):
    check_problem(EarlyExitPartition(dataclasses.replace(SCENARIO, network=network, horizon=25)))


@pytest.mark.slow
def test_conformance_with_a_battery_that_runs_out_and_few_seconds():
    tight = dataclasses.replace(SCENARIO, battery=0.4, timeout_s=0.2, arrival_rates=(60.0,))
    check_problem(EarlyExitPartition(tight))


@pytest.mark.slow
def test_conformance_with_a_constant_bandwidth():
    constant = dataclasses.replace(
        SCENARIO,
        horizon=10,
        bandwidth=Regimes((3e6,), spread=0.0),
        technologies=SCENARIO.technologies[:1],
    )
    check_problem(EarlyExitPartition(constant))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bandwidth", 0.0, r"trace\.bandwidth .*got 0\.0"),
        ("deadline", -1.0, r"trace\.deadline .*got -1\.0"),
        ("interval", -0.5, r"trace\.interval .*got -0\.5"),
        ("bandwidth", 1e9, "slot 3 of episode 1.*observation 0"),
        ("priority", 2.0, "slot 3 of episode 1.*observation 5"),
    ],
)
def test_traces_that_make_no_sense(name, value, message):
    trace = PROBLEM.sample(np.random.default_rng(0), 2)
    getattr(trace, name)[1, 3] = value
    with pytest.raises(ValueError, match=message):
        check_trace(PROBLEM, trace)


# --- the same once more, on networks and numbers that are nobody's default

HAND = EarlyExitPartition(cases.scenario(bandwidth=Regimes((1e4, 1e6), spread=0.0)))


def test_the_hand_networks_observation():
    """Each number by itself, at a scale that none of the others has."""
    state = cases.state_of([0.09, 0.36, 0.63], 8.25, 6.0)
    slot = cases.one_slot(
        bandwidth=1e5, arrival_rate=7.0, deadline=0.185, priority=0.4,
        round_trip=0.0155, base_power=0.55, joule_per_bit=2.1e-6,
    )  # fmt: skip
    seen = HAND.observe(slot, state)
    # Scales: 10 kbit/s to 1 Mbit/s, 14 frames/s, 0.37 s, 0.9 s, 11 J, 24 frames, 31 ms, 1.1 W,
    # 7 uJ/bit.
    expected = [0.5, 0.8, 0.5, 0.5, 0.5, 0.4, 0.1, 0.4, 0.7, 0.75, 0.25, 0.5, 0.5, 0.3, 0, 0, 0, 1]
    assert seen.shape == (18,) and seen.dtype == np.float32
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert HAND.observation_space.shape == (18,) and HAND.horizon == 24
    assert (HAND.observation_space.low == 0).all() and (HAND.observation_space.high == 1).all()
    # One at a time.
    for index, name, change in (
        (0, "bandwidth", 1e6),
        (1, "device_speed", 0.4),
        (2, "edge_speed", 0.1),
        (3, "arrival_rate", 14.0),
        (4, "deadline", 0.37),
        (5, "priority", 1.0),
        (11, "round_trip", 0.031),
        (12, "base_power", 1.1),
        (13, "joule_per_bit", 7e-6),
    ):
        other = HAND.observe(dataclasses.replace(slot, **{name: np.array(change)}), state)
        assert np.flatnonzero(other != seen).tolist() == [index]
    for stage in range(3):
        free = state.free.copy()
        free[stage] = 0.9
        other = HAND.observe(slot, dataclasses.replace(state, free=free))
        assert np.flatnonzero(other != seen).tolist() == [6 + stage] and other[6 + stage] == 1.0
    for index, name in ((9, "battery"), (10, "frames_left")):
        other = HAND.observe(slot, dataclasses.replace(state, **{name: np.array(0.0)}))
        assert np.flatnonzero(other != seen).tolist() == [index] and other[index] == 0.0


def test_the_work_under_way_is_observed_by_hand():
    """One frame has 800 bits to send, another one only its 0.02 s of edge work ahead.

    At 100 kbit/s the bits take 8 ms. Together they have 0.014 + 0.02 s of edge work, and a second
    of delay costs 0.31 * (0.4 / 0.25 + 1 / 0.2) = 2.046, of which 0.31 / 0.12 counts as a half.
    The first can bear 0.3 s more, the other 0.25 s.
    """
    state = cases.state_of([0.09, 0.36, 0.63], 8.25, 6.0, arrival=7.0)
    for column, fields in enumerate(
        (
            {"READY": 7.09, "BITS": 800.0, "EDGE_S": 0.014, "WEIGHT": 0.31 * 1.6, "DONE": 7.4,
             "LIMIT": 7.7},
            {"READY": 7.37, "EDGE_S": 0.02, "WEIGHT": 0.31 * 5, "DONE": 7.65, "LIMIT": 7.9},
        )
    ):  # fmt: skip
        for name, value in fields.items():
            state.under_way[getattr(model, name), column] = value
    slot = cases.one_slot(bandwidth=1e5, arrival=7.0, round_trip=0.0155)
    seen = HAND.observe(slot, state)
    half = 0.31 / 0.12
    expected = [0.008 / 0.908, 0.034 / 0.9, 2.046 / (2.046 + half), 0.25 / 0.9]
    np.testing.assert_allclose(seen[14:], expected, rtol=1e-6)
    # They are believed to be one frame, which the device has done when it is free, at 0.09. The
    # link is free at 0.36, so it is sent until 0.368, and the edge has it at 0.3835; the edge is
    # free at 0.63.
    again, believed = HAND.decode(seen)
    for name, value in (
        ("READY", 0.09),
        ("SENT", 0.368),
        ("DONE", 0.664),
        ("LIMIT", 0.914),
        ("BITS", 800.0),
        ("TRIP", 0.0155),
        ("EDGE_S", 0.034),
        ("SENDING_S", 0.008),
        ("FROM", 36000.0),
        ("UNTIL", 36800.0),
        ("WEIGHT", 2.046),
        ("MISS", 0.0),
        ("DUE", np.inf),
    ):
        found = believed.under_way[getattr(model, name)]
        np.testing.assert_allclose(found, [value], rtol=2e-6, err_msg=name)
    np.testing.assert_allclose(HAND.observe(again, believed), seen, rtol=1e-6)
    # Without bits, it is on its way: free at 0.36, and a round trip later at the edge.
    state.under_way[:, 0] = state.under_way[:, 1]
    state.under_way[:, 1] = 0.0
    _, believed = HAND.decode(HAND.observe(slot, state))
    for name, value in (("READY", 0.3755), ("BITS", 0.0), ("TRIP", 0.0), ("DONE", 0.65)):
        found = believed.under_way[getattr(model, name)]
        np.testing.assert_allclose(found, [value], rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_under_way_is_decoded(seed):
    slots, states = cases.busy_states(HAND, np.random.default_rng(seed), 200)
    seen = HAND.observe(slots, states)
    busy = model.occupied(states.under_way).any(axis=-1)
    assert busy.mean() > 0.1 and np.array_equal(seen[:, 17] < 1.0, busy)
    again, believed = HAND.decode(seen)
    np.testing.assert_allclose(HAND.observe(again, believed), seen, rtol=2e-6, atol=1e-7)
    sums = states.under_way.sum(axis=-1)
    for row in (model.BITS, model.EDGE_S, model.WEIGHT):
        np.testing.assert_allclose(believed.under_way[:, row, 0], sums[:, row], rtol=1e-4)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_decode_and_encode_are_inverses(shape):
    rng = np.random.default_rng(0)
    trace = HAND.sample(rng, int(np.prod(shape)) or 1)
    slot = arrays.slot_at(trace, 3)
    slot = arrays.map_arrays(lambda a: a.reshape((*shape, *a.shape[1:])), slot)
    state = cases.random_states(rng, shape, arrival=slot.arrival)
    again, same = HAND.decode(HAND.observe(slot, state))
    for name, value in arrays.as_dict(slot).items():
        if name == "interval":
            value = 1.0 / slot.arrival_rate
        elif name == "arrival":
            value = 0.0
        elif name == "uplink":
            last = np.zeros((*shape, 3, 1))
            last[..., 2, 0] = slot.bandwidth
            value = last
        np.testing.assert_allclose(getattr(again, name), value, rtol=2e-6, err_msg=name)
    np.testing.assert_allclose(same.free, model.backlog(slot, state), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(same.battery, state.battery, rtol=1e-6)
    assert np.array_equal(same.frames_left, state.frames_left)
    decision = cases.random_decisions(rng, shape, cases.HAND_SIZES)
    action = HAND.encode(decision)
    assert action.shape == (*shape, 2) and action.dtype == np.int64
    back = HAND.decision(action)
    assert np.array_equal(back.exit, decision.exit)
    assert np.array_equal(back.partition, decision.partition)


def test_frames_left_count_exactly():
    """Float32 of 1 / horizon and back: whole numbers all the way, also of long episodes."""
    problem = EarlyExitPartition(cases.scenario(horizon=3001))
    slot = cases.one_slot()
    left = np.arange(3002.0)
    slots = arrays.map_arrays(lambda a: np.broadcast_to(a, (*left.shape, *a.shape)), slot)
    state = cases.state_of(np.zeros((3002, 3)), 11.0, left)
    assert np.array_equal(problem.decode(problem.observe(slots, state))[1].frames_left, left)


def test_the_last_observation_of_an_episode():
    env = MecEnv(HAND)
    observation, _ = env.reset(seed=4)
    assert observation[10] == 1.0 and observation[9] == 1.0 and (observation[6:9] == 0).all()
    battery = 11.0
    for t in range(24):
        observation, reward, terminated, truncated, info = env.step(np.array([t % 2, t % 7]))
        battery -= info["energy_j"]
        assert observation[10] == np.float32((23 - t) / 24)
        assert observation[9] == pytest.approx(battery / 11.0, abs=1e-6)
        assert (terminated, truncated) == (t == 23, False)
        assert reward == pytest.approx(cases.reward_of(info), rel=1e-12)
        assert HAND.observation_space.contains(observation)


def test_actions_of_the_hand_network():
    assert HAND.action_space.nvec.tolist() == [2, 7]
    action = np.array([[0, 0], [0, 2], [0, 3], [0, 6], [1, 6], [1, 3]])
    decision = HAND.decision(action)
    assert decision.exit.tolist() == [0, 0, 0, 0, 1, 1]
    assert decision.partition.tolist() == [0, 2, 2, 2, 6, 3]
    # What is beyond the last one is the last one to the last digit.
    slot, state = (
        cases.one_slot(),
        cases.state_of(np.zeros(3), 11.0, 2.0),
    )
    rewards = [
        float(HAND.reward(HAND.step(slot, state, HAND.decision(np.array([0, k])))[1]))
        for k in range(7)
    ]
    assert rewards[2:] == [rewards[2]] * 5 and len(set(rewards)) == 3


EXPLICIT = {
    "hand": {},
    "overloaded": {"arrival_rates": (60.0,), "timeout_s": 0.37, "battery": 0.9},
    "two layers": {"network": cases.network(((0, 1),), (9, 1), (0, 0.1), (0, 0.02), ((1, 0.5),))},
    "one frame": {"horizon": 1, "normal_priority": 0.0},
}


@pytest.mark.parametrize("name", slow_except(EXPLICIT, "overloaded"))
def test_conformance_of_explicit_scenarios(name):
    scenario = cases.scenario(**{"horizon": 6, **EXPLICIT[name]})
    check_problem(EarlyExitPartition(scenario), seed=3)


DEGENERATE = {
    "input only": ((), (100,), (0,), (0,), ((0, 0.5),)),
    "exit at the input": (((0, 1),), (60, 0), (0, 0.03), (0, 0.01), ((0, 0.5), (1, 0.9))),
    "free": (((0, 1), (1, 2)), (100, 10, 1), (0, 0, 0), (0, 0, 0), ((1, 0.5), (2, 0.9))),
    "free edge": (((0, 1), (1, 2)), (100, 10, 1), (0, 0.1, 0.2), (0, 0, 0), ((1, 0.5), (2, 0.9))),
    "free link": (((0, 1), (1, 2)), (0, 0, 0), (0, 0.1, 0.2), (0, 0.1, 0.01), ((1, 0.5), (2, 1))),
    "the same exit twice": (((0, 1),), (600, 0), (0, 0.03), (0, 0.01), ((1, 0.0), (1, 0.9))),
}


@pytest.mark.parametrize("name", slow_except(DEGENERATE, "input only", "free link"))
def test_degenerate_networks_are_played_by_all(name):
    graph = cases.network(*DEGENERATE[name])
    problem = EarlyExitPartition(
        cases.scenario(network=graph, horizon=5, bandwidth=Regimes((1e4,), spread=0.0))
    )
    trace = problem.sample(np.random.default_rng(0), 4)
    if name in ("input only", "free"):  # the best costs no time at all
        wrong = 2.7 * (1 - max(problem.scenario.accuracy)) * 5
        np.testing.assert_allclose(problem.bound(trace), -wrong, rtol=1e-12)
    for agent in agents_for(problem):
        check_agent(make_agent(agent, problem), problem, episodes=4)


def test_traces_are_replayed_from_the_disk(tmp_path):
    trace = HAND.sample(np.random.default_rng(5), 3)
    save_trace(tmp_path / "t.npz", trace)
    loaded = load_trace(tmp_path / "t.npz", HAND)
    vector = MecVectorEnv(HAND, 3)
    observation, _ = vector.reset(seed=9, options={"trace": loaded})
    singles = []
    for i in range(3):
        env = MecEnv(HAND)
        seen, _ = env.reset(seed=1, options={"trace": arrays.at(trace, slice(i, i + 1))})
        assert np.array_equal(seen, observation[i])
        singles.append(env)
    state = HAND.start(arrays.slot_at(trace, 0))
    for t in range(24):
        action = np.stack([np.full(3, t % 2), (np.arange(3) + t) % 7], axis=-1)
        _, reward, *_ = vector.step(action)
        state, outcome = HAND.step(arrays.slot_at(trace, t), state, HAND.decision(action))
        assert reward.tolist() == HAND.reward(outcome).tolist()
        assert reward.tolist() == [env.step(a)[1] for env, a in zip(singles, action, strict=True)]
    other = EarlyExitPartition(cases.scenario(horizon=23))
    with pytest.raises(ValueError, match="shape"):
        load_trace(tmp_path / "t.npz", other)


NOT_NEGATIVE = ("interval", "priority", "round_trip", "base_power", "joule_per_bit")


def test_zero_is_no_rate_but_may_be_an_interval_and_a_priority():
    for name in ("bandwidth", "device_speed", "edge_speed", "arrival_rate", "deadline"):
        trace = HAND.sample(np.random.default_rng(6), 2)
        getattr(trace, name)[0, 0] = 0.0
        with pytest.raises(ValueError, match=rf"trace\.{name} .*got 0\.0"):
            check_trace(HAND, trace)
    for name in NOT_NEGATIVE:
        trace = HAND.sample(np.random.default_rng(6), 2)
        getattr(trace, name)[0, 0] = 0.0
        check_trace(HAND, follow_bandwidth(trace))
        getattr(trace, name)[0, 0] = -1e-9
        with pytest.raises(ValueError, match=rf"trace\.{name} .*got -1e-09"):
            check_trace(HAND, trace)
    for name, field, index, change in (
        ("arrival", "arrival", (0, 5), 1.0),
        ("arrival", "interval", (0, 5), 1.0),
        ("uplink", "uplink", (0, 0, 0, 5), 1e-3),
        ("uplink", "uplink", (0, 0, 1, 5), 1.0),
        ("uplink", "uplink", (0, 0, 2, 5), 1.0),
        ("uplink", "uplink", (0, 0, 2, 5), -1e9),
    ):
        trace = HAND.sample(np.random.default_rng(6), 2)
        getattr(trace, field)[index] += change
        with pytest.raises(ValueError, match=rf"trace\.{name} "):
            check_trace(HAND, trace)
    trace = HAND.sample(np.random.default_rng(6), 2)
    trace.uplink[1, 0, 2, -1] = 0.0
    with pytest.raises(ValueError, match=r"trace\.uplink .*got 0\.0 and 0\.0"):
        check_trace(HAND, trace)
    for name, value, column in (("device_speed", 1.01, 1), ("arrival_rate", 14.1, 3)):
        trace = HAND.sample(np.random.default_rng(6), 2)
        getattr(trace, name)[1, 7] = value
        with pytest.raises(ValueError, match=rf"slot 7 of episode 1.*observation {column} "):
            check_trace(HAND, trace)


def test_every_trace_that_is_drawn_can_be_observed():
    for seed, changes in enumerate(
        (
            {},
            {"load_spread": 3.0},
            {"bandwidth": Regimes((3e4,), spread=2.0)},
            {"deadline": (0.9, 0.9)},
            {"arrival_rates": (1e-6, 1e9)},
        )
    ):
        problem = EarlyExitPartition(cases.scenario(**changes))
        check_trace(problem, problem.sample(np.random.default_rng(seed), 60))


def test_episodes_drawn_ahead():
    for horizon, expected in ((1, 1024), (24, 42), (1024, 1), (1500, 1)):
        assert EarlyExitPartition(cases.scenario(horizon=horizon)).episodes_ahead == expected
