"""Steps of federated training, with every number by hand."""

import dataclasses

import numpy as np
import pytest
from federated_training import hand
from federated_training.hand import close, learnt, play

from agents.registry import make_agent
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.federated_training import model
from mec_gym.federated_training.model import Decision
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario
from mec_gym.federated_training.world import World, known_images

A, B, C, D = range(4)


def told(outcomes, name):
    return [float(getattr(outcome, name)) for outcome in outcomes]


def clocks(states):
    return [float(state.clock) for state in states]


def flying(state):
    """Who is on their way, as letters."""
    return "".join(sorted("ABCD"[c] for c in state.client if c >= 0))


# --------------------------------------------------------------------- two clients, the clock


def two(**changes):
    s = hand.scenario(clients=2, **changes)
    return s, hand.slot(s)


def test_durations_and_energies():
    s, world = two(quorum=1)
    for who, seconds, compute, send in (("A", 14.5, 36.0, 2.4), ("B", 26.0, 72.0, 1.2)):
        (state,), (outcome,) = play(s, world, who)
        assert clocks([state]) == [pytest.approx(seconds + 0.05, rel=1e-12)]
        assert float(outcome.seconds) == pytest.approx(seconds + 0.05, rel=1e-12)
        assert float(outcome.compute_j) == pytest.approx(compute, rel=1e-12)
        assert float(outcome.send_j) == pytest.approx(send, rel=1e-12)
        assert float(outcome.sent_bits) == 16e6  # the model, there and back
        assert state.last_duration["AB".index(who)] == pytest.approx(seconds, rel=1e-12)
    _, (both,) = play(s, world, "AB")
    assert float(both.compute_j + both.send_j) == pytest.approx(38.4 + 73.2, rel=1e-12)
    assert float(both.sent_bits) == 32e6 and float(both.sent_off) == 2


def test_a_quorum_of_both_waits_for_the_slower_one():
    s, world = two(quorum=2)
    (state,), (outcome,) = play(s, world, "AB")
    assert clocks([state]) == pytest.approx([26.05])
    assert told([outcome], "merged") == [2] and flying(state) == ""


def test_a_quorum_of_one_keeps_the_other_one_flying():
    s, world = two(quorum=1)
    states, outcomes = play(s, world, "AB", "A")
    assert clocks(states) == pytest.approx([14.55, 26.05])
    assert told(outcomes, "merged") == [1, 1] and told(outcomes, "staleness") == [0, 1]
    assert [flying(state) for state in states] == ["B", "A"]
    assert told(outcomes, "sent_off") == [2, 1]
    assert states[0].merged_into.tolist() == [1, -1] and states[1].merged_into.tolist() == [1, 2]
    assert states[1].taken.tolist() == [2, 1]


def test_a_deadline_drops_who_has_not_answered():
    s, world = two(quorum=2, deadline=20.0, late="drop")
    (state,), (outcome,) = play(s, world, "AB")
    assert clocks([state]) == pytest.approx([20.05])
    assert (float(outcome.merged), float(outcome.dropped), float(outcome.lost)) == (1, 1, 0)
    assert flying(state) == ""
    # Nobody tells B, which spends all of its energy.
    assert float(outcome.compute_j) == pytest.approx(36 + 72)
    assert float(outcome.send_j) == pytest.approx(2.4 + 1.2)


def test_speed_that_changes_midway():
    """A at 2e9 from 5 s on: 18e9 are done by then, 30e9 are left, it computes until 20 s."""
    s, world = two(quorum=1)
    world.speed[A, 1:] = 2e9
    (state,), (outcome,) = play(s, world, "A")
    assert clocks([state]) == pytest.approx([22.05])
    assert float(outcome.compute_j) == pytest.approx(3 * 19.5)
    assert float(outcome.send_j) == pytest.approx(1.2 * 2)


def test_an_uplink_that_changes_midway():
    """A sends from 12.5 s on: 5e6 bit at 2e6 until 15 s, the other 3e6 at 12e6."""
    s, world = two(quorum=1)
    world.uplink[A, :3], world.uplink[A, 3:] = 2e6, 12e6
    (state,), (outcome,) = play(s, world, "A")
    assert clocks([state]) == pytest.approx([15.3])
    assert float(outcome.send_j) == pytest.approx(1.2 * 2.75)


def test_jitter_multiplies_the_work():
    s, world = two(quorum=1)
    world.jitter[:] = 1.5, 0.25
    states, _ = play(s, world, "AB")
    assert clocks(states) == pytest.approx([1 + 6 + 1 + 0.05])
    states, outcomes = play(s, world, "A")
    assert clocks(states) == pytest.approx([0.5 + 18 + 2 + 0.05])
    assert told(outcomes, "compute_j") == pytest.approx([54.0])


def test_each_step_begins_when_the_server_has_merged():
    """The second job begins at 14.55 s, and takes as long as the first."""
    s, world = two(quorum=1, server_s=0.7)
    states, _ = play(s, world, "A", "A", "A")
    assert clocks(states) == pytest.approx([15.2, 30.4, 45.6])


# ------------------------------------------------------------------------------- protocols


def four(**changes):
    s = hand.scenario(**changes)
    return s, hand.slot(s)


def average(s, world, start, now, who, stale=()):
    """w += eta sum n_i s_i (w_i - start_i) / sum n_i, term by term."""
    total = sum(hand.SAMPLES[i] for i in who)
    new = np.array(now, dtype=float)
    for k, i in enumerate(who):
        tau = stale[k] if stale else 0
        weight = hand.SAMPLES[i] / total * (1 + tau) ** -s.staleness_power
        new += s.server_rate * weight * (learnt(s, world, i, start)[0] - start)
    return new


