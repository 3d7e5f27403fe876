"""Pictures of comparisons and of decisions show the numbers that they are of."""

from dataclasses import replace

import numpy as np
import pytest
from places_problem import PlacesProblem

from agents.registry import make_agent
from mec_gym.core.online import OnlineBound
from mec_gym.core.policies import UniformPolicy
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.registration import make_problem
from train.evaluation.evaluate import results_of
from train.evaluation.pictures import comparison_figure, decisions_figure

PROBLEM = PlacesProblem()
TRACE = sample_episodes(PROBLEM, 0, 20)
AGENTS = {f"agent {n}": UniformPolicy(PROBLEM, n) for n in range(3)}


@pytest.mark.parametrize("bound", [PROBLEM.bound(TRACE), None], ids=["bound", "none"])
def test_a_bar_and_a_line_for_every_agent(bound):
    results = list(results_of(AGENTS, PROBLEM, TRACE, bound))
    figure = comparison_figure(results, bound, "a title")
    bars, shares = figure.axes
    widths = [bar.get_width() for bar in bars.patches]
    if bound is None:
        assert "best" in bars.get_xlabel() and "gap" not in bars.get_xlabel()
        best = np.max([result.rollout.returns for result in results], axis=0).mean()
        assert widths == pytest.approx([best - result.return_mean for result in results])
        assert min(widths) > 0.0  # nobody is the best in every episode
    else:
        assert "gap to the bound, %" in bars.get_xlabel()
        assert widths == pytest.approx([result.gap_percent_mean for result in results])
    assert [label.get_text() for label in bars.get_yticklabels()] == list(AGENTS)
    assert len(shares.lines) == 3 and figure.get_suptitle() == "a title"
    for line in shares.lines:
        assert line.get_ydata()[-1] == 1.0 and (np.diff(line.get_xdata()) >= 0).all()


def test_a_pale_bar_for_every_online_gap():
    """It is the gap of what can be expected, and who foresees the episodes has none."""
    bound = PROBLEM.bound(TRACE)
    online = OnlineBound(mean=-2.0, se=0.1, luck=lambda trace, outcomes: bound - bound.mean())
    first, seer, last = results_of(AGENTS, PROBLEM, TRACE, bound, online)
    results = [first, replace(seer, online=None), last]
    bars, _ = comparison_figure(results, bound, "").axes
    widths = [bar.get_width() for bar in bars.patches]
    assert widths[:3] == pytest.approx([result.gap_percent_mean for result in results])
    assert widths[3:] == pytest.approx([first.online.gap_percent, last.online.gap_percent])
    middles = [bar.get_y() + bar.get_height() / 2 for bar in bars.patches]
    assert middles == pytest.approx([2.2, 1.2, 0.2, 1.8, -0.2])
    labels = [text.get_text() for text in bars.get_legend().get_texts()]
    assert "return, to the bound" in labels and "to the online bound" in labels[1]
    # A return that is missing to the best known is no gap, so it has no neighbour.
    assert len(comparison_figure(results, None, "").axes[0].patches) == 3


def test_bounds_of_zero_are_no_bounds():
    zero = np.zeros(20)
    results = list(results_of(AGENTS, PROBLEM, TRACE, zero))
    assert "best" in comparison_figure(results, zero, "").axes[0].get_xlabel()
    some = np.where(np.arange(20) < 5, 0.0, PROBLEM.bound(TRACE))
    results = list(results_of(AGENTS, PROBLEM, TRACE, some))
    lines = comparison_figure(results, some, "").axes[1].lines
    assert [len(line.get_xdata()) for line in lines] == [16, 16, 16]  # from a share of 0 on


def test_a_panel_for_every_part_of_the_decision():
    played = rollout(PROBLEM, UniformPolicy(PROBLEM, 0), TRACE)
    (axes,) = decisions_figure(played).axes
    assert axes.get_title(loc="left") == "place" and axes.get_xlabel() == "step of the episode"
    # Shares of three places in each of four slots, all devices together.
    heights = [shape.get_paths()[0].vertices[:, 1].max() for shape in axes.collections]
    assert len(heights) == 3 and heights[-1] == pytest.approx(1.0)
    for env_id, episodes in (("mec/TrainingOffloadPaper-v0", 3), ("mec/TrainingOffload-v0", 2)):
        problem = make_problem(env_id)
        trace = sample_episodes(problem, 0, episodes)
        figure = decisions_figure(rollout(problem, make_agent("random", problem), trace))
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert titles and len(set(titles)) == len(titles)


def test_shares_of_switches():
    """Who averages with all, and which edges are used: False and True."""
    problem = make_problem("mec/GossipTraining-v0", "tiny")
    played = rollout(problem, UniformPolicy(problem, 0), sample_episodes(problem, 0, 3))
    axes = {axes.get_title(loc="left"): axes for axes in decisions_figure(played).axes}
    for name in ("reduce", "listen"):
        labels = [text.get_text() for text in axes[name].get_legend().get_texts()]
        assert labels == ["0", "1"]
        share = axes[name].collections[0].get_paths()[0].vertices[:, 1].max()
        no = ~getattr(played.decisions, name)
        assert share == pytest.approx(no.reshape(*no.shape[:2], -1).mean(axis=(0, 2)).max())


def test_every_value_of_a_decision_can_be_told_from_others():
    """32 partitions are shades of one scale: with ten colours, 0 and 10 would look the same."""
    problem = make_problem("mec/EarlyExitPartition-v2")
    trace = sample_episodes(problem, 0, 8)
    figure = decisions_figure(rollout(problem, UniformPolicy(problem, 0), trace))
    for axes, values in zip(figure.axes, (4, 32), strict=True):
        colours = {tuple(shape.get_facecolor()[0]) for shape in axes.collections}
        assert len(colours) == len(axes.collections) == values
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == [str(k) for k in range(values)]
