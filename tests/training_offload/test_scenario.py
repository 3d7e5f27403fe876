"""Nothing that a scenario says is mixed up on the way into a slot."""

import numpy as np
import pytest

from mec_gym.core import arrays
from mec_gym.network.radio import Radio
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario

UP, DOWN, TRAIN = (1e6, 2e6), (30e6, 40e6), (5e6, 7e6)
UNEQUAL = Scenario(server_uplink=UP, server_downlink=DOWN, server_compute=TRAIN)


def test_rates_are_those_of_the_servers():
    trace = UNEQUAL.sample(np.random.default_rng(0), 3)
    for field, rates in ((trace.uplink, UP), (trace.downlink, DOWN), (trace.compute, TRAIN)):
        np.testing.assert_array_equal(field, np.broadcast_to(rates, (3, 1, 2, 2)))


def test_the_fastest_rate_fits_the_observation():
    problem = TrainingOffload(UNEQUAL)
    slot = arrays.at(problem.sample(np.random.default_rng(0), 50), (slice(None), 0))
    observation = problem.observe(slot, problem.start(slot))
    assert observation.min() >= 0 and observation.max() <= 1
    np.testing.assert_allclose(observation[0, 10:14], [0.75, 1.0, 0.75, 1.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"server_uplink": 15e6}, "server_uplink must hold numbers, got 15000000.0"),
        ({"server_uplink": (1e6, 0.0, 1e6)}, r"server_uplink\[1\] must be positive, got 0.0"),
        ({"server_downlink": (1e6,)}, "server_downlink must hold 3 numbers"),
        ({"work": 5e6}, "work must hold 2 numbers, got 5000000.0"),
        ({"work": (1.0, 2.0, 3.0)}, "work must hold 2 numbers"),
        ({"work": (3.0, 2.0)}, "low <= high"),
        ({"connection_time": (0.0, 2.0)}, r"connection_time\[0\] must be positive, got 0.0"),
        ({"backhaul": -1.0}, "backhaul must be positive, got -1.0"),
        ({"cloud_uplink": float("nan")}, "cloud_uplink must be finite, got nan"),
        ({"result_ratio": 1.5}, r"result_ratio must be in \[0, 1\], got 1.5"),
        ({"link_spread": 400.0}, "link_spread must be at most 5, got 400.0"),
        ({"variant": "other"}, "variant must be one of finish, split, literal"),
        ({"horizon": 0}, "horizon must be a whole number"),
        ({"road": "x"}, "road must be a Road or None, got 'x'"),
        ({"radio": Radio()}, "radio needs a road"),
        ({"horizon": 5, "slot_s": 10.0}, "slot_s must be at least the deadline"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Scenario(**changes)


def test_lists_are_as_good_as_tuples():
    lists = Scenario(server_uplink=list(UP), server_downlink=list(DOWN), server_compute=TRAIN)
    assert lists == UNEQUAL and hash(lists) == hash(UNEQUAL)
