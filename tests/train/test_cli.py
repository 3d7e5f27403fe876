"""The command line says what is wrong, and every subcommand runs."""

import json

import pytest

from agents.registry import AGENTS
from mec_gym import ENVIRONMENTS
from train.__main__ import COMMANDS, main


def test_no_subcommand(capsys):
    assert main([]) == 2
    assert main(["nonsense"]) == 2
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"mec-gym {name}" in capsys.readouterr().out


def test_scenarios_lists_everything(capsys):
    assert main(["scenarios"]) == 0
    text = capsys.readouterr().out
    for env_id, entry in ENVIRONMENTS.items():
        assert env_id in text
        assert all(name in text for name in entry.presets)
    assert all(name in text for name in AGENTS)


def test_errors_are_one_line(capsys, tmp_path):
    out = str(tmp_path / "x")
    for args, message in (
        (["compare", "--out", out, "--agents", "nobody"], "agent must be one of"),
        (["ppo", "--out", out, "--env", "mec/Nothing-v0"], "env_id must be one of"),
        (["ppo", "--out", out, "--preset", "nothing"], "preset must be one of"),
        (["ppo", "--out", out, "--resume"], "holds no run to resume"),
        (["evaluate", f"ppo:{out}"], "holds no finished PPO run"),
        (["reproduce", "nothing", "--out", out], "what must be"),
    ):
        assert main(args) == 2, args
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error
        assert error.count("\n") == 1


def test_bad_values_are_named_by_the_parser(capsys, tmp_path):
    for option, message in (
        (["--total-timesteps", "-1"], "total_timesteps must be a whole number"),
        (["--settings.gamma", "2"], "gamma must be in [0, 1]"),
        (["--settings.head", "deep"], "--settings.head"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["ppo", "--out", str(tmp_path / "x"), *option])
        assert stop.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_compare_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "c"
    args = ["compare", "--env", "mec/TrainingOffloadPaper-v0", "--episodes", "50"]
    assert main([*args, "--agents", "exact", "end-cloud", "random-split", "--out", str(out)]) == 0
    exact, cloud, random = json.loads((out / "results.json").read_text())
    assert exact["gap_percent_mean"] < 1e-3
    assert 30 < cloud["gap_percent_mean"] < 200
    assert random["return_mean"] < exact["return_mean"]
    assert "end-cloud" in capsys.readouterr().out


def test_ppo_defaults_follow_the_environment(tmp_path):
    out = tmp_path / "p"
    args = ["ppo", "--env", "mec/TrainingOffloadPaper-v0", "--out", str(out)]
    args += ["--total-timesteps", "64", "--eval-episodes", "4"]
    args += ["--settings.num-envs", "8", "--settings.n-steps", "8"]
    assert main(args) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["preset"] == "paper"
    assert config["settings"]["head"] == "flat"
    assert config["settings"]["gamma"] == 0.0
    assert main(["evaluate", f"ppo:{out}", "--env", "mec/TrainingOffloadPaper-v0"]) == 0
    assert main(["evaluate", f"ppo:{out}"]) == 2  # another environment
