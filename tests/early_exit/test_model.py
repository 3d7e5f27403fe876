"""Three stages, energy and the four costs: on paper, in plain floats and in a simulator."""

import dataclasses
import itertools

import early_exit.cases as cases
import layer_graphs
import numpy as np
import pytest
from early_exit.cases import HAND_EARLY, HAND_LATE, HAND_SIZES, one_slot
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import slow_except
from stages import simulate

from mec_gym.core import arrays
from mec_gym.early_exit import model
from mec_gym.early_exit.model import Decision, Outcome
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import curve_of, uplink_of
from mec_gym.network.bandwidth import Regimes
from mec_gym.network.tandem import travel

HAND = cases.scenario()
PROBLEM = EarlyExitPartition(HAND)
EARLY, LATE = 0, 1


def decide(exit_index, partition):
    return Decision(exit=np.array(exit_index), partition=np.array(partition))


def state(*backlog, battery=11.0, left=5.0):
    return cases.state_of(backlog, battery, left)


def serve(slot, now, decision, scenario=HAND):
    """When the stages have done all, (..., 3) s from now, and the outcome."""
    after, outcome = model.serve(slot, now, decision, scenario)
    assert isinstance(outcome, Outcome)
    bits = scenario.table.cost[decision.exit, decision.partition, 1]
    free = model.all_done_after(now, after, bits, outcome.edge_s)
    free = np.where(outcome.dropped[..., None], model.all_done(now), free)
    return np.maximum(free - slot.arrival[..., None], 0.0), outcome


def left(slot, after):
    """What the stages have yet to do when the frame after the slot's arrives, (..., 3) s."""
    return np.maximum(model.all_done(after) - (slot.arrival + slot.interval)[..., None], 0.0)


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
        "delay_caused_s": 0.0,
        "device_s": 0.15,
        "link_s": 0.016,
        "round_trip_s": 0.0,
        "edge_s": 0.014,
        "waiting_s": 0.0,
        "energy_j": 3.0 * 0.12 + 1.9 * 0.016,
        "accuracy": 0.95,
        "deadline_missed": False,
        "misses_caused": 0.0,
        "timed_out": False,
        "battery_short": False,
        "no_room": False,
        "dropped": False,
        "accuracy_cost": 2.7 * 0.05,
        "latency_cost": 0.31 * 0.4 * 0.18 / 0.25,
        "miss_cost": 0.0,
        "delay_cost": 0.0,
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
    np.testing.assert_allclose(left(one_slot(), after), [0.09, 0.106, 0.154], rtol=1e-13)
    assert after.frames_left == 4.0
    assert after.battery == pytest.approx(11.0 - 0.3904, rel=1e-14)
    # ... or 0.2 s later: what is done does not count as less than nothing.
    slot = one_slot(interval=0.21)
    after, _ = PROBLEM.step(slot, state(0.05, 0.19, 0.25), decide(LATE, 4))
    np.testing.assert_allclose(left(slot, after), [0.0, 0.006, 0.054], rtol=1e-12)


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


def plan_alone(service, trip, free, **slot):
    """The plan of a frame without others, whose bits take ``service[1]`` s at 1 bit/s."""
    one, none = one_slot(bandwidth=1.0, **slot), model.others_of(np.zeros((model.ROWS, 0)))
    device_s, bits, edge_s = np.asarray(service, dtype=float)
    return model.plan(one, np.array(free), none, device_s, bits, np.array(trip), edge_s)


def test_a_frame_with_nothing_to_do_anywhere():
    plan = plan_alone((0, 0, 0), 0.0, (0.4, 0.2, 0.3))
    assert plan.done == 0.0 and plan.device_free == 0.4


@pytest.mark.parametrize("works", list(itertools.product([0, 1], repeat=3)))
@pytest.mark.parametrize("arrival", [0.0, 5.25])
def test_every_way_through(works, arrival):
    service = np.array([0.3, 0.05, 0.2]) * works
    backlog = np.array([0.1, 0.7, 0.45]) + arrival
    now = arrival
    for stage in np.flatnonzero(works):
        now = max(now, backlog[stage]) + service[stage]
    plan = plan_alone(service, 0.0, backlog, arrival=arrival)
    assert plan.done == pytest.approx(now, rel=1e-14)
    device = backlog[0] + service[0] if works[0] else backlog[0]
    assert plan.device_free == device


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
        np.testing.assert_allclose(left(one_slot(), after), [0.0, 0.08, 0.14], atol=1e-15)
        assert after.battery == battery and outcome.energy_j == outcome.energy_cost == 0.0
    else:
        assert after.battery == pytest.approx(1e-10, abs=1e-12) and after.battery >= 0


