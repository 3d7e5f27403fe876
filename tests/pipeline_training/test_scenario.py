"""What may be set, and what nature does then: who comes and goes, and how fast they are."""

import dataclasses
import itertools
import json
import math
import re

import numpy as np
import pytest
from pipeline_training import oracle

from mec_gym.core import arrays
from mec_gym.core.plain import from_plain
from mec_gym.dnn.graph import Exit, Layer, LayerGraph, save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.pipeline_training.scenario import PRESETS, Scenario, from_profile, history
from mec_gym.registration import make_problem

COUNTS = ("blocks", "devices", "microbatches", "samples", "horizon")
RATES = ("weight_factor", "slot_s", "link", "store", "speed")
SPREADS = ("speed_spread", "load_spread", "link_spread", "store_spread", "fading")

# ----------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(n, v) for n in COUNTS for v in (0, -1, 2.5, True, "3", None)],
        *[(n, v) for n in RATES for v in (0, -1.5, math.inf, math.nan, 1e19, 1e-13, "fast", True)],
        *[(n, v) for n in ("link", "store", "slot_s") for v in (None, (1e6, 2e6))],
        *[(n, v) for n in SPREADS for v in (-0.1, math.nan, 3.1, "wide")],
        *[(n, v) for n in ("state_copies", "restart_s") for v in (-1, math.inf)],
        *[("memory_of_load", v) for v in (-0.1, 1.1, math.nan)],
        *[("schedule", v) for v in ("GPipe", "2f2b", None, 5)],
        *[("notice", v) for v in (-1, 2.5, True, "30", None)],
        *[("away", v) for v in (0, 0.5, -3.0, math.nan)],
        ("stay", 6.0),
        ("stay", (6.0,)),
        ("stay", (60.0, 6.0)),
        ("stay", (0.5, 60.0)),
        ("stay", "ever"),
        ("memory", 0.0),
        ("memory", "8 GB"),
        ("memory", (1e9, 1e9, 1e9)),
        ("memory", ()),
        ("speed", (1e9, 2e9, 3e9)),
        ("speed", None),
        ("devices", 65),
        ("microbatches", 1025),
    ],
)
def test_scenarios_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=rf"^{name}\b.*{re.escape(repr(value))}"):
        Scenario(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": (1e9, 1e9, 0.0, 1e9)}, r"^memory\[2\].*0\.0"),
        ({"memory": (1e9, -1.0, 1e9, 1e9)}, r"^memory\[1\].*-1\.0"),
        ({"speed": (1e9, 1e9, 1e9, 0)}, r"^speed\[3\].* 0$"),
        ({"speed": (1e9, math.nan, 1e9, 1e9)}, r"^speed\[1\].*nan"),
        ({"stay": (0, 6.0)}, r"^stay\[0\].* 0$"),
        ({"network": "resnet"}, r"^network\b.*resnet18.*'resnet'"),
        ({"network": "nowhere.json"}, r"^network\b.*nowhere\.json"),
        ({"network": 5}, r"^network\b.*5"),
        ({"horizon": 10**7}, r"^horizon \* devices.*horizon = 10000000, devices = 4"),
        ({"horizon": 10**5, "devices": 64}, r"^horizon \* devices.*devices = 64"),
        ({"weight_factor": 1e18}, r"^weight_factor\b.*1e\+18"),
        ({"schedule": "gpipe", "colour": 1}, "colour"),
    ],
)
def test_scenarios_of_which_a_part_makes_no_sense(changes, message):
    with pytest.raises(TypeError if "colour" in changes else ValueError, match=message):
        Scenario(**changes)


def test_chains_that_are_too_short():
    assert Scenario(network="alexnet", blocks=22).blocks == 22
    with pytest.raises(ValueError, match=r"^network\b.*blocks .*\[1, 22\].*alexnet.*23"):
        Scenario(network="alexnet", blocks=23)
    three = oracle.network([1e9] * 3, [1e6] * 4, [1e6] * 3)
    with pytest.raises(ValueError, match=r"^network\b.*blocks .*\[1, 3\].*own.*4"):
        Scenario(network=three, blocks=4, devices=2)


def test_networks_that_compute_nothing():
    with pytest.raises(ValueError, match=r"^network\b.*own.* 0 FLOP"):
        Scenario(network=oracle.network([0, 0], [1e6] * 3, [1e6] * 2), blocks=2)


def test_only_those_who_come_and_go_are_away():
    assert Scenario(stay=None, away=0.5).stay is None
    with pytest.raises(ValueError, match=r"^away\b.*0\.5"):
        Scenario(away=0.5)


