"""Rules, planners and the head of pipeline training: by hand, and against trying everything."""

import dataclasses
import itertools

import numpy as np
import pytest
from pipeline_training import oracle

from agents.heads import make_head
from agents.pipeline_training.head import PlanHead
from agents.pipeline_training.lookahead import LookAheadSolver, expected_slots
from agents.pipeline_training.patience import (
    HORIZONS,
    MARGINS,
    RISKS,
    HysteresisSolver,
    PatienceSolver,
    departure_losses,
    departure_rate,
    tune_margin,
    tune_patience,
)
from agents.pipeline_training.rules import (
    BalancedSolver,
    KeepSolver,
    MyopicSolver,
    ReplanSolver,
    SingleDeviceSolver,
)
from agents.registry import agents_of, make_agent
from agents.solver_agent import SolverAgent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.seeds import tuning_episodes
from mec_gym.pipeline_training.exact import best_way, episode_optimum, plan_shares
from mec_gym.pipeline_training.model import Decision, State
from mec_gym.pipeline_training.plans import all_plans
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import Scenario, Slot
from mec_gym.registration import room_of

M, G = 1e6, 1e9

# One block, which weighs 10 Mbit, on two devices: a plan's pace is its device's share of the
# speeds, 0.6 and 0.4. Moving takes 2 * 10 / 20 + 5 = 6 s from a device, 25 s from the store.
TWO = Scenario(
    network=oracle.network([1 * G], [1 * M, 1 * M], [10 * M]),
    blocks=1,
    devices=2,
    horizon=10,
    slot_s=60.0,
    restart_s=5.0,
    notice=4,
)
BOTH = Slot(
    present=np.array([True, True]),
    speed=G * np.array([3.0, 2.0]),
    link=M * np.array([[0.0, 20.0], [20.0, 0.0]]),
    store=M * np.array([1.0, 1.0]),
    seen=np.array([6.0, 2.0]),
    departures=np.array([1.0, 0.0]),
    leaves=np.array([5.0, 5.0]),
)


def state(*place, left=10.0):
    return State(place=np.array(place), slots_left=np.array(left))


def chosen(solver, slot, state):
    return solver.solve(slot, state).decision.place.tolist()


def moments(count=24, **changes):
    """(problem, one slot, a state that random decisions have led to) of random worlds."""
    for seed in range(count):
        problem = PipelineTraining(oracle.random_world(seed, **changes))
        rng = np.random.default_rng(seed)
        trace = arrays.at(problem.sample(rng, 1), 0)
        here = problem.start(arrays.at(trace, 0))
        for t in range(1 + seed % 5):
            place = rng.integers(problem.scenario.devices, size=here.place.shape)
            here, _ = problem.step(arrays.at(trace, t), here, Decision(place=place))
        slot = arrays.at(trace, 1 + seed % 5)
        if slot.present.any():
            yield problem, slot, here


def paid(problem, slot, state, place):
    return problem.step(slot, state, Decision(place=np.array(place)))[1]


# --------------------------------------------------------------------------- simple rules


def test_keep_and_single_device_by_hand():
    s = oracle.random_world(0, blocks=4, devices=3)
    slot = dataclasses.replace(
        arrays.at(s.sample(np.random.default_rng(0), 1), (0, 0)),
        present=np.array([True, False, True]),
        speed=G * np.array([1.0, 9.0, 2.0]),
    )
    assert chosen(KeepSolver(s), slot, state(0, 0, 2, 2)) == [0, 0, 2, 2]
    assert chosen(KeepSolver(s), slot, state(0, 1, 1, 2)) == [0, 0, 0, 2]
    assert chosen(KeepSolver(s), slot, state(1, 1, 0, 0)) == [2, 2, 0, 0]
    assert chosen(KeepSolver(s), slot, state(-1, -1, -1, -1)) == [2, 2, 2, 2]
    assert chosen(SingleDeviceSolver(s), slot, state(0, 0, 0, 0)) == [2, 2, 2, 2]