def test_the_last_joule_can_be_spent():
    """A battery that holds exactly what a frame needs pays for it; the next float below cannot."""
    needed = float(serve(one_slot(), state(0, 0, 0), decide(LATE, 4))[1].energy_j)
    assert needed == pytest.approx(0.3904, rel=1e-13)
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
    slots = cases.random_slots(rng, (120,))
    now = cases.random_states(rng, (120,))
    sizes = scenario.table.sizes
    decision = cases.random_decisions(rng, (120,), sizes)
    free, outcome = serve(slots, now, decision, scenario)
    assert free.shape == (120, 3) and all(
        a.shape == (120,) for a in arrays.as_dict(outcome).values()
    )
    for k in range(120):
        n, p = int(decision.exit[k]), int(decision.partition[k])
        accuracy = net.graph.exits[n].accuracy
        cost = scenario.table.cost[n, p]
        arguments = arrays.at(slots, k), now.free[k], float(now.battery[k]), cost, accuracy
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
        arguments = arrays.at(slots, k), now.free[k], float(now.battery[k]), cost, accuracy
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
    assert after.free.shape == (*swarm, *batch, 3)
    assert after.under_way.shape == (*swarm, *batch, model.ROWS, 30)
    assert PROBLEM.reward(outcome).shape == (*swarm, *batch)
    for index in itertools.islice(np.ndindex(*swarm, *batch), 12):
        own = index[len(swarm) :]
        single, alone = PROBLEM.step(
            arrays.at(slots, own), arrays.at(now, own), arrays.at(decision, index)
        )
        for name, value in arrays.as_dict(alone).items():
            assert np.array_equal(getattr(outcome, name)[index], value), name
        assert np.array_equal(after.free[index], single.free)
        assert np.array_equal(after.under_way[index], single.under_way)
        assert np.broadcast_to(after.battery, (*swarm, *batch))[index] == single.battery


def test_a_frame_is_paid_for_alike_whoever_waits_in_other_instances():
    """The costs of 4 to 12 others are added up; those of empty columns must not change rounding."""
    rng, batch = np.random.default_rng(12), 60
    slots, now = cases.random_slots(rng, (batch,)), cases.random_states(rng, (batch,))
    now = dataclasses.replace(now, battery=np.full(batch, 1e6))
    for row in range(batch):
        count = 4 + row % 9
        gap = rng.uniform(0.001, 0.01, (2, count)).cumsum(axis=-1)
        ready, bits = float(slots.arrival[row]) + 0.1 + gap[0], rng.uniform(100.0, 200.0, count)
        for number, value in (
            (model.READY, ready),
            (model.SENT, ready + gap[1]),
            (model.DONE, ready + 2.0 * gap[1]),
            (model.DUE, ready + 0.3),
            (model.LIMIT, 1e6),
            (model.UNTIL, 1e-3 * bits.cumsum()),
            (model.BITS, bits),
            (model.EDGE_S, 0.01 * gap[1]),
            (model.POWER, rng.random(count)),
            (model.WEIGHT, rng.random(count)),
        ):
            now.under_way[row, number, :count] = value
    decision = Decision(exit=np.full(batch, LATE), partition=np.zeros(batch, dtype=np.int64))
    _, outcome = PROBLEM.step(slots, now, decision)
    assert (outcome.delay_cost > 0).sum() > 30
    for row in range(batch):
        _, alone = PROBLEM.step(*(arrays.at(record, row) for record in (slots, now, decision)))
        for name, value in arrays.as_dict(alone).items():
            assert np.array_equal(getattr(outcome, name)[row], value), name


# --- frames that overtake, on paper


def steps(problem, slots, actions):
    """The outcomes of decisions in slots, and the states after them."""
    now, outcomes, states = problem.start(slots[0]), [], []
    for slot, action in zip(slots, actions, strict=True):
        now, outcome = problem.step(slot, now, decide(*action))
        outcomes.append(outcome)
        states.append(now)
    return outcomes, states


