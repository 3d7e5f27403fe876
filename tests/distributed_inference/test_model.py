"""Equations (2)-(8), (11), (12) and contention, by hand and against a scalar oracle."""

import dataclasses

import numpy as np
import pytest
from distributed_inference import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.core import arrays
from mec_gym.distributed_inference import model
from mec_gym.distributed_inference.model import Decision, Outcome, State
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import (
    Channel,
    ConstantChannel,
    RandomNetworks,
    Scenario,
    Slot,
)

M, G = 1e6, 1e9

# Three devices, two servers, two blocks; no two numbers that could be confused are alike.
WORLD = Scenario(
    devices=3,
    servers=2,
    blocks=2,
    tasks=2,
    networks=RandomNetworks(),
    backhaul=40 * M,
    battery=50.0,
    harvest=3.0,
    compute_power=(0.4, 25.6),
    transmit_power=0.5,
    latency_weight=2.0,
    late_weight=0.6,
    miss_cost=0.25,
)
LONELY = dataclasses.replace(WORLD, contention=False)

FIRST = Slot(
    bits=M * np.array([[12.0, 6.0, 1.0], [20.0, 9.0, 3.0], [8.0, 4.0, 2.0]]),
    work=G * np.array([[4.0, 2.0], [6.0, 3.0], [10.0, 5.0]]),
    blocks_left=np.array(2.0),
    active=np.array([True, True, True]),
    deadline=np.array([4.0, 5.0, 6.0]),
    uplink=M * np.array([[6.0, 3.0], [5.0, 4.0], [2.0, 1.0]]),
    downlink=M * np.array([[24.0, 8.0], [10.0, 40.0], [16.0, 32.0]]),
    load=np.array([1.0, 0.5]),
    device_rate=G * np.array([2.0, 4.0, 8.0]),
    compute_power=np.array([0.4, 3.2, 25.6]),
    server_rate=G * np.array([20.0, 50.0]),
)
LAST = dataclasses.replace(
    FIRST,
    bits=M * np.array([[6.0, 1.0, 0.0], [9.0, 3.0, 0.0], [4.0, 2.0, 0.0]]),
    work=G * np.array([[2.0, 0.0], [3.0, 0.0], [5.0, 0.0]]),
    blocks_left=np.array(1.0),
)


def state(place=(0, 0, 0), delay=(0, 0, 0), failed=(False,) * 3, battery=(50, 50, 50), left=4):
    return State(
        place=np.array(place),
        delay=np.array(delay, dtype=float),
        failed=np.array(failed),
        battery=np.array(battery, dtype=float),
        rounds_left=np.array(float(left)),
    )


def delays(slot, before, place, scenario=WORLD, works=(True, True, True)):
    parts = model.block_delays(slot, np.array(before), np.array(place), np.array(works), scenario)
    return {name: getattr(parts, name).tolist() for name in ("local", "edge", "upload", "other")}


def close(found, **expected):
    """Every part as given, parts not given 0."""
    for name in found:
        wanted = expected.get(name, [0.0, 0.0, 0.0])
        assert found[name] == pytest.approx(wanted, rel=1e-12, abs=0), name


# ------------------------------------------------------------------------------- delays


@pytest.mark.parametrize("scenario", [WORLD, LONELY])
def test_at_home_the_work_takes_its_time(scenario):
    # (3): 4/2, 6/4, 10/8
    close(delays(FIRST, [0, 0, 0], [0, 0, 0], scenario), local=[2.0, 1.5, 1.25])
    # the last block as well: 2/2, 3/4, 5/8; and nothing has to be sent back
    close(delays(LAST, [0, 0, 0], [0, 0, 0], scenario), local=[1.0, 0.75, 0.625])


@pytest.mark.parametrize("scenario", [WORLD, LONELY])
def test_one_block_on_a_server_meets_the_other_tenants_only(scenario):
    # server 1: 4 (1 + 1) / 20 after 12/6;  server 2: 6 (1 + 0.5) / 50 after 20/4
    close(
        delays(FIRST, [0, 0, 0], [1, 2, 0], scenario),
        local=[0, 0, 1.25],
        edge=[0.4, 0.18, 0],
        upload=[2.0, 5.0, 0],
    )
    close(
        delays(FIRST, [0, 0, 0], [2, 0, 1], scenario),
        local=[0, 1.5, 0],
        edge=[0.12, 0, 1.0],
        upload=[4.0, 0, 4.0],
    )


