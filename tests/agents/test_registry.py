"""Agents by name: who plays what, and that they are agents."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tiny_problem import TinyDiscrete, TinyProblem

import mec_gym
from agents.distributed_inference.rules import FixedPlaceSolver, SplitSolver
from agents.early_exit.backlog_price import BacklogPriceSolver, tune_prices
from agents.early_exit.rules import FixedCutSolver, NeurosurgeonSolver, SlotOptimumSolver
from agents.federated_training.linear import linear_solver as scores_of_clients
from agents.gossip_training.linear import linear_solver as scores_of_pairs
from agents.heads import heads_of
from agents.protocol import Clairvoyant
from agents.registry import (
    agents_for,
    agents_of,
    make_agent,
    references_for,
    references_of,
    run_of,
    trained_on,
)
from agents.solver_agent import SolverAgent
from agents.training_offload.energy_price import EnergyPriceSolver, tune_energy_price
from agents.training_offload.exact import ExactSolver
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.distributed_inference import Scenario as Inference
from mec_gym.early_exit import Scenario as EarlyExit
from mec_gym.federated_training import Scenario as Federated
from mec_gym.gossip_training import Scenario as Gossip
from mec_gym.pipeline_training import Scenario as Pipeline
from mec_gym.registration import room_of, rooms
from mec_gym.testing import check_agent
from mec_gym.training_offload import Scenario
from mec_gym.training_offload.exact import Resources

PAPER, DRIVE = "mec/TrainingOffloadPaper-v0", "mec/TrainingOffload-v0"
EXITS = "mec/EarlyExitPartition-v2"
PLACES = "mec/DistributedInference-v1"
PLANS = "mec/PipelineTraining-v0"
CLIENTS = "mec/FederatedTraining-v0"
DEVICES = "mec/GossipTraining-v0"
# One of every kind of problem, short; the paper's environment takes the same agents.
SCENARIOS = {
    "paper": (PAPER, Scenario()),
    "short": (DRIVE, Scenario(horizon=3, battery=70.0)),  # the battery binds
    "exits": (EXITS, EarlyExit(horizon=6, arrival_rates=(30.0,))),
    "places": (PLACES, Inference(devices=3, servers=2, blocks=3, tasks=2)),
    "plans": (PLANS, Pipeline(blocks=3, devices=3, horizon=4, microbatches=2)),
    # With six steps even of waiting, nobody reaches the end of the budget.
    "clients": (
        CLIENTS,
        Federated(clients=6, at_once=3, quorum=1, hidden=4, local_steps=1, batch=4, decisions=6),
    ),
    "devices": (DEVICES, Gossip(devices=5, hidden=4, local_steps=1, batch=4, rounds=6)),
}
PROBLEMS = {name: mec_gym.make_problem(*given) for name, given in SCENARIOS.items()}
# Every name with every problem that it plays.
PLAYED = [(name, where) for where, problem in PROBLEMS.items() for name in agents_for(problem)]
# As published, better ones first by and large.
NAMES = {
    "training_offload": (
        "sdp", "price", "budget", "exact", "sparrow", "sparrow-textbook", "end-cloud", "end-edge",
        "device-only", "random-split", "random",
    ),
    "early_exit": (
        "price", "exact", "dapdee", "dads", "neurosurgeon", "mincut", "weighted-search",
        "exact-light", "exact-heavy", "device-only", "edge-only", "random",
    ),
    "distributed_inference": (
        "deadline-descent", "coordinate-descent", "sequential-greedy", "viterbi", "greedy",
        "neurosurgeon", "device-only", "edge-only", "random",
    ),
    "pipeline_training": (
        "patience", "hysteresis", "look-ahead-2", "look-ahead-6", "myopic", "replan", "balanced",
        "pipedream", "keep", "single-device", "random",
    ),
    "federated_training": (
        "linear", "scheduled", "oort", "fastest-share", "tifl", "backup", "adaptive-steps",
        "random-m", "random",
    ),
    "gossip_training": (
        "linear", "periodic", "all-reduce", "partners", "matching", "rotation", "neighbours",
        "one-sided", "unlike", "alike", "nobody", "random",
    ),
}  # fmt: skip
REFERENCES = {
    "distributed_inference": ("clairvoyant",),
    "pipeline_training": ("clairvoyant",),
    "federated_training": ("one-step-search",),
    "gossip_training": ("one-step-search",),
}
HEADS = {
    "training_offload": ["flat", "price", "battery-value"],
    "early_exit": ["flat", "congestion"],
    "distributed_inference": ["flat", "pairs", "pairs-2", "pairs-0"],
    "pipeline_training": ["flat", "plans"],
    "federated_training": ["flat", "weights", "weights-unaided"],
    "gossip_training": ["flat", "weights", "weights-unaided"],
}


def observations(problem, seed, n):
    slot = arrays.slot_at(sample_episodes(problem, seed, n), 0)
    return problem.observe(slot, problem.start(slot))


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
        # One that remembers takes its memory back; it has one row per instance.
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


def test_names_heads_and_references_of_every_problem():
    for room in rooms():
        assert tuple(agents_of(room)) == NAMES[room.name], "who plays the new one?"
        assert list(heads_of(room)) == HEADS[room.name]
        references = REFERENCES.get(room.name, ())
        assert tuple(references_of(room)) == references
        for env_id in room.environments:
            problem = mec_gym.make_problem(env_id)
            assert agents_for(problem) == NAMES[room.name]
            assert references_for(problem) == references
        entries = [*agents_of(room).values(), *references_of(room).values()]
        for about in (*(entry.about for entry in entries), *heads_of(room).values()):
            assert about and "\n" not in about
    # A problem that nobody has registered has what plays everything.
    assert room_of(TinyProblem()) is None
    assert agents_for(TinyProblem()) == ("random",) and references_for(TinyProblem()) == ()
    assert list(heads_of(None)) == ["flat"]


def test_a_kind_of_problem_takes_its_subclasses():
    class Other(type(PROBLEMS["short"])):
        pass

    problem = Other(PROBLEMS["short"].scenario)
    assert agents_for(problem) == NAMES["training_offload"]
    check_agent(make_agent("exact", problem), problem, episodes=4)


# What a name that plays several problems stands for in each.
SHARED = {
    ("price", "short"): lambda p: EnergyPriceSolver(p.scenario, tune_energy_price(p)),
    ("price", "exits"): lambda p: BacklogPriceSolver(p.scenario, tune_prices(p)),
    ("exact", "short"): lambda p: ExactSolver(p.scenario),
    ("exact", "exits"): lambda p: SlotOptimumSolver(p.scenario),
    ("neurosurgeon", "exits"): lambda p: NeurosurgeonSolver(p.scenario),
    ("neurosurgeon", "places"): lambda p: SplitSolver(p.scenario),
    ("device-only", "short"): lambda p: ExactSolver(p.scenario, Resources(edge=False, cloud=False)),
    ("device-only", "exits"): lambda p: FixedCutSolver(p.scenario, on_edge=False),
    ("device-only", "places"): lambda p: FixedPlaceSolver(on_edge=False),
    ("edge-only", "exits"): lambda p: FixedCutSolver(p.scenario, on_edge=True),
    ("edge-only", "places"): lambda p: FixedPlaceSolver(on_edge=True),
    ("linear", "clients"): lambda p: scores_of_clients(p.scenario),
    ("linear", "devices"): lambda p: scores_of_pairs(p.scenario),
}


def test_names_that_play_several_problems():
    for name in {name for names in NAMES.values() for name in names} - {"random"}:
        played = {where for where in PROBLEMS if where != "paper" and (name, where) in PLAYED}
        known = {where for shared, where in SHARED if shared == name}
        assert played == known or (len(played) == 1 and not known), name
    for (name, where), make in SHARED.items():
        problem = PROBLEMS[where]
        seen = observations(problem, 0, 60)
        actions = make_agent(name, problem).predict(seen)[0]
        meant = SolverAgent(problem, make(problem)).predict(seen)[0]
        np.testing.assert_array_equal(actions, meant, err_msg=f"{name} {where}")
        # And no other name is the same agent.
        for other in {shared for shared, place in SHARED if place == where} - {name}:
            assert not np.array_equal(make_agent(other, problem).predict(seen)[0], actions)


def test_references_must_foresee():
    for problem in PROBLEMS.values():
        for name in agents_for(problem):
            assert not isinstance(make_agent(name, problem), Clairvoyant)


@pytest.mark.parametrize("where", ["places", "plans"])
def test_references_are_better_than_whoever_does_not_foresee(where):
    problem = PROBLEMS[where]
    agent = make_agent("clairvoyant", problem)
    assert isinstance(agent, Clairvoyant)
    trace = sample_episodes(problem, 0, 20)
    with pytest.raises(ValueError, match="foresee"):
        rollout(problem, agent, trace)
    agent.foresee(trace)
    returns = rollout(problem, agent, trace).returns
    assert (returns <= problem.bound(trace) + 1e-9).all()
    for name in agents_for(problem):
        played = rollout(problem, make_agent(name, problem), trace)
        assert returns.mean() > played.returns.mean()


@pytest.mark.parametrize("where", ["short", "exits", "places", "plans", "clients"])
def test_unknown_names_and_agents_of_other_problems(where):
    problem = PROBLEMS[where]
    own = room_of(problem).name
    allowed = ", ".join([*NAMES[own], *references_for(problem), "ppo:PATH"])
    with pytest.raises(ValueError, match=rf"^agent .*{allowed}, .*'a4c:x'$"):
        make_agent("a4c:x", problem)
    strangers = {name for names in NAMES.values() for name in names} - set(NAMES[own])
    assert strangers
    for name in strangers:
        plays = ", ".join(room for room, names in NAMES.items() if name in names)
        with pytest.raises(ValueError, match=rf"'{name}' \('{name}' plays {plays}\)"):
            make_agent(name, problem)
        # Likewise for a problem that nobody has registered.
        with pytest.raises(ValueError, match=rf"random, ppo:PATH.*TinyProblem.*plays {plays}\)"):
            make_agent(name, TinyProblem())
    if not references_for(problem):
        plays = ", ".join(room for room, known in REFERENCES.items() if "clairvoyant" in known)
        assert plays.startswith("distributed_inference")
        with pytest.raises(ValueError, match=rf"'clairvoyant' plays {plays}\)"):
            make_agent("clairvoyant", problem)


def test_an_environments_id_stands_for_its_problem():
    agent = make_agent("random-split", PAPER, seed=4)
    problem = PROBLEMS["paper"]
    seen = observations(problem, 0, 3)
    same = make_agent("random-split", problem, seed=4).predict(seen)[0]
    np.testing.assert_array_equal(agent.predict(seen)[0], same)
    with pytest.raises(ValueError, match=r"env_id .*'mec/Nothing-v0'"):
        make_agent("random", "mec/Nothing-v0")


def test_what_a_run_was_trained_on(tmp_path):
    for name in ("exact", "ppo", "ppo:", "a4c:x"):
        assert run_of(name) is None and trained_on(name) is None
    assert run_of("a3c:x:y") == ("a3c", Path("x:y"))
    config = tmp_path / "config.json"
    config.write_text('{"env": "mec/Some-v0", "scenario": "here"}')
    for name in (f"ppo:{tmp_path}", f"mtl-a3c:{config}"):
        assert trained_on(name) == ("mec/Some-v0", "here")
    for text, what in (
        ("{", "JSON|Expecting"),
        ("[]", r"\[\]"),
        ('{"scenario": null}', "env is None"),
        ('{"env": "x", "scenario": 3}', "scenario is 3"),
    ):
        config.write_text(text)
        with pytest.raises(ValueError, match=rf"config\.json is damaged: .*({what})"):
            trained_on(f"ppo:{tmp_path}")
    config.unlink()
    with pytest.raises(ValueError, match=rf"{tmp_path} .*config\.json"):
        trained_on(f"ppo:{tmp_path}")


def test_random_plays_any_problem():
    problem = TinyProblem()
    agent = make_agent("random", problem)
    trace = sample_episodes(problem, 0, 400)
    decisions = rollout(problem, agent, trace).decisions
    assert np.bincount(decisions.units.ravel(), minlength=3) == pytest.approx(2000 / 3, rel=0.15)
    assert np.bincount(decisions.machine.ravel()) == pytest.approx(1000, rel=0.15)
    # Also if actions do not begin at 0.
    check_agent(make_agent("random", TinyDiscrete()), TinyDiscrete())


def test_the_seed_is_the_agents_own():
    drawing = {"random", "random-split", "sparrow", "sparrow-textbook"}
    drawing |= {"tifl", "backup", "adaptive-steps", "random-m", "matching"}
    for name, where in PLAYED:
        problem = PROBLEMS[where]
        seen = observations(problem, 0, 5)
        first = make_agent(name, problem, 1).predict(seen)[0]
        assert np.array_equal(first, make_agent(name, problem, 1).predict(seen)[0])
        other = make_agent(name, problem, 2).predict(seen)[0]
        assert np.array_equal(first, other) == (name not in drawing)