def test_fedavg_waits_for_all():
    s, world = four(late="drop")
    (state,), (outcome,) = play(s, world, "ABCD")
    assert clocks([state]) == pytest.approx([50.55])
    assert told([outcome], "merged") == [4] and told([outcome], "dropped") == [0]
    close(state.weights, average(s, world, world.initial, world.initial, (A, B, C, D)))
    assert np.abs(state.weights - world.initial).max() > 0.01
    assert state.last_loss.tolist() == pytest.approx(
        [learnt(s, world, i, world.initial)[1] for i in range(4)], rel=1e-6
    )
    assert state.last_duration.tolist() == pytest.approx(hand.SECONDS)


def test_backup_workers_drop_whoever_is_late():
    """The first two of four: C at 8 s and A at 14.5 s."""
    s, world = four(quorum=2, late="drop")
    states, outcomes = play(s, world, "ABCD", "B")
    assert clocks(states) == pytest.approx([14.55, 14.55 + 26.05])
    assert told(outcomes, "merged") == [2, 1] and told(outcomes, "dropped") == [2, 0]
    assert told(outcomes, "staleness") == [0, 0]
    assert flying(states[0]) == ""
    assert told(outcomes, "compute_j") == pytest.approx([36 + 72 + 18 + 144, 72])
    first = average(s, world, world.initial, world.initial, (A, C))
    close(states[0].weights, first)
    close(states[1].weights, average(s, world, states[0].weights, states[0].weights, (B,)))


def test_fedcs_merges_who_meets_the_deadline():
    s, world = four(deadline=20.0, late="drop")
    (state,), (outcome,) = play(s, world, "ABCD")
    assert clocks([state]) == pytest.approx([20.05])
    assert told([outcome], "merged") == [2] and told([outcome], "dropped") == [2]
    close(state.weights, average(s, world, world.initial, world.initial, (A, C)))


def test_a_deadline_that_all_meet_is_not_waited_for():
    s, world = four(deadline=60.0, late="drop")
    states, _ = play(s, world, "ABCD")
    assert clocks(states) == pytest.approx([50.55])


def test_a_deadline_that_nobody_meets_merges_nothing():
    s, world = four(deadline=7.0, late="drop")
    (state,), (outcome,) = play(s, world, "ABCD")
    assert clocks([state]) == pytest.approx([7.0])  # nothing is merged, which takes no time
    assert told([outcome], "dropped") == [4] and int(state.version) == 0
    assert np.array_equal(state.weights, world.initial)


def test_safa_and_fedbuff_keep_the_others_flying():
    """The first two at 14.5 s, the other two at 26 and 50.5 s, one merge later."""
    s, world = four(quorum=2)
    states, outcomes = play(s, world, "ABCD", "")
    assert clocks(states) == pytest.approx([14.55, 50.55])
    assert [flying(state) for state in states] == ["BD", ""]
    assert told(outcomes, "merged") == [2, 2] and told(outcomes, "staleness") == [0, 1]
    assert told(outcomes, "dropped") == [0, 0]
    assert told(outcomes, "compute_j") == pytest.approx([270.0, 0.0])  # told when they are sent off
    first = average(s, world, world.initial, world.initial, (A, C))
    close(states[0].weights, first)
    second = average(s, world, world.initial, states[0].weights, (B, D), stale=(1, 1))
    close(states[1].weights, second)


def test_fresh_and_stale_updates_together():
    """C is sent off again at 8.05 s and is there at 16.05 s, A at 14.5 s from the model before."""
    s, world = four(quorum=1, at_once=2)
    states, outcomes = play(s, world, "CA", "C", "")
    assert clocks(states) == pytest.approx([8.05, 14.55, 16.10])
    assert told(outcomes, "staleness") == [0, 1, 1]  # C itself is overtaken by A
    s, world = four(quorum=2, at_once=3, deadline=8.5)
    states, outcomes = play(s, world, "CA", "C")
    assert clocks(states) == pytest.approx([8.55, 16.60])
    assert told(outcomes, "merged") == [1, 2] and told(outcomes, "staleness") == [0, 0.5]
    total = 30 + 50
    now = np.array(states[0].weights, dtype=float)
    stale = learnt(s, world, A, world.initial)[0] - world.initial
    fresh = learnt(s, world, C, states[0].weights)[0] - states[0].weights
    close(states[1].weights, now + 30 / total / np.sqrt(2) * stale + 50 / total * fresh)


def test_hybrid_waits_until_the_deadline_and_keeps():
    s, world = four(deadline=10.0)
    states, outcomes = play(s, world, "ABCD", "", "", "", "", "")
    # Merged: C at 10, A at 20.05, B at 30.10; 40.15 and 50.15 bring nothing, D comes at 50.5.
    assert clocks(states) == pytest.approx([10.05, 20.10, 30.15, 40.15, 50.15, 50.55])
    assert told(outcomes, "merged") == [1, 1, 1, 0, 0, 1]
    assert told(outcomes, "staleness") == [0, 1, 2, 0, 0, 3]
    assert [flying(state) for state in states] == ["ABD", "BD", "D", "D", "D", ""]


def test_fedasync_mixes_every_arrival_in():
    """w += eta (1 + tau)^-a (w_i - w), one after the other."""
    s, world = four(quorum=1, merge="mix", server_rate=0.6)
    states, outcomes = play(s, world, "ABCD", "", "", "")
    assert clocks(states) == pytest.approx([8.05, 14.55, 26.05, 50.55])
    assert told(outcomes, "staleness") == [0, 1, 2, 3]
    now = np.array(world.initial, dtype=float)
    for tau, (client, state) in enumerate(zip((C, A, B, D), states, strict=True)):
        theirs, _ = learnt(s, world, client, world.initial)
        now += 0.6 * (1 + tau) ** -0.5 * (theirs - now)
        close(state.weights, now)


