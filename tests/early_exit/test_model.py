"""Three stages, energy and the four costs: on paper, in plain floats and in a simulator."""

import dataclasses
import itertools

import early_exit.cases as cases
import layer_graphs
import numpy as np
import pytest
import simpy
from early_exit.cases import HAND_EARLY, HAND_LATE, HAND_SIZES, one_slot
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.core import arrays
from mec_gym.early_exit import model
from mec_gym.early_exit.model import Decision, Outcome, State
from mec_gym.early_exit.problem import EarlyExitPartition

HAND = cases.scenario()
PROBLEM = EarlyExitPartition(HAND)
EARLY, LATE = 0, 1


def decide(exit_index, partition):
    return Decision(exit=np.array(exit_index), partition=np.array(partition))


def state(*backlog, battery=11.0, left=5.0):
    return State(
        backlog=np.array(backlog, dtype=float),
        battery=np.array(battery),
        frames_left=np.array(left),
    )


def serve(slot, now, decision, scenario=HAND):
    free, outcome = model.serve(slot, now, decision, scenario)
    assert isinstance(outcome, Outcome)
    return free, outcome


# --- by hand


def test_the_table_by_hand():
    table = HAND.table
    assert table.sizes.tolist() == [3, 7] and table.cost.shape == (2, 7, 3)
    np.testing.assert_allclose(table.candidates(EARLY), HAND_EARLY, rtol=1e-12)
    np.testing.assert_allclose(table.candidates(LATE), HAND_LATE, rtol=1e-12)
    np.testing.assert_allclose(table.cost[EARLY, 3:], [HAND_EARLY[-1]] * 4, rtol=1e-12)
    assert HAND.accuracy.tolist() == [0.7, 0.95] and HAND.exits == 2
    assert [f.count for f in table.fronts] == [3, 7] and all(f.whole for f in table.fronts)


def test_service_times_by_hand():
    # 0.12 s at 0.8 of the speed, 800 bits at 50 kbit/s, 7 ms at half the speed.
    times = model.service_times(np.array(HAND_LATE[4]), one_slot())
    np.testing.assert_allclose(times, [0.15, 0.016, 0.014], rtol=1e-14)
    # All speeds and rates differ, so none can stand for another.
    wide = model.service_times(np.array([HAND_LATE[1], HAND_EARLY[0]]), one_slot(bandwidth=1e4))
    np.testing.assert_allclose(wide, [[0.05, 0.2, 0.03], [0.0, 0.6, 0.012]], rtol=1e-14)


def test_an_idle_system_by_hand():
    free, outcome = serve(one_slot(), state(0, 0, 0), decide(LATE, 4))
    np.testing.assert_allclose(free, [0.15, 0.166, 0.18], rtol=1e-14)
    expected = {
        "latency_s": 0.18,
        "device_s": 0.15,
        "link_s": 0.016,
        "round_trip_s": 0.0,
        "edge_s": 0.014,
        "waiting_s": 0.0,
        "energy_j": 3.0 * 0.12 + 1.9 * 0.016,
        "accuracy": 0.95,
        "deadline_missed": False,
        "timed_out": False,
        "battery_short": False,
        "dropped": False,
        "accuracy_cost": 2.7 * 0.05,
        "latency_cost": 0.31 * 0.4 * 0.18 / 0.25,
        "miss_cost": 0.0,
        "energy_cost": 0.17 * (0.36 + 0.0304),
    }
    for name, value in expected.items():
        assert getattr(outcome, name) == pytest.approx(value, rel=1e-13, abs=1e-15), name
    assert set(expected) == set(arrays.field_names(Outcome))
    assert PROBLEM.reward(outcome) == pytest.approx(-0.135 - 0.08928 - 0.066368, rel=1e-13)


