"""Sparrow search for splits against the optimum, ours and as published."""

import dataclasses

import numpy as np
import pytest
from training_offload.cases import PAPER, first_tasks
from training_offload.oracle import MBIT

from agents.training_offload import sparrow
from agents.training_offload.sparrow import (
    SparrowConfig,
    SparrowSolver,
    TextbookConfig,
    TextbookSparrowSolver,
)
from mec_gym.core import arrays
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.model import State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario


def latency(problem, slot, state, decision):
    return problem.step(slot, state, decision)[1].latency_s


def counted(monkeypatch, config, servers, instances):
    """(reported, true) model evaluations per task."""
    rate = (10 * MBIT,) * servers
    problem = TrainingOffload(
        Scenario(server_uplink=rate, server_downlink=rate, server_compute=rate)
    )
    slot, state = first_tasks(problem, 0, instances)
    count, evaluate = 0, sparrow.model.evaluate

    def counting(*arguments):
        nonlocal count
        after, outcome = evaluate(*arguments)
        count += outcome.latency_s.size
        return after, outcome

    with monkeypatch.context() as patch:
        patch.setattr(sparrow.model, "evaluate", counting)
        solution = SparrowSolver(problem.scenario, config).solve(slot, state)
    return solution.evaluations, count / instances


@pytest.mark.parametrize(
    ("config", "servers", "evaluations"),
    [
        (SparrowConfig(), 3, 1120),
        (SparrowConfig(), 1, 16 * (1 + 2 + 5 + 6 + 11)),
        (SparrowConfig(), 2, 16 * (4 + 8 + 20 + 12 + 11)),
        (SparrowConfig(population=7, first_moves=3, stages=()), 3, 7 * (9 + 27)),
        (
            SparrowConfig(population=5, first_moves=1, stages=((4, 2), (1, 3)), scouts=0.0),
            3,
            5 * 29,
        ),
    ],
)
def test_evaluations_are_counted_truly(monkeypatch, config, servers, evaluations):
    for instances in (1, 4):
        assert counted(monkeypatch, config, servers, instances) == (evaluations, evaluations)


def test_the_textbook_search_is_worse_at_the_same_effort():
    slot, state = first_tasks(PAPER, 0, 300)
    textbook = TextbookSparrowSolver(PAPER.scenario, seed=1).solve(slot, state)
    ours = SparrowSolver(PAPER.scenario, seed=1).solve(slot, state)
    assert textbook.evaluations == ours.evaluations == 80 * 14
    best = SlotFrontier(slot, PAPER.scenario).best(1e9)[0].delay
    gap, ours_gap = (latency(PAPER, slot, state, s.decision) / best - 1 for s in (textbook, ours))
    assert gap.min() > -1e-9 and 20 * ours_gap.mean() < gap.mean() < 0.1
    # More moves of the same flock help little: the steps lie on a diagonal.
    longer = TextbookSparrowSolver(PAPER.scenario, TextbookConfig(moves=40), seed=1)
    later = latency(PAPER, slot, state, longer.solve(slot, state).decision) / best - 1
    assert 0.01 < later.mean() <= gap.mean()
    # All pairs of servers can be found, and splits are splits.
    for field in (textbook.decision.server, textbook.decision.next_server):
        assert field.dtype == np.int64 and set(np.unique(field)) <= {0, 1, 2}
    assert (textbook.decision.server > 0).any()
    assert (textbook.decision.edge_share + textbook.decision.cloud_share <= 1 + 1e-12).all()


@pytest.mark.parametrize("config", [TextbookConfig(), TextbookConfig(population=7, moves=3)])
def test_the_textbook_searchs_evaluations_are_counted_truly(monkeypatch, config):
    slot, state = first_tasks(PAPER, 0, 5)
    count, evaluate = 0, sparrow.model.evaluate

    def counting(*arguments):
        nonlocal count
        after, outcome = evaluate(*arguments)
        count += outcome.latency_s.size
        return after, outcome

    monkeypatch.setattr(sparrow.model, "evaluate", counting)
    solution = TextbookSparrowSolver(PAPER.scenario, config).solve(slot, state)
    assert solution.evaluations == config.population * (1 + config.moves) == count / 5


def test_gap_on_the_paper():
    slot, state = first_tasks(PAPER, 0, 500)
    solution = SparrowSolver(PAPER.scenario, seed=1).solve(slot, state)
    assert solution.evaluations == 1120
    best = SlotFrontier(slot, PAPER.scenario).best(1e9)[0].delay
    gap = latency(PAPER, slot, state, solution.decision) / best - 1
    assert gap.min() > -1e-9
    assert gap.mean() < 0.002
    assert np.percentile(gap, 95) < 0.01
    # More effort closes it.
    more = SparrowConfig(population=30, first_moves=5, stages=((4, 10), (2, 20), (1, 75)))
    some = [arrays.at(record, slice(100)) for record in (slot, state)]
    longer = SparrowSolver(PAPER.scenario, more, seed=1).solve(*some)
    assert (latency(PAPER, *some, longer.decision) / best[:100] - 1).mean() < gap.mean() / 10


