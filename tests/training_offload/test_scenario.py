"""Nothing that a scenario says is mixed up on the way into a slot."""

from dataclasses import replace

import numpy as np
import pytest

from mec_gym import make_problem
from mec_gym.network.mobility import Road
from mec_gym.network.radio import Radio
from mec_gym.training_offload.scenario import DRIVE_PRESETS, Scenario

UP, DOWN, TRAIN = (1e6, 2e6), (30e6, 40e6), (5e6, 7e6)
UNEQUAL = Scenario(server_uplink=UP, server_downlink=DOWN, server_compute=TRAIN)


def test_rates_are_those_of_the_servers():
    trace = UNEQUAL.sample(np.random.default_rng(0), 3)
    for field, rates in ((trace.uplink, UP), (trace.downlink, DOWN), (trace.compute, TRAIN)):
        np.testing.assert_array_equal(field, np.broadcast_to(rates, (3, 1, 2, 2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"server_uplink": 15e6}, r"server_uplink.*got 15000000\.0"),
        ({"server_uplink": (1e6, 0.0, 1e6)}, r"server_uplink\[1\].*got 0\.0"),
        ({"server_downlink": (1e6,)}, r"server_downlink.* 3 .*got \(1000000\.0,\)"),
        ({"work": 5e6}, r"work.* 2 .*got 5000000\.0"),
        ({"work": (1.0, 2.0, 3.0)}, r"work.* 2 .*got \(1\.0, 2\.0, 3\.0\)"),
        ({"work": (3.0, 2.0)}, r"work.*low <= high.*got \(3\.0, 2\.0\)"),
        ({"connection_time": (0.0, 2.0)}, r"connection_time\[0\].*got 0\.0"),
        ({"backhaul": -1.0}, r"backhaul.*got -1\.0"),
        ({"cloud_uplink": float("nan")}, "cloud_uplink.*got nan"),
        ({"result_ratio": 1.5}, r"result_ratio.*got 1\.5"),
        ({"link_spread": 400.0}, r"link_spread.* 5, got 400\.0"),
        ({"variant": "other"}, "variant.*finish, split, literal.*got 'other'"),
        ({"horizon": 0}, "horizon.*got 0"),
        ({"road": "x"}, "road.*Road or None.*got 'x'"),
        ({"radio": Radio()}, "radio.*road"),
        ({"horizon": 5, "slot_s": 10.0}, r"slot_s.*180\.0.*got 10\.0"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Scenario(**changes)


def test_lists_are_as_good_as_tuples():
    lists = Scenario(server_uplink=list(UP), server_downlink=list(DOWN), server_compute=TRAIN)
    assert lists == UNEQUAL and hash(lists) == hash(UNEQUAL)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"horizon": 10**6}, "horizon must be at most 100000, got 1000000"),
        ({"slot_s": 1e9}, r"horizon \* slot_s / road\.step_s.* slot_s = 1e\+09"),
        ({"road": Road(step_s=1e-6)}, r"road\.step_s = 1e-06"),
        ({"road": Road(min_speed=1e-9)}, r"road\.min_speed = 1e-09"),
        ({"backhaul": 1e-300}, "backhaul must be at least 1e-12"),
        ({"work": (1e300, 1e308)}, r"work\[0\] must be at most 1e\+18"),
    ],
)
def test_what_would_overflow_or_not_fit_into_memory(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(DRIVE_PRESETS["drive"].make(), **fields)


def test_a_radio_that_carries_nothing():
    deaf = Radio(transmit_power_dbm=-100.0, noise_figure_db=100.0)
    with pytest.raises(ValueError, match=r"radio must carry something.*-100\.0"):
        make_problem("mec/TrainingOffload-v0", replace(DRIVE_PRESETS["drive"].make(), radio=deaf))
