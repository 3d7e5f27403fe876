"""Parameters, samples, and the table a scenario carries."""

import dataclasses
import pickle

import early_exit.cases as cases
import layer_graphs
import numpy as np
import pytest

from mec_gym.core import arrays
from mec_gym.core.traces import check_trace
from mec_gym.dnn.devices import EDGE_SERVER, RASPBERRY_PI_4, Profiled
from mec_gym.dnn.graph import Exit, Layer, LayerGraph, save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.early_exit.optima import heavy_optima, light_optima
from mec_gym.early_exit.partitions import is_valid, partition_cost
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import (
    LOAD_DEVIATIONS,
    PRESETS,
    Scenario,
    Slot,
    follow_bandwidth,
    from_csv,
    from_profile,
)
from mec_gym.early_exit.table import choose_candidates, front, partition_table
from mec_gym.network.bandwidth import CAT1, G3, G4, WIFI, MeasuredBandwidth, Regimes
from mec_gym.network.technologies import LTE, LTE_CAT1, UMTS, WLAN, RadioTechnology

TIMED = load_profile("alexnet-digits")
TIMED = dataclasses.replace(
    TIMED, layers=tuple(dataclasses.replace(layer, seconds=0.0) for layer in TIMED.layers)
)


def rates_of(bandwidth):
    """Nominal speeds and a range of bandwidths."""
    return ((1.0, 1.0), bandwidth, (1.0, 1.0))


def test_a_profile_of_another_version(tmp_path):
    text = load_profile("alexnet-digits").to_json()
    (tmp_path / "old.json").write_text(text.replace("layer graph 1", "layer graph 0"))
    with pytest.raises(ValueError, match=r"old\.json.*layer graph 1"):
        Scenario(network=str(tmp_path / "old.json"))
    save_graph(tmp_path / "mine.json", load_profile("alexnet-digits"))
    assert from_profile(tmp_path / "mine.json").graph == load_profile("alexnet-digits")


def test_presets():
    means = {"cat1": (CAT1,), "3g": (G3,), "4g": (G4,), "wifi": (WIFI,)}
    assert set(PRESETS) == {"mixed", "mixed-light", "mixed-heavy"} | {
        f"{name}-{load}" for name in means for load in ("light", "heavy")
    }
    for name, preset in PRESETS.items():
        scenario = preset.make()
        network, _, load = name.partition("-")
        assert scenario.bandwidth.means == means.get(network, (CAT1, G3, G4, WIFI))
        expected = {"light": (5.0,), "heavy": (30.0,), "": (5.0, 30.0)}[load]
        assert scenario.arrival_rates == expected
        radios = {"cat1": (LTE_CAT1,), "3g": (UMTS,), "4g": (LTE,), "wifi": (WLAN,)}
        assert scenario.technologies == radios.get(network, (LTE_CAT1, UMTS, LTE, WLAN))


def test_the_technology_goes_with_the_network():
    """Every frame has the round trip and the radio of the network that its bandwidth is of."""
    slot = Scenario(horizon=300).sample(np.random.default_rng(2), 40)
    seen = set()
    for mean, radio in zip((CAT1, G3, G4, WIFI), (LTE_CAT1, UMTS, LTE, WLAN), strict=True):
        # Rates stay within 2 standard deviations; 4G and Wi-Fi touch there.
        here = np.abs(np.log(slot.bandwidth / mean)) < 0.5
        assert here.any()
        for name, value in (
            ("round_trip", radio.round_trip_s),
            ("base_power", radio.base_power_w),
            ("joule_per_bit", radio.joule_per_bit),
        ):
            assert (getattr(slot, name)[here] == value).all()
        seen.add(radio)
    assert len(seen) == 4
    # One technology holds for all networks.
    slot = Scenario(technologies=(WLAN,)).sample(np.random.default_rng(2), 10)
    assert (slot.round_trip == 0.003).all() and (slot.base_power == 0.13286).all()