def test_queues_by_hand():
    # device 0.05 -> 0.20; link free at 0.19, ready at 0.20 -> 0.216; edge free at 0.25 -> 0.264.
    free, outcome = serve(one_slot(), state(0.05, 0.19, 0.25), decide(LATE, 4))
    np.testing.assert_allclose(free, [0.2, 0.216, 0.264], rtol=1e-14)
    assert outcome.latency_s == pytest.approx(0.264, rel=1e-14)
    assert outcome.waiting_s == pytest.approx(0.084, rel=1e-13)
    assert outcome.deadline_missed and not outcome.dropped
    assert outcome.latency_cost == pytest.approx(0.31 * 0.4 * 0.264 / 0.25, rel=1e-13)
    assert outcome.miss_cost == pytest.approx(1.3 * 0.4, rel=1e-15)
    # The next frame comes 0.11 s later.
    after, _ = PROBLEM.step(one_slot(), state(0.05, 0.19, 0.25), decide(LATE, 4))
    np.testing.assert_allclose(after.backlog, [0.09, 0.106, 0.154], rtol=1e-13)
    assert after.frames_left == 4.0
    assert after.battery == pytest.approx(11.0 - 0.3904, rel=1e-14)
    # ... or 0.2 s later: what is done does not count as less than nothing.
    after, _ = PROBLEM.step(one_slot(interval=0.21), state(0.05, 0.19, 0.25), decide(LATE, 4))
    np.testing.assert_allclose(after.backlog, [0.0, 0.006, 0.054], rtol=1e-12)


def test_the_link_makes_the_frame_wait_and_not_the_edge():
    # Free at 0.5 and 0.3: sent 0.5 -> 0.516, edge idle again by then -> 0.53.
    free, outcome = serve(one_slot(deadline=0.6), state(0.0, 0.5, 0.3), decide(LATE, 4))
    np.testing.assert_allclose(free, [0.15, 0.516, 0.53], rtol=1e-14)
    assert outcome.waiting_s == pytest.approx(0.35, rel=1e-13)
    assert not outcome.deadline_missed


def test_who_stays_on_the_device_waits_for_nobody_else():
    free, outcome = serve(one_slot(), state(0.05, 0.8, 0.7), decide(LATE, 6))
    np.testing.assert_allclose(free, [0.25, 0.8, 0.7], rtol=1e-14)  # 0.05 + 0.16 / 0.8
    assert outcome.latency_s == pytest.approx(0.25, rel=1e-14)
    assert outcome.link_s == outcome.edge_s == 0.0


def test_who_is_sent_as_it_is_does_not_wait_for_the_device():
    free, outcome = serve(one_slot(), state(0.8, 0.03, 0.1), decide(LATE, 0))
    # 6000 bits at 50 kbit/s: 0.03 -> 0.15; 19 ms at half the speed: 0.15 -> 0.188.
    np.testing.assert_allclose(free, [0.8, 0.15, 0.188], rtol=1e-14)
    assert outcome.latency_s == pytest.approx(0.188, rel=1e-14)
    assert outcome.waiting_s == pytest.approx(0.03, rel=1e-12)
    assert outcome.energy_j == pytest.approx(1.9 * 0.12, rel=1e-14)


def test_a_frame_with_nothing_to_do_anywhere():
    done, free = model.pass_through(np.zeros(3), np.zeros(()), np.array([0.4, 0.2, 0.3]))
    assert done == 0.0 and free.tolist() == [0.4, 0.2, 0.3]


@pytest.mark.parametrize("works", list(itertools.product([0, 1], repeat=3)))
def test_every_way_through(works):
    service = np.array([0.3, 0.05, 0.2]) * works
    backlog = np.array([0.1, 0.7, 0.45])
    now, free = 0.0, backlog.copy()
    for stage in np.flatnonzero(works):
        now = max(now, backlog[stage]) + service[stage]
        free[stage] = now
    done, found = model.pass_through(service, np.zeros(()), backlog)
    assert done == now and found.tolist() == free.tolist()


def test_energy_is_the_works_not_the_times():
    """A device of which others take half needs longer and not more energy; sending does."""
    cost, none = np.array(HAND_LATE[4]), np.zeros(())
    for speed in (1.0, 0.5):
        slot = one_slot(device_speed=speed)
        link_s = model.service_times(cost, slot)[1]
        got = model.energy(cost, link_s, none, slot, HAND)
        assert got == pytest.approx(3.0 * 0.12 + 1.9 * 0.016, rel=1e-14)
    got = model.energy(cost, np.array(0.5), none, one_slot(), HAND)
    assert got == pytest.approx(0.36 + 0.95, rel=1e-14)


