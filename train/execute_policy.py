"""The agents of early exit decide how the frames of an execution are executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from agents.registry import check_name, make_agent, trained_on
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout
from mec_gym.dnn import zoo
from mec_gym.dnn.graph import LayerGraph
from mec_gym.execution.device import Partition
from mec_gym.execution.prediction import Cost
from mec_gym.execution.run import Execution
from mec_gym.execution.simulation import (
    LONGEST_DEADLINE_S,
    choice_of,
    scenario_of,
    trace_of,
    with_accuracies,
)
from mec_gym.execution.timing import Times
from mec_gym.registration import make_problem
from train.execute_config import ExecuteRun

ENV_ID = "mec/EarlyExitPartition-v2"


@dataclass(frozen=True, eq=False, kw_only=True)
class Decided:
    """What a policy has decided for T frames.

    Attributes:
        partitions: How each frame is executed that was started.
        costs: What each of these partitions costs.
        arrivals: When each of these frames arrives, s after the begin.
        dropped: The numbers of the frames that were not started.
        simulated_s: Mean latency of the others in the simulator, s.
        reward: Mean reward of all frames in the simulator.
    """

    partitions: tuple[Partition, ...]
    costs: tuple[Cost, ...]
    arrivals: tuple[float, ...]
    dropped: tuple[int, ...]
    simulated_s: float
    reward: float


def check_policy(run: ExecuteRun) -> None:
    """Check what can be known of a policy before anything is measured, if there is one.

    Raises:
        ValueError: Its name means nothing, an agent of other problems, or a run of another
            environment; or the timeout is too short.
    """
    if run.policy is None:
        return
    check_name(run.policy, make_problem(ENV_ID))
    origin = trained_on(run.policy)
    if origin is not None and origin[0] != ENV_ID:
        raise ValueError(
            f"policy must be trained on {ENV_ID}, got {run.policy}, trained on {origin[0]}"
        )
    if run.longest_ms < 1e3 * LONGEST_DEADLINE_S:
        raise ValueError(
            f"timeout must be at least the longest deadline, {1e3 * LONGEST_DEADLINE_S:g} ms, "
            f"got {run.longest_ms:g}"
        )


def offered(run: ExecuteRun, graph: LayerGraph) -> LayerGraph:
    """Return the network with the exits that a policy may choose among, and their accuracies.

    Raises:
        ValueError: There is no such exit, or of several exits the accuracy is not known.
    """
    known: Sequence[float | None] = [one.accuracy for one in graph.exits]
    if run.network in zoo.profile_names():
        known = [one.accuracy for one in zoo.load_profile(run.network).exits]
    if run.exit is not None:
        return with_accuracies(graph.at_exit(run.exit), [known[run.exit]])
    try:
        return with_accuracies(graph, known)
    except ValueError as error:
        raise ValueError(f"policy needs accuracies, or one exit alone (--exit): {error}") from error


def decide(run: ExecuteRun, execution: Execution, graph: LayerGraph, times: Times) -> Decided:
    """Let the policy decide for all frames in the simulator, and prepare what it has chosen.

    Args:
        run: The options.
        execution: Both sides.
        graph: What :func:`offered` returned.
        times: The times of both sides.

    Raises:
        ValueError: The policy does not fit the network, or starts no frame.
    """
    assert run.policy is not None
    conditions, curve = execution.conditions, execution.curve
    scenario = scenario_of(
        graph,
        times,
        conditions,
        curve,
        run.frames,
        timeout_s=1e-3 * run.longest_ms,
        making_s=execution.making_s(1),
        beside_s=execution.beside_s,
    )
    problem = make_problem(ENV_ID, scenario)
    agent = make_agent(run.policy, problem, run.seed, ENV_ID)
    trace = trace_of(scenario, conditions, curve, run.seed)
    played = rollout(problem, agent, trace)
    outcomes, decisions = arrays.at(played.outcomes, 0), arrays.at(played.decisions, 0)
    started = np.flatnonzero(~outcomes.dropped)
    if not started.size:
        raise ValueError(
            f"policy must start a frame, but {run.policy} starts none of {run.frames}: they would "
            f"take longer than timeout, {run.longest_ms:g} ms"
        )
    chosen = list(zip(decisions.exit[started], decisions.partition[started], strict=True))
    found: dict[tuple[int, int], tuple[Partition, Cost]] = {}
    for exit_, candidate in tqdm(sorted(set(chosen)), desc="partitions", leave=False):
        # A single exit is the one that is asked for, whose index in the whole network differs.
        partition = execution.prepare(
            choice_of(scenario, exit_, candidate), int(exit_) if run.exit is None else run.exit
        )
        found[exit_, candidate] = partition, execution.cost(partition, times.device, times.edge)
    partitions, costs = zip(*(found[one] for one in chosen), strict=True)
    latency = outcomes.latency_s[started].sum() + outcomes.delay_caused_s[started].sum()
    return Decided(
        partitions=partitions,
        costs=costs,
        arrivals=tuple(trace.arrival[0, started].tolist()),
        dropped=tuple(np.flatnonzero(outcomes.dropped).tolist()),
        simulated_s=float(latency / started.size),
        reward=float(played.rewards.mean()),
    )
