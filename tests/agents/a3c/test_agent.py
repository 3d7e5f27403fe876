"""A trained network is an agent, and its file is refused where it does not fit."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from places_problem import PlacesProblem

from agents.a3c.agent import MODEL_FILE, load_a3c
from agents.a3c.settings import A3CSettings
from agents.a3c.worker import first_network
from agents.heads import make_head
from agents.registry import make_agent
from agents.trained_agent import TrainedAgent
from mec_gym.core.rollout import sample_episodes
from mec_gym.testing import check_agent

PROBLEM = PlacesProblem(devices=3, places=4)
SETTINGS = A3CSettings(network="branches", multi_task=True, hidden=8)
ENV = "mec/Places-v0"


def agent(seed=0, settings=SETTINGS, problem=PROBLEM):
    head = make_head("flat", problem)
    return TrainedAgent(first_network(problem, head, settings, seed), head)


def observations(n=50):
    slot = sample_episodes(PROBLEM, 0, n)
    return PROBLEM.observe(slot, PROBLEM.start(slot))[:, 0]


@pytest.fixture
def run(tmp_path):
    """A finished run, as train/a3c.py leaves it."""
    folder = tmp_path / "run"
    agent(3).save(folder / MODEL_FILE)
    config = {"env": ENV, "scenario": None, "settings": dataclasses.asdict(SETTINGS)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_is_an_agent():
    check_agent(agent(), PROBLEM)


def test_one_or_many():
    seen = observations()
    many, memory = agent().predict(seen, deterministic=True)
    assert many.shape == (50, 3) and many.dtype == np.int64 and memory is None
    for i in (0, 7):
        assert np.array_equal(agent().predict(seen[i], deterministic=True)[0], many[i])
    assert len(np.unique(many)) > 1


def test_draws_from_its_own_generator():
    seen = observations(200)
    made = agent()
    torch.manual_seed(0)
    first = made.predict(seen)[0]
    assert not np.array_equal(first, made.predict(seen)[0])
    assert np.array_equal(first, agent().predict(seen)[0])
    # Close to uniform at first.
    assert np.bincount(first.ravel(), minlength=4) == pytest.approx(150, rel=0.25)


def test_a_saved_run_plays_as_it_did(run):
    expected = agent(3).predict(observations(), deterministic=True)[0]
    for path in (run, str(run), run / MODEL_FILE):
        loaded = load_a3c(path, PROBLEM, ENV, multi_task=True)
        assert np.array_equal(loaded.predict(observations(), deterministic=True)[0], expected)
    named = make_agent(f"mtl-a3c:{run}", PROBLEM, env_id=ENV)
    assert np.array_equal(named.predict(observations(), deterministic=True)[0], expected)
    assert not np.array_equal(agent(4).predict(observations(), deterministic=True)[0], expected)


def test_the_two_kinds_are_not_mixed_up(run):
    with pytest.raises(ValueError, match=rf"{run} is no a3c run; call it mtl-a3c:{run}"):
        make_agent(f"a3c:{run}", PROBLEM)


def test_ppo_runs_are_told_apart(run):
    with pytest.raises(ValueError, match=r"no finished PPO run: model\.zip is missing"):
        make_agent(f"ppo:{run}", PROBLEM)
    (run / MODEL_FILE).unlink()
    with pytest.raises(ValueError, match=r"no finished A3C run: model\.pt is missing"):
        make_agent(f"mtl-a3c:{run}", PROBLEM)


def test_unknown_names_list_what_there_is():
    with pytest.raises(ValueError, match="ppo:PATH, a3c:PATH, mtl-a3c:PATH, got 'a4c:x'"):
        make_agent("a4c:x", PROBLEM)


def test_damaged_models(run):
    content = (run / MODEL_FILE).read_bytes()
    flipped = bytearray(content)
    flipped[content.index(agent(3).network.value.weight.detach().numpy().tobytes())] ^= 0xFF
    for damaged in (b"", b"hello", content[:100], content[: len(content) // 2], bytes(flipped)):
        (run / MODEL_FILE).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.pt is damaged"):
            load_a3c(run, PROBLEM)
    torch.save([1, 2], run / MODEL_FILE)
    with pytest.raises(ValueError, match=r"model\.pt is damaged"):
        load_a3c(run, PROBLEM)


def test_a_model_runs_no_code(run):
    torch.save({"trunk.0.weight": Evil()}, run / MODEL_FILE)
    with pytest.raises(ValueError, match=r"model\.pt is damaged"):
        load_a3c(run, PROBLEM)
    assert not (run / "evil").exists()


class Evil:
    def __reduce__(self):
        return (open, ("evil", "w"))


@pytest.mark.parametrize(
    ("name", "value"), [("hidden", 9), ("sharing", "soft"), ("heads", "tied"), ("network", "flat")]
)
def test_models_of_another_shape(run, name, value):
    config = json.loads((run / "config.json").read_text())
    config["settings"][name] = value
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is a model of another environment: .* has shape"):
        load_a3c(run, PROBLEM)


def test_another_environment(run):
    with pytest.raises(ValueError, match=f"another environment: {ENV}, not mec/Other-v0"):
        load_a3c(run, PROBLEM, "mec/Other-v0")
    with pytest.raises(ValueError, match=r"another environment: .* has shape"):
        load_a3c(run, PlacesProblem(devices=4, places=4))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"env": "x", "settings": 3}'])
def test_damaged_configurations(run, content):
    (run / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load_a3c(run, PROBLEM)


def test_settings_of_another_version(run):
    config = json.loads((run / "config.json").read_text())
    config["settings"]["telepathy"] = True
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"not written by this version.*telepathy"):
        load_a3c(run, PROBLEM)
