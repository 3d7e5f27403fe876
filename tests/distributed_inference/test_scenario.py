"""What may be set, and what nature does then: chains, channel, load, against theory."""

import dataclasses
import math
import re

import numpy as np
import pytest

from mec_gym.core import arrays
from mec_gym.distributed_inference.scenario import (
    PRESETS,
    Channel,
    ConstantChannel,
    RandomNetworks,
    Scenario,
    patent,
    plane_of,
)
from mec_gym.dnn.graph import Exit, Layer, LayerGraph
from mec_gym.dnn.zoo import load_profile
from mec_gym.network.plane import Plane
from mec_gym.network.radio import Radio

M, G = 1e6, 1e9

# ---------------------------------------------------------------------------- parameters


NOT_NEGATIVE = (
    "background",
    "background_spread",
    "harvest",
    "transmit_power",
    "late_weight",
    "miss_cost",
)
RANGES = ("device_rate", "server_rate", "deadline_factor", "compute_power")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(n, v) for n in ("devices", "servers", "blocks", "tasks") for v in (0, -1, 2.5, True)],
        *[(n, v) for n in ("backhaul", "battery", "input_share") for v in (0, -1.5)],
        ("latency_weight", 0),
        ("deadline_of", "blocks"),
        ("deadline_of", None),
        *[(n, -0.5) for n in NOT_NEGATIVE],
        *[(n, v) for n in ("background_memory", "idle") for v in (-0.1, 1.1)],
        *[(n, 1) for n in ("contention", "return_result")],
        *[(n, (3.0, 2.0)) for n in RANGES],
        ("background_spread", 10.5),
        ("idle", 1.0),
        ("battery", math.inf),
        ("harvest", math.nan),
        ("backhaul", "fast"),
        ("device_rate", 5.0),
        ("server_rate", (1, 2, 3)),
        ("networks", ()),
        ("networks", "alexnet"),
        ("networks", 5),
        ("channel", 5.0),
        ("channel", None),
    ],
)
def test_scenarios_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=rf"^{name}\b.*{re.escape(repr(value))}"):
        Scenario(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[({name: (0, 2.0)}, rf"^{name}\[0\].* 0$") for name in RANGES],
        ({"blocks": 23}, r"^blocks\b.*\[1, 22\].*alexnet.*23"),
        ({"networks": ("resnet18",), "blocks": 100}, r"^blocks\b.*\[1, 23\].*resnet18.*100"),
        ({"networks": (5,)}, r"^networks\b.*5"),
        ({"networks": ("alexnett",)}, r"^networks\b.*alexnet, .*'alexnett'"),
    ],
)
def test_scenarios_of_which_a_part_makes_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        Scenario(**changes)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (Channel, {"shadowing_db": -1}, "shadowing_db.*-1"),
        (Channel, {"shadowing_memory": 1.5}, "shadowing_memory.*1.5"),
        (Channel, {"plane": None}, "plane.*Plane.*None"),
        (Channel, {"uplink": 3}, "uplink.*Radio.*3"),
        (Channel, {"downlink": "x"}, "downlink.*Radio.*'x'"),
        (Channel, {"round_s": 0}, "round_s.*0"),
        (Channel, {"slowest": 0}, "slowest.*0"),
        (Channel, {"penetration_db": -1}, "penetration_db.*-1"),
        (Channel, {"attenuation": 1.5}, "attenuation.*1.5"),
        (Channel, {"attenuation": 0}, "attenuation.*0"),
        (Channel, {"most_bits_per_hz": 0}, "most_bits_per_hz.*0"),
        (Channel, {"interference": 1}, "interference.*1"),
        (Channel, {"slowest": 9e7}, r"slowest.*8.8e\+07.*90000000.0"),
        (ConstantChannel, {"rate": (2, 1)}, r"rate.*\(2.0, 1.0\)"),
        (ConstantChannel, {"rate": (0, 1)}, r"rate\[0\].*0"),
        (RandomNetworks, {"bits": (2, 1)}, r"bits.*\(2.0, 1.0\)"),
        (RandomNetworks, {"work": (0, 1)}, r"work\[0\].*0"),
        (Plane, {"side_m": 0}, "side_m.*0"),
        (Plane, {"speed_std": -1}, "speed_std.*-1"),
        (Plane, {"memory": 2}, "memory.*2"),
    ],
)
def test_parts_that_make_no_sense(make, changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make(**changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(n, 0) for n in (*NOT_NEGATIVE, "idle", "background_memory")],
        ("device_rate", (2.0, 2.0)),
        ("background_memory", 1),
        ("background_spread", 10),
        ("blocks", 22),
    ],
)
def test_what_is_just_allowed(name, value):
    assert getattr(Scenario(**{name: value}), name) == value


