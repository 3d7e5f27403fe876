"""Agents by name, and PPO runs from their folder."""

import dataclasses
import functools
import io
import json
import shutil
import zipfile

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tiny_problem import TinyDiscrete, TinyProblem

import mec_gym
from agents.distributed_inference.clairvoyant import ClairvoyantAgent
from agents.distributed_inference.rules import FixedPlaceSolver, SplitSolver
from agents.early_exit.backlog_price import BacklogPriceSolver
from agents.early_exit.rules import FixedCutSolver, NeurosurgeonSolver, SlotOptimumSolver
from agents.ppo.model import PPOAgent, load_ppo, make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from agents.protocol import Clairvoyant
from agents.registry import AGENTS, REFERENCES, agents_for, make_agent, references_for
from agents.training_offload.energy_price import EnergyPriceSolver
from agents.training_offload.exact import ExactSolver
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.distributed_inference.scenario import Scenario as Inference
from mec_gym.early_exit.scenario import Scenario as EarlyExit
from mec_gym.registration import ENVIRONMENTS
from mec_gym.testing import check_agent
from mec_gym.training_offload.scenario import Scenario

PAPER, DRIVE = "mec/TrainingOffloadPaper-v0", "mec/TrainingOffload-v0"
EXITS = "mec/EarlyExitPartition-v0"
PLACES = "mec/DistributedInference-v0"
# A drive of three tasks whose battery binds.
SHORT = Scenario(horizon=3, battery=70.0)
SETTINGS = PPOSettings(num_envs=4, n_steps=30, minibatches=2)
# One of every kind of problem, short; the paper's environment takes the same agents.
SCENARIOS = {
    "paper": (PAPER, Scenario()),
    "short": (DRIVE, SHORT),
    "exits": (EXITS, EarlyExit(horizon=6, arrival_rates=(30.0,))),
    "places": (PLACES, Inference(devices=3, servers=2, blocks=3, tasks=2)),
}
PROBLEMS = {name: mec_gym.make_problem(*given) for name, given in SCENARIOS.items()}
# Every name with every problem that it plays.
PLAYED = [(name, where) for where, problem in PROBLEMS.items() for name in agents_for(problem)]
OFFLOAD = agents_for(mec_gym.make_problem(DRIVE))
EARLY_EXIT = agents_for(mec_gym.make_problem(EXITS))
INFERENCE = agents_for(mec_gym.make_problem(PLACES))


def observations(problem, seed, n):
    slot = sample_episodes(problem, seed, n)
    return problem.observe(slot, problem.start(slot))[:, 0]


@pytest.mark.parametrize(("name", "where"), PLAYED)
def test_every_name_plays_one_or_many(name, where):
    problem = PROBLEMS[where]
    agent = make_agent(name, problem, seed=3)
    seen = observations(problem, 0, 5)
    space = problem.action_space
    for observation, batch in ((seen[0], ()), (seen, (5,)), (seen[:1], (1,))):
        action, memory = agent.predict(observation, deterministic=True)
        assert action.shape == (*batch, *space.shape) and action.dtype == space.dtype
        assert all(space.contains(row) for row in np.atleast_2d(action))
        # One that remembers takes its memory back; it has one row an instance.
        assert (memory is None) == (name != "dapdee")
        again, _ = agent.predict(observation, memory, np.zeros(batch, dtype=bool))
        assert again.shape == action.shape
    check_agent(agent, problem, episodes=16)


@pytest.mark.parametrize(("name", "where"), PLAYED)
def test_sb3s_evaluation_equals_rollout(name, where):
    env_id, scenario = SCENARIOS[where]
    problem = PROBLEMS[where]
    workers = DummyVecEnv([lambda: Monitor(gym.make(env_id, scenario=scenario))] * 6)
    workers.seed(40)
    # Agents that draw begin anew; both ask them for the same batches.
    rewards, lengths = evaluate_policy(
        make_agent(name, problem, 1), workers, n_eval_episodes=6, return_episode_rewards=True
    )
    result = rollout(problem, make_agent(name, problem, 1), sample_episodes(problem, 40, 6))
    assert lengths == [problem.horizon] * 6
    # Monitor rounds to six digits.
    np.testing.assert_allclose(sorted(rewards), sorted(result.returns), atol=1e-6)
    assert np.mean(rewards) == pytest.approx(result.returns.mean(), abs=1e-6)