def test_an_empty_server_is_no_trouble():
    # neither tenants nor blocks of ours: no division by zero (warnings are errors)
    empty = dataclasses.replace(FIRST, load=np.array([0.0, 0.0]))
    close(delays(empty, [0, 0, 0], [0, 0, 0]), local=[2.0, 1.5, 1.25])
    close(
        delays(empty, [0, 1, 0], [0, 0, 2]),
        local=[2.0, 1.5, 0],
        edge=[0, 0, 0.2],
        upload=[0, 0, 8.0],
        other=[0, 2.0, 0],
    )


def test_two_blocks_share_the_server_with_the_tenants_and_the_band_with_each_other():
    # server 1 carries 2 blocks and 1 tenant: 4 * 3 / 20, 6 * 3 / 20; band: 12 * 2/6, 20 * 2/5
    close(
        delays(FIRST, [0, 0, 0], [1, 1, 2]),
        edge=[0.6, 0.9, 0.3],
        upload=[4.0, 8.0, 8.0],
    )
    # all three: 2 (3 + 0.5) / 50 and so on;  12 * 3/3, 20 * 3/4, 8 * 3/1
    close(
        delays(FIRST, [0, 0, 0], [2, 2, 2]),
        edge=[4 * 3.5 / 50, 6 * 3.5 / 50, 10 * 3.5 / 50],
        upload=[12.0, 15.0, 24.0],
    )


def test_without_contention_nobody_minds():
    close(
        delays(FIRST, [0, 0, 0], [1, 1, 2], LONELY),
        edge=[0.4, 0.6, 0.3],
        upload=[2.0, 4.0, 8.0],
    )


def test_who_is_already_there_shares_the_server_but_not_the_band():
    close(
        delays(FIRST, [0, 1, 0], [1, 1, 0]),
        local=[0, 0, 1.25],
        edge=[0.6, 0.9, 0],
        upload=[2.0, 0, 0],
    )


def test_between_servers_the_backhaul_counts_and_is_not_shared():
    # 12/40 and 20/40, both to server 1; 8/40 the other way round
    close(
        delays(FIRST, [2, 2, 1], [1, 1, 2]),
        edge=[0.6, 0.9, 0.3],
        other=[0.3, 0.5, 0.2],
    )


def test_coming_home_fetches_the_input_from_where_the_block_before_ran():
    # two share the band of station 1: 12 * 2/24, 20 * 2/10; station 2 alone: 8/32
    close(
        delays(FIRST, [1, 1, 2], [0, 0, 0]),
        local=[2.0, 1.5, 1.25],
        other=[1.0, 4.0, 0.25],
    )
    close(
        delays(FIRST, [1, 1, 2], [0, 0, 0], LONELY),
        local=[2.0, 1.5, 1.25],
        other=[0.5, 2.0, 0.25],
    )


def test_up_and_down_are_different_bands():
    # to station 1 goes one, from station 1 comes another
    close(
        delays(FIRST, [0, 1, 2], [1, 0, 2]),
        local=[0, 1.5, 0],
        edge=[0.4, 0, 0.3],
        upload=[2.0, 0, 0],
        other=[0, 2.0, 0],
    )


def test_the_last_block_sends_its_result_back():
    # 1 * 2/24, 3 * 2/10 over station 1; 2/32 over station 2. Work: 2, 3, 5.
    close(
        delays(LAST, [1, 1, 2], [1, 1, 2]),
        edge=[0.3, 0.45, 0.15],
        other=[1 / 12, 0.6, 0.0625],
    )
    close(
        delays(LAST, [1, 1, 2], [1, 1, 2], LONELY),
        edge=[0.2, 0.3, 0.15],
        other=[1 / 24, 0.3, 0.0625],
    )
    # not in the first of two rounds
    close(delays(FIRST, [1, 1, 2], [1, 1, 2]), edge=[0.6, 0.9, 0.3])