def test_those_who_are_mixed_in_at_once_are_so_in_the_order_of_arrival():
    s, world = four(quorum=3, merge="mix", server_rate=0.6)
    (state,), (outcome,) = play(s, world, "ABCD")
    assert told([outcome], "merged") == [3]
    orders = {}
    for name, order in (("arrival", (C, A, B)), ("row", (A, B, C))):
        now = np.array(world.initial, dtype=float)
        for client in order:
            now += 0.6 * (learnt(s, world, client, world.initial)[0] - now)
        orders[name] = now
    close(state.weights, orders["arrival"])
    assert np.abs(orders["row"] - orders["arrival"]).max() > 1e-3


def test_elastic_clients_go_on_from_weights_of_their_own():
    """Client and server move towards each other by eta (x_i - w) [Zhang2015]."""
    s, world = four(quorum=1, merge="elastic", server_rate=0.25, staleness="none")
    states, _ = play(s, world, "A", "C", "A")
    own = {i: np.array(world.initial, dtype=float) for i in range(4)}
    now = np.array(world.initial, dtype=float)
    for client, state in zip((A, C, A), states, strict=True):
        theirs = np.array(learnt(s, world, client, own[client])[0], dtype=float)
        move = 0.25 * (theirs - now)
        now, own[client] = now + move, theirs - move
        close(state.weights, now)
        close(state.own[client], own[client])
    assert np.abs(own[A] - now).max() > 1e-3
    close(states[-1].own[B], world.initial)


def test_updates_that_are_too_stale_are_thrown_away():
    s, world = four(quorum=1, max_staleness=1)
    states, outcomes = play(s, world, "ABCD", "", "", "")
    assert clocks(states) == pytest.approx([8.05, 14.55, 26.05, 50.55])  # looking takes time too
    assert told(outcomes, "merged") == [1, 1, 0, 0] and told(outcomes, "dropped") == [0, 0, 1, 1]
    assert [int(state.version) for state in states] == [1, 2, 2, 2]
    assert np.array_equal(states[3].weights, states[1].weights)


# ---------------------------------------------------------------------------- who is sent off


def test_the_best_scores_above_zero_fill_the_free_rows():
    s, world = four(quorum=1, at_once=2)
    start = model.start(world, s)

    def sent(score, state=start):
        score = np.array(score)
        after, outcome = model.evaluate(world, state, Decision(score=score, effort=score[:0]), s)
        newly = after.taken - state.taken
        assert newly.sum() == float(outcome.sent_off)
        return "".join("ABCD"[i] for i in np.flatnonzero(newly)), after

    assert sent([0.1, 0.9, 0.2, 0.3])[0] == "BD"
    assert sent([0.5, 0.5, 0.5, 0.5])[0] == "AB"  # of equal ones, the first
    assert sent([-0.1, 0.0, 0.2, -1.0])[0] == "C"  # 0 is not above 0
    assert sent([0.0, 0.0, 0.0, 0.0])[0] == ""
    who, after = sent([0.9, 0.8, 0.7, 0.6])
    assert who == "AB" and flying(after) == "B"
    assert sent([0.9, 1.0, 0.7, 0.95], after)[0] == "D"  # one row is free, B is on its way
    world.present[C, :] = False
    assert sent([0.1, 0.1, 0.9, 0.05])[0] == "AB"


def test_presence_counts_at_the_time_of_the_decision():
    s, world = four(quorum=1)
    world.present[A, 0] = False  # it comes at 5 s
    states, outcomes = play(s, world, "A", "C", "A")
    assert told(outcomes, "sent_off") == [0, 1, 1]
    assert clocks(states) == pytest.approx([30.0, 38.05, 38.05 + 14.55])


def test_nobody_on_their_way_lets_idle_time_pass():
    s, world = four(idle_s=13.0)
    states, outcomes = play(s, world, "", "C", "")
    assert clocks(states) == pytest.approx([13.0, 21.05, 34.05])
    assert told(outcomes, "sent_off") == [0, 1, 0] and told(outcomes, "merged") == [0, 1, 0]
    assert told(outcomes, "compute_j") == pytest.approx([0, 18, 0])


def test_how_many_steps_each_client_takes():
    """An effort of -1 is one step, 1 all of them; time and energy are as many."""
    s, world = four(quorum=1, control_steps=True, local_steps=5, forward_flop=0.8e9)
    assert s.job_flop == pytest.approx(48e9)
    for effort, steps in ((-1.0, 1), (1.0, 5), (0.0, 3), (-0.5, 2), (0.3, 4)):
        others = [1.0, -1.0, effort, 1.0]
        (state,), (outcome,) = play(s, world, "C", effort=others)
        assert float(outcome.compute_j) == pytest.approx(18 * steps / 5)
        assert clocks([state]) == pytest.approx([0.4 + 6 * steps / 5 + 1.6 + 0.05])
        theirs, loss = learnt(s, world, C, world.initial, steps)
        close(state.weights, theirs)
        assert state.last_loss[C] == pytest.approx(loss, rel=1e-6)


# --------------------------------------------------------------------------------- leaving