@pytest.mark.parametrize("bandwidth", [1e4, 5e4, 4e5])
def test_the_radios_power_depends_on_the_rate(bandwidth):
    """(a + b rate) Tt, as [Huang2012] has it, and a during the round trip."""
    slot = one_slot(bandwidth=bandwidth, round_trip=0.05, base_power=1.3, joule_per_bit=4e-6)
    _, outcome = serve(slot, state(0, 0, 0), decide(LATE, 4))
    sending = (1.3 + 4e-6 * bandwidth) * 800 / bandwidth
    assert outcome.energy_j == pytest.approx(3.0 * 0.12 + sending + 1.3 * 0.05, rel=1e-13)
    # Who sends nothing pays nothing.
    _, outcome = serve(slot, state(0, 0, 0), decide(LATE, 6))
    assert outcome.energy_j == pytest.approx(3.0 * 0.16, rel=1e-13)


def test_the_round_trip_by_hand():
    """The transfer starts at 0.2 and holds the link until 0.216; the edge has it at 0.246."""
    slot = one_slot(round_trip=0.03)
    free, outcome = serve(slot, state(0.05, 0.19, 0.1), decide(LATE, 4))
    np.testing.assert_allclose(free, [0.2, 0.216, 0.26], rtol=1e-14)
    assert outcome.latency_s == pytest.approx(0.26, rel=1e-14)
    assert outcome.round_trip_s == 0.03
    assert outcome.waiting_s == pytest.approx(0.05, rel=1e-13)
    # It is hidden where the frame has to wait for the edge anyway: done as if there were none.
    free, outcome = serve(slot, state(0.05, 0.19, 0.3), decide(LATE, 4))
    np.testing.assert_allclose(free, [0.2, 0.216, 0.314], rtol=1e-14)
    assert outcome.waiting_s == pytest.approx(0.05 + 0.054, rel=1e-13)
    # A frame that stays on the device has none, and one that is sent as it is has one.
    _, outcome = serve(slot, state(0, 0, 0), decide(LATE, 6))
    assert outcome.round_trip_s == 0.0 and outcome.latency_s == pytest.approx(0.2, rel=1e-14)
    _, outcome = serve(slot, state(0, 0, 0), decide(LATE, 0))
    assert outcome.latency_s == pytest.approx(0.12 + 0.03 + 0.038, rel=1e-14)


@pytest.mark.parametrize(
    ("battery", "short"), [(0.3904000001, False), (0.3903999999, True), (0.0, True)]
)
def test_a_battery_that_cannot_pay(battery, short):
    before = state(0.05, 0.19, 0.25, battery=battery)
    free, outcome = serve(one_slot(), before, decide(LATE, 4))
    assert outcome.battery_short == short == outcome.dropped
    assert not outcome.timed_out
    after, _ = model.evaluate(one_slot(), before, decide(LATE, 4), HAND)
    if short:
        assert free.tolist() == [0.05, 0.19, 0.25]
        np.testing.assert_allclose(after.backlog, [0.0, 0.08, 0.14], atol=1e-15)
        assert after.battery == battery and outcome.energy_j == outcome.energy_cost == 0.0
    else:
        assert after.battery == pytest.approx(1e-10, abs=1e-12) and after.battery >= 0


def test_the_last_joule_can_be_spent():
    """A battery that holds exactly what a frame needs pays for it; the next float below cannot."""
    sending = np.array(800 / 5e4), np.zeros(())
    needed = float(model.energy(np.array(HAND_LATE[4]), *sending, one_slot(), HAND))
    for battery, short in ((needed, False), (np.nextafter(needed, 0), True)):
        after, outcome = PROBLEM.step(one_slot(), state(0, 0, 0, battery=battery), decide(LATE, 4))
        assert outcome.battery_short == short
        assert after.battery == (battery if short else 0.0)