def test_without_return_of_results_nothing_comes_back():
    silent = dataclasses.replace(WORLD, return_result=False)
    close(delays(LAST, [1, 1, 2], [1, 1, 2], silent), edge=[0.3, 0.45, 0.15])
    # and takes no share of the band from who comes home
    close(
        delays(LAST, [1, 1, 2], [0, 1, 2], silent),
        local=[1.0, 0, 0],
        edge=[0, 0.3, 0.15],
        other=[6 / 24, 0, 0],
    )


def test_results_and_downloads_share_a_band():
    # from station 1: the input of device 0 (6), the result of device 1 (3)
    close(
        delays(LAST, [1, 1, 2], [0, 1, 2]),
        local=[1.0, 0, 0],
        edge=[0, 0.3, 0.15],
        other=[0.5, 0.6, 0.0625],
    )
    # A block that moves for its last step: 9/40 there, 3/40 back over station 2; the result
    # shares station 2 with device 0's input: 6 * 2/8, 3 * 2/40.
    close(
        delays(LAST, [2, 1, 0], [0, 2, 0]),
        local=[1.0, 0, 0.625],
        edge=[0, 3 * 1.5 / 50, 0],
        other=[1.5, 9 / 40 + 0.15, 0],
    )


def test_first_and_last_block_at_once():
    # A chain of one block: up, computed, and the result down. 6/6 + 2*2/20 + 1/24
    close(
        delays(LAST, [0, 0, 0], [1, 0, 0]),
        local=[0, 0.75, 0.625],
        edge=[0.2, 0, 0],
        upload=[1.0, 0, 0],
        other=[1 / 24, 0, 0],
    )


def test_who_has_no_block_takes_no_time_and_no_share():
    close(
        delays(FIRST, [0, 0, 1], [1, 1, 0], works=[True, False, False]),
        edge=[0.4, 0, 0],
        upload=[2.0, 0, 0],
    )
    close(
        delays(LAST, [1, 1, 1], [0, 0, 1], works=[True, False, False]),
        local=[1.0, 0, 0],
        other=[0.25, 0, 0],
    )


# ------------------------------------------------------------------------------- energy


def test_energy():
    everyone = np.array([True, True, True])
    upload_s = np.array([4.0, 0.0, 0.0])
    # (7): 5e-29 * 6e9 * (4e9)^2 = 4.8;  5e-29 * 10e9 * (8e9)^2 = 32.  (8): 0.5 W * 4 s
    found = model.energy(FIRST, np.array([1, 0, 0]), everyone, upload_s, WORLD)
    assert found.tolist() == pytest.approx([2.0, 4.8, 32.0], rel=1e-12)
    found = model.energy(FIRST, np.array([0, 2, 1]), everyone, 0 * upload_s, WORLD)
    assert found.tolist() == pytest.approx([0.8, 0.0, 0.0], rel=1e-12)
    idle = model.energy(FIRST, np.array([0, 0, 1]), ~everyone, 0 * upload_s, WORLD)
    assert idle.tolist() == [0, 0, 0]


# ------------------------------------------------------------------------------ penalties


def test_lateness_counts_from_the_deadline_to_thrice_the_deadline():
    # rho = 4: up to 4 free; 6 is late by half: 0.25 + 0.6/2; 12 by 2: 0.25 + 1.2; then capped
    delay = np.array([3.0, 4.0, 6.0, 11.0, 12.0, 20.0])
    found = model.lateness_cost(delay, np.full(6, 4.0), WORLD)
    assert found.tolist() == pytest.approx([0, 0, 0.55, 0.25 + 0.6 * 1.75, 1.45, 1.45], rel=1e-12)
    just = model.lateness_cost(np.nextafter([4.0], 5.0), np.array([4.0]), WORLD)
    assert just.tolist() == pytest.approx([0.25])  # a miss is a miss


def test_giving_up_counts_as_the_worst_lateness():
    # 3 * 4 = 12 s in all, of which 1, 13 have passed
    delay, deadline = np.array([1.0, 13.0]), np.array([4.0, 4.0])
    seconds, penalty = model.failure_cost(delay, deadline, 2.0, WORLD)
    assert seconds.tolist() == [11.0, 0.0]
    assert penalty.tolist() == pytest.approx([1.45, 1.45])