def two_slots(**changes):
    """Two frames, the second one 0.02 s after the first; speeds of 0.8 and 0.5, 50 kbit/s."""
    first = one_slot(interval=0.02, round_trip=0.03, deadline=0.245, priority=1.0)
    uplink = changes.pop("uplink", first.uplink)
    second = one_slot(arrival=0.02, round_trip=0.03, base_power=0.7, deadline=0.3, uplink=uplink)
    return dataclasses.replace(first, uplink=uplink), dataclasses.replace(second, **changes)


def test_a_frame_overtakes_by_hand():
    """Raw and later, but ready for the link before the first one has left the device.

    Frame 0: device 0 to 0.15, link to 0.166, edge from 0.196 to 0.21, in time for 0.245.
    Frame 1 is sent at once: 6000 bits from 0.02 to 0.14, at the edge 0.17 to 0.208 (0.019 / 0.5).
    So frame 0 finds the link free, but is ready for the edge at 0.196: 0.208 to 0.222, 12 ms later.
    """
    (one, two), (before, _) = steps(PROBLEM, two_slots(), [(LATE, 4), (LATE, 0)])
    assert one.latency_s == pytest.approx(0.21, rel=1e-13) and one.delay_caused_s == 0.0
    assert model.occupied(before.under_way).sum() == 1
    assert two.latency_s == pytest.approx(0.208 - 0.02, rel=1e-13)
    assert two.waiting_s == pytest.approx(0.0, abs=1e-15)
    assert two.delay_caused_s == pytest.approx(0.012, rel=1e-12)
    assert two.misses_caused == 0.0
    assert two.delay_cost == pytest.approx(0.31 * 1.0 / 0.245 * 0.012, rel=1e-12)
    # Nothing is sent at another time, so its energy is its own.
    assert two.energy_j == pytest.approx(0.7 * (0.12 + 0.03), rel=1e-13)


def test_a_frame_that_is_delayed_at_the_link_by_hand():
    """At 40 kbit/s from 0.05 s on, and 10 kbit/s from 0.16 s on.

    Frame 1: 1500 bits from 0.02 to 0.05, 4400 from 0.05 to 0.16, and 100 more until 0.17. Frame
    0 would have been sent from 0.15 (400 bits until 0.16, and 400 until 0.2); now from 0.17 to
    0.25: 0.05 s later, which is 0.08 s of sending and not 0.05, at 1.9 W; and at the edge from
    0.28 to 0.294, behind its deadline of 0.245, which costs 1.3.
    """
    uplink = uplink_of([0.0, 0.05, 0.16], [5e4, 4e4, 1e4])
    slots = two_slots(uplink=uplink)
    (one, two), (before, after) = steps(PROBLEM, slots, [(LATE, 4), (LATE, 0)])
    assert one.latency_s == pytest.approx(0.2 + 0.03 + 0.014, rel=1e-13)
    assert one.link_s == pytest.approx(0.05, rel=1e-12) and not one.deadline_missed
    assert two.link_s == pytest.approx(0.15, rel=1e-12)
    assert two.latency_s == pytest.approx(0.17 + 0.03 + 0.038 - 0.02, rel=1e-13)
    assert two.delay_caused_s == pytest.approx(0.05, rel=1e-12)
    assert two.misses_caused == 1.0
    assert two.delay_cost == pytest.approx(0.31 / 0.245 * 0.05 + 1.3, rel=1e-12)
    own = 0.7 * (0.15 + 0.03)
    assert two.energy_j == pytest.approx(own + 1.9 * (0.08 - 0.05), rel=1e-12)
    assert after.battery == pytest.approx(before.battery - two.energy_j, rel=1e-14)
    assert PROBLEM.reward(two) == pytest.approx(
        -(2.7 * 0.05 + 0.31 * 0.4 * 0.218 / 0.3 + two.delay_cost + 0.17 * two.energy_j), rel=1e-12
    )


