"""The rules of federated training by hand, on five clients."""

import dataclasses

import numpy as np
import pytest
from federated_training.agents.fleets import COMPUTING, FIVE, LINKING, NEVER, five, goes

from agents.federated_training.fastest_share import (
    ROWS,
    SHARES,
    Course,
    FastestShareSolver,
    fixed_share,
    tune_schedule,
    tune_share,
)
from agents.federated_training.fleet import fleet_now, rank
from agents.federated_training.oort import OortSolver, utilities
from agents.federated_training.random_rules import (
    RandomSolver,
    effort_to_finish,
    tune_backups,
    tune_finish,
)
from agents.federated_training.tifl import TierSolver, tier_chances
from agents.solver_agent import SolverAgent
from agents.trials import FEW, MORE, best_setting, trial_returns
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.core.seeds import tuning_episodes
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario

SMALL = Scenario(
    clients=6, at_once=3, quorum=1, hidden=4, local_steps=2, batch=4, decisions=6, budget_s=400.0
)


def many(solver, slot, state, times=400):
    """Who goes, in many draws, (times, N)."""
    slot, state = (
        arrays.map_arrays(lambda a: np.broadcast_to(a, (times, *np.shape(a))), record)
        for record in (slot, state)
    )
    return solver.solve(slot, state).decision.score > 0


def test_the_fleet_is_read_as_it_is_now():
    scenario = dataclasses.replace(FIVE, bin_s=100.0, budget_s=1000.0, growth_s=1000.0)
    slot, state = five(
        FIVE,
        client=[3, -1, -1],
        merged_into=[NEVER, 4, 7, NEVER, 1],
        version=7,
        decisions_left=15.0,
        clock=250.0,
    )
    speed = np.repeat(slot.speed, 10, axis=-1)
    speed[:, 2] *= 2.0
    present = np.repeat(slot.present, 10, axis=-1)
    present[4, 2] = False
    slot = dataclasses.replace(
        slot,
        speed=speed,
        uplink=np.repeat(slot.uplink, 10, axis=-1),
        present=present,
    )
    fleet = fleet_now(slot, state, scenario)
    np.testing.assert_allclose(fleet.computing_s, COMPUTING / 2)
    np.testing.assert_allclose(fleet.linking_s, LINKING)
    np.testing.assert_allclose(fleet.seconds, COMPUTING / 2 + LINKING)
    assert fleet.busy.tolist() == [False, False, False, True, False]
    assert fleet.idle.tolist() == [True, True, True, False, False]
    assert fleet.flying == 1 and fleet.decided == 5
    assert fleet.age.tolist() == [0, 3, 0, 0, 6]
    assert fleet.never.tolist() == [True, False, False, True, False]
    # A share of 0.2 + 0.8 / 4 of the images is known after a quarter of the time.
    assert fleet.samples.tolist() == [4, 8, 12, 16, 20]


def test_what_is_decoded_is_read_alike():
    """Rules see no more than an observation, and it is enough for them."""
    problem = FederatedTraining(FIVE)
    slot, state = five(client=[2, -1, -1], taken=[1, 2, 3, 0, 0], version=3, absent=[4])
    real = fleet_now(slot, state, FIVE)
    seen = fleet_now(*problem.decode(problem.observe(slot, state)), FIVE)
    for name in ("computing_s", "samples", "taken", "idle", "busy", "never", "accuracy"):
        np.testing.assert_allclose(getattr(seen, name), getattr(real, name), rtol=1e-4)
    # How a link's time is shared between both directions is not seen, but what it is in total.
    np.testing.assert_allclose(seen.linking_s, LINKING, rtol=1e-4)


def test_rank():
    assert rank(np.array([[3.0, 1.0, 2.0], [0.0, 0.0, -1.0]])).tolist() == [[2, 0, 1], [1, 2, 0]]


