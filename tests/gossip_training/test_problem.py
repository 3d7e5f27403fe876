"""What an agent sees, says and earns in gossip training."""

import dataclasses

import numpy as np
import pytest
from gossip_training import hand
from real_learning import check_decoded
from registered import REGISTERED

from mec_gym.core import arrays
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.traces import check_trace
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import PRESETS, Scenario
from mec_gym.testing import check_problem

GOSSIP = "mec/GossipTraining-v0"
OWN = REGISTERED[GOSSIP].own

# ------------------------------------------------------------------------------- layout


def seen_after(*says, **changes):
    s = hand.scenario(**changes)
    world = hand.slot(s, apart=np.arange(16.0).reshape(4, 4) / 20)
    states, _ = hand.play(s, world, *says)
    problem = GossipTraining(s)
    seen = problem.observe(world, states[-1])
    assert seen.shape == problem.observation_space.shape and seen.dtype == np.float32
    assert problem.observation_space.contains(seen)
    return s, states[-1], seen


def test_every_column_of_the_observation():
    """A sends to both for 2 s after its second round."""
    s, state, seen = seen_after("", "CA BA", budget_s=20.0, forward_flop=4e8, rate=3e6)
    usual = 3 * 4e8 * 2 * 3 / 2e9
    assert usual == s.usual_s == pytest.approx(3.6)
    rows = [
        [x / (x + usual) for x in hand.COMPUTE_S],
        [x / (x + 3e6) for x in hand.RATE],
        [4 / 20, 10 / 20, 6 / 20, 1],  # C has trained when A has sent; D is beyond the budget
        state.accuracy,
        [2 / (2 + usual), 0, 0, 0],
        [28 / 30],
    ]
    assert np.ptp(state.accuracy) > 0
    np.testing.assert_allclose(seen, np.concatenate(rows), rtol=2e-6)


def test_privileged_agents_see_how_far_devices_are_apart():
    _, _, seen = seen_after("AB", privileged=True)
    assert seen.shape == (37,)
    np.testing.assert_allclose(seen[21:], np.arange(16) / 20, rtol=1e-6)


def test_spaces_and_horizon():
    problem = GossipTraining(Scenario())
    assert problem.observation_space.shape == (81,) and problem.horizon == 200
    assert problem.action_space.nvec.tolist() == [2] * 33 and problem.bound(None) is None
    assert GossipTraining(Scenario(privileged=True)).observation_space.shape == (81 + 256,)
    assert GossipTraining(Scenario(graph="complete")).action_space.shape == (241,)


def test_decisions_and_actions():
    problem = GossipTraining(Scenario(**OWN))
    assert problem.scenario.edges.tolist()[:3] == [[0, 1], [0, 4], [1, 0]]
    action = np.array([0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1])
    decision = problem.decision(action)
    assert not decision.reduce and decision.listen.tolist() == [*map(bool, action[1:])]
    actions = UniformPolicy(problem, 0).draw(2, 5)
    decision = problem.decision(actions)
    assert decision.listen.shape == (2, 5, 10) and decision.reduce.shape == (2, 5)
    assert np.array_equal(problem.encode(decision), actions)
    assert problem.encode(decision).dtype == problem.action_space.dtype


def test_all_average_all_whatever_else_is_said():
    problem = GossipTraining(Scenario(**OWN))
    trace = sample_episodes(problem, 0, 2)
    slot, actions = arrays.slot_at(trace, 0), np.ones((2, 11), dtype=np.int64)
    actions[1, 1:] = 0
    state = problem.start(arrays.map_arrays(lambda a: a[:1].repeat(2, axis=0), slot))
    same = arrays.map_arrays(lambda a: a[:1].repeat(2, axis=0), slot)
    state, outcome = problem.step(same, state, problem.decision(actions))
    for record in (state, outcome):
        for name, values in arrays.as_dict(record).items():
            assert np.array_equal(values[0], values[1]), name


def test_the_reward_is_the_error_by_the_budget():
    s = hand.scenario(rounds=3)
    problem = GossipTraining(s)
    states, outcomes = hand.play(s, hand.slot(s), "AB", hand.ALL, "")
    errors = [float(outcome.error_s) for outcome in outcomes]
    assert [float(problem.reward(o)) for o in outcomes] == pytest.approx([-e / 200 for e in errors])
    assert [bool(problem.done(state)) for state in states] == [False, False, False, True]
    assert -1 <= -sum(errors) / 200 < 0


# ---------------------------------------------------------------------------- round trips

