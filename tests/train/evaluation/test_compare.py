"""Comparisons are paired, complete on disk, and refuse bad input before any work."""

import csv
import json
import time

import numpy as np
import pytest
from scipy.stats import t as student
from train.evaluation.compare import compare, evaluate_one, play

from agents.distributed_inference.clairvoyant import ClairvoyantAgent, clairvoyant_plan
from agents.registry import agents_for, make_agent
from mec_gym import load_trace, make_problem, save_trace
from mec_gym.core.rollout import rollout, sample_episodes
from train.config import CompareRun, EvaluateRun
from train.evaluation.evaluate import evaluate, gap_percent, interval

DRIVE = "mec/TrainingOffload-v0"
INFERENCE = "mec/DistributedInference-v0"
AGENTS = ("price", "budget", "random")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    return out, compare(CompareRun(out=out, agents=AGENTS, episodes=40, seed=7))


def test_numbers_are_those_of_the_agents(compared):
    _, results = compared
    problem = make_problem(DRIVE)
    trace = sample_episodes(problem, 7, 40)
    bound = problem.bound(trace)
    returns = {}
    for result in results:
        played = rollout(problem, make_agent(result.agent, problem, 7), trace)
        returns[result.agent] = played.returns
        outcomes = played.outcomes
        assert result.episodes == 40
        assert result.return_mean == pytest.approx(played.returns.mean())
        assert result.latency_s_mean == pytest.approx(outcomes.latency_s.mean())
        assert result.latency_s_p95 == pytest.approx(np.percentile(outcomes.latency_s, 95))
        assert result.energy_j_mean == pytest.approx(outcomes.energy_j.sum(axis=1).mean())
        assert result.drops_mean == pytest.approx(outcomes.dropped.sum(axis=1).mean())
        gaps = 100 * (bound - played.returns) / -bound
        assert result.gap_percent_mean == pytest.approx(gaps.mean())
        assert result.difference_mean == pytest.approx(
            (played.returns - returns["price"]).mean(), abs=1e-12
        )
        assert result.decision_ms > 0
    # Paired: the interval of budget's difference is far narrower than that of the returns.
    low, high = results[1].difference_ci95
    assert low < results[1].difference_mean < high < 0
    assert results[0].difference_ci95 == (0.0, 0.0)


def test_interval_agrees_with_the_textbook():
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    low, high = interval(values)
    half = student.ppf(0.975, 399) * values.std(ddof=1) / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.04)
    assert high == pytest.approx(values.mean() + half, abs=0.04)
    assert interval(np.array([2.5])) == (2.5, 2.5)


def test_gap_is_relative_to_the_bound():
    np.testing.assert_allclose(
        gap_percent(np.array([-5.0, -2.0]), np.array([-4.0, -2.0])), [25.0, 0.0]
    )


def test_files(compared):
    out, results = compared
    found = json.loads((out / "results.json").read_text())
    assert [row["agent"] for row in found] == list(AGENTS)
    assert found[1]["gap_percent_ci95"] == list(results[1].gap_percent_ci95)
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[2]["gap_percent_ci95_low"]) == results[2].gap_percent_ci95[0]
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    load_trace(out / "trace.npz", make_problem(DRIVE))


def test_the_saved_trace_gives_the_same_results(compared, tmp_path):
    out, results = compared
    again = compare(CompareRun(out=tmp_path, agents=("price", "budget"), trace=out / "trace.npz"))
    assert [r.return_mean for r in again] == [r.return_mean for r in results[:2]]


def test_used_folder(compared):
    out, _ = compared
    before = (out / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"already holds a run \(results.json, .*--overwrite"):
        compare(CompareRun(out=out, agents=AGENTS, episodes=2))
    assert (out / "results.json").read_bytes() == before
    compare(CompareRun(out=out, agents=AGENTS, episodes=40, seed=7, overwrite=True))


def test_bad_input_costs_no_work(tmp_path):
    with pytest.raises(ValueError, match=r"agent must be one of price,.*got 'sparow'"):
        compare(CompareRun(out=tmp_path / "a", agents=("price", "sparow")))
    with pytest.raises(ValueError, match=r"scenario must be one of drive,.*got 'moon'"):
        compare(CompareRun(out=tmp_path / "a", scenario="moon"))
    with pytest.raises(ValueError, match="env_id must be one of mec/"):
        compare(CompareRun(out=tmp_path / "a", env="mec/Nothing-v0"))
    with pytest.raises(ValueError, match="episodes must be a whole number"):
        CompareRun(out=tmp_path / "a", episodes=0)
    paper = make_problem("mec/TrainingOffloadPaper-v0")
    save_trace(tmp_path / "paper.npz", sample_episodes(paper, 0, 2))
    with pytest.raises(ValueError, match=r"trace.work must have shape \(2, 30\), got \(2, 1\)"):
        compare(CompareRun(out=tmp_path / "a", trace=tmp_path / "paper.npz"))
    assert not (tmp_path / "a").exists()