def test_presets():
    small = PRESETS["small"].make()
    assert (small.devices, small.servers, small.blocks) == (5, 3, 8)
    assert (PRESETS["campus"].make().devices, PRESETS["campus"].make().servers) == (20, 5)
    assert (PRESETS["city"].make().devices, PRESETS["city"].make().servers) == (100, 20)
    assert small.rounds == small.tasks * 8


def test_the_patent_is_literal():
    s = PRESETS["patent"].make()
    assert s == patent()
    trace = s.sample(np.random.default_rng(0), 20)
    assert not s.contention
    assert not s.return_result
    assert s.deadline_of == "block"
    assert trace.active.all()
    assert not trace.load.any()
    assert np.array_equal(trace.uplink, trace.downlink)
    assert np.array_equal(trace.uplink, np.broadcast_to(trace.uplink[:, :1], trace.uplink.shape))
    assert len(np.unique(trace.uplink[:, 0])) > 0.99 * trace.uplink[:, 0].size
    # so ample that everything at home, always, takes a small share of the battery
    at_home = trace.compute_power * trace.work[..., 0] / trace.device_rate
    assert (at_home.sum(axis=1) < s.battery / 100).all()


# -------------------------------------------------------------------------------- chains


def task_of(s, trace, e, j, n):
    """Chain of a task as its first round tells it."""
    first = j * s.blocks
    return trace.bits[e, first, n], trace.work[e, first, n]


@pytest.mark.parametrize("networks", [RandomNetworks(), ("alexnet", "vgg16")])
def test_every_round_tells_the_chain_from_its_block_on(networks):
    s = Scenario(devices=3, servers=2, blocks=4, tasks=2, networks=networks)
    trace = s.sample(np.random.default_rng(1), 6)
    assert trace.bits.shape == (6, 8, 3, 5)
    assert trace.work.shape == (6, 8, 3, 4)
    for e, j, n in np.ndindex(6, 2, 3):
        bits, work = task_of(s, trace, e, j, n)
        assert (bits > 0).all()
        for k in range(4):
            t = 4 * j + k
            assert trace.blocks_left[e, t] == 4 - k
            assert trace.bits[e, t, n].tolist() == [*bits[k:], *[0.0] * k]
            assert trace.work[e, t, n].tolist() == [*work[k:], *[0.0] * k]
            assert trace.deadline[e, t, n] == trace.deadline[e, 4 * j, n]
            assert trace.active[e, t, n] == trace.active[e, 4 * j, n]
    assert len(np.unique(trace.deadline)) > 30  # another one for each task
    assert np.array_equal(trace.device_rate, np.broadcast_to(trace.device_rate[:, :1], (6, 8, 3)))
    assert np.array_equal(trace.server_rate, np.broadcast_to(trace.server_rate[:, :1], (6, 8, 2)))


def test_real_networks_are_drawn_alike_and_whole():
    names = ("alexnet", "vgg16", "resnet18", "googlenet")
    s = Scenario(blocks=8, networks=names, idle=0.0)
    flops, inputs, results = [], [], []
    for name in names:
        graph = load_profile(name)
        graph = graph.at_exit(len(graph.exits) - 1)
        flops.append(graph.flops.sum())
        inputs.append(graph.output_bits[0])
        results.append(graph.output_bits[-1])
    np.testing.assert_allclose(s.table_work.sum(axis=1), flops, rtol=1e-12)
    # The profiles' inputs have 32 bits per value, but images are sent with 8.
    assert s.table_bits[:, 0].tolist() == [3 * 224 * 224 * 8.0] * 4
    np.testing.assert_array_equal(4 * s.table_bits[:, 0], inputs)
    as_profiled = Scenario(blocks=8, networks=names, input_share=1.0)
    np.testing.assert_array_equal(as_profiled.table_bits[:, 0], inputs)
    np.testing.assert_array_equal(as_profiled.table_bits[:, 1:], s.table_bits[:, 1:])
    np.testing.assert_array_equal(s.table_bits[:, -1], results)
    assert s.largest == (s.table_bits.max(), s.table_work.max())
    trace = s.sample(np.random.default_rng(2), 500)
    chosen = np.argmin(np.abs(trace.work[:, ::8].sum(axis=-1)[..., None] - flops), axis=-1)
    np.testing.assert_allclose(trace.work[:, ::8], s.table_work[chosen], rtol=1e-6)
    np.testing.assert_allclose(trace.bits[:, ::8], s.table_bits[chosen], rtol=1e-6)
    counts = np.bincount(chosen.ravel(), minlength=4)  # of 500 * 4 * 5 tasks
    assert np.abs(counts / 10000 - 0.25).max() < 0.02  # 4.6 standard deviations


