"""Plans, moving, memory and what a slot loses: by hand, and against plain Python."""

import dataclasses

import numpy as np
import pytest
from pipeline_training import oracle

from mec_gym.core import arrays
from mec_gym.pipeline_training.model import (
    Decision,
    State,
    evaluate,
    lost_seconds,
    needed_memory,
    stages_of,
    valid_plan,
)
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import Scenario, Slot

M, G = 1e6, 1e9

# Three blocks on three devices. Moving costs 2 * weights: 20, 40, 10 Mbit.
WORLD = Scenario(
    network=oracle.network(
        work=[2 * G, 1 * G, 3 * G],
        bits=[8 * M, 4 * M, 2 * M, 1 * M],
        weights=[10 * M, 20 * M, 5 * M],
    ),
    blocks=3,
    devices=3,
    microbatches=2,
    samples=1,
    horizon=4,
    slot_s=60.0,
    restart_s=5.0,
)
SLOT = Slot(
    present=np.array([True, True, True]),
    speed=G * np.array([4.0, 2.0, 1.0]),
    link=M * np.array([[0.0, 5.0, 10.0], [20.0, 0.0, 40.0], [8.0, 16.0, 0.0]]),
    store=M * np.array([1.0, 2.0, 4.0]),
    seen=np.zeros(3),
    departures=np.zeros(3),
    leaves=np.ones(3),
)


def slot(**changes):
    return dataclasses.replace(SLOT, **{k: np.array(v) for k, v in changes.items()})


def play(place, wanted, scenario=WORLD, **changes):
    state = State(place=np.array(place), slots_left=np.array(4.0))
    return evaluate(slot(**changes), state, Decision(place=np.array(wanted)), scenario)


# ------------------------------------------------------------------------------- networks


def test_the_network_by_hand():
    chain = WORLD.chain
    assert chain.work.tolist() == [2 * G, 1 * G, 3 * G]
    assert chain.bits.tolist() == [8 * M, 4 * M, 2 * M, 1 * M]
    assert chain.weights.tolist() == [10 * M, 20 * M, 5 * M]
    assert chain.outputs.tolist() == [4 * M, 2 * M, 1 * M]
    assert WORLD.sample_work == 18 * G


@pytest.mark.parametrize("blocks", [1, 6, 16])
def test_the_weights_of_vgg16(blocks):
    chain = Scenario(network="vgg16", blocks=blocks).chain
    assert chain.weights.sum() == 138_357_544 * 32
    heavy = Scenario(network="vgg16", blocks=blocks, weight_factor=3.0).chain
    assert np.array_equal(heavy.weights, 3 * chain.weights)
    assert np.array_equal(heavy.outputs, chain.outputs)


# ---------------------------------------------------------------------------------- plans


@pytest.mark.parametrize(
    ("present", "wanted", "plan"),
    [
        ([1, 1, 1], [2, 2, 0], [2, 2, 0]),
        # device 1 is absent: its block stays with the block before
        ([1, 0, 1], [0, 1, 2], [0, 0, 2]),
        ([1, 0, 1], [2, 1, 1], [2, 2, 2]),
        # device 0 has ended a stage before
        ([1, 1, 1], [0, 1, 0], [0, 1, 1]),
        ([1, 1, 1], [2, 0, 2], [2, 0, 0]),
        # the device of the first block is absent: the fastest one of those that are present
        ([0, 1, 1], [0, 2, 2], [1, 2, 2]),
        ([0, 1, 1], [0, 0, 2], [1, 1, 2]),
        # ... which has no second stage afterwards
        ([0, 1, 1], [0, 2, 1], [1, 2, 2]),
        ([0, 0, 1], [0, 1, 0], [2, 2, 2]),
        # a block that was passed on does not end the stage of its own device
        ([1, 0, 1], [0, 1, 0], [0, 0, 0]),
        # nobody holds a block so far
        ([1, 1, 0], [-1, -1, -1], [0, 0, 0]),
        ([1, 1, 0], [-1, 1, -1], [0, 1, 1]),
        ([0, 0, 0], [0, 1, 2], [-1, -1, -1]),
    ],
)
def test_valid_plans_by_hand(present, wanted, plan):
    present = np.array(present, dtype=bool)
    assert valid_plan(present, SLOT.speed, np.array(wanted)).tolist() == plan
    # What is valid stays as it is.
    if present.any():
        assert valid_plan(present, SLOT.speed, np.array(plan)).tolist() == plan