def test_replan_and_myopic_are_the_best_of_all_decisions():
    moved = 0
    for problem, slot, here in moments(devices=3):
        s = problem.scenario
        decisions = np.array(list(np.ndindex(*[s.devices] * s.blocks)))
        outcome = paid(problem, slot, here, decisions)
        replan = paid(problem, slot, here, chosen(ReplanSolver(s), slot, here))
        assert replan.minibatch_s == pytest.approx(outcome.minibatch_s.min(), rel=1e-12)
        myopic = paid(problem, slot, here, chosen(MyopicSolver(s), slot, here))
        assert myopic.lost_s == pytest.approx(outcome.lost_s.min(), rel=1e-12, abs=1e-12)
        moved += myopic.minibatch_s > replan.minibatch_s
    assert moved > 1  # so they differ


def test_balanced_has_the_least_period():
    for problem, slot, here in moments(12, devices=3):
        s = problem.scenario

        def period(plan, s=s, slot=slot):
            """The time of whatever is busy longest per microbatch, moved and computed."""
            runs = oracle.runs_of(plan)
            parts = [
                3 * s.samples * sum(s.chain.work[b] for b in blocks) / slot.speed[device]
                for device, blocks in runs
            ]
            for (one, _), (two, blocks) in itertools.pairwise(runs):
                bits = s.samples * s.chain.bits[blocks[0]]
                parts += [bits / slot.link[one, two], bits / slot.link[two, one]]
            return max(parts)

        plans = [
            plan
            for plan in oracle.every_plan(s.blocks, s.devices)
            if slot.present[list(plan)].all()
        ]
        found = chosen(BalancedSolver(s), slot, here)
        assert period(found) == pytest.approx(min(map(period, plans)), rel=1e-12)


# ----------------------------------------------------------------------------- hysteresis


def test_hysteresis_by_hand():
    # On device 1, the other one is faster by 0.2.
    assert chosen(HysteresisSolver(TWO, 0.19), BOTH, state(1)) == [0]
    assert chosen(HysteresisSolver(TWO, 0.21), BOTH, state(1)) == [1]
    assert chosen(HysteresisSolver(TWO, 0.0), BOTH, state(0)) == [0]
    # At first everything is on the fastest device.
    assert chosen(HysteresisSolver(TWO, 0.5), BOTH, state(-1)) == [0]


@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0])
def test_hysteresis_compares_what_is_kept_with_the_best(margin):
    changed = kept = 0
    for problem, slot, here in moments(40, devices=3):
        s = problem.scenario
        keep = chosen(KeepSolver(s), slot, here)
        best = chosen(ReplanSolver(s), slot, here)
        share, most = (
            36.0 / paid(problem, slot, here, plan).minibatch_s.item() for plan in (keep, best)
        )
        perfect = s.microbatches * s.samples * s.sample_work / slot.speed[slot.present].sum() / 36
        expected = best if most * perfect > share * perfect + margin + 1e-12 else keep
        assert chosen(HysteresisSolver(s, margin), slot, here) == expected
        changed += expected != keep
        kept += expected == keep != best
    assert (changed == 0) if margin == 1.0 else changed > 3
    assert (kept == 0) if margin == 0.0 else kept > 1


# ------------------------------------------------------------------------------- patience


def test_departure_rate_by_hand():
    s = Scenario(devices=2, stay=(4.0, 9.0))  # usually 6 slots
    assert departure_rate(BOTH, s).tolist() == [2 / 12, 1 / 8]
    # Announced departures: who leaves in k slots has 1 / k, others 0.
    slot = dataclasses.replace(BOTH, leaves=np.array([4.0, 1.0]))
    assert departure_rate(slot, dataclasses.replace(s, notice=4)).tolist() == [1 / 4, 1]
    assert departure_rate(slot, dataclasses.replace(s, notice=3)).tolist() == [0, 1]
    gone = dataclasses.replace(slot, present=np.array([True, False]), leaves=np.array([4.0, 0.0]))
    assert departure_rate(gone, dataclasses.replace(s, notice=4)).tolist() == [1 / 4, 0]
    assert departure_rate(BOTH, Scenario(devices=2, stay=None)).tolist() == [0, 0]


