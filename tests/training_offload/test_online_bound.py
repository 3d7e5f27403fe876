"""The bound for those who do not know the future."""

from dataclasses import replace

import numpy as np
import pytest
from training_offload.cases import rich

import mec_gym
from agents.registry import make_agent
from agents.training_offload import AGENTS
from mec_gym.core import arrays
from mec_gym.core.online import online_bound_of
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.training_offload import model
from mec_gym.training_offload import online_bound as module
from mec_gym.training_offload.battery_value import fit_battery_value
from mec_gym.training_offload.exact import SlotFrontier
from mec_gym.training_offload.model import Decision
from mec_gym.training_offload.online_bound import online_bound, relaxed_choices
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import PRESETS

DRIVE = PRESETS["drive"].make()
SHORT = replace(DRIVE, horizon=3, battery=100.0)
BOUNDED = ("drive", "drive-split", "drive-ample")


def test_where_there_is_none():
    for scenario in (
        PRESETS["drive-steady"].make(),
        PRESETS["paper"].make(),
        replace(DRIVE, variant="literal"),
        replace(DRIVE, horizon=module.LONGEST + 1),
    ):
        assert online_bound_of(TrainingOffload(scenario)) is None


@pytest.mark.parametrize("variant", ["finish", "split"])
def test_every_split_has_a_choice_that_is_as_good(coarse, variant):
    scenario = replace(SHORT, variant=variant)
    value = fit_battery_value(scenario)
    rng = np.random.default_rng(3)
    trace = scenario.sample(rng, 20)
    choices = arrays.join_axes(relaxed_choices(trace, scenario, value), 2)
    tasks = arrays.join_axes(trace, 2)
    count = len(tasks.work)
    frontier = SlotFrontier(tasks, scenario)
    decisions = [
        Decision(
            edge_share=shares[:, 0],
            cloud_share=shares[:, 1],
            server=rng.integers(3, size=count),
            next_server=rng.integers(3, size=count),
        )
        for shares in rng.dirichlet((0.5, 0.5, 0.5), (100, count))
    ]
    # The best splits of all are those at the limits of an energy.
    limits = tasks.work * rng.uniform(0.156, 0.33, (100, count)) / 1e6
    decisions += [frontier.best(limit)[1] for limit in limits]
    close = 0
    for decision in decisions:
        _, outcome = model.evaluate(tasks, rich((count,)), decision, scenario)
        spends_less = choices.spend * value.unit <= outcome.energy_j[:, None]
        cost = np.where(spends_less, choices.cost, np.inf).min(axis=-1)
        delay = np.minimum(outcome.delay_s / scenario.deadline, 1.0)
        assert (cost <= delay * (1 + 1e-9)).all()
        close += int((cost > delay - 0.01).sum())
    assert close > 20 * count  # and no choice is much better than the best splits


def test_luck_is_nothing_in_expectation(coarse):
    """Fresh episodes, and three policies that end with very different batteries."""
    problem = TrainingOffload(SHORT)
    bound = online_bound(SHORT)
    trace = problem.sample(np.random.default_rng(11), 1500)
    for name in ("budget", "exact", "random"):
        played = rollout(problem, make_agent(name, problem), trace)
        luck = bound.luck(trace, played.outcomes)
        # The means of 1 500 other tasks are no more exact than these episodes.
        assert abs(luck.mean()) < 3 * np.hypot(luck.std() / np.sqrt(1500), bound.se)
        assert (played.returns - luck).mean() < bound.mean + 2 * bound.se
        if name != "random":
            assert (played.returns - luck).std() < 0.7 * played.returns.std()


def test_who_knows_the_tasks_is_luckier_than_that(coarse):
    """The best of many policies, chosen in hindsight, is one that knows the future."""
    problem = TrainingOffload(SHORT)
    bound = online_bound(SHORT)
    trace = problem.sample(np.random.default_rng(12), 600)
    agents = [make_agent(name, problem) for name in ("budget", "exact", "device-only")]
    returns = [rollout(problem, agent, trace).returns for agent in agents]
    clairvoyant = problem.bound(trace)
    assert (np.max(returns, axis=0) <= clairvoyant + 1e-9).all()
    assert clairvoyant.mean() > bound.mean + 3 * clairvoyant.std() / np.sqrt(600)


def test_a_battery_that_never_binds_leaves_nothing_to_chance(coarse):
    """With plenty, every task is done at its best, and the bound is the mean of that."""
    scenario = replace(SHORT, battery=2000.0)
    bound = online_bound(scenario)
    trace = scenario.sample(np.random.default_rng(13), 3000)
    best = TrainingOffload(scenario).bound(trace)
    error = np.hypot(best.std() / np.sqrt(3000), bound.se)
    assert bound.mean == pytest.approx(best.mean(), abs=3 * error)


@pytest.mark.slow
def test_bound_of_the_drive():
    bound = online_bound(DRIVE)
    assert -3.58 < bound.mean < -3.50
    assert 0.001 < bound.se < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("scenario", BOUNDED)
@pytest.mark.parametrize("name", [*AGENTS, "random"])
def test_nobody_can_expect_more(scenario, name):
    problem = mec_gym.make_problem("mec/TrainingOffload-v0", scenario)
    bound = problem.online_bound()
    trace = sample_episodes(problem, 0, 100)
    played = rollout(problem, make_agent(name, problem), trace)
    assert (played.returns - bound.luck(trace, played.outcomes)).mean() < bound.mean


@pytest.mark.slow
@pytest.mark.parametrize("name", ["price", "budget", "exact"])
def test_expectation_without_luck_is_that_of_many_episodes(name):
    """What 2 000 episodes say without luck is the plain mean of 20 000 fresh ones."""
    problem = mec_gym.make_problem("mec/TrainingOffload-v0")
    agent, bound = make_agent(name, problem), problem.online_bound()
    trace = sample_episodes(problem, 0, 2000)
    played = rollout(problem, agent, trace)
    fair = played.returns - bound.luck(trace, played.outcomes)
    rng = np.random.default_rng(987654321)
    fresh = np.concatenate(
        [rollout(problem, agent, problem.sample(rng, 500)).returns for _ in range(40)]
    )
    error = np.hypot(fair.std() / np.sqrt(2000), fresh.std() / np.sqrt(len(fresh)))
    assert abs(fair.mean() - fresh.mean()) < 2 * error
    assert fair.std() < 0.6 * played.returns.std()