def test_who_would_let_another_time_out_is_not_started():
    """Frame 0 would be done at 0.294; a timeout of 0.29 or more decides about frame 1."""
    uplink = uplink_of([0.0, 0.05, 0.16], [5e4, 4e4, 1e4])
    for timeout, out in ((0.293, True), (0.295, False)):
        problem = EarlyExitPartition(cases.scenario(timeout_s=timeout, deadline=(0.1, 0.25)))
        (_, two), (before, after) = steps(problem, two_slots(uplink=uplink), [(LATE, 4), (LATE, 0)])
        assert two.timed_out == two.dropped == out
        if out:  # by itself it would be in time
            assert two.latency_s == timeout and two.delay_caused_s == two.delay_cost == 0.0
            assert two.energy_j == 0.0 and after.battery == before.battery
            lasting = model.all_done(after)
            np.testing.assert_allclose(lasting, [0.15, 0.2, 0.244], rtol=1e-13)


def test_the_battery_pays_for_what_a_frame_shifts():
    """0.126 J for itself and 0.057 J for the other one's longer transfer."""
    uplink = uplink_of([0.0, 0.05, 0.16], [5e4, 4e4, 1e4])
    first = 3.0 * 0.12 + 1.9 * (0.05 + 0.03)
    for more, short in ((0.1829, True), (0.1831, False)):
        problem = EarlyExitPartition(cases.scenario(battery=first + more))
        (_, two), (_, after) = steps(problem, two_slots(uplink=uplink), [(LATE, 4), (LATE, 0)])
        assert two.battery_short == two.dropped == short and after.battery >= 0


def test_no_more_than_so_many_are_under_way():
    problem = EarlyExitPartition(cases.scenario(under_way=1))
    (_, two), (before, after) = steps(problem, two_slots(), [(LATE, 4), (LATE, 0)])
    assert two.no_room and two.dropped and not two.timed_out and not two.battery_short
    assert np.array_equal(before.under_way, after.under_way)
    # Who stays on the device needs no place.
    (_, two), _ = steps(problem, two_slots(), [(LATE, 4), (LATE, 6)])
    assert not two.dropped


def test_an_outage_by_hand():
    """400 bits until 0.158 s, nothing until 0.3 s, then at 20 kbit/s: sent at 0.32 s."""
    slot = one_slot(uplink=uplink_of([0.0, 0.158, 0.3], [5e4, 0.0, 2e4]))
    free, outcome = serve(slot, state(0, 0, 0), decide(LATE, 4))
    np.testing.assert_allclose(free, [0.15, 0.32, 0.334], rtol=1e-13)
    assert outcome.link_s == pytest.approx(0.17, rel=1e-12)
    assert outcome.energy_j == pytest.approx(0.36 + 1.9 * 0.17, rel=1e-12)
    # Who comes during the outage waits for its end, and the radio waits with it.
    late = one_slot(arrival=0.2, uplink=slot.uplink)
    _, outcome = serve(late, state(0, 0, 0), decide(LATE, 0))
    assert outcome.latency_s == pytest.approx(0.1 + 0.3 + 0.038, rel=1e-13)
    assert outcome.link_s == pytest.approx(0.4, rel=1e-13)


# --- against a simulation


def play(problem, trace, exits, partitions):
    """Outcomes and states of an episode, fields (T,)."""
    now, outcomes, states = problem.start(arrays.slot_of(trace, 0)), [], []
    for t in range(problem.horizon):
        states.append(now)
        slot = arrays.slot_of(trace, t)
        now, outcome = problem.step(slot, now, Decision(exit=exits[t], partition=partitions[t]))
        outcomes.append(outcome)
    return arrays.stack(outcomes), arrays.stack(states), now


def mixed_decisions(rng, problem):
    """Edge only and device only are as common as the rest."""
    sizes = problem.scenario.table.sizes
    decision = cases.random_decisions(rng, (problem.horizon,), sizes)
    kind = rng.integers(3, size=problem.horizon)
    last = sizes[decision.exit] - 1
    partition = np.where(kind == 0, 0, np.where(kind == 1, last, decision.partition))
    return decision.exit, partition


QUICK = Regimes((3e4, 2e5), dwell_s=0.4, spread=0.5, memory_s=0.1)


