"""The picture of an episode shows what can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from federated_training import hand

from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import new_figure, to_array
from mec_gym.core.problem import Episode
from mec_gym.federated_training import PRESETS, FederatedTraining, Scenario, viewer
from mec_gym.federated_training.model import Decision
from mec_gym.federated_training.viewer import (
    ACCURACY,
    CLASSES,
    HEIGHT,
    IMAGES,
    TAKEN,
    TIMELINE,
    accuracy_over_time,
    class_groups,
    draw_episode,
    look,
)

SMALL = Scenario(clients=5, at_once=3, quorum=2, hidden=4, local_steps=2, batch=4, budget_s=300.0)


def hand_episode(scenario, asked, **world):
    """The episode after decisions such as "AB": who is to be sent off."""
    problem, slot = FederatedTraining(scenario), hand.slot(scenario, **world)
    states, decisions, outcomes = [problem.start(slot)], [], []
    for letters in asked:
        score = np.array([1.0 if c in letters else -1.0 for c in "ABCD"[: scenario.clients]])
        decisions.append(Decision(score=score, effort=np.zeros(0)))
        state, outcome = problem.step(slot, states[-1], decisions[-1])
        states.append(state)
        outcomes.append(outcome)
    trace = arrays.map_arrays(lambda field: np.asarray(field)[None], slot)
    return Episode(trace=trace, states=states, decisions=decisions, outcomes=outcomes)


def random_episode(scenario, steps, seed=3):
    env = MecEnv(FederatedTraining(scenario))
    env.reset(seed=seed)
    env.action_space.seed(seed)
    for _ in range(steps):
        if env.step(env.action_space.sample())[2]:
            break
    return env.episode


def panel(draw, scenario, episode):
    """One panel alone, which takes much less time than the whole figure."""
    axes = new_figure(12, 9).add_axes(TIMELINE)
    draw(axes, scenario, episode, look(scenario, episode))
    return axes


def timeline(scenario, episode):
    return panel(viewer.draw_timeline, scenario, episode)


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
    """The ends of every line with this label."""
    (collection,) = [c for c in axes.collections if c.get_label() == label]
    return [np.asarray(segment) for segment in collection.get_segments()]


def marks(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return sorted(zip(*line.get_data(), strict=True))


def labels(ticks):
    return [t.get_text() for t in ticks]


def until_25(clients):
    """A leaves at 25 s for good."""
    present = np.ones((clients, 40), dtype=bool)
    present[0, 5:] = False
    return present


LATE = hand.scenario(2, quorum=1)


def test_who_trains_when():
    # A's first job arrives at 14.5 s and is merged at once. Its second one begins at 14.55 s and
    # is lost when A leaves; B's arrives at 26 s, when one merge has passed since it began.
    axes = timeline(LATE, hand_episode(LATE, ["AB", "A"], present=until_25(2)))
    for label, expected in {
        "_download": [(0, 0, 0.5), (0, 14.55, 15.05), (1, 0, 1)],
        "_compute": [(0, 0.5, 12.5), (0, 15.05, 25), (1, 1, 25)],
        "_upload": [(0, 12.5, 14.5), (1, 25, 26)],
        "_absent": [(0, 25, 26.05)],
    }.items():
        np.testing.assert_allclose(boxes(axes, label), expected, err_msg=label)
    assert marks(axes, "_lost") == [(25.0, 0)] and marks(axes, "_dropped") == []
    np.testing.assert_allclose([line[0, 0] for line in lines(axes, "_merges")], [14.5, 26.0])
    (stale,) = lines(axes, "_stale")
    np.testing.assert_allclose(stale, [[0, 1 + HEIGHT / 2], [26, 1 + HEIGHT / 2]])
    (number,) = axes.texts
    assert number.get_text() == "1" and number.get_position() == pytest.approx((13.0, 1))
    assert labels(axes.get_yticklabels()) == ["0", "1"]
    assert axes.yaxis_inverted()  # so the faster one is on top
    assert axes.get_xlim() == (0.0, 200.0)


def test_what_is_on_its_way_is_drawn_up_to_now():
    axes = timeline(LATE, hand_episode(LATE, ["AB"]))
    np.testing.assert_allclose(boxes(axes, "_compute"), [(0, 0.5, 12.5), (1, 1, 14.55)])
    np.testing.assert_allclose(boxes(axes, "_upload"), [(0, 12.5, 14.5)])
    assert boxes(axes, "_absent") == [] and marks(axes, "_lost") == []


@pytest.mark.parametrize("changed", [{"late": "drop", "deadline": 20.0}, {"budget_s": 20.0}])
def test_what_comes_too_late_is_dropped(changed):
    scenario = hand.scenario(2, **changed)
    episode = hand_episode(scenario, ["AB"])
    axes = timeline(scenario, episode)
    np.testing.assert_allclose(boxes(axes, "_compute"), [(0, 0.5, 12.5), (1, 1, 20)])
    # Both wait for each other, so with the short budget A's update comes too late as well.
    late = [(20.0, 1)] if "late" in changed else [(14.5, 0), (20.0, 1)]
    assert marks(axes, "_dropped") == late
    taken = new_figure(3, 9).add_axes(TAKEN)
    viewer.draw_taken(taken, scenario, look(scenario, episode))
    in_vain = [(1, 0, 1)] if "late" in changed else [(0, 0, 1), (1, 0, 1)]
    assert [b for b in boxes(taken, "_dropped") if b[1] < b[2]] == in_vain
    assert [b for b in boxes(taken, "_merged") if b[1] < b[2]] == [(0, 0, 1)][: 2 - len(late)]


def test_rows_begin_with_the_fastest():
    # A job takes 14.5, 26, 8 and 50.5 s.
    scenario = hand.scenario(4)
    episode = hand_episode(scenario, [])
    assert look(scenario, episode).rows.tolist() == [2, 0, 1, 3]
    np.testing.assert_allclose(viewer.usual_seconds(scenario, episode), hand.SECONDS)
    assert labels(timeline(scenario, episode).get_yticklabels()) == ["2", "0", "1", "3"]


def test_how_often_and_on_what():
    scenario = hand.scenario(4, quorum=1)
    episode = hand_episode(scenario, ["ABCD", "C", "C"])
    sight = look(scenario, episode)
    taken, images = (new_figure(3, 9).add_axes(place) for place in (TAKEN, IMAGES))
    viewer.draw_taken(taken, scenario, sight)
    # C arrives at 8 s and, sent off at 8.05 s, at 16.05 s, when A has arrived at 14.5 s.
    widths = {row: right - left for row, left, right in boxes(taken, "_merged")}
    assert widths == {0: 2, 1: 1, 2: 0, 3: 0}
    viewer.draw_images(images, scenario, episode, sight)
    own, learn = episode.trace.own[0], scenario.data.learn.labels
    for row, client in enumerate([2, 0, 1, 3]):
        held = np.bincount(learn[own[client, : hand.SAMPLES[client]]], minlength=10)
        edges = np.concatenate([[0], np.cumsum(held)])
        for c in range(10):
            (box,) = [b for b in boxes(images, f"_{c}") if b[0] == row]
            assert box[1:] == pytest.approx(tuple(edges[c : c + 2]))


def test_images_that_are_not_known_yet_are_not_shown():
    scenario = hand.scenario(2, growth_s=100.0, growth_from=0.2)
    axes = panel(viewer.draw_images, scenario, hand_episode(scenario, ["AB"]))
    # At 26.05 s a client knows 0.2 + 0.8 * 0.2605 of its 30 and 10 images, rounded up.
    last = {row: right for row, _, right in boxes(axes, "_9")}
    assert last == pytest.approx({0: 13, 1: 5})


@pytest.mark.parametrize(
    "changed",
    [{}, {"drift_s": 70.0}, {"decisions": 6}, {"drift_s": 70.0, "decisions": 6}],
    ids=str,
)
def test_the_area_above_accuracy_is_what_is_charged(changed):
    scenario = replace(SMALL, **changed)
    for steps in (3, 99):
        episode = random_episode(scenario, steps)
        times, accuracy = accuracy_over_time(scenario, episode)
        charged = sum(float(outcome.cost_s) for outcome in episode.outcomes)
        assert ((1.0 - accuracy[:-1]) * np.diff(times)).sum() == pytest.approx(charged)
        over = bool(episode.states[-1].over)
        assert over == (steps == 99)
        assert times[-1] == (300.0 if over else episode.states[-1].clock)


def test_accuracy():
    episode = random_episode(SMALL, 99)
    axes = panel(viewer.draw_accuracy, SMALL, episode)
    (curve,) = [line for line in axes.get_lines() if line.get_label() == "_accuracy"]
    np.testing.assert_array_equal(curve.get_data(), accuracy_over_time(SMALL, episode))
    assert curve.get_drawstyle() == "steps-post"
    assert marks(axes, "_test") == [(300.0, episode.outcomes[-1].test_accuracy)]
    assert axes.get_xlim() == (0.0, 300.0) and axes.get_ylim() == (0.0, 1.0)
    unfinished = panel(viewer.draw_accuracy, LATE, hand_episode(LATE, ["AB"]))
    assert [line.get_label() for line in unfinished.get_lines()] == ["_accuracy"]
    # The timeline shows the whole budget, so nothing says which part it shows.
    assert [c.get_label() for c in unfinished.collections] == ["_error"]


def test_time_until_a_target_is_charged():
    scenario = replace(SMALL, goal="target", target=0.05)
    episode = random_episode(scenario, 99)
    times, _ = accuracy_over_time(scenario, episode)
    assert times[-1] == episode.states[-1].clock < 300.0  # the target has been reached
    axes = panel(viewer.draw_accuracy, scenario, episode)
    (target,) = [line for line in axes.get_lines() if line.get_label() == "_target"]
    assert set(target.get_ydata()) == {0.05}
    assert not [c for c in axes.collections if c.get_label() == "_error"]
    never = replace(scenario, target=1.0)
    times, _ = accuracy_over_time(never, random_episode(never, 99))
    assert times[-1] == 300.0


def test_a_model_that_has_diverged_counts_as_wrong():
    scenario = replace(SMALL, rate=50.0, server_rate=100.0, merge="mix", speed=4e11, budget_s=900.0)
    episode = random_episode(scenario, 99)
    assert episode.outcomes[-1].diverged
    times, accuracy = accuracy_over_time(scenario, episode)
    assert times[-1] == 900.0 > times[-2] and accuracy[-1] == 0.0
    charged = sum(float(outcome.cost_s) for outcome in episode.outcomes)
    assert ((1.0 - accuracy[:-1]) * np.diff(times)).sum() == pytest.approx(charged)


def test_what_the_model_gets_right():
    scenario = hand.scenario(2, merge_weights="equal")
    episode = hand_episode(scenario, ["A", "AB"])
    axes = panel(viewer.draw_classes, scenario, episode)
    (bars, pale) = axes.containers
    np.testing.assert_allclose([b.get_height() for b in bars], episode.states[-1].recall)
    assert len(pale) == 0
    # A was merged twice, B once.
    own, learn = episode.trace.own[0], scenario.data.learn.labels
    held = [
        np.bincount(learn[own[i, :count]], minlength=10) / count for i, count in ((0, 30), (1, 10))
    ]
    share = (2 * held[0] + held[1]) / 3
    assert labels(axes.get_xticklabels()) == [f"{c}\n{share[c]:.0%}" for c in range(10)]


def test_classes_that_are_not_asked_for_are_pale():
    scenario = replace(SMALL, drift_s=100.0, drift_classes=3)
    episode = random_episode(scenario, 1)
    bars, pale = panel(viewer.draw_classes, scenario, episode).containers
    asked = episode.trace.demand[0, int(episode.states[-1].clock // 20.0)] > 0
    assert asked.sum() == 3
    for container, classes in ((bars, asked), (pale, ~asked)):
        middles = [b.get_x() + b.get_width() / 2 for b in container]
        np.testing.assert_allclose(middles, np.flatnonzero(classes))
    assert {b.get_alpha() for b in pale} == {0.3}


def test_many_classes_share_a_colour(tmp_path):
    rng, count = np.random.default_rng(0), 3 * np.arange(15) + 12  # the last class is commonest
    labels_ = np.repeat(np.arange(15), count)
    np.savez(tmp_path / "own.npz", images=rng.random((len(labels_), 4)), labels=labels_)
    scenario = replace(SMALL, images=str(tmp_path / "own.npz"))
    groups = class_groups(scenario)
    assert [name for name, _, _ in groups] == [*map(str, range(6, 15)), "others"]
    assert groups[-1][2] == list(range(6))
    episode = random_episode(scenario, 2)
    images = panel(viewer.draw_images, scenario, episode)
    right = {row: end for row, _, end in boxes(images, "_others")}
    samples = episode.trace.samples[0][look(scenario, episode).rows]
    assert list(right.values()) == pytest.approx(samples.tolist())
    shown, _ = panel(viewer.draw_classes, scenario, episode).containers
    assert len(shown) == 9


def test_the_last_minutes_are_in_sight():
    scenario = hand.scenario(2, quorum=2, budget_s=2000.0)
    usual = 24.0 + 0.5 + 2.0  # of a client of median rates
    episode = hand_episode(scenario, ["AB"] * 20)  # each takes 26.05 s
    sight = look(scenario, episode)
    assert (sight.begin, sight.end) == pytest.approx((20 * 26.05 - 18 * usual, 20 * 26.05))
    axes = timeline(scenario, episode)
    assert axes.get_xlim() == pytest.approx((sight.begin, sight.end))
    begins = np.arange(20) * 26.05
    np.testing.assert_allclose(
        [b[1] for b in boxes(axes, "_download") if b[0] == 1],
        begins[begins + 26.0 > sight.begin],
    )
    times = panel(viewer.draw_accuracy, scenario, episode)
    (line,) = lines(times, "_sight")
    np.testing.assert_allclose(line, [[sight.begin, 0], [sight.end, 0]])


def test_the_busiest_of_many_clients_are_in_sight():
    scenario = replace(SMALL, clients=80, at_once=8)
    episode = random_episode(scenario, 12)
    sight = look(scenario, episode)
    assert len(sight.rows) == 60
    taken = episode.states[-1].taken  # all of the episode is in sight
    assert set(np.flatnonzero(taken)) <= set(sight.rows.tolist())
    seconds = viewer.usual_seconds(scenario, episode)[sight.rows]
    assert (np.diff(seconds) >= 0).all()
    axes = timeline(scenario, episode)
    assert axes.get_title("left") == "Who trains when (60 of 80 clients)"
    assert len(axes.get_yticks()) == 30


def test_nothing_played():
    episode = hand_episode(LATE, [])
    figure = draw_episode(LATE, episode)
    assert figure.get_suptitle() == (
        "2 clients, 2 at once, 1 to merge, late ones kept: nothing played yet"
    )
    axes = figure.axes[0]
    assert labels(axes.texts) == ["nobody has been sent off yet"]
    assert not boxes(axes, "_download") and not boxes(figure.axes[2], "_lost")[2:]
    assert labels(figure.axes[4].get_xticklabels()) == [str(c) for c in range(10)]


def test_the_title_counts():
    scenario = hand.scenario(2, late="drop", deadline=20.0)
    episode = hand_episode(scenario, ["AB", "A"])
    charged = sum(float(outcome.cost_s) for outcome in episode.outcomes) / 200.0
    accuracy = episode.outcomes[-1].accuracy
    sight = look(scenario, episode)
    assert viewer._title(scenario, episode, sight) == (
        "2 clients, 2 at once, 2 to merge or 20 s, late ones dropped: 2 merges in 35 of 200 s, "
        f"accuracy {accuracy:.3f}, return \N{MINUS SIGN}{charged:.3f}"
    )


@pytest.mark.slow
def test_no_panel_moves_during_a_film():
    episodes = [hand_episode(LATE, ["AB", "A", "B", "AB"][:steps]) for steps in range(5)]
    places = [
        [axes.get_position(original=True).bounds for axes in draw_episode(LATE, e).axes]
        for e in episodes
    ]
    assert places == places[:1] * 5 and len(places[0]) == 5


def check_that_something_is_drawn(picture):
    assert picture.shape == (900, 1200, 3)
    for left, bottom, width, height in (TIMELINE, IMAGES, TAKEN, ACCURACY, CLASSES):
        down = slice(round(900 * (1 - bottom - height)), round(900 * (1 - bottom)))
        assert picture[down, round(1200 * left) : round(1200 * (left + width))].std() > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_pictures_of_random_play(name):
    scenario = replace(PRESETS[name].make(), local_steps=1, hidden=4)
    check_that_something_is_drawn(to_array(draw_episode(scenario, random_episode(scenario, 30))))


@pytest.mark.slow
def test_a_large_picture():
    scenario = Scenario(clients=200, at_once=50, quorum=10, local_steps=1, hidden=4, late="drop")
    check_that_something_is_drawn(to_array(draw_episode(scenario, random_episode(scenario, 100))))
