"""The pictures of a pipeline and of an episode show what can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import GREY, PINK, RED, to_array
from mec_gym.core.problem import Episode
from mec_gym.pipeline_training import PRESETS, PipelineTraining, Scenario, history
from mec_gym.pipeline_training.clock import StageTimes
from mec_gym.pipeline_training.model import Decision
from mec_gym.pipeline_training.viewer import (
    FLEET,
    LOSSES,
    MEMORY,
    NARROW,
    PIPELINE,
    block_colors,
    draw_episode,
    draw_pipeline,
    idle_share,
)

# Six slots of AlexNet in three blocks on two devices; in the fourth nobody is present.
HAND = Scenario(network="alexnet", blocks=3, devices=2, horizon=6, microbatches=2, notice=2)
PRESENT = [[1, 0], [1, 1], [1, 1], [0, 0], [0, 1], [1, 1]]
PLANS = ([0, 0, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1], [1, 1, 0])
WEIGHTS = HAND.chain.weights


def hand_episode(steps, scenario=HAND):
    """The episode after so many of its six slots."""
    problem = PipelineTraining(scenario)
    present = np.array(PRESENT, dtype=np.bool_)
    seen, departures, leaves = (a[0] for a in history(present[None], scenario.notice))
    trace = replace(
        arrays.at(problem.sample(np.random.default_rng(0), 1), 0),
        present=present,
        speed=np.full((6, 2), [100e9, 50e9]),
        link=np.full((6, 2, 2), 200e6),
        store=np.full((6, 2), 100e6),
        seen=seen,
        departures=departures,
        leaves=leaves,
    )
    states, decisions, outcomes = [problem.start(arrays.at(trace, 0))], [], []
    for t in range(steps):
        decisions.append(Decision(place=np.array(PLANS[t])))
        state, outcome = problem.step(arrays.at(trace, t), states[-1], decisions[-1])
        states.append(state)
        outcomes.append(outcome)
    return Episode(trace=trace, states=states, decisions=decisions, outcomes=outcomes)


def two_stages(up, down):
    """Forward passes of 1 and 2 s and backward ones of 2 and 3 s, counted from the last stage."""
    return StageTimes(
        forward=np.array([2.0, 1.0]),
        backward=np.array([3.0, 2.0]),
        up=np.array([up]),
        down=np.array([down]),
    )


def equal_stages(stages, link=0.0):
    links = np.full(stages - 1, link)
    return StageTimes(forward=np.ones(stages), backward=np.full(stages, 2.0), up=links, down=links)


def boxes(axes, label):
    """(middle row, left, right) of every box with this label, sorted."""
    found = []
    for collection in axes.collections:
        if collection.get_label() == label:
            for path in collection.get_paths():
                (left, low), (right, high) = path.vertices.min(axis=0), path.vertices.max(axis=0)
                found.append(((low + high) / 2, left, right))
    return sorted(found)


def lines(axes, label):
    (collection,) = [c for c in axes.collections if c.get_label() == label]
    return [np.asarray(segment) for segment in collection.get_segments()]


def numbers(axes):
    """(row, number) of the numbers in boxes, row by row from left to right."""
    inside = [t for t in axes.texts if t.get_text().isdigit()]
    inside.sort(key=lambda t: t.get_position()[::-1])
    return [(t.get_position()[1], int(t.get_text())) for t in inside]


def busy(axes):
    return [t.get_text() for t in axes.texts if t.get_text().endswith("busy")]


def rows(axes):
    return [t.get_text() for t in axes.get_yticklabels()]


def test_a_pipeline_by_hand():
    # The links are so slow that the third output comes late, and the last stage idles 13-14.
    (axes,) = draw_pipeline(two_stages(2.0, 1.0), 3, "1f1b", ["first", "last"]).axes
    np.testing.assert_allclose(
        boxes(axes, "_forward"),
        [(0, 0, 1), (0, 1, 2), (0, 11, 12), (1, 3, 5), (1, 8, 10), (1, 14, 16)],
    )
    np.testing.assert_allclose(
        boxes(axes, "_backward"),
        [(0, 9, 11), (0, 14, 16), (0, 20, 22), (1, 5, 8), (1, 10, 13), (1, 16, 19)],
    )
    orders = ([0, 1, 0, 2, 1, 2], [0, 0, 1, 1, 2, 2])
    assert numbers(axes) == [(row, q) for row in (0, 1) for q in orders[row]]
    # The second output waits from 2 to 3 s for the link.
    ups, downs = lines(axes, "_activations"), lines(axes, "_gradients")
    assert [line[:, 0].tolist() for line in ups] == [[1, 1, 3], [2, 3, 5], [12, 12, 14]]
    assert [line[:, 0].tolist() for line in downs] == [[8, 8, 9], [13, 13, 14], [19, 19, 20]]
    # Outputs go from the edge of the first row to that of the last one, gradients back.
    for line in ups:
        np.testing.assert_allclose(line[:, 1], [0.33, 0.33, 0.67])
    for line in downs:
        np.testing.assert_allclose(line[:, 1], [0.67, 0.67, 0.33])
    assert axes.yaxis_inverted()  # so the first stage is on top
    assert rows(axes) == ["first", "last"]
    assert busy(axes) == ["68% busy", "41% busy"]  # 15 and 9 of 22 s
    assert axes.get_title("left") == "1F1B: 22 s per minibatch, 45.5% idle"


def test_gpipe_does_the_backward_passes_in_reverse():
    (axes,) = draw_pipeline(two_stages(0.5, 0.25), 3, "gpipe").axes
    assert numbers(axes) == [(row, q) for row in (0, 1) for q in (0, 1, 2, 2, 1, 0)]
    np.testing.assert_allclose(
        boxes(axes, "_backward")[3:], [(1, 7.5, 10.5), (1, 10.5, 13.5), (1, 13.5, 16.5)]
    )
    assert rows(axes) == ["stage 0", "stage 1"]
    assert axes.get_title("left") == "GPipe: 18.8 s per minibatch, 36.0% idle"  # 24 of 37.5 s


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
@pytest.mark.parametrize(("stages", "microbatches"), [(4, 8), (1, 3), (3, 1)])
def test_bubbles_of_equal_stages(schedule, stages, microbatches):
    share = idle_share(equal_stages(stages), microbatches, schedule)
    assert share == pytest.approx((stages - 1) / (microbatches + stages - 1), abs=1e-12)


def test_numbers_stand_only_where_they_fit():
    (axes,) = draw_pipeline(equal_stages(10, 0.1), 64, "1f1b").axes
    assert numbers(axes) == [] and len(boxes(axes, "_forward")) == 640
    figure = draw_pipeline(equal_stages(4), 12, "1f1b")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert len(numbers(axes)) == 4 * 12 * 2
    second = np.diff(axes.transData.transform([(0, 0), (1, 0)])[:, 0])[0]
    sizes = set()
    for text in axes.texts[:96]:
        backward = text.get_color() != "white"
        assert text.get_window_extent().width < (2.0 if backward else 1.0) * second
        sizes.add(text.get_fontsize())
    assert len(sizes) == 1


def test_what_is_no_pipeline():
    with pytest.raises(ValueError, match=r"labels.*2 .*got 1"):
        draw_pipeline(two_stages(1.0, 1.0), 2, "1f1b", ["alone"])
    with pytest.raises(ValueError, match=r"times.*\(2, 1\)"):
        draw_pipeline(arrays.at(two_stages(1.0, 1.0), np.s_[:, None]), 2, "1f1b")


def test_the_pipeline_of_the_last_slot():
    pipeline = draw_episode(HAND, hand_episode(2)).axes[0]
    # A microbatch of 4 samples: block 0 at 100 GFLOP/s, blocks 1 and 2 at 50 GFLOP/s.
    work = 4.0 * HAND.chain.work
    first, last = work[0] / 100e9, (work[1] + work[2]) / 50e9
    widths = [right - left for _, left, right in boxes(pipeline, "_forward")]
    np.testing.assert_allclose(widths, [first, first, last, last])
    assert rows(pipeline) == ["device 0: block 0", "device 1: blocks 1\N{EN DASH}2"]
    moving = 2.0 * WEIGHTS[1:].sum() / 200e6 + 5.0
    best = 2 * 3.0 * work.sum() / 150e9
    end = max(right for _, _, right in boxes(pipeline, "_backward"))
    idle = 1.0 - 2 * 3.0 * (first + last) / (2.0 * end)
    assert pipeline.get_title("left") == (
        f"Slot 2 of 6: moving {moving:.3g} s, then {end:.3g} s per minibatch "
        f"(perfect sharing: {best:.3g} s), {idle:.0%} idle"
    )


def test_moving_that_leaves_no_time_to_train():
    scenario = replace(HAND, slot_s=40.0)  # loading everything takes 44 s
    pipeline = draw_episode(scenario, hand_episode(1, scenario)).axes[0]
    moving = 2.0 * WEIGHTS.sum() / 100e6 + 5.0
    assert pipeline.get_title("left").startswith(
        f"Slot 1 of 6: moving {moving:.3g} s, nothing trained; "
    )


def test_who_trains_what():
    fleet = draw_episode(HAND, hand_episode(6)).axes[1]
    lane = 0.28  # a block's share of a row
    for label, expected in {
        "_present": [(0, 0.5, 3.5), (0, 5.5, 6.5), (1, 1.5, 3.5), (1, 4.5, 6.5)],
        "_block 0": [(-lane, 0.5, 3.5), (1 - lane, 4.5, 6.5)],
        "_block 1": [(0, 0.5, 1.5), (1, 1.5, 3.5), (1, 4.5, 6.5)],
        "_block 2": [
            (lane, 0.5, 1.5),
            (lane, 5.5, 6.5),
            (1 + lane, 1.5, 3.5),
            (1 + lane, 4.5, 5.5),
        ],
    }.items():
        np.testing.assert_allclose(boxes(fleet, label), expected, atol=1e-12)
    # At first, and after a slot with nobody, all blocks come from the store.
    for label, expected in {
        "_from the store": [
            (t, row + i * lane) for t, row in ((0.5, 0), (4.5, 1)) for i in (-1, 0, 1)
        ],
        "_from a device": [(1.5, 1), (1.5, 1 + lane), (5.5, lane)],
    }.items():
        moved = sorted((line[0, 0], line[:, 1].mean()) for line in lines(fleet, label))
        np.testing.assert_allclose(moved, expected, atol=1e-12)
    assert rows(fleet) == ["device 0: 100 GFLOP/s", "device 1: 50 GFLOP/s"]


def test_the_future_is_shown_only_where_it_is_announced():
    fleet = draw_episode(HAND, hand_episode(1)).axes[1]
    # The second slot is at hand. Both devices leave after the third one.
    np.testing.assert_allclose(boxes(fleet, "_present"), [(0, 0.5, 2.5), (1, 1.5, 2.5)])
    (cross,) = fleet.get_lines()
    np.testing.assert_allclose(np.stack(cross.get_data(), -1), [[3.5, 0], [3.5, 1]])
    unannounced = replace(HAND, notice=0)
    fleet = draw_episode(unannounced, hand_episode(1, unannounced)).axes[1]
    assert not fleet.get_lines()


def test_what_is_lost():
    episode = hand_episode(6)
    slower, moving = draw_episode(HAND, episode).axes[2].containers
    height = {c.get_label(): np.array([b.get_height() for b in c]) for c in (slower, moving)}
    np.testing.assert_allclose(
        60.0 * (height["_slower"] + height["_moving"]), [o.lost_s for o in episode.outcomes]
    )
    # Everything from the store; blocks 1 and 2, and later block 2, from the other device.
    load = 2.0 * WEIGHTS.sum() / 100e6 + 5.0
    both, one = (2.0 * WEIGHTS[b:].sum() / 200e6 + 5.0 for b in (1, 2))
    np.testing.assert_allclose(60.0 * height["_moving"], [load, both, 0, 0, load, one])
    # One device alone shares perfectly, and a slot with nobody loses nothing.
    np.testing.assert_allclose(height["_slower"][[0, 3, 4]], 0.0, atol=1e-12)
    assert (height["_slower"][[1, 2, 5]] > 0.1).all()
    np.testing.assert_allclose([b.get_y() for b in moving], height["_slower"])
    assert {b.get_facecolor()[:3] for b in slower} == {to_rgb(GREY)}
    assert {b.get_facecolor()[:3] for b in moving} == {to_rgb(PINK)}


def test_where_memory_binds():
    # 1F1B keeps two microbatches of 4 samples in the first of two stages, and one in the last.
    outputs = HAND.chain.outputs
    needs = np.array(
        [3.0 * WEIGHTS[0] + 8.0 * outputs[0], 3.0 * WEIGHTS[1:].sum() + 4.0 * outputs[1:].sum()]
    )
    scenario = replace(HAND, memory=(7e9, needs[1] - 1e8))
    pipeline, memory, _, losses = draw_episode(scenario, hand_episode(2, scenario)).axes
    needed, excess = (np.array([b.get_width() for b in c]) for c in memory.containers)
    np.testing.assert_allclose(8e9 * needed, [needs[0], needs[1] - 1e8])
    np.testing.assert_allclose(8e9 * excess, [0.0, 1e8], atol=1.0)
    (limits,) = memory.collections
    drawn = [8e9 * path.vertices[0, 0] for path in limits.get_paths()]
    np.testing.assert_allclose(drawn, scenario.memory)
    # Every pass of the last stage begins with fetching 100 Mbit at 100 Mbit/s.
    passes = sorted(boxes(pipeline, "_forward")[2:] + boxes(pipeline, "_backward")[2:])
    fetches = [(1, left, left + 1.0) for _, left, _ in passes]
    assert len(fetches) == 4
    np.testing.assert_allclose(boxes(pipeline, "_fetching"), fetches)
    # In the first slot, the memory of device 0 was enough for all blocks.
    colors = [b.get_facecolor()[:3] for b in losses.containers[0]]
    assert colors == [to_rgb(GREY), to_rgb(RED)]


def test_the_title_counts():
    episode = hand_episode(6)
    lost = sum(o.lost_s for o in episode.outcomes) / 60.0
    moved = 2.0 * WEIGHTS.sum() / 100e6 + (WEIGHTS[1:].sum() + WEIGHTS[2]) / 200e6
    assert draw_episode(HAND, episode).get_suptitle() == (
        f"3 blocks on 2 devices, 1F1B, 2 microbatches: 6 of 6 slots, {lost:.2f} lost, "
        f"{(2.0 * moved + 4 * 5.0) / 60.0:.2f} of it by moving in 4 slots"
    )


def test_nothing_played():
    scenario = replace(HAND, memory=(1e9, 1e9))
    figure = draw_episode(scenario, hand_episode(0, scenario))
    pipeline, memory, fleet, losses = figure.axes
    assert figure.get_suptitle() == "3 blocks on 2 devices, 1F1B, 2 microbatches: no slot yet"
    assert [t.get_text() for t in pipeline.texts] == ["no slot has been played yet"]
    assert boxes(fleet, "_present") == [(0, 0.5, 1.5)]
    assert not boxes(fleet, "_block 0") and not boxes(pipeline, "_forward")
    assert not any(len(c) for c in (*losses.containers, *memory.containers))
    assert to_array(figure).shape == (900, 1200, 3)


def test_a_slot_with_nobody():
    pipeline = draw_episode(HAND, hand_episode(4)).axes[0]
    assert pipeline.get_title("left") == "Slot 4 of 6"
    assert [t.get_text() for t in pipeline.texts] == ["nobody is present"]


def test_blocks_get_darker():
    brightness = [sum(color[:3]) for color in block_colors(12)]
    assert (np.diff(brightness) < 0).all()


def test_no_panel_moves_during_a_film():
    places = [
        [axes.get_position(original=True).bounds for axes in draw_episode(HAND, e).axes]
        for e in map(hand_episode, range(7))
    ]
    assert places == places[:1] * 7


def picture_of_random_play(scenario, steps):
    env = MecEnv(PipelineTraining(scenario), render_mode="rgb_array")
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(steps):
        env.step(env.action_space.sample())
    return env.render()


def check_that_something_is_drawn(picture, panels):
    assert picture.shape == (900, 1200, 3)
    for left, bottom, width, height in panels:
        down = slice(round(900 * (1 - bottom - height)), round(900 * (1 - bottom)))
        assert picture[down, round(1200 * left) : round(1200 * (left + width))].std() > 5


@pytest.mark.parametrize("name", PRESETS)
def test_pictures_of_random_play(name):
    picture = picture_of_random_play(PRESETS[name].make(), 6)
    check_that_something_is_drawn(picture, (PIPELINE, FLEET, LOSSES))


@pytest.mark.slow
def test_a_large_picture():
    scenario = Scenario(
        devices=10, blocks=12, microbatches=64, schedule="gpipe", memory=(2e9,) * 10
    )
    picture = picture_of_random_play(scenario, 30)
    check_that_something_is_drawn(picture, (NARROW, MEMORY, FLEET, LOSSES))