def test_a_dropped_frame_by_hand():
    # The battery can pay, but the link is busy for too long: 0.89 + 0.016 > 0.9.
    free, outcome = serve(one_slot(), state(0.0, 0.89, 0.0), decide(LATE, 4))
    assert outcome.timed_out and outcome.dropped and outcome.deadline_missed
    assert not outcome.battery_short
    assert free.tolist() == [0.0, 0.89, 0.0]
    assert outcome.latency_s == 0.9 and outcome.waiting_s == 0.0
    assert outcome.accuracy == outcome.energy_j == outcome.energy_cost == 0.0
    assert outcome.accuracy_cost == pytest.approx(2.7, rel=1e-15)
    assert outcome.latency_cost == pytest.approx(0.31 * 0.4 * 0.9 / 0.25, rel=1e-14)
    assert outcome.miss_cost == pytest.approx(1.3 * 0.4, rel=1e-15)
    # The service times say what it would have taken.
    assert outcome.device_s == pytest.approx(0.15, rel=1e-14)
    # Both at once: one reason is given, and it is the battery.
    _, outcome = serve(one_slot(), state(0.0, 0.89, 0.0, battery=0.1), decide(LATE, 4))
    assert outcome.battery_short and not outcome.timed_out and outcome.dropped


def test_just_in_time():
    """Dyadic numbers, so that sums are exact: at the limit is within it."""
    scenario = cases.scenario(timeout_s=0.75, deadline=(0.125, 0.5))
    service = HAND_LATE[6][0] / 0.64  # a quarter of a second
    slot = one_slot(device_speed=0.64, deadline=0.5)
    now, done = state(0.25, 0, 0), 0.25 + service
    assert done == 0.5
    _, outcome = serve(slot, now, decide(LATE, 6), scenario)
    assert outcome.latency_s == 0.5 and not outcome.deadline_missed
    later = dataclasses.replace(slot, deadline=np.array(np.nextafter(0.5, 0)))
    assert serve(later, now, decide(LATE, 6), scenario)[1].deadline_missed
    now = state(0.5, 0, 0)
    _, outcome = serve(slot, now, decide(LATE, 6), scenario)
    assert outcome.latency_s == 0.75 and not outcome.dropped and outcome.deadline_missed
    now = state(np.nextafter(0.5, 1), 0, 0)
    assert serve(slot, now, decide(LATE, 6), scenario)[1].timed_out


@pytest.mark.parametrize(
    ("weight", "part"),
    [
        ("accuracy_weight", "accuracy"),
        ("latency_weight", "latency"),
        ("miss_weight", "miss"),
        ("energy_weight", "energy"),
    ],
)
def test_each_weight_scales_its_own_part(weight, part):
    slot, now = one_slot(deadline=0.15), state(0.05, 0.0, 0.0)
    _, before = serve(slot, now, decide(LATE, 4))
    doubled = cases.scenario(**{weight: 2 * getattr(HAND, weight)})
    _, after = serve(slot, now, decide(LATE, 4), doubled)
    for name in ("accuracy", "latency", "miss", "energy"):
        old, new = (getattr(o, f"{name}_cost") for o in (before, after))
        assert old > 0
        assert new == pytest.approx((2 if name == part else 1) * old, rel=1e-14)


def test_priority_scales_latency_and_miss_alone():
    now = state(0.05, 0.0, 0.0)
    slots = [one_slot(deadline=0.15, priority=p) for p in (0.4, 1.0, 0.0)]
    some, much, none = (serve(slot, now, decide(LATE, 4))[1] for slot in slots)
    assert none.latency_cost == none.miss_cost == 0.0 and none.deadline_missed
    for name in ("latency_cost", "miss_cost"):
        assert getattr(much, name) == pytest.approx(2.5 * getattr(some, name), rel=1e-14)
    for name in ("accuracy_cost", "energy_cost"):
        assert getattr(much, name) == getattr(some, name) == getattr(none, name)


# --- against the oracle, and all shapes


def check_outcome(outcome, free, index, expected, expected_free):
    for name, value in expected.items():
        got = np.broadcast_to(getattr(outcome, name), np.shape(outcome.dropped))[index]
        assert got == pytest.approx(value, rel=1e-12, abs=1e-13), name
    np.testing.assert_allclose(free[index], expected_free, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(4))
