"""The picture of an episode shows what happened."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import BLUE, GREY, ORANGE, to_array
from mec_gym.core.problem import Episode
from mec_gym.distributed_inference import viewer
from mec_gym.distributed_inference.model import Decision, State
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import (
    PRESETS,
    ConstantChannel,
    RandomNetworks,
    Scenario,
)
from mec_gym.distributed_inference.viewer import Bar, Link, bars, draw_episode, links, place_colors

# --- on paper: three devices, two servers, two blocks, two tasks

HAND = Scenario(
    devices=3,
    servers=2,
    blocks=2,
    tasks=2,
    networks=RandomNetworks(),
    channel=ConstantChannel(),
    battery=0.5,
    energy_coefficient=0.0,
    transmit_power=1.0,
    backhaul=1e9,
)
PROBLEM = DistributedInference(HAND)
# Task 2: device 1 has 0.1 J left of 0.5 J and cannot send for 0.4 s; device 3 has no task.
PLACES = ([1, 1, 0], [1, 2, 0], [2, 0, 0], [2, 0, 0])


def hand_trace():
    first = [[8e6, 4e6, 2e6]] * 3, [[1e9, 2e9]] * 3
    second = [[4e6, 2e6, 0.0]] * 3, [[2e9, 0.0]] * 3
    trace = arrays.at(PROBLEM.sample(np.random.default_rng(0), 1), 0)
    return replace(
        trace,
        bits=np.array([first[0], second[0]] * 2),
        work=np.array([first[1], second[1]] * 2),
        active=np.array([[True, True, True]] * 2 + [[True, True, False]] * 2),
        deadline=np.full((4, 3), [0.6, 0.5, 0.4]),
        uplink=np.full((4, 3, 2), [40e6, 20e6]),
        downlink=np.full((4, 3, 2), [80e6, 40e6]),
        load=np.full((4, 2), [1.0, 0.0]),
        device_rate=np.full((4, 3), 10e9),
        server_rate=np.full((4, 2), 100e9),
    )


def hand_episode(steps):
    trace = hand_trace()
    states, decisions, outcomes = [PROBLEM.start(arrays.at(trace, 0))], [], []
    for t in range(steps):
        decisions.append(Decision(np.array(PLACES[t])))
        state, outcome = PROBLEM.step(arrays.at(trace, t), states[-1], decisions[-1])
        states.append(state)
        outcomes.append(outcome)
    return Episode(trace=trace, states=states, decisions=decisions, outcomes=outcomes)


def rounds_of(episode, *numbers):
    return [viewer.played(HAND, episode, t) for t in numbers]


# Device 1: sends 8 Mbit at half of 40 Mbit/s; 1 GFLOP at a third of 100 GFLOP/s; stays, with
# one other tenant; 2 Mbit back at 80 Mbit/s. Device 2 moves 4 Mbit to server 2, alone there.
FIRST_TASK = [
    Bar("transfer", 0, 1, 0.0, 0.4),
    Bar("computing", 0, 1, 0.4, 0.43),
    Bar("computing", 0, 1, 0.43, 0.47),
    Bar("transfer", 0, 1, 0.47, 0.495),
    Bar("transfer", 1, 1, 0.0, 0.4),
    Bar("computing", 1, 1, 0.4, 0.43),
    Bar("transfer", 1, 2, 0.43, 0.434),
    Bar("computing", 1, 2, 0.434, 0.454),
    Bar("transfer", 1, 2, 0.454, 0.504),
    Bar("computing", 2, 0, 0.0, 0.1),
    Bar("computing", 2, 0, 0.1, 0.3),
]


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


def texts(axes):
    return [t.get_text() for t in axes.texts]


def test_bars_by_hand():
    found = sorted(
        bars(rounds_of(hand_episode(2), 0, 1), HAND), key=lambda b: (b.device, b.start, b.end)
    )
    assert [(b.kind, b.device, b.place) for b in found] == [
        (b.kind, b.device, b.place) for b in FIRST_TASK
    ]
    np.testing.assert_allclose(
        [(b.start, b.end) for b in found], [(b.start, b.end) for b in FIRST_TASK], rtol=1e-9
    )


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
    deadlines = [line for line in axes.get_lines() if line.get_gid() == "deadline"]
    np.testing.assert_allclose([line.get_xdata() for line in deadlines],
                               [[0.6, 0.6], [0.5, 0.5], [0.4, 0.4]])  # fmt: skip
    np.testing.assert_allclose([np.mean(line.get_ydata()) for line in deadlines], [0, 1, 2])
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
    assert len([line for line in gantt.get_lines() if line.get_gid() == "deadline"]) == 2
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
    assert [p.get_gid() for p in chart.patches] == ["download 1", "between servers 2", "download 2"]
    assert [to_rgb(p.get_edgecolor()) for p in chart.patches] == [
        to_rgb(c) for c in (BLUE, ORANGE, ORANGE)
    ]
    assert {"1.0 + 1", "0.0 + 1"} <= set(texts(chart))
    servers, devices = chart.collections
    assert [tuple(c[:3]) for c in devices.get_facecolors()] == [
        to_rgb(c) for c in (BLUE, ORANGE, GREY)
    ]
    # Area 90 + 1500 share of three times the usual load, 3 (3 / 2 + 1); loads 2 and 1.
    np.testing.assert_allclose(servers.get_sizes(), [90 + 1500 * 2 / 7.5, 90 + 1500 / 7.5])


@pytest.mark.parametrize(
    ("before", "place", "last", "expected"),
    [
        (0, 0, False, []),
        (0, 2, False, [Link("upload", 0, 0, 2)]),
        (2, 0, False, [Link("download", 0, 2, 0)]),
        (2, 2, False, [Link("stays", 0, 0, 2)]),
        (1, 2, False, [Link("between servers", 0, 1, 2), Link("stays", 0, 0, 2)]),
        (0, 2, True, [Link("upload", 0, 0, 2), Link("download", 0, 2, 0)]),
        (2, 2, True, [Link("download", 0, 2, 0)]),
        (2, 0, True, [Link("download", 0, 2, 0)]),
    ],
)
def test_links(before, place, last, expected):
    trace = hand_trace()
    state = State(np.array([before, 0, 0]), np.zeros(3), np.zeros(3, bool), np.ones(3), np.array(2))
    decision = Decision(np.array([place, 0, 0]))
    episode = Episode(
        trace=trace, states=[state, state, state], decisions=[decision, decision], outcomes=[]
    )
    (r,) = rounds_of(episode, int(last))
    assert list(links(r, HAND)) == expected


def test_no_result_no_way_back():
    (r,) = rounds_of(hand_episode(2), 1)
    silent = replace(HAND, return_result=False)
    assert [link.kind for link in links(r, silent)] == ["stays", "between servers", "stays"]


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
    (boundary,) = [line for line in rounds.get_lines() if line.get_gid() == "next tasks"]
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
    assert len([line for line in gantt.get_lines() if line.get_gid() == "deadline"]) == 3
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


# --- played at random


@pytest.mark.parametrize("name", ["small", "campus", "city", "patent"])
@pytest.mark.parametrize("steps", [1, 13])
def test_bars_end_at_the_states_delay(name, steps):
    problem = DistributedInference(PRESETS[name].make())
    s = problem.scenario
    env = MecEnv(problem, render_mode="rgb_array")
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(min(steps, s.rounds)):
        env.step(env.action_space.sample())
    episode = env.episode
    done = len(episode.decisions)
    end = np.zeros(s.devices)
    for row, _, stop, *_ in drawn_bars(panels(draw_episode(s, episode))[1]):
        end[row] = max(end[row], stop)
    if done % s.blocks:
        expected = episode.states[-1].delay
    else:  # the state has begun the next task: the last round's own time, from the outcome
        np.testing.assert_array_equal(episode.states[-1].delay, 0.0)
        before = episode.states[-2]
        assert (end >= before.delay - 1e-9).all()
        total = (end - before.delay).sum()
        expected = end
        assert total == pytest.approx(float(episode.outcomes[-1].latency_s))
    np.testing.assert_allclose(end, expected, rtol=1e-6, atol=1e-12)
    picture = env.render()
    assert picture.shape == (900, 1200, 3) and picture.std() > 0
