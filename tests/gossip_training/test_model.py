"""What a round comes to: by hand, and sums that have to add up."""

from itertools import pairwise

import numpy as np
import pytest
from gossip_training import hand
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.core import arrays
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.rollout import sample_episodes
from mec_gym.gossip_training import model
from mec_gym.gossip_training.model import Decision
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario
from mec_gym.learning.hashing import draw_indices
from mec_gym.learning.sgd import train


def close(found, expected):
    """Weights are float32, of which sums differ in the last digits."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def learnt(s, world, weights):
    """What all devices come to by themselves."""
    found = []
    for i, begun in enumerate(weights):
        drawn = draw_indices(world.key, i, s.local_steps * s.batch, world.samples[i])
        index = world.own[i][drawn].reshape(1, s.local_steps, s.batch)
        found.append(train(s.network, begun[None], s.data.learn, index, rate=s.learning_rate)[0][0])
    return np.array(found)


# ------------------------------------------------------------------------------- models


def test_a_device_averages_what_it_listens_to():
    """The matrix of the design: 0 and 2 listen to 1."""
    s = hand.scenario(3)
    world = hand.slot(s)
    states, outcomes = hand.play(s, world, "AB CB")
    own = learnt(s, world, states[0].weights)
    assert np.abs(own - own[0]).max() > 0.01  # they have learnt different things
    w = np.array([[0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5]])
    close(states[1].weights, w @ own)
    after = w @ own
    apart = np.sqrt(np.square(after - after.mean(axis=0)).sum(axis=1).mean())
    assert float(outcomes[0].consensus) == pytest.approx(apart, rel=1e-5)
    right = [s.network.accuracy(x, *s.data.validate) for x in states[1].weights]
    assert states[1].accuracy.tolist() == right and float(outcomes[0].accuracy) == np.mean(right)
    assert float(outcomes[0].heard) == 2 / 3 and float(outcomes[0].diverged) == 0


def test_all_average_all():
    s = hand.scenario()
    world = hand.slot(s)
    states, outcomes = hand.play(s, world, hand.ALL)
    mean = learnt(s, world, states[0].weights).mean(axis=0)
    close(states[1].weights, [mean] * 4)
    assert float(outcomes[0].consensus) < 1e-6 and float(outcomes[0].heard) == 3


def test_nobody_talks():
    s = hand.scenario()
    world = hand.slot(s)
    states, outcomes = hand.play(s, world, "", "")
    own = learnt(s, world, learnt(s, world, states[0].weights))
    assert np.array_equal(states[2].weights, own)
    assert [float(o.sent_bits) for o in outcomes] == [0, 0] == [float(o.heard) for o in outcomes]


def test_models_as_rounds_begin_are_mixed():
    s = hand.scenario(overlap=True)
    world = hand.slot(s)
    states, _ = hand.play(s, world, "AB", "AB")
    first = learnt(s, world, states[0].weights)
    close(states[1].weights, first)  # at 0 s, B's model was that of A; what A has learnt stays
    one = states[1].weights
    step = learnt(s, world, one) - one
    close(states[2].weights[0], (one[0] + one[1]) / 2 + step[0])
    close(states[2].weights[1:], one[1:] + step[1:])


@pytest.mark.parametrize("mixing", ["uniform", "metropolis", "push-sum"])
def test_talk_does_not_part_models_that_are_equal(mixing):
    """Whether sending overlaps or not, and what is learnt is not lost in the mean."""
    for overlap in (False, True):
        s = hand.scenario(mixing=mixing, overlap=overlap, learning_rate=1e-9)
        states, outcomes = hand.play(s, hand.slot(s), "", hand.ALL, "AB BA CD DC", "AC CA BD DB")
        assert max(float(outcome.consensus) for outcome in outcomes) < 1e-5
        s = hand.scenario(mixing=mixing, overlap=overlap)
        world = hand.slot(s)
        states, _ = hand.play(s, world, "", "AB BA CD DC", "AC CA BD DB")
        for one, two in pairwise(states):
            total = one.weights.sum(axis=0)
            learnt_now = (learnt(s, world, one.weights) - one.weights).sum(axis=0)
            close(two.weights.sum(axis=0), total + learnt_now)


# ------------------------------------------------------------------------------- choco


def test_listeners_pay_for_what_they_have_missed():
    """One update of 160 weights: 16 entries of 32 + 8 bits each, of 160 x 32 bits."""
    s = hand.scenario(payload="choco", payload_share=0.1, model_bits=8e6)
    assert s.network.parameters == 64 * 2 + 2 + 2 * 10 + 10 == 160
    update = 8e6 * 16 * 40 / (160 * 32)
    assert s.sent_bits == pytest.approx(update) == pytest.approx(1e6)
    says = ["AC", "", "AC BC", *[""] * 9, "AC DC"]
    states, outcomes = hand.play(s, hand.slot(s), *says)
    bits = [float(o.sent_bits) for o in outcomes]
    # In the third round A needs two updates and B three, in the last one A needs ten, of which
    # eight are as much as the whole copy, and so does D, which has never listened.
    expected = [1e6, 0, 5e6, *[0] * 9, 16e6]
    assert bits == pytest.approx(expected)
    # C sends all of it together at 2e6 bit/s.
    third, before = states[3].clock, states[2].clock
    assert third.tolist() == pytest.approx([6 + 3 + 2.5, 15, 9, 33])
    assert before.tolist() == pytest.approx([3 + 0.5 + 2, 10, 6, 22])
    edge = s.edges.tolist().index([0, 2])
    assert [int(state.missed[edge]) for state in states[:5]] == [0, 0, 1, 0, 1]


def test_a_copy_moves_by_what_is_sent():
    s = hand.scenario(payload="choco", payload_share=0.1, choco_step=0.5)
    world = hand.slot(s)
    states, _ = hand.play(s, world, "AB BA")
    own = learnt(s, world, states[0].weights)
    for i in range(4):
        largest = np.argsort(-np.abs(own[i]))[:16]
        assert set(np.flatnonzero(states[1].copies[i])) == set(largest)
        close(states[1].copies[i][largest], own[i][largest])
    a, b = states[1].copies[:2]
    close(states[1].weights[0], own[0] + 0.5 * (b - a) / 2)
    close(states[1].weights[1], own[1] + 0.5 * (a - b) / 2)
    close(states[1].weights[2:], own[2:])


def test_copies_come_near_to_models():
    s = hand.scenario(payload="choco", payload_share=0.3, learning_rate=1e-6)
    states, _ = hand.play(s, hand.slot(s), *["AB BA"] * 12)
    close(states[-1].copies, states[-1].weights)


def test_models_do_not_run_away_from_copies_that_nobody_hears():
    """B, C and D listen to A for long, and nobody to them."""
    s = hand.scenario(payload="choco", budget_s=1e6, rounds=60, learning_rate=1e-9)
    states, outcomes = hand.play(s, hand.slot(s), *["BA CA DA"] * 60)
    close(states[-1].weights, states[0].weights)
    assert float(outcomes[-1].consensus) < 1e-4


# --------------------------------------------------------------------- masses, and means


def of_masses(state):
    return np.einsum("...i,...ip->...p", state.mass, state.weights.astype(float))


def test_push_sum_by_hand():
    """B and C listen to A: A keeps a third of its mass, and gives one to each of them."""
    s = hand.scenario(mixing="push-sum")
    world = hand.slot(s)
    states, _ = hand.play(s, world, "BA CA", "AB")
    own = learnt(s, world, states[0].weights)
    third, one = 1 / 3, 4 / 3
    assert states[1].mass.tolist() == pytest.approx([third, one, one, 1])
    close(states[1].weights[0], own[0])
    close(states[1].weights[1], (own[1] + own[0] / 3) / one)
    assert states[2].mass.tolist() == pytest.approx([third + one / 2, one / 2, one, 1])
    again = learnt(s, world, states[1].weights)
    close(states[2].weights[0], (again[0] / 3 + again[1] * 2 / 3) / (third + 2 / 3))


def test_an_all_reduce_shares_masses_out():
    s = hand.scenario(mixing="push-sum")
    world = hand.slot(s)
    states, _ = hand.play(s, world, "BA CA", hand.ALL)
    own = learnt(s, world, states[1].weights)
    mean = (own[0] / 3 + own[1] * 4 / 3 + own[2] * 4 / 3 + own[3]) / 4
    assert states[2].mass.tolist() == pytest.approx([1] * 4)
    close(states[2].weights, [mean] * 4)


def with_random_models(s, rng, episodes=2):
    """The first slot of some episodes, and a state in which all models differ."""
    slot = arrays.slot_at(s.sample(rng, episodes), 0)
    state = model.start(slot, s)
    weights = rng.standard_normal(state.weights.shape).astype(np.float32)
    return slot, hand.replaced(state, weights=weights)


def random_decision(s, rng, episodes=2, all_reduce=0.2, mutual=False):
    heard = rng.random((episodes, s.devices, s.devices)) < 0.4
    if mutual:
        heard = heard | np.swapaxes(heard, -1, -2)
    listener, speaker = s.edges.T
    return Decision(reduce=rng.random(episodes) < all_reduce, listen=heard[:, listener, speaker])


@pytest.mark.parametrize("seed", range(4))
def test_push_sum_keeps_the_mean_by_masses(seed):
    """Over random rounds, all-reduces among them, in which hardly anything is learnt."""
    rng = np.random.default_rng(seed)
    s = Scenario(
        devices=6, graph=("complete", "one-sided")[seed % 2], mixing="push-sum", hidden=2,
        local_steps=1, batch=1, learning_rate=1e-9, budget_s=1e5,
    )  # fmt: skip
    slot, state = with_random_models(s, rng)
    first = of_masses(state)
    uneven = 0.0
    for _ in range(25):
        state, _ = model.evaluate(slot, state, random_decision(s, rng), s)
        np.testing.assert_allclose(of_masses(state), first, atol=2e-5)
        np.testing.assert_allclose(state.mass.sum(axis=-1), 6, rtol=1e-12)
        uneven = max(uneven, np.ptp(state.mass))
    assert uneven > 1
    # So all come to the mean of all, though few listen back.
    for _ in range(60):
        state, _ = model.evaluate(slot, state, random_decision(s, rng, all_reduce=0), s)
    np.testing.assert_allclose(state.weights, first[:, None].repeat(6, axis=1) / 6, atol=1e-4)


@pytest.mark.parametrize(("mixing", "kept"), [("metropolis", True), ("uniform", False)])
@pytest.mark.parametrize("payload", ["weights", "choco"])
def test_metropolis_keeps_the_mean_of_those_who_listen_to_each_other(mixing, kept, payload):
    rng = np.random.default_rng(1)
    s = Scenario(
        devices=6, graph="complete", mixing=mixing, payload=payload, hidden=2, local_steps=1,
        batch=1, learning_rate=1e-9, budget_s=1e5,
    )  # fmt: skip
    slot, state = with_random_models(s, rng)
    first = state.weights.mean(axis=-2)
    for _ in range(10):
        state, _ = model.evaluate(slot, state, random_decision(s, rng, mutual=True), s)
    assert np.allclose(state.weights.mean(axis=-2), first, atol=1e-5) == kept


@pytest.mark.parametrize("says", ["BA CA DA", "", "AB", hand.ALL])
def test_masses_do_not_vanish(says):
    """Everybody has listened to A for 538 rounds, and A to nobody: its mass is 4 ** -538."""
    s = hand.scenario(mixing="push-sum", learning_rate=1e-9)
    world = hand.slot(s)
    begun = model.start(world, s)
    for mass in (4.0**-530, 5e-324, 0.0):
        state = hand.replaced(begun, mass=np.array([mass, 4 / 3, 4 / 3, 4 / 3]))
        state, outcome = model.evaluate(world, state, hand.decision(s, says), s)
        hand.check_finite(state, outcome)
        assert float(outcome.diverged) == 0 and state.mass.sum() == pytest.approx(4)
        close(state.weights, begun.weights)


def test_nobody_else_is_left_for_an_all_reduce():
    s = hand.scenario(mixing="push-sum")
    world = hand.slot(s)
    begun = hand.replaced(
        model.start(world, s), mass=np.array([0.0, 2, 1, 1]), clock=np.array([0.0, 300, 300, 300])
    )
    state, outcome = model.evaluate(world, begun, hand.decision(s, hand.ALL), s)
    assert state.clock.tolist() == [2, 300, 300, 300] and float(outcome.sent_bits) == 0
    close(state.weights, [learnt(s, world, begun.weights)[0], *begun.weights[1:]])


# ------------------------------------------------------------------------------- logits


def test_bits_of_logits():
    s = hand.scenario(payload="class-logits")
    assert s.sent_bits == s.reduced_bits == 32 * 10 * 10
    _, (one, all_of_them) = hand.play(s, hand.slot(s), "AC BC DA", hand.ALL)
    assert float(one.sent_bits) == 3 * 3200 and float(all_of_them.sent_bits) == 6 * 3200
    s = hand.scenario(payload="shared-logits", shared=7)
    assert s.sent_bits == s.reduced_bits == 32 * 7 * 10
    _, (one, all_of_them) = hand.play(s, hand.slot(s), "AC BC DA", hand.ALL)
    assert float(one.sent_bits) == 3 * 2240 and float(all_of_them.sent_bits) == 6 * 2240


def softmax(values):
    return np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)


def test_what_is_taught_by_class():
    """A listens to C and D; of a class that only one of them has, it learns from that one."""
    s = hand.scenario(payload="class-logits")
    world = hand.slot(s)
    labels = s.data.learn.labels
    few = np.flatnonzero(labels == 3)[:10], np.flatnonzero(labels == 8)[:10]
    own = world.own.copy()
    own[2, :50] = np.tile(few[0], 5)  # C has only threes
    own[3, :20] = np.tile(np.concatenate(few), 1)  # D has threes and eights
    world = hand.replaced(world, own=own)
    states, _ = hand.play(s, world, "AC AD", "")
    trained = learnt(s, world, states[0].weights)
    assert np.array_equal(states[1].weights, trained)  # models are not mixed
    images = s.data.learn.images

    def mean(device, numbers):
        return s.network.forward(trained[device], images[numbers])[-1].mean(axis=0)

    taught = states[1].taught[0]
    assert np.flatnonzero(taught.sum(axis=-1)).tolist() == [3, 8]
    np.testing.assert_allclose(
        taught[3], softmax((mean(2, few[0]) + mean(3, few[0])) / 2), rtol=1e-5
    )
    np.testing.assert_allclose(taught[8], softmax(mean(3, few[1])), rtol=1e-5)
    assert not states[1].taught[1:].any()
    assert np.array_equal(states[2].taught, states[1].taught)  # it is kept while nobody speaks
    # In the next round, B learns as if alone and A does not.
    alone = learnt(s, world, trained)
    assert np.array_equal(states[2].weights[1:], alone[1:])
    a = draw_indices(world.key, 0, 6, 30)
    hears_of_it = np.isin(labels[own[0][a]], [3, 8]).any()
    assert hears_of_it == (not np.array_equal(states[2].weights[0], alone[0]))


def test_what_is_taught_of_shared_images():
    s = hand.scenario(payload="shared-logits", shared=5)
    world = hand.slot(s)
    states, _ = hand.play(s, world, "AC AD", hand.ALL)
    trained = learnt(s, world, states[0].weights)
    common = world.own[0, 30:35]
    assert all(np.array_equal(world.own[i, n : n + 5], common) for i, n in enumerate(hand.SAMPLES))
    logits = s.network.forward(trained, s.data.learn.images[common])[-1]
    np.testing.assert_allclose(states[1].taught[0], softmax((logits[2] + logits[3]) / 2), rtol=1e-5)
    assert not states[1].taught[1:].any()
    logits = s.network.forward(states[2].weights, s.data.learn.images[common])[-1]
    for i in range(4):
        others = [j for j in range(4) if j != i]
        expected = softmax(logits[others].mean(axis=0))
        np.testing.assert_allclose(states[2].taught[i], expected, rtol=1e-5)


# ------------------------------------------------------------------------ bits and time


def test_bits_add_up():
    s = hand.scenario()
    _, outcomes = hand.play(s, hand.slot(s), "AB CB DA", "", hand.ALL)
    # Of an all-reduce, everybody sends 2 x 3 / 4 of the model.
    assert [float(o.sent_bits) for o in outcomes] == [24e6, 0, 4 * 1.5 * 8e6]
    s = hand.scenario(payload="segments", segments=5)
    _, outcomes = hand.play(s, hand.slot(s), "AB CB DA", hand.ALL)
    assert [float(o.sent_bits) for o in outcomes] == pytest.approx([3 * 1.6e6, 48e6])


def test_bits_of_those_who_are_left():
    s = hand.scenario(budget_s=20.0)  # D is out after two rounds
    _, outcomes = hand.play(s, hand.slot(s), "", "", "AD DA AB", hand.ALL)
    assert [float(o.sent_bits) for o in outcomes] == [0, 0, 8e6, 3 * 4 / 3 * 8e6]
    assert float(outcomes[2].heard) == 1 / 4


def test_waiting_is_what_is_not_training():
    s = hand.scenario()
    _, outcomes = hand.play(s, hand.slot(s), "BA CA DA", hand.ALL)
    # 3 s of C in the first round; from 2, 5, 5 and 11 s on until 22 + 6 s, less 21 s of training.
    assert float(outcomes[0].waiting_s) == pytest.approx(2 / 4)
    assert float(outcomes[0].seconds) == pytest.approx((2 + 5 + 5 + 11) / 4)
    assert float(outcomes[1].seconds) == pytest.approx((26 + 23 + 23 + 17) / 4)
    assert float(outcomes[1].waiting_s) == pytest.approx((26 + 23 + 23 + 17 - 21) / 4)


def errors_by_hand(s, states):
    """The error of each device's model, integrated over its own clock until the budget."""
    total = 0.0
    for i in range(s.devices):
        now, accuracy = 0.0, float(states[0].accuracy[i])
        for state in states[1:]:
            end = min(float(state.clock[i]), s.budget_s)
            total += (1 - accuracy) * (end - now)
            now, accuracy = end, float(state.accuracy[i])
        total += (1 - accuracy) * (s.budget_s - now)
    return total / s.devices