def test_giving_up_counts_for_every_block_that_has_a_deadline():
    # 12 s and 1.45 for each of 3 and 1 blocks that are left, whatever has passed
    delay, deadline = np.array([1.0, 13.0]), np.array([4.0, 4.0])
    literal = dataclasses.replace(WORLD, deadline_of="block")
    seconds, penalty = model.failure_cost(delay, deadline, np.array([3.0, 1.0]), literal)
    assert seconds.tolist() == [36.0, 12.0]
    assert penalty.tolist() == pytest.approx([4.35, 1.45])


def test_each_block_may_have_a_deadline_of_its_own():
    # Server 1 as above: 2.4 s and server 2: 5.18 s, at home 1.25 s.
    literal = dataclasses.replace(WORLD, deadline_of="block")
    tight = dataclasses.replace(FIRST, deadline=np.array([1.2, 5.18, 1.0]))
    # What has passed does not matter: D is the block's.
    moment = state(delay=[9.0, 9.0, 9.0])
    after, outcome = model.evaluate(tight, moment, Decision(place=np.array([1, 2, 0])), literal)
    assert after.delay.tolist() == pytest.approx([11.4, 14.18, 10.25])
    # Late by 1 and by 0.25 deadlines: 0.25 + 0.6 * 1 and 0.25 + 0.6 * 0.25.
    assert float(outcome.penalty) == pytest.approx(0.85 + 0.4, rel=1e-12)
    assert (int(outcome.deadline_missed), int(outcome.finished)) == (2, 0)
    # The same round, the whole task having the deadline: nothing is due yet.
    _, later = model.evaluate(tight, moment, Decision(place=np.array([1, 2, 0])), WORLD)
    assert (float(later.penalty), int(later.deadline_missed)) == (0.0, 0)


# ---------------------------------------------------------------------------- whole rounds


def outcome_of(slot, before, place, scenario=WORLD):
    after, outcome = model.evaluate(slot, before, Decision(place=np.array(place)), scenario)
    return after, {name: value.item() for name, value in arrays.as_dict(outcome).items()}


def holds(after, **expected):
    for name, value in expected.items():
        found = getattr(after, name).tolist()
        assert found == (
            value if name in ("place", "failed") else pytest.approx(value, rel=1e-12)
        ), name


def test_a_round_in_the_middle_of_a_task():
    after, outcome = outcome_of(FIRST, state(delay=[0.5, 0, 1]), [1, 1, 0])
    assert outcome == pytest.approx(
        {
            "latency_s": 4.6 + 8.9 + 1.25,  # see the tests of delays
            "local_s": 1.25,
            "edge_s": 0.6 + 0.9,
            "transfer_s": 4.0 + 8.0,
            "energy_j": 2.0 + 4.0 + 32.0,
            "penalty": 0.0,
            "finished": 0,
            "deadline_missed": 0,
            "dropped": 0,
        },
        rel=1e-12,
    )
    # income 3 J, but device 0 is full: 50 - 2 + 3 > 50
    holds(
        after,
        place=[1, 1, 0],
        delay=[5.1, 8.9, 2.25],
        failed=[False] * 3,
        battery=[50, 49, 21],
        rounds_left=3,
    )


def test_the_last_round_counts_what_is_late_and_clears_the_table():
    # delays as in "the last block sends its result back":
    steps = [0.3 + 1 / 12, 0.45 + 0.6, 0.15 + 0.0625]
    # device 0 comes to 3.38 of 4; device 1 to 4.95 + 1.05 = 6 of 5, late by 0.2; device 2 far over
    before = state(place=[1, 1, 2], delay=[3.0, 4.95, 100.0], left=1)
    after, outcome = outcome_of(LAST, before, [1, 1, 2])
    assert outcome == pytest.approx(
        {
            "latency_s": sum(steps),
            "local_s": 0.0,
            "edge_s": 0.9,
            "transfer_s": 1 / 12 + 0.6 + 0.0625,
            "energy_j": 0.0,
            "penalty": 0.25 + 0.6 * 0.2 + 1.45,
            "finished": 3,
            "deadline_missed": 2,
            "dropped": 0,
        },
        rel=1e-12,
    )
    holds(
        after, place=[0, 0, 0], delay=[0, 0, 0], failed=[False] * 3, battery=[50] * 3, rounds_left=0
    )