def test_a_second_opinion(seed):
    rng = np.random.default_rng(seed)
    net = cases.random_network(rng, exits=3)
    scenario = cases.scenario(network=net.graph, candidates=2000)
    slots = cases.random_slots(rng, (250,))
    now = cases.random_states(rng, (250,))
    sizes = scenario.table.sizes
    decision = cases.random_decisions(rng, (250,), sizes)
    free, outcome = serve(slots, now, decision, scenario)
    assert free.shape == (250, 3) and all(
        a.shape == (250,) for a in arrays.as_dict(outcome).values()
    )
    for k in range(250):
        n, p = int(decision.exit[k]), int(decision.partition[k])
        accuracy = net.graph.exits[n].accuracy
        cost = scenario.table.cost[n, p]
        arguments = arrays.at(slots, k), now.backlog[k], float(now.battery[k]), cost, accuracy
        expected_free, expected = cases.answer(*arguments, scenario)
        check_outcome(outcome, free, k, expected, expected_free)
    # Everything has happened.
    assert 0.02 < outcome.timed_out.mean() < 0.95 and outcome.battery_short.any()
    assert outcome.deadline_missed.mean() < 1 and (outcome.waiting_s > 0).any()


def test_reward_is_the_negative_sum_of_the_costs():
    rng = np.random.default_rng(9)
    slots, now = cases.random_slots(rng, (100,)), cases.random_states(rng, (100,))
    decision = cases.random_decisions(rng, (100,), HAND_SIZES)
    _, outcome = PROBLEM.step(slots, now, decision)
    for k in range(100):
        cost = HAND.table.cost[decision.exit[k], decision.partition[k]]
        accuracy = (0.7, 0.95)[decision.exit[k]]
        arguments = arrays.at(slots, k), now.backlog[k], float(now.battery[k]), cost, accuracy
        expected = cases.reward_of(cases.answer(*arguments, HAND)[1])
        assert PROBLEM.reward(outcome)[k] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("swarm", [(), (5,), (2, 5)])
def test_broadcasting(batch, swarm):
    rng = np.random.default_rng(11)
    slots, now = cases.random_slots(rng, batch), cases.random_states(rng, batch)
    decision = cases.random_decisions(rng, (*swarm, *batch), HAND_SIZES)
    after, outcome = PROBLEM.step(slots, now, decision)
    for name, value in arrays.as_dict(outcome).items():
        assert np.shape(value) == (*swarm, *batch), name
    assert after.backlog.shape == (*swarm, *batch, 3)
    assert PROBLEM.reward(outcome).shape == (*swarm, *batch)
    for index in itertools.islice(np.ndindex(*swarm, *batch), 12):
        own = index[len(swarm) :]
        single, alone = PROBLEM.step(
            arrays.at(slots, own), arrays.at(now, own), arrays.at(decision, index)
        )
        for name, value in arrays.as_dict(alone).items():
            assert np.array_equal(getattr(outcome, name)[index], value), name
        assert np.array_equal(after.backlog[index], single.backlog)
        assert np.broadcast_to(after.battery, (*swarm, *batch))[index] == single.battery


# --- against a simulator


def simulate(arrival, service, trip=None):
    """When each frame is done, (K,); simpy, three servers that serve in the order of arrival.

    What the link has sent travels on by itself for ``trip`` (K,), while the link sends others.

    A server knows which frames have work for it, takes them by the number they arrived with and
    waits for each. Frames come to the first server that has work for them, and each server hands
    them on to the next one that has.
    """
    count = len(arrival)
    done = np.array(arrival, dtype=float)
    env = simpy.Environment()
    waiting_rooms = [simpy.FilterStore(env) for _ in range(3)]

    def hand_on(frame, after):
        for stage in range(after + 1, 3):
            if service[frame][stage] > 0:
                waiting_rooms[stage].put(frame)
                return
        done[frame] = env.now

    def travel(frame):
        yield env.timeout(0.0 if trip is None else trip[frame])
        hand_on(frame, 1)

    def source():
        for frame in range(count):
            yield env.timeout(arrival[frame] - env.now)
            hand_on(frame, -1)

    def server(stage):
        for frame in range(count):
            if service[frame][stage] > 0:
                yield waiting_rooms[stage].get(lambda item, frame=frame: item == frame)
                yield env.timeout(service[frame][stage])
                if stage == 1:
                    env.process(travel(frame))
                else:
                    hand_on(frame, stage)

    env.process(source())
    for stage in range(3):
        env.process(server(stage))
    env.run()
    return done