def test_samples_keep_to_the_parameters():
    scenario = Scenario(
        horizon=400,
        arrival_rates=(3.0, 20.0),
        arrival_frames=10.0,
        device_load=0.2,
        edge_load=0.6,
        urgent_share=0.3,
        normal_priority=0.4,
        deadline=(0.2, 0.5),
    )
    slot = scenario.sample(np.random.default_rng(3), 200)
    assert slot.bandwidth.shape == (200, 400)
    assert set(np.unique(slot.arrival_rate)) == {3.0, 20.0}
    for rate in (3.0, 20.0):
        gaps = slot.interval[slot.arrival_rate == rate]
        assert gaps.mean() == pytest.approx(1 / rate, rel=0.03)
        assert gaps.std() == pytest.approx(1 / rate, rel=0.05)  # exponential
    changes = (np.diff(slot.arrival_rate) != 0).mean()
    assert changes == pytest.approx(0.1, rel=0.05)  # every tenth frame
    assert np.median(slot.device_speed) == pytest.approx(0.8, abs=0.01)
    assert np.median(slot.edge_speed) == pytest.approx(0.4, abs=0.02)
    device, edge = scenario.slowest
    assert slot.device_speed.min() >= device and slot.edge_speed.min() >= edge
    assert slot.deadline.min() >= 0.2 and slot.deadline.max() <= 0.5
    assert slot.deadline.mean() == pytest.approx(0.35, rel=0.01)
    assert (slot.priority == 1.0).mean() == pytest.approx(0.3, abs=0.01)
    assert set(np.unique(slot.priority)) == {0.4, 1.0}


def test_a_measured_uplink_is_replayed(tmp_path):
    path = tmp_path / "up.csv"
    path.write_text("s,bit/s\n0,1e6\n1,3e6\n2,2e6\n")
    scenario = from_csv(path)
    assert isinstance(scenario.bandwidth, MeasuredBandwidth)
    assert scenario.technologies == (LTE,)
    assert set(np.unique(scenario.sample(np.random.default_rng(0), 5).bandwidth)) == {1e6, 2e6, 3e6}


def test_the_uplink_follows_the_arrivals():
    """Its rate changes when frames arrive, to what the frame sees, in an episode of a model."""
    slot = cases.scenario().sample(np.random.default_rng(3), 5)
    gaps = np.cumsum(slot.interval, axis=-1)
    assert (slot.arrival[:, 0] == 0).all() and np.array_equal(slot.arrival[:, 1:], gaps[:, :-1])
    assert slot.uplink.shape == (5, 1, 3, 24)
    time, bits, rate = np.moveaxis(slot.uplink[:, 0], 1, 0)
    assert np.array_equal(time, slot.arrival) and np.array_equal(rate, slot.bandwidth)
    sent = np.cumsum(slot.bandwidth * slot.interval, axis=-1)
    np.testing.assert_allclose(bits[:, 1:], sent[:, :-1], rtol=1e-12)
    again = follow_bandwidth(dataclasses.replace(slot, arrival=0 * time, uplink=0 * slot.uplink))
    for name, value in arrays.as_dict(slot).items():
        assert np.array_equal(getattr(again, name), value), name


def test_a_measured_uplink_carries_the_bits_of_its_trace():
    """Outages and steps shorter than a gap between frames: no bit is lost in between."""
    time = tuple(0.05 * k for k in range(40))
    rate = tuple([3e5, 0.0, 0.0, 7e4] * 10)
    bandwidth = MeasuredBandwidth(time, rate)
    scenario = cases.scenario(bandwidth=bandwidth, horizon=60)
    slot = scenario.sample(np.random.default_rng(8), 4)
    check_trace(EarlyExitPartition(scenario), slot)
    assert (slot.bandwidth > 0).all() and (slot.uplink[:, 0, 2] == 0).any()
    # Over many rounds of 2 s the mean is that of the trace.
    seconds = slot.uplink[:, 0, 0, -1]
    mean = slot.uplink[:, 0, 1, -1] / seconds
    np.testing.assert_allclose(mean, 92.5e3, atol=4e4 / seconds.min())


