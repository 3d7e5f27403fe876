"""When a round is over for each device: by hand, and what has to hold for all of them."""

import numpy as np
import pytest
from gossip_training import hand
from hypothesis import given, settings
from hypothesis import strategies as st

from mec_gym.gossip_training import clock as clocks


def arrivals(clock, compute_s, rate, heard, bits, overlap, free=None):
    """When everybody is done, if uplinks have nothing else to send."""
    free = np.zeros_like(clock) if free is None else free
    sent = clocks.uplinks_free(clock, compute_s, rate, heard, bits, overlap, free)
    return clocks.arrivals(clock, compute_s, heard, sent)


def reduced(clock, compute_s, rate, active, bits, free=0.0):
    """When an all-reduce is done, if uplinks have nothing else to send."""
    free = np.broadcast_to(free, np.shape(clock))
    return clocks.reduced(clock, compute_s, rate, active, bits, free)


# -------------------------------------------------------------------------------- by hand

DESIGN = {"compute_s": [2.0, 5.0, 3.0], "rate": [1.0, 1.0, 0.5]}


def of(heard, clock=(0, 0, 0), bits=1.0, overlap=False):
    found = arrivals(
        np.array(clock, dtype=float),
        np.array(DESIGN["compute_s"]),
        np.array(DESIGN["rate"]),
        np.array(heard, dtype=bool),
        bits,
        overlap,
    )
    return found.tolist()


def test_two_listeners_share_an_uplink():
    """The numbers of the design: 0 and 2 listen to 1, which takes twice as long to send."""
    assert of([[0, 1, 0], [0, 0, 0], [0, 1, 0]]) == [7, 5, 7]
    assert of([[0, 1, 0], [0, 0, 0], [0, 0, 0]]) == [6, 5, 3]


