"""Devices: the roofline by hand, measured times, what is refused."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest

from mec_gym.core.plain import from_plain
from mec_gym.dnn import zoo
from mec_gym.dnn.devices import (
    DEVICES,
    EDGE_SERVER,
    PHONE,
    RASPBERRY_PI_4,
    AnyDevice,
    Device,
    Fitted,
    Profiled,
    read_device,
)
from mec_gym.dnn.fit import Cost, Fit, save_fit
from mec_gym.dnn.graph import Exit, Layer, LayerGraph, save_graph

# 2 GFLOP/s and 5 byte/us: 1 FLOP takes 0.5 ns, 1 byte 200 ns, every start 30 us.
SLOW = Device("slow", 2e9, 5e6, 30e-6, 7.0)

LAYERS = (
    Layer("input", "input", 0.0, 0.0, 800.0, 0.0),
    Layer("conv", "conv2d", 8e6, 1000.0, 640.0, 0.25),  # computes: 4 ms, moves 0.2 ms
    Layer("relu", "relu", 0.0, 3000.0, 640.0, 0.125),  # moves: 0.6 ms
    Layer("linear", "linear", 1e6, 2500.0, 640.0, 0.5),  # both 0.5 ms
    Layer("flatten", "flatten", 0.0, 0.0, 640.0, 2.0**-17),  # nothing
    Layer("wide", "linear", 4e5, 7000.0, 64.0, 0.0625),  # 0.2 ms, moves: 1.4 ms
)


def chain(layers):
    links = tuple((v, v + 1) for v in range(len(layers) - 1))
    return LayerGraph("net", layers, links, (Exit("final", len(layers) - 1),))


GRAPH = chain(LAYERS)


def test_roofline_by_hand():
    seconds = SLOW.layer_seconds(GRAPH)
    assert seconds.dtype == np.float64 and seconds.shape == (6,)
    # The input and what moves nothing are free, also of the overhead.
    expected = [0, 4.03e-3, 0.63e-3, 0.53e-3, 0, 1.43e-3]
    np.testing.assert_allclose(seconds, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # Twice the FLOP/s: halves what computes; the linear layer is now bound by its bytes.
        ({"flops_per_s": 4e9}, [0, 2.03e-3, 0.63e-3, 0.53e-3, 0, 1.43e-3]),
        ({"flops_per_s": 1e9}, [0, 8.03e-3, 0.63e-3, 1.03e-3, 0, 1.43e-3]),
        ({"bytes_per_s": 5e7}, [0, 4.03e-3, 0.09e-3, 0.53e-3, 0, 0.23e-3]),
        ({"overhead_s": 0.0}, [0, 4e-3, 0.6e-3, 0.5e-3, 0, 1.4e-3]),
        ({"power_w": 0.0, "source": "assumed"}, [0, 4.03e-3, 0.63e-3, 0.53e-3, 0, 1.43e-3]),
    ],
)
def test_what_each_figure_does(change, expected):
    device = dataclasses.replace(SLOW, **change)
    np.testing.assert_allclose(device.layer_seconds(GRAPH), expected, rtol=1e-12)


def test_a_layer_that_moves_but_a_byte_is_started():
    graph = chain((LAYERS[0], Layer("one", "op", 0.0, 1.0, 8.0), Layer("two", "op", 1.0, 0.0, 8.0)))
    np.testing.assert_allclose(SLOW.layer_seconds(graph), [0, 30.2e-6, 30.0005e-6], rtol=1e-12)


def test_profiled_times_are_those_of_the_profile(tmp_path):
    assert Profiled(GRAPH).layer_seconds(GRAPH).tolist() == [0, 0.25, 0.125, 0.5, 2**-17, 0.0625]
    save_graph(tmp_path / "phone.json", GRAPH)
    slower = Profiled(str(tmp_path / "phone.json"), 3.0, 2.5)
    assert slower.layer_seconds(GRAPH).tolist() == [0, 0.75, 0.375, 1.5, 3 * 2**-17, 0.1875]
    assert slower.power_w == 2.5 and Profiled(GRAPH).power_w == 0
    # The file was read at once.
    (tmp_path / "phone.json").unlink()
    assert slower.layer_seconds(GRAPH)[1] == 0.75
    assert slower == Profiled(GRAPH, 3.0, 2.5) and hash(slower) == hash(Profiled(GRAPH, 3.0, 2.5))
    assert slower != Profiled(GRAPH, 2.0, 2.5)


def test_profiled_times_go_by_name():
    # A network with two exits, of which the first one needs every second layer, out of order.
    layers = tuple(dataclasses.replace(layer, seconds=None) for layer in LAYERS)
    links = ((0, 1), (0, 2), (1, 3), (2, 4), (2, 5))
    whole = LayerGraph("net", layers, links, (Exit("a", 4), Exit("b", 5), Exit("c", 3)))
    part = whole.at_exit(1)
    assert [layer.name for layer in part.layers] == ["input", "relu", "wide"]
    assert Profiled(GRAPH).layer_seconds(part).tolist() == [0, 0.125, 0.0625]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, "'other' .*net has no such layer"),
        ({"operation": "conv3d"}, "'conv' .*conv3d of 8000000 FLOP.*has conv2d of"),
        ({"flops": 8.5e6}, "'conv' .*of 8500000 FLOP.*of 8000000 FLOP"),
        ({"flops": None}, "'conv' .*of unknown FLOP.*of 8000000 FLOP"),
        ({"output_bits": 650.0}, "'conv' .*650 bit.*640 bit"),
    ],
)
def test_a_profile_of_another_network_is_refused(change, message):
    layers = (LAYERS[0], dataclasses.replace(LAYERS[1], **change), *LAYERS[2:])
    with pytest.raises(ValueError, match=f"profile must be one of net, but layer {message}"):
        Profiled(GRAPH).layer_seconds(chain(layers))
    # How many bytes are counted may differ from version to version.
    same = (LAYERS[0], dataclasses.replace(LAYERS[1], bytes_moved=7.0), *LAYERS[2:])
    assert Profiled(GRAPH).layer_seconds(chain(same))[1] == 0.25


# conv2d: 1 ms + 2 ns per FLOP + 3 us per byte; everything else 5 us.
FIT = Fit((Cost("conv2d", 1e-3, 2e-9, 3e-6), Cost("view", 7e-6, 0, 0)), Cost("any", 5e-6, 0, 0))


def test_fitted_times(tmp_path):
    save_fit(tmp_path / "fit.json", FIT)
    device = Fitted(tmp_path / "fit.json", 4.0, 1.5)
    # 4 * (1 + 16 + 3) ms
    expected = [0, 80e-3, 20e-6, 20e-6, 28e-6, 20e-6]
    with pytest.warns(UserWarning, match="fitted: .*no times of linear, relu; .*net"):
        np.testing.assert_allclose(device.layer_seconds(GRAPH), expected, rtol=1e-12)
    assert device == Fitted(FIT, 4.0, 1.5) and hash(device) == hash(Fitted(FIT, 4.0, 1.5))
    assert device.power_w == 1.5 and device != Fitted(FIT, 4.0)
    known = chain(LAYERS[:2])
    assert Fitted(FIT).layer_seconds(known).tolist() == [0, pytest.approx(20e-3)]  # no warning


def test_what_a_file_holds_decides_the_device(tmp_path):
    save_fit(tmp_path / "pi.json", FIT)
    save_graph(tmp_path / "phone.json", GRAPH)
    assert read_device(tmp_path / "pi.json", 2.0, 3.0) == Fitted(FIT, 2.0, 3.0, "pi")
    assert read_device(tmp_path / "phone.json") == Profiled(GRAPH, name="phone")
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"bad\.json must have the format"):
        read_device(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"bad\.json is not JSON"):
        read_device(tmp_path / "bad.json")


def test_what_is_not_known_is_refused():
    strange = chain((*LAYERS, Layer("fft", "fft", None, 1.0, 1.0, 1.0)))
    for device in (SLOW, Fitted(FIT)):
        with pytest.raises(ValueError, match="net: the FLOPs of fft could not be counted; use mea"):
            device.layer_seconds(strange)
    assert Profiled(strange).layer_seconds(strange)[-1] == 1.0  # which is the way out
    untimed = chain((*LAYERS, Layer("last", "op", 1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="net: layer 'last' has no measured time"):
        Profiled(untimed)
    assert SLOW.layer_seconds(untimed)[-1] > 0


@pytest.mark.parametrize("device", [Profiled(GRAPH, 3.0, 2.0), Fitted(FIT, 3.0, 2.0), SLOW])
def test_devices_survive_pickle_and_json(device):
    assert pickle.loads(pickle.dumps(device)) == device
    plain = json.loads(json.dumps(dataclasses.asdict(device)))
    assert from_plain(AnyDevice, plain, "device") == device


@pytest.mark.parametrize("name", ["flops_per_s", "bytes_per_s"])
@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_rates_must_be_positive(name, value):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(SLOW, **{name: value})


@pytest.mark.parametrize("name", ["overhead_s", "power_w"])
@pytest.mark.parametrize("value", [-1e-9, math.inf, math.nan])
def test_overhead_and_power_must_not_be_negative(name, value):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(SLOW, **{name: value})


@pytest.mark.parametrize(("kind", "source"), [(Profiled, GRAPH), (Fitted, FIT)])
def test_measured_devices_are_checked(kind, source, tmp_path):
    for value in (0, -2.0, math.nan, math.inf, "2"):
        with pytest.raises(ValueError, match="factor"):
            kind(source, value)
    with pytest.raises(ValueError, match="power_w"):
        kind(source, 1.0, -1.0)
    with pytest.raises(ValueError, match=f"{'profile' if kind is Profiled else 'fit'} .*got 3"):
        kind(3)
    with pytest.raises(FileNotFoundError):
        kind(tmp_path / "none.json")


def test_described_devices():
    assert DEVICES == {
        "raspberry-pi-4": RASPBERRY_PI_4, "phone": PHONE, "edge-server": EDGE_SERVER,
    }  # fmt: skip
    assert all(device.source for device in DEVICES.values())
    # From the slowest to the fastest, in every layer of every network of the zoo.
    for name in zoo.NETWORKS:
        graph = zoo.load_profile(name)
        pi, phone, edge = (device.layer_seconds(graph) for device in DEVICES.values())
        busy = graph.bytes_moved > 0
        assert (pi[busy] > phone[busy]).all() and (phone[busy] > edge[busy]).all()
        assert not pi[~busy].any() and not edge[~busy].any()