VARIANTS = {
    "weights": {},
    "complete": {"graph": "complete", "privileged": True},
    "torus": {"graph": "torus", "devices": 6, "mixing": "metropolis"},
    "geometric": {"graph": "geometric", "radius": 0.8, "overlap": True},
    "one-sided": {"graph": "one-sided", "mixing": "push-sum"},
    "overlap": {"graph": "one-sided", "mixing": "push-sum", "overlap": True},
    "choco": {"payload": "choco", "partition": "shards"},
    "choco and metropolis": {"graph": "complete", "payload": "choco", "mixing": "metropolis"},
    "segments": {"graph": "complete", "payload": "segments", "segments": 3},
    "segments and overlap": {"payload": "segments", "overlap": True},
    "class logits": {"graph": "complete", "payload": "class-logits", "size_spread": 0.5},
    "shared logits": {"graph": "torus", "payload": "shared-logits", "shared": 20},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_what_is_decoded_is_observed_again_along_an_episode(changes):
    s = Scenario(**{**OWN, "rounds": 8, "budget_s": 12.0, "speed_spread": 0.5, **changes})
    both = check_decoded(GossipTraining(s), 2)
    if s.payload != "choco":  # what listeners have missed is hidden
        clocks = [np.minimum(each.clock, s.budget_s) for each in both]
        np.testing.assert_allclose(*clocks, rtol=1e-4)


# ------------------------------------------------------------------------------ conformance


def test_conformance_of_a_very_small_scenario():
    check_problem(GOSSIP, {**OWN, "devices": 3, "local_steps": 1, "hidden": 2, "rounds": 3})


@pytest.mark.slow
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_conformance_of_variants(changes):
    check_problem(GOSSIP, {**OWN, **changes})


# ----------------------------------------------------------------------------------- traces


def tiny_trace(**changes):
    problem = GossipTraining(dataclasses.replace(PRESETS["tiny"].make(), **changes))
    return problem, problem.sample(np.random.default_rng(0), 3)


@pytest.mark.parametrize(
    "changes", [{}, {"payload": "shared-logits", "shared": 9, "size_spread": 1.0}]
)
def test_drawn_traces_make_sense(changes):
    problem, trace = tiny_trace(**changes)
    check_trace(problem, trace)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("compute_s", (2, 3, 1), 0.0, r"compute_s\b.*0 at \(2, 3, 1\)"),
        ("compute_s", (2, 3, 1), np.inf, r"compute_s\b"),
        ("rate", (0, 1, 2), -2.0, r"rate\b.*-2 at \(0, 1, 2\)"),
        ("rate", (0, 1, 2), np.nan, r"rate\b"),
        ("apart", (0, 0, 1, 2), -0.1, r"apart\b.*-0\.1"),
        ("apart", (0, 0, 1, 2), 1.1, r"apart\b.*1\.1"),
        ("samples", (0, 0, 1), 0, r"samples\b.* 0 to"),
        ("samples", (0, 0, 1), 99999, r"samples\b.* 99999"),
        ("own", (1, 0, 2, 0), 1137, r"own\b.*1137 at \(1, 0, 2, 0\)"),
        ("own", (1, 0, 2, 0), -1, r"own\b.*-1 at \(1, 0, 2, 0\)"),
        ("initial", (1, 0, 2), np.nan, r"initial\b"),
    ],
)
def test_traces_that_make_no_sense(name, place, value, message):
    problem, trace = tiny_trace()
    values = np.array(getattr(trace, name))
    values[place] = value
    with pytest.raises(ValueError, match=message) as caught:
        check_trace(problem, dataclasses.replace(trace, **{name: values}))
    assert "\n" not in str(caught.value)


def test_traces_of_other_shapes():
    problem, trace = tiny_trace()
    for name, part in (("rate", np.s_[:, :-1]), ("own", np.s_[..., :-1]), ("initial", np.s_[:1])):
        values = getattr(trace, name)[part]
        with pytest.raises(ValueError, match="trace"):
            check_trace(problem, dataclasses.replace(trace, **{name: values}))


def test_traces_in_which_nobody_holds_what_all_should_hold():
    """Learning from others' logits of shared images needs images that are shared."""
    problem, trace = tiny_trace(payload="shared-logits", shared=9)
    few = np.array(trace.samples)
    few[1, 0, 2] = 8
    with pytest.raises(ValueError, match=r"samples\b.*9.* 8") as caught:
        check_trace(problem, dataclasses.replace(trace, samples=few))
    assert "\n" not in str(caught.value)
    own, count = np.array(trace.own), trace.samples[1, 0, 2]
    own[1, 0, 2, count - 9 : count] = own[1, 0, 2, count - 9 : count][::-1]
    with pytest.raises(ValueError, match=r"own\b.*same 9.*device 2 of episode 1") as caught:
        check_trace(problem, dataclasses.replace(trace, own=own))
    assert "\n" not in str(caught.value)
