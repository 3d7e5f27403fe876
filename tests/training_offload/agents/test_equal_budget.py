"""The rule that spreads a battery evenly."""

import dataclasses

import numpy as np
import pytest
from training_offload.cases import DRIVE, PAPER, delay_and_energy, first_tasks
from training_offload.oracle import MBIT

from agents.training_offload.equal_budget import EqualBudgetSolver
from agents.training_offload.exact import ExactSolver
from mec_gym.training_offload.model import State


def test_budget_by_hand():
    # 100 Mbit: 32.5 J on the device, 0.1562 J a Mbit away from it. Within 20 J at least
    # (32.5 - 20) / (0.325 - 0.1562) = 74.052 Mbit must leave; the fastest split of all keeps more.
    slot, _ = first_tasks(PAPER, 0, 1)
    slot = dataclasses.replace(slot, work=np.array([100 * MBIT]))
    solver = EqualBudgetSolver(PAPER.scenario)

    def away(battery, tasks):
        state = State(battery=np.array([battery]), tasks_left=np.array([tasks]))
        decision = solver.solve(slot, state).decision
        return float(decision.edge_share[0] + decision.cloud_share[0])

    assert away(200.0, 10.0) == pytest.approx(0.74052133, rel=1e-5)
    assert away(40.0, 2.0) == pytest.approx(0.74052133, rel=1e-5)
    state = State(battery=np.array([1e3]), tasks_left=np.array([1.0]))
    exact = ExactSolver(PAPER.scenario).solve(slot, state).decision
    fastest = float(exact.edge_share[0] + exact.cloud_share[0])
    assert fastest < 0.74
    assert away(1000.0, 10.0) == pytest.approx(fastest, rel=1e-9)
    # 15 J pay for no split (15.62 J is the least): the cheapest is taken.
    assert away(150.0, 10.0) == pytest.approx(1.0, rel=1e-9)
    # The last task may use everything; and no task left is no division by zero.
    assert away(20.0, 1.0) == away(20.0, 0.0) == pytest.approx(0.74052133, rel=1e-5)


def test_budget_is_respected_wherever_it_can_be():
    slot, _ = first_tasks(DRIVE, 1, 300)
    slot = dataclasses.replace(slot, connection_time=slot.connection_estimate)
    rng = np.random.default_rng(0)
    state = State(
        battery=rng.uniform(20, 1000, 300), tasks_left=rng.integers(1, 31, 300).astype(float)
    )
    allowed = state.battery / state.tasks_left
    decision = EqualBudgetSolver(DRIVE.scenario).solve(slot, state).decision
    delay, energy = delay_and_energy(DRIVE.scenario, slot, decision)
    cheapest = slot.work * DRIVE.scenario.energy_per_offloaded_bit
    possible = cheapest <= allowed * (1 - 1e-5)
    assert 50 < possible.sum() < 250
    assert (energy[possible] <= allowed[possible]).all()
    np.testing.assert_allclose(energy[~possible], cheapest[~possible], rtol=1e-5)
    fastest, wanted = delay_and_energy(
        DRIVE.scenario, slot, ExactSolver(DRIVE.scenario).solve(slot, DRIVE.start(slot)).decision
    )
    assert (delay >= fastest * (1 - 1e-9)).all()
    ample = wanted < allowed * (1 - 1e-5)
    assert ample.sum() > 20
    np.testing.assert_allclose(delay[ample], fastest[ample], rtol=1e-9)
    tight = possible & ~ample
    assert tight.sum() > 10
    # What is allowed is used, but where a segment's own end stops it from being of use.
    assert (energy[tight] > 0.999 * allowed[tight]).mean() > 0.9
