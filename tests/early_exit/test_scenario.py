"""Parameters, samples, and the table a scenario carries."""

import dataclasses
import pickle

import numpy as np
import pytest

from mec_gym.dnn.devices import EDGE_SERVER, RASPBERRY_PI_4, Measured
from mec_gym.dnn.graph import Exit, Layer, LayerGraph, save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.early_exit.partitions import is_valid, price
from mec_gym.early_exit.scenario import PRESETS, Scenario, from_csv, from_profile
from mec_gym.early_exit.table import choose_candidates, front, partition_table
from mec_gym.network.bandwidth import CAT1, G3, G4, WIFI, MeasuredBandwidth, Regimes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 0}, "horizon must be a whole number of at least 1, got 0"),
        ({"network": "lenet"}, "profile must be one of .*got 'lenet'"),
        ({"network": 3}, "network must be a name, a path or a LayerGraph, got 3"),
        ({"network": "alexnet-exits"}, "exit 'exit 1' has no measured accuracy"),
        ({"device": "phone"}, "device must be a Device or Measured, got 'phone'"),
        ({"device": Measured()}, "layer '.*' has no measured time"),
        ({"bandwidth": 1e6}, "bandwidth must be a Regimes or MeasuredBandwidth"),
        ({"arrival_rates": ()}, "arrival_rates must hold numbers"),
        ({"arrival_rates": (1.0, -2.0)}, r"arrival_rates\[1\] must be positive, got -2.0"),
        ({"arrival_frames": 0.5}, "arrival_frames must be at least 1, got 0.5"),
        ({"deadline": (0.3, 0.1)}, "deadline must be .low, high. with low <= high"),
        ({"timeout_s": 0.1}, "timeout_s must be at least the longest deadline"),
        ({"device_load": 1.0}, r"device_load must be in \(0, 1\), got 1.0"),
        ({"edge_load": -0.1}, r"edge_load must be in \[0, 1\], got -0.1"),
        ({"load_spread": 4.0}, "load_spread must be at most 3, got 4.0"),
        ({"urgent_share": 1.5}, r"urgent_share must be in \[0, 1\]"),
        ({"battery": float("nan")}, "battery must be finite"),
        ({"radio_power": -1.0}, "radio_power must not be negative"),
        ({"accuracy_weight": 0.0}, "accuracy_weight must be positive"),
        ({"candidates": 0}, "candidates must be a whole number"),
        ({"candidates": 2}, r"candidates must be at least \d+ to hold the optima"),
    ],
)
def test_bad_parameters_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Scenario(**changes)


def test_a_profile_of_another_version(tmp_path):
    text = load_profile("alexnet-digits").to_json()
    (tmp_path / "old.json").write_text(text.replace("layer graph 1", "layer graph 0"))
    with pytest.raises(ValueError, match=r"old\.json must have the format 'mec_gym layer graph 1'"):
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
    assert set(np.unique(scenario.sample(np.random.default_rng(0), 5).bandwidth)) == {1e6, 2e6, 3e6}


def test_scenarios_are_values():
    one = Scenario(bandwidth=Regimes((1e6,)), horizon=7)
    assert one == dataclasses.replace(Scenario(), bandwidth=Regimes((1e6,)), horizon=7)
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
        np.testing.assert_array_equal(price(graph, f.on_edge, *times), f.cost)
        assert (np.diff(f.cost[:, 0]) >= 0).all()
    for bandwidth in np.geomspace(1e5, 1e7, 40):
        weights = np.array([1.0, 1.0 / bandwidth, 1.0])
        assert (few.cost @ weights).min() == pytest.approx((whole.cost @ weights).min(), rel=1e-9)
    for bandwidth in np.geomspace(1e5, 1e7, 8):
        weights = np.array([1.0, 1.0 / bandwidth, 1.0])
        assert (few.cost * weights).max(1).min() == pytest.approx(
            (whole.cost * weights).max(1).min(), rel=1e-6
        )
    table = partition_table(graph, RASPBERRY_PI_4, EDGE_SERVER, (1e5, 1e7), 32, limit=100)
    assert table.cost.shape == (1, table.sizes[0], 3)


def test_thinned_candidates_hold_the_optima_over_the_range():
    whole = Scenario(network="googlenet-digits").table.fronts[-1].cost
    chosen = choose_candidates(whole, (CAT1, WIFI), 24)
    assert len(chosen) <= 24 and (np.diff(chosen) > 0).all()
    for bandwidth in np.geomspace(CAT1, WIFI, 64):
        weights = np.array([1.0, 1.0 / bandwidth, 1.0])
        assert (whole[chosen] @ weights).min() == (whole @ weights).min()
        stages = whole * weights
        assert stages[chosen].max(axis=1).min() == stages.max(axis=1).min()
    np.testing.assert_array_equal(choose_candidates(whole[:10], (CAT1, WIFI), 24), np.arange(10))


def test_an_exit_with_fewer_candidates_repeats_its_last():
    table = Scenario(network="alexnet-digits").table
    most = table.cost.shape[1]
    assert most == table.sizes.max() > table.sizes.min()
    for n, size in enumerate(table.sizes):
        assert (table.cost[n, size:] == table.cost[n, size - 1]).all()
        np.testing.assert_array_equal(table.candidates(n), table.fronts[n].cost)
