"""Devices: the roofline by hand, measured times, what is refused."""

import dataclasses
import math

import numpy as np
import pytest

from mec_gym.dnn import zoo
from mec_gym.dnn.devices import DEVICES, EDGE_SERVER, PHONE, RASPBERRY_PI_4, Device, Measured
from mec_gym.dnn.graph import Exit, Layer, LayerGraph

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


def test_measured_times_are_those_of_the_profile():
    assert Measured().layer_seconds(GRAPH).tolist() == [0, 0.25, 0.125, 0.5, 2**-17, 0.0625]
    slower = Measured("phone", 3.0, 2.5)
    assert slower.layer_seconds(GRAPH).tolist() == [0, 0.75, 0.375, 1.5, 3 * 2**-17, 0.1875]
    assert (slower.name, slower.power_w) == ("phone", 2.5) and Measured().power_w == 0


def test_what_is_not_known_is_refused():
    strange = chain((*LAYERS, Layer("fft", "fft", None, 1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="net: the FLOPs of fft could not be counted; use meas"):
        SLOW.layer_seconds(strange)
    assert Measured().layer_seconds(strange)[-1] == 1.0  # which is the way out
    untimed = chain((*LAYERS, Layer("last", "op", 1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="net: layer 'last' has no measured time"):
        Measured().layer_seconds(untimed)
    assert SLOW.layer_seconds(untimed)[-1] > 0


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


def test_measured_is_checked():
    for value in (0, -2.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="slowdown"):
            Measured(slowdown=value)
    with pytest.raises(ValueError, match="power_w"):
        Measured(power_w=-1.0)


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