@pytest.mark.parametrize("seed", slow_except(range(6), 0, 1))
@pytest.mark.parametrize("rate", [4.0, 12.0])
def test_an_episode_equals_a_discrete_event_simulation(seed, rate):
    """Nobody is dropped; hundreds of frames, skipping of all kinds, rates that change often."""
    count = 300
    rng = np.random.default_rng(100 * seed + int(rate))
    problem = EarlyExitPartition(
        cases.scenario(
            horizon=count,
            timeout_s=1e6,
            battery=1e9,
            arrival_rates=(rate, 3 * rate),
            bandwidth=QUICK,
            technologies=cases.GIVEN["technologies"],
            under_way=count,
        )
    )
    trace = arrays.at(problem.sample(rng, 1), 0)
    exits, partitions = mixed_decisions(rng, problem)
    outcomes, states, last = play(problem, trace, exits, partitions)
    assert not outcomes.dropped.any()
    cost = problem.scenario.table.cost[exits, partitions]
    device_s, edge_s = cost[:, 0] / trace.device_speed, cost[:, 2] / trace.edge_speed
    trip = np.where(cost[:, 1] > 0, trace.round_trip, 0.0)
    moments, _, rates = trace.uplink[0].tolist()
    times, done = simulate(trace.arrival, device_s, cost[:, 1], edge_s, trip, moments, rates)
    latency = done - trace.arrival
    # Sums over the episode are what really happened.
    total = outcomes.latency_s.sum() + outcomes.delay_caused_s.sum()
    assert total == pytest.approx(latency.sum(), rel=1e-10)
    late = (latency > trace.deadline).sum()
    assert outcomes.deadline_missed.sum() + outcomes.misses_caused.sum() == late
    sending = np.nan_to_num(times[:, 1, 1] - times[:, 1, 0])
    joules = 3.0 * cost[:, 0] + trace.base_power * (sending + trip)
    joules = joules + trace.joule_per_bit * cost[:, 1]
    assert outcomes.energy_j.sum() == pytest.approx(joules.sum(), rel=1e-10)
    assert last.battery == pytest.approx(1e9 - joules.sum(), abs=1e-3)
    weights = problem.scenario.latency_weight * trace.priority / trace.deadline
    expected = (weights * latency).sum()
    expected += 1.3 * (trace.priority * (latency > trace.deadline)).sum()
    paid = outcomes.latency_cost + outcomes.miss_cost + outcomes.delay_cost
    assert paid.sum() == pytest.approx(expected, rel=1e-10)
    # Some were overtaken, and those were answered later than they would have been.
    gained = latency - outcomes.latency_s
    assert (gained > 1e-6).sum() > 5 and outcomes.delay_caused_s.sum() > 0.01
    assert {(True, False), (False, True), (True, True)} == set(
        zip(device_s > 0, edge_s > 0, strict=True)
    )
    # The work that is left is that of the simulation of the frames so far.
    for k in range(10, count, 97):
        frames = slice(k)
        args = (a[frames] for a in (trace.arrival, device_s, cost[:, 1], edge_s, trip))
        times, _ = simulate(*args, moments, rates)
        ends = np.nanmax(times[..., 1], axis=0)
        free = np.maximum(model.all_done(states), trace.arrival[:, None])[k]
        np.testing.assert_allclose(free, np.maximum(ends, trace.arrival[k]), rtol=1e-9)


DROPS = {
    "timeouts": {"timeout_s": 0.45, "deadline": (0.1, 0.4), "battery": 60.0},
    "battery": {"timeout_s": 0.6, "battery": 7.0},
}


@pytest.mark.parametrize("seed", slow_except(range(4), 0))
@pytest.mark.parametrize("kind", DROPS)
def test_every_decision_pays_for_what_it_changes(seed, kind):
    """Against whole simulations with and without the frame; whoever is dropped is in none."""
    rng = np.random.default_rng(seed)
    net = cases.random_network(rng, exits=2, bits=4e3)
    problem = EarlyExitPartition(
        cases.scenario(
            network=net.graph,
            horizon=70,
            candidates=2000,
            arrival_rates=(10.0, 30.0),
            bandwidth=QUICK,
            technologies=cases.GIVEN["technologies"],
            **DROPS[kind],
        )
    )
    trace = arrays.at(problem.sample(rng, 1), 0)
    exits, partitions = mixed_decisions(rng, problem)
    outcomes, states, last = play(problem, trace, exits, partitions)
    expected = cases.simulated(problem, arrays.map_arrays(np.asarray, trace), exits, partitions)
    served = expected.why == "served"
    assert np.array_equal(outcomes.dropped, ~served)
    assert np.array_equal(outcomes.battery_short, expected.why == "battery")
    assert np.array_equal(outcomes.timed_out, expected.why == "timeout")
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(outcomes.latency_s[served], expected.own[served], **close)
    np.testing.assert_allclose(outcomes.delay_caused_s, expected.caused, **close)
    np.testing.assert_allclose(outcomes.misses_caused, expected.misses, **close)
    np.testing.assert_allclose(outcomes.delay_cost, expected.cost, **close)
    np.testing.assert_allclose(outcomes.energy_j, expected.joules, **close)
    assert last.battery == pytest.approx(expected.battery, abs=1e-9)
    # Whoever is started is answered within the timeout, and the battery is never overdrawn.
    assert expected.latency.max() <= problem.scenario.timeout_s * (1 + 1e-12)
    assert min(states.battery.min(), last.battery) >= 0
    assert (expected.why == kind.removesuffix("s")).sum() > 5 and served.sum() > 8


