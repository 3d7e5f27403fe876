"""What may be set, and what nature does then: who is there, how fast, and what is asked for."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from real_learning import check_refused_unless_used
from registered import REGISTERED

from mec_gym.core import arrays
from mec_gym.core.plain import from_plain
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.federated_training.scenario import PRESETS, Scenario
from mec_gym.learning.partition import class_shares
from mec_gym.registration import make_problem

FEDERATED = "mec/FederatedTraining-v0"
OWN = REGISTERED[FEDERATED].own

COUNTS = (
    *("clients", "at_once", "quorum", "local_steps", "batch", "payload_rank", "hidden"),
    *("classes_each", "drift_classes", "decisions"),
)
WHOLE = ("max_staleness", "shared")
POSITIVE = (
    *("rate", "server_rate", "payload_share", "alpha", "growth_from", "forward_flop"),
    *("model_bits", "idle_s", "speed", "uplink", "downlink", "on_s", "off_s", "target"),
    *("budget_s", "bin_s"),
)
OPTIONAL = ("deadline", "growth_s", "drift_s")
NON_NEGATIVE = (
    *("server_momentum", "staleness_power", "pull", "payload_threshold", "size_spread"),
    *("feature_spread", "server_s", "speed_spread", "load_spread", "rate_spread", "fading"),
    *("jitter", "compute_w", "send_w"),
)
FRACTIONS = ("load_memory",)
SWITCHES = (
    *("look_ahead", "normalise", "control_variates", "importance", "control_steps", "sliding"),
    *("phase_by_class", "timetable", "privileged"),
)
WORDS = (
    *("late", "merge", "merge_weights", "staleness", "payload", "partition", "availability"),
    "goal",
)

# ----------------------------------------------------------------------------- parameters


def test_every_field_is_checked():
    fields = {field.name for field in dataclasses.fields(Scenario)}
    known = {*COUNTS, *WHOLE, *POSITIVE, *OPTIONAL, *NON_NEGATIVE, *FRACTIONS, *SWITCHES, *WORDS}
    assert fields - known - {"images", "costs"} == set() and known <= fields


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(n, v) for n in COUNTS for v in (0, -1, 2.5, True, "3", None)],
        *[(n, v) for n in WHOLE for v in (-1, 2.5, True, "3", None)],
        *[(n, v) for n in POSITIVE for v in (0, -1.5, math.inf, math.nan, "fast", True, None)],
        *[(n, v) for n in OPTIONAL for v in (0, -1.5, math.inf, math.nan, "ever", True)],
        *[(n, v) for n in NON_NEGATIVE for v in (-0.1, math.inf, math.nan, "wide", True, None)],
        *[(n, v) for n in FRACTIONS for v in (-0.1, 1.1, math.nan, None)],
        *[(n, v) for n in SWITCHES for v in (0, 1, "yes", None)],
        *[(n, v) for n in WORDS for v in ("Keep", "", None, 5)],
        *[(n, 3.1) for n in ("size_spread", "feature_spread", "speed_spread", "load_spread")],
        *[(n, 3.1) for n in ("rate_spread", "fading", "jitter")],
        ("images", None),
        ("images", 5),
        ("quorum", 11),
        ("at_once", 31),
        ("clients", 10_001),
        ("server_momentum", 1.0),
        ("payload_share", 1.01),
        ("growth_from", 1.01),
        ("target", 1.01),
        ("rate", 101.0),
        ("server_rate", 101.0),
        ("pull", 1e7),
        ("drift_classes", 11),
        ("payload_rank", 33),
        ("bin_s", 4001.0),
        ("local_steps", 1001),
        ("batch", 10_001),
        ("hidden", 1001),
        ("decisions", 100_001),
        ("shared", 1137),
        ("classes_each", 1138),
    ],
)
def test_scenarios_that_make_no_sense(name, value):
    extra = {
        "classes_each": {"partition": "shards"},
        "drift_classes": {"drift_s": 500.0},
        "payload_rank": {"payload": "low-rank"},
    }.get(name, {})
    with pytest.raises(ValueError, match=rf"^{name}\b.*{re.escape(repr(value))}") as caught:
        Scenario(**{name: value}, **extra)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clients": 1138}, r"^clients\b.*1137.*1138"),  # fewer images than clients
        ({"clients": 1000, "shared": 200}, r"^clients\b.*937.*1000"),
        ({"alpha": 0.0}, r"^alpha\b.*0\.0"),
        ({"alpha": -0.1}, r"^alpha\b.*-0\.1"),
        ({"quorum": 5, "at_once": 4}, r"^quorum\b.*4.*5"),
        ({"payload": "top-k", "payload_share": 0}, r"^payload_share\b.*0"),
        ({"model_bits": 0}, r"^model_bits\b.*0"),
        ({"budget_s": 1e9}, r"^clients \* .*1e\+07"),
        ({"clients": 1000, "decisions": 100_000}, r"^clients \* .*1e\+07"),
        ({"clients": 1000, "control_variates": True, "hidden": 1000}, r"weights\b.*1e\+07"),
        ({"images": "nowhere.npz"}, r"nowhere\.npz"),
    ],
)
def test_parameters_that_do_not_fit_together(changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        Scenario(**changes)
    assert "\n" not in str(caught.value)


MIX, ELASTIC = {"merge": "mix"}, {"merge": "elastic"}
UNUSED = [  # a field, its value, where it does not count, and where it does
    *[(name, 0.5, mode, {}) for name in ("server_momentum",) for mode in (MIX, ELASTIC)],
    *[
        (name, True, mode, {})
        for name in ("normalise", "control_variates")
        for mode in (MIX, ELASTIC)
    ],
    *[("merge_weights", "equal", mode, {}) for mode in (MIX, ELASTIC)],
    ("look_ahead", True, {}, {"server_momentum": 0.5}),
    ("staleness", "none", {"late": "drop"}, {}),
    ("staleness_power", 1.0, {"late": "drop"}, {}),
    ("max_staleness", 3, {"late": "drop"}, {}),
    ("staleness_power", 1.0, {"staleness": "none"}, {"staleness": "exponential"}),
    ("staleness_power", 1.0, {"staleness": "inverse"}, {}),
    ("payload_share", 0.5, {}, {"payload": "top-k"}),
    ("payload_threshold", 0.5, {"payload": "top-k"}, {"payload": "significant"}),
    ("payload_rank", 3, {"payload": "significant"}, {"payload": "low-rank"}),
    ("alpha", 1.0, {"partition": "iid"}, {}),
    ("alpha", 1.0, {"partition": "shards"}, {}),
    ("classes_each", 3, {}, {"partition": "shards"}),
    ("growth_from", 0.5, {}, {"growth_s": 100.0}),
    ("sliding", True, {}, {"growth_s": 100.0}),
    ("load_memory", 0.5, {}, {"load_spread": 0.5}),
    *[(name, 60.0, {}, {"availability": "churn"}) for name in ("on_s", "off_s")],
    *[(name, 60.0, {}, {"availability": "hours"}) for name in ("on_s", "off_s")],
    ("timetable", True, {}, {"availability": "churn"}),
    ("timetable", True, {}, {"availability": "hours"}),
    ("phase_by_class", True, {"availability": "churn"}, {"availability": "hours"}),
    ("drift_classes", 3, {}, {"drift_s": 500.0}),
    ("target", 0.5, {}, {"goal": "target"}),
]


@pytest.mark.parametrize(("name", "value", "without", "used"), UNUSED)
def test_fields_that_would_not_count_are_refused(name, value, without, used):
    check_refused_unless_used(Scenario, name, value, without, used)


def test_numbers_of_numpy_are_plain_afterwards():
    numpy = Scenario(
        clients=np.int64(5),
        at_once=np.int64(4),
        rate=np.float32(0.25),
        deadline=np.float64(20.0),
        max_staleness=np.int64(3),
        shared=np.int32(2),
        availability="churn",
        timetable=np.bool_(True),
    )
    plain = Scenario(
        clients=5,
        at_once=4,
        rate=0.25,
        deadline=20.0,
        max_staleness=3,
        shared=2,
        availability="churn",
        timetable=True,
    )
    assert json.loads(json.dumps(dataclasses.asdict(numpy))) == dataclasses.asdict(plain)


@pytest.mark.parametrize("scenario", [preset.make() for preset in PRESETS.values()], ids=PRESETS)
def test_json_keeps_a_scenario(scenario):
    text = json.dumps(dataclasses.asdict(scenario))
    assert from_plain(Scenario, json.loads(text), "scenario") == scenario


def test_presets():
    s = {name: preset.make() for name, preset in PRESETS.items()}
    assert {
        *("semi-async", "sync", "async", "iid", "churn", "hours", "drift", "growing", "tiny")
    } == set(s)
    assert s["semi-async"] == Scenario()
    assert (s["semi-async"].clients, s["semi-async"].at_once, s["semi-async"].quorum) == (30, 10, 3)
    assert s["semi-async"].network.parameters == 2410
    assert (s["sync"].quorum, s["sync"].late) == (10, "drop")
    assert (s["async"].quorum, s["async"].merge, s["async"].late) == (1, "mix", "keep")
    assert s["iid"].partition == "iid" and s["drift"].drift_s == 500
    assert (s["churn"].availability, s["churn"].on_s, s["churn"].off_s) == ("churn", 300, 300)
    assert s["hours"].availability == "hours" and s["hours"].phase_by_class
    assert s["hours"].on_s + s["hours"].off_s == 1200
    assert (s["tiny"].clients, s["tiny"].decisions) == (8, 10)


def test_sizes_and_scales():
    s = Scenario()
    assert s.job_flop == 3 * 0.1e9 * 10 * 16 and s.compute_scale == 24.0
    assert s.upload_bits == 32e6 and s.link_scale == 2 + 8
    assert s.bins == 200 and Scenario(budget_s=4001.0).bins == 201
    assert s.memory_rows == 0 and Scenario(control_variates=True).memory_rows == 30
    assert s.class_shares.sum() == pytest.approx(1.0)


# ----------------------------------------------------------------------------------- draws


def test_same_seed_same_trace():
    for name in PRESETS:
        s = PRESETS[name].make()
        one, same, other = (s.sample(np.random.default_rng(k), 2) for k in (7, 7, 8))
        for field, values in arrays.as_dict(one).items():
            assert np.array_equal(values, getattr(same, field)), field
        assert not np.array_equal(one.speed, other.speed)
        assert not np.array_equal(one.key, other.key)
        assert not np.array_equal(one.initial, other.initial)
        assert not np.array_equal(one.own, other.own)


def test_shapes_of_a_trace():
    s = Scenario(**OWN)
    trace = s.sample(np.random.default_rng(0), 3)
    n, t, k, p = 6, 4, 40, s.network.parameters
    shapes = {
        "jitter": (3, t, n),
        "key": (3, t),
        "present": (3, 1, n, k),
        "speed": (3, 1, n, k),
        "uplink": (3, 1, n, k),
        "downlink": (3, 1, n),
        "own": (3, 1, n, s.most),
        "samples": (3, 1, n),
        "gain": (3, 1, n),
        "initial": (3, 1, p),
        "demand": (3, 1, 1, 10),
    }
    assert {name: values.shape for name, values in arrays.as_dict(trace).items()} == shapes
    assert trace.key.dtype == np.uint64 and trace.present.dtype == np.bool_


def check_lognormal(values, median, spread, sigmas=5.0):
    """Gaussian logarithms, cut off at 3 standard deviations (which takes 0.6 % of the spread)."""
    logarithm = np.log(values.reshape(-1) / median)
    if spread == 0:
        assert np.abs(logarithm).max() < 1e-6
        return
    error = spread / math.sqrt(logarithm.size)
    assert abs(logarithm.mean()) < sigmas * error
    assert abs(logarithm.std() / spread - 0.994) < sigmas / math.sqrt(2 * logarithm.size) + 0.002
    assert np.abs(logarithm).max() <= 3.0 * spread * (1 + 1e-6)


def draw(n, **changes):
    s = Scenario(**{**OWN, "clients": 20, "size_spread": 0.0, "partition": "iid", **changes})
    return s, s.sample(np.random.default_rng(3), n)


def test_medians_and_spreads():
    s, trace = draw(60, speed_spread=0.8, rate_spread=0.5, fading=0.0, jitter=0.3)
    check_lognormal(trace.speed[..., 0], s.speed, 0.8)
    assert (trace.speed == trace.speed[..., :1]).all()  # without load it stays
    check_lognormal(trace.uplink[..., 0], s.uplink, 0.5)
    assert (trace.uplink == trace.uplink[..., :1]).all()
    check_lognormal(trace.downlink, s.downlink, 0.5)
    check_lognormal(trace.jitter, 1.0, 0.3)
    assert (trace.gain == 1).all()
    logs = np.log(
        [trace.speed[..., 0].ravel(), trace.uplink[..., 0].ravel(), trace.downlink.ravel()]
    )
    between = np.corrcoef(logs)[np.triu_indices(3, 1)]
    assert np.abs(between).max() < 5 / math.sqrt(1200)  # one says nothing of the other


def test_fading_load_and_gain():
    s, trace = draw(40, speed_spread=0.0, rate_spread=0.0, fading=0.6, feature_spread=0.4)
    check_lognormal(trace.uplink, s.uplink, 0.6)
    check_lognormal(trace.gain, 1.0, 0.4)
    check_lognormal(trace.speed, s.speed, 0.0)
    fade = np.log(trace.uplink)
    assert abs(np.corrcoef(fade[..., 1:].ravel(), fade[..., :-1].ravel())[0, 1]) < 0.03
    s, trace = draw(40, speed_spread=0.0, load_spread=0.7, load_memory=0.8)
    load = np.log(trace.speed / s.speed)
    assert load.std() == pytest.approx(0.7, rel=0.03) and abs(load.mean()) < 0.03
    ahead = [np.corrcoef(load[..., k:].ravel(), load[..., :-k].ravel())[0, 1] for k in (1, 2, 5)]
    assert ahead == pytest.approx([0.8, 0.64, 0.8**5], abs=0.03)


def test_nobody_varies_if_nothing_does():
    s, trace = draw(2, speed_spread=0.0, load_spread=0.0, rate_spread=0.0, fading=0.0, jitter=0.0)
    for values, median in (
        (trace.speed, s.speed), (trace.uplink, s.uplink), (trace.downlink, s.downlink),
        (trace.jitter, 1.0),
    ):  # fmt: skip
        assert (values == median).all()


# ------------------------------------------------------------------------------ availability


def test_always():
    _, trace = draw(2)
    assert trace.present.all()


def test_churn_is_stationary():
    """On for 120 s and off for 40 s, in bins of 10 s: the chances of a chain in continuous time."""
    _, trace = draw(150, availability="churn", on_s=120.0, off_s=40.0, bin_s=10.0, budget_s=1000.0)
    present = trace.present[:, 0]
    assert present.shape == (150, 20, 100)
    episodes, share = 3000, 0.75
    for bin_ in (0, 1, 10, 50, 99):  # the same at all times
        error = math.sqrt(share * (1 - share) / episodes)
        assert abs(present[..., bin_].mean() - share) < 4.5 * error
    fade = math.exp(-10 * (1 / 120 + 1 / 40))
    for k in (1, 3, 8):
        both = present[..., k:] & present[..., :-k]
        expected = share * (share + (1 - share) * fade**k)
        assert both.mean() == pytest.approx(expected, abs=0.006)


def test_a_stay_ends_at_the_same_rate_whenever_it_began():
    _, trace = draw(100, availability="churn", on_s=60.0, off_s=60.0, bin_s=5.0, budget_s=800.0)
    present = trace.present[:, 0]
    begun = present[..., 1:-12] & ~present[..., :-13]
    where = np.argwhere(begun)
    for age in (1, 6):
        still = [present[e, c, t + 1 : t + 1 + age].all() for e, c, t in where]
        then = [
            present[e, c, t + 1 + age] for (e, c, t), here in zip(where, still, strict=True) if here
        ]
        # In a bin: exp(-5 / 60), and a short absence between two bins goes unseen.
        assert np.mean(then) == pytest.approx(0.5 + 0.5 * math.exp(-2 * 5 / 60), abs=0.02)


@pytest.mark.parametrize("availability", ["churn", "hours"])
def test_everybody_is_present_at_least_once(availability):
    """Even if stays are much rarer than episodes."""
    _, trace = draw(20, availability=availability, on_s=100.0, off_s=1e6)
    assert trace.present.any(axis=-1).all()
    assert trace.present.sum(axis=-1).max() <= 3
    _, trace = draw(5, availability=availability, on_s=1e6, off_s=100.0)
    assert trace.present.mean() > 0.95


def test_regular_hours():
    _, trace = draw(30, availability="hours", on_s=300.0, off_s=100.0, bin_s=20.0, budget_s=2000.0)
    present = trace.present[:, 0]
    assert np.array_equal(present[..., 20:], present[..., :-20])  # the period is 20 bins
    assert (present[..., :20].sum(axis=-1) == 15).all()  # of which 15 are on
    patterns = {row.tobytes() for row in present[..., :20].reshape(-1, 20)}
    assert len(patterns) == 20  # all phases occur


def test_regular_hours_by_class():
    s, trace = draw(
        10, availability="hours", on_s=600.0, off_s=600.0, phase_by_class=True,
        partition="shards", classes_each=1, bin_s=10.0, budget_s=2400.0,
    )  # fmt: skip
    shares = class_shares(s.data.learn.labels, trace.own[:, 0], trace.samples[:, 0], 10)
    main = shares.argmax(axis=-1)
    present = trace.present[:, 0]
    time = np.arange(240) * 10.0
    for number in range(10):
        mine = present[main == number]
        assert len(mine) > 5
        expected = (time + 1200 * number / 10) % 1200 < 600
        assert (mine == expected).all()


# ------------------------------------------------------------------------------------ demand


def test_demand_is_that_of_the_images_to_validate_on():
    s, trace = draw(2)
    counts = np.bincount(s.data.validate.labels)
    assert trace.demand.shape == (2, 1, 1, 10)
    np.testing.assert_allclose(trace.demand[1, 0, 0], counts / 300, rtol=1e-12)


def test_demand_that_drifts():
    s, trace = draw(40, drift_s=500.0, drift_classes=4, bin_s=50.0, budget_s=2300.0)
    demand = trace.demand[:, 0]
    assert demand.shape == (40, 46, 10)
    np.testing.assert_allclose(demand.sum(axis=-1), 1.0, rtol=1e-12)
    assert ((demand > 0).sum(axis=-1) == 4).all()
    assert np.array_equal(demand[:, 0], demand[:, 9]) and np.array_equal(
        demand[:, 10], demand[:, 19]
    )
    assert (demand[:, 9] != demand[:, 10]).any(axis=-1).mean() > 0.9
    often = (demand[:, ::10] > 0).mean(axis=(0, 1))  # each class as often as any other
    assert np.abs(often - 0.4).max() < 4.5 * math.sqrt(0.24 / 200)
    counts = np.bincount(s.data.validate.labels)
    asked = demand[3, 7] > 0
    np.testing.assert_allclose(demand[3, 7, asked], counts[asked] / counts[asked].sum(), rtol=1e-12)


# ----------------------------------------------------------------------------- own images


def save(path, images, labels):
    np.savez(path, images=images, labels=labels)
    return str(path)


def three_classes(seed=0, count=90, shape=(2, 3)):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = 40 * rng.random((count, *shape)) + 200.0 * (labels == 1).reshape(-1, *[1] * len(shape))
    images[labels == 2, 0] += 150.0
    return images, labels


def test_images_of_ones_own(tmp_path):
    path = save(tmp_path / "own.npz", *three_classes())
    changes = {**OWN, "images": path, "decisions": 30, "rate": 0.5, "local_steps": 6}
    problem = make_problem(FEDERATED, changes)
    s = problem.scenario
    assert s.network.sizes == (6, 4, 3)
    assert sum(len(part.labels) for part in s.data) == 90
    assert problem.observation_space.shape == (10 * 6 + 5,)
    trace = sample_episodes(problem, 0, 3)
    assert trace.own.max() < len(s.data.learn.labels) < 90 and trace.demand.shape[-1] == 3
    played = rollout(problem, UniformPolicy(problem, 0), trace)
    assert played.outcomes.accuracy[:, -1].mean() > played.outcomes.accuracy[:, 0].mean()
    assert played.outcomes.accuracy[:, -1].mean() > 0.6  # they are easy to tell apart
    with pytest.raises(ValueError, match=r"^clients\b.*57.*58"):
        Scenario(images=path, clients=58)
    with pytest.raises(ValueError, match=r"^drift_classes\b.*3.*5"):
        Scenario(**{**OWN, "images": path, "drift_s": 5.0, "drift_classes": 5})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda i, k: (i[:50], k), r"labels\b.*\(50,\).*\(90,\)"),
        (lambda i, k: (i, k[:, None]), r"labels\b.*\(90,\).*\(90, 1\)"),
        (lambda i, k: (i[:, 0, 0], k), r"images\b.*\(90,\)"),
        (lambda i, k: (np.where(i > 239, np.nan, i), k), r"images\b.*finite"),
        (lambda i, k: (np.where(i > 239, np.inf, i), k), r"images\b.*finite"),
        (lambda i, k: (i - 100, k), r"images\b.*negative"),
        (lambda i, k: (i, k - 1), r"labels\b.*-1"),
        (lambda i, k: (i, k + 0.5), r"labels\b.*0\.5"),
        (lambda i, k: (i, k * 0), r"labels\b.*0"),
        (lambda i, k: (i, np.where(k == 2, 3, k)), r"labels\b.*class 2 0 times"),
        (lambda i, k: (i.astype(str), k), r"images\b.*<U"),
        (lambda i, k: (i[:0], k[:0]), r"images\b.*\(0, 2, 3\)"),
    ],
)
def test_images_of_ones_own_that_make_no_sense(tmp_path, spoil, message):
    path = save(tmp_path / "own.npz", *spoil(*three_classes()))
    with pytest.raises(ValueError, match=message) as caught:
        Scenario(**{**OWN, "images": path})
    assert "\n" not in str(caught.value) and path in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"drift_s": 19.9}, "drift_s must be at least 20, .*bin_s.*, got 19.9"),
        ({"availability": "churn", "off_s": 19.9}, "off_s must be at least 20, .*, got 19.9"),
        ({"drift_s": 0.3, "bin_s": 0.2}, "drift_s must be at least 0.4, .*budget_s.*, got 0.3"),
    ],
)
def test_what_would_never_end_is_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        Scenario(**fields)


def test_control_variates_are_received_but_not_sent():
    plain, corrected = Scenario(), Scenario(control_variates=True)
    assert corrected.download_bits == 2 * plain.download_bits == 2 * plain.model_bits
    assert corrected.upload_bits == plain.upload_bits
    assert corrected.link_scale == plain.link_scale + 32e6 / 16e6
