"""The picture of an episode shows what happened."""

import numpy as np
import pytest

from agents.registry import make_agent
from mec_gym.core.env import MecEnv
from mec_gym.core.pictures import to_array
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario
from mec_gym.early_exit.viewer import draw_episode

SCENARIO = Scenario(horizon=30, arrival_rates=(60.0,))
PROBLEM = EarlyExitPartition(SCENARIO)


def played(steps, name="dads", seed=0):
    env = MecEnv(PROBLEM)
    observation, _ = env.reset(seed=seed)
    agent = make_agent(name, PROBLEM)
    for _ in range(steps):
        observation, *_ = env.step(agent.predict(observation)[0])
    return env.episode


@pytest.mark.parametrize("steps", [0, 1, 30])
def test_any_moment_can_be_drawn(steps):
    figure = draw_episode(SCENARIO, played(steps))
    picture = to_array(figure)
    assert picture.shape == (900, 1100, 3) and picture.std() > 0
    title = figure.get_suptitle()
    assert ("no frame yet" in title) == (steps == 0)
    assert f"{steps} of 30 frames" in title or steps == 0


def test_bars_add_up_to_the_latency():
    episode = played(30)
    figure = draw_episode(SCENARIO, episode)
    bars = {c.get_label(): c for c in figure.axes[1].containers}
    assert list(bars) == ["waiting", "device", "link", "edge"]
    top = np.array([b.get_y() + b.get_height() for b in bars["edge"]])
    latency = np.array([o.latency_s for o in episode.outcomes])
    dropped = np.array([bool(o.dropped) for o in episode.outcomes])
    np.testing.assert_allclose(top[~dropped], 1e3 * latency[~dropped], rtol=1e-9)
    assert (top[dropped] == 0).all()
    cost = -sum(float(PROBLEM.reward(o)) for o in episode.outcomes)
    assert f"cost {cost:.2f}" in figure.get_suptitle()


def test_exits_are_named_with_their_accuracy():
    figure = draw_episode(SCENARIO, played(3))
    labels = [t.get_text() for axes in figure.axes for t in axes.get_yticklabels()]
    final = SCENARIO.graph.exits[-1]
    assert f"{final.name} ({100 * final.accuracy:.1f} %)" in labels
