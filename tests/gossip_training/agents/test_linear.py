"""The linear policy of gossip: its features, its decisions and its shipped weights."""

import dataclasses
import json

import numpy as np
import pytest

from agents.gossip_training.linear import (
    ALL,
    NAMES,
    PAIR,
    SHIPPED,
    LinearSolver,
    features,
    linear_solver,
    shipped_weights,
)
from agents.gossip_training.pairs import lots
from agents.gossip_training.search import POLICY
from agents.linear_policy import check_weights
from agents.weight_search import Settings, begin, main, next_generation
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import PRESETS, Scenario

THREE = Scenario(
    devices=3, graph="complete", hidden=4, local_steps=1, batch=10, rounds=5, budget_s=40.0,
    model_bits=8e6, rate=4e6,
)  # fmt: skip
# Training takes 3 * 0.1e9 * 10 / 2e9 = 1.5 s as a rule, sending 2 s.


def known(**fields):
    problem = GossipTraining(THREE)
    slot, state = problem.decode(np.zeros(problem.observation_space.shape, np.float32))
    slot = dataclasses.replace(
        slot,
        compute_s=np.array([1.0, 2.0, 4.0]),
        rate=np.array([4e6, 2e6, 8e6]),
        apart=np.array([[0, 0.2, 0.4], [0.2, 0, 0.6], [0.4, 0.6, 0]]),
    )
    state = dataclasses.replace(
        state,
        clock=np.array([10.0, 8.0, 9.0]),
        uplink_free=np.array([0.0, 10.5, 5.0]),  # device 1 still sends for 0.5 s, then for 4 s
        rounds_left=np.array(3.0),
        accuracy=np.array([0.5, 0.3, 0.7]),
    )
    return slot, dataclasses.replace(state, **fields)


def weights(**named):
    return np.array([named.get(name.replace(" ", "_"), 0.0) for name in NAMES])


def test_features_by_hand():
    pair, together = features(*known(), THREE)
    drawn = lots(np.array(2), 4)
    # They have trained at 11, 10 and 13 s; they send for 2, 4 and 1 s.
    rows = [
        [1, 1 / 2.5, 6.5 / 10.5, 0.2, 0.4, 0.2, drawn[1]],
        [1, 2 / 3.5, 3 / 7, 0.2, 0.6, 0.4, drawn[2]],
        [1, 3 / 4.5, 5.5 / 9.5, 0.4, 0.5, 0.6, drawn[3]],
    ]
    assert pair.shape == (3, len(PAIR))
    np.testing.assert_allclose(pair, rows)
    # On average they wait (2 + 3 + 0) / 3 s for the last one.
    wait, spread = 5 / 3, np.std([0.5, 0.3, 0.7])
    assert together.shape == (len(ALL),)
    np.testing.assert_allclose(
        together, [1, wait / (wait + 1.5), 0.5, 2 * spread, 9 / 40, drawn[0]]
    )


def test_decisions_by_hand():
    slot, state = known()
    # Pairs 01, 02, 12 wait 0.4, 0.571, 0.667.
    solver = LinearSolver(THREE, weights(pair_one=0.6, pair_waiting=-1.0))
    decision = solver.solve(slot, state).decision
    heard = THREE.edges[decision.listen].tolist()
    # 01 is worth 0.2, 02 0.03, and 12 less than nothing; a partner costs nothing.
    assert heard == [[0, 1], [0, 2], [1, 0], [2, 0]] and not decision.reduce
    one = LinearSolver(THREE, weights(pair_one=0.6, pair_waiting=-1.0, partners=-0.1))
    assert THREE.edges[one.solve(slot, state).decision.listen].tolist() == [[0, 1], [1, 0]]
    # All together at an accuracy of 0.5.
    for begin_at, expected in ((0.45, True), (0.55, False)):
        solver = LinearSolver(THREE, weights(all_one=-begin_at, all_accuracy=1.0))
        assert bool(solver.solve(slot, state).decision.reduce) is expected
    # A leading axis of weights is one policy each.
    both = np.stack([weights(pair_one=1.0), weights(all_one=1.0)])
    decision = LinearSolver(THREE, both).solve(slot, state).decision
    assert decision.reduce.tolist() == [False, True]
    assert decision.listen.tolist() == [[True] * 6, [False] * 6]


def test_shipped_weights_say_how_they_were_found():
    found = json.loads(SHIPPED.read_text())
    assert set(found) == {"unequal", "ring", "complete"}
    for name, one in found.items():
        assert one["scenario"] == name and name in PRESETS
        assert one["command"].startswith(f"{POLICY.command} --scenario {name} --out ")
        assert len(one["history"]) == one["done"] >= 5
        assert Settings(**one["settings"]).population >= 4
        np.testing.assert_array_equal(shipped_weights(name), [*one["weights"].values()])
    for fields, name in (
        ({}, "complete"),
        ({"graph": "torus"}, "ring"),
        ({"speed_spread": 0.5}, "unequal"),
    ):
        scenario = dataclasses.replace(THREE, **fields)
        assert linear_solver(scenario).weights is shipped_weights(name)


def test_weights_that_do_not_fit():
    with pytest.raises(ValueError, match="weights must name pair one"):
        check_weights({"one": 1.0}, NAMES)


def test_a_search_runs_on_gossip(tmp_path):
    problem = GossipTraining(THREE)
    settings = Settings(population=3, elite=1, worlds=2)
    after = next_generation(POLICY, problem, settings, begin(POLICY, settings), 3)
    assert after.mean.shape == (14,) and -1 < after.history[0] < 0
    (tmp_path / "mine.json").write_text(
        '{"devices": 3, "hidden": 4, "local_steps": 1, "batch": 4, "rounds": 2}'
    )
    options = ["--scenario", str(tmp_path / "mine.json"), "--out", str(tmp_path / "w.json")]
    small = ["--generations", "1", "--population", "2", "--elite", "1", "--worlds", "1"]
    assert main(POLICY, [*options, *small]) == 0
    assert set(json.loads((tmp_path / "w.json").read_text())["weights"]) == set(NAMES)