@pytest.mark.parametrize("changes", [{}, {"rounds": 5}, {"overlap": True}, {"budget_s": 33.0}])
def test_error_seconds_add_up_to_the_integral(changes):
    s = hand.scenario(**{"budget_s": 60.0, "learning_rate": 0.5, **changes})
    world = hand.slot(s)
    rng, state = np.random.default_rng(0), model.start(hand.slot(s), s)
    states, outcomes = [state], []
    while not state.over:
        decision = Decision(
            reduce=np.bool_(rng.random() < 0.2), listen=rng.random(len(s.edges)) < 0.3
        )
        state, outcome = model.evaluate(world, state, decision, s)
        states.append(state)
        outcomes.append(outcome)
    assert len(outcomes) > 2 and np.ptp([float(o.accuracy) for o in outcomes]) > 0.02
    total = sum(float(o.error_s) for o in outcomes)
    assert total == pytest.approx(errors_by_hand(s, states))
    test = [s.network.accuracy(x, *s.data.test) for x in states[-1].weights]
    assert float(outcomes[-1].test_accuracy) == pytest.approx(np.mean(test))
    assert not any(float(o.test_accuracy) for o in outcomes[:-1])
    spent = sum(float(o.seconds) for o in outcomes)
    assert spent == pytest.approx(np.minimum(states[-1].clock, s.budget_s).mean())