def test_who_leaves_is_lost_at_that_moment():
    s, world = four(quorum=1)
    world.present[A, 1:] = False
    (state,), (outcome,) = play(s, world, "A")
    # Nobody is left on their way at 5 s; nothing is merged, which takes no time.
    assert clocks([state]) == pytest.approx([5.0])
    assert told([outcome], "lost") == [1] and told([outcome], "merged") == [0]
    assert flying(state) == "" and int(state.version) == 0
    # It has received for 0.5 s and computed for 4.5 s.
    assert float(outcome.compute_j) == pytest.approx(3 * 4.5) and float(outcome.send_j) == 0
    assert np.array_equal(state.weights, world.initial)
    assert state.merged_into.tolist() == [-1] * 4 and state.taken.tolist() == [1, 0, 0, 0]


def test_who_leaves_while_it_sends_has_spent_on_a_part():
    """D computes from 2 to 50 s; at 1e6 bit/s it would send until 58 s, and leaves at 55 s."""
    s, world = four(quorum=1)
    world.uplink[D] = 1e6
    world.present[D, 11:] = False
    (state,), (outcome,) = play(s, world, "D")
    assert clocks([state]) == pytest.approx([55.0])
    assert float(outcome.compute_j) == pytest.approx(144)
    assert float(outcome.send_j) == pytest.approx(1.2 * 5)


def test_who_leaves_while_it_receives_spends_nothing():
    s, world = four(quorum=1)
    world.downlink[D] = 1e6  # 8 s
    world.present[D, 1:] = False
    (state,), (outcome,) = play(s, world, "D")
    assert clocks([state]) == pytest.approx([5.0])
    assert float(outcome.compute_j) == float(outcome.send_j) == 0
    assert float(outcome.sent_bits) == 8e6


def test_others_are_waited_for_and_the_row_is_free_then():
    s, world = four(quorum=1, at_once=2)
    world.present[B, 3:] = False  # B leaves at 15 s
    states, outcomes = play(s, world, "BC", "A", "A")
    assert clocks(states) == pytest.approx([8.05, 22.60, 37.15])
    assert told(outcomes, "merged") == [1, 1, 1] and told(outcomes, "lost") == [0, 1, 0]
    assert [flying(state) for state in states] == ["B", "", ""]
    # The server does not know before: a row is taken until it looks.
    states, outcomes = play(s, world, "BC", "AD")
    assert told(outcomes, "sent_off") == [2, 1]


def test_a_quorum_that_cannot_be_reached_ends_with_the_last_one():
    s, world = four(quorum=4)
    world.present[D, 2:] = False
    states, outcomes = play(s, world, "ABCD")
    assert clocks(states) == pytest.approx([26.05])
    assert told(outcomes, "merged") == [3] and told(outcomes, "lost") == [1]
    world.present[D, 2:] = True
    world.present[D, 8:] = False  # at 40 s, when all others are there
    states, outcomes = play(s, world, "ABCD")
    assert clocks(states) == pytest.approx([40.05])
    assert told(outcomes, "merged") == [3] and told(outcomes, "lost") == [1]


def test_who_comes_back_is_a_new_job():
    s, world = four(quorum=1, idle_s=6.0)
    world.present[A, 1] = False  # from 5 to 10 s
    states, outcomes = play(s, world, "A", "A", "A")
    assert clocks(states) == pytest.approx([5.0, 11.0, 11 + 14.55])
    assert told(outcomes, "lost") == [1, 0, 0] and told(outcomes, "sent_off") == [1, 0, 1]


def test_who_is_there_when_it_leaves_has_arrived():
    """C is done at 8 s; with 1e6 bit more it is done at 8.2 s, and 10 s are soon enough."""
    s, world = four(quorum=1)
    world.present[C, 2:] = False
    _, outcomes = play(s, world, "C")
    assert told(outcomes, "merged") == [1]
    world.uplink[C] = 8e6 / 3.6  # exactly at 10 s
    _, outcomes = play(s, world, "C")
    assert told(outcomes, "merged") == [1] or told(outcomes, "lost") == [1]
    world.uplink[C] = 8e6 / 3.7
    states, outcomes = play(s, world, "C")
    assert told(outcomes, "lost") == [1] and clocks(states) == pytest.approx([10.0])


# ---------------------------------------------------------------------------- end and costs


def test_nothing_is_merged_after_the_budget():
    s, world = four(budget_s=60.0, quorum=1)
    states, outcomes = play(s, world, "D", "C", "D")
    assert clocks(states) == pytest.approx([50.55, 58.6, 60.0])
    assert told(outcomes, "merged") == [1, 1, 0] and told(outcomes, "seconds")[2] == pytest.approx(
        1.4
    )
    assert [bool(state.over) for state in states] == [False, False, True]
    assert np.array_equal(states[2].weights, states[1].weights)
    # Merging itself has to end in time.
    for budget, merged in ((50.56, 1), (50.54, 0)):
        s, world = four(budget_s=budget, quorum=1)
        (state,), outcomes = play(s, world, "D")
        assert told(outcomes, "merged") == [merged] and told(outcomes, "dropped") == [1 - merged]
        assert clocks([state]) == pytest.approx([50.5 + 0.05 * merged]) and not state.over


def error(s, weights):
    recall = model.recall_of(np.asarray(weights), s.data.validate, s)
    counts = np.bincount(s.data.validate.labels, minlength=10)
    return float(1 - (recall * counts).sum() / counts.sum())


def test_error_seconds():
    s, world = four(budget_s=60.0, quorum=1, local_steps=8, forward_flop=0.5e9)
    states, outcomes = play(s, world, "C", "D", "")
    errors = [error(s, w) for w in (world.initial, states[0].weights, states[1].weights)]
    assert len(set(errors)) == 3
    assert clocks(states) == pytest.approx([8.05, 58.6, 60.0])
    expected = [8.05 * errors[0], 50.55 * errors[1], 1.4 * errors[2]]
    assert told(outcomes, "cost_s") == pytest.approx(expected, rel=1e-9)
    assert told(outcomes, "accuracy") == pytest.approx(
        [1 - errors[1], 1 - errors[2], 1 - errors[2]]
    )
    assert told(outcomes, "test_accuracy")[:2] == [0, 0]
    right = s.network.accuracy(states[2].weights, s.data.test.images, s.data.test.labels)
    assert told(outcomes, "test_accuracy")[2] == pytest.approx(float(right), abs=0.01)