def test_names_by_problem():
    assert OFFLOAD == (
        "price", "budget", "exact", "sparrow", "end-cloud", "end-edge", "device-only",
        "random-split", "random",
    )  # fmt: skip
    assert EARLY_EXIT == (
        "price", "exact", "dapdee", "dads", "neurosurgeon", "mincut", "weighted-search",
        "exact-light", "exact-heavy", "device-only", "edge-only", "random",
    )  # fmt: skip
    assert INFERENCE == (
        "deadline-descent", "coordinate-descent", "sequential-greedy", "viterbi", "greedy",
        "neurosurgeon", "device-only", "edge-only", "random",
    )  # fmt: skip
    assert agents_for(mec_gym.make_problem(PAPER)) == OFFLOAD
    assert agents_for(TinyProblem()) == ("random",)
    played = {DRIVE: OFFLOAD, PAPER: OFFLOAD, EXITS: EARLY_EXIT, PLACES: INFERENCE}
    assert set(played) == set(ENVIRONMENTS), "who plays the new one?"
    for name, entry in AGENTS.items():
        for env_id, names in played.items():
            assert entry.plays(mec_gym.make_problem(env_id)) == (name in names)
        assert entry.plays(TinyProblem()) == (name == "random")
        assert entry.about and "\n" not in entry.about
        # Nobody plays nothing, and no row is shadowed by one before it.
        kinds = list(entry.make)
        assert kinds
        for later, kind in enumerate(kinds):
            assert not any(issubclass(kind, before) for before in kinds[:later])
    assert {name for name, _ in PLAYED} == set(AGENTS)


def test_a_kind_of_problem_takes_its_subclasses():
    class Other(type(PROBLEMS["short"])):
        pass

    problem = Other(SHORT)
    assert agents_for(problem) == OFFLOAD
    check_agent(make_agent("exact", problem), problem, episodes=4)


# What a name that plays several problems is made of in each.
SHARED = {
    "price": {"short": EnergyPriceSolver, "exits": BacklogPriceSolver},
    "exact": {"short": ExactSolver, "exits": SlotOptimumSolver},
    "neurosurgeon": {"exits": NeurosurgeonSolver, "places": SplitSolver},
    "device-only": {"short": ExactSolver, "exits": FixedCutSolver, "places": FixedPlaceSolver},
    "edge-only": {"exits": FixedCutSolver, "places": FixedPlaceSolver},
}


def test_names_that_play_several_problems():
    lists = {"short": OFFLOAD, "exits": EARLY_EXIT, "places": INFERENCE}
    for name in set(AGENTS) - {"random"}:
        played = {where for where, names in lists.items() if name in names}
        assert played == set(SHARED[name]) if name in SHARED else len(played) == 1
    for name, kinds in SHARED.items():
        for where, kind in kinds.items():
            assert type(make_agent(name, PROBLEMS[where]).solver) is kind


def test_the_two_rules_of_fixed_places_are_told_apart():
    problem = PROBLEMS["places"]
    seen = observations(problem, 0, 20)
    assert (make_agent("device-only", problem).predict(seen)[0] == 0).all()
    assert (make_agent("edge-only", problem).predict(seen)[0] > 0).all()
    # And the two planners: what one of them minimises.
    solvers = [make_agent(f"{name}-descent", problem).solver for name in ("deadline", "coordinate")]
    assert [solver.deadlines for solver in solvers] == [True, False]


def test_references_must_foresee():
    assert tuple(REFERENCES) == ("clairvoyant",) and not set(REFERENCES) & set(AGENTS)
    for where, problem in PROBLEMS.items():
        assert references_for(problem) == (("clairvoyant",) if where == "places" else ())
        for name in agents_for(problem):
            assert not isinstance(make_agent(name, problem), Clairvoyant)
    problem = PROBLEMS["places"]
    agent = make_agent("clairvoyant", problem)
    assert type(agent) is ClairvoyantAgent and isinstance(agent, Clairvoyant)
    trace = sample_episodes(problem, 0, 20)
    with pytest.raises(ValueError, match="must foresee the episodes that it plays, and has not"):
        rollout(problem, agent, trace)
    agent.foresee(trace)
    returns = rollout(problem, agent, trace).returns
    assert (returns <= problem.bound(trace) + 1e-9).all()
    for name in INFERENCE:
        played = rollout(problem, make_agent(name, problem), trace)
        assert returns.mean() > played.returns.mean()
    with pytest.raises(ValueError, match="agent 'clairvoyant' plays DistributedInference, got"):
        make_agent("clairvoyant", PROBLEMS["exits"])


