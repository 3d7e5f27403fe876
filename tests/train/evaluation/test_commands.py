"""``compare`` and ``evaluate``: complete on disk, and bad input is refused before any work."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from places_problem import ENV, ScenarioPlaces

from agents.a3c.settings import A3CSettings
from agents.a3c.worker import first_network
from agents.distributed_inference.clairvoyant import clairvoyant_plan
from agents.heads import make_head
from agents.networks.agent import save_network
from agents.registry import agents_for, make_agent
from agents.runs import head_config
from mec_gym import load_trace, make_problem, save_trace
from mec_gym.core.online import OnlineBound
from mec_gym.core.rollout import sample_episodes
from train.config import CompareRun, EvaluateRun
from train.evaluation import commands
from train.evaluation.commands import compare_command, episode_figure, evaluate_command
from train.evaluation.evaluate import compare
from train.lock import locked

DRIVE, PAPER = "mec/TrainingOffload-v0", "mec/TrainingOffloadPaper-v0"
PLACES = "mec/DistributedInference-v1"
AGENTS = ("budget", "exact", "random")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    return out, compare_command(compare_run(out))


def compare_run(out, **changes):
    """Without the online bound, which takes seconds."""
    return CompareRun(out=out, agents=AGENTS, episodes=40, seed=7, online_bound=False, **changes)


def same(results, others):
    """But for the time that deciding took."""
    return [dataclasses.replace(r, decision_ms=0.0) for r in results] == [
        dataclasses.replace(r, decision_ms=0.0) for r in others
    ]


def test_the_command_compares_as_the_library_does(compared):
    _, results = compared
    assert same(results, compare(AGENTS, DRIVE, episodes=40, seed=7))
    # Paired: the interval of a difference is far narrower than that of the returns.
    low, high = results[1].difference_ci95
    assert low < results[1].difference_mean < high < 0
    assert high - low < np.ptp(results[1].rollout.returns) / 4


def test_files(compared):
    out, results = compared
    found = json.loads((out / "results.json").read_text())
    assert [row["agent"] for row in found] == list(AGENTS)
    assert found[1]["gap_percent_ci95"] == list(results[1].gap_percent_ci95)
    assert found[1]["outcome_sums"] == results[1].outcome_sums
    with (out / "results.csv").open() as file:
        row = list(csv.DictReader(file))[2]
    assert float(row["gap_percent_ci95_low"]) == results[2].gap_percent_ci95[0]
    for kind in ("mean", "sum", "p95"):
        values = getattr(results[2], f"outcome_{kind}{'' if kind == 'p95' else 's'}")
        assert float(row[f"{kind}_energy_j"]) == values["energy_j"]
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    load_trace(out / "trace.npz", make_problem(DRIVE))


def test_the_saved_trace_gives_the_same_results(compared, tmp_path):
    out, results = compared
    run = CompareRun(out=tmp_path, agents=AGENTS[:2], trace=out / "trace.npz")
    assert same(compare_command(run), results[:2])


def test_used_folder(compared):
    out, results = compared
    before = (out / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"results\.json, .*--overwrite"):
        compare_command(CompareRun(out=out, agents=AGENTS, episodes=2))
    assert (out / "results.json").read_bytes() == before
    run = compare_run(out, overwrite=True)
    assert same(compare_command(run), results)


def test_everything_is_written_before_anything_is_printed(tmp_path, monkeypatch):
    def stop(*args):
        raise BrokenPipeError

    monkeypatch.setattr(commands, "print_table", stop)
    with pytest.raises(BrokenPipeError):
        compare_command(
            CompareRun(out=tmp_path / "out", agents=("random",), episodes=2, online_bound=False)
        )
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(commands.FILES)
    picture = tmp_path / "episode.png"
    with pytest.raises(BrokenPipeError):
        evaluate_command(EvaluateRun("random", episodes=2, picture=picture))
    assert picture.stat().st_size > 1000


def test_a_folder_in_use_is_refused(compared, tmp_path):
    out, _ = compared
    with locked(out), pytest.raises(ValueError, match=f"out {out} is in use"):
        compare_command(CompareRun(out=out, agents=("random",), episodes=2, overwrite=True))
    assert len(json.loads((out / "results.json").read_text())) == len(AGENTS)


def test_bad_input_costs_no_work(tmp_path):
    paper = make_problem(PAPER)
    save_trace(tmp_path / "paper.npz", sample_episodes(paper, 0, 2))
    for changes, message in (
        ({"agents": ("exact", "sparow")}, "agent .*price.*'sparow'"),
        ({"agents": ("random", "clairvoyant")}, "'clairvoyant' plays distributed_inference"),
        ({"agents": (f"ppo:{tmp_path}",)}, r"config\.json"),
        ({"scenario": "moon"}, "scenario .*drive.*'moon'"),
        ({"env": "mec/Nothing-v0"}, "env_id .*'mec/Nothing-v0'"),
        ({"trace": tmp_path / "paper.npz"}, r"trace\.work .*\(2, 30\).*\(2, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_command(CompareRun(out=tmp_path / "a", **changes))
    for changes in ({"episodes": 0}, {"seed": -1}):
        ((name, value),) = changes.items()
        for kind in (lambda **c: CompareRun(out=tmp_path, **c), lambda **c: EvaluateRun("x", **c)):
            with pytest.raises(ValueError, match=f"{name} .*{value}"):
                kind(**changes)
    assert not (tmp_path / "a").exists()


def test_by_default_all_that_play_references_last(tmp_path):
    run = CompareRun(out=tmp_path, env=PAPER, episodes=2)
    names = [result.agent for result in compare_command(run)]
    assert names == list(agents_for(make_problem(PAPER)))
    run = CompareRun(out=tmp_path / "places", env=PLACES, episodes=2, seed=7)
    results = compare_command(run)
    assert [result.agent for result in results] == [
        *agents_for(make_problem(PLACES)), "clairvoyant",
    ]  # fmt: skip
    best = results[-1].return_mean
    assert all(result.return_mean < best for result in results[:-1])


def test_a_problem_without_a_bound(places, tmp_path, capsys, monkeypatch):
    """In the table, in the files and in the picture: no gap, but all the rest."""
    monkeypatch.setattr(ScenarioPlaces, "bound", lambda self, trace: None)
    agents = {"env": ENV, "agents": ("random",), "episodes": 6}
    (result,) = compare_command(CompareRun(out=tmp_path / "out", **agents))
    text = capsys.readouterr().out
    assert "gap" not in text and f"{result.return_mean:.3f}" in text and "latency s" in text
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert row["gap_percent_mean"] is None and row["gap_percent_ci95"] is None
    with (tmp_path / "out" / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["gap_percent_mean"] == row["gap_percent_ci95_low"] == ""
    assert float(row["mean_latency_s"]) == result.outcome_means["latency_s"]
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    evaluate_command(EvaluateRun("random", env=ENV, episodes=2, online_bound=True))
    printed = capsys.readouterr()
    assert "gap" not in printed.out and "online bound" not in printed.err


def test_both_gaps_where_a_problem_offers_an_online_bound(places, tmp_path, capsys, monkeypatch):
    """In the table and in the files; who foresees the episodes has no gap to the online bound."""

    def luck(trace, outcomes):
        return 0.5 - outcomes.latency_s.sum(axis=1)

    online = OnlineBound(mean=-10.0, se=0.25, luck=luck)
    monkeypatch.setattr(ScenarioPlaces, "has_online_bound", True, raising=False)
    monkeypatch.setattr(ScenarioPlaces, "online_bound", lambda self: online, raising=False)
    agents = {"env": ENV, "agents": ("random",), "episodes": 6}
    (result,) = compare_command(CompareRun(out=tmp_path / "out", **agents))
    played = result.rollout
    fair = played.returns - luck(None, played.outcomes)
    assert result.online.expected_return == pytest.approx(fair.mean())
    assert result.online.gap_percent == pytest.approx(10.0 * (-10.0 - fair.mean()))
    low, high = result.online.gap_percent_ci95
    assert low <= result.online.gap_percent <= high
    assert (result.online.bound, result.online.bound_se) == (-10.0, 0.25)
    printed = capsys.readouterr()
    assert "online bound" in printed.err  # while it was computed
    text = " ".join(printed.out.split())
    assert "online gap %" in text and f"{result.online.gap_percent:.3g} ±" in text
    assert "more than -10.000 (standard error 0.2)" in text
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert row["online"]["gap_percent_ci95"] == [low, high]
    with (tmp_path / "out" / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["online_gap_percent"]) == result.online.gap_percent
    assert float(row["online_gap_percent_ci95_low"]) == low and row["online_bound"] == "-10.0"
    # Not for episodes that somebody else chose, and not where nobody asks for it.
    again = CompareRun(out=tmp_path / "b", **agents, trace=tmp_path / "out" / "trace.npz")
    without = CompareRun(out=tmp_path / "c", **agents, online_bound=False)
    for run in (again, without):
        assert compare_command(run)[0].online is None
    assert evaluate_command(EvaluateRun("random", env=ENV, episodes=2)).online is None
    asked = EvaluateRun("random", env=ENV, episodes=2, online_bound=True)
    assert evaluate_command(asked).online.bound == -10.0


def test_the_table_shows_costs_and_gains_by_their_units(compared, places, capsys):
    problem = make_problem(DRIVE)
    (result,) = compare({"me": "exact"}, problem, 5)
    evaluate_command(EvaluateRun("exact", env=DRIVE, episodes=5))
    text = " ".join(capsys.readouterr().out.split())
    assert "5 episodes" in text and DRIVE in text
    for heading, value in (
        ("return", f"{result.return_mean:.3f}"),
        ("latency s", f"{result.outcome_means['latency_s']:.4g}"),
        ("p95 s", f"{result.outcome_p95['latency_s']:.4g}"),
        ("energy J", f"{result.outcome_sums['energy_j']:.1f}"),
        ("drops", f"{result.outcome_sums['dropped']:.2f}"),
        ("gap %", f"{result.gap_percent_mean:.3g} ±"),
    ):
        assert heading in text and value in text, heading
    assert "return minus" not in text


def test_evaluate_draws_a_picture_and_does_not_replace_it_unasked(tmp_path, capsys):
    picture = tmp_path / "deep" / "drive.png"
    run = EvaluateRun(agent="exact", env=DRIVE, episodes=3, picture=picture)
    assert evaluate_command(run).episodes == 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "exact" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"drive\.png.*--overwrite"):
        evaluate_command(run)
    evaluate_command(dataclasses.replace(run, overwrite=True))
    with pytest.raises(ValueError, match=r"picture .*\.png, got .*\.jpg"):
        EvaluateRun(agent="exact", picture=tmp_path / "a.jpg")


def test_the_picture_is_of_what_is_foreseen():
    """Of the episode of the seed, whatever it has foreseen before."""
    problem = make_problem(PLACES)
    agent = make_agent("clairvoyant", problem)
    agent.foresee(sample_episodes(problem, 0, 5))
    seen = []
    problem.draw = seen.append
    episode_figure(problem, agent, 31)
    (episode,) = seen
    places = np.stack([decision.place for decision in episode.decisions])
    expected = clairvoyant_plan(problem, sample_episodes(problem, 31, 1))[0]
    np.testing.assert_array_equal(places.reshape(expected.shape), expected)
    assert len(np.unique(places)) > 1


@pytest.fixture(scope="module")
def patent_run(tmp_path_factory):
    """A finished run on a scenario of its own, whose observations are longer."""
    out = tmp_path_factory.mktemp("run")
    problem = make_problem(PLACES, "patent")
    settings = A3CSettings(hidden=8)
    head = make_head("flat", problem)
    save_network(out / "model.pt", first_network(problem, head, settings, 0))
    config = {"env": PLACES, "scenario": "patent", "settings": dataclasses.asdict(settings)}
    (out / "config.json").write_text(json.dumps(config | head_config(head)))
    return f"a3c:{out}"


def test_a_run_plays_what_it_was_trained_on(patent_run, tmp_path):
    (expected,) = compare([patent_run], make_problem(PLACES, "patent"), 2)
    assert same([evaluate_command(EvaluateRun(patent_run, episodes=2))], [expected])
    # In a comparison the first run decides, wherever it stands.
    run = CompareRun(out=tmp_path / "a", agents=("random", patent_run), episodes=2)
    random, mine = compare_command(run)
    assert mine.return_mean == expected.return_mean
    (alone,) = compare(["random"], make_problem(PLACES, "patent"), 2)
    assert random.return_mean == alone.return_mean


def test_what_is_asked_for_comes_before_what_a_run_was_trained_on(patent_run):
    """The run does not fit the environment's default, nor another environment."""
    for changes in ({"env": PLACES}, {"scenario": "small"}):
        with pytest.raises(ValueError, match=r"another environment.* inputs are"):
            evaluate_command(EvaluateRun(patent_run, episodes=2, **changes))
    with pytest.raises(ValueError, match=f"{PLACES}, not {DRIVE}"):
        evaluate_command(EvaluateRun(patent_run, env=DRIVE, episodes=2))