def test_the_last_decision_pays_for_the_rest_of_the_budget():
    s, world = four(quorum=1, decisions=2)
    states, outcomes = play(s, world, "C", "A")
    assert [bool(state.over) for state in states] == [False, True]
    assert [float(state.decisions_left) for state in states] == [1, 0]
    errors = [error(s, w) for w in (world.initial, states[0].weights, states[1].weights)]
    rest = 200 - 22.6
    expected = [8.05 * errors[0], 14.55 * errors[1] + rest * errors[2]]
    assert told(outcomes, "cost_s") == pytest.approx(expected, rel=1e-9)
    assert told(outcomes, "seconds") == pytest.approx([8.05, 14.55])


def test_demand_that_drifts():
    """Only class 3 until 10 s, 1 and 6 half each until 20 s, then only class 0."""
    s, world = four(drift_s=10.0, quorum=1)
    demand = np.zeros((s.bins, 10))
    demand[:2, 3] = 1
    demand[2:4, [1, 6]] = 0.5
    demand[4:, 0] = 1
    world = hand.replaced(world, demand=demand)
    start = model.start(world, s)
    recall = np.array([0.7, 0.1, 0.0, 0.25, 0, 0, 0.6, 0, 0, 0])
    close(World(world, (), s).error_seconds(recall[None], np.array([3.0]), np.array([28.0])),
          [7 * 0.75 + 10 * (0.5 * 0.9 + 0.5 * 0.4) + 8 * 0.3])  # fmt: skip
    state = dataclasses.replace(start, recall=recall)
    nobody = Decision(score=-np.ones(4), effort=np.empty(0))
    _, outcome = model.evaluate(world, state, nobody, dataclasses.replace(s, idle_s=25.0))
    expected = 10 * 0.75 + 10 * 0.65 + 5 * 0.3
    assert float(outcome.cost_s) == pytest.approx(expected, rel=1e-12)
    assert float(outcome.accuracy) == pytest.approx(0.7)  # by the demand of 25 s
    # Beyond the last bin its demand holds on: the rest of 200 s costs 0.3 each.
    last = dataclasses.replace(state, decisions_left=np.array(1.0))
    _, outcome = model.evaluate(world, last, nobody, s)
    assert float(outcome.cost_s) == pytest.approx(10 * 0.75 + 10 * 0.65 + 180 * 0.3, rel=1e-12)


def test_time_to_a_target(monkeypatch):
    """0.85, 0.95, 0.88 have the mean 0.8933; with 0.92 in place of the first, 0.9167."""
    s, world = four(goal="target", target=0.9, quorum=1)
    script = iter([0.1, 0.85, 0.95, 0.88, 0.92, 0.5])

    def recall_of(weights, data, _):
        count = len(weights) if weights.ndim == 2 else 1
        if data is not s.data.validate:
            return np.full((count, 10), 0.77)
        found = np.array([[next(script)] * 10 for _ in range(count)]).reshape(count, 10)
        return found if weights.ndim == 2 else found[0]

    monkeypatch.setattr(model, "recall_of", recall_of)
    states, outcomes = play(s, world, "C", "C", "", "C", "C")
    assert clocks(states) == pytest.approx([8.05, 16.1, 46.1, 54.15, 62.2])
    assert [bool(state.over) for state in states] == [False] * 4 + [True]
    assert told(outcomes, "accuracy") == pytest.approx([0.85, 0.95, 0.95, 0.88, 0.92])
    assert told(outcomes, "cost_s") == pytest.approx([8.05, 8.05, 30.0, 8.05, 8.05])
    assert told(outcomes, "test_accuracy") == pytest.approx([0, 0, 0, 0, 0.77])


def test_two_evaluations_are_no_three(monkeypatch):
    """Not even if both are perfect: what has not been evaluated counts nothing."""
    s, world = four(goal="target", target=0.3, quorum=1)
    monkeypatch.setattr(model, "recall_of", lambda weights, *_: np.ones((*weights.shape[:-1], 10)))
    states, _ = play(s, world, "C", "C", "C")
    assert [bool(state.over) for state in states] == [False, False, True]


def test_a_target_that_is_never_reached_costs_the_budget():
    s, world = four(goal="target", target=1.0, quorum=1, decisions=3)
    states, outcomes = play(s, world, "C", "A", "B")
    assert bool(states[-1].over)
    assert sum(told(outcomes, "cost_s")) == pytest.approx(200.0, rel=1e-12)
    assert told(outcomes, "cost_s")[0] == pytest.approx(8.05)


def until_the_end(s, world, score):
    """Play on; every outcome is finite, and no warning is heard. The last state and outcomes."""
    state, outcomes = model.start(world, s), []
    decision = Decision(score=score, effort=np.ones(s.clients if s.control_steps else 0))
    while not state.over:
        state, outcome = model.evaluate(world, state, decision, s)
        outcomes.append(outcome)
        for name, values in arrays.as_dict(outcome).items():
            assert np.isfinite(values).all(), name
        assert np.isfinite(state.weights).all() and np.isfinite(state.recall).all()
        assert np.isfinite(FederatedTraining(s).observe(world, state)).all()
    return state, outcomes