def test_the_best_of_several_last_flocks_is_named():
    """No flock is given up here: the pair must be that of the flock that found the split."""
    slot, state = first_tasks(PAPER, 2, 200)
    config = SparrowConfig(population=12, first_moves=20, stages=())
    decision = SparrowSolver(PAPER.scenario, config).solve(slot, state).decision
    best = SlotFrontier(slot, PAPER.scenario).best(1e9)[0].delay
    gap = latency(PAPER, slot, state, decision) / best - 1
    assert gap.min() > -1e-9 and gap.mean() < 0.002


def test_decisions_are_splits_on_existing_servers():
    slot, state = first_tasks(PAPER, 3, 100)
    decision = SparrowSolver(PAPER.scenario).solve(slot, state).decision
    assert (decision.edge_share >= 0).all() and (decision.cloud_share >= 0).all()
    assert (decision.edge_share + decision.cloud_share <= 1 + 1e-12).all()
    for server in (decision.server, decision.next_server):
        assert server.dtype == np.int64 and (server >= 0).all() and (server < 3).all()
    # On the paper's servers the first is the best of each region.
    assert (decision.server == 0).mean() > 0.5


@pytest.mark.parametrize("solver", [SparrowSolver, TextbookSparrowSolver])
def test_batches_of_any_shape(solver):
    slot, state = first_tasks(PAPER, 3, 6)
    one = arrays.at(slot, 2), arrays.at(state, 2)
    alone = solver(PAPER.scenario).solve(*one).decision
    assert [np.shape(field) for field in arrays.as_dict(alone).values()] == [()] * 4
    folded = [arrays.map_arrays(lambda a: a.reshape(2, 3, *a.shape[1:]), r) for r in (slot, state)]
    together = solver(PAPER.scenario).solve(*folded).decision
    flat = solver(PAPER.scenario).solve(slot, state).decision
    for name, field in arrays.as_dict(together).items():
        assert field.shape == (2, 3)
        assert np.array_equal(field.ravel(), getattr(flat, name))


def test_every_instance_is_solved_for_itself():
    """The tasks of a batch have nothing to do with one another."""
    slot, state = first_tasks(PAPER, 4, 30)
    order = np.random.default_rng(0).permutation(30)
    shuffled = SparrowSolver(PAPER.scenario).solve(arrays.at(slot, order), arrays.at(state, order))
    best = SlotFrontier(slot, PAPER.scenario).best(1e9)[0].delay
    found = latency(PAPER, arrays.at(slot, order), state, shuffled.decision)
    assert (found / best[order] - 1).max() < 0.05


def test_energy_limit_is_respected():
    slot, _ = first_tasks(PAPER, 5, 200)
    slot = dataclasses.replace(slot, work=np.linspace(100, 150, 200) * MBIT)
    # 15.6 to 23.4 J at least; the fastest splits want more than that.
    state = State(battery=np.full(200, 24.5), tasks_left=np.ones(200))
    decision = SparrowSolver(PAPER.scenario).solve(slot, state).decision
    after, outcome = PAPER.step(slot, state, PAPER.decision(PAPER.encode(decision)))
    assert not outcome.dropped.any()
    assert (after.battery >= 0).all()
    free = SparrowSolver(PAPER.scenario).solve(slot, PAPER.start(slot)).decision
    wanted = PAPER.step(slot, PAPER.start(slot), free)[1].energy_j
    assert (wanted > 24.5).sum() > 50
    best = SlotFrontier(slot, PAPER.scenario).best(state.battery)[0].delay
    gap = outcome.latency_s / best - 1
    assert gap.min() > -1e-9 and gap.mean() < 0.02


def test_seeds():
    slot, state = first_tasks(PAPER, 6, 10)

    def solve(solver):
        return arrays.as_dict(solver.solve(slot, state).decision)["edge_share"]

    solver = SparrowSolver(PAPER.scenario, seed=5)
    first = solve(solver)
    assert np.array_equal(first, solve(SparrowSolver(PAPER.scenario, seed=5)))
    assert not np.array_equal(first, solve(SparrowSolver(PAPER.scenario, seed=6)))
    assert not np.array_equal(first, solve(solver))  # its generator goes on


def test_nothing_it_is_given_is_changed():
    slot, state = first_tasks(PAPER, 7, 5)
    before = [a.copy() for r in (slot, state) for a in arrays.as_dict(r).values()]
    SparrowSolver(PAPER.scenario).solve(slot, state)
    after = [a for r in (slot, state) for a in arrays.as_dict(r).values()]
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"population": 0}, "population.*got 0"),
        ({"population": 2.5}, r"population.*got 2\.5"),
        ({"first_moves": 0}, "first_moves.*got 0"),
        ({"stages": ((2, 1), (4, 1))}, r"stages.*got \(\(2, 1\), \(4, 1\)\)"),
        ({"stages": ((0, 1),)}, "stages: flocks.*got 0"),
        ({"stages": ((3, 1), (2, 0))}, "stages: moves.*got 0"),
        ({"safety": 1.1}, r"safety.*got 1\.1"),
        ({"producers": -0.1}, r"producers.*got -0\.1"),
        ({"scouts": float("nan")}, "scouts.*got nan"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        SparrowConfig(**changes)


@pytest.mark.parametrize("moves", [0, 1.5, True])
def test_bad_moves_of_the_textbook_search(moves):
    with pytest.raises(ValueError, match=f"moves.*got {moves}"):
        TextbookConfig(moves=moves)
