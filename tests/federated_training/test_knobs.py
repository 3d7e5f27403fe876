"""Every parameter matters, and the well-known ones in the direction that publications report."""

import dataclasses

import numpy as np
import pytest
from federated_training import hand
from registered import REGISTERED
from slow import slow_except

from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario

OWN = REGISTERED["mec/FederatedTraining-v0"].own


class Everybody:
    """Scores everybody above 0, in an order drawn anew each time.

    Efforts rise from client to client; or the first few are diligent and take all steps, and the
    others take one.
    """

    def __init__(self, problem, diligent=None):
        self.shape = problem.action_space.shape
        self.diligent = diligent
        self.clients = problem.scenario.clients
        self.rng = np.random.default_rng(1)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        shape = (*np.shape(observation)[:-1], *self.shape)
        action = self.rng.uniform(0.1, 1, shape).astype(np.float32)
        if self.shape[0] > self.clients:
            efforts = np.linspace(-1, 1, self.clients)
            if self.diligent is not None:
                efforts = np.where(np.arange(self.clients) < self.diligent, 1, -1)
            action[..., self.clients :] = efforts
        return action, state


def played(scenario, episodes, diligent=None):
    problem = FederatedTraining(scenario)
    return rollout(problem, Everybody(problem, diligent), sample_episodes(problem, 0, episodes))


# ---------------------------------------------------------------- every one of them matters

BASE = {
    **OWN,
    "clients": 6,
    "at_once": 4,
    "quorum": 2,
    "budget_s": 400.0,
    "bin_s": 10.0,
    "decisions": 8,
    "local_steps": 4,
}
GROWTH = {"growth_s": 300.0}
CHURN = {"availability": "churn", "on_s": 100.0, "off_s": 50.0}
HOURS = {**CHURN, "availability": "hours"}

KNOBS = {
    "clients": (7, {}),
    "at_once": (3, {}),
    "quorum": (3, {}),
    "deadline": (15.0, {}),
    "late": ("drop", {}),
    "merge": ("mix", {}),
    "merge_weights": ("equal", {}),
    "server_rate": (0.5, {}),
    "server_momentum": (0.5, {}),
    "look_ahead": (True, {"server_momentum": 0.5}),
    "normalise": (True, {"control_steps": True}),
    "staleness": ("inverse", {}),
    "staleness_power": (3.0, {}),
    "max_staleness": (0, {}),
    "local_steps": (3, {}),
    "batch": (5, {}),
    "rate": (0.3, {}),
    "pull": (1.0, {}),
    "control_variates": (True, {}),
    "importance": (True, {}),
    "control_steps": (True, {}),
    "payload": ("low-rank", {}),
    "payload_share": (0.5, {"payload": "top-k"}),
    "payload_threshold": (0.5, {"payload": "significant"}),
    "payload_rank": (1, {"payload": "low-rank"}),
    "hidden": (5, {}),
    "partition": ("iid", {}),
    "alpha": (3.0, {}),
    "classes_each": (1, {"partition": "shards"}),
    "size_spread": (0.0, {}),
    "feature_spread": (0.5, {}),
    "shared": (30, {}),
    "growth_s": (300.0, {}),
    "growth_from": (0.5, GROWTH),
    "sliding": (True, GROWTH),
    "forward_flop": (0.3e9, {}),
    "model_bits": (64e6, {}),
    "server_s": (1.0, {}),
    "idle_s": (5.0, {"availability": "hours", "on_s": 30.0, "off_s": 300.0}),
    "speed": (4e9, {}),
    "speed_spread": (0.2, {}),
    "load_spread": (0.5, {}),
    "load_memory": (0.1, {"load_spread": 0.5}),
    "uplink": (8e6, {}),
    "downlink": (4e6, {}),
    "rate_spread": (0.1, {}),
    "fading": (0.0, {}),
    "jitter": (0.0, {}),
    "availability": ("churn", {}),
    "on_s": (30.0, CHURN),
    "off_s": (150.0, CHURN),
    "phase_by_class": (True, HOURS),
    "drift_s": (100.0, {}),
    "drift_classes": (2, {"drift_s": 100.0}),
    "goal": ("target", {}),
    "target": (0.05, {"goal": "target"}),
    "budget_s": (300.0, {}),
    "bin_s": (15.0, {}),
    "decisions": (7, {}),
    "compute_w": (5.0, {}),
    "send_w": (5.0, {}),
}


def totals(scenario):
    """What comes of three episodes."""
    found = played(scenario, 3)
    parts = arrays.as_dict(found.outcomes)
    return np.array([np.where(found.played, values, 0).sum() for values in parts.values()])


def test_all_parameters_are_tried():
    seen = {"images", "costs", "timetable", "privileged"}  # files; what observations show
    assert {field.name for field in dataclasses.fields(Scenario)} - seen == set(KNOBS)


@pytest.mark.parametrize("name", slow_except(KNOBS, "quorum", "late", "pull", "payload"))
def test_every_parameter_changes_what_comes_out(name):
    value, context = KNOBS[name]
    before = Scenario(**{**BASE, **context})
    assert getattr(before, name) != value
    after = dataclasses.replace(before, **{name: value})
    assert not np.allclose(totals(before), totals(after), rtol=1e-6)


# ------------------------------------------------------------------ in the known direction

SKEWED = Scenario(alpha=0.03, budget_s=1500.0, decisions=150)
"""Clients see one or two classes each."""

