"""Every parameter matters, and the well-known ones in the direction that publications report."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from registered import REGISTERED
from slow import slow_except

from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario

OWN = REGISTERED["mec/GossipTraining-v0"].own


class Talk:
    """Who listens to whom: ``"all-reduce"``, ``"matching"``, or a share of all edges, at random."""

    def __init__(self, problem, kind):
        self.s, self.kind = problem.scenario, kind
        self.place = {tuple(edge): 1 + k for k, edge in enumerate(self.s.edges.tolist())}
        self.rng = np.random.default_rng(1)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        action = np.zeros((*np.shape(observation)[:-1], 1 + len(self.place)), dtype=np.int64)
        rows = action.reshape(-1, action.shape[-1])
        if self.kind == "all-reduce":
            rows[:, 0] = 1
        elif self.kind == "matching":
            for row in rows:
                order = self.rng.permutation(self.s.devices)
                for i, j in zip(order[::2].tolist(), order[1::2].tolist(), strict=False):
                    row[[self.place[i, j], self.place[j, i]]] = 1
        else:
            rows[:, 1:] = self.rng.random(rows[:, 1:].shape) < self.kind
        return action, state


def played(scenario, episodes, talk=1.0):
    problem = GossipTraining(scenario)
    return rollout(problem, Talk(problem, talk), sample_episodes(problem, 0, episodes))


# ---------------------------------------------------------------- every one of them matters

BASE = {**OWN, "rounds": 5, "budget_s": 100.0, "learning_rate": 0.3}
COMPLETE = {"graph": "complete"}

KNOBS = {
    "devices": (6, {}),
    "graph": ("complete", {}),
    "radius": (1.2, {"graph": "geometric"}),
    "rounds": (6, {}),
    "budget_s": (90.0, {}),
    "mixing": ("metropolis", {}),
    "overlap": (True, {}),
    "payload": ("class-logits", {}),
    "payload_share": (0.2, {"payload": "choco"}),
    "choco_step": (0.9, {"payload": "choco"}),
    "segments": (3, {"payload": "segments"}),
    "local_steps": (3, {}),
    "batch": (5, {}),
    "learning_rate": (0.1, {}),
    "hidden": (5, {}),
    "partition": ("iid", {}),
    "alpha": (3.0, {}),
    "classes_each": (1, {"partition": "shards"}),
    "size_spread": (0.5, {}),
    "shared": (30, {}),
    "forward_flop": (0.3e9, {}),
    "model_bits": (64e6, {}),
    "speed": (4e9, {}),
    "speed_spread": (0.5, {}),
    "rate": (8e6, {}),
    "rate_spread": (0.5, {}),
    "jitter": (0.0, {}),
}


def totals(scenario):
    """What comes of three episodes."""
    found = played(scenario, 3, talk=0.5)
    parts = arrays.as_dict(found.outcomes)
    return np.array([np.where(found.played, values, 0).sum() for values in parts.values()])


def test_all_parameters_are_tried():
    seen = {"images", "privileged"}  # files; what observations show
    assert {field.name for field in dataclasses.fields(Scenario)} - seen == set(KNOBS)


@pytest.mark.parametrize("name", slow_except(KNOBS, "mixing", "overlap", "payload_share"))
def test_every_parameter_changes_what_comes_out(name):
    value, context = KNOBS[name]
    before = Scenario(**{**BASE, **context})
    assert getattr(before, name) != value
    after = dataclasses.replace(before, **{name: value})
    assert not np.allclose(totals(before), totals(after), rtol=1e-6)


@pytest.mark.parametrize("mixing", ["metropolis", "push-sum"])
def test_every_way_of_mixing_is_another(mixing):
    s = Scenario(**{**BASE, **COMPLETE})
    found = [
        played(dataclasses.replace(s, mixing=m), 2, talk=0.4).outcomes.consensus
        for m in ("uniform", mixing)
    ]
    assert not np.allclose(*found, rtol=1e-3)


@pytest.mark.parametrize("payload", ["choco", "segments", "class-logits", "shared-logits"])
def test_every_payload_is_another(payload):
    s = Scenario(**{**BASE, **COMPLETE, "shared": 20})
    whole, part = (
        played(dataclasses.replace(s, payload=p), 2, talk=0.6).outcomes
        for p in ("weights", payload)
    )
    assert not np.allclose(whole.consensus, part.consensus, rtol=1e-3)
    assert (part.sent_bits.sum(axis=1) < whole.sent_bits.sum(axis=1)).all()


# ------------------------------------------------------------------ in the known direction

SKEWED = Scenario(graph="complete", rounds=60, budget_s=700.0, local_steps=5)
"""Devices see few classes each."""


@dataclasses.dataclass
class Totals:
    """What comes of each of several episodes; means and sums over its rounds."""

    error: np.ndarray  # mean error over the budget
    wrong: np.ndarray  # error on images to test on, when it has ended
    consensus: np.ndarray
    seconds: np.ndarray
    waiting: np.ndarray
    bits: np.ndarray
    rounds: np.ndarray


def of(scenario, talk=1.0, episodes=4):
    found = played(scenario, episodes, talk)
    rounds = found.played.sum(axis=1)

    def mean(name):
        return np.where(found.played, getattr(found.outcomes, name), 0).sum(axis=1) / rounds

    return Totals(
        error=-found.returns,
        wrong=1 - found.outcomes.test_accuracy.max(axis=1),
        consensus=mean("consensus"),
        seconds=mean("seconds"),
        waiting=mean("waiting_s"),
        bits=mean("sent_bits"),
        rounds=rounds,
    )


def changed(**changes):
    return dataclasses.replace(SKEWED, **changes)


def lower(better, worse, by, name="error"):
    """Whether it is lower by so much in the mean, and on nearly every world."""
    gain = getattr(worse, name) - getattr(better, name)
    assert gain.mean() > by and (gain > 0).sum() >= len(gain) - 1, gain


FAST = {"model_bits": 1.0, "jitter": 0.0}
"""Nobody waits for anybody, so there are as many rounds, whoever talks to whom."""


@pytest.mark.slow
def test_more_partners_bring_models_nearer_to_each_other():
    found = [of(changed(**FAST), talk) for talk in (0.0, 1 / 15, 3 / 15, 1.0)]
    for few, more in pairwise(found):
        assert np.array_equal(few.rounds, more.rounds)
        lower(more, few, by=0.2 * few.consensus.mean(), name="consensus")


@pytest.mark.slow
def test_a_torus_mixes_faster_than_a_ring():
    """So models are nearer to each other [Colin2016]."""
    ring, torus = (of(changed(graph=graph, **FAST)) for graph in ("ring", "torus"))
    lower(torus, ring, by=0.1 * ring.consensus.mean(), name="consensus")
    lower(torus, ring, by=0.0)


@pytest.mark.slow
def test_talking_helps_under_skew():
    lower(of(SKEWED, "matching"), of(SKEWED, 0.0), by=0.1)


@pytest.mark.slow
def test_overlap_shortens_rounds():
    """Sending hides behind training [Assran2019]."""
    usual = of(SKEWED, "matching")
    hidden = of(changed(overlap=True), "matching")
    lower(hidden, usual, by=1.0, name="seconds")
    lower(hidden, usual, by=1.0, name="waiting")
    np.testing.assert_allclose(hidden.bits, usual.bits, rtol=0.05)
    assert (hidden.rounds > usual.rounds).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"payload": "choco"}, 241 * 44 / (2410 * 32)),
        ({"payload": "segments", "segments": 5}, 1 / 5),
        ({"payload": "class-logits"}, 1e-4),
    ],
)
def test_what_is_sent_by_payload(changes, share):
    """Everybody listens to both neighbours, so nobody misses anything."""
    whole, part = of(changed(graph="ring")), of(changed(graph="ring", **changes))
    # Rounds without those who are out count too.
    np.testing.assert_allclose(part.bits / whole.bits, share, rtol=0.05)
    lower(part, whole, by=1.0, name="waiting")
    assert (part.rounds > whole.rounds).all()


@pytest.mark.slow
def test_sending_more_of_a_difference_brings_models_nearer_to_each_other():
    few, many = (
        of(changed(graph="ring", payload="choco", payload_share=share, **FAST))
        for share in (0.02, 0.5)
    )
    lower(many, few, by=0.05 * few.consensus.mean(), name="consensus")


@pytest.mark.slow
def test_skew_hurts():
    found = [of(changed(alpha=alpha), "matching") for alpha in (0.03, 0.3, 100.0)]
    lower(found[1], found[0], by=0.02)
    lower(found[2], found[1], by=0.02)


@pytest.mark.slow
def test_shared_images_help_under_skew():
    lower(of(changed(shared=100), "matching"), of(SKEWED, "matching"), by=0.05)  # [Zhao2018]


@pytest.mark.slow
def test_more_local_steps_drive_models_apart():
    few, many = (of(changed(local_steps=steps, **FAST), "matching") for steps in (2, 20))
    lower(few, many, by=0.3 * few.consensus.mean(), name="consensus")
    # 10 times as many take 10 times as long; they wait for each other for as large a part.
    lower(few, many, by=30.0, name="seconds")
    assert (few.rounds >= many.rounds).all()


@pytest.mark.slow
def test_a_larger_model_takes_longer():
    usual = of(SKEWED, "matching")
    large = of(changed(model_bits=10 * SKEWED.model_bits), "matching")
    lower(usual, large, by=10.0, name="waiting")
    lower(usual, large, by=0.05)


@pytest.mark.slow
def test_unequal_devices_delay_an_all_reduce_more_than_a_matching():
    equal, unequal = changed(partition="iid"), changed(partition="iid", speed_spread=1.0)
    more = {
        talk: of(unequal, talk).waiting - of(equal, talk).waiting
        for talk in ("all-reduce", "matching")
    }
    assert (more["all-reduce"] > more["matching"] + 2).all()
    lower(of(unequal, "matching"), of(unequal, "all-reduce"), by=0.02)


@pytest.mark.slow
def test_logits_of_others_help_at_last():
    """Federated distillation [Jeong2018] and co-distillation [Anil2018] end above no talk at all.

    On the way they are behind, since the first logits come from models that know nothing.
    """
    long = {"shared": 60, "alpha": 0.3, "rounds": 130, "budget_s": 1500.0}
    alone = of(changed(**long), 0.0)
    for payload in ("class-logits", "shared-logits"):
        lower(of(changed(payload=payload, **long)), alone, by=0.005, name="wrong")