def test_the_latest_speaker_counts():
    # 2 sends to one listener until 3 + 2 s, 1 until 5 + 1 s.
    assert of([[0, 1, 1], [0, 0, 0], [0, 0, 0]]) == [6, 5, 3]
    assert of([[0, 1, 1], [0, 0, 1], [0, 0, 0]]) == [7, 7, 3]  # 2 sends to both: 3 + 4 s
    assert of([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) == [7, 7, 7]  # 0 has sent at 4 s
    assert of(np.zeros((3, 3))) == [2, 5, 3]


def test_devices_have_clocks_of_their_own():
    assert of([[0, 1, 0], [0, 0, 0], [0, 1, 0]], clock=(10, 0.5, 4)) == [12, 5.5, 7.5]


def test_sending_hides_behind_training():
    """The model of the round before is on its way from 0 s on."""
    heard = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert of(heard) == [6, 5, 3] and of(heard, overlap=True) == [2, 5, 3]
    # 0 listens to 2, whose sending takes 2 s and ends at 0.5 + 2 s, later than 0 has trained.
    late = [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert of(late, clock=(0, 0, 0.5), overlap=True) == [2.5, 5, 3.5]


def test_an_uplink_sends_one_round_after_the_other():
    clock, compute, rate = np.zeros(3), np.array([2.0, 5.0, 3.0]), np.array([1.0, 1.0, 0.5])
    heard = np.array([[0, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=bool)
    free = np.array([9.0, 6.5, 0.0])  # 1 has something to send until 6.5 s
    sent = clocks.uplinks_free(clock, compute, rate, heard, 1.0, False, free)
    assert sent.tolist() == [9.0, 8.5, 0.0]
    assert clocks.arrivals(clock, compute, heard, sent).tolist() == [8.5, 5, 8.5]
    hidden = clocks.uplinks_free(clock, compute, rate, heard, 1.0, True, np.array([9, 0.5, 0]))
    assert hidden.tolist() == [9.0, 2.5, 0.0]
    # All wait for 0's uplink, which takes 9 s, and then 4 / 3 of the model at 2's rate.
    everybody = np.ones(3, dtype=bool)
    assert reduced(clock, compute, rate, everybody, 1.0, free) == pytest.approx(9 + 8 / 3)
    assert reduced(clock, compute, rate, free < 9, 1.0, free) == 6.5 + 2.0


def test_links_may_carry_different_numbers_of_bits():
    bits = np.array([[9, 3, 9], [9, 9, 9], [9, 0.5, 9]])
    assert of([[0, 1, 0], [0, 0, 0], [0, 1, 0]], bits=bits) == [8.5, 5, 8.5]


def test_all_reduce():
    """The numbers of the design: 5 s, and 4 / 3 of the model at the rate of the slowest."""
    clock, compute, rate = np.zeros(3), np.array([2.0, 5.0, 3.0]), np.array([1.0, 1.0, 0.5])
    everybody = np.ones(3, dtype=bool)
    assert reduced(clock, compute, rate, everybody, 1.0) == pytest.approx(5 + 4 / 3 * 2)
    two = np.array([True, False, True])  # the slowest to train is out
    assert reduced(clock, compute, rate, two, 3.0) == pytest.approx(3 + 1 * 3 * 2)
    fast = np.array([True, True, False])  # the slowest to send is
    assert reduced(clock, compute, rate, fast, 3.0) == pytest.approx(5 + 1 * 3)
    assert reduced(clock, compute, rate, np.array([False, False, True]), 3.0) == 3
    assert reduced(np.array([9.0, 0, 0]), compute, rate, everybody, 0.3) == pytest.approx(11.8)


# -------------------------------------------------------------------- of the whole problem


def test_clocks_of_rounds():
    """B, C and D listen to A: 2 + 3 x 1 = 5 s. Then A listens to C: 5 + 3 + 4 = 12 s."""
    s = hand.scenario()
    assert hand.clocks(s, "BA CA DA") == [2, 5, 5, 11]
    assert hand.clocks(s, "BA CA DA", "AC") == [12, 10, 8, 22]
    assert hand.clocks(s, "BA CA DA", "AC", "") == [14, 15, 11, 33]


def test_clocks_of_an_all_reduce():
    # All wait for D, and each sends 2 x 3 / 4 models at C's rate: 11 + 1.5 x 4 = 17 s.
    s = hand.scenario()
    assert hand.clocks(s, hand.ALL) == [17] * 4
    assert hand.clocks(s, hand.ALL, "AB") == [17 + 5 + 2, 17 + 5, 17 + 3, 17 + 11]


def test_clocks_of_segments():
    s = hand.scenario(payload="segments", segments=4)
    assert hand.clocks(s, "AC DC") == [3 + 2 * 4 / 4, 5, 3, 11]
    assert hand.clocks(s, "AC BC DC") == [6, 6, 3, 11]


def test_clocks_that_overlap():
    s = hand.scenario(overlap=True)
    assert hand.clocks(s, "AC") == [4, 5, 3, 11]  # C's old model takes 4 s from 0 s on
    assert hand.clocks(s, "AC BC") == [8, 8, 3, 11]
    assert hand.clocks(s, "AB", "AB") == [7, 10, 6, 22]  # 5 + 2 s, 2 + 2 s
    assert hand.clocks(hand.scenario(), "AB", "AB") == [12, 10, 6, 22]


@pytest.mark.parametrize(
    ("changes", "bits"),
    [
        ({"payload": "class-logits"}, 32 * 10 * 10),
        ({"payload": "shared-logits", "shared": 7}, 32 * 7 * 10),
    ],
)
def test_clocks_of_logits(changes, bits):
    s = hand.scenario(**changes)
    assert hand.clocks(s, "AC BC") == pytest.approx([3 + 2 * bits / 2e6, 5, 3, 11])
    assert hand.clocks(s, hand.ALL) == pytest.approx([11 + 1.5 * bits / 2e6] * 4)


def test_whoever_has_passed_the_budget_is_out():
    """At 20 s, D (11 and 22 s) is out after two rounds: nobody waits for it any more."""
    s = hand.scenario(budget_s=20.0)
    two = ["", ""]
    assert hand.clocks(s, *two) == [4, 10, 6, 22]
    assert hand.clocks(s, *two, "AD DA") == [6, 15, 9, 22]
    # A, B and C average: 15 + 2 x 2 / 3 x 4.
    assert hand.clocks(s, *two, hand.ALL) == pytest.approx([15 + 16 / 3] * 3 + [22])


# -------------------------------------------------------------------------------- for all


@st.composite
def rounds(draw):
    n = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    heard = (rng.random((n, n)) < rng.random()) & ~np.eye(n, dtype=bool)
    clock, compute, rate = 30 * rng.random(n), rng.lognormal(2, 1, n), rng.lognormal(0, 1, n)
    return clock, compute, rate, heard, 5 * rng.random((n, n)), bool(rng.random() < 0.5)


@settings(deadline=None)
@given(rounds(), st.data())
def test_an_additional_listener_makes_nobody_earlier(world, data):
    clock, compute, rate, heard, bits, overlap = world
    i, j = data.draw(st.permutations(range(len(clock))))[:2]
    more = heard.copy()
    more[i, j] = True
    few, many = (arrivals(clock, compute, rate, h, bits, overlap) for h in (heard, more))
    assert (many >= few).all() and many[i] >= few[i]
    # It can delay only those who listen to the same speaker.
    assert (many == few)[~more[:, j]].all()


@settings(deadline=None)
@given(rounds())
def test_nobody_is_done_before_it_has_trained_or_later_for_overlap(world):
    clock, compute, rate, heard, bits, _ = world
    after, hidden = (arrivals(clock, compute, rate, heard, bits, o) for o in (False, True))
    assert (hidden >= clock + compute).all() and (after >= hidden).all()
    alone = ~heard.any(axis=-1)
    assert (after == clock + compute)[alone].all()


@settings(deadline=None)
@given(rounds(), st.floats(0, 50))
def test_time_has_no_origin(world, later):
    clock, compute, rate, heard, bits, overlap = world
    one = arrivals(clock, compute, rate, heard, bits, overlap) + later
    np.testing.assert_allclose(arrivals(clock + later, compute, rate, heard, bits, overlap), one)
    active = heard.any(axis=-1) | (np.arange(len(clock)) == 0)
    np.testing.assert_allclose(
        reduced(clock + later, compute, rate, active, 3.0),
        reduced(clock, compute, rate, active, 3.0) + later,
    )


def test_a_stack_equals_its_rounds():
    rng = np.random.default_rng(0)
    clock, compute, rate = rng.random((3, 7, 5, 4)) + 0.1
    heard, bits = rng.random((7, 5, 4, 4)) < 0.4, rng.random((7, 5, 4, 4))
    together = arrivals(clock, compute, rate, heard, bits, False)
    all_of_them = reduced(clock, compute, rate, rate > 0.3, 2.0)
    for z in np.ndindex(7, 5):
        alone = arrivals(clock[z], compute[z], rate[z], heard[z], bits[z], False)
        assert np.array_equal(together[z], alone)
        assert all_of_them[z] == reduced(clock[z], compute[z], rate[z], rate[z] > 0.3, 2.0)
