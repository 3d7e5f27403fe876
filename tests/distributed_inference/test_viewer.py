"""The picture of an episode shows what the records of the timeline say."""

from dataclasses import replace

import numpy as np
import pytest
from distributed_inference.hand_episode import FIRST_TASK, HAND, PROBLEM, hand_episode
from matplotlib.colors import to_rgb

from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import BLUE, GREY, ORANGE, to_array
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import PRESETS
from mec_gym.distributed_inference.viewer import BOXES, draw_episode, place_colors


def panels(figure):
    return figure.axes[:4]


def drawn_bars(axes):
    """(row, start, end, container's label, face colour, hatched) of each bar."""
    return [
        (
            round(b.get_y() + b.get_height() / 2),
            b.get_x(),
            b.get_x() + b.get_width(),
            c.get_label(),
            b.get_facecolor()[:3],
            bool(b.get_hatch()),
        )
        for c in axes.containers
        for b in c
    ]


def marks(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.stack(line.get_data(), axis=-1).tolist()


def deadlines(axes):
    """(x, row) of the lines of the chart that have no name."""
    lines = [line for line in axes.get_lines() if line.get_label().startswith("_")]
    return [(line.get_xdata()[0], np.mean(line.get_ydata())) for line in lines]


def texts(axes):
    return [t.get_text() for t in axes.texts]


def test_the_chart_of_a_task_by_hand():
    axes = panels(draw_episode(HAND, hand_episode(2)))[1]
    found = sorted(drawn_bars(axes), key=lambda b: b[:3])
    colors = {0: to_rgb(GREY), 1: to_rgb(BLUE), 2: to_rgb(ORANGE)}
    assert len(found) == len(FIRST_TASK)
    for (row, start, end, label, face, hatched), bar in zip(found, FIRST_TASK, strict=True):
        assert (row, label) == (bar.device, f"{bar.kind} {bar.place}")
        np.testing.assert_allclose([start, end], [bar.start, bar.end], rtol=1e-9)
        moves = bar.kind == "transfer"
        assert hatched == moves
        # Transfers are lighter: 65 % of the way to white.
        share = 0.35 if moves else 1.0
        np.testing.assert_allclose(face, 1 - share * (1 - np.array(colors[bar.place])))
    np.testing.assert_allclose(deadlines(axes), [(0.6, 0), (0.5, 1), (0.4, 2)])
    np.testing.assert_allclose(marks(axes, "late"), [[0.504, 1]])
    assert marks(axes, "given up") == []
    assert texts(axes) == ["0.495 s", "0.504 s, late", "0.300 s"]
    assert axes.get_title("left") == (
        "Task 1 of 2 of every device, 2 of 2 blocks: 1 late, 0 given up"
    )


def test_a_task_given_up_and_no_task():
    episode = hand_episode(3)
    assert episode.outcomes[2].dropped == 1
    chart, gantt, rounds, battery = panels(draw_episode(HAND, episode))
    # Device 2 computes its first block at home; device 1 sent nothing.
    ((row, start, end, label, *_),) = drawn_bars(gantt)
    assert (row, start, label) == (1, 0.0, "computing 0") and end == pytest.approx(0.1)
    assert marks(gantt, "given up") == [[0.0, 0.0]]
    assert texts(gantt) == ["given up", "0.100 s", "no task"]
    assert "Task 2 of 2" in gantt.get_title("left")
    np.testing.assert_allclose(deadlines(gantt), [(0.6, 0), (0.5, 1)])
    # On the map: a cross on device 1, which is at the top; its link is not drawn, but the
    # share it asked for is counted; it and device 3, without a task, are hollow.
    (cross,) = chart.get_lines()
    np.testing.assert_allclose(np.stack(cross.get_data(), -1), [[0, 1]], atol=1e-12)
    assert not chart.patches
    assert "1.0 + 0" in texts(chart) and "0.0 + 1" in texts(chart)
    devices = chart.collections[1]
    faces = [tuple(c[:3]) for c in devices.get_facecolors()]
    assert faces == [(1, 1, 1), to_rgb(GREY), (1, 1, 1)]
    # The charge, (1 + 2) 0.6 s, is the last part of the third bar of the rounds.
    charged = next(c for c in rounds.containers if c.get_label() == "charged for giving up")
    np.testing.assert_allclose([b.get_height() for b in charged], [0, 0, 1.8], atol=1e-12)
    assert texts(rounds) == ["○1", "×1"]
    median, lowest = battery.get_lines()
    np.testing.assert_allclose(median.get_xdata(), [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(median.get_ydata(), [100, 20, 20, 20])
    np.testing.assert_allclose(lowest.get_ydata(), [100, 20, 20, 20])
    # A failed task stays failed in the next round.
    gantt = panels(draw_episode(HAND, hand_episode(4)))[1]
    assert texts(gantt) == ["given up", "0.300 s", "no task"]


def test_the_map_of_the_last_round():
    chart = panels(draw_episode(HAND, hand_episode(2)))[0]
    assert chart.get_title("left") == "Round 2 of 4, block 2 of 2: links, not places"
    assert [to_rgb(p.get_edgecolor()) for p in chart.patches] == [
        to_rgb(c) for c in (BLUE, ORANGE, ORANGE)
    ]
    assert [p.get_linestyle() for p in chart.patches] == ["--", "-.", "--"]
    assert {"1.0 + 1", "0.0 + 1"} <= set(texts(chart))
    servers, devices = chart.collections
    assert [tuple(c[:3]) for c in devices.get_facecolors()] == [
        to_rgb(c) for c in (BLUE, ORANGE, GREY)
    ]
    # Area 90 + 1500 share of three times the usual load, 3 (3 / 2 + 1); loads 2 and 1.
    np.testing.assert_allclose(servers.get_sizes(), [90 + 1500 * 2 / 7.5, 90 + 1500 / 7.5])


def test_rounds_split_the_latency():
    episode = hand_episode(4)
    rounds = panels(draw_episode(HAND, episode))[2]
    height = {c.get_label(): [b.get_height() for b in c] for c in rounds.containers}
    np.testing.assert_allclose(height["on devices"], [0.1, 0.2, 0.1, 0.2])
    np.testing.assert_allclose(height["on servers"], [0.06, 0.06, 0, 0], atol=1e-12)
    np.testing.assert_allclose(height["transfer"], [0.8, 0.079, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        sum(np.array(h) for h in height.values()), [o.latency_s for o in episode.outcomes]
    )
    (boundary,) = rounds.get_lines()  # between the two tasks
    assert boundary.get_xdata()[0] == 2.5 and rounds.get_xlim() == (0.5, 4.5)


def test_the_title_by_hand():
    episode = hand_episode(4)
    title = draw_episode(HAND, episode).get_suptitle()
    # Late by 0.004 of 0.5 s: 0.5 + 0.5 * 0.008; given up: 0.5 + 0.5 * 2.
    latency, penalty = 0.96 + 0.339 + 1.9 + 0.2, 0.504 + 1.5
    assert title == (
        f"3 devices, 2 servers: 4 of 4 rounds, cost {latency + penalty:.2f} "
        f"(latency {latency:.2f} s, penalties {penalty:.2f}), 4 tasks finished, "
        "1 of them late, 1 given up"
    )
    assert latency + penalty == pytest.approx(-sum(PROBLEM.reward(o) for o in episode.outcomes))


def test_nothing_played():
    figure = draw_episode(HAND, hand_episode(0))
    chart, gantt, rounds, battery = panels(figure)
    assert figure.get_suptitle() == "3 devices, 2 servers: no round yet"
    assert "Round 1 of 4" in chart.get_title("left") and not chart.patches
    assert not gantt.containers and not rounds.containers
    np.testing.assert_allclose(deadlines(gantt), [(0.6, 0), (0.5, 1), (0.4, 2)])
    assert battery.get_lines()[0].get_ydata().tolist() == [100.0]
    assert to_array(figure).shape == (900, 1200, 3)


def test_a_very_late_task_does_not_squeeze_the_others():
    episode = hand_episode(2)
    trace = replace(episode.trace, deadline=np.full((4, 3), 0.1))
    gantt = panels(draw_episode(HAND, replace(episode, trace=trace)))[1]
    right = gantt.get_xlim()[1]
    assert right == pytest.approx(1.05 * 3 * 0.1)  # three deadlines, then lateness counts no more
    assert texts(gantt)[0] == "0.495 s, late"
    assert marks(gantt, "late") == [[right, 0.0], [right, 1.0], [pytest.approx(0.3), 2.0]]


def test_colors_of_places():
    assert place_colors(2) == [to_rgb(c) for c in (GREY, BLUE, ORANGE)]
    assert len(set(place_colors(20))) == 21 and len(place_colors(33)) == 34


def test_no_panel_moves_during_a_film():
    places = [
        [axes.get_position(original=True).bounds for axes in draw_episode(HAND, e).axes]
        for e in map(hand_episode, range(5))
    ]
    assert places == places[:1] * 5


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("small", 13),
        ("campus", 1),
        pytest.param("city", 1, marks=pytest.mark.slow),
        pytest.param("city", 13, marks=pytest.mark.slow),
    ],
)
def test_pictures_of_random_play(name, steps):
    env = MecEnv(DistributedInference(PRESETS[name].make()), render_mode="rgb_array")
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(steps):
        env.step(env.action_space.sample())
    picture = env.render()
    assert picture.shape == (900, 1200, 3)
    # Something is drawn in each of the four panels.
    for left, bottom, width, height in BOXES:
        rows = slice(round(900 * (1 - bottom - height)), round(900 * (1 - bottom)))
        assert picture[rows, round(1200 * left) : round(1200 * (left + width))].std() > 5