def test_exactly_at_the_deadline_is_in_time():
    before = state(delay=[3.0, 4.25, 5.375])  # + 1, 0.75, 0.625 at home
    _, outcome = outcome_of(LAST, before, [0, 0, 0])
    assert (outcome["finished"], outcome["deadline_missed"]) == (3, 0)
    assert outcome["penalty"] == 0


def test_a_device_that_cannot_pay_gives_its_task_up():
    # Device 1 needs 0.5 W * 8 s = 4 J; it has asked for its share: device 0 is no faster.
    before = state(delay=[0.5, 2.0, 1], battery=[50, 3.9, 50])
    after, outcome = outcome_of(FIRST, before, [1, 1, 0])
    assert outcome == pytest.approx(
        {
            "latency_s": 4.6 + (3 * 5.0 - 2.0) + 1.25,
            "local_s": 1.25,
            "edge_s": 0.6,
            "transfer_s": 4.0,
            "energy_j": 2.0 + 32.0,
            "penalty": 1.45,
            "finished": 0,
            "deadline_missed": 0,
            "dropped": 1,
        },
        rel=1e-12,
    )
    holds(
        after,
        place=[1, 0, 0],
        delay=[5.1, 2.0, 2.25],
        failed=[False, True, False],
        battery=[50, 6.9, 21],
        rounds_left=3,
    )
    # From now on it has no block: whatever it says costs nothing and slows nobody.
    later, outcome = outcome_of(LAST, after, [1, 1, 0])
    assert outcome == pytest.approx(
        {
            "latency_s": 0.2 + 1 / 24 + 0.625,
            "local_s": 0.625,
            "edge_s": 0.2,
            "transfer_s": 1 / 24,
            "energy_j": 16.0,  # 5e-29 * 5e9 * (8e9)^2
            "penalty": 0.25 + 0.6 * (5.1 + 0.2 + 1 / 24 - 4) / 4,
            "finished": 2,
            "deadline_missed": 1,
            "dropped": 0,
        },
        rel=1e-12,
    )
    # The next task finds it willing again.
    holds(
        later,
        place=[0, 0, 0],
        delay=[0, 0, 0],
        failed=[False] * 3,
        battery=[50, 9.9, 8.0],
        rounds_left=2,
    )


def test_a_battery_that_just_pays_pays():
    just = state(battery=[50, 4.0, 32.0])
    after, outcome = outcome_of(FIRST, just, [1, 1, 0], dataclasses.replace(WORLD, harvest=0.0))
    assert outcome["dropped"] == 0
    assert after.battery[1] == 0
    _, outcome = outcome_of(FIRST, state(battery=[50, 50, 31.9]), [0, 0, 0])
    assert outcome["dropped"] == 1


def test_giving_up_in_the_last_round():
    before = state(place=[0, 0, 0], delay=[1.0, 20.0, 1.0], battery=[0.3, 2.0, 50.0])
    # at home: 5e-29 * 2e9 * (2e9)^2 = 0.4 J, 5e-29 * 3e9 * (4e9)^2 = 2.4 J: neither can pay
    after, outcome = outcome_of(LAST, before, [0, 0, 0])
    assert outcome["dropped"] == 2
    assert outcome["finished"] == 1
    assert outcome["deadline_missed"] == 0  # of those that finished
    assert outcome["penalty"] == pytest.approx(2 * 1.45)
    # 12 - 1 for device 0; device 1 has already spent more than 15
    assert outcome["latency_s"] == pytest.approx(11.0 + 0.0 + 0.625)
    holds(after, failed=[False] * 3, delay=[0, 0, 0], battery=[3.3, 5.0, 37.0])


def test_who_is_idle_costs_nothing_but_charges():
    slot = dataclasses.replace(FIRST, active=np.array([False, False, True]))
    before = state(battery=[10, 49, 40])
    after, outcome = outcome_of(slot, before, [1, 0, 1])
    alone = 10 * 2 / 20, 8 / 2  # device 2 on server 1, the tenant beside it
    assert outcome["latency_s"] == pytest.approx(sum(alone))
    assert outcome["energy_j"] == pytest.approx(2.0)
    assert (outcome["penalty"], outcome["dropped"]) == (0, 0)
    holds(after, place=[0, 0, 1], delay=[0, 0, 5.0], battery=[13, 50, 41])
    # nor at the end of the period
    slot = dataclasses.replace(LAST, active=np.array([False, False, False]))
    _, outcome = outcome_of(slot, before, [1, 0, 1])
    assert set(outcome.values()) == {0}