@pytest.mark.parametrize(
    "changes",
    [
        {"pull": 10.0},
        {"pull": 10.0, "merge": "mix"},
        {"pull": 10.0, "merge": "elastic"},
        {"pull": 10.0, "server_momentum": 0.9, "look_ahead": True},
        {"pull": 10.0, "payload": "top-k"},
        {"pull": 10.0, "payload": "significant"},
        {"pull": 10.0, "payload": "low-rank"},
        {"pull": 10.0, "normalise": True, "control_steps": True},
        {"pull": 10.0, "importance": True, "feature_spread": 0.1},
        {"pull": 10.0, "goal": "target"},
        {"merge": "mix", "server_rate": 100.0},
        {"merge": "elastic", "server_rate": 100.0},
        {"control_variates": True, "quorum": 4},
    ],
)
def test_a_run_that_diverges_says_so_and_ends(changes):
    s, world = four(rate=50.0, local_steps=20, **{"quorum": 2, **changes})
    world.speed[:] = 4e11
    state, outcomes = until_the_end(s, world, np.array([0.4, 0.1, 0.3, 0.2]))
    last = outcomes[-1]
    assert told(outcomes, "diverged") == [0.0] * (len(outcomes) - 1) + [1.0]
    assert float(state.decisions_left) > 0 and float(state.clock) < 200
    assert float(last.accuracy) == float(last.test_accuracy) == 0
    rest = 200 - float(state.clock)
    if s.goal == "target":
        assert float(last.cost_s) == pytest.approx(rest + float(last.seconds), rel=1e-12)
    else:  # the rest of the budget counts as error 1
        error_before = 1 - (told(outcomes[:-1], "accuracy") or [1 - error(s, world.initial)])[-1]
        expected = rest + float(last.seconds) * error_before
        assert float(last.cost_s) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("merge", ["mix", "elastic"])
def test_a_server_that_diverges_says_so_too(merge):
    """Thirty clients one after the other, and the distance grows a hundredfold each time."""
    s = hand.scenario(clients=30, rate=50.0, server_rate=100.0, merge=merge, budget_s=4000.0)
    world = arrays.at(arrays.slot_at(s.sample(np.random.default_rng(0), 1), 0), 0)
    _, outcomes = until_the_end(s, world, np.ones(30))
    assert told(outcomes, "diverged")[-1] == 1


@pytest.mark.parametrize("payload", ["weights", "top-k", "significant", "low-rank"])
def test_a_rate_at_which_nothing_is_learnt_stays_finite(payload):
    """At a rate of 50 all neurons fall silent soon; so the numbers are no good, but are numbers."""
    s, world = four(rate=50.0, local_steps=10, quorum=2, payload=payload, decisions=8)
    world.speed[:] = 4e11
    state, outcomes = until_the_end(s, world, np.ones(4))
    assert told(outcomes, "diverged") == [0.0] * len(outcomes)
    assert told(outcomes, "accuracy")[-1] < 0.2 and np.abs(state.weights).max() > 100


# ------------------------------------------------------------------------- known images


def images(s, samples, time):
    first, count = known_images(np.array(samples), np.array(time), s)
    return first.tolist(), count.tolist()


def test_all_images_are_known():
    assert images(hand.scenario(), [7, 10], 50.0) == ([0, 0], [7, 10])


def test_a_window_that_widens():
    """From a fifth to all in 100 s: at 25 s, 0.2 + 0.8 / 4 = 0.4 of them, rounded up."""
    s = hand.scenario(growth_s=100.0, growth_from=0.2)
    assert images(s, [7, 10, 1], 0.0) == ([0, 0, 0], [2, 2, 1])
    assert images(s, [7, 10, 1], 25.0) == ([0, 0, 0], [3, 4, 1])
    assert images(s, [7, 10, 1], 100.0) == ([0, 0, 0], [7, 10, 1])
    assert images(s, [7, 10, 1], 170.0) == ([0, 0, 0], [7, 10, 1])


def test_a_window_that_slides():
    """A fifth of 10 are 2: they begin at 0, and at 8 in the end."""
    s = hand.scenario(growth_s=100.0, growth_from=0.2, sliding=True)
    assert images(s, [10, 7, 1], 0.0) == ([0, 0, 0], [2, 2, 1])
    assert images(s, [10, 7, 1], 50.0) == ([4, 2, 0], [2, 2, 1])
    assert images(s, [10, 7, 1], 100.0) == ([8, 5, 0], [2, 2, 1])
    assert images(s, [10, 7, 1], 500.0) == ([8, 5, 0], [2, 2, 1])


def test_clients_learn_from_what_they_know_when_they_are_sent_off():
    s, world = four(quorum=1, growth_s=100.0, growth_from=0.2, sliding=True, idle_s=50.0)
    states, _ = play(s, world, "", "C")
    # 50 images of C, windows of 10: at 50 s they begin at 20.
    seen = hand.replaced(
        world, own=world.own[:, 20:30], samples=np.full(4, 10), initial=states[0].weights
    )
    close(states[1].weights, learnt(s, seen, C, world.initial)[0])


def test_merges_count_the_images_that_were_known():
    """At 0 s a fifth of 30 and 50 are 6 and 10; 9 and 15 at 10 s, when A is begun."""
    s, world = four(quorum=4, growth_s=80.0, growth_from=0.2, idle_s=10.0)
    # 0.2 + 0.8 / 8 = 0.3
    states, _ = play(s, world, "", "AB")
    known = {A: 9, B: 3}
    update = np.zeros_like(world.initial, dtype=float)
    for i, count in known.items():
        seen = hand.replaced(world, samples=np.full(4, count))
        update += count / 12 * (learnt(s, seen, i, world.initial)[0] - world.initial)
    close(states[1].weights, world.initial + update)