def test_the_simulator_by_hand():
    # Frame 0: device 0-2, link 2-3; frame 1 is sent as it is and waits for frame 0: 3-7;
    # frame 2 stays on the device: 2-5; frame 3: device 5-6, edge 6-7 without the link.
    service = [(2, 1, 0), (0, 4, 0), (3, 0, 0), (1, 0, 1)]
    assert simulate([0, 0.5, 1, 1.5], service).tolist() == [3, 7, 5, 7]
    # What is sent arrives later, and nobody waits for it but its own edge: 2-3 and 3-7.
    service[1] = (0, 4, 2)
    done = simulate([0, 0.5, 1, 1.5], service, [9, 0.5, 0, 0])
    assert done.tolist() == [12, 9.5, 5, 10.5]


@pytest.mark.parametrize("seed", range(4))
def test_the_recursion_equals_the_simulator(seed):
    """Any mixture of stages, the link alone skipped and nothing to do at all among them."""
    rng = np.random.default_rng(seed)
    count = 400
    service = rng.exponential(0.3, (count, 3)) * (rng.random((count, 3)) < 0.7)
    interval = rng.exponential(0.35, count)
    arrival = np.concatenate([[0.0], np.cumsum(interval)[:-1]])
    trip = rng.choice([0.0, 0.1, 0.4], count) * (service[:, 1] > 0)
    done, backlog = np.empty(count), np.zeros(3)
    for k in range(count):
        done[k], free = model.pass_through(service[k], trip[k], backlog)
        backlog = np.maximum(free - interval[k], 0.0)
    expected = simulate(arrival.tolist(), service.tolist(), trip.tolist())
    np.testing.assert_allclose(arrival + done, expected, rtol=1e-9, atol=1e-9)
    assert len(np.unique(service > 0, axis=0)) == 8


def play(problem, trace, exits, partitions):
    """Outcomes and states of an episode, fields (T,)."""
    now, outcomes, states = problem.start(arrays.at(trace, 0)), [], []
    for t in range(problem.horizon):
        states.append(now)
        slot = arrays.at(trace, t)
        now, outcome = problem.step(slot, now, Decision(exit=exits[t], partition=partitions[t]))
        outcomes.append(outcome)
    return arrays.stack(outcomes), arrays.stack(states), now


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [4.0, 12.0])
def test_queues_equal_a_discrete_event_simulation(seed, rate):
    """Nobody is dropped; latencies of some hundreds of frames, skipping of all kinds."""
    count = 300
    rng = np.random.default_rng(100 * seed + int(rate))
    problem = EarlyExitPartition(
        cases.scenario(horizon=count, timeout_s=1e6, battery=1e9, arrival_rates=(rate, 3 * rate))
    )
    trace = arrays.at(problem.sample(rng, 1), 0)
    decision = cases.random_decisions(rng, (count,), problem.scenario.table.sizes)
    # Edge only and device only are as common as the rest.
    sizes = problem.scenario.table.sizes[decision.exit]
    kind = rng.integers(3, size=count)
    partitions = np.where(kind == 0, 0, np.where(kind == 1, sizes - 1, decision.partition))
    outcomes, states, _ = play(problem, trace, decision.exit, partitions)
    assert not outcomes.dropped.any()
    arrival = np.concatenate([[0.0], np.cumsum(trace.interval)[:-1]])
    cost = problem.scenario.table.cost[decision.exit, partitions]
    speed = np.stack([trace.device_speed, trace.bandwidth, trace.edge_speed], axis=-1)
    service = (cost / speed).tolist()
    trip = np.where(cost[:, 1] > 0, trace.round_trip, 0.0)
    done = simulate(arrival, service, trip)
    np.testing.assert_allclose(outcomes.latency_s, done - arrival, rtol=1e-9, atol=1e-9)
    skips = [(a > 0, b > 0, c > 0) for a, b, c in service]
    assert {(True, False, False), (False, True, True), (True, True, True)} == set(skips)
    # There were queues, and not all the time.
    assert (outcomes.waiting_s > 1e-6).mean() > 0.2 and (states.backlog == 0).any()
    # The backlog is what the stages have yet to do.
    free = np.zeros(3)
    for k in range(count):
        now = arrival[k]
        np.testing.assert_allclose(states.backlog[k], np.maximum(free - now, 0), atol=1e-9)
        for stage in range(3):
            if service[k][stage] > 0:
                now = free[stage] = max(now, free[stage]) + service[k][stage]
            if stage == 1:
                now += trip[k]