# ------------------------------------------------------------------ against the scalar oracle

PARTS = arrays.field_names(Outcome)


def random_scenario(rng):
    """Small, and such that batteries run out and deadlines are missed now and then."""
    harvest = float(rng.choice([0.0, 0.4]))
    channel = ConstantChannel() if rng.random() < 0.3 else Channel()
    return Scenario(
        devices=int(rng.integers(1, 5)),
        servers=int(rng.integers(1, 4)),
        blocks=int(rng.integers(1, 5)),
        tasks=int(rng.integers(1, 4)),
        networks=RandomNetworks() if rng.random() < 0.5 else ("alexnet", "resnet18"),
        channel=channel,
        contention=bool(rng.random() < 0.7),
        background=float(rng.choice([0.0, 1.5])),
        device_rate=(3 * G, 20 * G),
        server_rate=(20 * G, 200 * G),
        backhaul=float(rng.uniform(5, 500)) * M,
        return_result=bool(rng.random() < 0.7),
        deadline_factor=(0.05, 1.2),
        idle=float(rng.choice([0.0, 0.3])),
        battery=float(rng.choice([1.0, 5.0, 1e6])),
        harvest=harvest,
        deadline_of=str(rng.choice(["task", "block"])),
        compute_power=[(1e-9, 1e-9), (0.1, 8.0), (2.0, 40.0)][rng.integers(3)],
        transmit_power=float(rng.choice([0.0, 0.4, 2.0])),
        late_weight=float(rng.uniform(0, 1)),
        miss_cost=float(rng.uniform(0, 1)),
    )


def plain(record, index):
    return {name: value[index].tolist() for name, value in arrays.as_dict(record).items()}


def same(found, expected):
    for name, value in expected.items():
        assert np.allclose(found[name], value, rtol=1e-12, atol=1e-12), (
            name,
            found[name],
            value,
        )


def spread(record, copies):
    """An axis of ``copies`` after the first."""
    return arrays.map_arrays(lambda a: np.repeat(a[:, None], copies, axis=1), record)


def test_whole_episodes_equal_the_oracle_in_every_batch_shape():
    dropped = finished = missed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        s = random_scenario(rng)
        problem = DistributedInference(s)
        trace = oracle.double(problem.sample(rng, 2))
        at_start = problem.start(arrays.slot_at(trace, 0))
        copies = 2
        states = spread(at_start, copies)  # (B, P)
        mine = {(b, p): plain(states, (b, p)) for b in range(2) for p in range(copies)}
        for t in range(s.rounds):
            slot = arrays.slot_at(trace, t)
            place = rng.integers(s.servers + 1, size=(2, copies, s.devices))
            after, outcome = model.evaluate(spread(slot, copies), states, Decision(place=place), s)
            assert outcome.latency_s.shape == outcome.dropped.shape == (2, copies)
            # slots that broadcast give the same
            thin = arrays.map_arrays(lambda a: a[:, None], slot)
            again = model.evaluate(thin, states, Decision(place=place), s)
            for one, two in zip((after, outcome), again, strict=True):
                arrays.map_arrays(np.testing.assert_array_equal, one, two)
            for b in range(2):
                for p in range(copies):
                    choice = place[b, p].tolist()
                    mine[b, p], counted = oracle.play(s, plain(slot, b), mine[b, p], choice)
                    same(plain(after, (b, p)), mine[b, p])
                    same(plain(outcome, (b, p)), counted)
                    dropped += counted["dropped"]
                    finished += counted["finished"]
                    missed += counted["deadline_missed"]
                    if p:
                        continue
                    # batch shape (): the same, by itself
                    single = model.evaluate(
                        arrays.at(slot, b),
                        arrays.at(states, (b, p)),
                        Decision(place=place[b, p]),
                        s,
                    )
                    same(plain(single[0], ()), mine[b, p])
                    same(plain(single[1], ()), counted)
            # batch shape (B,)
            flat = model.evaluate(slot, arrays.slot_at(states, 0), Decision(place=place[:, 0]), s)
            for b in range(2):
                same(plain(flat[0], b), mine[b, 0])
            states = after
    assert min(dropped, finished, missed) > 30  # the cases that matter did occur


