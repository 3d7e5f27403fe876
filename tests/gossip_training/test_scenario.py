"""What may be set, and what nature does then: who holds what, and how fast everybody is."""

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
from mec_gym.dnn.graph import save_graph
from mec_gym.dnn.zoo import load_profile
from mec_gym.gossip_training.scenario import (
    PRESETS,
    Scenario,
    apart,
    from_images,
    from_profile,
)
from mec_gym.learning.partition import class_shares
from mec_gym.registration import make_problem

GOSSIP = "mec/GossipTraining-v0"
OWN = REGISTERED[GOSSIP].own

COUNTS = ("devices", "rounds", "segments", "local_steps", "batch", "hidden", "classes_each")
WHOLE = ("shared",)
POSITIVE = (
    *("radius", "budget_s", "payload_share", "choco_step", "learning_rate", "alpha"),
    *("forward_flop", "model_bits", "speed", "rate"),
)
SPREADS = ("size_spread", "speed_spread", "rate_spread", "jitter")
SWITCHES = ("overlap", "privileged")
WORDS = ("graph", "mixing", "payload", "partition")

# ----------------------------------------------------------------------------- parameters


def test_every_field_is_checked():
    fields = {field.name for field in dataclasses.fields(Scenario)}
    known = {*COUNTS, *WHOLE, *POSITIVE, *SPREADS, *SWITCHES, *WORDS}
    assert fields - known == {"images"} and known <= fields


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(n, v) for n in COUNTS for v in (0, -1, 2.5, True, "3", None)],
        *[(n, v) for n in WHOLE for v in (-1, 2.5, True, "3", None)],
        *[(n, v) for n in POSITIVE for v in (0, -1.5, math.inf, math.nan, "fast", True, None)],
        *[(n, v) for n in SPREADS for v in (-0.1, 3.1, math.inf, math.nan, "wide", True, None)],
        *[(n, v) for n in SWITCHES for v in (0, 1, "yes", None)],
        *[(n, v) for n in WORDS for v in ("Ring", "", None, 5)],
        ("images", None),
        ("images", 5),
        ("devices", 1),
        ("devices", 1001),
        ("rounds", 100_001),
        ("segments", 1001),
        ("payload_share", 1.01),
        ("choco_step", 1.01),
        ("learning_rate", 101.0),
        ("local_steps", 1001),
        ("batch", 10_001),
        ("hidden", 1001),
        ("shared", 1137),
        ("classes_each", 1138),
        ("alpha", 1.5e6),
    ],
)
def test_scenarios_that_make_no_sense(name, value):
    extra = {"classes_each": {"partition": "shards"}}.get(name, {})
    with pytest.raises(ValueError, match=rf"^{name}\b.*{re.escape(repr(value))}") as caught:
        Scenario(**{name: value}, **extra)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 1000, "shared": 200}, r"^devices\b.*937.*1000"),
        ({"graph": "star"}, r"^graph\b.*one-sided.*'star'"),
        ({"payload": "gradients"}, r"^payload\b.*shared-logits.*'gradients'"),
        ({"mixing": "median"}, r"^mixing\b.*push-sum.*'median'"),
        ({"payload": "choco", "mixing": "push-sum"}, r"^mixing\b.*metropolis.*choco.*'push-sum'"),
        ({"payload": "segments", "mixing": "metropolis"}, r"^mixing\b.*segments.*'metropolis'"),
        ({"payload": "class-logits", "mixing": "push-sum"}, r"^mixing\b.*logits.*'push-sum'"),
        ({"payload": "choco", "overlap": True}, r"^overlap\b.*False.*choco.*True"),
        ({"payload": "class-logits", "overlap": True}, r"^overlap\b.*class-logits.*True"),
        ({"payload": "shared-logits"}, r"^shared\b.*1.*shared-logits.*0"),
        ({"payload": "segments", "hidden": 1, "segments": 86}, r"^segments\b.*85.*86"),
        ({"devices": 1000, "hidden": 100}, r"weights\b.*1e\+07.*"),
        ({"rounds": 100_000, "devices": 100}, r"devices \* .*1e\+07"),
        ({"images": "nowhere.npz"}, r"nowhere\.npz"),
    ],
)
def test_parameters_that_do_not_fit_together(changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        Scenario(**changes)
    assert "\n" not in str(caught.value)


UNUSED = [  # a field, its value, where it does not count, and where it does
    ("radius", 0.7, {}, {"graph": "geometric"}),
    ("payload_share", 0.5, {}, {"payload": "choco"}),
    ("payload_share", 0.5, {"payload": "segments"}, {"payload": "choco"}),
    ("choco_step", 0.5, {"payload": "class-logits"}, {"payload": "choco"}),
    ("segments", 3, {"payload": "choco"}, {"payload": "segments"}),
    ("alpha", 1.0, {"partition": "iid"}, {}),
    ("alpha", 1.0, {"partition": "shards"}, {}),
    ("classes_each", 3, {}, {"partition": "shards"}),
]


@pytest.mark.parametrize(("name", "value", "without", "used"), UNUSED)
def test_fields_that_would_not_count_are_refused(name, value, without, used):
    check_refused_unless_used(Scenario, name, value, without, used)


@pytest.mark.parametrize("value", [1e-12, 1e-9, 1e6])
def test_extreme_mixtures_of_classes(value):
    s = Scenario(**OWN, alpha=value)
    trace = s.sample(np.random.default_rng(0), 2)
    assert (trace.samples >= 1).all() and ((trace.apart >= 0) & (trace.apart <= 1)).all()


def test_numbers_of_numpy_are_plain_afterwards():
    numpy = Scenario(
        devices=np.int64(5),
        learning_rate=np.float32(0.25),
        shared=np.int32(2),
        overlap=np.bool_(True),
    )
    plain = Scenario(devices=5, learning_rate=0.25, shared=2, overlap=True)
    assert json.loads(json.dumps(dataclasses.asdict(numpy))) == dataclasses.asdict(plain)


@pytest.mark.parametrize("scenario", [preset.make() for preset in PRESETS.values()], ids=PRESETS)
def test_json_keeps_a_scenario(scenario):
    text = json.dumps(dataclasses.asdict(scenario))
    assert from_plain(Scenario, json.loads(text), "scenario") == scenario


def test_presets():
    s = {name: preset.make() for name, preset in PRESETS.items()}
    assert {"ring", "complete", "unequal", "tiny"} <= set(s)
    assert s["ring"] == Scenario() and s["ring"].network.parameters == 2410
    assert (s["ring"].devices, s["ring"].graph, len(s["ring"].edges)) == (16, "ring", 32)
    assert s["complete"].graph == "complete" and len(s["complete"].edges) == 16 * 15
    assert s["unequal"].speed_spread > 0 and s["unequal"].rate_spread > 0
    assert s["unequal"].graph == "complete" and s["unequal"].alpha > s["ring"].alpha
    assert (s["tiny"].devices, s["tiny"].rounds) == (4, 8)


def test_sizes():
    s = Scenario()
    assert s.round_flop == 3 * 0.1e9 * 5 * 16 and s.usual_s == 12.0
    assert s.sent_bits == s.reduced_bits == 32e6
    assert (s.masses, s.copied_edges, s.logits) == (0, 0, False)
    assert s.taught_shape == (0, 10, 10)
    assert Scenario(mixing="push-sum").masses == 16
    choco = Scenario(payload="choco")
    # 241 of 2410 entries with 32 + 12 bits each.
    assert choco.sent_bits == pytest.approx(32e6 * 241 * 44 / (2410 * 32))
    assert choco.reduced_bits == 32e6 and choco.copied_edges == 32
    assert Scenario(payload="choco", payload_share=1.0).sent_bits == 32e6
    segments = Scenario(payload="segments", segments=5)
    assert (segments.sent_bits, segments.reduced_bits) == (6.4e6, 32e6)
    logits = Scenario(payload="class-logits")
    assert logits.sent_bits == logits.reduced_bits == 3200
    assert logits.sent_bits < 1e-3 * s.sent_bits and logits.taught_shape == (16, 10, 10)
    shared = Scenario(payload="shared-logits", shared=30)
    assert shared.sent_bits == shared.reduced_bits == 9600
    assert shared.taught_shape == (16, 30, 10)
    assert s.most == 72 and Scenario(shared=30).most == 30 + 70  # of 1137 images


# ----------------------------------------------------------------------------------- draws


def test_same_seed_same_trace():
    for preset in PRESETS.values():
        s = preset.make()
        one, same, other = (s.sample(np.random.default_rng(k), 2) for k in (7, 7, 8))
        for field, values in arrays.as_dict(one).items():
            assert np.array_equal(values, getattr(same, field)), field
        for field in ("compute_s", "rate", "key", "initial", "own"):
            assert not np.array_equal(getattr(one, field), getattr(other, field)), field


def test_shapes_of_a_trace():
    s = Scenario(**OWN)
    trace = s.sample(np.random.default_rng(0), 3)
    n, t, p = 5, 4, s.network.parameters
    shapes = {
        "compute_s": (3, t, n),
        "rate": (3, t, n),
        "key": (3, t),
        "own": (3, 1, n, s.most),
        "samples": (3, 1, n),
        "apart": (3, 1, n, n),
        "initial": (3, 1, p),
    }
    assert {name: values.shape for name, values in arrays.as_dict(trace).items()} == shapes
    assert trace.key.dtype == np.uint64 and trace.initial.dtype == np.float32


def check_lognormal(values, median, spread, sigmas=5.0):
    """Gaussian logarithms, cut off at 3 standard deviations (which takes 0.6 % of the spread)."""
    logarithm = np.log(values.reshape(-1) / median)
    error = spread / math.sqrt(logarithm.size)
    assert abs(logarithm.mean()) < sigmas * error
    assert abs(logarithm.std() / spread - 0.994) < sigmas / math.sqrt(2 * logarithm.size) + 0.002
    assert np.abs(logarithm).max() <= 3.0 * spread * (1 + 1e-6)


def draw(n, **changes):
    s = Scenario(**{**OWN, "devices": 20, "rounds": 30, "partition": "iid", **changes})
    return s, s.sample(np.random.default_rng(3), n)


def test_medians_and_spreads():
    s, trace = draw(60, jitter=0.3, speed=4e9, rate=3e6)
    check_lognormal(trace.compute_s, 3 * 0.1e9 * 8 / 4e9, 0.3)
    check_lognormal(trace.rate, 3e6, 0.3)
    s, trace = draw(60, speed_spread=0.8, rate_spread=0.5, jitter=0.0)
    check_lognormal(trace.compute_s[:, 0], s.usual_s, 0.8)
    check_lognormal(trace.rate[:, 0], s.rate, 0.5)
    for values in (trace.compute_s, trace.rate):  # devices stay as they are
        np.testing.assert_allclose(values, np.broadcast_to(values[:, :1], values.shape))
    between = np.corrcoef(np.log(trace.compute_s[:, 0].ravel()), np.log(trace.rate[:, 0].ravel()))
    assert abs(between[0, 1]) < 5 / math.sqrt(1200)


def test_jitter_comes_on_top_of_what_devices_are():
    _, trace = draw(60, speed_spread=0.8, jitter=0.3)
    log = np.log(trace.compute_s)
    mean = log.mean(axis=1, keepdims=True)
    assert mean.std() == pytest.approx(math.sqrt(0.8**2 + 0.3**2 / 30), rel=0.06)
    assert (log - mean).std() == pytest.approx(0.3 * math.sqrt(29 / 30), rel=0.03)


def test_nobody_varies_if_nothing_does():
    s, trace = draw(2, jitter=0.0)
    np.testing.assert_allclose(trace.compute_s, s.usual_s)
    assert (trace.rate == s.rate).all()


def test_how_far_devices_are_apart():
    held = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0]])
    expected = [[0, 0.5, 0.25, 0.5], [0.5, 0, 0.25, 1], [0.25, 0.25, 0, 0.75], [0.5, 1, 0.75, 0]]
    assert apart(held).tolist() == expected
    s = Scenario(**OWN)
    trace = s.sample(np.random.default_rng(1), 2)
    shares = class_shares(s.data.learn.labels, trace.own, trace.samples, 10)
    for i, j in np.ndindex(5, 5):
        by_hand = 0.5 * np.abs(shares[..., i, :] - shares[..., j, :]).sum(axis=-1)
        np.testing.assert_allclose(trace.apart[..., i, j], by_hand)