@pytest.mark.parametrize("seed", range(3))
def test_queues_equal_a_simulation_with_drops(seed):
    """What is dropped leaves no trace: each frame is simulated with those that were started."""
    count = 110
    rng = np.random.default_rng(seed)
    net = cases.random_network(rng, exits=2, bits=4e3)
    problem = EarlyExitPartition(
        cases.scenario(
            network=net.graph,
            horizon=count,
            timeout_s=0.5,
            battery=6.0,
            candidates=2000,
            arrival_rates=(10.0, 40.0),
        )
    )
    trace = arrays.at(problem.sample(rng, 1), 0)
    decision = cases.random_decisions(rng, (count,), problem.scenario.table.sizes)
    outcomes, _, last = play(problem, trace, decision.exit, decision.partition)
    arrival = np.concatenate([[0.0], np.cumsum(trace.interval)[:-1]])
    cost = problem.scenario.table.cost[decision.exit, decision.partition]
    speed = np.stack([trace.device_speed, trace.bandwidth, trace.edge_speed], axis=-1)
    service = cost / speed
    trip = np.where(cost[:, 1] > 0, trace.round_trip, 0.0)
    joules = 3.0 * cost[:, 0] + trace.base_power * (service[:, 1] + trip)
    joules += trace.joule_per_bit * cost[:, 1]
    battery, started, latency = 6.0, [], np.full(count, 0.5)
    why = np.full(count, "served", dtype=object)
    for k in range(count):
        needed = joules[k]
        together = [*started, k]
        finish = simulate(arrival[together], service[together].tolist(), trip[together])[-1]
        if needed > battery:
            why[k] = "battery"
        elif finish - arrival[k] > 0.5:
            why[k] = "timeout"
        else:
            started, latency[k] = together, finish - arrival[k]
            battery -= needed
    assert np.array_equal(outcomes.battery_short, why == "battery")
    assert np.array_equal(outcomes.timed_out, why == "timeout")
    np.testing.assert_allclose(outcomes.latency_s, latency, rtol=1e-9, atol=1e-9)
    assert last.battery == pytest.approx(battery, abs=1e-9) and battery > 0
    assert min((why == kind).sum() for kind in ("served", "battery", "timeout")) > 5


@pytest.mark.parametrize("seed", range(4))
def test_long_queues_equal_a_simulation_of_the_frames_that_were_started(seed):
    """300 frames through the floods; those that were dropped are never put in the simulator."""
    count = 300
    rng = np.random.default_rng(1000 + seed)
    problem = EarlyExitPartition(
        cases.scenario(
            horizon=count,
            timeout_s=0.45,
            deadline=(0.1, 0.4),
            battery=25.0,
            arrival_rates=(6.0, 25.0),
        )
    )
    trace = arrays.at(problem.sample(rng, 1), 0)
    decision = cases.random_decisions(rng, (count,), problem.scenario.table.sizes)
    outcomes, states, last = play(problem, trace, decision.exit, decision.partition)
    arrival = np.concatenate([[0.0], np.cumsum(trace.interval)[:-1]])
    cost = problem.scenario.table.cost[decision.exit, decision.partition]
    speed = np.stack([trace.device_speed, trace.bandwidth, trace.edge_speed], axis=-1)
    service = cost / speed
    trip = np.where(cost[:, 1] > 0, trace.round_trip, 0.0)
    started = np.flatnonzero(~outcomes.dropped)
    done = simulate(arrival[started].tolist(), service[started].tolist(), trip[started])
    np.testing.assert_allclose(
        outcomes.latency_s[started], done - arrival[started], rtol=1e-9, atol=1e-9
    )
    waiting = done - arrival[started] - service[started].sum(axis=1) - trip[started]
    np.testing.assert_allclose(outcomes.waiting_s[started], waiting, rtol=1e-9, atol=1e-9)
    joules = 3.0 * cost[started, 0] + (trace.base_power * (service[:, 1] + trip))[started]
    joules += (trace.joule_per_bit * cost[:, 1])[started]
    assert last.battery == pytest.approx(25.0 - joules.sum(), abs=1e-9)
    # A dropped frame touches nothing: time goes on, and that is all.
    after = np.concatenate([states.backlog[1:], last.backlog[None]])
    battery = np.append(states.battery[1:], last.battery)
    gone = outcomes.dropped
    idle = np.maximum(states.backlog - trace.interval[:, None], 0.0)
    assert np.array_equal(after[gone], idle[gone])
    assert np.array_equal(battery[gone], states.battery[gone])
    assert gone.sum() > 20 and (waiting > 1e-6).sum() > 20