def test_traces_as_they_are_drawn_are_precise_enough():
    s = Scenario(networks=RandomNetworks(), battery=1e6)
    problem = DistributedInference(s)
    trace = problem.sample(np.random.default_rng(0), 8)
    place = np.random.default_rng(1).integers(4, size=(8, s.rounds, 5))
    reached = []
    for one in (trace, oracle.double(trace)):
        state, total = problem.start(arrays.slot_at(one, 0)), []
        for t in range(s.rounds):
            slot = arrays.slot_at(one, t)
            state, outcome = problem.step(slot, state, Decision(place=place[:, t]))
            total.append(outcome.latency_s)
        reached.append(np.array(total))
    np.testing.assert_allclose(*reached, rtol=1e-5)


def test_evaluate_leaves_its_arguments_alone():
    rng = np.random.default_rng(0)
    problem = DistributedInference(random_scenario(rng))
    slot = arrays.slot_at(problem.sample(rng, 3), 0)
    before = problem.start(slot)
    decision = Decision(place=np.ones_like(before.place))
    copies = [arrays.map_arrays(np.copy, r) for r in (slot, before, decision)]
    model.evaluate(slot, before, decision, problem.scenario)
    for now, copy in zip((slot, before, decision), copies, strict=True):
        arrays.map_arrays(np.testing.assert_array_equal, now, copy)


# ------------------------------------------------------------------- contention is monotone


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    contention=st.booleans(),
    last=st.booleans(),
    data=st.data(),
)
def test_one_more_block_never_makes_anything_faster(seed, contention, last, data):
    s = oracle.contended(devices=4, servers=2, blocks=2, contention=contention)
    trace = oracle.draw(s, seed, 1)
    slot = arrays.at(trace, (0, 1 if last else 0))
    places = st.lists(st.integers(0, 2), min_size=4, max_size=4)
    before, place = np.array(data.draw(places)), np.array(data.draw(places))
    works = np.array(data.draw(st.lists(st.booleans(), min_size=4, max_size=4)))
    newcomer = data.draw(st.integers(0, 3))
    works[newcomer] = False
    fewer = model.block_delays(slot, before, place, works, s)
    works[newcomer] = True
    more = model.block_delays(slot, before, place, works, s)
    total = 0.0
    for name in ("local", "edge", "upload", "other"):
        few, many = getattr(fewer, name), getattr(more, name)
        assert (many >= few * (1 - 1e-12)).all()
        assert few[newcomer] == 0
        total += many.sum() - few.sum()
    assert total > 0
    others = np.arange(4) != newcomer
    if not contention:
        for name in ("local", "edge", "upload", "other"):
            assert np.array_equal(getattr(more, name)[others], getattr(fewer, name)[others])
    elif place[newcomer] > 0:  # with company on its server, it is felt
        company = works & others & (place == place[newcomer])
        assert (more.edge[company] > fewer.edge[company]).all()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), server=st.integers(0, 1), extra=st.floats(0.1, 10))
def test_more_tenants_slow_down_their_server_only(seed, server, extra):
    rng = np.random.default_rng(seed)
    s = oracle.contended(devices=4, servers=2, blocks=2)
    slot = arrays.at(oracle.draw(s, seed, 1), (0, 0))
    before, place = rng.integers(3, size=(2, 4))
    works = np.ones(4, dtype=bool)
    load = slot.load.copy()
    load[server] += extra
    quiet = model.block_delays(slot, before, place, works, s)
    busy = model.block_delays(dataclasses.replace(slot, load=load), before, place, works, s)
    there = place == server + 1
    assert (busy.edge[there] > quiet.edge[there]).all()
    assert np.array_equal(busy.edge[~there], quiet.edge[~there])
    for name in ("local", "upload", "other"):
        assert np.array_equal(getattr(busy, name), getattr(quiet, name))
