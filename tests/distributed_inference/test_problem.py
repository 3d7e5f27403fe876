"""What an agent sees, says and earns in distributed inference."""

import dataclasses
import math

import gymnasium
import numpy as np
import pytest
from distributed_inference import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

import mec_gym  # noqa: F401  registers
from mec_gym.core import arrays
from mec_gym.distributed_inference.model import Decision, Outcome, State
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import (
    PRESETS,
    ConstantChannel,
    RandomNetworks,
    Scenario,
    Slot,
)

M, G = 1e6, 1e9

WORLD = Scenario(
    devices=3,
    servers=2,
    blocks=2,
    tasks=3,
    networks=RandomNetworks(bits=(1 * M, 20 * M), work=(1 * G, 10 * G)),
    channel=ConstantChannel(rate=(1 * M, 50 * M)),
    device_rate=(1 * G, 10 * G),
    server_rate=(10 * G, 80 * G),
    deadline_factor=(0.3, 0.8),
    background=2.0,
    background_spread=0.7,
    battery=50.0,
    harvest=3.0,
    compute_power=(0.4, 25.6),
    transmit_power=0.5,
    latency_weight=2.0,
    late_weight=0.6,
    miss_cost=0.25,
)
PROBLEM = DistributedInference(WORLD)
SLOT = Slot(
    bits=M * np.array([[12.0, 6.0, 1.0], [20.0, 9.0, 3.0], [8.0, 4.0, 2.0]]),
    work=G * np.array([[4.0, 2.0], [6.0, 3.0], [10.0, 5.0]]),
    blocks_left=np.array(2.0),
    active=np.array([True, True, False]),
    deadline=np.array([4.0, 5.0, 6.0]),
    uplink=M * np.array([[6.0, 3.0], [5.0, 4.0], [2.0, 1.0]]),
    downlink=M * np.array([[24.0, 8.0], [10.0, 40.0], [16.0, 32.0]]),
    load=np.array([1.0, 0.5]),
    device_rate=G * np.array([2.0, 4.0, 8.0]),
    compute_power=np.array([0.4, 3.2, 25.6]),
    server_rate=G * np.array([20.0, 50.0]),
)
STATE = State(
    place=np.array([2, 1, 0]),
    delay=np.array([1.0, 15.0, 0.0]),
    failed=np.array([False, True, False]),
    battery=np.array([10.0, 25.0, 50.0]),
    rounds_left=np.array(4.0),
)


# ------------------------------------------------------------------------------- layout


def test_every_column_of_the_observation():
    seen = PROBLEM.observe(SLOT, STATE)
    width = 2 * 2 + 8 + 2 * 2
    assert PROBLEM.device_columns == width
    assert seen.shape == PROBLEM.observation_space.shape == (3 * width + 2 * 2 + 2,)
    assert seen.dtype == np.float32
    # bits / 20, work / 10 | works?, place / 2, D / (D + rho), rho / 16, battery / 50, mu / 10,
    # W / 25.6 | up / 50, down / 50. The longest deadline: 0.8 * 2 blocks of 10 / 1 = 16.
    rows = [
        [12 / 20, 6 / 20, 1 / 20, 4 / 10, 2 / 10],
        [1, 2 / 2, 1 / 5, 4 / 16, 10 / 50, 2 / 10, 0.4 / 25.6],
        [6 / 50, 3 / 50, 24 / 50, 8 / 50],
        [20 / 20, 9 / 20, 3 / 20, 6 / 10, 3 / 10],
        [0, 1 / 2, 15 / 20, 5 / 16, 25 / 50, 4 / 10, 3.2 / 25.6],
        [5 / 50, 4 / 50, 10 / 50, 40 / 50],
        [8 / 20, 4 / 20, 2 / 20, 10 / 10, 5 / 10],
        [0, 0 / 2, 0, 6 / 16, 50 / 50, 8 / 10, 1],
        [2 / 50, 1 / 50, 16 / 50, 32 / 50],
    ]
    largest = 2.0 * math.exp(3 * 0.7)
    tail = [1 / largest, 0.5 / largest, 20 / 80, 50 / 80, 2 / 2, 4 / 6]
    expected = np.concatenate([*rows, tail])
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_spaces_and_horizon():
    assert PROBLEM.action_space.nvec.tolist() == [3, 3, 3]
    assert PROBLEM.horizon == 6
    assert PROBLEM.episodes_ahead >= 1
    assert (PROBLEM.observation_space.low == 0).all()
    assert (PROBLEM.observation_space.high == 1).all()