def test_scenarios_are_values():
    changes = {"bandwidth": Regimes((1e6,)), "technologies": (LTE,), "horizon": 7}
    one = Scenario(**changes)
    assert one == dataclasses.replace(Scenario(), **changes)
    assert hash(one) == hash(dataclasses.replace(one)) and one != Scenario()
    again = pickle.loads(pickle.dumps(one))
    assert again == one and np.array_equal(again.table.cost, one.table.cost)


def diamond(branches, length):
    """One block of so many parallel chains: (length + 1) ** branches partitions inside."""
    rng = np.random.default_rng(1)
    layers = [Layer("in", "input", 0, 0, 5e5)]
    links, ends = [], []
    for b in range(branches):
        before = 0
        for k in range(length):
            flops, bits = rng.uniform(1e7, 1e9), rng.uniform(1e3, 1e6)
            layers.append(Layer(f"{b}.{k}", "conv", float(flops), 0.0, float(bits)))
            links.append((before, len(layers) - 1))
            before = len(layers) - 1
        ends.append(before)
    layers.append(Layer("out", "add", 1e6, 0.0, 32.0))
    links += [(end, len(layers) - 1) for end in ends]
    return LayerGraph(
        "diamond", tuple(layers), tuple(links), (Exit("final", len(layers) - 1, 0.9),)
    )


def test_beyond_the_limit_the_light_optima_are_there():
    graph = diamond(3, 5)
    times = [d.layer_seconds(graph) for d in (RASPBERRY_PI_4, EDGE_SERVER)]
    whole = front(graph, *times, (1e5, 1e7))
    few = front(graph, *times, (1e5, 1e7), limit=100)
    assert whole.whole and whole.count == 6**3 + 1
    assert not few.whole and few.count == 0 and len(few.cost) < len(whole.cost)
    for f in (whole, few):
        assert is_valid(graph, f.on_edge).all()
        np.testing.assert_array_equal(partition_cost(graph, f.on_edge, *times), f.cost)
        assert (np.diff(f.cost[:, 0]) >= 0).all()
    for bandwidth in np.geomspace(1e5, 1e7, 40):
        weights = np.array([1.0, 1.0 / bandwidth, 1.0])
        assert (few.cost @ weights).min() == pytest.approx((whole.cost @ weights).min(), rel=1e-9)
    for bandwidth in np.geomspace(1e5, 1e7, 8):
        weights = np.array([1.0, 1.0 / bandwidth, 1.0])
        assert (few.cost * weights).max(1).min() == pytest.approx(
            (whole.cost * weights).max(1).min(), rel=1e-6
        )
    table = partition_table(graph, RASPBERRY_PI_4, EDGE_SERVER, rates_of((1e5, 1e7)), 32, limit=100)
    assert table.cost.shape == (1, table.sizes[0], 3)


def test_thinned_candidates_hold_the_optima_over_the_range():
    scenario = Scenario(network="googlenet-digits")
    whole = scenario.table.fronts[-1].cost
    chosen = choose_candidates(whole, scenario.rates, 24)
    assert len(chosen) <= 24 and (np.diff(chosen) > 0).all()
    least, most = np.log(np.array(scenario.rates).T)
    for rates in np.exp(np.random.default_rng(4).uniform(least, most, (300, 3))):
        stages = whole / rates
        for join in (np.sum, np.max):
            times = join(stages, axis=1)
            assert times[chosen].min() == pytest.approx(times.min(), rel=1e-12)
    few = choose_candidates(whole[:10], scenario.rates, 24)
    np.testing.assert_array_equal(few, np.arange(10))


def test_an_exit_with_fewer_candidates_repeats_its_last():
    table = Scenario(network="alexnet-digits").table
    most = table.cost.shape[1]
    assert most == table.sizes.max() > table.sizes.min()
    for n, size in enumerate(table.sizes):
        assert (table.cost[n, size:] == table.cost[n, size - 1]).all()
        np.testing.assert_array_equal(table.candidates(n), table.fronts[n].cost)


# --- the same once more, on networks and numbers that are nobody's default