def test_somebody_may_gain_from_another_ones_delay():
    """Who was behind the frame that is delayed may be before it now.

    Frame 0 is sent raw, 0 to 0.12, and is at the edge at 0.32. Frame 1: device 0.02 to 0.17, link
    to 0.186, at the edge from 0.316 to 0.33, so that frame 0 waits: 0.33 to 0.368. Frame 2 is
    sent raw, 0.12 to 0.24, so that frame 1 is sent until 0.256: frame 0 is answered at 0.358,
    0.01 s sooner, and frame 1 at 0.386 + 0.014 = 0.4, 0.07 s later.
    """
    slots = [
        one_slot(interval=0.02, round_trip=0.2),
        one_slot(arrival=0.02, interval=0.02, round_trip=0.13),
        one_slot(arrival=0.04, round_trip=0.5),
    ]
    outcomes, _ = steps(PROBLEM, slots, [(LATE, 0), (LATE, 4), (LATE, 0)])
    np.testing.assert_allclose([o.latency_s for o in outcomes], [0.358, 0.31, 0.738], rtol=1e-13)
    np.testing.assert_allclose([o.delay_caused_s for o in outcomes], [0, 0.01, 0.06], atol=1e-14)


@pytest.mark.parametrize("seed", range(2))
def test_a_clock_that_starts_later_changes_nothing(seed):
    """Moments count from the begin of the episode; only their differences matter."""
    rng = np.random.default_rng(seed)
    slots, now = cases.busy_states(PROBLEM, rng, 60)
    late = 64.0
    after = dataclasses.replace(
        slots, arrival=slots.arrival + late, uplink=slots.uplink + np.array([[late], [0.0], [0.0]])
    )
    moved = now.under_way.copy()
    moved[:, [model.READY, model.SENT, model.DONE, model.DUE, model.LIMIT]] += (
        late * (model.occupied(moved)[:, None])
    )
    then = dataclasses.replace(now, free=now.free + late, under_way=moved)
    decision = cases.random_decisions(rng, (60,), HAND_SIZES)
    for name, value in arrays.as_dict(PROBLEM.step(slots, now, decision)[1]).items():
        other = getattr(PROBLEM.step(after, then, decision)[1], name)
        np.testing.assert_allclose(other, value, atol=1e-11, err_msg=name)
    assert model.occupied(now.under_way).any(axis=-1).sum() > 10


# --- properties

TIMES = st.lists(st.floats(0.0, 2.0), min_size=3, max_size=3)
SOME = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 2.0)), min_size=3, max_size=3)


