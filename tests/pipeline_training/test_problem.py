"""What an agent sees, says and earns in pipeline training."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_training import oracle

import mec_gym  # noqa: F401  registers
from mec_gym.core import arrays
from mec_gym.core.traces import check_trace
from mec_gym.pipeline_training.model import Decision, Outcome, State
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import PRESETS, Scenario, Slot, history

M, G = 1e6, 1e9

WORLD = Scenario(
    network=oracle.network([2 * G, 1 * G, 3 * G], [8 * M, 4 * M, 2 * M, 1 * M], [10 * M] * 3),
    blocks=3,
    devices=2,
    horizon=10,
    speed=4 * G,
    link=5 * M,
    store=2 * M,
    stay=(2.0, 4.0),
    away=2.0,
    notice=3,
)
PROBLEM = PipelineTraining(WORLD)
SLOT = Slot(
    present=np.array([True, True]),
    speed=np.array([1 * G, 12 * G]),
    link=np.array([[0.0, 15 * M], [5 * M, 0.0]]),
    store=np.array([6 * M, 2 * M]),
    seen=np.array([4.0, 1.0]),
    departures=np.array([2.0, 0.0]),
    leaves=np.array([3.0, 4.0]),
)
STATE = State(place=np.array([1, -1, 0]), slots_left=np.array(7.0))


# ------------------------------------------------------------------------------- layout


def test_every_column_of_the_observation():
    seen = PROBLEM.observe(SLOT, STATE)
    assert seen.shape == PROBLEM.observation_space.shape == (6 * 2 + 4 + 3 + 1,)
    assert seen.dtype == np.float32
    rows = [
        [1, 1],  # present
        [1 / 5, 12 / 16],  # speed / (speed + 4)
        [6 / 8, 2 / 4],  # store / (store + 2)
        [4 / 10, 1 / 10],
        [2 / 10, 0],
        [3 / 4, 4 / 4],  # leaves / (3 + 1)
        [0, 15 / 20, 5 / 10, 0],  # link / (link + 5)
        [2 / 2, 0, 1 / 2],  # (place + 1) / 2
        [7 / 10],
    ]
    np.testing.assert_allclose(seen, np.concatenate(rows), rtol=1e-6)


def test_without_notice_nobody_says_when_they_leave():
    quiet = PipelineTraining(dataclasses.replace(WORLD, notice=0))
    seen = quiet.observe(SLOT, STATE)
    assert seen.shape == quiet.observation_space.shape == (5 * 2 + 4 + 3 + 1,)
    both = PROBLEM.observe(SLOT, STATE)
    assert np.array_equal(seen, np.concatenate([both[:10], both[12:]]))


def test_who_is_absent_shows_no_rates():
    absent = dataclasses.replace(SLOT, present=np.array([True, False]), leaves=np.array([3.0, 0.0]))
    seen = PROBLEM.observe(absent, STATE)
    expected = PROBLEM.observe(SLOT, STATE)
    hidden = [1, 3, 5, 11, 13, 14]  # present, speed, store, leaves, both links
    assert (seen[hidden] == 0).all()
    rest = np.setdiff1d(np.arange(20), hidden)
    assert np.array_equal(seen[rest], expected[rest])
    # how often it has been there and left is known all the same


def test_spaces_and_horizon():
    assert PROBLEM.action_space.nvec.tolist() == [2, 2, 2]
    assert PROBLEM.horizon == 10
    assert PROBLEM.episodes_ahead >= 1
    assert (PROBLEM.observation_space.low == 0).all()
    assert (PROBLEM.observation_space.high == 1).all()
    default = PipelineTraining(Scenario())
    assert default.observation_space.shape == (5 * 4 + 16 + 6 + 1,)
    assert default.action_space.nvec.tolist() == [4] * 6


def test_start():
    slot = arrays.slot_at(PROBLEM.sample(np.random.default_rng(0), 4), 0)
    state = PROBLEM.start(slot)
    assert (state.place == -1).all() and state.place.shape == (4, 3)
    assert state.slots_left.tolist() == [10] * 4
    assert not PROBLEM.done(state).any()
    assert PROBLEM.done(dataclasses.replace(state, slots_left=np.array([0, 1, 0, 2]))).tolist() == [
        True,
        False,
        True,
        False,
    ]


# -------------------------------------------------------------------------- round trips


def shown(slot, notice):
    """A slot as it can be seen: who is absent has no rates."""
    here = slot.present
    off = ~np.eye(here.shape[-1], dtype=bool)
    return {
        "present": here,
        "speed": np.where(here, slot.speed, 0.0),
        "store": np.where(here, slot.store, 0.0),
        "link": np.where(here[..., :, None] & here[..., None, :] & off, slot.link, 0.0),
        "seen": slot.seen,
        "departures": slot.departures,
        "leaves": slot.leaves if notice else here.astype(float),
    }


def check_round_trip(problem, slot, state):
    seen = problem.observe(slot, state)
    slot_, state_ = problem.decode(seen)
    for name, values in shown(slot, problem.scenario.notice).items():
        exact = name not in ("speed", "store", "link")
        # x / (x + usual) = s is off by 6e-8 s at most, so x by (1 + x / usual) times it
        np.testing.assert_allclose(
            getattr(slot_, name), values, rtol=0 if exact else 2e-4, err_msg=name
        )
    assert np.array_equal(state_.place, state.place)
    assert np.array_equal(state_.slots_left, state.slots_left)
    np.testing.assert_allclose(problem.observe(slot_, state_), seen, rtol=1e-6)
    return seen


def test_round_trip_by_hand():
    check_round_trip(PROBLEM, SLOT, STATE)
    slot, state = PROBLEM.decode(PROBLEM.observe(SLOT, STATE))
    np.testing.assert_allclose(slot.speed, SLOT.speed, rtol=1e-6)
    np.testing.assert_allclose(slot.link, SLOT.link, rtol=1e-6)
    assert slot.leaves.tolist() == [3, 4] and state.place.tolist() == [1, -1, 0]


@pytest.mark.parametrize("preset", PRESETS)
def test_episodes_stay_in_the_space_and_come_back(preset):
    problem = PipelineTraining(PRESETS[preset].make())
    s = problem.scenario
    rng = np.random.default_rng(1)
    trace = problem.sample(rng, 5)
    problem.check(trace)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(problem.horizon):
        slot = arrays.slot_at(trace, t)
        seen = check_round_trip(problem, slot, state)
        assert all(problem.observation_space.contains(one) for one in seen)
        place = rng.integers(s.devices, size=(5, s.blocks))
        state, _ = problem.step(slot, state, Decision(place=place))
        assert np.array_equal(problem.done(state), np.full(5, t == problem.horizon - 1))
    assert problem.observation_space.contains(problem.observe(slot, state)[0])


def test_the_largest_and_the_smallest_rates_lie_in_the_space():
    spreads = ("speed_spread", "load_spread", "link_spread", "store_spread", "fading")
    for size in (1e-12, 1.0, 1e18):
        s = dataclasses.replace(
            WORLD, speed=size, link=size, store=size, **dict.fromkeys(spreads, 3.0)
        )
        problem = PipelineTraining(s)
        trace = problem.sample(np.random.default_rng(2), 20)
        check_trace(problem, trace)
        slot = arrays.slot_at(trace, 1)
        state = problem.start(slot)
        seen = problem.observe(slot, state)
        assert all(problem.observation_space.contains(one) for one in seen)
        decoded, _ = problem.decode(seen)
        assert np.array_equal(decoded.speed > 0, slot.present)
        _, outcome = problem.step(slot, state, problem.decision(np.zeros((20, 3))))
        assert np.isfinite(problem.reward(outcome)).all()


def test_long_episodes_come_back_to_the_slot():
    s = dataclasses.replace(WORLD, horizon=300_000, notice=10**6)
    problem = PipelineTraining(s)
    for count in (1, 77_777, 299_999):
        slot = dataclasses.replace(
            SLOT,
            seen=np.array([float(count), 0.0]),
            departures=np.array([count / 2 // 1, 0.0]),
            leaves=np.array([float(count), 10**6 + 1]),
        )
        state = dataclasses.replace(STATE, slots_left=np.array(300_000.0 - count))
        slot_, state_ = problem.decode(problem.observe(slot, state))
        assert slot_.seen.tolist() == slot.seen.tolist()
        assert slot_.departures.tolist() == slot.departures.tolist()
        assert slot_.leaves.tolist() == slot.leaves.tolist()
        assert state_.slots_left == state.slots_left


def test_actions_and_decisions_are_inverse():
    PROBLEM.action_space.seed(0)
    for _ in range(20):
        action = PROBLEM.action_space.sample()
        decision = PROBLEM.decision(action)
        assert np.array_equal(decision.place, action)
        assert np.array_equal(PROBLEM.encode(decision), action)
    batch = np.array([[0, 1, 1], [1, 1, 0]])
    assert np.array_equal(PROBLEM.encode(PROBLEM.decision(batch)), batch)
    # A plan for nobody is an action all the same.
    assert PROBLEM.encode(Decision(place=np.array([-1, -1, -1]))).tolist() == [0, 0, 0]


# ------------------------------------------------------------------------------- reward


def test_reward_counts_what_is_lost():
    zero = {name: np.array(0.0) for name in arrays.field_names(Outcome)}
    outcome = Outcome(**{**zero, "lost_s": np.array(15.0)})
    assert PROBLEM.reward(outcome) == -0.25
    rest = {name: np.array(5.0) for name in zero if name != "lost_s"}
    assert PROBLEM.reward(Outcome(**{**zero, **rest})) == 0
    assert PROBLEM.costs == ("lost_s",) and PROBLEM.gains == ()


def moment(seed):
    """A slot of a random world, and a state that random decisions have led to."""
    rng = np.random.default_rng(seed)
    problem = PipelineTraining(
        oracle.random_world(seed, memory="tight" if seed % 2 else None, away=1.0)
    )
    trace = arrays.at(problem.sample(rng, 1), 0)
    state, t = problem.start(arrays.at(trace, 0)), 0
    while t < 2 or not trace.present[t].any():
        place = rng.integers(problem.scenario.devices, size=state.place.shape)
        state, _ = problem.step(arrays.at(trace, t), state, Decision(place=place))
        t += 1
        if t == problem.horizon:
            return None
    return problem, arrays.at(trace, t), state


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_a_worse_decision_never_earns_more(seed):
    """A slower plan with no less moving, or more moving for no faster a plan."""
    found = moment(seed)
    if found is None:
        return
    problem, slot, state = found
    s = problem.scenario
    decisions = np.array(list(np.ndindex(*[s.devices] * s.blocks)))
    _, outcome = problem.step(slot, state, Decision(place=decisions))
    reward = problem.reward(outcome)
    for i in range(len(decisions)):
        worse = (outcome.minibatch_s >= outcome.minibatch_s[i]) & (
            outcome.moving_s >= outcome.moving_s[i]
        )
        assert (reward[worse] <= reward[i]).all()
        costlier = outcome.lost_s >= outcome.lost_s[i]
        assert (reward[costlier] <= reward[i]).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    what=st.sampled_from(["link", "store"]),
    factor=st.floats(1.0, 10.0),
    everywhere=st.booleans(),
)
def test_a_better_network_never_earns_less(seed, what, factor, everywhere):
    """Faster devices may: they also raise what perfect sharing would have done."""
    found = moment(seed)
    if found is None:
        return
    problem, slot, state = found
    rng = np.random.default_rng(seed + 1)
    place = Decision(place=rng.integers(problem.scenario.devices, size=state.place.shape))
    values = getattr(slot, what)
    chosen = np.ones(values.shape, bool) if everywhere else rng.random(values.shape) < 0.3
    better = dataclasses.replace(slot, **{what: np.where(chosen, values * factor, values)})
    _, then = problem.step(slot, state, place)
    _, now = problem.step(better, state, place)
    assert now.minibatch_s <= then.minibatch_s * (1 + 1e-12)
    assert now.moving_s <= then.moving_s * (1 + 1e-12)
    assert problem.reward(now) >= problem.reward(then) - 1e-12


# ------------------------------------------------------------------------------- checks


def change(trace, **fields):
    return dataclasses.replace(trace, **fields)


def test_traces_with_rates_that_make_no_sense_are_refused():
    trace = PROBLEM.sample(np.random.default_rng(0), 2)
    PROBLEM.check(trace)
    t = np.argwhere(trace.present[1].all(axis=-1))[0, 0]  # both are there
    for name, place in (("speed", 1), ("store", 0), ("link", (0, 1)), ("link", (1, 0))):
        index = (1, t, *np.atleast_1d(place))
        for value in (0.0, -1.0):
            bad = getattr(trace, name).copy()
            bad[index] = value
            with pytest.raises(ValueError, match=rf"trace\.{name}\b.*{value}"):
                PROBLEM.check(change(trace, **{name: bad}))
    # Who is absent may have none, but no negative ones.
    n, t, m = np.argwhere(~trace.present)[0]
    for name in ("speed", "store"):
        for value, right in ((0.0, True), (-2.0, False)):
            values = getattr(trace, name).copy()
            values[n, t, m] = value
            if right:
                PROBLEM.check(change(trace, **{name: values}))
            else:
                with pytest.raises(ValueError, match=rf"trace\.{name}\b.*-2"):
                    PROBLEM.check(change(trace, **{name: values}))
    link = trace.link.copy()
    link[n, t, m], link[n, t, :, m] = 0.0, 0.0
    PROBLEM.check(change(trace, link=link))


def test_devices_that_are_never_present_are_refused():
    trace = PROBLEM.sample(np.random.default_rng(1), 3)
    present = trace.present.copy()
    present[2, :, 1] = False
    seen, departures, leaves = history(present, 3)
    bad = change(trace, present=present, seen=seen, departures=departures, leaves=leaves)
    with pytest.raises(ValueError, match=r"trace\.present\b.*device 1 .*episode 2"):
        PROBLEM.check(bad)


@pytest.mark.parametrize("name", ["seen", "departures", "leaves"])
def test_traces_that_contradict_themselves_are_refused(name):
    trace = PROBLEM.sample(np.random.default_rng(2), 2)
    for index in ((0, 0, 0), (1, 5, 1), (1, 9, 0)):
        bad = getattr(trace, name).copy()
        bad[index] += 1
        place = r"\({}, {}, {}\)".format(*index)
        with pytest.raises(ValueError, match=rf"trace\.{name}\b.*history.*{place}.*got "):
            PROBLEM.check(change(trace, **{name: bad}))
    # Who was there is another one than what the history says.
    present = trace.present.copy()
    present[1, 4] = ~present[1, 4]
    with pytest.raises(ValueError, match=r"trace\.(seen|departures|leaves)\b"):
        PROBLEM.check(change(trace, present=present))
    # What is announced depends on how long before.
    with pytest.raises(ValueError, match=r"trace\.leaves\b"):
        PipelineTraining(dataclasses.replace(WORLD, notice=2)).check(trace)


def test_a_trace_of_ones_own():
    """As the documentation has it: who is present, rates, and the history of it."""
    rng = np.random.default_rng(3)
    s = dataclasses.replace(WORLD, notice=0)
    present = rng.random((1, 10, 2)) < 0.7
    trace = oracle.trace_of(s, present)
    env = gymnasium.make("mec/PipelineTraining-v0", scenario=s)
    seen, _ = env.reset(seed=0, options={"trace": trace})
    for t in range(10):
        assert np.array_equal(seen[:2] > 0.5, present[0, t])
        seen, reward, ended, _, info = env.step(np.array([0, 1, 1]))
        assert reward == -info["lost_s"] / 60
        assert ended == (t == 9)
    with pytest.raises(ValueError, match=r"trace\.seen\b"):
        env.reset(options={"trace": change(trace, seen=trace.seen + 1)})
    with pytest.raises(ValueError, match=r"trace\.speed\b.*finite"):
        env.reset(options={"trace": change(trace, speed=trace.speed * np.nan)})
    with pytest.raises(ValueError, match=r"trace\.link\b.*shape"):
        env.reset(options={"trace": change(trace, link=trace.link[..., :1])})


def test_the_environment_plays_the_problem():
    env = gymnasium.make("mec/PipelineTraining-v0")
    seen, _ = env.reset(seed=3)
    problem = PipelineTraining(Scenario())
    assert env.observation_space == problem.observation_space
    assert env.action_space == problem.action_space
    for _ in range(5):
        slot, state = problem.decode(seen)
        action = env.action_space.sample()
        _, outcome = problem.step(slot, state, problem.decision(action))
        seen, reward, *_ = env.step(action)
        assert reward == pytest.approx(float(problem.reward(outcome)), rel=1e-4)