@pytest.mark.parametrize(
    ("share", "rows", "known", "expected"),
    [
        (0.2, 1.0, {}, [1]),
        (0.6, 1.0, {}, [1, 3, 2]),
        (0.6, 0.5, {}, [1, 3]),  # two of the three rows
        (1.0, 1.0, {}, [1, 3, 2]),  # no more than there is room for
        # Those who went least often go first; of those, the fast ones.
        (1.0, 0.6, {"taken": [0.0, 1.0, 1.0, 2.0, 0.0]}, [0, 4]),
        # Those on their way are fast ones, too, and use rows.
        (0.4, 1.0, {"client": [1, -1, -1]}, [3]),
        (0.6, 0.6, {"client": [1, -1, -1]}, [3]),
        (0.6, 0.3, {"client": [1, -1, -1]}, []),
        # Absent ones are not among the fast ones.
        (0.5, 1.0, {"absent": [1]}, [3, 2]),
        (0.01, 1.0, {"absent": [1, 2, 3, 4]}, [0]),
    ],
)
def test_fastest_share(share, rows, known, expected):
    slot, state = five(**known)
    assert goes(fixed_share(FIVE, share, rows).solve(slot, state).decision) == expected


def test_shares_follow_the_accuracy():
    solver = FastestShareSolver(FIVE, Course(0.2, 1.0), Course(1.0, 0.2))
    # At 0.5: 0.6 of the clients, and 0.6 of the rows, which is 2.
    for accuracy, expected in ((0.0, [1]), (0.5, [1, 3]), (1.0, [1])):
        slot, state = five(accuracy=accuracy)
        assert goes(solver.solve(slot, state).decision) == expected


def test_random_rules_draw_so_many_of_the_idle_ones():
    slot, state = five(client=[1, -1, -1], absent=[4])
    for rows, each in ((3, 2), (2, 1), (1, 0)):
        drawn = many(RandomSolver(FIVE, rows, seed=1), slot, state)
        assert (drawn.sum(axis=-1) == each).all()
        assert not drawn[:, [1, 4]].any()
        np.testing.assert_allclose(drawn.mean(axis=0)[[0, 2, 3]], each / 3, atol=0.08)


def test_effort_lets_all_finish_together():
    # Of 5 idle ones, the median is done after 40 s. Client 0 has 30 s for what would take 40 s of
    # computing: 7 of 10 steps. Client 4 has 34 of 50 s: 6 steps.
    slot, state = five(dataclasses.replace(FIVE, control_steps=True))
    scenario = dataclasses.replace(FIVE, control_steps=True)
    fleet = fleet_now(slot, state, scenario)
    steps = 1 + np.rint(9 * (effort_to_finish(fleet, 0.5, scenario) + 1) / 2)
    assert steps.tolist() == [7, 10, 10, 10, 6]
    # After 14 s only the fastest one takes all of them, and all take at least one.
    steps = 1 + np.rint(9 * (effort_to_finish(fleet, 0.1, scenario) + 1) / 2)
    assert steps.tolist() == [1, 10, 1, 5, 1]
    decision = RandomSolver(scenario, 3, finish=0.5).solve(slot, state).decision
    np.testing.assert_array_equal(decision.effort, effort_to_finish(fleet, 0.5, scenario))
    # Nothing is said of steps where they are not decided.
    assert RandomSolver(FIVE, 3, finish=0.5).solve(*five()).decision.effort.shape == (0,)
    one = dataclasses.replace(scenario, local_steps=1)
    assert effort_to_finish(fleet_now(slot, state, one), 0.5, one).tolist() == [1.0] * 5