@pytest.mark.parametrize(
    ("changes", "rounds"), [({"budget_s": 30.0}, 15), ({"budget_s": 31.0}, 16), ({"rounds": 7}, 7)]
)
def test_when_an_episode_ends(changes, rounds):
    """A trains for 2 s, and nobody talks: 15 rounds in 30 s, when the others have passed it."""
    s = hand.scenario(**changes)
    states, outcomes = hand.play(s, hand.slot(s), *[""] * rounds)
    assert [bool(state.over) for state in states] == [False] * rounds + [True]
    assert states[1].rounds_left == s.rounds - 1
    if "rounds" in changes:  # the rest of the budget is charged, 200 - 14 s of A's and so on
        rest = sum(
            (1 - acc) * (200 - at)
            for acc, at in zip(states[-1].accuracy, states[-1].clock, strict=True)
        )
        own = sum(
            (1 - acc) * (at - was)
            for acc, at, was in zip(
                states[-2].accuracy, states[-1].clock, states[-2].clock, strict=True
            )
        )
        assert float(outcomes[-1].error_s) == pytest.approx((rest + own) / 4)


def test_those_who_are_out_do_not_learn():
    s = hand.scenario(budget_s=20.0)
    states, _ = hand.play(s, hand.slot(s), "", "", "AD", hand.ALL)
    for state in states[3:]:
        assert np.array_equal(state.weights[3], states[2].weights[3])
        assert state.clock[3] == 22 and state.accuracy[3] == states[2].accuracy[3]
    assert not np.array_equal(states[3].weights[0], states[2].weights[0])


