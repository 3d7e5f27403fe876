"""What an agent sees, says and earns in federated training."""

import dataclasses

import numpy as np
import pytest
from federated_training import hand
from real_learning import check_decoded
from registered import REGISTERED

from mec_gym.core.policies import UniformPolicy
from mec_gym.core.traces import check_trace
from mec_gym.federated_training import model
from mec_gym.federated_training.model import Decision
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import PRESETS, Scenario
from mec_gym.testing import check_problem

FEDERATED = "mec/FederatedTraining-v0"
OWN = REGISTERED[FEDERATED].own

# ------------------------------------------------------------------------------- layout


def seen_after(*scores, **changes):
    s = hand.scenario(quorum=1, **changes)
    world = hand.slot(s)
    world.present[3, 3:] = False  # D leaves at 15 s
    world.speed[1, 2:] = 1e9  # B is slower from 10 s on
    states, outcomes = hand.play(s, world, *scores)
    problem = FederatedTraining(s)
    seen = problem.observe(world, states[-1])
    assert seen.shape == problem.observation_space.shape and seen.dtype == np.float32
    assert problem.observation_space.contains(seen)
    return s, world, states, outcomes, seen


def test_every_column_of_the_observation():
    """C at 8.05 s and A at 14.55 s were merged; B flies on, since 0 s; D was never sent off."""
    _, world, states, outcomes, seen = seen_after("ABC", "")
    usual = len(FederatedTraining(hand.scenario()).scenario.data.learn.labels) / 4
    losses = [hand.learnt(hand.scenario(), world, i, world.initial)[1] for i in (0, 2)]
    links = [0.5 + 2.0, 1.0 + 1.0, 0.4 + 1.6, 2.0 + 0.5]
    usual_compute, usual_link = 48e9 / 2e9, 8e6 / 16e6 + 8e6 / 4e6
    rows = [
        [x / (x + usual_compute) for x in (12.0, 48.0, 6.0, 48.0)],
        [x / (x + usual_link) for x in links],
        [x / (x + usual) for x in hand.SAMPLES],
        [losses[0] / 5, 0, losses[1] / 5, 0],
        [0, 1, 0, 1],
        [0, 1, 1 / 20, 1],
        [1 / 2, 1 / 2, 1 / 2, 0],
        [1, 0, 1, 1],
        [0, 1, 0, 0],
        [x / (x + usual_compute + usual_link) for x in (14.5, 0, 8.0, 0)],
        [float(outcomes[-1].accuracy), 14.55 / 200, 1 / 4, 1, 18 / 20],
    ]
    np.testing.assert_allclose(seen, np.concatenate(rows), rtol=2e-6)
    assert float(states[-1].clock) == pytest.approx(14.55)


def test_the_last_rows_of_those_who_are_away():
    """At 29.1 s D has left, and A is back from its second job; B flies until 41 s."""
    *_, seen = seen_after("ABC", "", "A")
    assert seen[28:32].tolist() == [1, 0, 1, 0]  # present and idle
    assert seen[32:36].tolist() == [0, 1, 0, 0]  # on its way
    assert seen[43] == pytest.approx(3 / 4)  # of four, D is away


def test_a_timetable_says_when_each_client_leaves():
    *_, seen = seen_after("C", timetable=True, availability="churn")
    assert seen[40:44].tolist() == pytest.approx([1, 1, 1, (15 - 8.05) / 200], rel=1e-6)
    *_, seen = seen_after("CA", "", "A", timetable=True, availability="churn")  # it left at 15 s
    assert seen[40:44].tolist() == [1, 1, 1, 0]


def test_what_is_asked_for_when_it_drifts():
    s, _, states, _, seen = seen_after("C", drift_s=50.0)
    assert seen[45:55].tolist() == pytest.approx(states[-1].recall.tolist(), rel=1e-6)
    counts = np.bincount(s.data.validate.labels)
    assert seen[55:65].tolist() == pytest.approx((counts / counts.sum()).tolist(), rel=1e-6)


def test_privileged_agents_see_the_shares_of_classes():
    s, world, _, _, seen = seen_after("C", privileged=True)
    labels = s.data.learn.labels
    for i, count in enumerate(hand.SAMPLES):
        shares = np.bincount(labels[world.own[i, :count]], minlength=10) / count
        assert seen[45 + 10 * i : 55 + 10 * i].tolist() == pytest.approx(shares.tolist(), rel=1e-6)
    assert len(seen) == 85


def test_smaller_payloads_take_less_time_to_send():
    s, *_, seen = seen_after("C", payload="top-k")
    share = s.upload_bits / 8e6
    usual = 8e6 / 16e6 + share * 8e6 / 4e6
    links = [0.5 + 2.0 * share, 1.0 + share, 0.4 + 1.6 * share, 2.0 + 0.5 * share]
    assert seen[4:8].tolist() == pytest.approx([x / (x + usual) for x in links], rel=1e-6)


def test_losses_and_ages_are_clipped():
    s = hand.scenario()
    world = hand.slot(s)
    state = dataclasses.replace(
        model.start(world, s),
        last_loss=np.array([7.0, 2.5, np.inf, 0.0]),
        version=np.array(30),
        merged_into=np.array([2, 27, 30, -1]),
    )
    seen = FederatedTraining(s).observe(world, state)
    assert seen[12:16].tolist() == [1, 0.5, 1, 0]
    assert seen[20:24].tolist() == pytest.approx([1, 3 / 20, 0, 1])


