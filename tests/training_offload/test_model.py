"""The equations of [Chen2025] against hand arithmetic and against a scalar oracle."""

import dataclasses

import numpy as np
import pytest
import training_offload.oracle as oracle
from training_offload.oracle import MBIT, VARIANTS, random_scenario, random_slot

from mec_gym.core import arrays
from mec_gym.training_offload import model
from mec_gym.training_offload.model import Decision, Route, State
from mec_gym.training_offload.scenario import Scenario, Slot

# No two rates are alike, so that no two can be swapped unnoticed.
ROUTE = Route(
    uplink_i=np.array(8 * MBIT),
    downlink_i=np.array(5 * MBIT),
    compute_i=np.array(4 * MBIT),
    uplink_j=np.array(6 * MBIT),
    downlink_j=np.array(3 * MBIT),
    compute_j=np.array(10 * MBIT),
    connection_time=np.array(12.0),
)
RHO = 0.5
# x_i (Mbit) of an example of each case: recv = x/8, recv + proc = 3x/8, total = 19x/40.
X = {1: 120.0, 2: 64.0, 3: 30.0, 4: 20.0}


def asymmetric(variant="finish", **changes):
    values = {
        "variant": variant,
        "deadline": 1000.0,
        "slot_s": 1000.0,
        "device_compute": 3.25 * MBIT,
        "cloud_compute": 16 * MBIT,
        "cloud_uplink": 2.5 * MBIT,
        "cloud_downlink": 4 * MBIT,
        "result_ratio": RHO,
        "device_energy": 0.3 / MBIT,
        "radio_energy": 0.2 / MBIT,
        "backhaul": 20 * MBIT,
        "handover_s": 0.25,
    }
    return Scenario(**{**values, **changes})


def asymmetric_slot(work=200.0):
    """ROUTE as a slot: server 1 of region 0 and server 2 of region 1 among decoys."""
    return Slot(
        work=np.array(work * MBIT),
        connection_time=np.array(12.0),
        connection_estimate=np.array(99.0),
        position=np.array(0.0),
        speed=np.array(0.0),
        uplink=MBIT * np.array([[91.0, 8.0, 92.0], [93.0, 94.0, 6.0]]),
        downlink=MBIT * np.array([[81.0, 5.0, 82.0], [83.0, 84.0, 3.0]]),
        compute=MBIT * np.array([[71.0, 4.0, 72.0], [73.0, 74.0, 10.0]]),
    )


def full_battery(joules=1e9):
    return State(battery=np.array(joules), tasks_left=np.array(1.0))


def split(edge, cloud, server=0, next_server=0):
    return Decision(
        edge_share=np.asarray(edge),
        cloud_share=np.asarray(cloud),
        server=np.asarray(server),
        next_server=np.asarray(next_server),
    )


def bits(mbit):
    return np.array(mbit * MBIT)


@pytest.mark.parametrize(
    ("x", "delays"),
    [
        (50.0, {"literal": 7.8980, "finish": 7.3980, "split": 7.3980}),
        (103.0, dict.fromkeys(VARIANTS, 15.7759)),
        (180.0, {"literal": 16.8800, "finish": 27.3128, "split": 28.5710}),
        (225.1, dict.fromkeys(VARIANTS, 36.0492)),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_edge_delays_of_the_paper(variant, x, delays):
    scenario = Scenario(variant=variant, connection_time=(15, 15))
    slot = arrays.at(scenario.sample(np.random.default_rng(0), 1), (0, 0))
    slot = dataclasses.replace(slot, work=bits(350.0))
    _, outcome = model.evaluate(slot, full_battery(), split(x / 350, 60 / 350), scenario)
    assert outcome.edge_s == pytest.approx(delays[variant], abs=5e-5)


@pytest.mark.parametrize("case", X)
@pytest.mark.parametrize("variant", VARIANTS)
def test_case(variant, case):
    assert model.migration_case(bits(X[case]), ROUTE, asymmetric(variant)) == case


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (1, 12.0),  # T_ct
        (2, 8.0),  # 64/8
        (3, 4.5),  # 12 - 30/4
        (4, 4.5),  # 20/8 + 10/5
    ],
)
def test_equation_1(case, expected):
    got = model.communication_i(bits(X[case]), ROUTE, np.array(case), RHO)
    assert got == pytest.approx(expected, rel=1e-12)


def test_results_left_at_the_hand_over():
    # 30/8 + 30/4 = 11.25 s, so 0.75 s at 5 Mbit/s of the 15 Mbit come back.
    assert model.unreturned(bits(30.0), ROUTE, RHO) == pytest.approx(11.25 * MBIT, rel=1e-12)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (1, 24.0),  # (120 - 8*12)/6 + 60/3
        (2, 32 / 3),
        (3, 3.75),  # 11.25/3
        (4, 0.0),
    ],
)
def test_equation_2(case, expected):
    got = model.communication_j(bits(X[case]), ROUTE, np.array(case), RHO)
    assert got == pytest.approx(expected, rel=1e-12)


