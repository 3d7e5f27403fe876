"""A run's folder as an agent: it plays as it did, and what does not fit is refused."""

import base64
import dataclasses
import io
import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from harm import Harm
from places_problem import PlacesProblem
from stable_baselines3 import PPO
from tiny_problem import TinyProblem

from agents.a3c.agent import load_a3c
from agents.a3c.settings import A3CSettings
from agents.a3c.worker import first_network
from agents.heads import FlatHead
from agents.networks.agent import network_agent, save_network
from agents.ppo.model import agent_of, load_ppo, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from agents.registry import make_agent
from agents.runs import head_config
from mec_gym.core.rollout import sample_episodes
from mec_gym.testing import check_agent

PLACES = PlacesProblem(devices=3, places=4)
ENV = "mec/Places-v0"
SMALL = {"num_envs": 4, "n_steps": 4, "hidden": 8}


class PPOKind:
    """SB3's own network."""

    name, file = "ppo", "model.zip"
    settings = PPOSettings(**SMALL, minibatches=2)

    def load(self, *arguments):
        return load_ppo(*arguments)

    def make(self, folder, seed=0):
        """An agent, and its model in a folder; it plays at random, but always in the same way."""
        env = make_vec_env(PLACES, self.settings)
        model = make_ppo(env, self.settings, seed)
        with torch.no_grad():
            for parameter in model.policy.parameters():
                parameter += 0.3 * torch.randn(parameter.shape)
        buffer = io.BytesIO()
        model.save(buffer)
        (folder / self.file).write_bytes(buffer.getvalue())
        return agent_of(model, env.head)


class PPONetworkKind(PPOKind):
    """One of our networks, learnt by PPO."""

    settings = PPOSettings(**SMALL, minibatches=2, network="branches")


class A3CKind:
    """One of our networks, learnt by multi-task A3C."""

    name, file = "mtl-a3c", "model.pt"
    settings = A3CSettings(**SMALL, network="branches", multi_task=True)

    def load(self, *arguments):
        return load_a3c(*arguments)

    def make(self, folder, seed=0):
        head = FlatHead(PLACES)
        network = first_network(PLACES, head, self.settings, seed)
        save_network(folder / self.file, network)
        return network_agent(network, head)


KINDS = {"ppo": PPOKind(), "ppo-network": PPONetworkKind(), "a3c": A3CKind()}


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """A kind, the folder of a finished run, and the agent that it holds."""
    kind, folder = KINDS[request.param], tmp_path_factory.mktemp("run")
    agent = kind.make(folder)
    config = {"env": ENV, "scenario": None, "settings": dataclasses.asdict(kind.settings)}
    (folder / "config.json").write_text(json.dumps(config | head_config(agent.head)))
    return kind, folder, agent


@pytest.fixture
def run(saved, tmp_path):
    """A kind, and a copy of its folder to be damaged."""
    kind, folder, _ = saved
    return kind, shutil.copytree(folder, tmp_path / "run")


