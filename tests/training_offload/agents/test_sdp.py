"""The stochastic program that plays, and what it believes of the connection time."""

from dataclasses import replace

import numpy as np
import pytest
from training_offload.cases import DRIVE, PAPER, delay_and_energy, first_tasks

from agents.registry import make_agent
from agents.solver_agent import SolverAgent
from agents.training_offload.connection_belief import ConnectionBelief
from agents.training_offload.exact import ExactSolver
from agents.training_offload.sdp import StochasticProgramSolver
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.training_offload.model import State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import PRESETS

SHORT = TrainingOffload(replace(DRIVE.scenario, horizon=4, battery=110.0))


@pytest.fixture(scope="module")
def solver(coarse):
    return StochasticProgramSolver(SHORT.scenario)


def test_one_task_is_solved_exactly(coarse):
    slot, state = first_tasks(PAPER, 0, 40)
    best, _ = delay_and_energy(
        PAPER.scenario, slot, ExactSolver(PAPER.scenario).solve(slot, state).decision
    )
    own, _ = delay_and_energy(
        PAPER.scenario, slot, StochasticProgramSolver(PAPER.scenario).solve(slot, state).decision
    )
    np.testing.assert_allclose(own, best, rtol=1e-5)


def test_single_equals_batch(solver):
    agent = SolverAgent(SHORT, solver)
    slot, state = first_tasks(SHORT, 0, 12)
    state = State(
        battery=state.battery * np.linspace(0.005, 1.0, 12), tasks_left=1 + np.arange(12.0) % 4
    )
    batch = SHORT.observe(slot, state)
    actions, _ = agent.predict(batch)
    folded, _ = agent.predict(batch.reshape(3, 4, -1))
    assert np.array_equal(folded.reshape(12, -1), actions)
    for i in range(12):
        np.testing.assert_allclose(agent.predict(batch[i])[0], actions[i], rtol=1e-6, atol=1e-7)


def test_better_than_spending_evenly(solver):
    trace = sample_episodes(SHORT, 0, 300)
    own, even = (
        rollout(SHORT, agent, trace).returns
        for agent in (SolverAgent(SHORT, solver), make_agent("budget", SHORT))
    )
    difference = own - even
    assert difference.mean() > 4 * difference.std() / np.sqrt(300)


def test_a_task_is_dropped_for_the_sake_of_later_ones(solver):
    """A large task's cheapest split costs 29 J. With 30 J, three smaller ones may be worth more."""
    slot, _ = first_tasks(SHORT, 0, 8)
    slot = replace(slot, work=np.full(8, 186e6))
    dropped = []
    for tasks in (4.0, 1.0):
        state = State(battery=np.full(8, 30.0), tasks_left=np.full(8, tasks))
        after, outcome = SHORT.step(slot, state, solver.solve(slot, state).decision)
        assert np.array_equal(outcome.battery_short, after.battery == 30.0)
        dropped.append(outcome.battery_short.mean())
    assert dropped[0] > 0.5 and dropped[1] == 0.0


def test_believed_times_are_spread_as_true_ones_are(solver):
    trace = SHORT.sample(np.random.default_rng(21), 250)
    tasks = arrays.join_axes(trace, 2)
    times = solver.belief.connection_times(tasks)
    assert times.shape == (1000, 16) and (np.diff(times, axis=-1) >= 0).all()
    below = (tasks.connection_time[:, None] > times).mean()
    assert below == pytest.approx(0.5, abs=0.03)
    for quantile in (3, 12):
        share = (tasks.connection_time > times[:, quantile]).mean()
        assert share == pytest.approx(1 - (quantile + 0.5) / 16, abs=0.05)
    # Their mean is a better guess than the estimate.
    guess, estimate = times.mean(axis=-1), tasks.connection_estimate
    truth = tasks.connection_time
    assert np.abs(guess - truth).mean() < 0.95 * np.abs(estimate - truth).mean()


def test_fast_links_speak_for_a_place_near_the_station(solver):
    """Where they are slow, the vehicle is near the border and leaves sooner."""
    tasks = arrays.at(arrays.join_axes(SHORT.sample(np.random.default_rng(22), 50), 2), slice(200))
    late = (tasks.position > 300) & (tasks.position < 470)
    factor = np.ones((200, 2, 3))
    near, far = factor.copy(), factor.copy()
    near[:, 0], far[:, 0] = 1.2, 0.6
    times = [
        solver.belief.connection_times(
            replace(tasks, uplink=f * np.array(SHORT.scenario.server_uplink))
        ).mean(axis=-1)
        for f in (near, far)
    ]
    assert (times[0] - times[1])[late].mean() > 1.0


def test_what_is_known_is_believed(coarse):
    steady = PRESETS["drive-steady"].make()
    slot = arrays.slot_at(steady.sample(np.random.default_rng(23), 20), 0)
    times = ConnectionBelief(steady).connection_times(slot)
    np.testing.assert_allclose(times, np.repeat(slot.connection_time[:, None], 16, 1), rtol=1e-6)
    paper = first_tasks(PAPER, 0, 5)[0]
    known = ConnectionBelief(PAPER.scenario).connection_times(paper)
    assert np.array_equal(known, paper.connection_time[:, None])


@pytest.mark.slow
def test_ahead_of_the_price_rule_on_the_drive():
    trace = sample_episodes(DRIVE, 0, 500)
    own, price = (rollout(DRIVE, make_agent(n, DRIVE), trace).returns for n in ("sdp", "price"))
    assert own.mean() > -3.72
    difference = own - price
    assert 0.17 < difference.mean() < 0.21