def test_equations_3_and_7():
    # 40/2.5 + 20/4 + 40/16
    assert model.cloud_delay(bits(40.0), asymmetric()) == pytest.approx(23.5, rel=1e-12)
    per_mbit = asymmetric().cloud_seconds_per_bit * MBIT
    assert per_mbit == pytest.approx(0.4 + 0.125 + 0.0625, rel=1e-12)


def test_equation_6():
    delay = model.device_delay(bits(200.0), bits(30.0), bits(40.0), 3.25 * MBIT)
    assert delay == pytest.approx(40.0, rel=1e-12)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (1, 0.25 + 4.8),  # 96/20
        (2, 0.25 + 1.6),  # 32/20
        (3, 0.25 + 0.5625),  # 11.25/20
        (4, 0.0),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_equation_8(variant, case, expected):
    got = model.migration(bits(X[case]), ROUTE, np.array(case), asymmetric(variant))
    if case == 4 and variant == "literal":
        expected = 0.25  # as printed, T_HO is charged though nobody moves
    assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "delays"),
    [
        # (10), max on the backhaul: 12 + 0.25 + 96/20 + 120/10 + 60/3, with (4) 0 and (5) 12
        (120.0, dict.fromkeys(VARIANTS, 49.05)),
        # (10), max on the rest of the upload: 12 + 0.25 + (132 - 96)/6 + 132/10 + 66/3
        (132.0, dict.fromkeys(VARIANTS, 53.45)),
        # case 2: 8 s upload; 32 Mbit of results take 32/3 s to return and 1.6 s to migrate
        (
            64.0,
            {
                "finish": 8 + 32 / 3 + 1.85 + 16,  # i trains 64/4 s
                "literal": 8 + 32 / 3 + 1.85 + 4,  # (11): T_ct - recv
                "split": 12 + 0.25 + (48 + 8) / 20 + 48 / 10 + 32 / 3,  # C = 4 (12 - 8) = 16
            },
        ),
        # (12), case 3: com_i 4.5, com_j 3.75, comp_i 7.5, migration 0.8125
        (30.0, dict.fromkeys(VARIANTS, 16.5625)),
        # (12), case 4: 2.5 + 5 + 2
        (20.0, {"finish": 9.5, "split": 9.5, "literal": 9.75}),
        # nothing at the edge
        (0.0, {"finish": 0.0, "split": 0.0, "literal": 0.25}),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_equations_10_to_12(variant, x, delays):
    scenario = asymmetric(variant)
    case = model.migration_case(bits(x), ROUTE, scenario)
    got = model.edge_delay(bits(x), ROUTE, case, scenario)
    assert got == pytest.approx(delays[variant], rel=1e-12)


def test_equations_13_to_15():
    # 130 * 0.3 trained at home, (30 + 40) * 1.5 over the radio at 0.2
    got = model.energy(bits(200.0), bits(30.0), bits(40.0), asymmetric())
    assert got == pytest.approx(39.0 + 21.0, rel=1e-12)
    assert asymmetric().energy_per_offloaded_bit * MBIT == pytest.approx(0.3, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "latency"),
    [(30.0, 40.0, 40.0), (30.0, 100.0, 58.75), (120.0, 10.0, 49.05)],  # device, cloud, edge
)
def test_equation_9_is_the_slowest_of_three(x, y, latency):
    decision = split(x / 200, y / 200, 1, 2)
    _, outcome = model.evaluate(asymmetric_slot(), full_battery(), decision, asymmetric())
    assert outcome.latency_s == outcome.delay_s == pytest.approx(latency, rel=1e-12)