def test_departure_losses_by_hand():
    s = Scenario(
        network=oracle.network([G] * 2, [M] * 3, [10 * M, 25 * M]),
        blocks=2,
        devices=3,
        store=5 * M,
        restart_s=4.0,
        slot_s=40.0,
    )
    # From the store: 20 / 5 s for the first block, 50 / 5 s for the second one.
    first, second, both = (4 + 4) / 40, (10 + 4) / 40, (14 + 4) / 40
    plans = all_plans(2, 3)
    for place, losses in zip(plans.place.tolist(), departure_losses(s), strict=True):
        expected = np.zeros(3)
        if place[0] == place[1]:
            expected[place[0]] = both
        else:
            expected[place[0]], expected[place[1]] = first, second
        np.testing.assert_allclose(losses, expected, rtol=1e-15)


def test_patience_by_hand():
    # Device 0 is faster by 0.2 a slot; moving there costs 6 s of a pace of 0.6: 0.06 slots.
    quiet = dataclasses.replace(TWO, notice=0, stay=(4.0, 9.0))
    assert chosen(PatienceSolver(quiet, 1.0, 0.0), BOTH, state(1)) == [0]
    slow = dataclasses.replace(quiet, restart_s=41.0)  # 42 s of 0.6: 0.42 slots
    assert chosen(PatienceSolver(slow, 2.0, 0.0), BOTH, state(1)) == [1]
    assert chosen(PatienceSolver(slow, 2.2, 0.0), BOTH, state(1)) == [0]
    # ... of which there are two left only.
    assert chosen(PatienceSolver(slow, 2.2, 0.0), BOTH, state(1, left=2.0)) == [1]
    # It is more likely to leave by 1 / 24. Whoever leaves: store at its median, and 41 s.
    loss = (20 * M / slow.store + 41) / 60
    gain = 0.2 * 3.0 - 0.42
    for risk, device in ((gain / loss * 24 * 0.99, 0), (gain / loss * 24 * 1.01, 1)):
        assert chosen(PatienceSolver(slow, 3.0, risk), BOTH, state(1)) == [device]


