"""The command that calibrates: what it writes, prints and refuses; nothing is left of a stop."""

import pytest
from dnn.test_calibration import small_networks

from mec_gym.dnn import calibration
from mec_gym.dnn.fit import load_fit
from train.__main__ import main
from train.config import CalibrateRun


@pytest.fixture
def small(monkeypatch):
    """Small networks in the place of its own."""
    monkeypatch.setattr(calibration, "calibration_networks", small_networks)


def test_what_it_writes_and_prints(small, tmp_path, capsys):
    out = tmp_path / "deep" / "fit.json"
    args = ["calibrate", "--out", str(out), "--seconds", "0.01"]
    assert main(args) == 0
    fit = load_fit(out)
    assert fit.provenance["threads"] == 1 and fit.provenance["clock"] == "thread_time"
    text, bar = capsys.readouterr()
    text = " ".join(text.split())
    for words in ("│ linear │ 3 │", "│ any │ 7 │", "networks held out are off by", f"wrote {out}"):
        assert words in text
    assert "100%" in bar
    before = out.read_bytes()
    assert main(args) == 2
    assert "exists: give --overwrite" in capsys.readouterr().err and out.read_bytes() == before
    assert main([*args, "--overwrite"]) == 0


def test_repeats_that_scatter_are_told(small, tmp_path, capsys, monkeypatch):
    for most, told in ((-1.0, True), (1.0, False)):
        monkeypatch.setattr("train.calibrate.MANY", most)
        args = ["--out", str(tmp_path / "fit.json"), "--seconds", "0.01", "--overwrite"]
        assert main(["calibrate", *args]) == 0
        assert ("scatter; calibrate again" in capsys.readouterr().out) == told


def test_nothing_is_left_when_it_is_stopped(small, tmp_path, monkeypatch, capsys):
    def stop(self, counts=True):
        raise KeyboardInterrupt

    monkeypatch.setattr("mec_gym.dnn.profile.timing.NodeTimer.run", stop)
    assert main(["calibrate", "--out", str(tmp_path / "fit.json")]) == 130
    assert "stopped" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_options_are_checked(small, tmp_path, capsys):
    for change, message in (
        ({"seconds": 0.0}, "seconds .*0"),
        ({"threads": 0}, "threads .*0"),
        ({"out": tmp_path / "fit.txt"}, r"out .*\.json.*fit\.txt"),
    ):
        with pytest.raises(ValueError, match=message):
            CalibrateRun(**{"out": tmp_path / "fit.json", **change})
    assert main(["calibrate", "--out", str(tmp_path / "a.json"), "--device", "abacus"]) == 2
    assert "got 'abacus'" in capsys.readouterr().err
