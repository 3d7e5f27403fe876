"""Families of gossip training: the same worlds, what is counted, and what is written."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from rich.console import Console

from mec_gym.core import arrays
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario
from mec_gym.learning.partition import class_shares
from train.reproduce import WIDTH, reproduce
from train.reproduce.families.tables import claim_table, family_table
from train.reproduce.gossip_training import (
    REPRODUCTION,
    GossipTrainingRun,
    families,
    play,
    study,
    tables,
)
from train.reproduce.gossip_training.families import CASES, CLAIMS, FAMILIES, LEFT_OUT
from train.reproduce.gossip_training.play import Case, Played

TINY = {
    "devices": 5,
    "rounds": 12,
    "budget_s": 20.0,
    "local_steps": 2,
    "batch": 4,
    "hidden": 4,
    "learning_rate": 0.5,
}


def played(error, **others):
    """What came of a protocol in some worlds, of which only some numbers matter."""
    n = len(error)
    numbers = {name: np.ones(n) for name in Played.__dataclass_fields__}
    numbers |= {"error": np.array(error), "reached": np.ones(n, dtype=bool)}
    numbers |= {"time_s": np.arange(3.0), "accuracy": np.zeros((n, 3))}
    return Played(**{**numbers, **{name: np.array(v) for name, v in others.items()}})


@pytest.fixture
def plays():
    """All protocols with made up numbers."""
    rng = np.random.default_rng(3)
    return {
        name: played(
            rng.uniform(0.1, 0.4, 4),
            test_accuracy=rng.uniform(0.7, 0.95, 4),
            reached_s=rng.uniform(300, 3000, 4),
            reached_rounds=rng.uniform(10, 300, 4),
            reached_bits=rng.uniform(1e9, 1e10, 4),
            sent_bits=rng.uniform(1e9, 3e10, 4),
            rounds=rng.uniform(20, 300, 4),
            consensus=rng.uniform(0.1, 3, 4),
        )
        for name in CASES
    }


def test_worlds_are_the_same_whatever_the_protocol():
    base = play.trace_of(Case(changes=TINY).scenario, 2)
    always = ("compute_s", "rate", "key", "initial")
    for changes, others in (
        ({"payload": "segments", "graph": "ring"}, ()),
        ({"partition": "iid", "alpha": Scenario.alpha}, ("own",)),
        ({"payload": "shared-logits", "shared": 20}, ("own", "samples")),
        ({"alpha": 0.01}, ("own",)),
    ):
        trace = play.trace_of(Case(changes={**TINY, **changes}).scenario, 2)
        for name in (*always, "samples", "own"):
            same = np.array_equal(getattr(trace, name), getattr(base, name))
            if name in always or not others:
                assert same, (changes, name)
        for name in others:
            assert not np.array_equal(getattr(trace, name), getattr(base, name)), (changes, name)
    # Of unequal devices the same numbers are drawn, which count for less.
    equal = play.trace_of(
        Case(changes={**TINY, "speed_spread": 0.0, "rate_spread": 0.0}).scenario, 2
    )
    ratio = base.compute_s / equal.compute_s
    assert ratio == pytest.approx(np.broadcast_to(ratio[:, :1], ratio.shape))
    assert ratio[:, 0].std() > 0.1


def test_alpha_is_per_class():
    """At 0.01 per class, which is 0.1 for all ten together, most devices see one class."""
    scenario = CASES["skewed, equal: matching"].scenario
    trace = play.trace_of(scenario, 2)
    shares = class_shares(scenario.data.learn.labels, trace.own, trace.samples, 10)
    assert np.median(shares.max(axis=-1)) > 0.95
    scenario = play.BASE
    trace = play.trace_of(scenario, 2)
    shares = class_shares(scenario.data.learn.labels, trace.own, trace.samples, 10)
    assert np.median(shares.max(axis=-1)) < 0.5


@pytest.mark.parametrize("rule", ["matching", "all-reduce"])
def test_what_is_counted(monkeypatch, rule):
    """Against the outcomes of all rounds, one by one."""
    kept = []

    class Recording(GossipTraining):
        def step(self, slot, state, decision):
            after, outcome = super().step(slot, state, decision)
            kept.append((state, after, outcome))
            return after, outcome

    monkeypatch.setattr(play, "GossipTraining", Recording)
    monkeypatch.setattr(play, "TARGET", 0.15)
    found = play.play(Case(rule, TINY), 2)
    assert found.reached.any()
    for i in range(2):
        rounds = [
            (arrays.at(after, i), arrays.at(outcome, i))
            for before, after, outcome in kept
            if not before.over[i]
        ]
        assert found.rounds[i] == len(rounds) and rounds[-1][0].over
        assert found.error[i] == pytest.approx(sum(float(o.error_s) for _, o in rounds) / 20.0)
        assert found.test_accuracy[i] == float(rounds[-1][1].test_accuracy) > 0
        assert found.sent_bits[i] == pytest.approx(sum(float(o.sent_bits) for _, o in rounds))
        assert found.consensus[i] == pytest.approx(
            np.mean([float(o.consensus) for _, o in rounds]), abs=1e-12
        )
        spent = float(rounds[-1][0].clock.mean())
        idle = sum(float(o.waiting_s) for _, o in rounds)
        assert found.waiting[i] == pytest.approx(idle / spent)
        good = [j for j, (_, o) in enumerate(rounds) if o.accuracy >= 0.15]
        last = good[0] if good else len(rounds) - 1
        assert found.reached_rounds[i] == last + 1
        bits = sum(float(o.sent_bits) for _, o in rounds[: last + 1])
        assert found.reached_bits[i] == pytest.approx(bits)
        # Each device counts with its own last model.
        begin = kept[0][0]
        for t in (0, 30, 60, 90):
            models = []
            for d in range(5):
                mine = [float(begin.accuracy[i, d])]
                mine += [float(a.accuracy[d]) for a, _ in rounds if a.clock[d] <= found.time_s[t]]
                models.append(mine[-1])
            assert found.accuracy[i, t] == pytest.approx(np.mean(models))


def test_accuracy_over_time_by_hand():
    clock = np.array([[[0.0, 0.0]], [[1.0, 4.0]], [[5.0, 8.0]], [[8.0, 12.0]]])
    accuracy = np.array([[[0.1, 0.1]], [[0.9, 0.3]], [[0.95, 0.9]], [[0.9, 0.99]]])
    times = np.array([0.0, 0.9, 1.0, 4.5, 6.0, 8.0, 13.0])
    curve, first = play.over_time(clock, accuracy, times)
    assert curve[0] == pytest.approx([0.1, 0.1, 0.5, 0.6, 0.625, 0.9, 0.945])
    assert first.tolist() == [8.0]  # what happens at a moment counts as one
    assert play.over_time(clock[:3], accuracy[:3], times)[1].tolist() == [8.0]
    assert play.over_time(clock[:2], accuracy[:2], times)[1].tolist() == [np.inf]


def test_drawn_speakers():
    scenario = Case(changes={**TINY, "graph": "one-sided", "devices": 6}).scenario
    problem = GossipTraining(scenario)
    slot = arrays.slot_at(play.trace_of(scenario, 3), 0)
    state = problem.start(slot)
    solver = play.DrawnSolver(scenario)
    listener, speaker = scenario.edges.T
    heard = set()
    for _ in range(30):
        decision = solver.solve(slot, state).decision
        assert not decision.reduce.any()
        for listen in decision.listen:
            assert listener[listen].tolist() == list(range(6))  # each listens to one
            heard |= set(speaker[listen & (listener == 0)].tolist())
    assert heard == {5, 4, 2}


def test_unknown_rules_are_named():
    with pytest.raises(ValueError, match=r"rule.*'everyone'"):
        Case("everyone")


def test_every_protocol_is_valid_and_used():
    used = {f.case for f in FAMILIES} | {f.base for f in FAMILIES}
    used |= {name for c in CLAIMS for name in (c.better, c.worse)}
    used |= {families.setting_case(s, p) for s in families.SETTINGS for p in families.POLICIES}
    used |= {families.payload_case(p, large) for p in families.PAYLOADS for large in (True, False)}
    assert used == set(CASES)
    # No two names mean the same protocol.
    scenarios = [(case.scenario, case.rule) for case in CASES.values()]
    assert all(a not in scenarios[:i] for i, a in enumerate(scenarios))
    assert {case.rule for case in CASES.values()} == set(play.RULES)


def test_names_mean_what_they_say():
    for large in (True, False):
        for payload in families.PAYLOADS:
            s = CASES[families.payload_case(payload, large)].scenario
            assert s.model_bits == (320e6 if large else 32e6)
            assert (s.speed_spread, s.rate_spread) == (0.0, 0.0)
    assert CASES["segments"].scenario.segments == play.PARTNERS
    assert CASES["ring"].scenario.graph == "ring"
    for name, spread in (("IID, equal", 0.0), ("IID, unequal", 1.0), ("skewed, equal", 0.0)):
        s = CASES[families.setting_case(name, "all-reduce")].scenario
        assert s.speed_spread == spread
        assert (s.partition == "iid") == name.startswith("IID")
    assert CASES["skewed, equal: nobody"].scenario.alpha == 0.01
    slow = CASES["slow links: SGP"].scenario
    assert slow == replace(CASES["slow links: SGP, overlap"].scenario, overlap=False)
    assert slow.rate == pytest.approx(0.1 * play.BASE.rate)


def test_the_survey_is_complete():
    """Every reference of its tables 2 and 6 is redone, or it is said why not."""
    there = {*range(69, 81), 38, *range(120, 127)}
    redone = {n for f in FAMILIES for n in _numbers(f.reference)}
    left_out = {n for key in LEFT_OUT for n in _numbers(key)}
    assert not redone & left_out
    assert there <= redone | left_out


def _numbers(text):
    found = set()
    for first, last in re.findall(r"\[(\d+)(?:-(\d+))?\]", text):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_claims_families_and_settings_by_hand(plays):
    (row,) = [r for r in study.claims(plays) if r.measure == "MB"]
    ours, base = plays["equal: federated distillation"], plays["equal: matching"]
    assert row.difference == pytest.approx((ours.sent_bits - base.sent_bits).mean() / 8e6)
    (row,) = [r for r in study.families(plays) if r.reference.startswith("[73]")]
    ours, base = plays["rotation"], plays["matching"]
    assert row.difference == pytest.approx((ours.error - base.error).mean())
    assert row.base_consensus == pytest.approx(base.consensus.mean())
    plays["IID, equal: ring"] = played([0.1, 0.4, 0.2], reached_s=[7.0, 9.0, 8.0])
    (row,) = [r for r in study.settings(plays) if (r.setting, r.policy) == ("IID, equal", "ring")]
    assert (row.error, row.reached_s) == (0.2, 8.0)
    assert tables.setting_cell(row) == "8 / 0.200"
    assert tables.setting_cell(replace(row, reached=0.5)) == "never / 0.200"
    values = played([0.1], reached_s=[7.0], reached_rounds=[3.0], reached_bits=[16e6])
    assert study.measured(values, "MB to 90 %") == [2.0]
    assert study.measured(values, "rounds to 90 %") == [3.0]
    assert study.measured(values, "s to 90 %") == [7.0]


def test_tables_show_the_rows(plays):
    rows = study.families(plays)
    claims = study.claims(plays)
    console = Console(width=WIDTH, file=io.StringIO())
    for table in (
        *(
            family_table(rows, number, title, "90 %", "MB sent")
            for number, title in tables.TITLES.items()
        ),
        tables.payload_table(study.payloads(plays)),
        tables.setting_table(study.settings(plays)),
        claim_table(claims),
    ):
        console.print(table)
    console.print(tables.REMARK)
    printed = console.file.getvalue()
    assert "…" not in printed
    assert all(row.reference in printed for row in rows)
    (row,) = [r for r in rows if r.reference == "[73] [Daily2018]"]
    assert f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" in printed
    for row in claims:
        assert row.source in printed


@pytest.mark.slow  # it plays everything
def test_files(tmp_path, capsys):
    folder = tmp_path / "run"
    rows = reproduce(REPRODUCTION, GossipTrainingRun(folder, worlds=2))
    assert {path.name for path in folder.iterdir()} == {
        "reproduction.json",
        "reproduction.csv",
        *REPRODUCTION.pictures,
        *REPRODUCTION.tables,
    }
    records = json.loads((folder / "reproduction.json").read_text())
    assert records == [asdict(row) for row in rows] and len(records) == len(CLAIMS)
    with (folder / "families.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(FAMILIES)
    for name in REPRODUCTION.pictures:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 15_000
    printed = capsys.readouterr().out
    for text in ("Table 2", "Table 6", "never", "hardly tuned"):
        assert text in printed
    assert "…" not in printed
    # What is so clear that two worlds show it.
    verdicts = {(r["source"], r["measure"]): r["verdict"] for r in records}
    assert verdicts["[Koloskova2019]", "MB to 90 %"] == "agrees"
    assert verdicts["[Jeong2018]", "test error"] == "agrees"
    assert verdicts["[HuC2019]", "s to 90 %"] == "agrees"