def test_all_decisions_at_once():
    rng = np.random.default_rng(0)
    wanted = np.array(list(np.ndindex(*[4] * 4)))  # of four devices and four blocks
    for present in np.ndindex(2, 2, 2, 2):
        present, speed = np.array(present, dtype=bool), rng.random(4)
        found = valid_plan(present, speed, wanted)
        for decision, plan in zip(wanted, found.tolist(), strict=True):
            expected = oracle.made_valid(present, speed, decision)
            assert plan == (expected or [-1] * 4)
    # A batch of slots against one decision, and the other way round.
    presents = rng.random((5, 1, 4)) < 0.6
    speeds = rng.random((5, 1, 4))
    both = valid_plan(presents, speeds, wanted)
    assert both.shape == (5, 256, 4)
    for i in range(5):
        assert np.array_equal(both[i], valid_plan(presents[i, 0], speeds[i, 0], wanted))


def test_stages_are_counted_from_the_last_one():
    stages = stages_of(np.array([[2, 2, 0], [1, 1, 1], [0, 1, 2]]), 3)
    assert stages.exists.T.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert stages.device.T.tolist() == [[0, 2, 0], [1, 0, 0], [2, 1, 0]]
    assert stages.first.T.tolist() == [[2, 0, 0], [0, 0, 0], [2, 1, 0]]
    assert stages.last.T.tolist() == [[2, 1, 0], [2, 0, 0], [2, 1, 0]]


# --------------------------------------------------------------------------------- moving


def test_two_devices_receive_side_by_side():
    # Block 1 from 0 to 1: 40 / 5 = 8 s. Block 2 from 0 to 2: 10 / 10 = 1 s.
    state, outcome = play([0, 0, 0], [0, 1, 2])
    assert outcome.moving_s == 8 + 5
    assert outcome.moved_bits == 50 * M
    assert state.place.tolist() == [0, 1, 2] and state.slots_left == 3


def test_one_device_receives_one_block_after_the_other():
    # Blocks 0 and 1 from 2 to 0: (20 + 40) / 8 = 7.5 s; block 2 from 1 to 0 as well: 10 / 20.
    _, outcome = play([2, 2, 1], [0, 0, 0])
    assert outcome.moving_s == 7.5 + 0.5 + 5
    assert outcome.moved_bits == 70 * M


def test_directions_differ():
    assert play([1, 1, 1], [2, 2, 2])[1].moving_s == 70 / 40 + 5
    assert play([2, 2, 2], [1, 1, 1])[1].moving_s == 70 / 16 + 5


def test_the_store_has_what_nobody_holds():
    # From the store: 20 / 1 + 40 / 1 s to device 0, 10 / 4 s to device 2.
    _, outcome = play([-1, -1, -1], [0, 0, 2])
    assert outcome.moving_s == 60 + 5
    # Device 0 has gone with block 0: 20 / 2 s from the store, block 1 from 2 to 1: 40 / 16 s.
    _, outcome = play([0, 2, 2], [1, 1, 2], present=[False, True, True])
    assert outcome.moving_s == 10 + 2.5 + 5
    assert outcome.moved_bits == 60 * M
    # The same if the store would be slower than the holder, who is there.
    assert play([1, 1, 1], [0, 0, 0])[1].moving_s == 70 / 20 + 5


def test_who_keeps_everything_does_not_start_again():
    state, outcome = play([2, 0, 0], [2, 0, 0])
    assert outcome.moving_s == outcome.moved_bits == 0
    assert state.place.tolist() == [2, 0, 0]
    # One block that moves suffices, also if there is nothing to move but to start again.
    assert play([2, 0, 0], [2, 0, 1])[1].moving_s == 10 / 5 + 5
    light = dataclasses.replace(WORLD, state_copies=0.0)
    _, outcome = play([2, 0, 0], [2, 0, 1], light)
    assert outcome.moving_s == 5 and outcome.moved_bits == 0