# --------------------------------------------------------------------------- what is learnt


def test_fednova_with_unequal_steps():
    s, world = four(quorum=2, normalise=True, control_steps=True, local_steps=5)
    (state,), _ = play(s, world, "AC", effort=[-1.0, 0, 1.0, 0])
    updates = [
        learnt(s, world, i, world.initial, k)[0] - world.initial for i, k in ((A, 1), (C, 5))
    ]
    mean = 30 / 80 * 1 + 50 / 80 * 5
    close(state.weights, world.initial + mean * (30 / 80 * updates[0] + 50 / 80 * updates[1] / 5))


def test_equal_weights_of_clients():
    s, world = four(quorum=2, merge_weights="equal")
    (state,), _ = play(s, world, "AC")
    updates = [learnt(s, world, i, world.initial)[0] - world.initial for i in (A, C)]
    close(state.weights, world.initial + (updates[0] + updates[1]) / 2)


def test_server_momentum():
    """v = beta v + update, w += eta v; nothing moves while nothing is merged."""
    s, world = four(quorum=1, server_momentum=0.5, server_rate=0.8)
    states, _ = play(s, world, "C", "", "A")
    first = learnt(s, world, C, world.initial)[0] - world.initial
    now = world.initial + 0.8 * first
    close(states[0].weights, now)
    assert np.array_equal(states[1].weights, states[0].weights)
    second = learnt(s, world, A, states[1].weights)[0] - states[1].weights
    close(states[2].weights, now + 0.8 * (0.5 * first + second))


def test_momentum_that_looks_ahead():
    """Clients begin where momentum alone would carry the model."""
    s, world = four(quorum=1, server_momentum=0.5, server_rate=0.8, look_ahead=True)
    states, _ = play(s, world, "C", "A")
    first = learnt(s, world, C, world.initial)[0] - world.initial
    ahead = states[0].weights + np.float32(0.4) * first
    second = learnt(s, world, A, ahead)[0] - ahead
    close(states[1].weights, states[0].weights + 0.8 * (0.5 * first + second))


def test_fedprox_pulls_towards_the_start():
    s, world = four(quorum=1, pull=0.7, local_steps=6)
    (state,), _ = play(s, world, "A")
    close(state.weights, learnt(s, world, A, world.initial, pull=0.7)[0])
    free, _ = learnt(s, world, A, world.initial)
    assert np.abs(state.weights - free).max() > 1e-3


def test_control_variates_of_scaffold():
    """c_i+ = c_i - c + (w - w_i) / (steps rate), c += sum (c_i+ - c_i) / N."""
    s, world = four(quorum=2, control_variates=True)
    states, _ = play(s, world, "AC", "A")
    first = {i: learnt(s, world, i, world.initial)[0] for i in (A, C)}
    own = {i: -(first[i] - world.initial) / (2 * 0.2) for i in (A, C)}
    control = (own[A] + own[C]) / 4
    np.testing.assert_allclose(states[0].own[[A, C]], [own[A], own[C]], atol=1e-5)
    np.testing.assert_allclose(states[0].control[0], control, atol=1e-5)
    assert not states[0].own[[B, D]].any()
    correction = (control - own[A]).astype(np.float32)[None]
    now = states[0].weights
    then, _ = learnt(s, world, A, now, correction=correction)
    np.testing.assert_allclose(states[1].weights, then, rtol=0, atol=2e-6)
    again = own[A] - control - (then - now) / (2 * 0.2)
    np.testing.assert_allclose(states[1].own[A], again, atol=2e-5)
    np.testing.assert_allclose(states[1].control[0], control + (again - own[A]) / 4, atol=2e-5)


@pytest.mark.parametrize(
    "payload",
    [
        {"payload": "top-k", "payload_share": 0.1},
        {"payload": "low-rank", "payload_rank": 1},
        {"payload": "significant", "payload_threshold": 0.3},
    ],
)
def test_control_variates_follow_from_what_is_sent(payload):
    """The server computes them from the update, so it knows no more than what it received."""
    s, world = four(quorum=1, control_variates=True, **payload)
    (state,), _ = play(s, world, "A")
    sent = state.weights - world.initial
    np.testing.assert_allclose(state.own[A], -sent / (2 * 0.2), atol=1e-5)
    np.testing.assert_allclose(state.control[0], state.own[A] / 4, atol=1e-6)
    if payload["payload"] != "low-rank":
        assert 0 < np.count_nonzero(state.control[0]) < 0.95 * s.network.parameters


def test_importance_weighs_classes_by_how_common_they_are():
    s, world = four(quorum=1, importance=True)
    (state,), _ = play(s, world, "A")
    labels = s.data.learn.labels
    held = np.bincount(labels[world.own[A, :30]], minlength=10) / 30
    overall = np.bincount(labels, minlength=10) / len(labels)
    weights = np.where(held > 0, overall / np.where(held > 0, held, 1), 0)
    chosen = weights.astype(np.float32)[None]
    close(state.weights, learnt(s, world, A, world.initial, class_weights=chosen)[0])


def test_gain_of_pixels():
    s, world = four(quorum=1, feature_spread=0.5)
    world.gain[:] = [0.5, 1, 3, 1]
    for who, client in (("A", A), ("C", C)):
        (state,), _ = play(s, world, who)
        expected, _ = learnt(s, world, client, world.initial, gain=world.gain[[client]])
        close(state.weights, expected)


# ------------------------------------------------------------------------------- accounting