def test_networks_of_several_exits_are_trained_at_the_last_one():
    several, one = load_profile("vgg16-exits"), load_profile("vgg16")
    assert len(several.exits) > 1 == len(one.exits)
    for network in ("vgg16-exits", several):
        s = Scenario(network=network)
        assert s.sample_work == pytest.approx(3 * one.flops.sum(), rel=1e-12)
        assert s.chain.weights.sum() == 138_357_544 * 32


def test_numbers_of_numpy_are_plain_afterwards():
    """JSON knows no others."""
    plain = Scenario(
        horizon=5, speed=3e10, link=2e6, notice=3, stay=(4.0, 8.0), memory=(1e9, 2e9, 3e9, 4e9)
    )
    numpy = Scenario(
        horizon=np.int64(5),
        speed=np.float32(3e10),
        link=np.int32(2e6),
        notice=np.int64(3),
        stay=np.array([4, 8]),
        memory=np.array([1e9, 2e9, 3e9, 4e9]),
    )
    assert json.loads(json.dumps(dataclasses.asdict(numpy))) == json.loads(
        json.dumps(dataclasses.asdict(plain))
    ) | {"speed": float(np.float32(3e10))}
    assert Scenario(speed=np.array([1e9, 2e9, 3e9, 4e9])) == Scenario(speed=(1e9, 2e9, 3e9, 4e9))


@pytest.mark.parametrize(
    "scenario",
    [
        *[preset.make() for preset in PRESETS.values()],
        Scenario(speed=(1e9, 2e9, 3e9, 4e9), memory=(1e9, 2e9, 3e9, 4e9), schedule="gpipe"),
        Scenario(network=oracle.network([1e9] * 6, [1e6] * 7, [1e6] * 6), stay=None),
    ],
)
def test_json_keeps_a_scenario(scenario):
    text = json.dumps(dataclasses.asdict(scenario))
    assert from_plain(Scenario, json.loads(text), "scenario") == scenario


def test_presets():
    s = {name: preset.make() for name, preset in PRESETS.items()}
    assert set(s) == {"tiny", "default", "heavy", "stable", "timetable"}
    assert s["default"] == Scenario()
    assert (s["default"].blocks, s["default"].devices, s["default"].horizon) == (6, 4, 60)
    # ResNet18 has 11 689 512 parameters; its normalisation reads two statistics besides.
    assert s["default"].chain.weights.sum() == pytest.approx(11_689_512 * 32, rel=0.001)
    assert s["default"].chain.work.sum() == pytest.approx(2 * 1.8e9, rel=0.02)
    np.testing.assert_allclose(s["heavy"].chain.weights, 3 * s["default"].chain.weights)
    assert s["heavy"].stay == (4, 60) and s["stable"].stay is None
    assert s["timetable"].notice >= s["timetable"].horizon == 30


# -------------------------------------------------------------------------------- history


def test_history_by_hand():
    present = np.array([[1, 1, 0, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0, 0, 1]], dtype=bool)
    present = present.T[None]  # one episode, two devices
    seen, departures, leaves = (a[0].T.tolist() for a in history(present, 0))
    assert seen == [[0, 1, 2, 2, 3, 3, 3, 4], [0, 0, 0, 1, 2, 3, 3, 3]]
    assert departures == [[0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 0, 0, 0, 1, 1, 1]]
    assert leaves == [[1, 1, 0, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0, 0, 1]]


def test_history_with_notice():
    present = np.array([[1, 1, 0, 1, 0, 0, 1, 1], [0, 1, 1, 1, 1, 0, 0, 1]], dtype=bool)
    present = present.T[None]
    # In how many slots it will be gone; at the end of the episode nobody leaves.
    _, _, leaves = history(present, 10)
    assert leaves[0].T.tolist() == [[2, 1, 0, 1, 0, 0, 11, 11], [0, 4, 3, 2, 1, 0, 0, 11]]
    _, _, leaves = history(present, 2)
    assert leaves[0].T.tolist() == [[2, 1, 0, 1, 0, 0, 3, 3], [0, 3, 3, 2, 1, 0, 0, 3]]
    _, _, leaves = history(present, 1)
    assert leaves[0].T.tolist() == [[2, 1, 0, 1, 0, 0, 2, 2], [0, 2, 2, 2, 1, 0, 0, 2]]


@pytest.mark.parametrize("notice", [0, 1, 4, 100])
def test_history_against_counting(notice):
    rng = np.random.default_rng(notice)
    present = rng.random((5, 12, 3)) < 0.6
    seen, departures, leaves = history(present, notice)
    for n, t, m in np.ndindex(*present.shape):
        past = present[n, : t + 1, m].tolist()
        assert seen[n, t, m] == sum(past[:-1])
        assert departures[n, t, m] == sum(a and not b for a, b in itertools.pairwise(past))
        gone = next((k for k in range(t, 12) if not present[n, k, m]), math.inf)
        assert leaves[n, t, m] == (min(gone - t, notice + 1) if present[n, t, m] else 0)