def test_moving_that_takes_longer_than_the_slot():
    # All from the store to device 0: 70 s, and 5 s to start again; nothing is trained.
    state, outcome = play([-1, -1, -1], [0, 0, 0])
    assert outcome.moving_s == 75 and outcome.trained == 0
    assert outcome.lost_s == 75
    assert PipelineTraining(WORLD).reward(outcome) == -75 / 60
    assert state.place.tolist() == [0, 0, 0]
    # The next slot begins with everything in its place.
    assert play(state.place, [0, 0, 0])[1].moving_s == 0


# ------------------------------------------------------------------------ time and reward


def test_a_single_device_is_the_perfect_share_of_itself():
    """Alone, it loses nothing but the time for moving."""
    alone = [False, True, False]
    _, outcome = play([1, 1, 1], [1, 1, 1], present=alone)
    # two microbatches of 18 GFLOP at 2 GFLOP/s
    assert outcome.minibatch_s == 18
    assert outcome.trained == pytest.approx(60 / 18 * 2, rel=1e-15)
    assert outcome.lost_s == 0
    _, outcome = play([-1, -1, -1], [1, 1, 1], present=alone)
    assert outcome.lost_s == outcome.moving_s == 70 / 2 + 5


def test_two_stages_by_hand():
    """Blocks 0 and 1 on device 0, block 2 on device 1: f = (0.75, 1.5), b = (1.5, 3).

    2 Mbit go up at 5 Mbit/s and down at 20: 0.4 and 0.1 s. 1F1B: stage 1 has its first input at
    1.15, and works until 10.15 without a pause; then 0.1 + 1.5 s.
    """
    _, outcome = play([0, 0, 1], [0, 0, 1])
    assert outcome.minibatch_s == pytest.approx(11.75, rel=1e-14)
    assert outcome.stages == 2
    # Perfect sharing: 36 GFLOP by 7 GFLOP/s, absent or idle devices or not.
    share = 36 / 7 / 11.75
    assert outcome.lost_s == pytest.approx(60 * (1 - share), rel=1e-14)
    assert outcome.trained == pytest.approx(2 * 60 / 11.75, rel=1e-14)
    # With moving: block 2 from device 0, 10 / 5 + 5 s.
    _, outcome = play([0, 0, 0], [0, 0, 1])
    assert outcome.lost_s == pytest.approx(60 - 53 * share, rel=1e-14)
    # Who is absent would not have helped.
    _, outcome = play([0, 0, 1], [0, 0, 1], present=[True, True, False])
    assert outcome.lost_s == pytest.approx(60 * (1 - 36 / 6 / 11.75), rel=1e-14)


def test_what_is_lost_by_hand():
    assert lost_seconds(0.75, 20.0, WORLD) == 60 - 40 * 0.75
    assert lost_seconds(1.0, 0.0, WORLD) == 0
    assert lost_seconds(0.0, 59.0, WORLD) == 60
    assert lost_seconds(0.5, 60.0, WORLD) == 60
    assert lost_seconds(0.5, 90.0, WORLD) == 90


def test_nobody_is_present():
    state, outcome = play([0, 1, 2], [0, 1, 2], present=[False, False, False])
    assert state.place.tolist() == [-1, -1, -1] and state.slots_left == 3
    assert all(getattr(outcome, name) == 0 for name in arrays.field_names(type(outcome)))