# --------------------------------------------------------------------------- divergence

PAYLOADS = [
    {},
    {"mixing": "push-sum"},
    {"overlap": True},
    {"payload": "choco"},
    {"payload": "segments"},
    {"payload": "class-logits"},
    {"payload": "shared-logits", "shared": 20},
]


def small(devices=4, **changes):
    return Scenario(
        **{
            "devices": devices,
            "graph": "complete",
            "hidden": 3,
            "local_steps": 1,
            "batch": 2,
            **changes,
        }
    )


@pytest.mark.parametrize("changes", PAYLOADS, ids=str)
@pytest.mark.filterwarnings("error")
def test_a_run_that_diverges_says_so_and_ends(changes):
    """The rest of its budget counts as error 1, and nothing in it is not a number.

    A perceptron's slopes are bounded, so it takes weights that are huge from the beginning.
    """
    s = small(rounds=8, **changes)
    problem = GossipTraining(s)
    trace, policy = sample_episodes(problem, 0, 3), UniformPolicy(problem, 0)
    initial = trace.initial.copy()
    initial[1] *= 1e30
    trace = hand.replaced(trace, initial=initial)
    state = problem.start(arrays.slot_at(trace, 0))
    diverged = np.zeros(3)
    for t in range(s.rounds):
        slot, before = arrays.slot_at(trace, t), state
        state, outcome = problem.step(slot, state, problem.decision(policy.draw(3)))
        hand.check_finite(state, outcome)
        seen = problem.observe(slot, state)
        assert ((seen >= 0) & (seen <= 1)).all()
        if outcome.diverged[1] and not before.over[1]:
            assert state.over[1] and problem.done(state)[1]
            assert outcome.accuracy[1] == outcome.test_accuracy[1] == outcome.consensus[1] == 0
            begun = np.minimum(before.clock[1], s.budget_s)
            ended = np.minimum(state.clock[1], s.budget_s)
            expected = (1 - before.accuracy[1]) * (ended - begun) + (s.budget_s - ended)
            assert outcome.error_s[1] == pytest.approx(expected.mean())
            assert problem.reward(outcome)[1] == pytest.approx(-expected.mean() / s.budget_s)
        diverged += outcome.diverged * ~before.over
    assert diverged.tolist() == [0, 1, 0]  # and the others went on