def test_one_slot_has_no_past_and_no_future():
    for array, expected in zip(history(np.ones((2, 1, 3), bool), 5), (0, 0, 6), strict=True):
        assert (array == expected).all() and array.shape == (2, 1, 3)


# --------------------------------------------------------------------------- come and go


def test_stays_and_absences_have_their_means():
    s = Scenario(devices=2, horizon=4000, stay=(8.0, 8.0), away=5.0)
    present = s.sample(np.random.default_rng(0), 40).present
    assert present.shape == (40, 4000, 2)
    change = present[:, 1:] != present[:, :-1]
    for here, mean in ((True, 8.0), (False, 5.0)):
        chances = (present[:, :-1] == here).sum()
        left = (change & (present[:, :-1] == here)).sum() / chances
        # A slot's chance is 1 / mean, so the count is binomial.
        error = math.sqrt((1 / mean) * (1 - 1 / mean) / chances)
        assert abs(left - 1 / mean) < 4 * error
    share = 8 / (8 + 5)
    # Slots k apart correlate as (1 - 1/8 - 1/5)^k: 160 000 slots are worth 1.675/0.325 less.
    error = math.sqrt(share * (1 - share) / 320_000 * (2 - 0.325) / 0.325)
    assert abs(present.mean() - share) < 4 * error
    # geometric: a stay of exactly one slot has the chance 1 / mean
    starts = ~present[:, :-2] & present[:, 1:-1]
    single = (starts & ~present[:, 2:]).sum() / starts.sum()
    assert abs(single - 1 / 8) < 4 * math.sqrt(1 / 8 * 7 / 8 / starts.sum())


def test_presence_is_stationary_from_the_start():
    s = Scenario(devices=4, horizon=60, stay=(6.0, 60.0), away=6.0)
    present = s.sample(np.random.default_rng(1), 3000).present
    # The mean of stay / (stay + 6) with log(stay) uniform: log(66 / 12) / log(10).
    share = math.log(66 / 12) / math.log(10)
    for t in (0, 1, 5, 30, 59):
        assert abs(present[:, t].mean() - share) < 4 * math.sqrt(share * (1 - share) / 12_000)
    # Devices and episodes are independent of each other.
    flat = present[:, 30].astype(float)
    assert np.abs(np.corrcoef(flat.T) - np.eye(4)).max() < 4 / math.sqrt(3000)


def test_mean_stays_differ_between_devices():
    s = Scenario(devices=1, horizon=3000, stay=(6.0, 60.0), away=6.0)
    present = s.sample(np.random.default_rng(2), 400).present[..., 0]
    left = (present[:, :-1] & ~present[:, 1:]).sum(axis=1)
    stay = present[:, :-1].sum(axis=1) / left
    # Uniform in log: a quarter lies below 6 * 10^(1/4), and so on; give or take noise.
    for q in (0.25, 0.5, 0.75):
        assert abs((stay < 6 * 10**q).mean() - q) < 0.08
    assert 3 < stay.min() < 8 and 45 < stay.max() < 120


def test_every_device_is_there_at_least_once():
    s = Scenario(devices=4, horizon=3, stay=(1.0, 1.5), away=30.0)
    trace = s.sample(np.random.default_rng(3), 500)
    assert trace.present.any(axis=1).all()
    assert (trace.present.sum(axis=1) == 1).mean() > 0.5
    for found, expected in zip(
        (trace.seen, trace.departures, trace.leaves), history(trace.present, 0), strict=True
    ):
        assert np.array_equal(found, expected)


def test_who_would_be_away_comes_once_at_any_time():
    # Hardly anybody is there by itself: a stay of two slots on average, at a place that is uniform.
    s = Scenario(devices=1, horizon=10, stay=(2.0, 2.0), away=1e9)
    present = s.sample(np.random.default_rng(8), 20_000).present[..., 0]
    comes = present.argmax(axis=1)
    assert np.abs(np.bincount(comes, minlength=10) / 20_000 - 0.1).max() < 0.01
    # It stays for one stretch, whose length is geometric of mean 2 where the end is far enough.
    assert (np.diff(present.astype(int), axis=1) == 1).sum(axis=1).max() <= 1
    long = present[comes == 0].sum(axis=1)
    for k in (1, 2, 3):
        assert np.mean(long == k) == pytest.approx(0.5**k, abs=0.04)