def test_nothing_is_paid_where_nobody_has_a_task():
    _, outcome = PROBLEM.step(
        dataclasses.replace(SLOT, active=np.zeros(3, dtype=bool)),
        STATE,
        Decision(place=np.array([1, 1, 1])),
    )
    assert {name: float(getattr(outcome, name)) for name in PROBLEM.costs} == {
        "latency_s": 0,
        "energy_j": 0,
        "dropped": 0,
        "penalty": 0,
    }
    assert PROBLEM.gains == ()


def test_no_tenants_are_seen_as_none():
    quiet = DistributedInference(dataclasses.replace(WORLD, background=0.0))
    seen = quiet.observe(dataclasses.replace(SLOT, load=np.zeros(2)), STATE)
    assert seen[48:50].tolist() == [0, 0]


def test_start():
    slot = arrays.slot_at(PROBLEM.sample(np.random.default_rng(0), 4), 0)
    state = PROBLEM.start(slot)
    assert state.place.shape == (4, 3)
    assert not (state.place.any() or state.delay.any() or state.failed.any())
    assert (state.battery == 50).all()
    assert state.rounds_left.tolist() == [6] * 4
    assert not PROBLEM.done(state).any()


# -------------------------------------------------------------------------- round trips


def check_round_trip(problem, slot, state):
    seen = problem.observe(slot, state)
    slot_, state_ = problem.decode(seen)
    for name in set(arrays.field_names(Slot)) - {"active"}:
        np.testing.assert_allclose(
            getattr(slot_, name), getattr(slot, name), rtol=3e-7, err_msg=name
        )
    works = slot.active & ~state.failed
    assert np.array_equal(slot_.active & ~state_.failed, works)
    assert np.array_equal(slot_.active, works)  # who failed looks idle
    assert not state_.failed.any()
    assert np.array_equal(state_.place, state.place)
    np.testing.assert_allclose(state_.battery, state.battery, rtol=3e-7, atol=1e-30)
    assert np.array_equal(state_.rounds_left, state.rounds_left)
    # D / (D + rho) = s is off by 6e-8 s at most, so D = rho s / (1 - s) by (1 + D / rho) times it
    error = np.abs(state_.delay - state.delay)
    assert (error <= 3e-7 * state.delay * (1 + state.delay / slot.deadline)).all()
    np.testing.assert_allclose(problem.observe(slot_, state_), seen, rtol=1e-6)
    return seen


def test_round_trip_by_hand():
    check_round_trip(PROBLEM, SLOT, STATE)
    slot, state = PROBLEM.decode(PROBLEM.observe(SLOT, STATE))
    assert slot.active.tolist() == [True, False, False]
    assert state.place.tolist() == [2, 1, 0]
    assert state.delay.tolist() == pytest.approx([1, 15, 0], rel=1e-5)


@pytest.mark.parametrize(
    ("preset", "episodes"), [("small", 12), ("campus", 4), ("patent", 6), ("city", 1)]
)
def test_episodes_stay_in_the_space_and_come_back(preset, episodes):
    problem = DistributedInference(PRESETS[preset].make())
    s = problem.scenario
    rng = np.random.default_rng(1)
    trace = problem.sample(rng, episodes)
    problem.check(trace)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        if preset != "city" or t % 4 == 0:
            seen = check_round_trip(problem, slot, state)
            assert all(problem.observation_space.contains(one) for one in seen)
        state, _ = problem.step(
            slot, state, Decision(place=rng.integers(s.servers + 1, size=(episodes, s.devices)))
        )
        assert np.array_equal(problem.done(state), np.full(episodes, t == problem.horizon - 1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), poor=st.booleans(), background=st.sampled_from([0.0, 1.0, 5.0]))
def test_any_state_that_is_reached_lies_in_the_space(seed, poor, background):
    rng = np.random.default_rng(seed)
    s = oracle.contended(
        background=background,
        background_spread=1.5,
        battery=0.5 if poor else 1e6,
        harvest=0.1,
        deadline_factor=(0.01, 2.0),
        tasks=2,
        idle=0.2,
    )
    problem = DistributedInference(s)
    trace = problem.sample(rng, 2)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(s.rounds):
        slot = arrays.slot_at(trace, t)
        for one in check_round_trip(problem, slot, state):
            assert problem.observation_space.contains(one)
        state, _ = problem.step(slot, state, Decision(place=rng.integers(3, size=(2, 3))))