def test_random_networks_fill_their_ranges():
    s = Scenario(
        devices=4,
        servers=2,
        blocks=5,
        tasks=2,
        networks=RandomNetworks(bits=(2 * M, 6 * M), work=(1 * G, 3 * G)),
        device_rate=(10 * G, 30 * G),
        compute_power=(2.0, 5.0),
        server_rate=(100 * G, 500 * G),
        deadline_factor=(0.3, 0.9),
        idle=0.25,
    )
    trace = s.sample(np.random.default_rng(3), 400)
    first = arrays.map_arrays(lambda a: np.asarray(a)[:, ::5], trace)
    tightness = first.deadline * first.device_rate / first.work.sum(axis=-1)
    for values, low, high in [
        (first.bits, 2 * M, 6 * M),
        (first.work, 1 * G, 3 * G),
        (first.device_rate, 10 * G, 30 * G),
        (first.server_rate, 100 * G, 500 * G),
        (tightness, 0.3, 0.9),
        (first.compute_power, 2.0, 5.0),
    ]:
        assert (values >= low * (1 - 1e-6)).all()
        assert (values <= high * (1 + 1e-6)).all()
        wide = high - low
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.05 * wide)
        assert values.std() == pytest.approx(wide / math.sqrt(12), rel=0.05)
    assert first.active.mean() == pytest.approx(0.75, abs=0.03)
    # independent: from block to block, device to device
    flat = first.work.reshape(-1, 5)
    assert np.abs(np.corrcoef(flat.T) - np.eye(5)).max() < 0.1
    assert (first.deadline <= s.longest_deadline).all()
    assert s.longest_deadline == pytest.approx(0.9 * 15 / 10)
    assert s.largest == (6 * M, 3 * G)


def test_the_longest_deadline_of_real_networks():
    s = Scenario(blocks=8)
    whole = max(load_profile(n).flops.sum() for n in ("alexnet", "vgg16", "resnet18"))
    assert s.longest_deadline == pytest.approx(0.9 * whole / (10 * G))