def test_rates_of_who_is_absent_are_not_used():
    zero = {
        "speed": [4 * G, 2 * G, 0.0],
        "store": [1 * M, 2 * M, 0.0],
        "link": M * np.array([[0.0, 5.0, 0.0], [20.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    }
    for place in ([2, 2, 2], [0, 2, 1], [-1, -1, -1]):
        for wanted in ([0, 1, 2], [2, 2, 1], [1, 0, 0]):
            one, two = (
                play(place, wanted, present=[True, True, False], **c)[1] for c in ({}, zero)
            )
            arrays.map_arrays(np.testing.assert_array_equal, one, two)


# --------------------------------------------------------------------------------- memory


def test_needed_memory_by_hand():
    """3 * weights, and the outputs of the microbatches that are on their way."""
    # Blocks 0 and 1 in the first stage, 2 in the last one: 3 * 30 and 3 * 5 Mbit.
    plan = np.array([2, 2, 0])
    s = dataclasses.replace(WORLD, microbatches=4, samples=3)
    last, first, none = needed_memory(stages_of(plan, 3), s)
    assert last == (3 * 5 + 1 * 3 * 1) * M  # 1F1B: one microbatch of three samples
    assert first == (3 * 30 + 2 * 3 * (4 + 2)) * M  # two of them
    assert none == 0
    last, first, none = needed_memory(stages_of(plan, 3), dataclasses.replace(s, schedule="gpipe"))
    assert last == (3 * 5 + 4 * 3 * 1) * M
    assert first == (3 * 30 + 4 * 3 * (4 + 2)) * M
    assert none == 0
    # No more microbatches are on their way than there are.
    one = dataclasses.replace(s, microbatches=1)
    assert needed_memory(stages_of(np.array([0, 1, 2]), 3), one).tolist() == [
        (3 * 5 + 3 * 1) * M,
        (3 * 20 + 3 * 2) * M,
        (3 * 10 + 3 * 4) * M,
    ]


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
def test_what_memory_cannot_hold_is_fetched_in_every_pass(schedule):
    # Alone, device 2 needs 3 * 35 + 7 Mbit per microbatch on its way (1 or 2). 4 Mbit/s.
    s = dataclasses.replace(WORLD, memory=(1.0, 1.0, 100 * M), schedule=schedule)
    fetch = (105 + 7 * (1 if schedule == "1f1b" else 2) - 100) / 4
    _, outcome = play([2, 2, 2], [2, 2, 2], s, present=[False, False, True])
    assert outcome.fetching_s == fetch
    # Two microbatches: forward 6 s and backward 12 s of work.
    assert outcome.minibatch_s == pytest.approx(2 * (6 + 12 + 2 * fetch), rel=1e-14)
    assert outcome.lost_s == pytest.approx(60 * (1 - 18 / (18 + 2 * fetch)), rel=1e-12)
    enough = dataclasses.replace(s, memory=(1.0, 1.0, 119 * M))
    assert play([2, 2, 2], [2, 2, 2], enough)[1].fetching_s == 0


# ------------------------------------------------------------------- against plain Python


@pytest.mark.parametrize("memory", [None, "tight"])
def test_equals_plain_python_on_random_worlds(memory):
    nobody = moved = fetched = 0
    for seed in range(30):
        s = oracle.random_world(seed, memory=memory, state_copies=float(seed % 3))
        problem = PipelineTraining(s)
        rng = np.random.default_rng(seed + 1000)
        trace = problem.sample(rng, 3)
        states = problem.start(arrays.slot_at(trace, 0))
        for t in range(s.horizon):
            slots = arrays.slot_at(trace, t)
            wanted = rng.integers(s.devices, size=(3, s.blocks))
            wanted = np.where(rng.random(wanted.shape) < 0.4, np.maximum(states.place, 0), wanted)
            after, outcome = problem.step(slots, states, problem.decision(wanted))
            for i in range(3):
                paid = oracle.pay(s, arrays.at(slots, i), states.place[i], wanted[i])
                if paid is None:
                    nobody += 1
                    assert problem.reward(outcome)[i] == 0
                    continue
                moved += paid.moving_s > 0
                fetched += paid.fetching_s > 0
                assert after.place[i].tolist() == paid.plan
                for name in ("minibatch_s", "moving_s", "moved_bits", "trained"):
                    assert getattr(outcome, name)[i] == pytest.approx(
                        getattr(paid, name), rel=1e-12
                    ), name
                assert outcome.lost_s[i] == pytest.approx(paid.lost_s, rel=1e-11, abs=1e-11)
                assert outcome.fetching_s[i] == pytest.approx(paid.fetching_s, rel=1e-9, abs=1e-9)
            states = after
    assert nobody > 20 and moved > 200
    assert (fetched > 100) if memory else not fetched


def test_no_plan_is_faster_than_perfect_sharing():
    for seed in range(30):
        problem = PipelineTraining(oracle.random_world(seed, state_copies=0.0, restart_s=0.0))
        rng = np.random.default_rng(seed)
        trace = problem.sample(rng, 20)
        state = problem.start(arrays.slot_at(trace, 0))
        for t in range(problem.horizon):
            place = rng.integers(problem.scenario.devices, size=state.place.shape)
            state, outcome = problem.step(arrays.slot_at(trace, t), state, problem.decision(place))
            assert (outcome.lost_s >= 0).all()
            assert (problem.reward(outcome) >= -1).all()