@given(SOME, TIMES, TIMES)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_more_backlog_never_makes_a_frame_earlier(service, backlog, more):
    service, backlog = np.array(service), np.array(backlog)
    trip = 0.1 * (service[1] > 0)
    plan = plan_alone(service, trip, backlog)
    later = plan_alone(service, trip, backlog + more)
    assert later.done >= plan.done - 1e-12 and later.device_free >= plan.device_free
    # Nor does more work, anywhere it has some.
    longer = np.where(service > 0, service + more, 0.0)
    assert plan_alone(longer, trip, backlog).done >= plan.done - 1e-12
    assert plan.done >= service.sum() + trip - 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_more_backlog_and_less_battery_never_earn_more(seed):
    rng = np.random.default_rng(seed)
    slots, now = cases.random_slots(rng, (2000,)), cases.random_states(rng, (2000,))
    # At a rate that rises, who is sent later may need less energy.
    uplink = uplink_of(np.zeros((2000, 1)), slots.bandwidth[:, None])
    slots = dataclasses.replace(slots, uplink=uplink)
    worse = cases.state_of(
        now.free + 0.3 * rng.random((2000, 3)) * (rng.random((2000, 3)) < 0.5),
        battery=now.battery * rng.choice([1.0, 0.9, 0.1], 2000),
        frames_left=now.frames_left,
    )
    decision = cases.random_decisions(rng, (2000,), HAND_SIZES)
    _, better_off = PROBLEM.step(slots, now, decision)
    _, worse_off = PROBLEM.step(slots, worse, decision)
    assert (worse_off.latency_s >= better_off.latency_s - 1e-12).all()
    assert (worse_off.dropped >= better_off.dropped).all()
    assert (worse_off.deadline_missed >= better_off.deadline_missed).all()
    # A frame that is dropped saves its energy, and that is all it can save.
    reward = PROBLEM.reward(worse_off) - np.where(
        worse_off.dropped, PROBLEM.scenario.energy_weight * better_off.energy_j, 0.0
    )
    assert (reward <= PROBLEM.reward(better_off) + 1e-12).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_worse_decision_never_earns_more(seed):
    """No better in any of costs and gains: no more reward, for any two decisions of a slot."""
    rng = np.random.default_rng(seed)
    slots, now = cases.busy_states(PROBLEM, rng, 300)
    exits = np.repeat([0, 1], HAND_SIZES)[:, None]
    partitions = np.concatenate([np.arange(s) for s in HAND_SIZES])[:, None]
    _, outcome = PROBLEM.step(slots, now, Decision(exit=exits, partition=partitions))
    reward = PROBLEM.reward(outcome)
    compared = 0
    for a, b in itertools.permutations(range(sum(HAND_SIZES)), 2):
        worse = outcome.accuracy[a] <= outcome.accuracy[b]
        for name in PROBLEM.costs:
            worse &= getattr(outcome, name)[a] >= getattr(outcome, name)[b]
        assert (reward[a] <= reward[b] + 1e-12)[worse].all()
        compared += worse.sum()
    assert compared > 2000
    assert (outcome.delay_caused_s > 0).any()


@pytest.mark.parametrize("seed", range(2))
def test_what_is_worse_in_the_end_never_earns_more(seed):
    """All sequences of three decisions: if no frame is better off in the end, nor is the return."""
    rng = np.random.default_rng(seed)
    problem = EarlyExitPartition(
        cases.scenario(
            horizon=3,
            arrival_rates=(30.0,),
            bandwidth=QUICK,
            battery=1.0,
            technologies=cases.GIVEN["technologies"],
        )
    )
    table, compared, caused = problem.scenario.table, 0, 0
    pairs = [(n, k) for n, size in enumerate(HAND_SIZES) for k in range(size)]
    exits, cuts = np.moveaxis(
        np.array(list(itertools.product(pairs, repeat=3))), -1, 0
    )  # (1000, 3)
    for _ in range(4):
        trace = arrays.at(problem.sample(rng, 1), 0)
        now, total, outcomes = problem.start(arrays.slot_of(trace, 0)), 0.0, []
        for t in range(3):
            decision = Decision(exit=exits[:, t], partition=cuts[:, t])
            now, outcome = problem.step(arrays.slot_of(trace, t), now, decision)
            total = total + problem.reward(outcome)
            outcomes.append(outcome)
        played = arrays.map_arrays(lambda *a: np.stack(a, axis=-1), *outcomes)
        started = ~played.dropped
        way = travel(
            np.broadcast_to(trace.arrival, exits.shape),
            played.device_s * started,
            table.cost[exits, cuts, 1] * started,
            played.edge_s * started,
            curve_of(arrays.slot_of(trace, 0)),
            trace.round_trip,
        )
        latency = np.where(started, way.edge_finish - trace.arrival, problem.scenario.timeout_s)
        right, spent = played.accuracy, played.energy_j.sum(axis=-1)
        caused += (played.delay_caused_s > 0).sum()
        for one in range(0, 1000, 7):
            worse = (latency >= latency[one]).all(-1) & (right <= right[one]).all(-1)
            worse &= (played.dropped >= played.dropped[one]).all(-1) & (spent >= spent[one])
            assert (total[worse] <= total[one] + 1e-9).all()
            compared += worse.sum() - 1
    assert compared > 1000 and caused > 100


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
