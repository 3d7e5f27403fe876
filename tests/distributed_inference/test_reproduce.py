"""Delays and reductions, from what was played; everything written, on a small budget."""

import csv
import io
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.registration import make_problem
from train.__main__ import main
from train.reproduce import WIDTH
from train.reproduce.distributed_inference import REPRODUCTION, pictures, study, tables


def played(**parts):
    """Two episodes of two rounds; the second ends after one."""
    there = np.array([[True, True], [True, False]])
    zero = np.zeros((2, 2))
    outcomes = {
        name: zero
        for name in (
            "latency_s", "local_s", "edge_s", "transfer_s", "finished", "dropped",
            "deadline_missed",
        )
    }  # fmt: skip
    outcomes |= {name: np.array(value, dtype=float) for name, value in parts.items()}
    returns = -np.where(there, outcomes["latency_s"], 0.0).sum(axis=1)
    return SimpleNamespace(outcomes=SimpleNamespace(**outcomes), played=there, returns=returns)


def test_a_line_by_hand():
    one = played(
        latency_s=[[1.0, 2.0], [5.0, 99.0]],
        local_s=[[0.5, 0.0], [1.0, 99.0]],
        edge_s=[[0.25, 1.5], [2.0, 99.0]],
        transfer_s=[[0.25, 0.5], [1.0, 99.0]],
        finished=[[1, 2], [0, 99]],
        dropped=[[0, 0], [1, 99]],
        deadline_missed=[[0, 1], [0, 99]],
    )
    best = played(latency_s=[[1.0, 1.0], [4.0, 99.0]])
    deadlines = make_problem(study.INFERENCE, "patent").scenario.deadlines_per_task
    found = study.line("patent", "some", one, np.array([-2.5, -4.0]), best, 0.3, deadlines)
    assert (found.episodes, found.tasks) == (2, 4)
    assert found.return_mean == -4.0
    assert found.gap_percent == pytest.approx((20.0 + 25.0) / 2)
    assert found.clairvoyant_gap_percent == pytest.approx((50.0 + 25.0) / 2)
    assert (found.total_s, found.local_s, found.edge_s, found.transfer_s) == (
        2.0, 0.375, 0.9375, 0.4375,
    )  # fmt: skip
    # Of "patent", where each of a task's 10 blocks has a deadline.
    assert (found.missed_percent, found.given_up_percent) == (2.5, 25.0)


def test_reductions_by_hand():
    rivals = {
        "mtl-a3c": played(latency_s=[[1.0, 2.0], [3.0, 9.0]], edge_s=[[1.0, 1.0], [1.0, 9.0]]),
        "greedy": played(latency_s=[[4.0, 3.0], [1.0, 9.0]], edge_s=[[0.5, 0.5], [0.5, 9.0]]),
        "neurosurgeon": played(latency_s=[[4.0, 2.0], [2.0, 9.0]], edge_s=[[2.0, 2.0], [2.0, 0]]),
    }
    greedy, split = study.compared("patent", rivals)
    assert (greedy.against, split.against) == ("greedy", "neurosurgeon")
    # Not a3c, which did not play.
    assert greedy.total_percent == pytest.approx(25.0) and split.total_percent == 25.0
    assert greedy.edge_percent == pytest.approx(-100.0) and split.edge_percent == 50.0
    assert np.isnan(greedy.local_percent)
    assert greedy.best and not split.best  # of two that are equal, the first
    assert (greedy.claimed_total_percent, greedy.claimed_edge_percent) == (4.76, 10.04)
    assert greedy.claimed_local_percent == 8.03
    # One of the two episodes twice: 1 - 3/1 and 1 - 3/7.
    assert greedy.total_low == pytest.approx(-200.0)
    assert greedy.total_high == pytest.approx(100.0 * 4.0 / 7.0)


@pytest.mark.parametrize("scenario", study.SCENARIOS)
def test_delays_add_up_and_the_bound_holds(scenario):
    problem = make_problem(study.INFERENCE, scenario)
    trace = sample_episodes(problem, 7, 20)
    bound = problem.bound(trace)
    for agent in (study.make_agent("greedy", problem), study.untrained(problem)):
        games = rollout(problem, agent, trace)
        found = study.line(scenario, "x", games, bound, games, 0.0, 1)
        assert found.given_up_percent == 0.0
        assert found.total_s == pytest.approx(found.local_s + found.edge_s + found.transfer_s)
        assert found.gap_percent >= 0.0 and found.clairvoyant_gap_percent == 0.0
        assert found.tasks == trace.active[:, :: problem.scenario.blocks].sum()