def test_actions_and_decisions_are_inverse():
    PROBLEM.action_space.seed(0)
    for _ in range(20):
        action = PROBLEM.action_space.sample()
        decision = PROBLEM.decision(action)
        assert np.array_equal(decision.place, action)
        assert np.array_equal(PROBLEM.encode(decision), action)
    batch = np.array([[0, 1, 2], [2, 2, 0]])
    assert np.array_equal(PROBLEM.encode(PROBLEM.decision(batch)), batch)


# ------------------------------------------------------------------------------- reward


def test_reward_by_hand():
    # device 0 goes from 2 to 1 (backhaul 12 / 1000), with the tenant: 4 * 2 / 20; the others
    # have no block. Then -(2 D + penalty).
    _, outcome = PROBLEM.step(SLOT, STATE, Decision(place=np.array([1, 1, 1])))
    assert PROBLEM.reward(outcome) == pytest.approx(-2 * (0.012 + 0.4))
    zero = {name: np.array(0.0) for name in arrays.field_names(Outcome)}
    outcome = Outcome(**{**zero, "latency_s": np.array(3.0), "penalty": np.array(0.7)})
    assert PROBLEM.reward(outcome) == pytest.approx(-6.7)
    # nothing but these two counts
    rest = {name: np.array(5.0) for name in zero if name not in ("latency_s", "penalty")}
    assert PROBLEM.reward(Outcome(**{**zero, **rest})) == 0


def random_moment(seed, last):
    """A round of a random contended episode, with batteries that last."""
    rng = np.random.default_rng(seed)
    s = oracle.contended(devices=4, servers=2, blocks=2, idle=0.2, deadline_factor=(0.1, 0.8))
    slot = arrays.at(oracle.draw(s, seed, 1), (0, 1 if last else 0))
    state = DistributedInference(s).start(slot)
    if last:
        state = dataclasses.replace(
            state, place=rng.integers(3, size=4), delay=rng.uniform(0, 1.5, size=4) * slot.deadline
        )
    return DistributedInference(s), slot, state


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), last=st.booleans())
def test_a_worse_decision_never_earns_more(seed, last):
    problem, slot, state = random_moment(seed, last)
    places = oracle.every_plan(4, 3, 1)[..., 0]  # all 81 of this round
    wide = arrays.map_arrays(lambda a: np.broadcast_to(a, (81, *a.shape)), slot)
    states = arrays.map_arrays(lambda a: np.broadcast_to(a, (81, *a.shape)), state)
    _, outcome = problem.step(wide, states, Decision(place=places))
    reward = problem.reward(outcome)
    order = np.argsort(outcome.latency_s)
    for i in order:
        worse = (outcome.latency_s >= outcome.latency_s[i]) & (
            outcome.penalty >= outcome.penalty[i]
        )
        assert (reward[worse] <= reward[i]).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    last=st.booleans(),
    what=st.sampled_from(["uplink", "downlink", "server_rate", "device_rate", "load", "backhaul"]),
    factor=st.floats(1.0, 10.0),
    everywhere=st.booleans(),
)
def test_a_better_network_never_earns_less(seed, last, what, factor, everywhere):
    problem, slot, state = random_moment(seed, last)
    rng = np.random.default_rng(seed + 1)
    place = Decision(place=rng.integers(3, size=4))
    before, better = problem, slot
    if what == "backhaul":
        s = problem.scenario
        problem = DistributedInference(dataclasses.replace(s, backhaul=factor * s.backhaul))
    else:
        values = getattr(slot, what)
        chosen = np.ones(values.shape, bool) if everywhere else rng.random(values.shape) < 0.3
        changed = np.where(chosen, values / factor if what == "load" else values * factor, values)
        better = dataclasses.replace(slot, **{what: changed})
    _, then = before.step(slot, state, place)
    _, now = problem.step(better, state, place)
    assert not (then.dropped or now.dropped)
    assert now.latency_s <= then.latency_s * (1 + 1e-12)
    assert now.penalty <= then.penalty * (1 + 1e-9) + 1e-12
    assert before.reward(now) >= before.reward(then) * (1 + 1e-12) - 1e-12


