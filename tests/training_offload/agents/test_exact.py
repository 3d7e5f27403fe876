"""The exact solver through float32 observations and actions."""

import dataclasses

import numpy as np
import pytest
from training_offload.cases import PAPER, first_tasks
from training_offload.oracle import MBIT, VARIANTS, random_scenario, random_slot

from agents.registry import make_agent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.training_offload import model
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario


def test_device_only_cloud_and_edge_schemes_use_what_they_may():
    slot, state = first_tasks(PAPER, 0, 200)
    observation = PAPER.observe(slot, state)
    used = {}
    for name in ("device-only", "end-cloud", "end-edge", "exact"):
        decision = PAPER.decision(make_agent(name, PAPER).predict(observation)[0])
        used[name] = (decision.edge_share > 1e-9, decision.cloud_share > 1e-9)
    assert not used["device-only"][0].any() and not used["device-only"][1].any()
    assert not used["end-cloud"][0].any() and used["end-cloud"][1].all()
    assert used["end-edge"][0].all() and not used["end-edge"][1].any()
    assert used["exact"][0].all() and used["exact"][1].all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_through_float32_on_the_paper(variant):
    problem = TrainingOffload(Scenario(variant=variant))
    trace = sample_episodes(problem, 0, 500)
    latency = rollout(problem, make_agent("exact", problem), trace).outcomes.latency_s[:, 0]
    gap = latency / (-problem.bound(trace) * problem.scenario.deadline) - 1.0
    assert (gap > -1e-9).all()
    assert gap.max() < 1e-5  # 0.001 %


@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_through_float32_at_the_corners(variant):
    """Where the optimum stands on a hand-over, rounding must not push it across."""
    rng = np.random.default_rng(5)
    corners = 0
    for _ in range(30):
        problem = TrainingOffload(random_scenario(rng, variant, 2))
        slot = random_slot(rng, (40,), 2)
        slot = dataclasses.replace(slot, connection_estimate=slot.connection_time)
        best, decision = SlotFrontier(slot, problem.scenario).best(problem.scenario.battery)
        route = model.route(slot, decision.server, decision.next_server)
        sides = [
            model.migration_case(best.edge * (1 + e), route, problem.scenario)
            for e in (-1e-5, 1e-5)
        ]
        corners += int((sides[0] != sides[1]).sum())
        trace = arrays.map_arrays(lambda a: a[:, None], slot)
        latency = rollout(problem, make_agent("exact", problem), trace).outcomes.latency_s[:, 0]
        gap = latency / best.delay - 1.0
        assert (gap > -1e-9).all()
        assert gap.max() < 1e-5
    assert corners > 20


def test_exact_at_the_energy_limit():
    """A battery that binds is used up to rounding, and never overdrawn."""
    problem = TrainingOffload(Scenario(battery=24.0, work=(100 * MBIT, 150 * MBIT)))
    trace = sample_episodes(problem, 0, 200)
    result = rollout(problem, make_agent("exact", problem), trace)
    assert not result.outcomes.battery_short.any()
    energy = result.outcomes.energy_j[:, 0]
    assert (energy <= 24.0).all()
    assert (energy > 24.0 * (1 - 1e-5)).sum() > 100
    gap = result.returns / problem.bound(trace) - 1
    assert (gap > -1e-9).all() and gap.max() < 1e-5