def test_oorts_utility():
    # Round 6. Statistical: 20 * 1 = 20, 30 * 2 = 60, 50 * 0.5 = 25, by the largest of these.
    slot, state = five(
        merged_into=[NEVER, 4, 7, NEVER, 3],
        last_loss=[0.0, 1.0, 2.0, 0.0, 0.5],
        version=7,
        decisions_left=15.0,
    )
    fleet = fleet_now(slot, state, FIVE)
    # Ages 3, 0 and 4: last seen in rounds 3, 6 and 2.
    fresh = np.sqrt(0.1 * np.log(6) / np.array([3, 6, 2]))
    plain = np.array([20, 60, 25]) / 60 + fresh
    # The preferred time is that of the second fastest, 23 s.
    slow = np.array([1.0, (23 / 40) ** 2, (23 / 56) ** 2])
    np.testing.assert_allclose(utilities(fleet, 0.4, 2.0)[[1, 2, 4]], plain * slow)


def test_oort_clips_at_95_percent():
    scenario = dataclasses.replace(FIVE, clients=40, at_once=2)
    problem = FederatedTraining(scenario)
    slot = arrays.slot_at(problem.sample(np.random.default_rng(0), 1), 0)
    loss = np.arange(1.0, 41.0)
    state = dataclasses.replace(
        problem.start(slot), last_loss=loss[None], merged_into=np.zeros((1, 40), dtype=int)
    )
    fleet = dataclasses.replace(fleet_now(slot, state, scenario), samples=np.ones((1, 40)))
    # The 38th of 40; the logarithm of the first round is 0.
    worth = utilities(fleet, 1.0, 1.0)[0]
    np.testing.assert_allclose(worth, np.minimum(loss, 38.0) / 38.0)


def test_oort_explores_less_and_less():
    known = {
        "merged_into": [NEVER, 1, 2, NEVER, 2],
        "last_loss": [0.0, 1.0, 2.0, 0.0, 0.5],
        "version": 2,
    }
    solver = OortSolver(FIVE, 1.0, 1.0, 1.0)
    # All three rows explore at first, but there are two unknown clients: the faster one first.
    # Client 2 is worth most, 30 * 2.
    slot, state = five(**known, decisions_left=20.0)
    assert goes(solver.solve(slot, state).decision) == [3, 0, 2]
    # 0.9 * 0.98^49 * 3 is just above 1, 0.9 * 0.98^50 * 3 just below; at last it is 0.6.
    later = dataclasses.replace(FIVE, decisions=1000)
    for decided, expected in ((20, [3, 0, 2]), (49, [3, 0, 2]), (50, [3, 2, 4]), (900, [3, 2, 4])):
        slot, state = five(**known, decisions_left=1000.0 - decided)
        solver = OortSolver(later, 1.0, 1.0, 1.0)
        assert goes(solver.solve(slot, state).decision) == expected
    # Rows may be left empty, and those in use count.
    assert goes(OortSolver(later, 1.0, 1.0, 0.6).solve(slot, state).decision) == [3, 2]
    slot, state = five(**known, client=[3, 2, -1], decisions_left=100.0)
    assert goes(solver.solve(slot, state).decision) == [0]


def test_tiers_of_high_loss_are_drawn_more_often():
    members = np.eye(5, dtype=bool)  # a tier each
    slot, state = five(merged_into=[1, 1, 1, 1, 1], last_loss=[1.0, 3.0, 2.0, 5.0, 4.0], version=1)
    fleet = fleet_now(slot, state, FIVE)
    np.testing.assert_allclose(tier_chances(fleet, members), np.array([1, 3, 2, 5, 4]) / 15)
    # One that has not reported counts as the worst; one with nobody idle is not drawn.
    slot, state = five(
        merged_into=[NEVER, 1, 1, 1, 1],
        last_loss=[0.0, 3.0, 2.0, 5.0, 4.0],
        version=1,
        client=[3, -1, -1],
    )
    chances = tier_chances(fleet_now(slot, state, FIVE), members)
    np.testing.assert_allclose(chances, np.array([4, 2, 1, 0, 3]) / 10)
    # Credits: of 20 jobs, 1.5 * (5, 4, 3, 2, 1) / 15 * 20 = 10, 8, 6, 4, 2 are due.
    slot, state = five(
        merged_into=[1, 1, 1, 1, 1],
        last_loss=[1.0, 3.0, 2.0, 5.0, 4.0],
        version=1,
        taken=[0.0, 9.0, 6.0, 2.0, 3.0],
    )
    chances = tier_chances(fleet_now(slot, state, FIVE), members)
    np.testing.assert_allclose(chances, np.array([1, 0, 2, 3, 0]) / 6)