@pytest.mark.parametrize("preset", ["small", "patent"])
def test_no_policy_at_random_beats_the_bound(preset):
    problem = DistributedInference(PRESETS[preset].make())
    s = problem.scenario
    rng = np.random.default_rng(2)
    trace = problem.sample(rng, 20)
    bound = problem.bound(trace)
    for stay in (False, True):
        state, total = problem.start(arrays.slot_at(trace, 0)), np.zeros(20)
        for t in range(problem.horizon):
            place = (
                np.zeros_like(state.place)
                if stay
                else rng.integers(s.servers + 1, size=(20, s.devices))
            )
            state, outcome = problem.step(arrays.slot_at(trace, t), state, Decision(place=place))
            total += problem.reward(outcome)
        assert (total <= bound).all()
    assert (bound < 0).all()


# ------------------------------------------------------------------------------- checks


def test_traces_that_make_no_sense_are_refused():
    trace = PROBLEM.sample(np.random.default_rng(0), 2)
    PROBLEM.check(trace)
    for name in ("deadline", "uplink", "downlink", "device_rate", "server_rate", "blocks_left"):
        for value in (0.0, -1.0):
            bad = np.array(getattr(trace, name))
            bad.flat[-1] = value
            with pytest.raises(ValueError, match=rf"trace\.{name}\b.*{value}"):
                PROBLEM.check(dataclasses.replace(trace, **{name: bad}))
    for name in ("bits", "work", "load"):
        bad = np.array(getattr(trace, name))
        bad.flat[-1] = -0.5
        with pytest.raises(ValueError, match=rf"trace\.{name}\b.*-0\.5"):
            PROBLEM.check(dataclasses.replace(trace, **{name: bad}))
    for wrong in (np.roll(trace.blocks_left, 1, axis=1), trace.blocks_left + 1):
        with pytest.raises(ValueError, match=r"trace\.blocks_left\b.*\[2, 1, 2, 1, 2, 1\]"):
            PROBLEM.check(dataclasses.replace(trace, blocks_left=wrong))


@pytest.mark.parametrize("name", ["active", "deadline", "device_rate", "server_rate"])
def test_traces_whose_tasks_change_are_refused(name):
    trace = PROBLEM.sample(np.random.default_rng(1), 2)
    bad = np.array(getattr(trace, name))
    # Of the second episode's second task, its second round.
    bad[1, 3, 0] = ~bad[1, 3, 0] if name == "active" else 2 * bad[1, 3, 0]
    with pytest.raises(ValueError, match=rf"trace\.{name}\b.*within a task of 2 rounds"):
        PROBLEM.check(dataclasses.replace(trace, **{name: bad}))
    # Between two tasks it may.
    bad[1, 2, 0] = bad[1, 3, 0]
    PROBLEM.check(dataclasses.replace(trace, **{name: bad}))


@pytest.mark.parametrize("name", ["bits", "work"])
def test_traces_whose_chains_do_not_go_on_are_refused(name):
    trace = PROBLEM.sample(np.random.default_rng(2), 2)
    for index in ((1, 3, 0, 0), (1, 3, 0, -1)):
        bad = np.array(getattr(trace, name))
        bad[index] = 2 * bad[index] + 1e6
        with pytest.raises(ValueError, match=rf"trace\.{name}\b.*of the round before"):
            PROBLEM.check(dataclasses.replace(trace, **{name: bad}))


def test_the_environment_plays_the_problem():
    env = gymnasium.make("mec/DistributedInference-v1")
    seen, _ = env.reset(seed=3)
    problem = DistributedInference(Scenario())
    assert env.observation_space == problem.observation_space
    assert env.action_space == problem.action_space
    slot, state = problem.decode(seen)
    assert state.rounds_left == problem.horizon
    _, outcome = problem.step(slot, state, Decision(place=np.array([0, 1, 2, 3, 1])))
    _, reward, *_ = env.step(np.array([0, 1, 2, 3, 1]))
    assert reward == pytest.approx(float(problem.reward(outcome)), rel=1e-4)


@pytest.mark.parametrize("most", [76641436.0, 53603006.0, 40683886.0, 50e6, 1000000294.0])
def test_the_largest_still_lie_in_the_space(most):
    # float32(x) * float32(1 / x) may come to more than 1
    s = dataclasses.replace(
        WORLD,
        networks=RandomNetworks(bits=(most, most), work=(most, most)),
        channel=ConstantChannel(rate=(most, most)),
        device_rate=(most, most),
        server_rate=(most, most),
        deadline_factor=(0.7, 0.7),
        battery=most,
    )
    problem = DistributedInference(s)
    slot = arrays.at(problem.sample(np.random.default_rng(0), 1), (0, 0))
    seen = check_round_trip(problem, slot, problem.start(slot))
    assert problem.observation_space.contains(seen)