def test_one_memory_for_all():
    assert Scenario(memory=8e9).memory_limits.tolist() == [8e9] * 4
    assert Scenario(memory=(1e9, 2e9, 3e9, 4e9)).memory_limits.tolist() == [1e9, 2e9, 3e9, 4e9]
    assert np.isinf(Scenario().memory_limits).all()
    assert Scenario(memory=np.float32(8e9)).memory == 8e9


def test_networks_with_embeddings_are_refused():
    layers = (
        Layer("input", "input", 0.0, 0.0, 64.0),
        Layer("words", "embedding", 0.0, 1e3, 4e3),
        Layer("head", "linear", 1e6, 1e6, 1e3),
    )
    graph = LayerGraph("reader", layers, ((0, 1), (1, 2)), (Exit("exit", 2),))
    with pytest.raises(ValueError, match="network must not hold embeddings, got words in reader"):
        Scenario(network=graph, blocks=2)


def test_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "own.json"
    save_graph(path, load_profile("alexnet"))
    problem = make_problem("mec/PipelineTraining-v0", f"profile:{path}")
    assert problem.scenario == dataclasses.replace(Scenario(), network=load_profile("alexnet"))
    assert from_profile(path, Scenario(devices=3)).devices == 3


def test_in_a_stable_fleet_nobody_leaves():
    trace = PRESETS["stable"].make().sample(np.random.default_rng(4), 5)
    assert trace.present.all() and not trace.departures.any()
    assert np.array_equal(trace.seen, np.broadcast_to(np.arange(60)[:, None], (5, 60, 4)))


# ---------------------------------------------------------------------------------- rates


def test_rates_have_their_medians_and_spreads():
    s = Scenario(horizon=40)
    trace = s.sample(np.random.default_rng(5), 1500)
    off = ~np.eye(4, dtype=bool)
    known = {
        "speed": (trace.speed, 50e9, 0.6, 0.35),
        "link": (trace.link[..., off], 150e6, 0.5, 0.2),
        "store": (trace.store, 30e6, 0.3, 0.2),
    }
    for name, (rates, median, own, change) in known.items():
        assert (rates > 0).all(), name
        log = np.log(rates / median)
        count = 1500 * rates.shape[-1]
        total = math.sqrt(own**2 + change**2)
        assert abs(log.mean()) < 4 * total / math.sqrt(count), name
        assert abs(np.median(log)) < 5 * total * 1.25 / math.sqrt(count), name
        for t in (0, 39):
            assert log[:, t].std() == pytest.approx(total, rel=0.05), name
        # Two slots k apart share what is a device's own, and 0.9^k of the rest.
        for apart in (1, 20):
            r = np.mean(log[:, apart:] * log[:, :-apart])
            expected = own**2 + change**2 * 0.9**apart
            assert r == pytest.approx(expected, rel=0.07), name
    # Both directions of a link are rates of their own; a device has none to itself.
    assert not trace.link[..., ~off].any()
    one, two = np.log(trace.link[:, 0, 0, 1]), np.log(trace.link[:, 0, 1, 0])
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / math.sqrt(1500)


def test_each_device_may_have_a_speed_of_its_own():
    s = Scenario(devices=3, speed=(1e9, 5e9, 20e9), speed_spread=0.0, load_spread=0.1)
    trace = s.sample(np.random.default_rng(6), 400)
    np.testing.assert_allclose(np.median(trace.speed, axis=(0, 1)), [1e9, 5e9, 20e9], rtol=0.02)
    assert s.speed_scale == 5e9


def test_nothing_varies_without_spread():
    s = Scenario(**dict.fromkeys(SPREADS, 0.0))
    trace = s.sample(np.random.default_rng(7), 2)
    assert (trace.speed == 50e9).all() and (trace.store == 30e6).all()
    assert (trace.link == 150e6 * ~np.eye(4, dtype=bool)).all()


def test_rates_are_bounded():
    s = Scenario(**dict.fromkeys(SPREADS, 3.0), horizon=30)
    trace = s.sample(np.random.default_rng(8), 200)
    for rates, median in ((trace.speed, 50e9), (trace.store, 30e6)):
        assert median * math.exp(-18.01) <= rates.min() < median * math.exp(-12)
        assert median * math.exp(12) < rates.max() <= median * math.exp(18.01)


def test_the_same_seed_draws_the_same_and_episodes_differ():
    s = Scenario()
    one, two = (s.sample(np.random.default_rng(5), 3) for _ in range(2))
    arrays.map_arrays(np.testing.assert_array_equal, one, two)
    for name in ("present", "speed", "link", "store"):
        values = getattr(one, name)
        assert not np.array_equal(values[0], values[1]), name
