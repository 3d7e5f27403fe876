"""Comparisons are paired, complete on disk, and refuse bad input before any work."""

import csv
import json

import numpy as np
import pytest
from scipy.stats import t as student

from agents.registry import agents_for, make_agent
from mec_gym import load_trace, make_problem, save_trace
from mec_gym.core.rollout import rollout, sample_episodes
from train.compare import compare, evaluate_one
from train.config import CompareRun, EvaluateRun
from train.evaluate import gap_percent, interval

DRIVE = "mec/TrainingOffload-v0"
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