# Boundaries hit exactly: all numbers are short binary fractions of Mbit.
EDGES = {  # x_i of the boundary for T_ct = 12: what `literal` says, what the others say
    "recv": (96.0, 4, 2),
    "trained": (32.0, 4, 3),
    "total": (24.0, 4, 4),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_boundary_convention(variant, edge):
    x, literal, others = EDGES[edge]
    down = {"recv": 5.0, "trained": 5.0, "total": 4.0}[edge]  # 24/8 + 24/4 + 12/4 = 12
    r = dataclasses.replace(ROUTE, downlink_i=np.array(down * MBIT))
    scenario = asymmetric(variant)
    case = literal if variant == "literal" else others
    found = model.migration_case(bits(x), r, scenario)
    assert found == case
    slot = dataclasses.replace(asymmetric_slot(), downlink=MBIT * np.full((2, 3), 3.0))
    slot.downlink[0, 1] = down * MBIT
    k = oracle.link(scenario, slot, 1, 2)
    assert oracle.case(k, x, variant) == case
    expected = oracle.edge(k, x, variant)
    assert model.edge_delay(bits(x), r, found, scenario) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_evaluate_equals_the_scalar_oracle(variant):
    rng = np.random.default_rng(1)
    seen = np.zeros(5, dtype=int)
    for _ in range(60):
        servers = int(rng.integers(1, 4))
        scenario = random_scenario(rng, variant, servers, deadline=float(rng.uniform(10, 100)))
        slots = random_slot(rng, (50,), servers)
        shares = rng.dirichlet([1, 1, 1], 50)
        shares[rng.random((50, 3)) < 0.05] = 0  # nothing at the edge, in the cloud
        decision = split(shares[:, 0], shares[:, 1], *rng.integers(servers, size=(2, 50)))
        state = State(battery=rng.uniform(0, 150, 50), tasks_left=1.0 + np.arange(50) % 8)
        after, outcome = model.evaluate(slots, state, decision, scenario)
        assert np.array_equal(after.battery, state.battery - outcome.energy_j)
        assert np.array_equal(after.tasks_left, state.tasks_left - 1)
        for n in range(50):
            d, got = arrays.at(decision, n), arrays.at(outcome, n)
            k = oracle.link(scenario, arrays.at(slots, n), d.server, d.next_server)
            x, y = d.edge_share * k.work, d.cloud_share * k.work
            assert got.case == oracle.case(k, x, variant)
            seen[got.case] += 1
            assert got.edge_s == pytest.approx(oracle.edge(k, x, variant), rel=1e-11)
            assert got.device_s == pytest.approx(oracle.comp_l(k, x, y), rel=1e-9, abs=1e-9)
            assert got.cloud_s == pytest.approx(oracle.com_c(k, y) + oracle.comp_c(k, y), rel=1e-11)
            delay, joules = oracle.delay(k, x, y, variant), oracle.energy(k, x, y)
            assert got.delay_s == pytest.approx(delay, rel=1e-11)
            short = joules > state.battery[n]
            late = not short and delay > scenario.deadline
            assert (got.battery_short, got.deadline_missed) == (short, late)
            assert got.dropped == (short or late)
            expected = scenario.deadline if short or late else delay
            assert got.latency_s == pytest.approx(expected, rel=1e-11)
            assert got.energy_j == pytest.approx(0.0 if short else joules, rel=1e-9)
    assert seen[1:].min() > 100  # else the comparison says little


SPLIT_60 = split(30 / 200, 40 / 200, 1, 2)


@pytest.mark.parametrize(
    ("battery", "deadline", "short", "late", "latency", "joules"),
    [
        (60.1, 40.1, False, False, 40.0, 60.0),
        (59.9, 40.1, True, False, 40.1, 0.0),  # not started, costs nothing
        (60.1, 39.9, False, True, 39.9, 60.0),  # started, costs all of it
        (59.9, 39.9, True, False, 39.9, 0.0),  # never started, so it misses no deadline
    ],
)
def test_limits_17_and_18(battery, deadline, short, late, latency, joules):
    scenario = asymmetric(deadline=deadline)
    after, got = model.evaluate(asymmetric_slot(), full_battery(battery), SPLIT_60, scenario)
    assert (got.battery_short, got.deadline_missed, got.dropped) == (short, late, short or late)
    assert got.latency_s == pytest.approx(latency, rel=1e-12)
    assert got.energy_j == pytest.approx(joules, rel=1e-12)
    assert after.battery == pytest.approx(battery - joules, rel=1e-12)
    assert after.tasks_left == 0


def test_a_limit_met_exactly_is_met():
    _, free = model.evaluate(asymmetric_slot(), full_battery(), SPLIT_60, asymmetric())
    scenario = asymmetric(deadline=float(free.latency_s))
    state = full_battery(float(free.energy_j))
    after, outcome = model.evaluate(asymmetric_slot(), state, SPLIT_60, scenario)
    assert not outcome.dropped and after.battery == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_broadcasting_equals_a_loop(variant):
    rng = np.random.default_rng(2)
    p, b, servers = 7, 11, 3
    scenario = random_scenario(rng, variant, servers, deadline=60.0)
    slots = random_slot(rng, (b,), servers)
    state = State(battery=rng.uniform(20, 150, b), tasks_left=np.ones(b))
    shares = rng.dirichlet([1, 1, 1], (p, b))
    decision = split(shares[..., 0], shares[..., 1], *rng.integers(servers, size=(2, p, b)))
    _, together = model.evaluate(slots, state, decision, scenario)
    for q in range(p):
        for n in range(b):
            _, alone = model.evaluate(
                arrays.at(slots, n), arrays.at(state, n), arrays.at(decision, (q, n)), scenario
            )
            for name, value in arrays.as_dict(alone).items():
                assert getattr(together, name)[q, n] == value, name