def test_each_block_tolerates_its_part_of_the_tasks_time():
    whole = Scenario(blocks=8)
    each = dataclasses.replace(whole, deadline_of="block")
    assert each.longest_deadline == pytest.approx(whole.longest_deadline / 8, rel=1e-12)
    one, other = (s.sample(np.random.default_rng(5), 3) for s in (whole, each))
    np.testing.assert_allclose(8 * other.deadline, one.deadline, rtol=1e-12)
    for name in ("bits", "uplink", "device_rate", "active"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_device_has_one_power_for_the_whole_episode():
    trace = Scenario().sample(np.random.default_rng(6), 200)
    power = trace.compute_power
    assert np.array_equal(power, np.broadcast_to(power[:, :1], power.shape))
    assert power.min() >= 2.0 and power.max() <= 5.0
    # tau mu^3, so whatever the rate
    rates = trace.device_rate[:, 0].ravel()
    assert abs(np.corrcoef(power[:, 0].ravel(), rates)[0, 1]) < 0.1


def test_networks_may_be_graphs():
    work_and_bits = [(0.0, 8e6), (3e9, 4e6), (1e9, 2e6), (2e9, 1e6)]
    layers = [Layer(f"v{i}", "op", f, 0.0, b) for i, (f, b) in enumerate(work_and_bits)]
    graph = LayerGraph("own", tuple(layers), ((0, 1), (1, 2), (2, 3)), (Exit("exit", 3),))
    s = Scenario(blocks=2, networks=(graph,), input_share=1.0)
    # 3 | 1 + 2 and not 3 + 1 | 2
    assert s.table_work.tolist() == [[3e9, 3e9]]
    assert s.table_bits.tolist() == [[8e6, 4e6, 1e6]]
    with pytest.raises(ValueError, match=r"^blocks\b.*\[1, 3\].*own.*4"):
        Scenario(blocks=4, networks=(graph,))


def test_the_same_seed_draws_the_same_and_episodes_differ():
    s = Scenario()
    one, two = (s.sample(np.random.default_rng(5), 3) for _ in range(2))
    arrays.map_arrays(np.testing.assert_array_equal, one, two)
    for name in ("uplink", "load", "device_rate", "server_rate", "deadline"):
        values = getattr(one, name)
        assert not np.array_equal(values[0], values[1]), name


# ------------------------------------------------------------------------------- channel


def by_hand_db(distance_m, power_dbm, band_hz, figure_db=5):
    """SNR in dB: power + 15 - 20 - (128.1 + 37.6 log10 km) - (-174 + 10 log10 B + figure)."""
    loss = 20 + 128.1 + 37.6 * math.log10(distance_m / 1000)
    return power_dbm + 15 - loss - (-174 + 10 * math.log10(band_hz) + figure_db)


class Still(Plane):
    """Everybody stands 120 m from where the only station is."""

    __slots__ = ()

    def stations(self, count):
        return np.array([[300.0, 300.0]] * count)

    def walk(self, rng, shape, steps, step_s):
        place = np.empty((steps, 2, *shape), dtype=np.float32)
        place[:, 0], place[:, 1] = 300.0 + 72.0, 300.0 - 96.0  # 72^2 + 96^2 = 120^2
        return place


def unclipped(**changes):
    """A channel without limits at one known distance, whose stations do not disturb each other."""
    values = {"plane": Still(), "slowest": 1e-3, "most_bits_per_hz": 1e5, "shadowing_db": 6.0}
    return Channel(**{**values, "interference": False, **changes})


def to_db(rate, band_hz):
    """The SNR that 0.6 of Shannon's formula needs for a rate."""
    return 10 * np.log10(2.0 ** (np.asarray(rate, dtype=np.float64) / 0.6 / band_hz) - 1)


def test_up_and_down_by_hand_without_shadowing():
    channel = unclipped(
        shadowing_db=0.0,
        uplink=Radio(transmit_power_dbm=20.0, bandwidth_hz=10e6, noise_figure_db=4.0),
        downlink=Radio(transmit_power_dbm=40.0, bandwidth_hz=15e6, noise_figure_db=9.0),
    )
    up, down = channel.sample(np.random.default_rng(0), 2, 3, 1, 4)
    assert up.shape == down.shape == (2, 4, 3, 1)
    # log10 0.12 = -0.920819: loss 113.4772, gain 15; noise -100, -93.2391: 21.5228 and 34.7619 dB
    assert by_hand_db(120, 20, 10e6, 4) == pytest.approx(21.5228, abs=1e-4)
    assert by_hand_db(120, 40, 15e6, 9) == pytest.approx(34.7619, abs=1e-4)
    np.testing.assert_allclose(up, 0.6 * 10e6 * math.log2(1 + 10**2.15228), rtol=1e-5)
    np.testing.assert_allclose(down, 0.6 * 15e6 * math.log2(1 + 10**3.47619), rtol=1e-5)


def test_the_default_budgets():
    """Of an LTE macro cell: 23 and 46 dBm, 5 and 9 dB, 15 dBi, 20 MHz, 20 dB, 4.4 bit/s/Hz."""
    channel = Channel(plane=Still(), shadowing_db=0.0)
    up, down = channel.sample(np.random.default_rng(0), 1, 1, 1, 1)
    # 23 + 15 - 20 - 93.4772 + 174 - 73.0103 - 5 = 20.5125 dB, an efficiency of 4.096
    assert by_hand_db(120, 23, 20e6) == pytest.approx(20.5125, abs=1e-4)
    assert up.item() == pytest.approx(0.6 * 20e6 * math.log2(1 + 10**2.05125), rel=1e-5)
    assert down.item() == pytest.approx(4.4 * 20e6, rel=1e-6)  # 39.5 dB, more than 22
    assert channel.fastest == pytest.approx(88e6)


def test_stations_disturb_each_others_downlinks():
    class Three(Still):
        __slots__ = ()

        def stations(self, count):
            # 120, 240 and 480 m from where everybody stands
            return np.array(
                [[300.0, 300.0], [372.0 + 144, 204.0 + 192], [372.0 + 288, 204.0 + 384]]
            )

    channel = unclipped(plane=Three(), shadowing_db=0.0, interference=True)
    up, down = channel.sample(np.random.default_rng(0), 1, 1, 3, 1)
    power = [10 ** (by_hand_db(d, 46, 20e6, 9) / 10) for d in (120, 240, 480)]
    expected = [power[m] / (1 + sum(power) - power[m]) for m in range(3)]
    assert expected[0] == pytest.approx(12.6, abs=0.1)  # 11 dB
    expected = [0.6 * 20e6 * math.log2(1 + sinr) for sinr in expected]
    np.testing.assert_allclose(down[0, 0, 0], expected, rtol=1e-4)
    alone = [0.6 * 20e6 * math.log2(1 + 10 ** (by_hand_db(d, 23, 20e6) / 10)) for d in (120, 240)]
    np.testing.assert_allclose(up[0, 0, 0, :2], alone, rtol=1e-4)


def test_a_station_next_door_drowns_the_others_without_an_error():
    class Near(Still):
        __slots__ = ()

        def stations(self, count):
            return np.array([[372.0, 204.0], [372.0 + 3000, 204.0]])

    radio = Radio(transmit_power_dbm=100.0, bandwidth_hz=20e6)
    channel = Channel(plane=Near(), shadowing_db=0.0, downlink=radio)
    _, down = channel.sample(np.random.default_rng(0), 1, 1, 2, 1)
    assert down.ravel().tolist() == pytest.approx([88e6, 1.65e6])


def test_the_presets_leave_the_cap_most_of_the_time():
    for name in ("small", "campus"):
        s = PRESETS[name].make()
        trace = s.sample(np.random.default_rng(0), 60)
        for rate in (trace.uplink, trace.downlink):
            best = rate.max(axis=-1)  # of all stations
            assert (best >= 0.999 * s.channel.fastest).mean() < 0.35
            low, high = np.percentile(best, [10, 75])
            assert high > 2 * low
        # and the best rate does not stay what it is: by a factor of 2 within most episodes
        best = trace.uplink.max(axis=-1)
        assert (best.max(axis=1) > 2 * best.min(axis=1)).mean() > 0.5


def test_stations_have_as_much_room_as_cells_500_m_apart():
    assert [round(plane_of(m).side_m) for m in (3, 5, 20)] == [806, 1040, 2081]
    assert PRESETS["small"].make().channel.plane == plane_of(3)
    assert PRESETS["campus"].make().channel.plane == plane_of(5)


def test_shadowing_against_theory():
    channel = unclipped(shadowing_memory=0.6)
    up, down = channel.sample(np.random.default_rng(1), 1000, 2, 3, 8)
    db = to_db(up, 20e6) - by_hand_db(120, 23, 20e6)
    # 48000 numbers, of which about a third are independent
    assert db.mean() == pytest.approx(0, abs=0.2)
    assert db.std() == pytest.approx(6.0, rel=0.02)
    assert (np.abs(db) < 6.0).mean() == pytest.approx(0.6827, abs=0.01)  # normal
    for t in (0, 3, 7):  # stationary from the start
        assert db[:, t].std() == pytest.approx(6.0, rel=0.04)
    for apart in (1, 2, 4):
        r = np.corrcoef(db[:, apart:].ravel(), db[:, :-apart].ravel())[0, 1]
        assert r == pytest.approx(0.6**apart, abs=0.03)
    # links are shadowed independently, but both directions of a link alike
    flat = np.moveaxis(db, 1, 0).reshape(-1, 6)
    assert np.abs(np.corrcoef(flat.T) - np.eye(6)).max() < 0.06
    back = to_db(down, 20e6) - by_hand_db(120, 46, 20e6, 9)
    np.testing.assert_allclose(back, db, atol=0.01)


def test_distance_counts():
    class Far(Still):
        __slots__ = ()

        def stations(self, count):
            # 120 m, 20 m (as 35 m) and 480 m from where everybody stands
            return np.array([[300.0, 300.0], [372.0, 184.0], [372.0 + 288, 204.0 + 384]])

    up, _ = unclipped(plane=Far(), shadowing_db=0.0).sample(np.random.default_rng(2), 1, 1, 3, 1)
    found = to_db(up[0, 0, 0], 20e6)
    expected = [by_hand_db(d, 23, 20e6) for d in (120, 35, 480)]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_rates_are_kept_between_the_limits():
    channel = unclipped(slowest=20 * M, most_bits_per_hz=6.0)
    up, down = channel.sample(np.random.default_rng(3), 200, 2, 2, 4)
    for rate in (up, down):
        assert rate.min() >= 20 * M * (1 - 1e-6)
        assert rate.max() <= 120 * M * (1 + 1e-6)
    assert (down == down.max()).mean() > 0.5
    # what the limits do not touch is as without
    free, _ = unclipped().sample(np.random.default_rng(3), 200, 2, 2, 4)
    np.testing.assert_allclose(up, np.clip(free, 20 * M, 120 * M), rtol=1e-6)


def test_rates_follow_the_walk():
    """Without shadowing the rate tells the distance, and nobody jumps between two rounds."""
    plane = Plane(side_m=500.0, speed_std=8.0, memory=0.9)
    channel = unclipped(plane=plane, shadowing_db=0.0)
    up, _ = channel.sample(np.random.default_rng(4), 50, 4, 1, 20)
    db = to_db(up[..., 0], 20e6)
    distance = 35.0 * 10 ** ((by_hand_db(35, 23, 20e6) - db) / 37.6)
    assert distance.max() < 250 * math.sqrt(2) + 1  # from the middle of the square
    step = np.abs(np.diff(distance, axis=1))
    assert step.max() < 0.5 * 8.0 * math.sqrt(2) * 5.5
    assert step.mean() > 0.5  # but everybody moves
    # uniform in the square, station in the middle: P(distance < 200) = pi 200^2 / 500^2
    assert (distance[:, 0] < 200).mean() == pytest.approx(math.pi * 0.16, abs=0.15)


def test_constant_rates_fill_their_range():
    channel = ConstantChannel(rate=(5 * M, 50 * M))
    up, down = channel.sample(np.random.default_rng(5), 500, 4, 3, 6)
    assert up.shape == (500, 6, 4, 3)
    assert np.array_equal(up, down)
    assert (np.ptp(up, axis=1) == 0).all()
    assert up.min() >= 5 * M
    assert up.max() <= 50 * M
    assert up.mean() == pytest.approx(27.5 * M, rel=0.03)
    assert up.std() == pytest.approx(45 * M / math.sqrt(12), rel=0.03)
    assert channel.fastest == 50 * M


# ------------------------------------------------------------------------ background load


def loads(n=1500, **changes):
    s = Scenario(devices=1, servers=3, tasks=1, networks=RandomNetworks(), **changes)
    return s, np.asarray(s.sample(np.random.default_rng(6), n).load, dtype=np.float64)


def test_background_load_has_its_mean_spread_and_memory():
    s, load = loads(background=1.7, background_spread=0.5, background_memory=0.8)
    assert load.shape == (1500, 8, 3)
    assert (load > 0).all()
    assert load.max() <= s.largest_load
    assert load.mean() == pytest.approx(1.7, rel=0.03)
    log = np.log(load)
    assert log.mean() == pytest.approx(math.log(1.7) - 0.5**2 / 2, abs=0.03)
    assert log.std() == pytest.approx(0.5, rel=0.03)
    for t in (0, 4, 7):
        assert log[:, t].std() == pytest.approx(0.5, rel=0.05)
    for apart in (1, 3):
        r = np.corrcoef(log[:, apart:].ravel(), log[:, :-apart].ravel())[0, 1]
        assert r == pytest.approx(0.8**apart, abs=0.03)
    servers = np.corrcoef(np.moveaxis(log, 1, 0).reshape(-1, 3).T)
    assert np.abs(servers - np.eye(3)).max() < 0.06


def test_background_load_is_bounded():
    s, load = loads(background=2.0, background_spread=1.5)
    assert load.max() <= s.largest_load == pytest.approx(2 * math.exp(4.5))


def test_no_background_load():
    _, load = loads(n=3, background=0.0)
    assert not load.any()
    _, load = loads(n=3, background=2.0, background_spread=0.0)
    assert (load == 2.0).all()


def test_memory_of_one_is_a_constant():
    _, load = loads(n=5, background=2.0, background_memory=1.0)
    np.testing.assert_allclose(load, np.broadcast_to(load[:, :1], load.shape), rtol=1e-5)
    assert len(np.unique(np.round(load[:, 0], 9))) == 15


def test_scenarios_can_be_changed():
    s = dataclasses.replace(Scenario(), blocks=4)
    assert s.table_work.shape == (4, 4)


@pytest.mark.parametrize("name", ["devices", "servers", "blocks", "tasks"])
def test_episodes_that_would_not_fit_into_memory(name):
    with pytest.raises(ValueError, match=rf"devices \* tasks .* {name} = 1000000"):
        Scenario(**{name: 10**6})


def test_shadowing_beyond_all_measure():
    with pytest.raises(ValueError, match=r"shadowing_db must be at most 30, got 500000\.0"):
        Channel(shadowing_db=5e5)
