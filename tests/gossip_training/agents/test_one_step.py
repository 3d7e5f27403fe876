"""The reference of gossip that tries decisions in the true slot."""

import numpy as np
import pytest

from agents.gossip_training.one_step import (
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
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario

SMALL = Scenario(devices=4, graph="complete", hidden=4, local_steps=1, batch=4, rounds=3)
PROBLEM = GossipTraining(SMALL)
TRACE = PROBLEM.sample(np.random.default_rng(5), 3)


def test_candidates_are_those_of_the_rules_and_random_pairs():
    slot = arrays.slot_at(TRACE, 0)
    state = PROBLEM.start(slot)
    rules = rules_to_try(SMALL)
    tried = candidates(PROBLEM, rules, slot, state, np.random.default_rng(0))
    assert tried.listen.shape == (CANDIDATES, 3, 12) and tried.reduce.shape == (CANDIDATES, 3)
    seen = PROBLEM.decode(PROBLEM.observe(slot, state))
    for rule, listen, reduce in zip(rules, tried.listen, tried.reduce, strict=False):
        decision = rule.solve(*seen).decision
        np.testing.assert_array_equal(decision.listen, listen)
        np.testing.assert_array_equal(decision.reduce, reduce)
    # At most one, two and three partners; of four devices, all three.
    speakers = tried.listen[len(rules) :].reshape(-1, 3, 4, 3).sum(axis=-1)
    assert speakers.max(axis=(1, 2)).tolist() == [1, 1, 2, 2, 3, 3]


def test_what_a_candidate_is_worth_by_hand():
    slot = arrays.slot_at(TRACE, 0)
    state = PROBLEM.start(slot)
    decision = arrays.at(candidates(PROBLEM, rules_to_try(SMALL), slot, state,
                                    np.random.default_rng(0)), 1)  # fmt: skip
    after, outcome = PROBLEM.step(slot, state, decision)
    left = 2000.0 - after.clock
    later = ((1 - after.accuracy) * 250.0 * (1 - np.exp(-left / 250.0))).mean(axis=-1)
    np.testing.assert_allclose(value(after, outcome, SMALL), -outcome.error_s - later)


@pytest.mark.slow
def test_the_best_candidate_of_every_round_is_played():
    """Round by round with the public verbs, one episode at a time."""
    plan = one_step_plan(PROBLEM, TRACE)
    assert plan.shape == (3, 3, 13) and set(np.unique(plan)) <= {0, 1}
    rng, state = np.random.default_rng(0), PROBLEM.start(arrays.slot_at(TRACE, 0))
    for t in range(3):
        slot = arrays.slot_at(TRACE, t)
        tried = candidates(PROBLEM, rules_to_try(SMALL), slot, state, rng)
        for i in range(3):
            one = arrays.at(slot, i), arrays.at(state, i)
            values = [
                float(value(*PROBLEM.step(*one, arrays.at(tried, (p, i))), SMALL))
                for p in range(CANDIDATES)
            ]
            chosen = PROBLEM.step(*one, PROBLEM.decision(plan[i, t]))
            assert float(value(*chosen, SMALL)) == pytest.approx(max(values))
        state, _ = PROBLEM.step(slot, state, PROBLEM.decision(plan[:, t]))
    agent = make_agent("one-step-search", PROBLEM)
    assert isinstance(agent, Clairvoyant)
    agent.foresee(TRACE)
    played = rollout(PROBLEM, agent, TRACE)
    np.testing.assert_array_equal(PROBLEM.encode(played.decisions), plan)
