"""The jobs of an episode, put together again from its states, are what the outcomes say."""

from dataclasses import replace

import numpy as np
import pytest

from mec_gym.core.env import MecEnv
from mec_gym.federated_training import FederatedTraining, Scenario
from mec_gym.federated_training.past import FATES, past

SMALL = Scenario(clients=6, at_once=4, quorum=2, hidden=4, local_steps=2, batch=4, budget_s=300.0)


def played(scenario, steps):
    env = MecEnv(FederatedTraining(scenario))
    env.reset(seed=3)
    env.action_space.seed(3)
    for _ in range(steps):
        _, _, terminated, _, _ = env.step(env.action_space.sample())
        if terminated:
            break
    return env.episode


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"availability": "churn", "on_s": 40.0, "off_s": 20.0},
        {"late": "drop", "quorum": 4, "deadline": 25.0},
        {"max_staleness": 0, "quorum": 1},
        {"payload": "significant", "payload_threshold": 0.05},
        {"control_steps": True, "merge": "mix"},
    ],
    ids=str,
)
def test_jobs_add_up_to_the_outcomes(changed):
    scenario = replace(SMALL, **changed)
    episode = played(scenario, 12)
    found, merges = past(scenario, episode)
    total = {
        name: sum(float(getattr(outcome, name)) for outcome in episode.outcomes)
        for name in ("sent_off", "merged", "lost", "dropped")
    }
    count = {fate: int((found.fate == fate).sum()) for fate in FATES}
    flying = int((episode.states[-1].client >= 0).sum())
    assert len(found.client) == total["sent_off"] > 8
    assert count == {
        "merged": total["merged"],
        "lost": total["lost"],
        "dropped": total["dropped"],
        "on its way": flying,
    }
    assert sum(merge.updates for merge in merges) == total["merged"]
    assert len(merges) == episode.states[-1].version
    stale = sum(float(outcome.staleness * outcome.merged) for outcome in episode.outcomes)
    assert found.staleness.sum() == pytest.approx(stale)
    np.testing.assert_array_equal(np.bincount(found.client, minlength=6), episode.states[-1].taken)
    assert (found.begin < found.until).all() and (found.received < found.computed).all()


def test_what_is_asked_of_some_of_them():
    found, _ = past(SMALL, played(SMALL, 6))
    late = found.where(found.staleness > 0)
    assert 0 < len(late.client) < len(found.client) and (late.fate == "merged").all()
    counts = found.count("merged", 6)
    assert counts.shape == (6,) and counts.sum() == (found.fate == "merged").sum()
