"""The picture of an episode shows what can be worked out by hand."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from gossip_training import hand
from slow import slow_except

from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import BLACK, new_figure, to_array
from mec_gym.gossip_training import viewer
from mec_gym.gossip_training.graphs import places
from mec_gym.gossip_training.past import past
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario
from mec_gym.gossip_training.viewer import (
    CLOCKS,
    MOST_ROWS,
    TALK_ROUNDS,
    accuracy_over_time,
    draw_episode,
    lanes,
    most_beside,
    routes_of,
    rows_of,
    sight,
    talked,
)

SMALL = Scenario(devices=4, hidden=4, local_steps=1, batch=4, rounds=8, budget_s=30.0)
FOUR = hand.scenario()
BY_SPEED = [0, 2, 1, 3]  # A, C, B, D


def random_episode(scenario, steps, seed=3):
    env = MecEnv(GossipTraining(scenario))
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        if env.step(env.action_space.sample())[2]:
            break
    return env.episode


def panel(draw, *given):
    """One panel alone, which takes much less time than the whole figure."""
    axes = new_figure(12, 9).add_axes(CLOCKS)
    draw(axes, *given)
    return axes


def clocks(scenario, episode):
    return panel(viewer.draw_clocks, scenario, past(scenario, episode), rows_of(scenario, episode))


def talk(scenario, episode):
    return panel(viewer.draw_talk, scenario, past(scenario, episode), rows_of(scenario, episode))


def boxes(axes, label):
    """(row, left, right) of every box with this label, sorted."""
    found = []
    for collection in axes.collections:
        if collection.get_label() == label:
            for path in collection.get_paths():
                (left, low), (right, high) = path.vertices.min(axis=0), path.vertices.max(axis=0)
                found.append(((low + high) / 2, left, right))
    return sorted(found)


def lines(axes, label):
    """The points of every line with this label."""
    return [
        np.asarray(segment)
        for collection in axes.collections
        if collection.get_label() == label
        for segment in collection.get_segments()
    ]


def test_clocks_by_hand():
    axes = clocks(FOUR, hand.episode(FOUR, "AB CB", ""))
    trains = [(0, 0, 2), (0, 9, 11), (1, 0, 3), (1, 9, 12), (2, 0, 5), (2, 5, 10), (3, 0, 11)]
    np.testing.assert_allclose(boxes(axes, "_train"), [*trains, (3, 11, 22)])
    # What has not been covered by training is waiting: A from 2 to 9, C from 3 to 9.
    waits = [(0, 0, 11), (1, 0, 12), (2, 0, 10), (3, 0, 22)]
    np.testing.assert_allclose(boxes(axes, "_wait"), waits)
    assert [t.get_text() for t in axes.get_yticklabels()] == [str(i) for i in BY_SPEED]
    assert axes.yaxis_inverted() and axes.get_ylabel() == "device, the fastest one on top"


def test_all_reduces_cross_all_rows():
    episode = hand.episode(FOUR, "", hand.ALL, "")
    (line,) = lines(clocks(FOUR, episode), "_reduce")
    when = 22 + 1.5 * 8e6 / 2e6  # D has trained twice; 2 (N - 1) / N at the rate of C
    np.testing.assert_allclose(line, [[when, 3.6], [when, -0.6]])
    (line,) = lines(talk(FOUR, episode), "_reduce")
    np.testing.assert_allclose(line, [[0, 3.6], [0, -0.6]])


def test_who_listened_to_whom():
    axes = talk(FOUR, hand.episode(FOUR, "AB BA CD", "", "DA"))
    joined = sorted((round(x), low, high) for (x, low), (_, high) in lines(axes, "_talk"))
    # A, C, B, D are rows 0, 1, 2, 3. A pair that listens to each other has one line.
    assert joined == [(0, 0, 2), (0, 1, 3), (1, 0, 3)]
    dots = [
        (round(x), y)
        for line in axes.get_lines()
        if line.get_label() == "_listener"
        for x, y in zip(*line.get_data(), strict=True)
    ]
    assert sorted(dots) == [(0, 0), (0, 1), (0, 2), (1, 3)]
    names = [t.get_text() for t in axes.get_xticklabels()]
    assert names[:2] == ["1", "3"] and not "".join(names[2:]).strip()  # nobody talked in round 2


def test_only_the_last_rounds_with_talk():
    axes = talk(FOUR, hand.episode(FOUR, *["AB"] * 9, ""))
    names = [t.get_text() for t in axes.get_xticklabels()]
    assert names == [str(turn) for turn in range(2, 10)] and len(names) == TALK_ROUNDS


def test_very_many_lines_are_thinned_out():
    s = replace(SMALL, devices=40, graph="complete", payload="class-logits", rounds=1)
    env = MecEnv(GossipTraining(s))
    env.reset(seed=1)
    env.step(np.array([0] + [1] * len(s.edges)))
    axes = talk(s, env.episode)
    drawn = lines(axes, "_talk")
    assert most_beside(np.array(list(itertools.combinations(range(40), 2)))) == 419
    assert 780 / 8 < len(drawn) <= 780 / 7 + 1  # 419 / 60 is between 6 and 7
    assert len({round(line[0, 0], 6) for line in drawn}) <= viewer.MOST_LANES + 20
    assert not axes.get_lines()  # no dots


def test_lanes_do_not_touch_and_are_few():
    rng = np.random.default_rng(2)
    for _ in range(50):
        pairs = np.sort(rng.integers(0, 12, size=(15, 2)), axis=-1)
        lane = lanes(pairs)
        for one, two in itertools.combinations(range(15), 2):
            if lane[one] == lane[two]:
                first, second = sorted([pairs[one].tolist(), pairs[two].tolist()])
                assert first[1] < second[0]
        busiest = max(((pairs[:, 0] <= p) & (p <= pairs[:, 1])).sum() for p in range(12))
        assert lane.max() + 1 == busiest == most_beside(pairs)
    assert lanes(np.zeros((0, 2), dtype=np.int64)).shape == (0,)
    assert most_beside(np.zeros((0, 2), dtype=np.int64)) == 1


def test_devices_that_are_behind_are_in_sight():
    s = hand.scenario(budget_s=2000.0, rounds=100)
    episode = hand.episode(s, *[""] * 60)
    begin, end = sight(s, past(s, episode))
    assert end == 660  # D
    assert 0 < begin < 2 * (60 - 4)  # A was there four rounds ago
    start = past(s, hand.episode(s))
    assert sight(s, start) == (0.0, 10 * (s.usual_s + 8e6 / s.rate))


def test_neighbours_stand_beside_each_other():
    ring = replace(SMALL, speed_spread=1.0)
    episode = random_episode(ring, 0)
    assert rows_of(ring, episode).tolist() == [0, 1, 2, 3]
    assert rows_of(FOUR, hand.episode(FOUR)).tolist() == BY_SPEED


def test_the_slowest_and_the_fastest_have_a_row():
    many = replace(SMALL, devices=140, graph="complete", speed_spread=1.0, rounds=2)
    episode = random_episode(many, 0)
    rows = rows_of(many, episode)
    usual = np.log(episode.trace.compute_s).mean(axis=0)
    assert len(rows) == len(set(rows.tolist())) == MOST_ROWS
    assert rows[0] == usual.argmin() and rows[-1] == usual.argmax()
    assert (np.diff(usual[rows]) >= 0).all()
    assert f"{MOST_ROWS} of 140 devices" in clocks(many, episode).get_title(loc="left")


def test_how_often_pairs_have_talked():
    seen = past(FOUR, hand.episode(FOUR, "AB BA", "AB CD", hand.ALL, ""))
    pairs, share = talked(FOUR, seen)
    found = {tuple(pair): times for pair, times in zip(pairs.tolist(), share, strict=True)}
    assert found.pop((0, 1)) == 3 / 8 and found.pop((2, 3)) == 1 / 8
    assert set(found.values()) == {0.0} and len(found) == 4
    axes = panel(viewer.draw_graph, FOUR, seen)
    place, widths = places("complete", 4), {}
    for collection in axes.collections:
        if collection.get_label() == "_used":
            for way, width in zip(
                collection.get_segments(), collection.get_linewidths(), strict=True
            ):
                ends = [int(np.abs(place - end).sum(axis=1).argmin()) for end in way]
                widths[tuple(ends)] = width
    assert set(widths) == {(0, 1), (2, 3)} and widths[0, 1] > 1.5 * widths[2, 3]
    assert len(lines(axes, "_unused")) == 4
    written = [text.get_text() for text in axes.texts]
    assert "the darkest talked in 38% of all rounds\nall averaged in 25% of all rounds" in written
    assert {"0", "1", "2", "3"} <= set(written)


def test_arrows_lead_to_listeners():
    s = hand.scenario(graph="one-sided")
    axes = panel(viewer.draw_graph, s, past(s, hand.episode(s, "CB")))
    (heads,) = [c for c in axes.collections if c.get_label() == "_heads"]
    dark = [i for i, c in enumerate(heads.get_facecolors()) if np.allclose(c[:3], 0x22 / 0xFF)]
    assert BLACK == "#222222" and s.edges[dark].tolist() == [[2, 1]]
    place = places("one-sided", 4)
    for path, (listener, speaker) in zip(heads.get_paths(), s.edges, strict=True):
        tip, foot = path.vertices[0], path.vertices[1:3].mean(axis=0)
        assert (tip - foot) @ (place[listener] - place[speaker]) > 0


@pytest.mark.parametrize("devices", [9, 20, 36])
def test_no_line_of_a_torus_leads_through_others(devices):
    s = replace(SMALL, devices=devices, graph="torus")
    place = places("torus", devices)
    pairs, _ = talked(s, past(s, random_episode(s, 0)))
    routes = routes_of(s, place, pairs)
    np.testing.assert_allclose(routes[:, [0, -1]], place[pairs])
    spacing = np.linalg.norm(place[0] - place[1])
    for route, pair in zip(routes, pairs, strict=True):
        others = np.delete(place, pair, axis=0)
        assert np.linalg.norm(route[:, None] - others, axis=-1).min() > 0.2 * spacing
    assert np.abs(routes).max() <= 1 + 1e-9


def test_accuracy_by_own_clocks():
    episode = random_episode(SMALL, 2)
    seen = past(SMALL, episode)
    times, accuracy = accuracy_over_time(SMALL, seen, over=False)
    assert times[0] == 0 and times[-1] == seen.clock[-1].min()
    for time, row in zip(times[::37], accuracy[::37], strict=True):
        for device in range(4):
            turn = (seen.clock[:, device] <= time).sum() - 1
            assert row[device] == seen.accuracy[turn, device]
    axes = panel(viewer.draw_accuracy, SMALL, episode, seen)
    for device, way in enumerate(lines(axes, "_devices")):  # each goes on to where its clock is
        assert way[-1].tolist() == [seen.clock[-1, device], seen.accuracy[-1, device]]


def test_what_is_charged_is_minus_the_return():
    episode = random_episode(SMALL, 99)
    assert bool(episode.states[-1].over)
    times, accuracy = accuracy_over_time(SMALL, past(SMALL, episode), over=True)
    assert times[-1] == SMALL.budget_s
    cost = sum(float(outcome.error_s) for outcome in episode.outcomes) / SMALL.budget_s
    assert 1 - accuracy.mean() == pytest.approx(cost, abs=0.005)


def stairs(axes, label):
    (patch,) = [p for p in axes.patches if p.get_label() == label]
    values, edges, _ = patch.get_data()
    return values, edges


def test_times_and_megabytes_per_round():
    episode = hand.episode(FOUR, "AB CB", hand.ALL, "")
    seen = past(FOUR, episode)
    share, edges = stairs(panel(viewer.draw_times, seen), "_train")
    # All train 21 s per round. At first A waits for 7 s, and C for 6 s.
    together = 22 - 11 + 11 + 6 - np.array([9, 5, 9, 11])
    np.testing.assert_allclose(share, [21 / 34, 21 / together.sum(), 1.0])
    assert edges.tolist() == [0.5, 1.5, 2.5, 3.5]
    sent, _ = stairs(panel(viewer.draw_sent, episode), "_sent")
    np.testing.assert_allclose(sent, [2, 6, 0])  # 2 models; 2 (N - 1) of them; none; each 1 MB


def test_many_rounds_share_bars():
    episode = hand.episode(FOUR, *["AB", ""] * 80)
    sent, edges = stairs(panel(viewer.draw_sent, episode), "_sent")
    assert len(sent) == viewer.MOST_BARS and edges[-1] == len(episode.outcomes) + 0.5
    total = sum(float(outcome.sent_bits) for outcome in episode.outcomes) / 8e6
    assert sent @ np.diff(edges) == pytest.approx(total)


CASES = {
    "nothing yet": ({}, 0),
    "one round": ({}, 1),
    "two devices": ({"devices": 2}, 2),
    "one-sided": ({"graph": "one-sided", "mixing": "push-sum", "overlap": True}, 2),
    "logits": ({"graph": "torus", "payload": "class-logits"}, 2),
    "to the end": ({"budget_s": 3.0, "rounds": 2}, 2),
    "diverged": ({}, 3),
    "many": ({"devices": 100, "graph": "geometric", "radius": 0.2}, 1),
}


@pytest.mark.parametrize("name", slow_except(CASES, "nothing yet", "to the end"))
def test_everything_can_be_drawn(name):
    fields, steps = CASES[name]
    scenario = replace(SMALL, **fields)
    episode = random_episode(scenario, steps)
    if name == "diverged":
        episode.outcomes[-1] = replace(episode.outcomes[-1], diverged=np.array(1.0))
    figure = draw_episode(scenario, episode)
    assert to_array(figure).shape == (900, 1200, 3)
    title = figure.get_suptitle()
    assert title.startswith(f"{scenario.devices} devices, {scenario.mixing} mixing")
    if not steps:
        assert "nothing played yet" in title
    else:
        cost = sum(float(o.error_s) for o in episode.outcomes) / scenario.budget_s
        assert f"\N{MINUS SIGN}{cost:.3f}" in title
        assert ("diverged" in title) is (name == "diverged")


def tick_labels(axis):
    """Those of an axis that are in sight."""
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
    return [label for place, label in ticks if low <= place <= high]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nothing yet", "two devices", "one-sided", "many"])
def test_no_text_lies_on_another(name):
    fields, steps = CASES[name]
    scenario = replace(SMALL, **fields)
    figure = draw_episode(scenario, random_episode(scenario, steps))
    to_array(figure)
    texts = [figure._suptitle]
    for axes in figure.axes:
        texts += [*axes.texts, axes._left_title]
        texts += axes.get_legend().get_texts() if axes.get_legend() else []
        if axes.axison:
            for axis in (axes.xaxis, axes.yaxis):
                texts += [axis.label, *tick_labels(axis)]
    extents = [text.get_window_extent() for text in texts if text.get_text().strip()]
    assert len(extents) > 30
    for one, two in itertools.combinations(extents, 2):
        assert not one.padded(-1).overlaps(two.padded(-1)), (one, two)
    for one in extents:
        assert one.x0 >= 0 and one.x1 <= 1200 and one.y0 >= 0 and one.y1 <= 900
