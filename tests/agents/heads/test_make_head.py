"""Heads by name: those of the tables of every problem, and the flat one."""

import dataclasses
import itertools

import numpy as np
import pytest
from gymnasium import spaces
from tiny_problem import TinyProblem

from agents.heads import FlatHead, heads_of, make_head
from mec_gym.core import arrays
from mec_gym.core.rollout import sample_episodes
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import Scenario as Inference
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario as EarlyExit
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario as Federated
from mec_gym.gossip_training.problem import GossipTraining
from mec_gym.gossip_training.scenario import Scenario as Gossip
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import Scenario as Pipeline
from mec_gym.registration import room_of, rooms
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario

PROBLEMS = {
    "paper": TrainingOffload(Scenario()),
    "exits": EarlyExitPartition(EarlyExit(horizon=10)),
    "places": DistributedInference(Inference(devices=3, servers=2, blocks=4, tasks=1)),
    "plans": PipelineTraining(Pipeline(blocks=3, devices=2, horizon=4, microbatches=2)),
    "clients": FederatedTraining(Federated(clients=5, at_once=2, quorum=1, hidden=4)),
    "devices": GossipTraining(Gossip(devices=5, hidden=4)),
    "tiny": TinyProblem(),
}
FITS = {where: heads_of(room_of(problem)) for where, problem in PROBLEMS.items()}
NAMES = sorted({name for room in rooms() for name in heads_of(room)})


def test_which_heads_there_are():
    assert {room_of(problem) for problem in PROBLEMS.values()} == {*rooms(), None}
    assert set(FITS["paper"]) == {"flat", "price", "battery-value"}
    assert set(FITS["exits"]) == {"flat", "congestion"}
    assert set(FITS["places"]) >= {"flat", "pairs"}
    assert set(FITS["plans"]) == {"flat", "plans"}
    assert set(FITS["clients"]) == {"flat", "weights", "weights-unaided"}
    assert set(FITS["devices"]) == {"flat", "weights", "weights-unaided"}
    assert set(FITS["tiny"]) == {"flat"}


@pytest.mark.parametrize(("name", "where"), list(itertools.product(NAMES, PROBLEMS)))
def test_every_head_on_every_problem(name, where):
    """It keeps the promises of agents.heads.protocol.Head, or says that it does not fit."""
    problem = PROBLEMS[where]
    if name not in FITS[where]:
        with pytest.raises(ValueError, match=rf"head .*{type(problem).__name__}.*{name!r}"):
            make_head(name, problem)
        return
    head = make_head(name, problem)
    slot = arrays.slot_at(sample_episodes(problem, 5, 40), 0)
    observation = problem.observe(slot, problem.start(slot))
    head.output_space.seed(0)
    raw = np.stack([head.output_space.sample() for _ in range(40)])
    before = observation.copy()
    inputs, action = head.inputs(observation), head.act(observation, raw)
    usual = head.usual_reward(observation)
    assert np.array_equal(observation, before)
    assert all(head.input_space.contains(row) for row in inputs)
    assert all(problem.action_space.contains(row) for row in action)
    assert usual.shape == (40,) and np.isfinite(usual).all()
    # One by one.
    for k in (0, 7):
        assert np.array_equal(head.inputs(observation[k]), inputs[k])
        assert np.array_equal(head.act(observation[k], raw[k]), action[k])
        np.testing.assert_allclose(head.usual_reward(observation[k]), usual[k], rtol=1e-12)
    # The state, which the agent's own decisions have changed, is not in the usual reward.
    start = problem.start(slot)
    changed = arrays.map_arrays(lambda a: (0.5 * a).astype(a.dtype), start)
    if where == "exits":
        changed = dataclasses.replace(changed, free=start.free + 0.3)
    other = problem.observe(slot, changed)
    assert not np.array_equal(other, observation)
    np.testing.assert_allclose(head.usual_reward(other), usual, rtol=1e-12)
    # There and back.
    again = make_head(name, problem, head.parameters())
    assert again.parameters() == head.parameters()
    assert all(type(value) is float for value in head.parameters().values())
    assert np.array_equal(again.act(observation, raw), action)
    assert np.array_equal(again.usual_reward(observation), usual)


def test_bad_names_are_named():
    with pytest.raises(ValueError, match=r"head .*flat, price.*'deep'"):
        make_head("deep", PROBLEMS["paper"])
    with pytest.raises(ValueError, match=r"head .*TinyProblem.*'price'.*training_offload"):
        make_head("price", TinyProblem())


def test_flat():
    assert type(make_head("flat", PROBLEMS["paper"])) is FlatHead
    # Whole numbers are taken as they are; a Box without an end cannot be scaled to.
    assert make_head("flat", TinyProblem()).output_space == TinyProblem().action_space
    problem = TinyProblem()
    problem.action_space = spaces.Box(np.float32([0, -np.inf]), np.float32([1, 1]))
    with pytest.raises(ValueError, match=r"action space.*Box"):
        make_head("flat", problem)
