"""Every parameter matters, and the well-known ones in the direction that publications report."""

import dataclasses

import numpy as np
import pytest
from registered import REGISTERED
from slow import slow_except

from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario

OWN = REGISTERED["mec/FederatedTraining-v0"].own


class Everybody:
    """Scores everybody above 0, in an order drawn anew each time; efforts differ by client."""

    def __init__(self, problem):
        self.shape = problem.action_space.shape
        self.clients = problem.scenario.clients
        self.rng = np.random.default_rng(1)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        shape = (*np.shape(observation)[:-1], *self.shape)
        action = self.rng.uniform(0.1, 1, shape).astype(np.float32)
        if self.shape[0] > self.clients:
            action[..., self.clients :] = np.linspace(-1, 1, self.clients)
        return action, state


def played(scenario, episodes, seed=0):
    problem = FederatedTraining(scenario)
    return rollout(problem, Everybody(problem), sample_episodes(problem, seed, episodes))


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
    "staleness": ("inverse", {"staleness_power": 1.0}),
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
    "availability": ("churn", {"on_s": 60.0, "off_s": 30.0}),
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
