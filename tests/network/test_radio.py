"""The link budget against hand arithmetic."""

import math

import numpy as np
import pytest

from mec_gym.network.radio import Radio, noise_power_dbm, path_loss_db, shannon_rate


@pytest.mark.parametrize(
    ("metres", "loss"),
    [
        (1000.0, 128.1),
        (10000.0, 165.7),  # a decade costs 37.6 dB
        (100.0, 90.5),
        (35.0, 73.3570),  # 128.1 + 37.6 * -1.4559320
        (34.0, 73.3570),  # nearer than the model's smallest distance
        (0.0, 73.3570),
    ],
)
def test_path_loss(metres, loss):
    assert path_loss_db(metres) == pytest.approx(loss, abs=5e-5)


def test_noise_power():
    assert noise_power_dbm(1e6, 5.0) == pytest.approx(-109.0, abs=1e-9)
    assert noise_power_dbm(2e6, 0.0) == pytest.approx(-110.98970, abs=1e-5)


@pytest.mark.parametrize(
    ("bandwidth", "snr", "rate"), [(3e6, 15.0, 12e6), (2e6, 1.0, 2e6), (5e6, 0.0, 0.0)]
)
def test_shannon_rate(bandwidth, snr, rate):
    assert shannon_rate(bandwidth, snr) == pytest.approx(rate, rel=1e-12)


def test_link_budget():
    # Noise -174 + 60 + 14 = -100 dBm; at 1 km 38.1 - 128.1 + 100 = 10 dB, a ratio of 10.
    radio = Radio(
        transmit_power_dbm=38.1, bandwidth_hz=1e6, noise_figure_db=14.0, antenna_gain_dbi=0.0
    )
    assert radio.snr(1000.0) == pytest.approx(10.0, rel=1e-9)
    assert radio.rate(1000.0) == pytest.approx(1e6 * math.log2(11), rel=1e-9)
    # Ten times nearer: 47.6 dB.
    assert radio.snr(100.0) == pytest.approx(10**4.76, rel=1e-9)
    both = radio.rate(np.array([[1000.0], [100.0]]))
    np.testing.assert_allclose(both, [[3.459432e6], [15.812403e6]], rtol=1e-6)


def test_default_budget_is_the_lte_uplink():
    # 23 + 15 - 128.1 - (-174 + 64.771213 + 5) = 14.128787 dB
    assert Radio().snr(1000.0) == pytest.approx(10**1.4128787, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bandwidth_hz", 0.0),
        ("bandwidth_hz", -1e6),
        ("bandwidth_hz", math.inf),
        ("transmit_power_dbm", math.nan),
        ("transmit_power_dbm", math.inf),
        ("noise_figure_db", math.nan),
        ("antenna_gain_dbi", math.inf),
    ],
)
def test_bad_parameters_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        Radio(**{name: value})


@pytest.mark.parametrize("name", ["transmit_power_dbm", "noise_figure_db"])
@pytest.mark.parametrize("value", [5e5, -5e5])
def test_powers_beyond_all_measure(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[-100, 100\] dB, got {value}"):
        Radio(**{name: value})