def test_unknown_names_and_agents_that_do_not_fit():
    problem = mec_gym.make_problem(PAPER)
    known = ", ".join([*AGENTS, "clairvoyant", "ppo:PATH"])
    with pytest.raises(ValueError, match=f"agent must be one of {known}"):
        make_agent("oracle", problem)
    # Each says whom it plays.
    for name, played in (
        ("budget", "TrainingOffload"),
        ("dads", "EarlyExitPartition"),
        ("exact", "TrainingOffload or EarlyExitPartition"),
    ):
        with pytest.raises(ValueError, match=f"agent '{name}' plays {played}, got .*TinyProblem"):
            make_agent(name, TinyProblem())
    kinds = {
        "short": ("TrainingOffload", OFFLOAD),
        "exits": ("EarlyExitPartition", EARLY_EXIT),
        "places": ("DistributedInference", INFERENCE),
    }
    for where, (own, _) in kinds.items():
        strangers = set(AGENTS) - set(agents_for(PROBLEMS[where]))
        assert strangers
        for name in strangers:
            plays = " or ".join(kind for kind, names in kinds.values() if name in names)
            message = f"agent '{name}' plays {plays}, got .*{own}'"
            with pytest.raises(ValueError, match=message):
                make_agent(name, PROBLEMS[where])


def test_random_plays_any_problem():
    problem = TinyProblem()
    agent = make_agent("random", problem)
    trace = sample_episodes(problem, 0, 400)
    decisions = rollout(problem, agent, trace).decisions
    assert np.bincount(decisions.units.ravel(), minlength=3) == pytest.approx(2000 / 3, rel=0.15)
    assert np.bincount(decisions.machine.ravel()) == pytest.approx(1000, rel=0.15)
    assert agent.predict(observations(problem, 0, 1)[0])[0].shape == (2,)


def test_random_plays_spaces_that_do_not_begin_at_zero():
    check_agent(make_agent("random", TinyDiscrete()), TinyDiscrete())


def test_the_seed_is_the_agents_own():
    drawing = {"random", "random-split", "sparrow"}
    for name, where in PLAYED:
        problem = PROBLEMS[where]
        seen = observations(problem, 0, 5)
        first = make_agent(name, problem, 1).predict(seen)[0]
        assert np.array_equal(first, make_agent(name, problem, 1).predict(seen)[0])
        other = make_agent(name, problem, 2).predict(seen)[0]
        assert np.array_equal(first, other) == (name not in drawing)


