"""The picture of an episode shows what happened."""

import early_exit.cases as cases
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from slow import slow_except
from stages import simulate

from agents.registry import make_agent
from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import to_array
from mec_gym.early_exit.model import all_done
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario
from mec_gym.early_exit.viewer import COLORS, draw_episode

SCENARIO = Scenario(horizon=30, arrival_rates=(60.0,))
PROBLEM = EarlyExitPartition(SCENARIO)


def played(steps, name="dads", seed=0):
    env = MecEnv(PROBLEM)
    observation, _ = env.reset(seed=seed)
    agent = make_agent(name, PROBLEM)
    for _ in range(steps):
        observation, *_ = env.step(agent.predict(observation)[0])
    return env.episode


@pytest.mark.parametrize("steps", slow_except([0, 1, 30], 30))
def test_any_moment_can_be_drawn(steps):
    figure = draw_episode(SCENARIO, played(steps))
    picture = to_array(figure)
    assert picture.shape == (900, 1100, 3) and picture.std() > 0
    title = figure.get_suptitle()
    assert ("no frame yet" in title) == (steps == 0)
    assert f"{steps} of 30 frames" in title or steps == 0


@pytest.mark.parametrize(("steps", "seen"), [(0, 1), (7, 8), (30, 30)])
def test_the_network_is_drawn_up_to_the_frame_that_comes_next(steps, seen):
    episode = played(steps)
    drawn = [axes for axes in draw_episode(SCENARIO, episode).axes if axes.get_lines()]
    uplink, arrivals = (axes for axes in drawn if axes.get_ylabel() in ("Mbit/s", "frames/s"))
    for axes, values in (
        (uplink, episode.trace.bandwidth / 1e6),
        (arrivals, episode.trace.arrival_rate),
    ):
        (line,) = axes.get_lines()
        np.testing.assert_array_equal(line.get_ydata(), values[:seen])


def test_bars_add_up_to_the_latency():
    episode = played(30)
    figure = draw_episode(SCENARIO, episode)
    bars = {c.get_label(): c for c in figure.axes[1].containers}
    assert list(bars) == ["waiting", "device", "link", "round trip", "edge"]
    top = np.array([b.get_y() + b.get_height() for b in bars["edge"]])
    outcomes = arrays.stack(episode.outcomes)
    dropped = outcomes.dropped
    in_all = outcomes.latency_s[~dropped].sum() + outcomes.delay_caused_s.sum()
    assert top[~dropped].sum() == pytest.approx(1e3 * in_all, rel=1e-9)
    assert (top[~dropped] >= 1e3 * outcomes.latency_s[~dropped] - 1e-9).all()
    assert (top[dropped] == 0).all()
    cost = -sum(float(PROBLEM.reward(o)) for o in episode.outcomes)
    assert f"cost {cost:.2f}" in figure.get_suptitle()


def test_exits_are_named_with_their_accuracy():
    figure = draw_episode(SCENARIO, played(3))
    labels = [t.get_text() for axes in figure.axes for t in axes.get_yticklabels()]
    final = SCENARIO.graph.exits[-1]
    assert f"{final.name} ({100 * final.accuracy:.1f} %)" in labels


# --- on paper, in the hand network


def hand_episode(actions, seed=1):
    problem = EarlyExitPartition(cases.scenario(horizon=6, arrival_rates=(25.0,), timeout_s=0.37))
    env = MecEnv(problem)
    env.reset(seed=seed)
    for action in actions:
        env.step(np.array(action))
    return problem, env.episode


def bars_of(axes):
    return {c.get_label(): [(b.get_y(), b.get_height()) for b in c] for c in axes.containers}


