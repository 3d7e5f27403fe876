"""Rules of who listens to whom, each by its definition."""

import dataclasses

import numpy as np
import pytest

from agents.gossip_training import rules
from agents.gossip_training.pairs import pairs_of
from agents.gossip_training.rules import (
    AlikeSolver,
    MatchingSolver,
    PeriodicSolver,
    RuleSolver,
    neighbours,
    nobody,
    one_sided,
    rotation,
    tune_partners,
    tune_period,
)
from mec_gym.core import arrays
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario

SIX = Scenario(devices=6, graph="complete", hidden=4, local_steps=1, batch=4, rounds=12)


def seen(scenario, batch=(), turn=0):
    """What an agent knows in a round of one episode, as often as the batch has entries."""
    problem = GossipTraining(scenario)
    slot = arrays.at(arrays.slot_at(problem.sample(np.random.default_rng(1), 1), 0), 0)
    state = problem.start(slot)
    state = dataclasses.replace(state, rounds_left=np.array(float(scenario.rounds - turn)))
    known = problem.decode(problem.observe(slot, state))
    return [
        arrays.map_arrays(lambda a: np.broadcast_to(a, (*batch, *a.shape)), one) for one in known
    ]


def heard(scenario, decision):
    """Who is heard by each device, of one decision."""
    assert not decision.reduce
    table = [set() for _ in range(scenario.devices)]
    for listener, speaker in scenario.edges[decision.listen]:
        table[listener].add(int(speaker))
    return table


def decide(solver, scenario, turn=0):
    return heard(scenario, solver.solve(*seen(scenario, (), turn)).decision)


def test_nobody_and_neighbours():
    ring = dataclasses.replace(SIX, graph="ring")
    assert decide(RuleSolver(ring, nobody), ring) == [set()] * 6
    around = [{(i - 1) % 6, (i + 1) % 6} for i in range(6)]
    assert decide(RuleSolver(ring, neighbours), ring) == around


def test_in_rotation_everybody_meets_everybody_once():
    met = [[] for _ in range(6)]
    for turn in range(5):
        for device, partners in enumerate(decide(RuleSolver(SIX, rotation), SIX, turn)):
            (partner,) = partners
            met[device].append(partner)
    assert [sorted(one) for one in met] == [sorted(set(range(6)) - {i}) for i in range(6)]
    assert decide(RuleSolver(SIX, rotation), SIX, 5) == decide(RuleSolver(SIX, rotation), SIX, 0)


def test_one_sided_talk_goes_round_by_distance():
    s = dataclasses.replace(SIX, devices=8, graph="one-sided")
    for turn, distance in enumerate((1, 2, 4, 1)):
        expected = [{(i - distance) % 8} for i in range(8)]
        assert decide(RuleSolver(s, one_sided), s, turn) == expected
    ring = dataclasses.replace(SIX, graph="ring")  # 1 before, then 1 after
    assert decide(RuleSolver(ring, one_sided), ring, 0) == [{(i - 1) % 6} for i in range(6)]
    assert decide(RuleSolver(ring, one_sided), ring, 1) == [{(i + 1) % 6} for i in range(6)]


def test_periods():
    now = [
        bool(PeriodicSolver(SIX, 3).solve(*seen(SIX, (), turn)).decision.reduce)
        for turn in range(7)
    ]
    assert now == [False, False, True, False, False, True, False]
    always = PeriodicSolver(SIX, 1).solve(*seen(SIX, (2,), 4)).decision
    assert always.reduce.all() and not always.listen.any()


@pytest.mark.parametrize("partners", [1, 2, 3])
def test_partners_are_drawn_evenly(partners):
    solver = MatchingSolver(SIX, partners, seed=partners)
    decision = solver.solve(*seen(SIX, (30, 20))).decision
    pairs = pairs_of(SIX)
    degree = np.zeros((30, 20, 6))
    chosen = np.stack([decision.listen[..., pairs.of_edge == k].all(-1) for k in range(15)], -1)
    for k, (i, j) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        degree[..., i] += chosen[..., k]
        degree[..., j] += chosen[..., k]
    assert degree.max() == partners and 0.9 * partners < degree.mean() <= partners
    share = chosen.mean(axis=(0, 1))
    np.testing.assert_allclose(share, share.mean(), atol=5 * np.sqrt(0.25 / 600))
    again = MatchingSolver(SIX, partners, seed=partners).solve(*seen(SIX, (30, 20))).decision
    np.testing.assert_array_equal(again.listen, decision.listen)


def test_alike_and_unlike_partners():
    s = dataclasses.replace(SIX, devices=4, privileged=True)
    slot, state = seen(s)
    apart = np.zeros((4, 4))
    apart[np.triu_indices(4, 1)] = 0.1, 0.9, 0.8, 0.7, 0.9, 0.2  # of 01, 02, 03, 12, 13, 23
    apart += apart.T
    slot = dataclasses.replace(slot, apart=apart)
    alike = AlikeSolver(s, 1.0, chance=0.0).solve(slot, state).decision
    assert heard(s, alike) == [{1}, {0}, {3}, {2}]
    unlike = AlikeSolver(s, -1.0, chance=0.0).solve(slot, state).decision
    assert heard(s, unlike) in ([{2}, {3}, {0}, {1}], [{3}, {2}, {1}, {0}])
    # Without knowing, lots decide: partners change from round to round.
    blind = dataclasses.replace(s, privileged=False)
    turns = [str(decide(AlikeSolver(blind, 1.0), blind, turn)) for turn in range(8)]
    assert len(set(turns)) > 1


def test_tuned_values_are_the_best_ones_tried(monkeypatch):
    problem = GossipTraining(SIX)
    worth = {}

    def best(problem, tried, make):
        worth["tried"] = [make(value) for value in tried]
        return tried[1]

    monkeypatch.setattr(rules, "best_setting", best)
    tune_period.cache_clear()
    tune_partners.cache_clear()
    assert tune_period(problem) == 2
    assert [solver.period for solver in worth["tried"]] == [1, 2, 4, 8]  # 16 is beyond 12 rounds
    assert tune_partners(problem) == 2
    assert [solver.partners for solver in worth["tried"]] == [1, 2, 3]
    ring = GossipTraining(dataclasses.replace(SIX, graph="ring"))
    tune_partners(ring)
    assert [solver.partners for solver in worth["tried"]] == [1, 2]
    tune_period.cache_clear()
    tune_partners.cache_clear()
