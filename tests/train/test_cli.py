"""The command line says what is wrong, and every subcommand runs."""

import json

import pytest

import mec_gym
from agents.heads import heads_of
from agents.registry import RUNS, agents_of, references_of
from mec_gym.registration import rooms
from train.__main__ import COMMANDS, main
from train.presets import a3c_presets, ppo_presets

PAPER, DRIVE = "mec/TrainingOffloadPaper-v0", "mec/TrainingOffload-v0"
PLACES = "mec/DistributedInference-v1"
OWN_IDS = [env_id for room in rooms() if room.is_ours for env_id in room.environments]


def test_no_subcommand(capsys):
    assert main([]) == 2
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == text
    assert main(["nonsense"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: SUBCOMMAND must be one of ppo, ")
    assert captured.err.endswith("got 'nonsense'\n") and captured.out == ""


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "scenarios"])
def test_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"mec-gym {name}" in capsys.readouterr().out


def test_scenarios_lists_everything(capsys):
    assert main(["scenarios"]) == 0
    words = set(capsys.readouterr().out.replace(":", " ").split())
    for room in rooms():
        tables = [agents_of(room), references_of(room), heads_of(room)]
        tables += [ppo_presets(room), a3c_presets(room)]
        for env_id, entry in room.environments.items():
            assert {env_id, *entry.presets, *entry.sources} <= words
        for table in tables:
            assert set(table) <= words
    assert {*RUNS, "sb3", "MODULE"} <= words


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compare", "--agents", "nobody"], "agent must be one of"),
        (["compare", "--env", "mec/Nothing-v0"], "env_id must be one of"),
        (["ppo", "--env", "mec/Nothing-v0"], "env_id must be one of"),
        (["ppo", "--preset", "nothing"], "preset must be one of drive, drive-value, paper, flat"),
        (["ppo", "--resume"], "holds no run to resume"),
        (["ppo", "--settings.head", "deep"], "head must be one of flat, price"),
        (["ppo", "--scenario", "moon"], "scenario must be one of drive"),
        (["a3c", "--preset", "nothing"], "preset must be one of drive, "),
        (["a3c", "--preset", "mtl-drive"], "for plain A3C, got 'mtl-drive'"),
        (["mtl-a3c", "--preset", "drive"], "for multi-task A3C, got 'drive'"),
        (["a3c", "--env", "mec/Nothing-v0"], "env_id must be one of"),
        (["a3c", "--rule", "nobody"], "rule must be one of sdp, "),
        (["a3c", "--settings.network", "deep"], "network must be one of"),
        (["a3c", "--env", PLACES, "--resume"], "holds no run to resume"),
        (["reproduce", "nothing"], "what must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line(capsys, tmp_path, args, message):
    assert main([*args, "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_errors_of_other_commands_are_one_line(capsys, tmp_path):
    for args, message in (
        (["evaluate", f"ppo:{tmp_path}"], "config.json is missing"),
        (["evaluate", "exact", "--env", "mec/No-v0"], "env_id must be one of"),
        (["scenarios", "all"], "scenarios takes no arguments, got all"),
        (["--import"], "--import needs the name of a module"),
        (["--imports", "x"], "unknown option --imports"),
        (["--import", "tiny_problem", "scenarios"], "tiny_problem must have a table ENVIRONMENTS"),
    ):
        assert main(args) == 2, args
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_bad_values_are_named_by_the_parser(capsys, tmp_path):
    for option, message in (
        (["--total-timesteps", "-1"], "total_timesteps must be a whole number"),
        (["--settings.gamma", "2"], "gamma must be in [0, 1]"),
        (["--settings.order", "deep"], "--settings.order"),
    ):
        for command in ("ppo", "a3c"):
            with pytest.raises(SystemExit) as stop:
                main([command, "--out", str(tmp_path / "x"), *option])
            assert stop.value.code == 2
            assert message in " ".join(capsys.readouterr().err.split())


def test_compare_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "c"
    args = ["compare", "--env", PAPER, "--episodes", "50", "--out", str(out)]
    assert main([*args, "--agents", "exact", "end-cloud", "random-split"]) == 0
    exact, cloud, random = json.loads((out / "results.json").read_text())
    assert exact["gap_percent_mean"] < 1e-3
    assert 30 < cloud["gap_percent_mean"] < 200
    assert random["return_mean"] < exact["return_mean"]
    assert "end-cloud" in capsys.readouterr().out


def test_ppo_defaults_follow_the_environment_and_evaluate_the_run(tmp_path, capsys):
    out = tmp_path / "p"
    args = ["ppo", "--env", PAPER, "--out", str(out), "--total-timesteps", "64"]
    args += ["--eval-episodes", "4", "--settings.num-envs", "8", "--settings.n-steps", "8"]
    assert main(args) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["preset"] == "paper" and config["settings"]["head"] == "flat"
    assert config["settings"]["gamma"] == 0.0 and config["settings"]["n_steps"] == 8
    capsys.readouterr()
    assert main(["evaluate", f"ppo:{out}", "--episodes", "5"]) == 0
    assert PAPER in capsys.readouterr().out
    assert main(["evaluate", f"ppo:{out}", "--env", DRIVE]) == 2
    assert f"{PAPER}, not {DRIVE}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("env_id", OWN_IDS)
def test_a3c_and_multi_task_a3c_learn_everywhere(tmp_path, capsys, env_id):
    for name in ("a3c", "mtl-a3c"):
        out = tmp_path / name
        args = [name, "--out", str(out), "--total-timesteps", "16", "--eval-episodes", "2"]
        args += ["--settings.workers", "1", "--settings.num-envs", "4", "--settings.n-steps", "4"]
        assert main([*args, "--env", env_id]) == 0
        config = json.loads((out / "config.json").read_text())
        assert (config["env"], config["settings"]["multi_task"]) == (env_id, name == "mtl-a3c")
        assert main(["evaluate", f"{name}:{out}", "--episodes", "5"]) == 0
        assert name in capsys.readouterr().out
    assert main(["evaluate", f"a3c:{tmp_path / 'mtl-a3c'}"]) == 2
    assert "call it mtl-a3c:" in capsys.readouterr().err


def test_problems_of_ones_own_are_imported_first(tmp_path, capsys):
    try:
        assert main(["--import", "places_problem", "evaluate", "random", "--env", "tests/Places-v0",
                     "--episodes", "3"]) == 0  # fmt: skip
        assert "tests/Places-v0, 3 episodes" in capsys.readouterr().out
    finally:
        mec_gym.unregister_room("places_problem")
