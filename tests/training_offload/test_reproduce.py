"""The paper's figures: ours against the design's numbers, and what cannot be reached."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from slow import slow_except

from mec_gym.training_offload.scenario import MEGA, VARIANTS, Scenario
from train.reproduce import reproduce
from train.reproduce.training_offload import (
    FIGURES,
    READINGS,
    REPRODUCTION,
    SCHEMES,
    TrainingOffloadRun,
    curves,
    delays,
    paper_slot,
)

DRAWS = 400


def test_one_task_has_the_hand_computed_delays():
    # The design's check values: W = 350 Mbit, T_ct = 15 s.
    expected = {"finish": 24.7604, "split": 25.1890, "literal": 17.1874}
    for variant, optimum in expected.items():
        scenario = Scenario(variant=variant)
        slot = paper_slot(scenario, np.array(350.0 * MEGA), np.array(15.0))
        best, cloud, edge, drawn = delays(slot, scenario)
        assert best == pytest.approx(optimum, abs=1e-4)
        assert cloud == pytest.approx(46.310, abs=1e-3)
        assert drawn >= best
        if variant == "finish":
            assert edge == pytest.approx(32.348, abs=1e-3)


@pytest.mark.parametrize(
    ("number", "cloud", "edge"),
    slow_except([(4, 46.72, 23.66), (5, 46.69, 23.58), (6, 46.57, 23.79)], (4, 46.72, 23.66)),
)
def test_reductions_of_finish(number, cloud, edge):
    ours = curves(number, "finish", draws=4000).reductions()
    # Only figure 6 draws its tasks; in 4 and 5 the optima are exact.
    tolerance = 0.15 if number == 6 else 0.005
    assert ours[0] == pytest.approx(cloud, abs=tolerance)
    assert ours[1] == pytest.approx(edge, abs=tolerance)
    # The design expects 52 to 56 %; 100 000 draws give 51.9.
    assert ours[2] == pytest.approx(51.9, abs=0.7)


def test_figure_4_against_a_reduction_by_hand():
    # End-cloud trains at a constant rate: 4.2105 on the device, 1 / (1/4 + 0.1/4 + 1/42.105)
    # in the cloud, Mbit/s.
    rate = 4.2105 + 1 / (1 / 4 + 0.1 / 4 + 1 / 42.105)
    found = curves(4, "split", draws=2)
    assert found.x.tolist() == [50, 100, 150, 200, 250, 300, 350]
    np.testing.assert_allclose(found.delay[1], found.x / rate, rtol=1e-12)


def test_users_share_nothing():
    """Whatever the number of users, each point has the same mean, but for chance."""
    optimum = curves(6, "finish", draws=2000).delay[0]
    np.testing.assert_allclose(optimum, optimum.mean(), rtol=0.05)


@pytest.mark.parametrize("variant", slow_except(VARIANTS, "literal"))
def test_the_claim_of_figure_6_is_out_of_reach(variant):
    """Constant rates: the reductions against end-cloud and end-edge sum to at most 100 %."""
    claimed = FIGURES[6].claimed
    assert sum(claimed[:2]) == pytest.approx(115.3)
    for number in FIGURES:
        assert curves(number, variant, DRAWS).reductions()[:2].sum() < 80

    scenario = Scenario(variant=variant)
    work, time = np.meshgrid(np.arange(50.0, 351, 2), np.arange(1.0, 30.1, 0.2))
    best, cloud, edge, _ = delays(paper_slot(scenario, work * MEGA, time), scenario)
    largest = 100 * (2 - best / cloud - best / edge).max()
    if variant == "literal":
        # What has arrived but is not trained at the hand-over costs nothing, so the edge's rate
        # is not constant, and single tasks pass the limit that means stay below.
        assert 105 < largest < 110
    else:
        assert 70 < largest < 77


def test_files_and_draws(tmp_path):
    folder = tmp_path / "run"
    reproduce(REPRODUCTION, TrainingOffloadRun(folder, draws=20))
    rows = json.loads((folder / "reproduction.json").read_text())
    keys = [(row["figure"], row["variant"], row["scheme"]) for row in rows]
    assert keys == [(f, v, s) for f in (4, 5, 6) for v in VARIANTS for s in SCHEMES[1:]]
    assert set(rows[0]) == {"figure", "variant", "scheme", "ours_percent", "claimed_percent"}
    assert [row["claimed_percent"] for row in rows[:3]] == [45.93, 23.10, 57.01]
    for k, row in enumerate(rows):
        if k % 3 == 0:
            ours = curves(row["figure"], row["variant"], 20).reductions()
        assert row["ours_percent"] == pytest.approx(ours[k % 3], rel=1e-12)
    with (folder / "reproduction.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [{k: str(v) for k, v in row.items()} for row in rows] == lines
    assert {path.name for path in folder.iterdir()} == {
        "reproduction.json", "reproduction.csv", *REPRODUCTION.pictures
    }  # fmt: skip
    for number in FIGURES:
        content = (folder / f"figure_{number}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 20_000


def test_every_variant_is_shown():
    assert tuple(READINGS) == VARIANTS
