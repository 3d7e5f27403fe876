"""Scenarios with devices that were measured."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import mec_gym
from mec_gym.dnn.devices import EDGE_SERVER, RASPBERRY_PI_4, Fitted, Profiled
from mec_gym.dnn.fit import Cost, Fit, save_fit
from mec_gym.dnn.graph import save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.early_exit import ENVIRONMENTS, Scenario, from_device, from_edge

(EXIT,) = ENVIRONMENTS
NETWORK = load_profile("mobilenetv2-digits")
# The k-th layer takes k us.
TIMED = replace(
    NETWORK,
    layers=tuple(replace(one, seconds=1e-6 * k) for k, one in enumerate(NETWORK.layers)),
)
FIT = Fit((), Cost("any", 1e-6, 2e-9, 3e-9))


@pytest.fixture
def files(tmp_path):
    save_graph(tmp_path / "pi.json", TIMED)
    save_fit(tmp_path / "server.json", FIT)
    save_graph(tmp_path / "net.json", NETWORK)
    return tmp_path


@pytest.mark.filterwarnings("ignore:server")
def test_both_sides_by_name(files):
    name = f"device:{files}/pi.json+factor=2.5+power_w=4+edge:{files}/server.json"
    scenario = mec_gym.make_problem(EXIT, name).scenario
    assert scenario.device == Profiled(TIMED, 2.5, 4.0, "pi")
    assert scenario.edge == Fitted(FIT, 1.0, EDGE_SERVER.power_w, "server")
    assert scenario == replace(Scenario(), device=scenario.device, edge=scenario.edge)
    # All of the first exit on the device.
    layers = [NETWORK.layers.index(one) for one in NETWORK.at_exit(0).layers]
    most = scenario.table.cost[0, :, 0].max()
    assert most == pytest.approx(2.5e-6 * sum(layers), rel=1e-12)


def test_the_power_is_that_of_the_device_before(files):
    assert from_device(files / "pi.json").device.power_w == RASPBERRY_PI_4.power_w
    begin = Scenario(device=Profiled(TIMED, power_w=7.0))
    assert from_device(files / "pi.json", begin, factor="2").device == Profiled(
        TIMED, 2.0, 7.0, "pi"
    )
    assert from_edge(files / "pi.json", begin).edge == Profiled(
        TIMED, 1.0, EDGE_SERVER.power_w, "pi"
    )


def test_another_network_needs_another_profile(files):
    other = f"profile:{files}/other.json"
    save_graph(files / "other.json", load_profile("alexnet-digits"))
    with pytest.raises(ValueError, match=r"profile must be one of alexnet-digits.*mobilenetv2"):
        mec_gym.make_problem(EXIT, f"{other}+device:{files}/pi.json")
    mec_gym.make_problem(EXIT, f"profile:{files}/net.json+device:{files}/pi.json")


@pytest.mark.parametrize(
    ("option", "message"),
    [("factor=0", "factor .*got 0"), ("factor=x", "factor .*got 'x'"), ("power_w=-1", "power_w")],
)
def test_bad_numbers(files, option, message):
    with pytest.raises(ValueError, match=message):
        mec_gym.make_problem(EXIT, f"device:{files}/pi.json+{option}")


def test_a_profile_without_times(files):
    with pytest.raises(ValueError, match="has no measured time"):
        from_device(files / "net.json")


@pytest.mark.filterwarnings("ignore:fitted")
def test_such_environments_can_be_made_from_their_spec(files):
    scenario = Scenario(device=Profiled(files / "pi.json", 2.0), edge=Fitted(FIT))
    env = gym.make(EXIT, scenario=scenario)
    spec = gym.envs.registration.EnvSpec.from_json(json.dumps(json.loads(env.spec.to_json())))
    (files / "pi.json").unlink()
    again = gym.make(spec)
    assert again.unwrapped.problem.scenario == scenario
    first, second = (one.reset(seed=3)[0] for one in (env, again))
    assert np.array_equal(first, second)