def change(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    config["settings"] |= settings
    (folder / "config.json").write_text(json.dumps(config))


def actions(agent, n=50):
    slot = sample_episodes(PLACES, 0, n)
    observation = PLACES.observe(slot, PLACES.start(slot))[:, 0]
    return agent.predict(observation, deterministic=True)[0]


def test_a_saved_run_plays_as_it_did(saved, tmp_path):
    kind, folder, agent = saved
    expected = actions(agent)
    assert expected.shape == (50, 3) and len(np.unique(expected)) > 1
    for path in (folder, str(folder), folder / kind.file):
        np.testing.assert_array_equal(actions(kind.load(path, PLACES, ENV)), expected)
    named = make_agent(f"{kind.name}:{folder}", PLACES, env_id=ENV)
    np.testing.assert_array_equal(actions(named), expected)
    check_agent(named, PLACES, episodes=8)
    assert not np.array_equal(actions(kind.make(tmp_path, seed=1)), expected)


def test_missing_runs(run, tmp_path):
    kind, folder = run
    with pytest.raises(ValueError, match=r"nowhere .*config\.json"):
        make_agent(f"{kind.name}:{tmp_path / 'nowhere'}", PLACES)
    # Another learner's run is none of this one's.
    other, file = ("a3c", r"model\.pt") if kind.name == "ppo" else ("ppo", r"model\.zip")
    with pytest.raises(ValueError, match=f"{folder} .*{file}"):
        make_agent(f"{other}:{folder}", PLACES)
    (folder / kind.file).unlink()
    with pytest.raises(ValueError, match=f"{folder} .*{kind.file}"):
        make_agent(f"{kind.name}:{folder}", PLACES)


def test_damaged_models(saved, run):
    kind, folder = run
    path = folder / kind.file
    content = path.read_bytes()
    flipped = bytearray(content)
    weights = max(saved[2].network.parameters(), key=torch.numel)
    flipped[content.index(weights.detach().numpy().tobytes())] ^= 0xFF
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme", "no model")
    cuts = [content[: int(len(content) * share)] for share in (0.0, 0.3, 0.5, 0.7, 0.9, 0.99)]
    for damaged in (b"hello", content[:100], bytes(flipped), other.getvalue(), *cuts):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{kind.file} is damaged"):
            kind.load(folder, PLACES)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"{}", b"5", b"\xff\xfe\x00", b'{"env": "x", "scenario": null}',
     b'{"env": "x", "scenario": null, "settings": 3}',
     b"[" * 10**5, b'{"env": "' + b"x" * 2**20 + b'"}'],
)  # fmt: skip
def test_damaged_configurations(run, content):
    kind, folder = run
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        kind.load(folder, PLACES)


def test_models_of_another_environment(run):
    kind, folder = run
    with pytest.raises(ValueError, match=f"{folder} .*{ENV}, not mec/Other-v0"):
        kind.load(folder, PLACES, "mec/Other-v0")
    with pytest.raises(ValueError, match=f"{folder}.* another environment.* inputs are"):
        kind.load(folder, PlacesProblem(devices=4, places=4))
    # As many observations, but other actions.
    with pytest.raises(ValueError, match=f"{folder}.* another environment"):
        kind.load(folder, PlacesProblem(devices=5, places=2))
    with pytest.raises(ValueError, match=r"another environment|MultiDiscrete"):
        kind.load(folder, TinyProblem())
    change(folder, head="deep")
    with pytest.raises(ValueError, match=r"head .*flat.*'deep'"):
        kind.load(folder, PLACES)


@pytest.mark.parametrize(
    ("name", "value"), [("hidden", 9), ("sharing", "soft"), ("output", "tied"), ("network", "flat")]
)
@pytest.mark.parametrize("saved", ["ppo-network", "a3c"], indirect=True)
def test_networks_of_another_shape(run, name, value):
    kind, folder = run
    change(folder, **{name: value})
    with pytest.raises(ValueError, match=r"another environment: .* has shape"):
        kind.load(folder, PLACES)


@pytest.mark.parametrize("saved", ["ppo-network", "a3c"], indirect=True)
def test_settings_of_another_version(run):
    kind, folder = run
    change(folder, telepathy=True)
    with pytest.raises(ValueError, match=f"{folder} .*telepathy"):
        kind.load(folder, PLACES)


@pytest.mark.parametrize("saved", ["a3c"], indirect=True)
def test_the_two_kinds_of_a3c_are_not_mixed_up(saved):
    _, folder, _ = saved
    with pytest.raises(ValueError, match=rf"{folder} is no a3c run; call it mtl-a3c:{folder}"):
        make_agent(f"a3c:{folder}", PLACES)


def test_a_model_runs_no_code(run, tmp_path):
    """Neither as a whole nor in any of the parts that an archive of SB3 has."""
    kind, folder = run
    path, harm = folder / kind.file, Harm(tmp_path / "harm")
    whole, parts = path.read_bytes(), {}
    if kind.name == "ppo":
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
    tensors = io.BytesIO()
    torch.save({"trunk.0.weight": harm}, tensors)
    for trap in (pickle.dumps(harm), tensors.getvalue()):
        path.write_bytes(trap)
        with pytest.raises(ValueError, match=rf"{kind.file} is damaged"):
            kind.load(folder, PLACES)
        for name in parts:
            with zipfile.ZipFile(path, "w") as archive:
                for other, content in parts.items():
                    archive.writestr(other, trap if other == name else content)
            if name == "policy.pth":
                with pytest.raises(ValueError, match=rf"{kind.file} is damaged"):
                    kind.load(folder, PLACES)
            else:
                kind.load(folder, PLACES)
    path.write_bytes(whole)
    kind.load(folder, PLACES)
    harm.check_that_it_works()


