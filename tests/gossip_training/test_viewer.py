"""Pictures of gossip training."""

import dataclasses

import numpy as np
import pytest
from slow import slow_except

from mec_gym.core import arrays
from mec_gym.core.pictures import to_array
from mec_gym.core.problem import Episode
from mec_gym.gossip_training.graphs import edges_of, places
from mec_gym.gossip_training.model import Decision
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario
from mec_gym.gossip_training.viewer import (
    CLOCKS,
    MOST_ROWS,
    accuracy_over_time,
    draw_episode,
    past,
    rows_of,
)

SMALL = Scenario(devices=4, hidden=4, local_steps=1, batch=4, rounds=8, budget_s=30.0)


def play(scenario, decisions, seed=0):
    """An episode of given decisions, each (reduce, edges that are used)."""
    problem = GossipTraining(scenario)
    trace = problem.sample(np.random.default_rng(seed), 1)
    states = [problem.start(arrays.slot_at(trace, 0))]
    made, outcomes = [], []
    for t, (reduce, edges) in enumerate(decisions):
        listen = np.zeros((1, len(scenario.edges)), dtype=bool)
        listen[:, list(edges)] = True
        made.append(Decision(reduce=np.array([reduce]), listen=listen))
        state, outcome = problem.step(arrays.slot_at(trace, t), states[-1], made[-1])
        states.append(state)
        outcomes.append(outcome)
    first = [[arrays.at(record, 0) for record in some] for some in (states, made, outcomes)]
    return Episode(trace=arrays.at(trace, 0), states=first[0], decisions=first[1],
                   outcomes=first[2])  # fmt: skip


def panel(figure, box):
    return next(a for a in figure.axes if np.allclose(a.get_position().bounds, box))


def labelled(axes, label):
    return [artist for artist in axes.get_children() if artist.get_label() == label]


def test_the_past_is_what_was_played():
    episode = play(SMALL, [(False, (0, 3)), (True, (1,)), (False, ())])
    seen = past(SMALL, episode)
    assert seen.rounds == 3 and seen.reduce.tolist() == [False, True, False]
    assert seen.heard.sum(axis=1).tolist() == [2, 0, 0]  # an all-reduce makes the rest meaningless
    assert np.flatnonzero(seen.heard[0]).tolist() == [0, 3]
    for t in range(3):
        np.testing.assert_allclose(
            seen.trained[t], episode.states[t].clock + episode.trace.compute_s[t]
        )
    assert (seen.trained <= seen.clock[1:] + 1e-9).all() and seen.active.all()


def test_who_is_out_of_time_neither_trains_nor_talks():
    episode = play(dataclasses.replace(SMALL, budget_s=1e-3), [(False, (0, 1)), (False, (0, 1))])
    seen = past(dataclasses.replace(SMALL, budget_s=1e-3), episode)
    assert seen.active.all(axis=1).tolist() == [True, False] and not seen.heard[1].any()
    np.testing.assert_array_equal(seen.trained[1], seen.clock[1])


def test_clocks_show_who_listened_to_whom():
    episode = play(SMALL, [(False, (0, 3)), (True, ())])
    axes = panel(draw_episode(SMALL, episode), CLOCKS)
    rows = rows_of(SMALL, episode).tolist()
    (talk,) = labelled(axes, "_talk")
    found = sorted((round(line[0][0], 6), line[0][1], line[1][1]) for line in talk.get_segments())
    expected = []
    for edge in (0, 3):
        listener, speaker = SMALL.edges[edge].tolist()
        when = round(float(episode.states[1].clock[listener]), 6)
        expected.append((when, rows.index(listener), rows.index(speaker)))
    assert found == sorted(expected)
    (together,) = labelled(axes, "_reduce")
    assert together.get_segments()[0][0][0] == pytest.approx(episode.states[2].clock.max())
    (trains,) = labelled(axes, "_train")
    assert len(trains.get_paths()) == 8
    box = trains.get_paths()[0].vertices
    device = rows[round(float(box[:, 1].mean()))]
    assert box[:, 0].max() == pytest.approx(episode.trace.compute_s[0, device], rel=1e-5)


def test_accuracy_by_own_clocks():
    episode = play(SMALL, [(False, (0,)), (False, ())])
    seen = past(SMALL, episode)
    times, accuracy = accuracy_over_time(SMALL, episode, seen)
    assert times[0] == 0 and times[-1] == seen.clock[-1].min()
    for time, row in zip(times[::37], accuracy[::37], strict=True):
        for device in range(4):
            turn = (seen.clock[:, device] <= time).sum() - 1
            assert row[device] == seen.accuracy[turn, device]


def test_the_slowest_and_the_fastest_have_a_row():
    many = dataclasses.replace(SMALL, devices=100, speed_spread=1.0, rounds=2)
    episode = play(many, [])
    rows = rows_of(many, episode)
    usual = np.log(episode.trace.compute_s).mean(axis=0)
    assert len(rows) == len(set(rows.tolist())) == MOST_ROWS
    assert rows[0] == usual.argmin() and rows[-1] == usual.argmax()
    assert (np.diff(usual[rows]) >= 0).all()


@pytest.mark.parametrize("graph", ["complete", "ring", "torus", "geometric", "one-sided"])
@pytest.mark.parametrize("devices", [2, 7, 12])
def test_places_are_apart_and_in_sight(graph, devices):
    place = places(graph, devices)
    assert place.shape == (devices, 2) and (np.abs(place) <= 1 + 1e-9).all()
    apart = np.linalg.norm(place[:, None] - place, axis=-1)[~np.eye(devices, dtype=bool)]
    assert apart.min() > 0.1
    if graph == "geometric":  # those near each other are linked
        linked = {tuple(edge) for edge in edges_of("geometric", devices, 0.6).tolist()}
        for i in range(devices):
            for j in set(range(devices)) - {i}:
                if np.linalg.norm(place[i] - place[j]) <= 0.6:
                    assert (i, j) in linked


CASES = {
    "nothing yet": ({}, []),
    "one round": ({}, [(False, (0,))]),
    "two devices": ({"devices": 2}, [(False, (0,)), (True, ())]),
    "one-sided": ({"graph": "one-sided", "mixing": "push-sum", "overlap": True}, [(False, (1,))]),
    "logits": ({"graph": "torus", "payload": "class-logits"}, [(False, (0, 1))]),
    "to the end": ({"budget_s": 3.0, "rounds": 2}, [(False, (0, 1)), (True, ())]),
    "diverged": ({}, [(True, ())] * 3),
    "many": ({"devices": 60, "graph": "geometric"}, [(False, (0, 1))]),
}


@pytest.mark.parametrize("name", slow_except(CASES, "nothing yet", "to the end", "many"))
def test_everything_can_be_drawn(name):
    fields, decisions = CASES[name]
    scenario = dataclasses.replace(SMALL, **fields)
    episode = play(scenario, decisions)
    if name == "diverged":
        episode.outcomes[-1] = dataclasses.replace(episode.outcomes[-1], diverged=np.array(1.0))
    figure = draw_episode(scenario, episode)
    assert to_array(figure).shape == (900, 1200, 3)
    title = figure.get_suptitle()
    assert title.startswith(f"{scenario.devices} devices")
    if not decisions:
        assert "nothing played yet" in title
    else:
        cost = sum(float(o.error_s) for o in episode.outcomes) / scenario.budget_s
        assert f"\N{MINUS SIGN}{cost:.3f}" in title
        assert ("diverged" in title) is (name == "diverged")
