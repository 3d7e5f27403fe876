"""Families of federated training: the same worlds, what is counted, and what is written."""

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
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario
from train.reproduce import WIDTH, reproduce
from train.reproduce.families.playing import play_all
from train.reproduce.families.tables import claim_table, family_table
from train.reproduce.federated_training import (
    REPRODUCTION,
    FederatedTrainingRun,
    families,
    play,
    study,
    tables,
)
from train.reproduce.federated_training.families import CASES, CLAIMS, FAMILIES, LEFT_OUT
from train.reproduce.federated_training.play import Case, Played

TINY = {
    "clients": 6,
    "at_once": 3,
    "quorum": 2,
    "local_steps": 2,
    "batch": 4,
    "hidden": 4,
    "budget_s": 200.0,
    "decisions": 40,
}


def played(error, **others):
    """What came of a protocol in some worlds, of which only some numbers matter."""
    n = len(error)
    numbers = {
        name: np.zeros(n)
        for name in Played.__dataclass_fields__
        if name not in ("time_s", "accuracy", "reached")
    }
    numbers |= {"error": np.array(error), "reached": np.ones(n, dtype=bool)}
    numbers |= {"time_s": np.zeros(3), "accuracy": np.zeros((n, 3))}
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
            reached_merges=rng.uniform(10, 300, 4),
            reached_bits=rng.uniform(1e9, 1e10, 4),
            up_bits=rng.uniform(1e9, 3e10, 4),
            jobs=rng.uniform(100, 1000, 4),
            merge_s=rng.uniform(1, 100, 4),
        )
        for name in CASES
    }


def test_worlds_are_the_same_whatever_the_protocol():
    base = play.trace_of(Case(TINY).scenario, 2)
    always = ("jitter", "key", "speed", "uplink", "downlink", "initial")
    for changes, others in (
        ({"quorum": 3, "late": "drop", "server_momentum": 0.5}, ()),
        ({"partition": "iid", "size_spread": 1.0}, ("own", "samples")),
        ({"availability": "churn", "on_s": 30.0, "off_s": 30.0}, ("present",)),
        ({"partition": "iid", "feature_spread": 1.0}, ("own", "gain")),
    ):
        trace = play.trace_of(Case({**TINY, **changes}).scenario, 2)
        for name in (*always, "own", "samples", "present"):
            same = np.array_equal(getattr(trace, name), getattr(base, name))
            if name in always or not {"partition", "availability"} & set(changes):
                assert same, (changes, name)
        for name in others:
            assert not np.array_equal(getattr(trace, name), getattr(base, name)), (changes, name)


@pytest.mark.parametrize("late", ["keep", "drop"])
def test_what_is_counted(monkeypatch, late):
    """Against the outcomes of all steps, one by one."""
    kept = []

    class Recording(FederatedTraining):
        def step(self, slot, state, decision):
            after, outcome = super().step(slot, state, decision)
            kept.append((self.done(state), after.clock, outcome))
            return after, outcome

    monkeypatch.setattr(play, "FederatedTraining", Recording)
    monkeypatch.setattr(play, "TARGET", 0.15)
    case = Case({**TINY, "late": late, "rate": 0.5})
    found = play.play(case, 2)
    assert found.reached.any()
    for i in range(2):
        steps = [
            (float(clock[i]), arrays.at(outcome, i)) for over, clock, outcome in kept if not over[i]
        ]
        total = {
            name: sum(float(getattr(o, name)) for _, o in steps)
            for name in ("cost_s", "sent_bits", "sent_off", "merged", "lost", "dropped")
        }
        assert steps[-1][0] == pytest.approx(200.0)
        assert found.error[i] == pytest.approx(total["cost_s"] / 200.0)
        assert found.test_accuracy[i] == float(steps[-1][1].test_accuracy) > 0
        assert found.jobs[i] == total["sent_off"]
        assert found.up_bits[i] == pytest.approx(total["sent_bits"] - 32e6 * total["sent_off"])
        useless = (total["lost"] + total["dropped"]) / total["sent_off"]
        assert found.useless[i] == pytest.approx(useless)
        merging = [clock for clock, o in steps if o.merged > 0]
        assert found.merges[i] == len(merging)
        assert found.merge_s[i] == pytest.approx(merging[-1] / len(merging))
        stale = sum(float(o.staleness * o.merged) for _, o in steps) / total["merged"]
        assert found.staleness[i] == pytest.approx(stale)
        good = [j for j, (_, o) in enumerate(steps) if o.accuracy >= 0.15]
        assert found.reached[i] == bool(good)
        last = good[0] if good else len(steps) - 1
        assert found.reached_s[i] == steps[last][0]
        until = steps[: last + 1]
        assert found.reached_merges[i] == sum(o.merged > 0 for _, o in until)
        bits = sum(float(o.sent_bits) - 32e6 * float(o.sent_off) for _, o in until)
        assert found.reached_bits[i] == pytest.approx(bits)
        for t, accuracy in zip(found.time_s[1::20], found.accuracy[i, 1::20], strict=True):
            before = [float(o.accuracy) for clock, o in steps if clock <= t]
            if before:
                assert accuracy == before[-1]