TOGETHER = dataclasses.replace(
    SKEWED,
    clients=20,
    at_once=20,
    quorum=20,
    speed_spread=0.3,
    rate_spread=0.2,
    local_steps=20,
    budget_s=2000.0,
    decisions=40,
)
"""All clients take part in every round, and none of them is slow."""


@dataclasses.dataclass
class Totals:
    """What comes of each of several episodes."""

    error: np.ndarray  # mean error over the budget
    merged: np.ndarray
    lost: np.ndarray
    bits_each: np.ndarray  # per client that is sent off


def of(scenario, episodes=6, diligent=None):
    found = played(scenario, episodes, diligent)

    def total(name):
        return np.where(found.played, getattr(found.outcomes, name), 0).sum(axis=1)

    return Totals(
        error=-found.returns,
        merged=total("merged"),
        lost=total("lost"),
        bits_each=total("sent_bits") / total("sent_off"),
    )


def lower(better, worse, by):
    """Whether an error is lower in the mean by so much, and on nearly every world."""
    gain = worse.error - better.error
    assert gain.mean() > by and (gain > 0).sum() >= len(gain) - 1, gain


@pytest.mark.slow
def test_clients_that_drop_out_slow_the_learning_down():
    """Where nine of ten updates are lost, as in large deployments of telephones."""
    stable = of(SKEWED)
    stays = {"availability": "churn", "on_s": 10.0, "off_s": 30.0, "bin_s": 5.0}
    churn = of(dataclasses.replace(SKEWED, **stays))
    assert (churn.lost / (churn.lost + churn.merged)).mean() == pytest.approx(0.9, abs=0.05)
    assert (churn.merged < stable.merged / 2).all() and not stable.lost.any()
    lower(stable, churn, by=0.1)


@pytest.mark.slow
def test_a_larger_model_takes_longer():
    usual = of(SKEWED)
    large = of(dataclasses.replace(SKEWED, model_bits=10 * SKEWED.model_bits))
    assert (large.merged < usual.merged / 2).all()
    np.testing.assert_allclose(large.bits_each, 10 * usual.bits_each, rtol=1e-12)
    lower(usual, large, by=0.1)


@pytest.mark.slow
def test_shared_images_help_under_skew():
    lower(of(dataclasses.replace(SKEWED, shared=100)), of(SKEWED), by=0.1)  # [Zhao2018]


@pytest.mark.slow
def test_skew_hurts():
    lower(
        of(dataclasses.replace(SKEWED, partition="iid", alpha=Scenario.alpha)), of(SKEWED), by=0.1
    )


@pytest.mark.slow
def test_weighing_stale_updates_less_helps_under_skew():
    """With a quorum of one [Xie2020]."""
    one = dataclasses.replace(SKEWED, quorum=1, merge="mix", server_rate=0.6, decisions=400)
    lower(of(one), of(dataclasses.replace(one, staleness="none")), by=0.03)


@pytest.mark.slow
def test_waiting_for_few_is_faster_than_waiting_for_all():
    """Backup workers against all, and a small quorum that keeps the others flying."""
    everyone = dataclasses.replace(SKEWED, quorum=10, late="drop")
    backup = of(dataclasses.replace(everyone, quorum=7))
    few = of(SKEWED)
    everyone = of(everyone)
    lower(backup, everyone, by=0.05)
    lower(few, backup, by=0.03)


@pytest.mark.slow
def test_momentum_of_the_server_helps_under_skew():
    lower(
        of(dataclasses.replace(TOGETHER, server_momentum=0.5)), of(TOGETHER), by=0.02
    )  # [Hsu2019]


@pytest.mark.slow
def test_control_variates_help_under_skew():
    """If all clients take part [Karimireddy2020]."""
    lower(of(dataclasses.replace(TOGETHER, control_variates=True)), of(TOGETHER), by=0.02)


@pytest.mark.slow
def test_fednova_helps_if_few_clients_take_many_steps():
    """Otherwise their images outweigh all others [WangJ2020]."""
    few = dataclasses.replace(TOGETHER, control_steps=True)
    fair = dataclasses.replace(few, normalise=True)
    lower(of(fair, diligent=4), of(few, diligent=4), by=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"payload": "top-k"},
        {"payload": "low-rank"},
        {"payload": "significant", "payload_threshold": 0.05},
    ],
)
def test_sending_less_saves_time(changes):
    """So more is merged, which is worth more than what is not sent."""
    whole = of(SKEWED)
    part = of(dataclasses.replace(SKEWED, **changes))
    assert (part.bits_each < 0.8 * whole.bits_each).all()
    assert (part.bits_each >= SKEWED.model_bits).all()  # the model is received as a whole
    assert (part.merged > 1.1 * whole.merged).all()
    lower(part, whole, by=0.005)


def test_a_pull_keeps_clients_near_the_model():
    """The stronger it is, the shorter are the updates of all of them [LiT2020]."""
    s = hand.scenario(local_steps=20, rate=0.1)
    world = hand.slot(s)
    for client in range(4):
        norms = [
            np.linalg.norm(hand.learnt(s, world, client, world.initial, pull=mu)[0] - world.initial)
            for mu in (0.0, 0.1, 0.5, 2.0)
        ]
        assert norms == sorted(norms, reverse=True) and norms[3] < 0.6 * norms[0]