NUMBERS = [f.name for f in dataclasses.fields(Scenario) if f.init and f.type in ("float", "int")]
PAIRS = ("deadline", "arrival_rates")
NO_NUMBER = (None, "x", float("nan"), float("inf"), -1, [], (1.0, 2.0), 1j, {}, np.ones(2))
NO_PAIR = (None, "x", 3.0, (), (1.0, float("nan")), (-1.0, 2.0), (0.0, 1.0), (1.0, "a"), [None] * 2)


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_named(name):
    assert len(NUMBERS) == 16
    for value in NO_NUMBER:
        with pytest.raises(ValueError, match=f"^{name} "):
            cases.scenario(**{name: value})


@pytest.mark.parametrize("name", PAIRS)
def test_what_holds_no_numbers_is_named(name):
    for value in NO_PAIR:
        with pytest.raises(ValueError, match=rf"^{name}(\[[01]\])? "):
            cases.scenario(**{name: value})
    with pytest.raises(ValueError, match=r"^deadline .*\(0\.1, 0\.2, 0\.3\)"):
        cases.scenario(deadline=(0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 0}, "^horizon .*got 0$"),
        ({"horizon": True}, "^horizon .*got True$"),
        ({"horizon": 2.0}, r"^horizon .*got 2\.0$"),
        ({"candidates": 0}, "^candidates .*got 0$"),
        ({"candidates": 1.5}, r"^candidates .*got 1\.5$"),
        ({"candidates": 2, "network": "mobilenetv2-digits"}, "^candidates .*got 2$"),
        ({"network": "lenet"}, "got 'lenet'$"),
        ({"network": 3}, "^network .*got 3$"),
        ({"network": None}, "^network .*got None$"),
        ({"network": cases.HAND.at_exit}, "^network .*at_exit"),
        ({"network": "alexnet-exits"}, "'exit 1'.*accuracy"),
        ({"device": "phone"}, "^device .*got 'phone'$"),
        ({"device": Profiled(TIMED)}, "profile must be one of cases, but layer 'v0'"),
        ({"edge": cases.HAND}, "^edge .*got LayerGraph"),
        ({"bandwidth": 1e6}, r"^bandwidth .*got 1000000\.0$"),
        ({"bandwidth": None}, "^bandwidth .*got None$"),
        ({"arrival_rates": ()}, r"^arrival_rates .*got \(\)$"),
        ({"arrival_rates": (1.0, -2.0)}, r"^arrival_rates\[1\] .*got -2\.0$"),
        ({"arrival_frames": 0.999}, r"^arrival_frames .*got 0\.999$"),
        ({"deadline": (0.37, 0.12)}, r"^deadline .*got \(0\.37, 0\.12\)$"),
        ({"deadline": (0.12, 0.91)}, r"^timeout_s .*0\.91.*got 0\.9$"),
        ({"device_load": 1.0}, r"^device_load .*got 1\.0$"),
        ({"device_load": 0.0}, r"^device_load .*got 0\.0$"),
        ({"edge_load": -0.1}, r"^edge_load .*got -0\.1$"),
        ({"edge_load": 1}, "^edge_load .*got 1$"),
        ({"load_spread": 3.01}, r"^load_spread .*got 3\.01$"),
        ({"urgent_share": 1.5}, r"^urgent_share .*got 1\.5$"),
        ({"battery": float("nan")}, "^battery .*got nan$"),
        ({"technologies": "LTE"}, "^technologies .*RadioTechnology.*got 'LTE'$"),
        ({"technologies": (1.3,)}, r"^technologies .*RadioTechnology.*got \(1\.3,\)$"),
        ({"technologies": ()}, "^technologies .*1 or 2.*got 0"),
        ({"technologies": (LTE, UMTS, WLAN)}, "^technologies .*1 or 2.*got 3: LTE, 3G, Wi-Fi"),
        (
            {"technologies": (LTE, UMTS), "bandwidth": Regimes((1e6,))},
            "^technologies must hold 1,.*got 2: LTE, 3G",
        ),
        ({"accuracy_weight": 0.0}, r"^accuracy_weight .*got 0\.0$"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        cases.scenario(**changes)


def test_values_at_the_edge_are_allowed():
    for changes in (
        {"arrival_frames": 1},
        {"deadline": (0.9, 0.9)},
        {"load_spread": 3.0},
        {"load_spread": 0.0, "load_memory_s": 0},
        {"urgent_share": 1, "normal_priority": 0},
        {"horizon": np.int64(1)},
        {"latency_weight": 0, "miss_weight": 0, "energy_weight": 0},
        {"technologies": (RadioTechnology("free", 0, 0, 0),)},
        {"candidates": 7},
    ):
        slot = cases.scenario(**changes).sample(np.random.default_rng(0), 4)
        for name in ("bandwidth", "device_speed", "edge_speed", "interval"):
            assert np.isfinite(getattr(slot, name)).all() and (getattr(slot, name) > 0).all()


def test_an_exit_without_accuracy():
    bare = dataclasses.replace(cases.HAND.exits[0], accuracy=None)
    graph = dataclasses.replace(cases.HAND, exits=(bare, cases.HAND.exits[1]))
    with pytest.raises(ValueError, match=r"'exit 0'.*accuracy"):
        cases.scenario(network=graph)


def test_networks_on_the_disk(tmp_path):
    save_graph(tmp_path / "hand.json", cases.HAND)
    scenario = cases.scenario(network=str(tmp_path / "hand.json"))
    assert scenario.graph == cases.HAND
    np.testing.assert_array_equal(scenario.table.cost, cases.scenario().table.cost)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        cases.scenario(network=str(tmp_path / "nowhere.json"))
    for text, message in (
        ("{", r"bad\.json"),
        ("[]", r"bad\.json"),
        (cases.HAND.to_json().replace("graph 1", "graph 2"), "graph 2'"),
        (cases.HAND.to_json().replace('"accuracy": 0.7', '"accuracy": 7'), "accuracy.*7"),
        (cases.HAND.to_json().replace('"accuracy": 0.7', '"accuracy": null'), "'exit 0'.*accuracy"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            cases.scenario(network=str(tmp_path / "bad.json"))


def test_nothing_is_given_away():
    """Every parameter counts in equality and hash, and survives pickling and replacing."""
    one = cases.scenario()
    assert one == cases.scenario() and hash(one) == hash(cases.scenario())
    others = {
        **{name: getattr(one, name) * 0.9 for name in NUMBERS},
        "horizon": 25,
        "candidates": 8,
        "under_way": 31,
        "arrival_frames": 6.5,
        "timeout_s": 0.95,
        "network": cases.network(((0, 1),), (9, 1), (0, 0.1), (0, 0.2), ((1, 0.5),)),
        "device": dataclasses.replace(cases.DEVICE, power_w=3.5),
        "edge": cases.DEVICE,
        "bandwidth": Regimes((1e5, 2e5)),
        "technologies": (LTE, WLAN),
        "arrival_rates": (3.0, 14.5),
        "deadline": (0.12, 0.36),
    }
    assert set(others) == set(cases.GIVEN)
    for name, value in others.items():
        changed = dataclasses.replace(one, **{name: value})
        assert changed != one and getattr(changed, name) == value
        back = dataclasses.replace(changed, **{name: cases.GIVEN[name]})
        assert back == one and hash(back) == hash(one)
        again = pickle.loads(pickle.dumps(changed))
        assert again == changed and np.array_equal(again.table.cost, changed.table.cost)
        assert np.array_equal(again.accuracy, changed.accuracy)
    for name in ("horizon", "graph"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, name, None)
    with pytest.raises(ValueError, match="read-only"):
        one.accuracy[0] = 1.0


def test_the_slowest_speeds_by_hand():
    # Odds of the loads 0.15 and 0.45, raised by 2.5 x 0.6 on the logit scale.
    grown = np.array([0.15 / 0.85, 0.45 / 0.55]) * np.exp(1.5)
    np.testing.assert_allclose(cases.scenario().slowest, 1 / (1 + grown), rtol=1e-12)


def test_loads_wander_as_they_should():
    scenario = cases.scenario(horizon=300, load_memory_s=1.7, load_spread=0.6)
    slot = scenario.sample(np.random.default_rng(5), 400)
    noise = {}
    for name, load in (("device_speed", 0.15), ("edge_speed", 0.45)):
        speed = getattr(slot, name)
        x = (np.log(1 / speed - 1) - np.log(load / (1 - load))) / 0.6
        assert np.abs(x).max() == pytest.approx(LOAD_DEVIATIONS, rel=1e-9)  # limited, and reached
        assert x.mean() == pytest.approx(0.0, abs=0.03)
        assert x.std() == pytest.approx(0.98, abs=0.02)  # of a normal cut off at 2.5
        noise[name] = x
    for x in noise.values():
        # Correlation exp(-gap / memory): by the time that passed between two frames.
        gap = slot.interval[:, :-1]
        for low, high in ((0.0, 0.02), (0.3, 0.5), (1.0, 2.0)):
            rows = (gap >= low) & (gap < high)
            product = (x[:, 1:] * x[:, :-1])[rows].mean() / x.var()
            assert product == pytest.approx(np.exp(-gap[rows] / 1.7).mean(), abs=0.08)
    assert abs((noise["device_speed"] * noise["edge_speed"]).mean()) < 0.03
    # Not of the frame after: the gap that a load has had time for is the one before it.
    assert slot.interval.shape == (400, 300)


def test_the_uplink_is_read_at_the_time_of_the_frame():
    """A trace of steps of a second, each of a rate of its own: the place shows the time."""
    steps = 500
    bandwidth = MeasuredBandwidth(
        tuple(float(t) for t in range(steps)), tuple(1e4 * 1.01**t for t in range(steps))
    )
    scenario = cases.scenario(bandwidth=bandwidth, horizon=200, arrival_rates=(2.0,))
    slot = scenario.sample(np.random.default_rng(6), 50)
    place = np.rint(np.log(slot.bandwidth / 1e4) / np.log(1.01)).astype(int)
    time = np.cumsum(slot.interval, axis=1) - slot.interval
    passed = (place - place[:, :1]) % steps
    assert ((passed == np.floor(time)) | (passed == np.floor(time) + 1)).all()
    assert len(np.unique(place[:, 0])) > 35  # entered anywhere


def test_rates_follow_each_other_evenly():
    scenario = cases.scenario(horizon=2000, arrival_rates=(3.0, 8.0, 20.0), arrival_frames=5.0)
    rate = scenario.sample(np.random.default_rng(7), 60).arrival_rate
    for value in (3.0, 8.0, 20.0):
        assert (rate == value).mean() == pytest.approx(1 / 3, abs=0.02)
        assert (rate[:, 0] == value).mean() == pytest.approx(1 / 3, abs=0.2)
        leaves = (rate[:, :-1] == value) & (rate[:, 1:] != value)
        assert leaves.sum() / (rate[:, :-1] == value).sum() == pytest.approx(0.2, abs=0.01)
        for other in {3.0, 8.0, 20.0} - {value}:
            share = (rate[:, 1:][leaves] == other).mean()
            assert share == pytest.approx(0.5, abs=0.03)
    constant = cases.scenario(arrival_rates=(7.0,)).sample(np.random.default_rng(8), 3)
    assert (constant.arrival_rate == 7.0).all()
    every = cases.scenario(arrival_frames=1.0).sample(np.random.default_rng(9), 3).arrival_rate
    assert (every[:, 1:] != every[:, :-1]).all()


def test_samples_of_very_different_rates_are_finite():
    """Hours between frames, then nanoseconds: the time of frames must not go back by rounding."""
    slot = cases.scenario(arrival_rates=(1e9, 1e-6), horizon=100).sample(
        np.random.default_rng(10), 50
    )
    for name in ("bandwidth", "device_speed", "edge_speed"):
        assert np.isfinite(getattr(slot, name)).all()


def test_samples_are_seeded_and_their_own():
    scenario = cases.scenario()
    one, two = (scenario.sample(np.random.default_rng(11), 3) for _ in range(2))
    for name in Slot.__dataclass_fields__:
        a, b = getattr(one, name), getattr(two, name)
        assert np.array_equal(a, b) and a.dtype == np.float64
    one.deadline[:] = one.arrival_rate[:] = 1.0
    assert (two.deadline < 1).all() and (two.arrival_rate > 1).all()


# --- tables


def test_tables_beyond_the_limit_against_brute_force():
    rng = np.random.default_rng(12)
    fewer = 0
    for _ in range(6):
        net = cases.random_network(rng, most=9, exits=2, bits=2e3)
        table = partition_table(
            net.graph, cases.DEVICE, cases.EDGE, rates_of((1e4, 1e6)), 4000, limit=2
        )
        for n, one in enumerate(net.at_exit):
            got = table.fronts[n]
            every = np.array([cost for _, cost in layer_graphs.triples(one)])
            if len(every) <= 2:
                assert got.whole
                continue
            assert not got.whole and got.count == 0
            assert is_valid(got.graph, got.on_edge).all()
            for row, cost in zip(got.on_edge, got.cost, strict=True):
                expected = layer_graphs.triple(one, layer_graphs.as_bits(row))
                np.testing.assert_allclose(cost, expected, rtol=1e-9, atol=1e-15)
            fewer += len(got.cost) < len(layer_graphs.not_dominated(map(tuple, every)))
            for bandwidth in np.geomspace(1e4, 1e6, 60):
                weights = np.array([1.0, 1.0 / bandwidth, 1.0])
                assert (got.cost @ weights).min() == pytest.approx((every @ weights).min(), 1e-9)
            for bandwidth in np.geomspace(1e4, 1e6, 8):
                stages = [c * [1.0, 1.0 / bandwidth, 1.0] for c in (got.cost, every)]
                found, least = (s.max(axis=1).min() for s in stages)
                assert found == pytest.approx(least, rel=1e-6)
    assert fewer > 2


@pytest.mark.parametrize("seed", range(4))
def test_candidates_of_large_fronts(seed):
    rng = np.random.default_rng(seed)
    share = rng.dirichlet((0.8, 0.8, 0.8), 900)
    cost = (1 / (share + 0.01)) * [1e-3, 3e2, 2e-4]
    cost = cost[np.argsort(cost[:, 0])]
    rates = ((0.7, 0.9), (2e4, 2e6), (0.4, 0.8))
    needed = set(heavy_optima(cost, rates)) | set(light_optima(cost, rates))
    for most in (len(needed), len(needed) + 1, len(needed) + 7, 200, 899, 900, 2000):
        chosen = choose_candidates(cost, rates, most)
        assert len(chosen) == min(most, 900) and (np.diff(chosen) > 0).all()
        assert needed <= set(chosen.tolist())
        others = np.setdiff1d(chosen, list(needed))
        if len(needed) + 7 <= most < 500:
            # Evenly: from one end to the other, no gap much longer than the usual one.
            gaps = np.diff(others)
            assert gaps.max() <= np.ceil(900 / (len(others) - 1)) + len(needed)
            assert others[0] < 5 + len(needed) and others[-1] >= 895 - len(needed)
    with pytest.raises(ValueError, match=f"^candidates .*{len(needed)} .*, got {len(needed) - 1}"):
        choose_candidates(cost, rates, len(needed) - 1)


def test_a_scenario_of_a_thinned_network():
    """Of 7 partitions of the last exit: as many as asked for, those that are best among them."""
    costs = np.array(cases.HAND_LATE)
    with pytest.raises(ValueError, match=r"^candidates .* (\d) .*got 1"):
        cases.scenario(candidates=1)
    scenario = cases.scenario(candidates=6)
    low, high = scenario.bandwidth.lowest, scenario.bandwidth.highest
    assert scenario.table.sizes.tolist() == [3, 6]
    for bandwidth in np.geomspace(low, high, 64):
        best = (costs @ [1.0, 1.0 / bandwidth, 1.0]).min()
        got = (scenario.table.candidates(1) @ [1.0, 1.0 / bandwidth, 1.0]).min()
        assert got == pytest.approx(best, rel=1e-12)
    np.testing.assert_array_equal(
        scenario.table.cost[1], scenario.table.fronts[1].cost[scenario.table.chosen[1]]
    )


def test_a_horizon_that_would_not_fit_into_memory():
    with pytest.raises(ValueError, match="horizon must be at most 100000, got 1000000"):
        Scenario(horizon=10**6)