# --- properties

TIMES = st.lists(st.floats(0.0, 2.0), min_size=3, max_size=3)
SOME = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 2.0)), min_size=3, max_size=3)


@given(SOME, TIMES, TIMES)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_more_backlog_never_makes_a_frame_earlier(service, backlog, more):
    service, backlog = np.array(service), np.array(backlog)
    trip = np.array(0.1 * (service[1] > 0))
    done, free = model.pass_through(service, trip, backlog)
    later, free_later = model.pass_through(service, trip, backlog + more)
    assert later >= done and (free_later >= free).all()
    # Nor does more work, anywhere it has some.
    longer = np.where(service > 0, service + more, 0.0)
    later, free_later = model.pass_through(longer, trip, backlog)
    assert later >= done and (free_later >= free).all()
    assert done >= service.sum() + trip - 1e-12
    assert (free >= backlog).all()


@pytest.mark.parametrize("seed", range(3))
def test_more_backlog_and_less_battery_never_earn_more(seed):
    rng = np.random.default_rng(seed)
    slots, now = cases.random_slots(rng, (2000,)), cases.random_states(rng, (2000,))
    worse = State(
        backlog=now.backlog + 0.3 * rng.random((2000, 3)) * (rng.random((2000, 3)) < 0.5),
        battery=now.battery * rng.choice([1.0, 0.9, 0.1], 2000),
        frames_left=now.frames_left,
    )
    decision = cases.random_decisions(rng, (2000,), HAND_SIZES)
    _, better_off = PROBLEM.step(slots, now, decision)
    _, worse_off = PROBLEM.step(slots, worse, decision)
    assert (worse_off.latency_s >= better_off.latency_s - 1e-15).all()
    assert (worse_off.dropped >= better_off.dropped).all()
    assert (worse_off.deadline_missed >= better_off.deadline_missed).all()
    # A frame that is dropped saves its energy, and that is all it can save.
    reward = PROBLEM.reward(worse_off) - np.where(
        worse_off.dropped, PROBLEM.scenario.energy_weight * better_off.energy_j, 0.0
    )
    assert (reward <= PROBLEM.reward(better_off) + 1e-12).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_worse_decision_never_earns_more(seed):
    """No better in latency, energy, drops and accuracy: no more reward, for any two of a slot."""
    rng = np.random.default_rng(seed)
    slots, now = cases.random_slots(rng, (300,)), cases.random_states(rng, (300,))
    exits = np.repeat([0, 1], HAND_SIZES)[:, None]
    partitions = np.concatenate([np.arange(s) for s in HAND_SIZES])[:, None]
    _, outcome = PROBLEM.step(slots, now, Decision(exit=exits, partition=partitions))
    reward = PROBLEM.reward(outcome)
    compared = 0
    for a, b in itertools.permutations(range(sum(HAND_SIZES)), 2):
        worse = outcome.accuracy[a] <= outcome.accuracy[b]
        for name in ("latency_s", "energy_j", "dropped"):
            worse &= getattr(outcome, name)[a] >= getattr(outcome, name)[b]
        assert (reward[a] <= reward[b] + 1e-12)[worse].all()
        compared += worse.sum()
    assert compared > 3000


def test_service_of_every_partition_is_that_of_the_layers():
    """The table's times are those of the layers, exit by exit, whatever the roofline says."""
    rng = np.random.default_rng(21)
    for _ in range(20):
        net = cases.random_network(rng, exits=3)
        table = cases.scenario(network=net.graph, candidates=2000).table
        for n, one in enumerate(net.at_exit):
            every = [cost for _, cost in layer_graphs.triples(one)]
            front = sorted(layer_graphs.not_dominated(every))
            np.testing.assert_allclose(table.candidates(n), front, rtol=1e-9, atol=1e-15)
            assert table.fronts[n].count == len(every)
