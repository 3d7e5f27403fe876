"""Figures of pipelines: numbers by hand or by other means, and what is written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
from rich.console import Console

from mec_gym.core import arrays
from mec_gym.pipeline_training.model import Decision, State, evaluate
from mec_gym.pipeline_training.plans import all_plans
from mec_gym.pipeline_training.scenario import Scenario
from train.reproduce import WIDTH, reproduce
from train.reproduce.pipeline_training import REPRODUCTION, PipelineTrainingRun, study, tables
from train.reproduce.pipeline_training.study import (
    BEST,
    FIXED,
    FLEET_LINKS,
    FLEET_SEED,
    LINKS,
    MICROBATCHES,
    SCHEDULES,
    STAGES,
    WORKERS,
    Stale,
)
from train.reproduce.pipeline_training.vgg16_profile import STATES


@pytest.fixture(scope="module")
def scheduled():
    return study.schedules()


@pytest.fixture(scope="module")
def plans():
    return study.planned()


@pytest.fixture
def quick(monkeypatch):
    """A run of seconds: fewer links, slots and updates."""
    monkeypatch.setattr(study, "LINKS", LINKS[::8])
    monkeypatch.setattr(study, "FLEET_LINKS", FLEET_LINKS[2:4])
    monkeypatch.setattr(study, "FLEET_SLOTS", 4)
    monkeypatch.setattr(study, "UPDATES", 30)


def test_the_bubble_is_the_formula():
    rows = study.bubbles()
    assert len(rows) == len(STAGES) * len(MICROBATCHES) * len(SCHEDULES)
    for row in rows:
        exact = Fraction(row.stages - 1, row.microbatches + row.stages - 1)
        assert row.ours == pytest.approx(float(exact), abs=1e-15)
        assert row.formula == float(exact)
    of = {(row.stages, row.microbatches, row.schedule): row.ours for row in rows}
    # Four stages and eight microbatches take 33 instead of 24 units of time.
    assert of[4, 8, "gpipe"] == of[4, 8, "1f1b"] == pytest.approx(3 / 11)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_what_the_environment_plays(scheduled, schedule):
    for link in LINKS[::4]:
        scenario = study.even_fleet(link, schedule)
        slot = arrays.at(arrays.slot_at(scenario.sample(np.random.default_rng(5), 1), 0), 0)
        assert slot.present.all() and set(slot.speed) == {50e9}
        assert set(slot.link[~np.eye(4, dtype=bool)]) == {link}
        plans = all_plans(6, 4)
        wide = arrays.map_arrays(lambda a, n=len(plans.place): np.stack([a] * n), slot)
        state = State(place=plans.place, slots_left=np.ones(len(plans.place)))
        _, outcome = evaluate(wide, state, Decision(place=plans.place), scenario)
        (best,) = [r for r in scheduled if (r.link, r.schedule, r.plans) == (link, schedule, BEST)]
        assert best.minibatch_s == pytest.approx(outcome.minibatch_s.min(), rel=1e-12)
        fastest = outcome.minibatch_s <= best.minibatch_s * (1 + 1e-9)
        assert best.stages in outcome.stages[fastest]


def test_one_plan_by_both_schedules(scheduled):
    """Where links decide, 1F1B uses both directions; memory is Q / S as large with GPipe."""
    same = [r for r in scheduled if r.plans == FIXED]
    assert {r.stages for r in same} == {4}
    gpipe, interleaved = ({r.link: r for r in same if r.schedule == s} for s in SCHEDULES)
    assert interleaved[LINKS[0]].minibatch_s < 0.7 * gpipe[LINKS[0]].minibatch_s
    for link in LINKS:
        assert gpipe[link].kept_bits == 2 * interleaved[link].kept_bits  # Q = 8, S = 4
    # The best plan is never slower than another one.
    of = {(r.link, r.schedule, r.plans): r.minibatch_s for r in scheduled}
    for link in LINKS:
        for schedule in SCHEDULES:
            assert of[link, schedule, BEST] <= of[link, schedule, FIXED]


def test_activations_by_hand():
    """Blocks 0 and 1 on one device, the others on another one; samples of 4, Q = 8."""
    place = np.array([2, 2, 0, 0, 0, 0])
    outputs = Scenario().chain.outputs
    front, back = outputs[:2].sum(), outputs[2:].sum()
    gpipe = study.kept_activations(place, Scenario(schedule="gpipe"))
    assert gpipe == pytest.approx(4 * 8 * max(front, back))
    interleaved = study.kept_activations(place, Scenario(schedule="1f1b"))
    assert interleaved == pytest.approx(4 * max(2 * front, back))
    alone = study.kept_activations(np.zeros(6, dtype=int), Scenario(schedule="1f1b"))
    assert alone == pytest.approx(4 * outputs.sum())


def test_plans_are_those_that_the_authors_run(plans):
    assert [(p.workers, p.bandwidth) for p in plans] == [
        (workers, bandwidth) for workers in (4, 8, 16) for bandwidth in (1e10, 2.5e10)
    ]
    for plan in plans:
        assert plan.configuration == plan.published == f"{plan.workers - 1}-1"
        assert plan.period_s < min(plan.data_parallel_s, plan.straight_s)
        if plan.bandwidth == 1e10:
            assert plan.last_stage == plan.published_last_stage == WORKERS[plan.workers][1]
    # The one that differs: with fast links, two convolutions go to the last stage too.
    assert plans[-1].last_stage == "Conv2d 12"


def test_the_period_of_15_1_by_hand(plans):
    """15 replicas of the convolutions agree on 14 714 688 weights; the rest is one device."""
    front = STATES[:31]
    assert sum(s.parameter_bytes for s in front) == 4 * 14_714_688
    seconds = sum(s.forward_ms + s.backward_ms for s in front) / 1e3
    agreeing = 4 * 14 * 4 * 14_714_688 / (15 * 1.25e9)
    last = sum(s.forward_ms + s.backward_ms for s in STATES[31:]) / 1e3
    (plan,) = [p for p in plans if (p.workers, p.bandwidth) == (16, 1e10)]
    assert plan.period_s == pytest.approx(max((seconds + agreeing) / 15, last), rel=1e-12)
    whole = seconds + last + 4 * 15 * 4 * 138_357_544 / (16 * 1.25e9)
    assert plan.data_parallel_s == pytest.approx(whole / 16, rel=1e-12)
    # 128 x 512 x 7 x 7 numbers of 4 bytes pass, and come back as a gradient.
    sent = 4 * 14 / 15 * 4 * 14_714_688 + 2 * 4 * 128 * 512 * 7 * 7
    assert plan.saved == pytest.approx(1 - sent / (4 * 15 / 16 * 4 * 138_357_544), rel=1e-12)
    assert 0.85 < plan.saved < study.SAVED


def ring(link, present=(True, True, True)):
    """A slot of three devices."""
    trace = Scenario(devices=3, horizon=1, stay=None).sample(np.random.default_rng(0), 1)
    slot = arrays.at(arrays.slot_at(trace, 0), 0)
    return replace(slot, present=np.array(present), link=np.array(link, dtype=float))


def test_all_reduce_by_hand():
    # Around 0, 1, 2 the slowest link has 2 bit/s, the other way around it has 1 bit/s.
    link = [[0, 4, 9], [1, 0, 2], [3, 9, 0]]
    assert study.all_reduce_seconds(ring(link), 12.0) == pytest.approx(2 * 2 / 3 * 12 / 2)
    # Two devices use both directions.
    two = ring(link, (True, False, True))
    assert study.all_reduce_seconds(two, 12.0) == pytest.approx(2 * 1 / 2 * 12 / 3)
    assert study.all_reduce_seconds(ring(link, (False, True, False)), 12.0) == 0.0


def test_data_parallel_training_on_the_fleet(monkeypatch):
    monkeypatch.setattr(study, "FLEET_LINKS", (1e-3 * FLEET_LINKS[0], 150e6, 1e15))
    monkeypatch.setattr(study, "FLEET_MICROBATCHES", (8,))
    monkeypatch.setattr(study, "FLEET_SLOTS", 20)
    slow, usual, fast = study.fleet_times()
    assert slow.slots == usual.slots <= 20
    # Where nothing can be sent, a pipeline is one device.
    assert slow.pipeline_s == pytest.approx(slow.single_s, rel=1e-3)
    assert (slow.data_parallel_wins, fast.data_parallel_wins) == (0.0, 1.0)
    # The all-reduce takes as much longer as links are slower.
    assert usual.agreeing_s / fast.agreeing_s == pytest.approx(1e15 / 150e6)
    # Without it, devices share perfectly: each slot of the environment, by its own words.
    s = Scenario()
    slot = arrays.slot_at(s.sample(np.random.default_rng(FLEET_SEED), 20), 30)
    several = slot.present.sum(axis=-1) > 1
    speed = (slot.present * slot.speed).sum(axis=-1)[several]
    perfect = np.median(32 * s.sample_work / speed)
    assert fast.data_parallel_s == pytest.approx(perfect, rel=1e-6)
    # The pipeline is the environment's: the best of all plans, played one by one.
    played = []
    for i in np.flatnonzero(several):
        one = arrays.at(slot, int(i))
        every = all_plans(6, 4)
        fits = every.place[~(every.uses & ~one.present).any(axis=-1)]
        wide = arrays.map_arrays(lambda a, n=len(fits): np.broadcast_to(a, (n, *a.shape)), one)
        state = State(place=fits, slots_left=np.ones(len(fits)))
        played.append(evaluate(wide, state, Decision(place=fits), s)[1].minibatch_s.min())
    assert usual.pipeline_s == pytest.approx(np.median(played), rel=1e-12)


@pytest.mark.parametrize(
    ("flush", "stale", "first"),
    [(110.0, 295.0, 3), (100.0, 300.0, 3), (110.0, np.inf, 1), (110.0, 110.0, None)],
)
def test_from_when_on_flushing_is_faster(flush, stale, first):
    """100 updates with Q = 2 and S = 5 take 100 x 6 / 2 = 300, which is no gain yet."""
    assert study.enough_microbatches(flush, stale, 5) == first
    faster = [q for q in range(1, 500) if flush * study.slowdown(q, 5) < stale]
    if np.isfinite(stale):
        assert (faster[0] if faster else None) == first
    assert study.slowdown(8, 5) == 1.5


def test_each_run_has_its_updates(monkeypatch):
    """What is learnt is tested beside the learning; here, who needed how long."""

    def learns_at_once(variant, setting, *, seeds, updates):
        reached = 10 * study.VARIANTS.index(variant) + 100 * setting.momentum + np.arange(seeds)
        return (np.arange(updates) >= reached[:, None]).astype(float)

    monkeypatch.setattr(study, "accuracies", learns_at_once)
    rows = study.staleness(seeds=2)
    assert len(rows) == 2 * 4 * 2
    assert study.needed_updates(rows, "flush", 0.0).tolist() == [1, 2]
    assert study.needed_updates(rows, "no-stash", 0.9).tolist() == [111, 112]


def test_tables_show_the_rows(plans, scheduled):
    stale = [
        Stale(variant=variant, momentum=momentum, seed=seed, updates=updates)
        for momentum in study.MOMENTA
        for variant, needed in (
            ("flush", (100.0, 120.0, 110.0)),
            ("stash", (300.0, 280.0, np.inf)),
            ("no-stash", (np.inf, np.inf, 400.0)),
            ("predicted", (90.0, 80.0, 100.0)),
        )
        for seed, updates in enumerate(needed)
    ]
    console = Console(width=WIDTH, file=io.StringIO())
    for table in (
        tables.bubble_table(study.bubbles()),
        tables.planner_table(plans),
        tables.schedule_table(scheduled),
        tables.staleness_table(stale),
    ):
        console.print(table)
    printed = console.file.getvalue()
    assert "…" not in printed
    lines = [[c.strip() for c in line.strip("│").split("│")] for line in printed.splitlines()]
    cells = {(line[0], line[1]): line[2:] for line in lines if len(line) > 2}
    assert "27.3 / 27.3" in printed and "93.8 / 93.8" in printed
    assert cells["16", "1.25"][:4] == ["15-1", "15-1", "Linear 1", "Linear 1"]
    # 300 > 110 (Q + 4) / Q from Q = 3 on.
    assert cells["plain", "flush"] == ["110", "100", "120", "0 of 3", "165", ""]
    assert cells["plain", "stash"] == ["300", "280", "never", "1 of 3", "300", "3"]
    assert cells["plain", "no-stash"] == ["never", "400", "never", "2 of 3", "never", "1"]
    assert cells["plain", "predicted"] == ["90", "80", "100", "0 of 3", "90", "never"]
    for link, text in ((1e6, "1 Mbit/s"), (1e10, "10 Gbit/s")):
        pair = [
            r.minibatch_s
            for s in SCHEDULES
            for r in scheduled
            if (r.link, r.schedule, r.plans) == (link, s, BEST)
        ]
        (shown,) = [line for line in lines if line[0] == text]
        assert shown[3] == " / ".join(f"{x:.2f}" for x in pair)


@pytest.mark.slow  # it draws and learns
def test_files(quick, tmp_path, capsys):
    folder = tmp_path / "run"
    rows = reproduce(REPRODUCTION, PipelineTrainingRun(folder, seeds=2))
    assert {path.name for path in folder.iterdir()} == {
        "reproduction.json",
        "reproduction.csv",
        *REPRODUCTION.pictures,
        *REPRODUCTION.tables,
    }
    records = json.loads((folder / "reproduction.json").read_text())
    assert records == [asdict(row) for row in rows]
    assert len(records) == 4 * 7 * 2 + 6 * 3
    agree = [r for r in records if isinstance(r["published"], str)]
    assert [r["ours"] for r in agree if r["quantity"] == "plan"] == [
        *("3-1", "3-1", "7-1", "7-1", "15-1", "15-1")
    ]
    with (folder / "staleness.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 4 * 2
    for name in REPRODUCTION.pictures:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 15_000
    printed = capsys.readouterr().out
    for text in ("Bubble", "15-1", "all-reduce", "updates until 90 %", "nothing is tuned"):
        assert text in printed
    assert "…" not in printed


def test_seeds_must_be_some(tmp_path):
    with pytest.raises(ValueError, match=r"seeds.*0"):
        PipelineTrainingRun(tmp_path, seeds=0)
