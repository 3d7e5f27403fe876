"""The simulator's scenario of an execution, held against the prediction of its stages."""

import dataclasses

import numpy as np
import pytest

from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.early_exit import EarlyExitPartition
from mec_gym.early_exit.partitions import enumerate_partitions, partition_cost
from mec_gym.execution.prediction import Cost, predict
from mec_gym.execution.run import Conditions
from mec_gym.execution.simulation import choice_of, scenario_of, trace_of, with_accuracies
from mec_gym.execution.timing import (
    LAYERS_ONLY,
    AfterIdle,
    HalfTimes,
    LayerTimes,
    Times,
    with_seconds,
)
from mec_gym.network.tandem import RateCurve

CONDITIONS = Conditions(delay_s=0.004, device_factor=6.0, edge_factor=2.0, pipeline=True, fps=40.0)
CURVE = RateCurve.of([0.0, 0.1, 0.3, 0.35], [1e6, 3e6, 0.0, 2e6])
ACCURACIES = (0.7, 0.9)


@pytest.fixture(scope="module")
def graph(network):
    return with_accuracies(network.split.graph, ACCURACIES)


def timed(graph, seconds):
    layers = np.array([0.0] + [seconds] * (len(graph) - 1))
    return LayerTimes(graph=with_seconds(graph, layers), half_s=LAYERS_ONLY)


def scenario(graph, curve=CURVE, timeout_s=5.0):
    times = Times(device=timed(graph, 1e-3), edge=timed(graph, 0.5e-3), source="by hand")
    return scenario_of(graph, times, CONDITIONS, curve, 30, timeout_s)


def drawn_at_random(problem, seed):
    """An agent that draws."""
    rng = np.random.default_rng(seed)

    class Agent:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return rng.integers(problem.action_space.nvec, size=(len(observation), 2)), state

    return Agent()


@pytest.mark.parametrize("curve", [CURVE, RateCurve.of([0.0], [1.5e6])], ids=["trace", "rate"])
def test_frames_take_as_long_as_in_the_prediction(graph, curve):
    problem = EarlyExitPartition(scenario(graph, curve))
    trace = trace_of(problem.scenario, CONDITIONS, curve, seed=3)
    np.testing.assert_allclose(trace.arrival[0], CONDITIONS.gaps(30), atol=1e-12)
    played = rollout(problem, drawn_at_random(problem, 4), trace)
    outcomes, decisions = arrays.at(played.outcomes, 0), arrays.at(played.decisions, 0)
    assert not outcomes.dropped.any() and len(set(decisions.partition)) > 3
    costs = []
    for exit_, candidate in zip(decisions.exit, decisions.partition, strict=True):
        on_edge = choice_of(problem.scenario, exit_, candidate).on_edge
        part = graph.at_exit(int(exit_))
        sends = [
            u for u in range(len(part)) if not on_edge[u] and on_edge[part.successors[u],].any()
        ]
        bits = part.output_bits[sends].sum()
        costs.append(
            Cost(
                device_s=6e-3 * (~on_edge[1:]).sum(),
                bits=bits,
                edge_s=1e-3 * on_edge.sum(),
                beside_s=0.0,
                round_trip_s=0.008,
            )
        )
    stages, ends = predict(costs, CONDITIONS.gaps(30), curve, pipeline=True)
    total = sum(one["total"] for one in stages)
    assert outcomes.latency_s.sum() + outcomes.delay_caused_s.sum() == pytest.approx(
        total, rel=1e-6
    )
    assert total / 30 > 0.02 and ends[-1] > 0.75
    # Energy costs nothing.
    assert (outcomes.energy_j == 0).all() and (outcomes.energy_cost == 0).all()


def test_what_is_done_once_per_frame_is_charged(graph):
    """After 25 ms: 2 ms on either side and 1.5 times the layers; 1 ms to make a message."""
    half_s = HalfTimes.from_list([0.0] * 3 + [2e-3] * 3 + [1.5] * 3)
    bare = Times(device=timed(graph, 1e-3), edge=timed(graph, 0.5e-3), source="by hand")
    device, edge = (dataclasses.replace(one, half_s=half_s) for one in (bare.device, bare.edge))
    times = Times(device=device, edge=edge, source="by hand")
    one = scenario_of(
        graph, times, CONDITIONS, CURVE, 30, 5.0, AfterIdle((1e-3,) * 3), AfterIdle((0.5e-3,) * 3)
    )
    assert one.technologies[0].round_trip_s == pytest.approx(0.008 + 0.5e-3)
    for exit_ in (0, 1):
        part = graph.at_exit(exit_)
        for on_edge in enumerate_partitions(part):
            on_device = ~on_edge
            device_s, _, edge_s = partition_cost(
                part, on_edge[None], one.device.layer_seconds(part), one.edge.layer_seconds(part)
            )[0]
            runs = on_device[1:].any()
            assert device_s == pytest.approx(6 * (1.5e-3 * on_device[1:].sum() + 3e-3 * runs))
            assert edge_s == pytest.approx(2 * (0.75e-3 * on_edge.sum() + 2e-3 * on_edge.any()))


def test_the_policy_sees_the_rate_at_each_frame(graph):
    trace = trace_of(scenario(graph), CONDITIONS, CURVE, seed=3)
    rates = trace.bandwidth[0]
    assert rates[:4].tolist() == [1e6] * 4 and rates[4:12].tolist() == [3e6] * 8
    # A frame that comes within the outage, at 0.325 s, is told the mean until it has passed by
    # one step, which lasts 0.1 s as the median one of the trace.
    assert rates[13] == pytest.approx(2e6 * 0.1 / (0.45 - 0.325))
    assert rates[14:].tolist() == [2e6] * 16  # after the end, too
    again = trace_of(scenario(graph), CONDITIONS, CURVE, seed=3)
    assert (again.deadline == trace.deadline).all()
    assert (trace_of(scenario(graph), CONDITIONS, CURVE, seed=4).deadline != trace.deadline).any()


def test_candidates_are_named_by_their_exit(graph):
    one = scenario(graph)
    last = int(one.table.sizes[1]) - 1
    assert choice_of(one, 1, last).name == f"final/{last}"
    assert not choice_of(one, 1, last).on_edge.any()
    assert choice_of(one, 0, 0).on_edge.tolist() == [False, True, True, True]


def test_accuracies(network):
    graph = network.split.graph
    assert with_accuracies(graph, ACCURACIES).accuracies.tolist() == [0.7, 0.9]
    assert with_accuracies(graph.at_exit(0), [None]).accuracies.tolist() == [1.0]
    assert with_accuracies(graph.at_exit(0), [0.25]).accuracies.tolist() == [0.25]
    with pytest.raises(ValueError, match="exit 'final' has no measured accuracy"):
        with_accuracies(graph, [0.5, None])