def test_spaces_and_horizon():
    problem = FederatedTraining(Scenario())
    assert problem.observation_space.shape == (305,) and problem.action_space.shape == (30,)
    assert problem.horizon == 500 and problem.bound(None) is None
    assert FederatedTraining(Scenario(control_steps=True)).action_space.shape == (60,)
    assert (problem.action_space.low == -1).all() and (problem.action_space.high == 1).all()


# ---------------------------------------------------------------------------- round trips

VARIANTS = {
    "plain": {},
    "timetable": {"timetable": True, "availability": "churn", "on_s": 60.0, "off_s": 20.0},
    "privileged": {"privileged": True, "control_steps": True},
    "drift": {"drift_s": 60.0, "privileged": True},
    "growth": {"growth_s": 200.0, "growth_from": 0.3},
    "sliding": {"growth_s": 200.0, "growth_from": 0.3, "sliding": True},
    "SCAFFOLD": {"control_variates": True, "server_momentum": 0.5, "payload": "top-k"},
    "significant": {"payload": "significant", "load_spread": 0.5},
    "elastic": {"merge": "elastic", "feature_spread": 0.3},
    "shards": {"partition": "shards", "shared": 20, "availability": "hours"},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_what_is_decoded_is_observed_again_along_an_episode(changes):
    s = Scenario(**{**OWN, "decisions": 12, "budget_s": 300.0, "bin_s": 12.0, **changes})
    check_decoded(FederatedTraining(s), 5)


def test_decisions_and_actions():
    problem = FederatedTraining(Scenario(**OWN, control_steps=True))
    action = UniformPolicy(problem, 0).draw(2, 5)
    decision = problem.decision(action)
    assert decision.score.shape == decision.effort.shape == (2, 5, 6)
    assert np.array_equal(problem.encode(decision), action)
    assert problem.encode(decision).dtype == np.float32
    beyond = Decision(score=np.array([3.0] * 6), effort=np.array([-2.0] * 6))
    assert problem.encode(beyond).tolist() == [1.0] * 6 + [-1.0] * 6


def test_the_reward_is_the_cost_by_the_budget():
    s = hand.scenario(quorum=1, decisions=3)
    problem = FederatedTraining(s)
    states, outcomes = hand.play(s, hand.slot(s), "C", "A", "B")
    costs = [float(outcome.cost_s) for outcome in outcomes]
    assert [float(problem.reward(o)) for o in outcomes] == pytest.approx([-c / 200 for c in costs])
    assert [bool(problem.done(state)) for state in states] == [False, False, True]


# ------------------------------------------------------------------------------ conformance


def test_conformance_of_a_very_small_scenario():
    check_problem(FEDERATED, {**OWN, "at_once": 2, "local_steps": 1, "hidden": 2})


@pytest.mark.slow
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_conformance_of_variants(changes):
    check_problem(FEDERATED, {**OWN, "bin_s": 20.0, **changes})


# ----------------------------------------------------------------------------------- traces


def tiny_trace():
    problem = FederatedTraining(PRESETS["tiny"].make())
    return problem, problem.sample(np.random.default_rng(0), 3)


def test_drawn_traces_make_sense():
    problem, trace = tiny_trace()
    check_trace(problem, trace)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("present", lambda a: a[1].fill(False), r"present\b.*episode 1"),
        ("speed", lambda a: a.__setitem__((2, 0, 3, 1), 0.0), r"speed\b.*0 at \(2, 0, 3, 1\)"),
        ("uplink", lambda a: a.__setitem__((0, 0, 1, 2), -2.0), r"uplink\b.*-2 at \(0, 0, 1, 2\)"),
        ("downlink", lambda a: a.__setitem__((0, 0, 1), 0.0), r"downlink\b.*0 at \(0, 0, 1\)"),
        ("jitter", lambda a: a.__setitem__((0, 4, 1), 0.0), r"jitter\b.*0 at \(0, 4, 1\)"),
        ("gain", lambda a: a.__setitem__((0, 0, 1), -1.0), r"gain\b.*-1 at \(0, 0, 1\)"),
        ("samples", lambda a: a.__setitem__((0, 0, 1), 0), r"samples\b.* 0 to"),
        ("samples", lambda a: a.__setitem__((0, 0, 1), 99999), r"samples\b.* 99999"),
        ("own", lambda a: a.__setitem__((1, 0, 2, 0), 1137), r"own\b.*1137 at \(1, 0, 2, 0\)"),
        ("own", lambda a: a.__setitem__((1, 0, 2, 0), -1), r"own\b.*-1 at \(1, 0, 2, 0\)"),
        ("demand", lambda a: a.__setitem__((1, 0, 0, 2), 0.9), r"demand\b"),
        ("demand", lambda a: a.__setitem__((1, 0, 0, 2), -0.1), r"demand\b"),
        ("initial", lambda a: a.__setitem__((1, 0, 2), np.nan), r"initial\b"),
        ("speed", lambda a: a.__setitem__((2, 0, 3, 1), np.inf), r"speed\b"),
    ],
)
def test_traces_that_make_no_sense(name, spoil, message):
    problem, trace = tiny_trace()
    values = np.array(getattr(trace, name))
    spoil(values)
    with pytest.raises(ValueError, match=message) as caught:
        check_trace(problem, dataclasses.replace(trace, **{name: values}))
    assert "\n" not in str(caught.value)