def start(**changes):
    """A state of 400 worlds before the first decision, with its slot and its scenario."""
    scenario = Scenario(**{**TINY, **changes})
    one = FederatedTraining(scenario)
    slot = arrays.slot_at(scenario.sample(np.random.default_rng(1), 1), 0)
    slot = arrays.map_arrays(lambda a: np.repeat(a, 400, axis=0), slot)
    return slot, one.start(slot), scenario


def test_who_may_be_drawn():
    rng = np.random.default_rng
    slot, state, scenario = start(deadline=15.0, availability="churn", control_steps=True)
    fleet = play.fleet_now(slot, state, scenario)
    sent = {
        who: play.decide(Case(who=who), slot, state, scenario, rng(0)).score > 0
        for who in ("any", "in-time", "staying", "tier")
    }
    assert sent["any"].all()
    assert np.array_equal(sent["in-time"], fleet.seconds <= 15.0)
    assert 0 < sent["in-time"].sum() < sent["in-time"].size
    begin = np.arange(scenario.bins) * scenario.bin_s
    until = [[begin[~p].min() if (~p).any() else np.inf for p in c] for c in slot.present]
    assert np.array_equal(sent["staying"], fleet.seconds <= np.array(until))
    # Two of six clients make a tier, and all three tiers are drawn.
    assert (sent["tier"].sum(axis=-1) == 2).all()
    order = np.argsort(fleet.seconds[0])
    drawn = {tuple(sorted(np.flatnonzero(row))) for row in sent["tier"]}
    assert drawn == {tuple(sorted(order[i : i + 2])) for i in (0, 2, 4)}


def test_clients_are_drawn_by_their_size():
    slot, state, scenario = start(size_spread=1.0)
    score = play.decide(Case(who="by-size"), slot, state, scenario, np.random.default_rng(0)).score
    first = np.bincount(score.argmax(axis=-1), minlength=6) / 400
    share = slot.samples[0] / slot.samples[0].sum()
    assert share.max() > 2 * share.min()
    assert first == pytest.approx(share, abs=4 * np.sqrt(0.25 / 400))


def test_how_many_steps_are_taken():
    slot, state, scenario = start(control_steps=True, local_steps=11, size_spread=1.0)
    rng = np.random.default_rng

    def taken(effort):
        decision = play.decide(Case(effort=effort), slot, state, scenario, rng(0))
        assert (np.abs(decision.effort) <= 1).all()
        return 1 + 10 * (decision.effort[0] + 1) / 2

    fleet = arrays.at(play.fleet_now(slot, state, scenario), 0)
    end = np.median(fleet.seconds)
    steps = taken("by-speed")
    assert (steps[fleet.seconds <= end] == 11).all() and steps.min() < 11
    slow = (fleet.seconds > end) & (steps > 1)
    needed = fleet.linking_s + fleet.computing_s * steps / 11
    assert needed[slow] == pytest.approx(np.full(slow.sum(), end))
    expected = np.maximum(11 * fleet.samples / fleet.samples.max(), 1)
    assert taken("by-samples") == pytest.approx(expected)


def test_all_protocols_draw_the_same_numbers():
    slot, state, scenario = start(deadline=15.0)
    after = []
    for who in ("any", "in-time", "tier", "by-size"):
        rng = np.random.default_rng(7)
        play.decide(Case(who=who), slot, state, scenario, rng)
        after.append(rng.random())
    assert len(set(after)) == 1


def test_unknown_rules_are_named():
    with pytest.raises(ValueError, match=r"who.*'nobody'"):
        Case(who="nobody")
    with pytest.raises(ValueError, match=r"effort.*'none'"):
        Case(effort="none")


def test_every_protocol_is_valid_and_used():
    used = {f.case for f in FAMILIES} | {f.base for f in FAMILIES}
    used |= {name for c in CLAIMS for name in (c.better, c.worse)}
    used |= {name + end for name in families.TRIGGERS.values() for end in ("", ", iid")}
    used |= {families.skew_case(a) for a in families.SKEWS}
    used |= {families.quorum_case(k, kept) for k in families.QUORUMS for kept in (True, False)}
    used |= {families.payload_case(p, large) for p in families.PAYLOADS for large in (True, False)}
    assert used == set(CASES)
    # No two names mean the same protocol.
    scenarios = [(case.scenario, case.who, case.effort) for case in CASES.values()]
    assert all(a not in scenarios[:i] for i, a in enumerate(scenarios))