@pytest.mark.parametrize("changes", PAYLOADS, ids=str)
@pytest.mark.filterwarnings("error")
def test_the_largest_learning_rate(changes):
    s = small(learning_rate=100.0, local_steps=10, rounds=10, **changes)
    problem = GossipTraining(s)
    trace, policy = sample_episodes(problem, 0, 2), UniformPolicy(problem, 0)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(s.rounds):
        slot = arrays.slot_at(trace, t)
        state, outcome = problem.step(slot, state, problem.decision(policy.draw(2)))
        hand.check_finite(state, outcome)
        assert np.isfinite(problem.observe(slot, state)).all()
    assert state.over.all() and (state.accuracy < 0.5).all()


# ---------------------------------------------------------------------------- in general


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(PAYLOADS))
def test_a_batch_equals_its_environments_bit_for_bit(seed, changes):
    rng = np.random.default_rng(seed)
    s = small(budget_s=2.0, **changes)
    trace = s.sample(rng, 3)
    state = model.start(arrays.slot_at(trace, 0), s)
    alone = [arrays.at(state, z) for z in range(3)]
    for t in range(3):
        slot, decision = arrays.slot_at(trace, t), random_decision(s, rng, 3)
        state, outcome = model.evaluate(slot, state, decision, s)
        for z in range(3):
            one = (arrays.at(slot, z), alone[z], arrays.at(decision, z))
            alone[z], its = model.evaluate(*one, s)
            for together, single in ((state, alone[z]), (outcome, its)):
                for name, values in arrays.as_dict(single).items():
                    assert np.array_equal(getattr(together, name)[z], values), name


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_who_hears_more_is_never_earlier_in_a_round(seed):
    rng = np.random.default_rng(seed)
    s = Scenario(
        devices=4, graph="complete", hidden=1, local_steps=1, batch=1, speed_spread=1.0,
        rate_spread=1.0,
    )  # fmt: skip
    slot = arrays.slot_at(s.sample(rng, 2), 0)
    begin, few = model.start(slot, s), random_decision(s, rng, all_reduce=0)
    more = Decision(reduce=few.reduce, listen=few.listen | (rng.random(few.listen.shape) < 0.2))
    (one, its), (other, others) = (model.evaluate(slot, begin, d, s) for d in (few, more))
    assert (other.clock >= one.clock).all()
    assert (others.sent_bits >= its.sent_bits).all() and (others.waiting_s >= its.waiting_s).all()


@pytest.mark.parametrize("scale", [1.0, 1e17, 1e18])
def test_models_may_be_far_apart_without_diverging(scale):
    """Squares of such weights do not fit into single precision, but the weights do."""
    s = hand.scenario(learning_rate=100.0)
    initial = (hand.slot(s).initial * scale).astype(np.float32)
    states, outcomes = hand.play(s, hand.slot(s, initial=initial), "AB")
    assert float(outcomes[0].diverged) == 0
    weights = states[1].weights.astype(np.float64)
    apart = np.linalg.norm(weights - weights.mean(axis=0), axis=-1)
    expected = np.sqrt(np.mean(apart**2))
    assert float(outcomes[0].consensus) == pytest.approx(expected, rel=1e-4)
    assert bool(expected > 2e19) is (scale > 1.0)
