"""What the command line says about a measured uplink becomes part of the scenario's name."""

import pytest

from train.__main__ import main
from train.bandwidth_options import into_scenario


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ppo --scenario csv:a.csv --seed 3", "ppo --scenario csv:a.csv --seed 3"),
        ("--bandwidth-unit Mbps --scenario csv:a.csv -x", "--scenario csv:a.csv+unit=Mbps -x"),
        (
            "--scenario=csv:a.csv+profile:b.json --max-gap=9 --bandwidth-unit kbit/s",
            "--scenario=csv:a.csv+max_gap=9+unit=kbit/s+profile:b.json",
        ),
        ("--scenario profile:b+csv:a --max-gap 9", "--scenario profile:b+csv:a+max_gap=9"),
    ],
)  # fmt: skip
def test_options_go_into_the_scenario(words, expected):
    assert into_scenario(words.split()) == expected.split()


@pytest.mark.parametrize(
    "words", ["--max-gap 9", "--scenario mixed --max-gap 9", "--max-gap 9 csv:a.csv"]
)
def test_without_a_measured_uplink_they_are_refused(words):
    with pytest.raises(ValueError, match=r"--max-gap .*csv:PATH"):
        into_scenario(words.split())
    with pytest.raises(ValueError, match=r"--max-gap needs a value"):
        into_scenario(["--scenario", "csv:a.csv", "--max-gap"])


def test_from_the_command_line(tmp_path, capsys):
    uplink = tmp_path / "uplink.csv"
    uplink.write_text("time,bandwidth\n" + "".join(f"{t},{5 + t % 3}\n" for t in range(30)))
    words = ["evaluate", "device-only", "--env", "mec/EarlyExitPartition-v2", "--episodes", "1"]
    words += ["--scenario", f"csv:{uplink}"]
    assert main(words) == 2 and "--bandwidth-unit" in capsys.readouterr().err
    assert main([*words, "--bandwidth-unit", "Mbit/s"]) == 0
