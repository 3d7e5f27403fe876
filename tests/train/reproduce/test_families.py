"""What reproductions of problems with real learning share: rows, claims, and going on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from multiples import CASES, Numbers, multiples

from train.reproduce import KEPT
from train.reproduce.families.playing import WorldsRun, play_all
from train.reproduce.families.rows import Claim, Family, claim_rows, family_row, verdict


@dataclass(frozen=True)
class Played:
    error: np.ndarray
    test_accuracy: np.ndarray
    reached: np.ndarray
    reached_s: np.ndarray
    sent_mb: np.ndarray


def played(error, test=0.9):
    """What came of a protocol, of which the error and the test accuracy matter."""
    n = len(error)
    return Played(
        error=np.array(error),
        test_accuracy=np.full(n, test),
        reached=np.array([True] + [False] * (n - 1)),
        reached_s=np.full(n, 50.0),
        sent_mb=np.full(n, 3.0),
    )


@pytest.mark.parametrize(
    ("low", "high", "allowed", "expected"),
    [
        (-2.0, -1.0, 0.0, "agrees"),
        (-1.0, 1.0, 0.0, "open"),
        (0.0, 1.0, 0.0, "open"),
        (1.0, 2.0, 0.0, "does not agree"),
        (1.0, 2.0, 3.0, "agrees"),
        (1.0, 2.0, 1.5, "open"),
        (1.0, 2.0, 0.5, "does not agree"),
    ],
)
def test_verdicts(low, high, allowed, expected):
    assert verdict(low, high, allowed) == expected


def test_rows_by_hand():
    plays = {"a": played([0.1, 0.2], test=0.8), "b": played([0.3, 0.6])}
    row = family_row(Family(2, "[1]", "something", "a", "b"), plays)
    assert (row.error, row.base_error) == (pytest.approx(0.15), pytest.approx(0.45))
    assert row.difference == pytest.approx(-0.3)
    assert (row.low, row.high) == (pytest.approx(-0.4), pytest.approx(-0.2))
    assert (row.test_accuracy, row.base_test_accuracy) == (0.8, 0.9)
    assert (row.reached, row.reached_s, row.sent_mb) == (0.5, 50.0, 3.0)


def test_as_good_is_a_share_of_the_other():
    plays = {"a": played([0.21, 0.21]), "b": played([0.2, 0.2])}
    claims = [
        Claim("[1]", "as good", "error", "a", "b", 0.1),
        Claim("[1]", "as good, nearly", "error", "a", "b", 0.01),
        Claim("[1]", "better", "error", "a", "b"),
        Claim("[1]", "better", "error", "b", "a"),
    ]
    rows = claim_rows(claims, plays, lambda one, measure: getattr(one, measure))
    assert [row.allowed for row in rows] == pytest.approx([0.02, 0.002, 0.0, 0.0])
    assert [row.verdict for row in rows] == ["agrees", "does not agree", "does not agree", "agrees"]
    assert rows[0].difference == pytest.approx(0.01)


def test_what_was_played_is_not_played_again(tmp_path):
    asked = []

    def play(case, worlds):
        asked.append(case)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return multiples(case, worlds)

    run = WorldsRun(tmp_path, worlds=2, workers=1)
    with pytest.raises(KeyboardInterrupt, match="2 of 3"):
        play_all(CASES, play, Numbers, run)
    assert len(list((tmp_path / KEPT).iterdir())) == 2
    found = play_all(CASES, play, Numbers, run)
    assert asked == [1.0, 2.0, 3.0, 3.0]
    assert list(found) == list(CASES)
    assert {name: played.values.tolist() for name, played in found.items()} == {
        "one": [1.0, 2.0], "two": [2.0, 4.0], "three": [3.0, 6.0]
    }  # fmt: skip
    # Other worlds are other results, and so are other protocols of the same name.
    play_all(CASES, play, Numbers, WorldsRun(tmp_path, worlds=3, workers=1))
    assert asked[4:] == [1.0, 2.0, 3.0]
    play_all({"one": 5.0}, play, Numbers, run)
    assert asked[7:] == [5.0]


def test_files_that_cannot_be_read_are_played_again(tmp_path):
    asked = []

    def play(case, worlds):
        asked.append(case)
        return multiples(case, worlds)

    run = WorldsRun(tmp_path, worlds=2, workers=1)
    play_all(CASES, play, Numbers, run)
    first, second, _ = sorted((tmp_path / KEPT).iterdir())
    first.write_bytes(b"half a file")
    np.savez(second, other=np.zeros(2))
    asked.clear()
    found = play_all(CASES, play, Numbers, run)
    assert len(asked) == 2
    assert found["three"].values.tolist() == [3.0, 6.0]


@pytest.mark.slow  # new processes load everything
def test_processes_do_not_matter(tmp_path):
    found = [
        play_all(CASES, multiples, Numbers, WorldsRun(tmp_path / str(n), worlds=2, workers=n))
        for n in (1, 2)
    ]
    for name in CASES:
        assert found[0][name].values.tolist() == found[1][name].values.tolist()


@pytest.mark.parametrize("option", ["worlds", "workers"])
def test_numbers_must_be_some(option, tmp_path):
    with pytest.raises(ValueError, match=rf"{option}.*0"):
        WorldsRun(tmp_path, **{option: 0})