def test_names_mean_what_they_say():
    for alpha in families.SKEWS:
        assert CASES[families.skew_case(alpha)].scenario.alpha == alpha
    for kept in (True, False):
        for k in families.QUORUMS:
            s = CASES[families.quorum_case(k, kept)].scenario
            assert (s.quorum, s.late, s.at_once) == (k, "keep" if kept else "drop", 10)
            assert s.staleness == "power"
    for large in (True, False):
        for payload in families.PAYLOADS:
            s = CASES[families.payload_case(payload, large)].scenario
            assert s.model_bits == (320e6 if large else 32e6)
            assert (s.payload == "weights") == (payload == "all weights")
    for name in families.TRIGGERS.values():
        alike, unlike = (CASES[name + end].scenario for end in (", iid", ""))
        assert replace(alike, partition="dirichlet") == unlike


def test_the_survey_is_complete():
    """Every reference of its tables 1, 3 and 4 is redone, or it is said why not."""
    there = {
        *(41, 56, 58, 59, 60, 62, 63, 64, 65, 66, 67),
        *(83, 84, 85, 61, 86, 90, 92, 91, 94, 95),
        *(40, *range(96, 108)),
    }
    redone = {int(n) for f in FAMILIES for n in re.findall(r"\[(\d+)\]", f.reference)}
    left_out = {int(n) for key in LEFT_OUT for n in re.findall(r"\[(\d+)\]", key)}
    assert not redone & left_out
    assert there <= redone | left_out


def test_claims_and_families_by_hand(plays):
    (row,) = [r for r in study.claims(plays) if r.source == "[WangJ2020]"]
    ours, base = plays["equal, normalised"], plays["equal, steps"]
    assert row.ours_better == pytest.approx(1 - ours.test_accuracy.mean())
    assert row.difference == pytest.approx((base.test_accuracy - ours.test_accuracy).mean())
    assert row.low <= row.difference <= row.high
    (row,) = [r for r in study.families(plays) if r.reference.startswith("[101]")]
    assert row.difference == pytest.approx((ours.error - base.error).mean())
    assert row.base_sent_mb == pytest.approx(base.up_bits.mean() / 8e6)
    values = played([0.1], reached_s=[7.0], reached_merges=[3.0], reached_bits=[16e6])
    assert study.measured(values, "MB to 80 %") == [2.0]
    assert study.measured(values, "merges to 80 %") == [3.0]
    assert study.measured(values, "s to 80 %") == [7.0]


def test_bits_of_an_update_are_a_share(plays):
    plays["semi-async"] = played([0.1, 0.1], up_bits=[90.0, 10.0], jobs=[9.0, 1.0])
    plays["rank 2"] = played([0.1, 0.1], up_bits=[50.0, 10.0], jobs=[10.0, 10.0])
    (row,) = [r for r in study.payloads(plays) if r.payload == "rank 2" and not r.large]
    assert row.share == pytest.approx(0.3)


def test_tables_show_the_rows(plays):
    rows = study.families(plays)
    claims = study.claims(plays)
    console = Console(width=WIDTH, file=io.StringIO())
    for table in (
        *(
            family_table(rows, number, title, "80 %", "MB up")
            for number, title in tables.TITLES.items()
        ),
        tables.quorum_table(study.quorums(plays)),
        tables.payload_table(study.payloads(plays)),
        claim_table(claims),
    ):
        console.print(table)
    console.print(tables.REMARK)
    printed = console.file.getvalue()
    assert "…" not in printed
    assert all(row.reference in printed for row in rows)
    (row,) = [r for r in rows if r.reference == "[99] [Karimireddy2020]"]
    assert f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" in printed
    for row in claims:
        assert row.source.split(",")[0] in printed
    assert {row.verdict for row in claims} <= {"agrees", "open", "does not agree"}


@pytest.mark.slow  # new processes load everything
def test_processes_do_not_matter(tmp_path):
    cases = {"a": Case(TINY), "b": Case({**TINY, "late": "drop"})}
    one, two = (
        play_all(
            cases, play.play, Played, FederatedTrainingRun(tmp_path / str(n), worlds=2, workers=n)
        )
        for n in (1, 2)
    )
    for name in cases:
        assert one[name].error.tolist() == two[name].error.tolist()
        assert one[name].accuracy.tolist() == two[name].accuracy.tolist()


@pytest.mark.slow  # it plays everything
def test_files(tmp_path, capsys):
    folder = tmp_path / "run"
    rows = reproduce(REPRODUCTION, FederatedTrainingRun(folder, worlds=2))
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
    for text in ("Table 1", "Table 3", "Table 4", "K-async", "not tuned per row"):
        assert text in printed
    assert "…" not in printed
    # What is so clear that two worlds show it.
    verdicts = {(r["better"], r["worse"], r["measure"]): r["verdict"] for r in records}
    for claim in (
        ("equal, iid", "equal", "test error"),
        ("spare", "sync", "s to 80 %"),
        ("in time", "sync", "s to 80 %"),
    ):
        assert verdicts[claim] == "agrees"