@pytest.mark.parametrize("saved", ["ppo", "ppo-network"], indirect=True)
def test_the_pickles_within_sb3s_file_are_not_read(saved, run, tmp_path):
    kind, folder = run
    harm = Harm(tmp_path / "harm")
    trap = base64.b64encode(pickle.dumps(harm)).decode()
    path, parts = folder / kind.file, {}
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"])
    planted = [one for one in data.values() if isinstance(one, dict) and ":serialized:" in one]
    assert len(planted) > 3
    for one in planted:
        one[":serialized:"] = trap
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {"data": json.dumps(data).encode()}).items():
            archive.writestr(name, content)
    np.testing.assert_array_equal(actions(kind.load(folder, PLACES)), actions(saved[2]))
    assert not harm.done
    # Whoever opens the file with SB3 itself does run them.
    with pytest.raises(Exception):  # noqa: B017 - whatever becomes of a file in place of a space
        PPO.load(path)
    assert harm.done


@pytest.mark.parametrize("problem", [PLACES, TinyProblem()], ids=["choices", "box"])
def test_a_policy_of_sb3_plays_as_sb3_itself_would_play_it(problem, tmp_path):
    settings = PPOKind.settings
    env = make_vec_env(problem, settings)
    model = make_ppo(env, settings, 0)
    model.learn(2 * settings.rollout)
    model.save(tmp_path / "model.zip")
    config = {"env": "x", "scenario": None, "settings": dataclasses.asdict(settings)}
    (tmp_path / "config.json").write_text(json.dumps(config | head_config(env.head)))
    before = torch.get_rng_state()
    agent, other = load_ppo(tmp_path, problem), PPO.load(tmp_path / "model.zip")
    inputs = env.reset()
    for deterministic in (True, False):
        answers = []
        for decide in (agent.decide, lambda *a: other.predict(a[0], deterministic=a[1])[0]):
            torch.set_rng_state(before)
            answers.append([decide(inputs, deterministic) for _ in range(5)])
        np.testing.assert_array_equal(*answers)
    torch.set_rng_state(before)
    load_ppo(tmp_path, problem)
    assert torch.equal(torch.get_rng_state(), before)


ODD = (10**400, "x", "", [], {}, None, [[1]], -1, 0, True, float("inf"), float("nan"), 10**30)


def test_whatever_stands_in_a_configuration_is_told_in_one_line(run):
    """No value is of use in a damaged one; not every value does harm."""
    kind, folder = run
    config = json.loads((folder / "config.json").read_text())
    changed = [config | {name: value} for name in config for value in ODD]
    changed += [{n: value for n, value in config.items() if n != name} for name in config]
    changed += [
        config | {"settings": config["settings"] | {name: value}}
        for name in config["settings"]
        for value in ODD
    ]
    changed += [config | {"head": {"price": value}} for value in ODD]
    refused = 0
    for one in changed:
        (folder / "config.json").write_text(json.dumps(one))
        try:
            kind.load(folder, PLACES)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1000, one
    assert refused > 0.6 * len(changed)


def test_outputs_of_the_same_number_but_of_another_kind(run):
    """Three choices among four places have as many logits as four among three."""
    kind, folder = run
    config = json.loads((folder / "config.json").read_text())
    assert config["outputs"] == "MultiDiscrete([4, 4, 4], start=[0, 0, 0])"
    config["outputs"] = "MultiDiscrete([3, 3, 3, 3], start=[0, 0, 0, 0])"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"another environment.*\[3, 3, 3, 3\].*\[4, 4, 4\]"):
        kind.load(folder, PLACES)