def small_contest():
    """Two learners and some rules, with numbers that are not equal."""
    gaps = {
        "mtl-a3c": 0.5, "clairvoyant": 0.0, "deadline-descent": 1.0, "neurosurgeon": 7.0,
        "greedy": 70.0, "ppo-flat": 1100.0,
    }  # fmt: skip
    lines = [
        study.Line(
            scenario="patent", agent=agent, preset=None, steps=None, seconds=None, episodes=12,
            tasks=120, return_mean=-1.0 - gap / 100, gap_percent=gap, gap_percent_low=0.9 * gap,
            gap_percent_high=1.1 * gap, clairvoyant_gap_percent=gap, total_s=0.16 * (1 + gap / 100),
            local_s=0.01, edge_s=0.05, transfer_s=0.1 + 0.16 * gap / 100, missed_percent=2.0,
            given_up_percent=1.0, decision_ms=0.1,
        )
        for agent, gap in gaps.items()
    ]  # fmt: skip
    points = [
        study.Point("patent", agent, steps, steps / 2000, gap)
        for agent, start in (("mtl-a3c", 1.0), ("ppo-flat", 1000.0))
        for steps, gap in ((0, start), (5_000, 0.8 * start), (500_000, 0.5 * start))
    ]
    reduction = study.Reduction("patent", "mtl-a3c", "greedy", True, 40.5, 30.25, 50.75, -2.0, 8.0)
    return study.Contest(lines, [reduction], points)


def printed(table):
    console = Console(width=WIDTH, file=io.StringIO())
    console.print(table)
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in console.file.getvalue().splitlines()
    ]


def test_tables_show_the_lines():
    found = small_contest()
    (greedy,) = [cells for cells in printed(tables.agents_table(found)) if cells[0] == "greedy"]
    assert greedy == [
        "greedy", "", "", "-1.700", "70.00 ± 7.00", "70.00", "272.0", "10.0", "50.0", "212.0",
        "2.0", "1.0",
    ]  # fmt: skip
    lines = printed(tables.reductions_table(found.reductions))
    assert ["patent", "mtl-a3c", "greedy *", "40.50", "30.25 … 50.75", "-2.00", "8.00"] in lines
    assert lines[-2][3:] == ["4.76", "", "10.04", "8.03"]
    # Square brackets would be taken for a style.
    assert any("below 0: the delay is longer" in cells[0] for cells in lines)


def test_pictures_show_whom_there_is_and_no_label_touches_another():
    contests = {"patent": small_contest(), "small": small_contest()}
    curves = pictures.draw_curves(contests)
    steps, seconds, *_ = curves.axes
    drawn = {line.get_label() for line in steps.get_lines()}
    assert drawn == {"mtl-a3c", "ppo-flat", *pictures.LEVELS}
    assert steps.get_ylim()[0] < 0.0 < 1000.0 < steps.get_ylim()[1]
    for axis in (steps.xaxis, seconds.xaxis, steps.yaxis):
        curves.canvas.draw()
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) >= 4
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert [label.get_text() for label in steps.xaxis.get_ticklabels()][:3] == [
        "0",
        "10,000",
        "30,000",
    ]
    (left, _) = pictures.draw_delays(contests).axes
    assert [label.get_text() for label in left.get_yticklabels()][:2] == ["clairvoyant", "mtl-a3c"]


def test_every_learner_has_a_line():
    assert list(pictures.LINES) == list(study.LEARNERS)


@pytest.mark.slow
def test_the_command_writes_everything(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "EPISODES", 12)
    monkeypatch.setattr(study, "CURVE_EPISODES", 5)
    monkeypatch.setattr(study, "EVALUATIONS", 2)
    monkeypatch.setattr(study, "SCENARIOS", ("patent",))
    few = {name: study.LEARNERS[name] for name in ("mtl-a3c", "ppo-unaided")}
    monkeypatch.setattr(study, "LEARNERS", few)
    out = tmp_path / "paper"
    command = ["reproduce", "distributed-inference", "--out", str(out), "--steps", "1000"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Reduction of a task's mean delay" in printed and "not public" in printed
    assert "below 0: the delay is longer" in printed  # square brackets would be taken for a style
    lines = {row["agent"]: row for row in json.loads((out / "reproduction.json").read_text())}
    assert {"mtl-a3c", "ppo-unaided", "untrained", "viterbi", "clairvoyant"} <= set(lines)
    # Without contention those who plan for the reward are optimal, and so is the scorer.
    for name in ("viterbi", "deadline-descent", "clairvoyant", "untrained"):
        assert lines[name]["gap_percent"] == pytest.approx(0.0, abs=1e-2), name
    assert min(row["gap_percent"] for row in lines.values()) > -1e-9
    assert lines["greedy"]["gap_percent"] > 20.0
    assert lines["mtl-a3c"]["steps"] >= 1000 and lines["viterbi"]["steps"] is None
    gaps = [row["gap_percent"] for row in lines.values()]
    assert gaps == sorted(gaps)
    with (out / "reductions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["agent"], row["against"]) for row in rows} == {
        ("mtl-a3c", "greedy"), ("mtl-a3c", "neurosurgeon"),
    }  # fmt: skip
    against = {row["against"]: float(row["total_percent"]) for row in rows}
    ours, greedy = lines["mtl-a3c"]["total_s"], lines["greedy"]["total_s"]
    assert against["greedy"] == pytest.approx(100.0 * (1.0 - ours / greedy))
    with (out / "learning_curves.csv").open() as file:
        points = [row for row in csv.DictReader(file) if row["agent"] == "mtl-a3c"]
    assert points[0]["steps"] == "0" and len(points) == 3
    for picture in REPRODUCTION.pictures:
        assert (out / picture).stat().st_size > 10_000
    assert main(command) == 2
    assert "give --overwrite" in capsys.readouterr().err