def test_every_bar_is_the_models():
    problem, episode = hand_episode([(1, 4), (0, 2), (1, 0), (1, 6), (1, 6)])
    figure = draw_episode(problem.scenario, episode)
    network, latency, decisions, backlogs = figure.axes[:4]
    outcomes = arrays.stack(episode.outcomes)
    assert outcomes.dropped.any() and not outcomes.dropped.all()
    # Against a simulation of the frames that were started.
    started, trace = np.flatnonzero(~outcomes.dropped), episode.trace
    chosen = arrays.stack(episode.decisions)
    bits = problem.scenario.table.cost[chosen.exit, chosen.partition, 1]
    times, done = simulate(
        *(a[started] for a in (trace.arrival, outcomes.device_s, bits, outcomes.edge_s)),
        outcomes.round_trip_s[started],
        *trace.uplink[0, [0, 2]].tolist(),
    )
    spent = np.zeros((5, 5))
    spent[1:4, started] = np.nan_to_num(times[..., 1] - times[..., 0]).T
    spent[4], spent[3] = spent[3], np.where(outcomes.dropped, 0.0, outcomes.round_trip_s)
    spent[0, started] = done - trace.arrival[started] - spent[1:, started].sum(axis=0)
    bars, bottom = bars_of(latency), np.zeros(5)
    for name, seconds in zip(
        ("waiting", "device", "link", "round trip", "edge"), spent, strict=True
    ):
        np.testing.assert_allclose(bars[name], np.stack([bottom, 1e3 * seconds], -1), atol=1e-9)
        bottom = bottom + 1e3 * seconds
    assert [b.get_x() + b.get_width() / 2 for b in latency.containers[0]] == [1, 2, 3, 4, 5]
    for container in latency.containers:
        assert to_rgb(container[0].get_facecolor()) == to_rgb(COLORS[container.get_label()])
    lines = {line.get_label(): line for line in latency.get_lines()}
    np.testing.assert_allclose(lines["deadline"].get_ydata(), 1e3 * episode.trace.deadline[:5])
    dropped = lines["dropped"]
    assert dropped.get_xdata().tolist() == (np.flatnonzero(outcomes.dropped) + 1).tolist()
    assert set(dropped.get_ydata()) == {370.0}
    # Work on the device of all that the exit needs: 0.12 / 0.16, 0.05 / 0.05, 0, 1, 1.
    share = [b.get_height() for b in decisions.containers[0]]
    np.testing.assert_allclose(share, [0.75, 1, 0, 1, 1], atol=1e-12)
    # The whole trace is known, five frames are played, six fit.
    np.testing.assert_allclose(network.get_lines()[0].get_ydata(), episode.trace.bandwidth / 1e6)
    for axes in (network, latency, decisions, backlogs):
        assert axes.get_xlim() == (0.5, 6.5)
    found = np.stack([line.get_ydata() for line in backlogs.get_lines()], axis=-1)
    # What the stages have to do, as simulated with those that had come before.
    for k in range(5):
        earlier = started[started < k]
        ends = [np.nanmax([trace.arrival[k], *times[: len(earlier), s, 1]]) for s in range(3)]
        assert (found[k] <= 1e3 * (np.array(ends) - trace.arrival[k]) + 1e-9).all()
    states = arrays.stack(episode.states[:5])
    left = np.maximum(all_done(states) - trace.arrival[:5, None], 0.0)
    np.testing.assert_allclose(found, 1e3 * left, atol=1e-9)
    (exits,) = (
        axes
        for axes in figure.axes
        if [line.get_label() for line in axes.get_lines()] == ["exit (right)"]
    )
    assert exits.get_lines()[0].get_ydata().tolist() == [2, 1, 2, 2, 2]
    (battery,) = (axes for axes in figure.axes if axes.get_ylabel() == "battery, %")
    spent = np.cumsum([0.0, *outcomes.energy_j[:4]])
    left = 100 * (1 - spent / problem.scenario.battery)
    assert left[0] > left[-1]
    np.testing.assert_allclose(battery.get_lines()[0].get_ydata(), left)


def test_the_title_by_hand():
    problem, episode = hand_episode([(1, 4), (0, 2), (1, 0), (1, 6), (1, 6)])
    title = draw_episode(problem.scenario, episode).get_suptitle()
    outcomes = arrays.stack(episode.outcomes)
    cost = -sum(cases.reward_of(arrays.as_dict(o)) for o in episode.outcomes)
    right = 100 * outcomes.accuracy[~outcomes.dropped].mean()
    latency = (outcomes.latency_s + outcomes.delay_caused_s).mean()
    late = outcomes.deadline_missed.sum() + outcomes.misses_caused.sum()
    assert title == (
        f"cases: 5 of 6 frames, cost {cost:.2f}, latency {1e3 * latency:.0f} ms, "
        f"{late:.0f} late or dropped, accuracy {right:.1f} % "
        "of those answered"
    )


def test_nothing_answered_and_nothing_played():
    problem = EarlyExitPartition(cases.scenario(horizon=3, battery=1e-6))
    env = MecEnv(problem)
    env.reset(seed=0)
    assert "no frame yet" in draw_episode(problem.scenario, env.episode).get_suptitle()
    for _ in range(3):
        env.step(np.array([1, 3]))
    figure = draw_episode(problem.scenario, env.episode)
    assert "3 late or dropped, accuracy 0.0 % of those answered" in figure.get_suptitle()
    assert to_array(figure).std() > 0
    assert to_array(problem.draw(env.episode)).shape == (900, 1100, 3)