def test_by_default_all_that_play(tmp_path):
    results = compare(CompareRun(out=tmp_path, env="mec/TrainingOffloadPaper-v0", episodes=2))
    names = [result.agent for result in results]
    assert names == list(agents_for(make_problem("mec/TrainingOffloadPaper-v0")))
    assert {"price", "sparrow", "random-split"} <= set(names) and "dads" not in names
    assert results[0].outcome_means["latency_s"] == pytest.approx(results[0].latency_s_mean)


def test_evaluate_draws_a_picture(tmp_path, capsys):
    picture = tmp_path / "deep" / "drive.png"
    result = evaluate_one(EvaluateRun(agent="price", episodes=5, picture=picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert result.episodes == 5
    assert "price" in capsys.readouterr().out


@pytest.fixture(scope="module")
def foresight(tmp_path_factory):
    """All that play distributed inference, three episodes."""
    out = tmp_path_factory.mktemp("compare") / "out"
    return out, compare(CompareRun(out=out, env=INFERENCE, episodes=3, seed=7))


def test_by_default_references_play_last(foresight):
    _, results = foresight
    names = [result.agent for result in results]
    problem = make_problem(INFERENCE)
    assert names == [*agents_for(problem), "clairvoyant"]
    trace = sample_episodes(problem, 7, 3)
    agent = ClairvoyantAgent(problem)
    agent.foresee(trace)
    returns = rollout(problem, agent, trace).returns
    assert results[-1].return_mean == pytest.approx(returns.mean(), rel=1e-12)
    assert all(result.return_mean < returns.mean() for result in results[:-1])
    assert "penalty" in results[0].outcome_means


def test_nobody_else_has_references(compared, tmp_path):
    for env in (DRIVE, "mec/EarlyExitPartition-v0"):
        with pytest.raises(ValueError, match="agent 'clairvoyant' plays DistributedInference, got"):
            compare(CompareRun(out=tmp_path / "a", env=env, agents=("random", "clairvoyant")))
    assert not (tmp_path / "a").exists()


def test_who_foresees_is_shown_the_episodes(foresight):
    """Also those of a trace that was saved; whoever has seen others plays badly, or not at all."""
    out, results = foresight
    problem = make_problem(INFERENCE)
    trace = load_trace(out / "trace.npz", problem)
    bound = problem.bound(trace)
    agent = make_agent("clairvoyant", problem)
    with pytest.raises(ValueError, match="must foresee the episodes"):
        rollout(problem, agent, trace)
    result, played = evaluate(problem, "who", agent, trace, bound)
    assert result.agent == "who"
    assert result.return_mean == pytest.approx(results[-1].return_mean, rel=1e-12)
    np.testing.assert_array_equal(played.decisions.place, clairvoyant_plan(problem, trace))
    # Evaluated on others it looks at those.
    other = sample_episodes(problem, 90, 4)
    returns = evaluate(problem, "who", agent, other, problem.bound(other))[1].returns
    with pytest.raises(ValueError, match="must foresee the episodes"):
        rollout(problem, agent, trace)
    agent.foresee(sample_episodes(problem, 70, 4))
    assert (rollout(problem, agent, other).returns < returns).all()


def test_planning_beforehand_is_deciding(monkeypatch):
    problem = make_problem(INFERENCE)
    trace = sample_episodes(problem, 0, 2)
    agent = make_agent("clairvoyant", problem)
    foresee = agent.foresee
    monkeypatch.setattr(agent, "foresee", lambda trace: (time.sleep(0.3), foresee(trace)))
    result, _ = evaluate(problem, "who", agent, trace, problem.bound(trace))
    assert result.decision_ms > 1e3 * 0.3 / (2 * problem.horizon)


def test_the_picture_is_of_what_is_foreseen():
    """Of the episode of the seed, whatever it has foreseen before."""
    problem = make_problem(INFERENCE)
    agent = make_agent("clairvoyant", problem)
    agent.foresee(sample_episodes(problem, 0, 5))
    seen = []
    problem.draw = seen.append
    play(problem, agent, 31)
    (episode,) = seen
    places = np.stack([decision.place for decision in episode.decisions])
    expected = clairvoyant_plan(problem, sample_episodes(problem, 31, 1))[0]
    np.testing.assert_array_equal(places.reshape(expected.shape), expected)
    assert len(np.unique(places)) > 1


def test_evaluate_draws_what_the_clairvoyant_does(tmp_path, capsys):
    picture = tmp_path / "places.png"
    run = EvaluateRun(agent="clairvoyant", env=INFERENCE, episodes=2, picture=picture, seed=7)
    result = evaluate_one(run)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert result.episodes == 2 and "clairvoyant" in capsys.readouterr().out