@functools.cache
def trained():
    problem = mec_gym.make_problem(PAPER)
    env = make_vec_env(problem, SETTINGS)
    model = make_ppo(env, SETTINGS, seed=0)
    model.learn(SETTINGS.rollout)
    return PPOAgent(model, env.head)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A finished run, as train/run.py leaves it."""
    folder = tmp_path_factory.mktemp("run")
    buffer = io.BytesIO()
    trained().model.save(buffer)
    (folder / "model.zip").write_bytes(buffer.getvalue())
    config = {"env": PAPER, "scenario": None, "settings": dataclasses.asdict(SETTINGS)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def run(saved, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(saved, tmp_path / "run")


def test_a_saved_run_plays_as_it_did(saved):
    problem = mec_gym.make_problem(PAPER)
    seen = observations(problem, 0, 50)
    expected = trained().predict(seen, deterministic=True)[0]
    for path in (saved, str(saved), saved / "model.zip"):
        loaded = load_ppo(path, problem)
        assert np.array_equal(loaded.predict(seen, deterministic=True)[0], expected)
    named = make_agent(f"ppo:{saved}", problem)
    assert np.array_equal(named.predict(seen[3], deterministic=True)[0], expected[3])
    assert expected.shape == (50, 11) and expected.dtype == np.float32
    # Another scenario of the same shapes is fine.
    load_ppo(saved, mec_gym.make_problem(PAPER, "paper-split"))
    check_agent(named, problem)


def test_sb3_evaluates_a_trained_agent_as_rollout_does(saved):
    problem = mec_gym.make_problem(PAPER)
    agent = load_ppo(saved, problem)
    workers = DummyVecEnv([lambda: Monitor(gym.make(PAPER))] * 6)
    workers.seed(7)
    rewards, _ = evaluate_policy(agent, workers, n_eval_episodes=6, return_episode_rewards=True)
    result = rollout(problem, agent, sample_episodes(problem, 7, 6))
    np.testing.assert_allclose(rewards, result.returns, atol=1e-6)


def test_missing_runs(run, tmp_path):
    problem = mec_gym.make_problem(PAPER)
    with pytest.raises(ValueError, match=r"nowhere holds no finished PPO run: config.json"):
        make_agent(f"ppo:{tmp_path / 'nowhere'}", problem)
    (run / "model.zip").unlink()
    with pytest.raises(ValueError, match=r"run holds no finished PPO run: model.zip is missing"):
        load_ppo(run, problem)


def test_damaged_models(run):
    problem = mec_gym.make_problem(PAPER)
    content = (run / "model.zip").read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    for damaged in (b"", b"hello", content[:100], bytes(flipped)):
        (run / "model.zip").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.zip is damaged"):
            load_ppo(run, problem)


def test_truncated_models(run):
    problem = mec_gym.make_problem(PAPER)
    content = (run / "model.zip").read_bytes()
    with zipfile.ZipFile(run / "other.zip", "w") as archive:
        archive.writestr("readme", "no model")
    cuts = [content[: int(len(content) * share)] for share in (0.3, 0.5, 0.7, 0.9, 0.99)]
    for damaged in [*cuts, (run / "other.zip").read_bytes()]:
        (run / "model.zip").write_bytes(damaged)
        try:
            load_ppo(run, problem)
        except ValueError as error:
            assert "model.zip is damaged" in str(error)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"settings": {}}', '{"settings": 3}', "5"])
def test_damaged_configurations(run, content):
    (run / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load_ppo(run, mec_gym.make_problem(PAPER))


def test_configurations_that_are_no_text(run):
    (run / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"config\.json"):
        load_ppo(run, mec_gym.make_problem(PAPER))


def test_models_of_another_environment(run, saved):
    two = (10e6, 9e6)
    smaller = Scenario(server_uplink=two, server_downlink=two, server_compute=two)
    with pytest.raises(ValueError, match=r"another environment: its observations have shape \(24,"):
        load_ppo(run, mec_gym.make_problem(PAPER, smaller))
    # Trained with a flat head on 24 inputs; the price head would show 26.
    config = json.loads((run / "config.json").read_text())
    config["settings"]["head"] = "price"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="another environment"):
        load_ppo(run, mec_gym.make_problem(PAPER))
    config["settings"]["head"] = "deep"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="head must be one of"):
        load_ppo(run, mec_gym.make_problem(PAPER))
    # Same shapes, another environment: only the configuration tells.
    load_ppo(saved, mec_gym.make_problem(PAPER), env_id=PAPER)
    with pytest.raises(ValueError, match=f"another environment: {PAPER}, not {DRIVE}"):
        load_ppo(saved, mec_gym.make_problem(DRIVE), env_id=DRIVE)
    with pytest.raises(ValueError, match=f"another environment: {PAPER}, not {DRIVE}"):
        make_agent(f"ppo:{saved}", mec_gym.make_problem(DRIVE), env_id=DRIVE)


def test_a_flat_head_plays_whole_numbers():
    """SB3's policy draws them itself: the raw output is the action."""
    env = make_vec_env(TinyProblem(), SETTINGS)
    assert env.action_space == TinyProblem().action_space
    model = make_ppo(env, SETTINGS, seed=0)
    model.learn(SETTINGS.rollout)
    check_agent(PPOAgent(model, env.head), TinyProblem(), episodes=8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "deep"}, "head"),
        ({"num_envs": 0}, "num_envs"),
        ({"n_steps": 1.5}, "n_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"gamma": 1.1}, "gamma"),
        ({"gae_lambda": -0.1}, "gae_lambda"),
        ({"ent_coef": -1.0}, "ent_coef"),
        ({"log_std_init": float("nan")}, "log_std_init"),
        ({"num_envs": 5, "n_steps": 3, "minibatches": 2}, r"minibatches must divide.* = 15"),
        ({"num_envs": 2, "n_steps": 3, "minibatches": 6}, "at least 2, got 6"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        PPOSettings(**changes)


def test_settings_reach_the_model():
    settings = PPOSettings(
        num_envs=3, n_steps=8, minibatches=4, n_epochs=2, learning_rate=0.02, gamma=0.9,
        gae_lambda=0.8, clip_range=0.3, ent_coef=0.01, max_grad_norm=0.7, log_std_init=-2.0,
        hidden=5, reward_scale=3.0, fused=False,
    )  # fmt: skip
    env = make_vec_env(mec_gym.make_problem(PAPER), settings)
    model = make_ppo(env, settings, seed=1)
    assert (env.num_envs, env.reward_scale) == (3, 3.0)
    assert (model.n_steps, model.batch_size, model.n_epochs) == (8, 6, 2)
    assert (model.gamma, model.gae_lambda, model.ent_coef) == (0.9, 0.8, 0.01)
    assert (model.max_grad_norm, model.clip_range(0.5), model.seed) == (0.7, 0.3, 1)
    assert [model.lr_schedule(left) for left in (1.0, 0.25)] == [0.02, 0.005]
    assert model.policy.log_std.tolist() == [-2.0] * 11
    assert model.policy.mlp_extractor.policy_net[2].out_features == 5