@pytest.mark.parametrize("bin_s", [0.7, 2.4, 8.4, 16.1, 20.0, 33.3])
@pytest.mark.parametrize("late", ["keep", "drop"])
def test_time_passes_in_every_step_and_every_job_ends(bin_s, late):
    """Nobody is sent off at the moment when it has left, wherever the edges of bins are rounded."""
    s = Scenario(
        clients=8, at_once=4, quorum=3, late=late, availability="churn", decisions=60, hidden=2,
        local_steps=2, batch=2, bin_s=bin_s, budget_s=60 * bin_s, on_s=4 * bin_s, off_s=8 * bin_s,
        forward_flop=2e7 * bin_s, model_bits=1e6 * bin_s, idle_s=bin_s,
    )  # fmt: skip
    problem = FederatedTraining(s)
    trace = problem.sample(np.random.default_rng(1), 10)
    played = rollout(problem, make_agent("random-m", problem), trace)
    out, mine = played.outcomes, played.played
    assert (out.seconds[mine] > 0).all()
    ended = out.merged + out.lost + out.dropped
    assert (out.sent_off * mine).sum(axis=1).tolist() == (ended * mine).sum(axis=1).tolist()
    assert (out.lost * mine).sum() > 20 and (out.merged * mine).sum() > 20


# --------------------------------------------------------------------------------- payloads


def test_top_k_sends_less_and_merges_what_it_sends():
    """A share of 0.1 of 310 weights: 31 entries of 32 + 9 bits instead of 310 of 32."""
    s, world = four(quorum=1, payload="top-k", payload_share=0.1)
    assert s.network.parameters == 65 * 4 + 5 * 10 == 310
    share = 31 * 41 / (310 * 32)
    (state,), (outcome,) = play(s, world, "A")
    assert float(outcome.sent_bits) == pytest.approx(8e6 * (1 + share))
    assert clocks([state]) == pytest.approx([0.5 + 12 + 2 * share + 0.05])
    assert float(outcome.send_j) == pytest.approx(2.4 * share)
    update = learnt(s, world, A, world.initial)[0] - world.initial
    moved = state.weights - world.initial
    kept = np.argsort(-np.abs(update))[:31]
    assert set(np.flatnonzero(moved)) <= set(kept) and len(np.flatnonzero(moved)) > 25
    close(moved[kept], update[kept])


def test_low_rank_sends_factors():
    """Rank 1: 64 + 4 and 4 + 10 numbers of two matrices, and 14 biases."""
    s, world = four(quorum=1, payload="low-rank", payload_rank=1)
    share = (68 + 14 + 14) / 310
    (state,), (outcome,) = play(s, world, "A")
    assert float(outcome.sent_bits) == pytest.approx(8e6 * (1 + share))
    assert clocks([state]) == pytest.approx([0.5 + 12 + 2 * share + 0.05])
    moved = state.weights - world.initial
    for matrix, _ in s.network.matrices(moved.astype(float)):
        values = np.linalg.svd(matrix, compute_uv=False)
        assert values[1] < 1e-5 * values[0] + 1e-6


def test_significant_entries_are_what_the_clock_charges():
    s, world = four(quorum=1, payload="significant", payload_threshold=0.3)
    update = learnt(s, world, A, world.initial)[0] - world.initial
    kept = np.abs(update) > 0.3 * np.abs(world.initial)
    share = kept.sum() * 41 / (310 * 32)
    assert 0.05 < share < 0.95
    (state,), (outcome,) = play(s, world, "A")
    close(state.weights, world.initial + np.where(kept, update, 0))
    assert clocks([state]) == pytest.approx([0.5 + 12 + 2 * share + 0.05])
    assert float(outcome.sent_bits) == pytest.approx(8e6 * (1 + share))
    assert float(outcome.send_j) == pytest.approx(2.4 * share)


# -------------------------------------------------------------------------- whole episodes


def test_energy_and_bits_add_up_over_an_episode():
    """With nobody lost, every job of a client costs the same, and takes a model there and back."""
    s, world = four(quorum=2, at_once=3)
    states, outcomes = play(s, world, "ABC", "CA", "DCB", "", "ABCD", "BC", "A")
    taken = states[-1].taken
    assert taken.sum() == sum(told(outcomes, "sent_off")) > 8
    assert sum(told(outcomes, "compute_j")) == pytest.approx((taken * hand.COMPUTE_J).sum())
    assert sum(told(outcomes, "send_j")) == pytest.approx((taken * hand.SEND_J).sum())
    assert sum(told(outcomes, "sent_bits")) == pytest.approx(16e6 * taken.sum())
    flying_now = (states[-1].client >= 0).sum()
    ended = sum(sum(told(outcomes, name)) for name in ("merged", "lost", "dropped"))
    assert ended + flying_now == taken.sum()
    assert sum(told(outcomes, "seconds")) == pytest.approx(float(states[-1].clock))


def test_the_step_leaves_what_it_is_given():
    s, world = four(quorum=1, control_variates=True, server_momentum=0.5)
    states, _ = play(s, world, "AB")
    kept = arrays.map_arrays(np.copy, states[0])
    given = arrays.map_arrays(np.copy, world)
    model.evaluate(world, states[0], Decision(score=np.ones(4), effort=np.empty(0)), s)
    for one, other in ((kept, states[0]), (given, world)):
        for a, b in zip(arrays.as_dict(one).values(), arrays.as_dict(other).values(), strict=True):
            assert np.array_equal(a, b)


def test_an_episode_that_is_over_stays_as_it_is():
    s, world = four(quorum=1, decisions=1)
    states, outcomes = play(s, world, "AB", "CD")
    assert bool(states[0].over) and bool(states[1].over)
    assert np.array_equal(states[0].weights, states[1].weights)
    assert told(outcomes, "sent_off") == [2, 0] and told(outcomes, "seconds")[1] == 0
    assert told(outcomes, "merged")[1] == 0