def test_devices_without_a_common_class_are_not_more_than_1_apart():
    """Shares add up to 1 but for rounding, and a trace with a little more would be refused."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, size=(300, 2, 10)) * (np.arange(10) < 5)
    counts[:, 1] = np.roll(counts[:, 1], 5, axis=-1)
    held = counts / counts.sum(axis=-1, keepdims=True)
    assert (held.sum(axis=-1) > 1).any()
    found = apart(held)[:, 0, 1]
    assert found.max() == 1 and found.min() == pytest.approx(1)


def test_images_of_skewed_devices():
    """Alpha is per class: 1 is a flat distribution of mixtures, and the smaller, the fewer."""
    few, flat, alike = (
        Scenario(alpha=alpha).sample(np.random.default_rng(0), 10).apart.mean()
        for alpha in (0.1, 1.0, 1000.0)
    )
    iid = Scenario(partition="iid").sample(np.random.default_rng(0), 10).apart.mean()
    assert few > 0.7 > 0.6 > flat > 0.4 > alike and alike == pytest.approx(iid, abs=0.06)


def test_images_that_all_hold_come_last():
    s = Scenario(shared=40, size_spread=0.7)
    trace = s.sample(np.random.default_rng(0), 3)
    for z in range(3):
        rows = [
            trace.own[z, 0, i, count - 40 : count].tolist()
            for i, count in enumerate(trace.samples[z, 0])
        ]
        assert all(row == rows[0] for row in rows) and len(set(rows[0])) == 40


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


@pytest.mark.parametrize("payload", ["weights", "class-logits", "choco"])
def test_images_of_ones_own(tmp_path, payload):
    path = save(tmp_path / "own.npz", *three_classes())
    changes = {
        **OWN, "images": path, "rounds": 20, "learning_rate": 0.5, "local_steps": 6,
        "payload": payload, "budget_s": 1e6,
    }  # fmt: skip
    problem = make_problem(GOSSIP, changes)
    s = problem.scenario
    assert s.network.sizes == (6, 4, 3) and s.taught_shape[1:] == (3, 3)
    assert problem.observation_space.shape == (5 * 5 + 1,)
    played = rollout(problem, UniformPolicy(problem, 0), sample_episodes(problem, 0, 3))
    accuracy = played.outcomes.accuracy.mean(axis=0)
    assert accuracy[-1] > accuracy[0] + 0.05
    with pytest.raises(ValueError, match=r"^devices\b.*57.*58"):
        Scenario(images=path, devices=58)
    assert from_images(path, Scenario(devices=7)) == Scenario(devices=7, images=path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda i, k: (i[:50], k), r"labels\b.*\(50,\).*\(90,\)"),
        (lambda i, k: (i[:, 0, 0], k), r"images\b.*\(90,\)"),
        (lambda i, k: (np.where(i > 239, np.nan, i), k), r"images\b.*finite"),
        (lambda i, k: (np.where(i > 239, np.inf, i), k), r"images\b.*finite"),
        (lambda i, k: (i - 100, k), r"images\b.*negative"),
        (lambda i, k: (i, k + 0.5), r"labels\b.*0\.5"),
    ],
)
def test_images_of_ones_own_that_make_no_sense(tmp_path, spoil, message):
    path = save(tmp_path / "own.npz", *spoil(*three_classes()))
    with pytest.raises(ValueError, match=message) as caught:
        Scenario(**{**OWN, "images": path})
    assert "\n" not in str(caught.value) and path in str(caught.value)


def test_logits_of_many_classes_are_too_much(tmp_path):
    """Of 1000 classes, 1000 devices are taught a thousand million numbers."""
    labels = np.repeat(np.arange(1000), 10)
    path = save(tmp_path / "many.npz", np.random.default_rng(0).random((10_000, 2)), labels)
    changes = {"images": path, "hidden": 1, "devices": 1000, "rounds": 10, "partition": "iid"}
    with pytest.raises(ValueError, match=r"taught.*1e\+07.*1000000000"):
        Scenario(**changes, payload="class-logits")
    assert Scenario(**changes).network.sizes == (2, 1, 1000)


def test_costs_of_ones_own(tmp_path):
    path = tmp_path / "vgg16.json"
    save_graph(path, load_profile("vgg16"))
    s = from_profile(path, Scenario(devices=3))
    assert s.devices == 3 and s.model_bits == 32 * 138_357_544
    assert s.forward_flop == load_profile("vgg16").flops.sum()
    assert make_problem(GOSSIP, f"profile:{path}").scenario.model_bits == s.model_bits
