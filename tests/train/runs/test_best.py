"""The best model of a run is kept beside the last one, also over a resume."""

import csv
import dataclasses
import json

import pytest

from agents.a3c.settings import A3CSettings
from agents.ppo.settings import PPOSettings
from agents.registry import make_agent
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.seeds import EVAL_SEED
from mec_gym.registration import make_problem
from train.config import a3c_run, ppo_run
from train.runs.a3c import train_a3c
from train.runs.best import NOTE_FILE, BestModel
from train.runs.ppo import train_ppo

PLACES = "tests/Places-v0"
LENGTHS = {"eval_every": 128, "checkpoint_every": 128, "eval_episodes": 20, "rule": "none"}


def ppo(out, total):
    settings = PPOSettings(num_envs=16, n_steps=8, minibatches=2, hidden=8, learning_rate=0.05)
    run = ppo_run(out, PLACES, "flat", settings=settings, total_timesteps=total, **LENGTHS)
    return run, train_ppo


def a3c(out, total):
    settings = A3CSettings(num_envs=16, n_steps=8, workers=1, hidden=8, learning_rate=0.05)
    run = a3c_run(out, PLACES, "flat", settings=settings, total_timesteps=total, **LENGTHS)
    return run, train_a3c


def evaluations(out):
    """Mean return by number of steps, in all parts of a run's log."""
    found = {}
    for path in [*sorted(out.glob("progress-*.csv")), out / "progress.csv"]:
        with path.open() as lines:
            for row in csv.DictReader(lines):
                if row["eval/return_mean"]:
                    found[int(row["time/total_timesteps"])] = float(row["eval/return_mean"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "begin", "file"), [("ppo", ppo, "best.zip"), ("a3c", a3c, "best.pt")]
)
def test_the_best_model_plays_what_its_note_says(places, tmp_path, kind, begin, file):
    out = tmp_path / "run"
    run, train = begin(out, 512)
    train(run)
    train(dataclasses.replace(run, resume=True, total_timesteps=1024))
    seen = evaluations(out)
    note = json.loads((out / NOTE_FILE).read_text())
    assert note["return_mean"] == pytest.approx(max(seen.values()))
    assert seen[note["total_timesteps"]] == pytest.approx(note["return_mean"])
    problem = make_problem(PLACES)
    trace = sample_episodes(problem, EVAL_SEED, 20)
    best = rollout(problem, make_agent(f"{kind}:{out / file}", PLACES), trace).returns.mean()
    last = rollout(problem, make_agent(f"{kind}:{out}", PLACES), trace).returns.mean()
    assert best == pytest.approx(note["return_mean"]) and last <= best
    assert last == pytest.approx(seen[max(seen)])


def test_only_what_is_better_is_kept(tmp_path):
    path = tmp_path / "model"
    best = BestModel(path, go_on=False)
    for step, value in enumerate((-3.0, -5.0, -2.0, -2.0)):
        best.offer(value, step, lambda path, value=value: path.write_text(str(value)))
    assert path.read_text() == "-2.0"
    assert json.loads((tmp_path / NOTE_FILE).read_text()) == {
        "return_mean": -2.0,
        "total_timesteps": 2,
    }
    BestModel(path, go_on=True).offer(-2.5, 9, lambda path: path.write_text("worse"))
    assert path.read_text() == "-2.0"
    BestModel(path, go_on=False).offer(-2.5, 9, lambda path: path.write_text("another run"))
    assert path.read_text() == "another run"
    for damage in ("", "[]", '{"return_mean": "high"}', "[" * 100_000):
        (tmp_path / NOTE_FILE).write_text(damage)
        BestModel(path, go_on=True).offer(-9.0, 9, lambda path: path.write_text("again"))
        assert path.read_text() == "again"
        path.write_text("")