def test_tifl_draws_within_one_tier():
    scenario = FIVE
    slot, state = five(merged_into=[NEVER, 1, 1, 1, 1], version=1, last_duration=[0, 1, 2, 3, 4])
    # Five tiers of one client: the one that has not reported is drawn most often.
    drawn = many(TierSolver(scenario, seed=2, tiers=5), slot, state, times=2000)
    assert (drawn.sum(axis=-1) == 1).all()
    assert drawn.mean(axis=0).argmax() == 0
    # Ten clients: two per tier, fastest ones together.
    ten = dataclasses.replace(FIVE, clients=10)
    problem = FederatedTraining(ten)
    slot = arrays.slot_at(problem.sample(np.random.default_rng(1), 1), 0)
    start = problem.start(slot)
    pairs = rank(fleet_now(slot, start, ten).seconds)[0] // 2
    drawn = many(TierSolver(ten, tiers=5), arrays.at(slot, 0), arrays.at(start, 0))
    assert {frozenset(pairs[row]) for row in drawn} == {frozenset({tier}) for tier in range(5)}
    assert (drawn.sum(axis=-1) == 2).all()
    # By default a tier has enough for all three rows, of those who can be reached.
    assert TierSolver(ten).tiers == 3 and TierSolver(FIVE).tiers == 2
    slot, state = five(absent=[0])
    drawn = many(TierSolver(FIVE), slot, state)
    assert {tuple(np.flatnonzero(row)) for row in drawn} == {(1, 3), (2, 4)}


def test_many_settings_in_one_batch_are_what_each_plays_alone():
    problem = FederatedTraining(SMALL)
    trace = problem.sample(np.random.default_rng(3), 3)
    solvers = [fixed_share(SMALL, share, 1.0) for share in (0.2, 0.6, 1.0)]
    together = trial_returns(problem, solvers, trace)
    alone = [rollout(problem, SolverAgent(problem, solver), trace).returns for solver in solvers]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.slow
def test_the_best_setting_is_that_of_the_tuning_episodes():
    problem = FederatedTraining(SMALL)
    trace = tuning_episodes(problem, FEW + MORE)

    def returns(share, rows):
        agent = SolverAgent(problem, fixed_share(SMALL, share, rows))
        return rollout(problem, agent, trace).returns

    tried = {(share, rows): returns(share, rows) for share in SHARES for rows in ROWS}
    first = sorted(tried, key=lambda pair: -tried[pair][:FEW].sum())[:5]
    best = max(first, key=lambda pair: tried[pair].sum())
    assert tried[tune_share(problem)].sum() == pytest.approx(tried[best].sum())
    assert best_setting(problem, ["only"], lambda name: 1 / 0) == "only"


def test_tuned_numbers_are_among_those_tried():
    problem = FederatedTraining(SMALL)
    assert 1 <= tune_backups(problem) <= 3
    assert tune_finish(problem) is None  # nothing is decided about steps
    share, rows = tune_schedule(problem)
    fixed = tune_share(problem)
    assert {share.first, share.last} <= {fixed[0] / 2, fixed[0], min(2 * fixed[0], 1.0)}
    assert {rows.first, rows.last} <= {fixed[1] / 2, fixed[1], min(2 * fixed[1], 1.0)}
    everyone = dataclasses.replace(SMALL, quorum=3)
    assert tune_backups(FederatedTraining(everyone)) == 3
