"""Presets: found by environment, default first, and able to begin."""

import numpy as np
import pytest
from slow import slow_except

from agents.a3c.settings import A3CSettings
from agents.a3c.worker import first_network
from agents.heads import make_head
from agents.ppo.model import make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from mec_gym.registration import make_problem, rooms
from train.config import a3c_run, ppo_run
from train.presets import (
    a3c_presets,
    find_a3c_preset,
    find_ppo_preset,
    ppo_presets,
)

PAPER, DRIVE = "mec/TrainingOffloadPaper-v0", "mec/TrainingOffload-v0"
EXITS = "mec/EarlyExitPartition-v2"
PLACES = "mec/DistributedInference-v1"


@pytest.mark.parametrize(
    ("env_id", "default"),
    [(DRIVE, "drive"), (PAPER, "paper"), (EXITS, "early-exit"), (PLACES, "inference")],
)
def test_every_environment_has_a_default(env_id, default):
    name, preset = find_ppo_preset(env_id)
    assert name == default and find_ppo_preset(env_id, default) == (name, preset)
    assert find_ppo_preset(env_id, "flat")[1].settings == PPOSettings()


@pytest.mark.parametrize(
    ("env_id", "plain", "multi"),
    [
        (DRIVE, "drive", "mtl-drive"),
        (PAPER, "paper", "mtl-paper"),
        (EXITS, "early-exit", "mtl-early-exit"),
        (PLACES, "a3c", "mtl-a3c"),
    ],
)
def test_a3cs_defaults_follow_environment_and_kind(env_id, plain, multi):
    assert find_a3c_preset(env_id)[0] == find_a3c_preset(env_id, multi_task=False)[0] == plain
    assert find_a3c_preset(env_id, multi_task=True)[0] == multi
    assert not find_a3c_preset(env_id, "flat")[1].settings.multi_task
    assert find_a3c_preset(env_id, "mtl-flat", True)[1].settings.multi_task
    with pytest.raises(ValueError, match=rf"preset .*flat.*plain A3C, got '{multi}'"):
        find_a3c_preset(env_id, multi, False)
    with pytest.raises(ValueError, match=rf"preset .*{multi}.*multi-task A3C, got '{plain}'"):
        find_a3c_preset(env_id, plain, True)


def test_unknown_names():
    for find in (find_ppo_preset, find_a3c_preset):
        with pytest.raises(ValueError, match=r"preset .*flat.*'nothing'"):
            find(DRIVE, "nothing")
        with pytest.raises(ValueError, match=r"env_id .*'mec/Nothing-v0'"):
            find("mec/Nothing-v0")


def test_runs_from_python_are_the_presets(tmp_path):
    run, (name, preset) = ppo_run(tmp_path, DRIVE), find_ppo_preset(DRIVE)
    assert (run.preset, run.settings) == (name, preset.settings)
    assert run.total_timesteps == preset.total_timesteps == 1_000_000
    assert ppo_run(tmp_path, DRIVE, "flat", seed=3).seed == 3
    assert a3c_run(tmp_path, PLACES, multi_task=True).settings.multi_task


@pytest.mark.parametrize("name", ["total_timesteps", "eval_every", "eval_episodes"])
def test_bad_numbers(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} .*got 0"):
        ppo_run(tmp_path, DRIVE, **{name: 0})


@pytest.mark.parametrize(
    "name",
    slow_except([room.name for room in rooms()], "training_offload", "distributed_inference"),
)
def test_every_preset_begins(name):
    """Their settings fit together, and the problem; nobody learns anything here."""
    (room,) = (room for room in rooms() if room.name == name)
    for env_id in room.environments:
        problem = make_problem(env_id)
        for preset in ppo_presets(room).values():
            assert preset.total_timesteps > 0 and "\n" not in preset.about
            env = make_vec_env(problem, preset.settings)
            assert env.num_envs == preset.settings.num_envs
            make_ppo(env, preset.settings, seed=0)
        for preset in a3c_presets(room).values():
            assert isinstance(preset.settings, A3CSettings) and preset.total_timesteps > 0
            head = make_head(preset.settings.head, problem)
            network = first_network(problem, head, preset.settings, 0)
            assert network.choices == int(np.prod(head.output_space.shape))