def test_patience_against_trying_everything():
    for k, (problem, slot, here) in enumerate(moments(devices=3, notice=0)):
        s = problem.scenario
        horizon, risk = (1.0, 2.5, 6.0)[k % 3], (0.0, 1.0, 4.0)[k // 3 % 3]
        here = dataclasses.replace(here, slots_left=np.array(8.0 if k % 2 else 2.0))
        perfect = s.microbatches * s.samples * s.sample_work / slot.speed[slot.present].sum()
        rate = departure_rate(slot, s)

        def worth(plan):
            outcome = oracle.pay(s, slot, here.place, plan)  # noqa: B023
            slots = min(horizon, float(here.slots_left))  # noqa: B023
            value = (slots - 1) * (perfect / outcome.minibatch_s - 1)  # noqa: B023
            value -= outcome.lost_s / s.slot_s  # noqa: B023
            for device, blocks in oracle.runs_of(plan):
                bits = s.state_copies * sum(s.chain.weights[b] for b in blocks)  # noqa: B023
                back = (bits / s.store + s.restart_s) / s.slot_s  # noqa: B023
                value -= risk * rate[device] * back  # noqa: B023
            return value

        plans = [
            plan
            for plan in oracle.every_plan(s.blocks, s.devices)
            if slot.present[list(plan)].all()
        ]
        found = chosen(PatienceSolver(s, horizon, risk), slot, here)
        assert worth(found) == pytest.approx(max(map(worth, plans)), rel=1e-10, abs=1e-10)


def test_patience_lies_between_myopic_and_replan():
    for problem, slot, here in moments(devices=3):
        s = problem.scenario
        impatient = chosen(PatienceSolver(s, 1.0, 0.0), slot, here)
        assert impatient == chosen(MyopicSolver(s), slot, here)
        last = dataclasses.replace(here, slots_left=np.array(1.0))
        assert chosen(PatienceSolver(s, 50.0, 0.0), slot, last) == impatient
        ever = dataclasses.replace(here, slots_left=np.array(1e9))
        patient = chosen(PatienceSolver(s, 1e9, 0.0), slot, ever)
        best = chosen(ReplanSolver(s), slot, here)
        assert paid(problem, slot, here, patient).minibatch_s == pytest.approx(
            paid(problem, slot, here, best).minibatch_s, rel=1e-7
        )


def test_tuning_takes_what_returns_most_on_its_own_episodes():
    problem = PipelineTraining(
        oracle.random_world(3, blocks=3, devices=3, stay=(2.0, 9.0), store=5e7, link=1e8)
    )
    trace = tuning_episodes(problem, 6)

    def mean(solver):
        return rollout(problem, SolverAgent(problem, solver), trace).returns.mean()

    s = problem.scenario
    margin = tune_margin(problem, 6)
    # An agent sees numbers of single precision.
    assert (
        mean(HysteresisSolver(s, margin))
        >= max(mean(HysteresisSolver(s, m)) for m in MARGINS) - 1e-4
    )
    horizon, risk = tune_patience(problem, 6)
    assert horizon in HORIZONS and risk in RISKS
    assert (
        mean(PatienceSolver(s, horizon, risk))
        >= max(mean(PatienceSolver(s, h, r)) for h in HORIZONS[::2] for r in RISKS[::2]) - 1e-4
    )


# ------------------------------------------------------------------------------ look-ahead


def test_what_is_expected_by_hand():
    slot = dataclasses.replace(BOTH, leaves=np.array([2.0, 5.0]))
    found = expected_slots(slot, TWO, 4)
    assert found.present.tolist() == [[True, True], [True, True], [False, True], [False, True]]
    assert (found.speed == slot.speed).all() and found.link.shape == (4, 2, 2)
    # Beyond the notice nobody is known to leave, and nobody is told to return.
    assert expected_slots(BOTH, TWO, 9).present.all()
    gone = dataclasses.replace(BOTH, present=np.array([True, False]), leaves=np.array([5.0, 0.0]))
    assert expected_slots(gone, TWO, 3).present.tolist() == [[True, False]] * 3
    # Without notice, whoever is present stays.
    quiet = dataclasses.replace(TWO, notice=0)
    here = dataclasses.replace(gone, leaves=np.array([1.0, 0.0]))
    assert expected_slots(here, quiet, 3).present.tolist() == [[True, False]] * 3


def test_looking_ahead_avoids_who_is_announced_to_leave():
    """Device 0 pays for this slot, but leaves after it: then the block comes from the store."""
    leaving = dataclasses.replace(BOTH, leaves=np.array([1.0, 5.0]))
    assert chosen(MyopicSolver(TWO), leaving, state(1)) == [0]
    assert chosen(LookAheadSolver(TWO, 1), leaving, state(1)) == [0]
    assert chosen(LookAheadSolver(TWO, 2), leaving, state(1)) == [1]
    # Without the announcement it does not know, as it does not if the departure is far off.
    quiet = dataclasses.replace(TWO, notice=0)
    unsaid = dataclasses.replace(BOTH, leaves=np.array([1.0, 1.0]))
    assert chosen(LookAheadSolver(quiet, 2), unsaid, state(1)) == [0]
    assert chosen(LookAheadSolver(TWO, 2), BOTH, state(1)) == [0]
    # In the last slot there is nothing to look ahead to.
    assert chosen(LookAheadSolver(TWO, 2), leaving, state(1, left=1.0)) == [0]


def test_looking_ahead_against_trying_everything():
    for problem, slot, here in moments(16, blocks=2, devices=2, notice=3):
        s = problem.scenario
        here = dataclasses.replace(here, slots_left=np.array(8.0))
        slots = expected_slots(slot, s, 3)
        ways = np.array(list(np.ndindex(*[2] * 6))).reshape(-1, 3, 2)
        total, now = 0.0, None
        for t in range(3):
            wide = oracle.repeated(arrays.at(slots, t), len(ways))
            now = oracle.repeated(here, len(ways)) if t == 0 else now
            now, outcome = problem.step(wide, now, Decision(place=ways[:, t]))
            total = total + problem.reward(outcome)
        place = chosen(LookAheadSolver(s, 3), slot, here)
        first = (ways[:, 0] == np.maximum(place, 0)).all(axis=-1)
        assert total[first].max() == pytest.approx(total.max(), rel=0, abs=1e-12)
        assert best_way(slots, here.place, s)[0] == pytest.approx(total.max(), rel=0, abs=1e-12)


# ----------------------------------------------------------------------------------- all


SOLVERS = {
    "keep": KeepSolver,
    "single-device": SingleDeviceSolver,
    "replan": ReplanSolver,
    "balanced": BalancedSolver,
    "myopic": MyopicSolver,
    "hysteresis": lambda s: HysteresisSolver(s, 0.1),
    "patience": lambda s: PatienceSolver(s, 3.0, 1.0),
    "look-ahead": lambda s: LookAheadSolver(s, 3),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_batch_is_solved_as_its_parts_and_nobody_is_no_error(name):
    s = oracle.random_world(11, blocks=3, devices=2, stay=(1.0, 2.0), away=3.0, notice=2)
    problem = PipelineTraining(s)
    trace = problem.sample(np.random.default_rng(0), 6)
    here = problem.start(arrays.slot_at(trace, 0))
    solver, nobody = SOLVERS[name](s), 0
    for t in range(s.horizon):
        slot = arrays.slot_at(trace, t)
        solution = solver.solve(slot, here)
        assert solution.evaluations >= 0
        assert solution.decision.place.shape == (6, 3)
        actions = problem.encode(solution.decision)
        assert all(problem.action_space.contains(action) for action in actions)
        for i in range(6):
            alone = solver.solve(arrays.at(slot, i), arrays.at(here, i))
            assert np.array_equal(alone.decision.place, solution.decision.place[i])
            nobody += not slot.present[i].any()
        here, _ = problem.step(slot, here, solution.decision)
    assert nobody > 5


@pytest.mark.parametrize("notice", [0, 3])
def test_nobody_does_better_than_the_clairvoyant(notice):
    for seed in range(3):
        s = oracle.random_world(seed, blocks=3, devices=3, notice=notice)
        problem = PipelineTraining(s)
        trace = problem.sample(np.random.default_rng(seed), 5)
        foresees = make_agent("clairvoyant", problem)
        foresees.foresee(trace)
        best = rollout(problem, foresees, trace).returns
        np.testing.assert_allclose(best, episode_optimum(trace, s)[0], rtol=0, atol=1e-12)
        for make in SOLVERS.values():
            agent = SolverAgent(problem, make(s))
            assert (rollout(problem, agent, trace).returns <= best + 1e-12).all()


@pytest.mark.slow
def test_nobody_does_better_than_the_clairvoyant_on_the_default_scenario():
    problem = PipelineTraining(Scenario())
    trace = sample_episodes(problem, 0, 20)
    foresees = make_agent("clairvoyant", problem)
    foresees.foresee(trace)
    best = rollout(problem, foresees, trace).returns
    assert (best <= problem.bound(trace) + 1e-12).all()
    for name in agents_of(room_of(problem)):
        if name != "clairvoyant":
            returns = rollout(problem, make_agent(name, problem), trace).returns
            assert (returns <= best + 1e-12).all(), name
            assert returns.mean() < best.mean() - 0.2, name


# ---------------------------------------------------------------------------------- head


def seen_of(problem, count=12, seed=5):
    """Observations of episodes that random actions have led to."""
    rng = np.random.default_rng(seed)
    trace = problem.sample(rng, count)
    here, found = problem.start(arrays.slot_at(trace, 0)), []
    for t in range(4):
        slot = arrays.slot_at(trace, t)
        found.append(problem.observe(slot, here))
        place = rng.integers(problem.scenario.devices, size=here.place.shape)
        here, _ = problem.step(slot, here, Decision(place=place))
    return np.concatenate(found)


SMALL = PipelineTraining(oracle.random_world(4, blocks=4, devices=3, horizon=12))


@pytest.mark.parametrize("notice", [0, 5])
def test_an_untrained_head_is_the_rule(notice):
    problem = PipelineTraining(dataclasses.replace(SMALL.scenario, notice=notice))
    seen = seen_of(problem)
    for horizon, risk in ((1.5, 0.0), (3.0, 1.0), (12.0, 4.0)):
        head = PlanHead(problem, horizon=horizon, risk=risk)
        rule = SolverAgent(problem, PatienceSolver(problem.scenario, horizon, risk))
        actions = head.act(seen, np.zeros((len(seen), 4)))
        assert np.array_equal(actions, rule.predict(seen)[0])
        # One observation as many of them.
        assert np.array_equal(head.act(seen[3], np.zeros(4)), actions[3])


def test_what_the_head_takes_and_gives():
    seen = seen_of(SMALL)
    head = PlanHead(SMALL, horizon=2.0, risk=1.0)
    inputs = head.inputs(seen)
    assert inputs.shape == (len(seen), *head.input_space.shape) and inputs.dtype == np.float32
    assert all(head.input_space.contains(one) for one in inputs)
    assert np.array_equal(inputs[:, : seen.shape[1]], seen)
    assert head.output_space.shape == (4,)
    head.output_space.seed(0)
    raw = np.stack([head.output_space.sample() for _ in seen])
    actions = head.act(seen, raw)
    assert all(SMALL.action_space.contains(action) for action in actions)
    assert np.array_equal(head.act(seen, 3 * np.sign(raw)), head.act(seen, np.sign(raw)))
    # Two axes of a batch, as when a learner looks at a whole rollout.
    wide = head.act(seen.reshape(4, 12, -1), raw.reshape(4, 12, -1))
    assert np.array_equal(wide.reshape(len(seen), -1), actions)


def test_the_head_says_how_patient_to_be_and_whom_not_to_trust():
    head = PlanHead(SMALL, horizon=2.0, risk=1.0)
    seen = seen_of(SMALL)
    slot, here = SMALL.decode(seen)
    for sign in (-1.0, 1.0):
        raw = np.zeros((len(seen), 4))
        raw[:, 0] = sign
        patient = PatienceSolver(SMALL.scenario, max(1.0, 2.0 * PlanHead.SPAN**sign), 1.0)
        expected = SMALL.encode(patient.solve(slot, here).decision)
        assert np.array_equal(head.act(seen, raw), expected)
    plain = head.act(seen, np.zeros((len(seen), 4)))
    both = slot.present.all(axis=-1)
    for device in range(3):
        raw = np.zeros((len(seen), 4))
        raw[:, 1 + device] = 1.0
        shunned = head.act(seen, raw)
        used = [(actions[both] == device).any(axis=-1).sum() for actions in (plain, shunned)]
        assert used[1] <= used[0]
    assert not np.array_equal(plain, shunned)


def test_the_usual_reward_is_that_of_the_fastest_plan():
    head = PlanHead(SMALL, horizon=2.0, risk=1.0)
    seen = seen_of(SMALL)
    slot, _ = SMALL.decode(seen)
    share = plan_shares(slot, SMALL.scenario).max(axis=-1)
    expected = np.where(slot.present.any(axis=-1), share - 1.0, 0.0)
    np.testing.assert_allclose(head.usual_reward(seen), expected, rtol=1e-12)
    # No decision has a part in it.
    moved = seen.copy()
    moved[:, -1 - SMALL.scenario.blocks : -1] = 0.0
    np.testing.assert_array_equal(head.usual_reward(moved), head.usual_reward(seen))


def test_a_heads_parameters_come_back():
    head = make_head("plans", SMALL, {"horizon": 2.5, "risk": 0.5})
    assert isinstance(head, PlanHead)
    assert head.parameters() == {"horizon": 2.5, "risk": 0.5}
    again = make_head("plans", SMALL, head.parameters())
    seen = seen_of(SMALL)
    raw = np.full((len(seen), 4), 0.3)
    assert np.array_equal(head.act(seen, raw), again.act(seen, raw))
    short = PipelineTraining(dataclasses.replace(SMALL.scenario, blocks=2, devices=2, horizon=3))
    tuned = PlanHead(short)
    assert (tuned.horizon, tuned.risk) == tune_patience(short)


def test_too_many_plans_are_refused():
    problem = PipelineTraining(Scenario(blocks=8, devices=6, horizon=4))
    for make in (
        lambda: make_head("plans", problem),
        lambda: make_head("plans", problem, {"horizon": 2.0, "risk": 0.5}),
        lambda: make_agent("patience", problem),
        lambda: make_agent("hysteresis", problem),
    ):
        with pytest.raises(ValueError, match=r"4096 plans.*blocks = 8, devices = 6"):
            make()
