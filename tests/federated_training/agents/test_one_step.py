"""The reference that tries decisions in the true slot."""

import dataclasses

import numpy as np
import pytest

from agents import one_step
from agents.federated_training.fleet import fleet_now
from agents.federated_training.one_step import (
    CANDIDATES,
    candidates,
    one_step_plan,
    rules_to_try,
    value,
)
from agents.protocol import Clairvoyant
from agents.registry import make_agent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario

SMALL = Scenario(
    clients=6, at_once=3, quorum=1, hidden=4, local_steps=1, batch=4, decisions=4, budget_s=200.0
)
PROBLEM = FederatedTraining(SMALL)
TRACE = PROBLEM.sample(np.random.default_rng(5), 3)


def test_candidates_are_those_of_the_rules_and_random_sets():
    slot = arrays.slot_at(TRACE, 0)
    state = PROBLEM.start(slot)
    rules = rules_to_try(SMALL)
    rng = np.random.default_rng(0)
    tried = candidates(PROBLEM, rules, slot, state, rng)
    assert tried.score.shape == (CANDIDATES, 3, 6)
    seen = PROBLEM.decode(PROBLEM.observe(slot, state))
    for rule, score in zip(rules, tried.score, strict=False):
        np.testing.assert_array_equal(rule.solve(*seen).decision.score, score)
    drawn = np.concatenate([candidates(PROBLEM, [], slot, state, rng).score > 0 for _ in range(40)])
    sizes = np.bincount(drawn.sum(axis=-1).ravel(), minlength=7)
    assert (sizes[1:4] > 0.25 * drawn[..., 0].size).all() and sizes[[0, 4, 5, 6]].sum() == 0
    np.testing.assert_allclose(drawn.mean(axis=(0, 1)), 1 / 3, atol=0.05)


@pytest.mark.slow
def test_the_best_candidate_of_every_step_is_played():
    """Step by step with the public verbs, one episode at a time."""
    plan = one_step_plan(PROBLEM, TRACE)
    played = rollout(PROBLEM, Fixed(plan), TRACE)
    rng, state = np.random.default_rng(0), PROBLEM.start(arrays.slot_at(TRACE, 0))
    for t in range(4):
        slot = arrays.slot_at(TRACE, t)
        tried = candidates(PROBLEM, rules_to_try(SMALL), slot, state, rng)
        for i in range(3):
            one = arrays.at(slot, i), arrays.at(state, i)
            values = []
            for decision in (arrays.at(tried, (p, i)) for p in range(CANDIDATES)):
                after, outcome = PROBLEM.step(*one, decision)
                values.append(float(value(after, outcome, SMALL)))
            chosen = PROBLEM.step(*one, PROBLEM.decision(plan[i, t]))
            assert float(value(*chosen, SMALL)) == pytest.approx(max(values))
        state, _ = PROBLEM.step(slot, state, PROBLEM.decision(plan[:, t]))
    assert played.returns.shape == (3,)


class Fixed:
    """Plays given actions."""

    def __init__(self, plan):
        self.plan = plan

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        t = state or 0
        return self.plan[:, t], t + 1


@pytest.mark.slow
def test_many_episodes_are_planned_in_parts(monkeypatch):
    monkeypatch.setattr(one_step, "EPISODES_AT_ONCE", 2)
    plan = one_step_plan(PROBLEM, TRACE)
    np.testing.assert_array_equal(plan[:2], one_step_plan(PROBLEM, arrays.at(TRACE, slice(2))))
    np.testing.assert_array_equal(plan[2:], one_step_plan(PROBLEM, arrays.at(TRACE, slice(2, 3))))


def test_steps_are_decided_where_they_have_to_be():
    problem = FederatedTraining(dataclasses.replace(SMALL, control_steps=True))
    agent = make_agent("one-step-search", problem)
    assert isinstance(agent, Clairvoyant)
    trace = problem.sample(np.random.default_rng(5), 2)
    with pytest.raises(ValueError, match="foresee"):
        rollout(problem, agent, trace)
    agent.foresee(trace)
    assert (rollout(problem, agent, trace).decisions.effort == 1.0).all()
    slot = arrays.slot_at(trace, 0)
    assert fleet_now(slot, problem.start(slot), problem.scenario).idle.all()
